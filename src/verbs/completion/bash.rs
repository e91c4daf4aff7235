//! For bash, by `complete -F`: one `case` over the words that lead to a place.

use super::{Place, first_words, groups, is_file, spellings};

pub(super) fn script(places: &[Place]) -> String {
    let mut cases = String::new();
    for (names, of_group) in groups(places) {
        let verbs: Vec<_> = of_group.iter().map(|place| place.words[1]).collect();
        let pattern = names.join(" | ");
        cases.push_str(&format!("    {pattern})\n        words='{}'\n", verbs.join(" ")));
        cases.push_str("        [ \"$COMP_CWORD\" -gt 2 ] || cur_is_verb=1\n");
        cases.push_str("        case \"${COMP_WORDS[2]}\" in\n");
        for place in of_group {
            let pattern: Vec<_> = place.spellings().collect();
            cases.push_str(&case(place, &pattern.join(" | "), "        "));
        }
        cases.push_str("        esac\n        ;;\n");
    }
    for place in places.iter().filter(|place| place.words.len() == 1) {
        let pattern: Vec<_> = place.spellings().collect();
        cases.push_str(&case(place, &pattern.join(" | "), "    "));
    }
    for place in places.iter().filter(|place| place.words.is_empty()) {
        cases.push_str(&case(place, "*", "    "));
    }
    let first: Vec<_> = first_words().into_iter().map(|(word, _)| word).collect();
    FRAME.replace("@FIRST@", &first.join(" ")).replace("@CASES@\n", &cases)
}

/// The options of a place, those with a value and those with a file as one.
fn case(place: &Place, pattern: &str, indent: &str) -> String {
    let words = |wanted: &dyn Fn(&super::OptionSpec) -> bool| -> String {
        let options = place.options.iter().filter(|option| wanted(option));
        options.flat_map(|option| spellings(option)).collect::<Vec<_>>().join(" ")
    };
    let all = words(&|_| true);
    let files = words(&is_file);
    let values = words(&|option| option.value().is_some() && !is_file(option));
    format!(
        "{indent}{pattern})\n{indent}    options='{all}'\n{indent}    values=' {values} '\n\
         {indent}    files=' {files} '\n{indent}    ;;\n"
    )
}

const FRAME: &str = r#"# bash completion for rnsnet: source <(rnsnet completion bash)
_rnsnet() {
    local cur prev options= values= files= words= cur_is_verb=
    # bash splits --mtu=1500 into three words.
    cur="${COMP_WORDS[COMP_CWORD]}"
    prev="${COMP_WORDS[COMP_CWORD - 1]}"
    if [ "$cur" = "=" ]; then
        cur=
    elif [ "$prev" = "=" ]; then
        prev="${COMP_WORDS[COMP_CWORD - 2]}"
    fi
    COMPREPLY=()
    case "${COMP_WORDS[1]}" in
@CASES@
    esac
    if [ "$COMP_CWORD" = 1 ] && [ "${cur#-}" = "$cur" ]; then
        mapfile -t COMPREPLY < <(compgen -W '@FIRST@' -- "$cur")
        compopt -o default
    elif [ -n "$cur_is_verb" ]; then
        mapfile -t COMPREPLY < <(compgen -W "$words --help" -- "$cur")
    elif [ "${files/ $prev /}" != "$files" ]; then
        compopt -o default
    elif [ "${values/ $prev /}" != "$values" ]; then
        :
    elif [ "${cur#-}" != "$cur" ]; then
        mapfile -t COMPREPLY < <(compgen -W "$options" -- "$cur")
    elif [ "${COMP_WORDS[1]}" = run ]; then
        mapfile -t COMPREPLY < <(compgen -c -- "$cur")
    else
        compopt -o default
    fi
}
complete -F _rnsnet rnsnet
"#;
