//! The scripts know every option, and the shells take them.

use std::process::{Command, Stdio};

use super::*;

#[test]
fn every_option_of_every_place_is_in_every_script() {
    for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
        let script = shell.script();
        for place in places() {
            for word in &place.words {
                assert!(script.contains(word), "{shell:?} {word}");
            }
            for option in &place.options {
                let long = option.long.trim_start_matches("--");
                assert!(script.contains(long), "{shell:?} {} {long}", place.words.join(" "));
            }
        }
        assert!(
            !script.contains("@CASES@") && !script.contains("@FIRST@"),
            "{shell:?}: a gap that was not filled"
        );
    }
}

#[test]
fn a_brief_help_is_one_sentence() {
    assert_eq!(brief("Name of it. Default: eth0."), "Name of it");
    assert_eq!(brief("IPv4 only."), "IPv4 only");
}

/// Feeds a script to a shell that only reads it; false where there is no such shell.
fn reads(shell: &str, script: &str) -> bool {
    use std::io::Write as _;
    let mut command = Command::new(shell);
    command.args(["-n", "/dev/stdin"]).stdin(Stdio::piped()).stderr(Stdio::piped());
    let Ok(mut child) = command.spawn() else { return false };
    child.stdin.take().unwrap().write_all(script.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success() && said.is_empty(), "{shell}: {said}");
    true
}

#[test]
fn the_shells_that_are_here_can_read_their_scripts() {
    assert!(reads("bash", &Shell::Bash.script()), "there is a bash wherever this is developed");
    reads("zsh", &Shell::Zsh.script());
    reads("fish", &Shell::Fish.script());
}
