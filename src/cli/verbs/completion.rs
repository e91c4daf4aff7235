//! `rnsnet completion`: see [`crate::cli::completion`].

use super::{Action, Argument, Count, Typed, UsageError, Verb};
use crate::cli::ValueError;
use crate::cli::completion::Shell;
use crate::cli::output;
use crate::cli::values::Input;
use crate::error::Error;

pub(super) const VERB: Verb = Verb {
    name: "completion",
    aliases: &[],
    about: "Print the completion script for a shell",
    more: "",
    arguments: &[Argument { name: "SHELL", count: Count::One, help: "bash, zsh or fish." }],
    options: &[],
    examples: &[
        (
            "rnsnet completion bash > ~/.local/share/bash-completion/completions/rnsnet",
            "For bash; without bash-completion: source <(rnsnet completion bash).",
        ),
        (
            "rnsnet completion zsh > ~/.zfunc/_rnsnet",
            "For zsh, with ~/.zfunc in fpath before compinit.",
        ),
        ("rnsnet completion fish > ~/.config/fish/completions/rnsnet.fish", "For fish."),
    ],
    parse,
};

#[derive(Debug)]
struct Completion(Shell);

fn parse(typed: &Typed) -> Result<Box<dyn Action>, UsageError> {
    let shell =
        Input::new("SHELL", typed.argument(0).unwrap_or_default()).read(|text| match text {
            "bash" => Ok(Shell::Bash),
            "zsh" => Ok(Shell::Zsh),
            "fish" => Ok(Shell::Fish),
            _ => Err(ValueError::Expected("bash, zsh or fish")),
        })?;
    Ok(Box::new(Completion(shell)))
}

impl Action for Completion {
    fn run(self: Box<Self>) -> Result<u8, Error> {
        output::print(&self.0.script())?;
        Ok(0)
    }
}
