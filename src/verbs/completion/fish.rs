//! For fish, by `complete`: a condition for each place and a line for each option.

use super::{OptionSpec, Place, brief, first_words, groups, is_file};

pub(super) fn script(places: &[Place]) -> String {
    let mut text = HEAD.to_owned();
    for (word, about) in first_words() {
        text.push_str(&format!(
            "complete -c rnsnet -n __rnsnet_first -a {word} -d {}\n",
            quoted(about)
        ));
    }
    for (names, of_group) in groups(places) {
        for place in of_group {
            text.push_str(&format!(
                "complete -c rnsnet -n '__rnsnet_group {}' -f -a {} -d {}\n",
                names.join(" "),
                place.words[1],
                quoted(place.about)
            ));
        }
    }
    for place in places {
        let condition = match place.words.as_slice() {
            [] => {
                let words: Vec<_> = first_words().into_iter().map(|(word, _)| word).collect();
                format!("not __rnsnet_in 2 {}", words.join(" "))
            }
            [_] => format!("__rnsnet_in 2 {}", spelt(place)),
            [group, ..] => format!("__rnsnet_in 2 {group}; and __rnsnet_in 3 {}", spelt(place)),
        };
        for option in &place.options {
            text.push_str(&line(&condition, option));
        }
    }
    text.push_str(RUN);
    text
}

fn spelt(place: &Place) -> String {
    place.spellings().collect::<Vec<_>>().join(" ")
}

fn line(condition: &str, option: &OptionSpec) -> String {
    let long = option.long.trim_start_matches('-');
    let short = option.short.map_or_else(String::new, |short| format!(" -s {short}"));
    let value = match option.value() {
        None => "",
        Some(_) if is_file(option) => " -r -F",
        Some(_) => " -x",
    };
    let help = quoted(brief(option.help));
    format!("complete -c rnsnet -n '{condition}' -l {long}{short}{value} -d {help}\n")
}

/// Text as one word.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\\', "\\\\").replace('\'', "\\'"))
}

const HEAD: &str = "\
# fish completion for rnsnet: rnsnet completion fish > ~/.config/fish/completions/rnsnet.fish
function __rnsnet_first
    test (count (commandline -opc)) = 1
end
function __rnsnet_in
    set -l words (commandline -opc)
    test (count $words) -ge $argv[1]; and contains -- $words[$argv[1]] $argv[2..-1]
end
function __rnsnet_group
    test (count (commandline -opc)) = 2; and __rnsnet_in 2 $argv
end
";

const RUN: &str =
    "complete -c rnsnet -n '__rnsnet_in 2 run' -f -a '(__fish_complete_subcommand --fcs-skip=2)'\n";
