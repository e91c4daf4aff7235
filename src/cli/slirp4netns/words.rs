//! slirp4netns's options, and a command line taken apart as getopt_long(3) does: `--mtu=1500`,
//! `--mtu 1500`, `-m1500`, `-ce 3`, unambiguous abbreviations, options after positionals, `--`.
//! What an option means is decided in the file above.

use std::ffi::OsString;

use super::Slirp4netnsError;

/// One option.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Spec {
    pub(super) id: Id,
    /// The long name without its dashes.
    pub(super) long: &'static str,
    short: Option<char>,
    /// Whether an argument follows.
    argument: bool,
    /// Whether `rnsnet` itself has no such option, so that it tells whose a command line is.
    pub(super) only_here: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Id {
    Configure,
    ExitFd,
    ReadyFd,
    Mtu,
    Ipv6,
    ApiSocket,
    Cidr,
    DisableHostLoopback,
    NetnsType,
    UsernsPath,
    Sandbox,
    Seccomp,
    OutboundAddr,
    OutboundAddr6,
    DisableDns,
    MacAddress,
    TargetType,
    Help,
    Version,
}

const fn switch(id: Id, long: &'static str, short: Option<char>) -> Spec {
    Spec { id, long, short, argument: false, only_here: true }
}

const fn value(id: Id, long: &'static str, short: Option<char>) -> Spec {
    Spec { id, long, short, argument: true, only_here: true }
}

/// An option that `rnsnet` has too.
const fn shared(spec: Spec) -> Spec {
    Spec { only_here: false, ..spec }
}

pub(super) const OPTIONS: &[Spec] = &[
    switch(Id::Configure, "configure", Some('c')),
    shared(value(Id::ExitFd, "exit-fd", Some('e'))),
    shared(value(Id::ReadyFd, "ready-fd", Some('r'))),
    shared(value(Id::Mtu, "mtu", None)),
    value(Id::Mtu, "mtu", Some('m')),
    switch(Id::Ipv6, "enable-ipv6", Some('6')),
    value(Id::ApiSocket, "api-socket", Some('a')),
    shared(value(Id::Cidr, "cidr", None)),
    switch(Id::DisableHostLoopback, "disable-host-loopback", None),
    switch(Id::DisableHostLoopback, "no-host-loopback", None),
    shared(value(Id::NetnsType, "netns-type", None)),
    shared(value(Id::UsernsPath, "userns-path", None)),
    switch(Id::Sandbox, "enable-sandbox", None),
    switch(Id::Sandbox, "create-sandbox", None),
    switch(Id::Seccomp, "enable-seccomp", None),
    value(Id::OutboundAddr, "outbound-addr", None),
    value(Id::OutboundAddr6, "outbound-addr6", None),
    switch(Id::DisableDns, "disable-dns", None),
    value(Id::MacAddress, "macaddress", None),
    value(Id::TargetType, "target-type", None),
    shared(switch(Id::Help, "help", Some('h'))),
    shared(switch(Id::Version, "version", Some('v'))),
];

/// One word of the command line, or one letter of a bundle.
#[derive(Debug)]
pub(super) enum Word {
    Option {
        spec: &'static Spec,
        value: Option<OsString>,
        /// Not abbreviated.
        in_full: bool,
    },
    Positional(OsString),
}

/// The words of a command line as getopt_long(3) takes them apart: options wherever they stand,
/// up to `--`.
pub(super) struct Words<'a> {
    args: std::slice::Iter<'a, OsString>,
    /// What is left of a bundle of letters.
    bundle: String,
    /// After `--`.
    ended: bool,
}

impl<'a> Words<'a> {
    pub(super) fn new(args: &'a [OsString]) -> Self {
        Self { args: args.iter(), bundle: String::new(), ended: false }
    }

    fn long(&mut self, word: &str) -> Result<Word, Slirp4netnsError> {
        let (name, attached) =
            word.split_once('=').map_or((word, None), |(name, value)| (name, Some(value)));
        let exact = OPTIONS.iter().find(|spec| spec.long == name);
        let spec = match exact {
            Some(spec) => spec,
            None => abbreviated(name)?,
        };
        let value = match (spec.argument, attached) {
            (true, Some(value)) => Some(OsString::from(value)),
            (true, None) => Some(self.argument(spec)?),
            (false, None) => None,
            (false, Some(_)) => return Err(Slirp4netnsError::Argument(spec.long)),
        };
        Ok(Word::Option { spec, value, in_full: exact.is_some() })
    }

    fn short(&mut self, letter: char) -> Result<Word, Slirp4netnsError> {
        let spec = OPTIONS
            .iter()
            .find(|spec| spec.short == Some(letter))
            .ok_or_else(|| Slirp4netnsError::Unknown(format!("-{letter}")))?;
        let value = match (spec.argument, self.bundle.is_empty()) {
            (false, _) => None,
            (true, true) => Some(self.argument(spec)?),
            (true, false) => Some(OsString::from(std::mem::take(&mut self.bundle))),
        };
        Ok(Word::Option { spec, value, in_full: true })
    }

    /// The next word, whatever it looks like.
    fn argument(&mut self, spec: &'static Spec) -> Result<OsString, Slirp4netnsError> {
        self.args.next().cloned().ok_or(Slirp4netnsError::NoArgument(spec.long))
    }
}

impl Iterator for Words<'_> {
    type Item = Result<Word, Slirp4netnsError>;

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
                return Some(Err(Slirp4netnsError::NotUtf8(word.to_string_lossy().into_owned())));
            }
            return Some(Ok(Word::Positional(word.clone())));
        };
        match text.strip_prefix('-') {
            Some("-") => {
                self.ended = true;
                self.next()
            }
            None | Some("") => Some(Ok(Word::Positional(word.clone()))),
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
fn abbreviated(name: &str) -> Result<&'static Spec, Slirp4netnsError> {
    let mut meant: Vec<&'static Spec> =
        OPTIONS.iter().filter(|spec| !name.is_empty() && spec.long.starts_with(name)).collect();
    meant.dedup_by_key(|spec| spec.id);
    match meant.as_slice() {
        [] => Err(Slirp4netnsError::Unknown(format!("--{name}"))),
        [spec] => Ok(spec),
        several => {
            let names: Vec<String> =
                several.iter().map(|spec| format!("--{}", spec.long)).collect();
            Err(Slirp4netnsError::Ambiguous(format!("--{name}"), names.join(" ")))
        }
    }
}
