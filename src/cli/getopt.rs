//! A command line taken apart as getopt_long(3) does: `--mtu=1500`, `--mtu 1500`, `-m1500`,
//! `-ce 3`, unambiguous abbreviations, options after positionals where the program has them so,
//! `--`. The programs that rnsnet takes the place of read theirs in this way. Which options there
//! are, and what they mean, is for each personality to say.

use std::ffi::OsString;

/// One option; `id` says which, for the personality.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Spec<Id: 'static> {
    pub(super) id: Id,
    /// The long name without its dashes; empty if there is only a letter.
    pub(super) long: &'static str,
    pub(super) short: Option<char>,
    /// Whether an argument follows.
    pub(super) argument: bool,
    /// Whether `rnsnet` itself has no such option, so that it tells whose a command line is. Of
    /// slirp4netns's options alone; pasta's has a list of its own.
    pub(super) only_here: bool,
}

/// A word that is no option, or lacks or has an argument against the rules.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs)] // the messages say it
pub enum GetoptError {
    #[error("unrecognized option {0:?}")]
    Unknown(String),
    #[error("option {0:?} is ambiguous; possibilities: {1}")]
    Ambiguous(String, String),
    #[error("option --{0} requires an argument")]
    NoArgument(&'static str),
    #[error("option --{0} allows no argument")]
    Argument(&'static str),
    #[error("not UTF-8: {0:?}")]
    NotUtf8(String),
}

/// An option without an argument.
pub(super) const fn switch<Id: Copy>(id: Id, long: &'static str, short: Option<char>) -> Spec<Id> {
    Spec { id, long, short, argument: false, only_here: true }
}

/// An option with an argument.
pub(super) const fn value<Id: Copy>(id: Id, long: &'static str, short: Option<char>) -> Spec<Id> {
    Spec { id, long, short, argument: true, only_here: true }
}

/// An option that `rnsnet` has too.
pub(super) const fn shared<Id: Copy>(spec: Spec<Id>) -> Spec<Id> {
    Spec { only_here: false, ..spec }
}

/// One word of the command line, or one letter of a bundle.
#[derive(Debug)]
pub(super) enum Word<Id: 'static> {
    Option {
        spec: &'static Spec<Id>,
        value: Option<OsString>,
        /// Not abbreviated.
        in_full: bool,
        /// By its name, not its letter.
        long: bool,
    },
    Positional(OsString),
}

/// Where options may stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Order {
    /// Anywhere up to `--`.
    Anywhere,
    /// Before the first positional, which may be a command with options of its own.
    First,
}

/// The words of a command line, in order.
pub(super) struct Words<'a, Id: 'static> {
    options: &'static [Spec<Id>],
    order: Order,
    args: std::slice::Iter<'a, OsString>,
    /// What is left of a bundle of letters.
    bundle: String,
    /// After `--`.
    ended: bool,
}

impl<'a, Id: Copy + PartialEq> Words<'a, Id> {
    pub(super) fn new(options: &'static [Spec<Id>], order: Order, args: &'a [OsString]) -> Self {
        Self { options, order, args: args.iter(), bundle: String::new(), ended: false }
    }

    fn long(&mut self, word: &str) -> Result<Word<Id>, GetoptError> {
        let (name, attached) =
            word.split_once('=').map_or((word, None), |(name, value)| (name, Some(value)));
        let exact = self.options.iter().find(|spec| spec.long == name);
        let spec = match exact {
            Some(spec) => spec,
            None => abbreviated(self.options, name)?,
        };
        let value = match (spec.argument, attached) {
            (true, Some(value)) => Some(OsString::from(value)),
            (true, None) => Some(self.argument(spec)?),
            (false, None) => None,
            (false, Some(_)) => return Err(GetoptError::Argument(spec.long)),
        };
        Ok(Word::Option { spec, value, in_full: exact.is_some(), long: true })
    }

    fn short(&mut self, letter: char) -> Result<Word<Id>, GetoptError> {
        let spec = self
            .options
            .iter()
            .find(|spec| spec.short == Some(letter))
            .ok_or_else(|| GetoptError::Unknown(format!("-{letter}")))?;
        let value = match (spec.argument, self.bundle.is_empty()) {
            (false, _) => None,
            (true, true) => Some(self.argument(spec)?),
            (true, false) => Some(OsString::from(std::mem::take(&mut self.bundle))),
        };
        Ok(Word::Option { spec, value, in_full: true, long: false })
    }

    fn positional(&mut self, word: &OsString) -> Word<Id> {
        self.ended |= self.order == Order::First;
        Word::Positional(word.clone())
    }

    /// The next word, whatever it looks like.
    fn argument(&mut self, spec: &'static Spec<Id>) -> Result<OsString, GetoptError> {
        self.args.next().cloned().ok_or(GetoptError::NoArgument(spec.long))
    }
}

impl<Id: Copy + PartialEq> Iterator for Words<'_, Id> {
    type Item = Result<Word<Id>, GetoptError>;

    fn next(&mut self) -> Option<Self::Item> {
        if let Some(letter) = self.bundle.chars().next() {
            self.bundle.remove(0);
            return Some(self.short(letter));
        }
        let word = self.args.next()?;
        if self.ended {
            return Some(Ok(Word::Positional(word.clone())));
        }
        let Some(text) = word.to_str() else {
            // An option has a name in ASCII; a path may be any bytes.
            if word.as_encoded_bytes().starts_with(b"-") {
                return Some(Err(GetoptError::NotUtf8(word.to_string_lossy().into_owned())));
            }
            return Some(Ok(self.positional(word)));
        };
        match text.strip_prefix('-') {
            Some("-") => {
                self.ended = true;
                self.next()
            }
            None | Some("") => Some(Ok(self.positional(word))),
            Some(rest) => match rest.strip_prefix('-') {
                Some(long) => Some(self.long(long)),
                None => {
                    self.bundle = rest.to_owned();
                    self.next()
                }
            },
        }
    }
}

/// The one option that a name is the beginning of.
fn abbreviated<Id: Copy + PartialEq>(
    options: &'static [Spec<Id>],
    name: &str,
) -> Result<&'static Spec<Id>, GetoptError> {
    let mut meant: Vec<&'static Spec<Id>> =
        options.iter().filter(|spec| !name.is_empty() && spec.long.starts_with(name)).collect();
    meant.dedup_by_key(|spec| spec.id);
    match meant.as_slice() {
        [] => Err(GetoptError::Unknown(format!("--{name}"))),
        [spec] => Ok(spec),
        several => {
            let names: Vec<String> =
                several.iter().map(|spec| format!("--{}", spec.long)).collect();
            Err(GetoptError::Ambiguous(format!("--{name}"), names.join(" ")))
        }
    }
}
