//! For zsh, by `_arguments`: a file for `$fpath`, or to be sourced.

use super::{OptionSpec, Place, brief, first_words, groups, is_file, is_list};

pub(super) fn script(places: &[Place]) -> String {
    let mut cases = String::new();
    for (names, of_group) in groups(places) {
        cases.push_str(&format!("    {})\n", names.join("|")));
        cases.push_str("        if (( CURRENT == 3 )); then\n");
        let verbs = of_group.iter().map(|place| (place.words[1], place.about));
        cases.push_str(&describe(verbs, "            "));
        cases.push_str("            return\n        fi\n        case $words[3] in\n");
        for place in of_group {
            cases.push_str(&case(place, 2, "        "));
        }
        cases.push_str("        esac\n        ;;\n");
    }
    for place in places.iter().filter(|place| place.words.len() == 1) {
        cases.push_str(&case(place, 1, "    "));
    }
    for place in places.iter().filter(|place| place.words.is_empty()) {
        let verbs = describe(first_words().into_iter(), "            ");
        cases.push_str(&format!(
            "    *)\n        if (( CURRENT == 2 )) && [[ $words[2] != -* ]]; then\n{verbs}\
             \x20       fi\n        _arguments -s -S : \\\n{}            '*:container:_files'\n        ;;\n",
            arguments(place, "            ")
        ));
    }
    FRAME.replace("@CASES@\n", &cases)
}

/// Offers words with their help.
fn describe<'a>(words: impl Iterator<Item = (&'a str, &'a str)>, indent: &str) -> String {
    let words: Vec<_> =
        words.map(|(word, about)| format!("{indent}    '{word}:{}'\n", quoted(about))).collect();
    format!("{indent}verbs=(\n{}{indent})\n{indent}_describe verb verbs\n", words.concat())
}

/// A place after `depth` words.
fn case(place: &Place, depth: usize, indent: &str) -> String {
    let pattern: Vec<_> = place.spellings().collect();
    let rest = match place.words.as_slice() {
        ["run"] => "'*::command:_normal'",
        _ if place.arguments.is_empty() => "",
        _ => "'*:argument:_files'",
    };
    format!(
        "{indent}{})\n{indent}    shift {depth} words\n{indent}    (( CURRENT -= {depth} ))\n\
         {indent}    _arguments -s -S : \\\n{}{indent}        {rest}\n{indent}    ;;\n",
        pattern.join("|"),
        arguments(place, &format!("{indent}        ")),
    )
}

/// One specification a line for every option, each line to be continued.
fn arguments(place: &Place, indent: &str) -> String {
    place.options.iter().map(|option| format!("{indent}{} \\\n", specification(option))).collect()
}

fn specification(option: &OptionSpec) -> String {
    let help = quoted(brief(option.help)).replace('[', "\\[").replace(']', "\\]");
    let action = match option.value() {
        None => String::new(),
        Some(value) if is_file(option) => format!(":{value}:_files"),
        Some(value) => format!(":{}: ", quoted(value)),
    };
    let (long_end, short_end) = if option.value().is_some() { ("=", "+") } else { ("", "") };
    let (long, long_name) = (format!("{}{long_end}", option.long), option.long);
    match (option.short, is_list(option)) {
        (None, false) => format!("'{long}[{help}]{action}'"),
        (None, true) => format!("'*{long}[{help}]{action}'"),
        (Some(short), false) => {
            format!("'(-{short} {long_name})'{{-{short}{short_end},{long}}}'[{help}]{action}'")
        }
        (Some(short), true) => format!("'*'{{-{short}{short_end},{long}}}'[{help}]{action}'"),
    }
}

/// Text within single quotes and between colons.
fn quoted(text: &str) -> String {
    text.replace('\\', "\\\\").replace('\'', "'\\''").replace(':', "\\:")
}

const FRAME: &str = r#"#compdef rnsnet
# zsh completion for rnsnet: a file _rnsnet in $fpath, or source <(rnsnet completion zsh)
_rnsnet() {
    local -a verbs
    case $words[2] in
@CASES@
    esac
}
if [[ $funcstack[1] == _rnsnet ]]; then
    _rnsnet "$@"
else
    compdef _rnsnet rnsnet
fi
"#;
