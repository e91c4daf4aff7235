//! The command line: from words to a [`Command`].
//!
//! Three steps, a file each: `argv` brings every spelling into one, argh fills the fields of
//! `options::Given` with text, `values` and `publish` give the text its meaning. `help` prints the
//! same table of options that `argv` checks against. Verbs have tables of their own, in
//! [`crate::verbs`], which is read first. Nothing here touches the system: whether a process, file
//! or descriptor exists is found out by who uses it.

pub(crate) mod argv;
mod discovery;
pub(crate) mod dns;
pub(crate) mod egress;
mod getopt;
pub(crate) mod help;
pub(crate) mod join;
pub(crate) mod oci;
pub(crate) mod options;
pub mod pasta;
pub(crate) mod publish;
pub mod slirp4netns;
pub(crate) mod values;

use std::borrow::Cow;
use std::ffi::OsString;
use std::net::IpAddr;
use std::path::{Component, PathBuf};

use argh::FromArgs as _;

pub use getopt::GetoptError;
pub use oci::HookError;
pub use publish::{PublishDefaults, PublishError, Side, parse as parse_publish};
pub use values::ValueError;

use crate::config::{
    Attach, Caller, Confinement, Endpoint, Lease, Limits, Mtu, Network, Outbound, Process, Publish,
    Refusal, Republished, Rules, Run, Sharing, Source, Target,
};
use argv::{Normalised, Syntax, Words};
use join::{Asked, membership};
use options::{Given, Job, OPTIONS};
use values::Input;

/// What the command line asks for.
#[derive(Debug)]
pub enum Command {
    /// `rnsnet PID`: attach a namespace that is there.
    Attach(Attach),
    /// `rnsnet run CMD`: make namespaces and run a command in them.
    Run(Run),
    /// `--help`: print this text.
    Help(String),
    /// `--version`: print this text.
    Version(String),
}

/// A command line that cannot be carried out as written. The exit code is 2.
#[derive(Clone, PartialEq, Eq, thiserror::Error)]
pub enum UsageError {
    /// An option that does not exist.
    #[error("unknown option {option:?}{}", did_you_mean(*suggestion))]
    UnknownOption {
        /// What was typed, without its value.
        option: String,
        /// An option that is spelt nearly so.
        suggestion: Option<&'static str>,
        /// What lists those there are.
        list: &'static str,
    },
    /// An option of `rnsnet run` elsewhere.
    #[error("{option} is an option of rnsnet run, not of rnsnet PID")]
    OnlyForRun {
        /// The option.
        option: &'static str,
    },
    /// An option that `rnsnet run` does not have.
    #[error("{option} is not an option of rnsnet run")]
    NotForRun {
        /// The option.
        option: &'static str,
    },
    /// An option that is not to be repeated.
    #[error("{option} is given twice")]
    Repeated {
        /// The option.
        option: &'static str,
    },
    /// Nothing follows an option that takes a value.
    #[error("{option} needs a value: {option} {value}")]
    MissingValue {
        /// The option.
        option: &'static str,
        /// What its value is called in the help.
        value: &'static str,
    },
    /// Another option follows an option that takes a value.
    #[error("{option} needs a value: {option} {value}; to give it {word:?}, write {option}={word}")]
    OptionAsValue {
        /// The option.
        option: &'static str,
        /// What its value is called in the help.
        value: &'static str,
        /// The word that follows.
        word: String,
    },
    /// An option that takes no value has one.
    #[error("{option} takes no value, but got {word:?}")]
    UnexpectedValue {
        /// The option.
        option: &'static str,
        /// What was typed.
        word: String,
    },
    /// Two options that contradict each other.
    #[error("{option} cannot be combined with {other}")]
    Conflict {
        /// One option.
        option: &'static str,
        /// The other.
        other: &'static str,
    },
    /// An option that another program has.
    #[error("{option} cannot be had: {why}")]
    NotHere {
        /// The option.
        option: &'static str,
        /// Why not.
        why: &'static str,
    },
    /// An option about a network, where the network is a named one.
    #[error("{option} is a matter of the network: it cannot be combined with --network NAME")]
    OfTheNetwork {
        /// The option.
        option: &'static str,
    },
    /// An option about one of several networks.
    #[error("{option} is about one network: write it after the network's name, NET:KEY=VALUE")]
    OfOneNetwork {
        /// The option.
        option: &'static str,
    },
    /// Nothing is to be changed.
    #[error("an option is missing that says what to change")]
    NothingToDo,
    /// A word that is not UTF-8 where text is needed.
    #[error("not UTF-8: {word:?}")]
    NotUtf8 {
        /// The word, with replacement characters.
        word: String,
    },
    /// Nothing to attach.
    #[error("PID or NETNS_PATH is missing")]
    NoTarget,
    /// Nothing to run.
    #[error("the command is missing: rnsnet run [OPTIONS] [--] CMD [ARG...]")]
    NoCommand,
    /// `run` after an option.
    #[error("run comes first: rnsnet run [OPTIONS] [--] CMD [ARG...]")]
    RunNotFirst,
    /// Another verb after an option.
    #[error("{verb} comes first: rnsnet {verb} [OPTIONS]")]
    VerbNotFirst {
        /// The verb.
        verb: String,
    },
    /// A word that could be anything.
    #[error(
        "{word:?} is neither a PID nor a path nor a verb{}", did_you_mean(*suggestion)
    )]
    NoSuchVerb {
        /// The word.
        word: String,
        /// A verb that is spelt nearly so.
        suggestion: Option<&'static str>,
    },
    /// What is wrong with the words after a verb.
    #[error("{verb}")]
    Verb {
        /// The whole name of the verb, as in `network create`.
        verb: String,
        /// What it takes.
        usage: String,
        /// A line that works.
        example: &'static str,
        /// What is wrong.
        source: Box<UsageError>,
    },
    /// The first word of several verbs, and no second.
    #[error("{group}: the verb is missing")]
    NoVerb {
        /// The word.
        group: &'static str,
    },
    /// The first word of several verbs with a second that is none.
    #[error("{group}: unknown verb {word:?}{}", did_you_mean(*suggestion))]
    UnknownVerb {
        /// The first word.
        group: &'static str,
        /// The second.
        word: String,
        /// A verb that is spelt nearly so.
        suggestion: Option<&'static str>,
    },
    /// Too few arguments.
    #[error("{name} is missing")]
    MissingArgument {
        /// What the help calls it.
        name: &'static str,
    },
    /// Too many arguments.
    #[error("unexpected argument {word:?}")]
    SurplusArgument {
        /// The first that is too much.
        word: String,
    },
    /// A third positional argument.
    #[error("unexpected argument {word:?} after PID|NETNS_PATH and IFNAME")]
    ExtraArgument {
        /// The word.
        word: String,
    },
    /// One descriptor for two purposes.
    #[error("--ready-fd and --exit-fd are both {fd}")]
    SameFd {
        /// The descriptor.
        fd: i32,
    },
    /// One file for two purposes.
    #[error("{} and {} are both {}", options.0, options.1, path.display())]
    SameFile {
        /// The options.
        options: (&'static str, &'static str),
        /// The file.
        path: PathBuf,
    },
    /// `--userns-path` with a process id.
    #[error("--userns-path goes with a NETNS_PATH, not with PID {pid}")]
    UsernsOfPid {
        /// The process id.
        pid: i32,
    },
    /// A value that is not what its option takes.
    #[error("invalid {what} {text:?}")]
    Invalid {
        /// The option, or what a positional is.
        what: &'static str,
        /// What was typed.
        text: String,
        /// What is wrong with it.
        source: ValueError,
    },
    /// A `--publish` that is wrong.
    #[error("invalid --publish {spec:?}")]
    Publish {
        /// What was typed.
        spec: String,
        /// What is wrong with it.
        source: PublishError,
    },
    /// Ports that are wrong in an option about ports.
    #[error("invalid {option} {text:?}")]
    PortRange {
        /// The option.
        option: &'static str,
        /// What was typed.
        text: String,
        /// What is wrong with it.
        source: PublishError,
    },
    /// An option that does nothing without another.
    #[error("{option} does nothing without {needed}")]
    Useless {
        /// The option.
        option: &'static str,
        /// What it is for.
        needed: &'static str,
    },
    /// What argh refused although the first stage let it pass.
    #[error("cannot parse the command line: {message}")]
    Parser {
        /// argh's words.
        message: String,
    },
}

debug_as_display!(UsageError);

impl UsageError {
    /// What to do about it, where the message does not say so itself.
    #[must_use]
    pub fn hint(&self) -> Option<Cow<'static, str>> {
        let hint = match self {
            Self::UnknownOption { suggestion: None, list, .. } => {
                return Some(format!("{list} lists the options").into());
            }
            Self::ExtraArgument { .. } => "rnsnet --help lists the options",
            Self::NoTarget => "rnsnet PID attaches a running container; rnsnet --help has examples",
            Self::OfTheNetwork { .. } => {
                "rnsnet network create --help and rnsnet dns --help say what a network can be given"
            }
            Self::NoCommand | Self::NotForRun { .. } => "rnsnet run --help has examples",
            Self::NoSuchVerb { word, suggestion } => {
                let mut hint =
                    format!("rnsnet --help lists the verbs; a namespace here is ./{word}");
                if suggestion.is_none() {
                    hint.push_str("; the PID of a container of Podman's: ");
                    hint.push_str(&format!("podman inspect -f '{{{{.State.Pid}}}}' {word}"));
                }
                return Some(hint.into());
            }
            Self::Verb { verb, usage, example, source } => {
                return match **source {
                    Self::UnknownOption { suggestion: None, .. } => {
                        Some(format!("rnsnet {verb} --help lists its options").into())
                    }
                    Self::SurplusArgument { .. } | Self::NothingToDo => {
                        Some(format!("rnsnet {verb} --help has examples").into())
                    }
                    Self::MissingArgument { .. } => Some(as_in(usage, example)),
                    // Perhaps they are in another order.
                    Self::Invalid { what: of, .. } | Self::PortRange { option: of, .. }
                        if !of.starts_with('-') =>
                    {
                        Some(as_in(usage, example))
                    }
                    _ => source.hint(),
                };
            }
            Self::NoVerb { group: HELP } | Self::UnknownVerb { group: HELP, .. } => {
                "rnsnet --help lists the verbs"
            }
            Self::NoVerb { group } | Self::UnknownVerb { group, suggestion: None, .. } => {
                return Some(format!("rnsnet {group} --help lists the verbs").into());
            }
            Self::UnknownOption { .. }
            | Self::VerbNotFirst { .. }
            | Self::UnknownVerb { .. }
            | Self::MissingArgument { .. }
            | Self::SurplusArgument { .. }
            | Self::OnlyForRun { .. }
            | Self::Repeated { .. }
            | Self::MissingValue { .. }
            | Self::OptionAsValue { .. }
            | Self::UnexpectedValue { .. }
            | Self::Conflict { .. }
            | Self::NotUtf8 { .. }
            | Self::RunNotFirst
            | Self::SameFd { .. }
            | Self::SameFile { .. }
            | Self::UsernsOfPid { .. }
            | Self::Invalid { .. }
            | Self::Publish { .. }
            | Self::NotHere { .. }
            | Self::OfOneNetwork { .. }
            | Self::NothingToDo
            | Self::PortRange { .. }
            | Self::Useless { .. }
            | Self::Parser { .. } => return None,
        };
        Some(hint.into())
    }
}

fn as_in(usage: &str, example: &str) -> Cow<'static, str> {
    format!("{usage}, as in: {example}").into()
}

/// The word before a verb that is to be told of.
pub(crate) const HELP: &str = "help";

/// What a command line is read in.
#[derive(Debug, Clone, Default)]
pub struct Environment {
    /// `RNSNET_DEFAULT_BIND`, for `--default-bind`.
    pub default_bind: Option<OsString>,
    /// The verbs that there are.
    pub verbs: Vec<VerbName>,
}

/// What a verb is called, or several that share their first word.
#[derive(Debug, Clone, Copy)]
pub struct VerbName {
    /// Its name, which is no PID and no path.
    pub name: &'static str,
    /// Other spellings of the name.
    pub aliases: &'static [&'static str],
    /// One line of help.
    pub about: &'static str,
}

impl VerbName {
    /// Whether it is called so.
    #[must_use]
    pub fn is(&self, word: &str) -> bool {
        self.name == word || self.aliases.contains(&word)
    }
}

impl Environment {
    /// That of this process, without verbs.
    #[must_use]
    pub fn of_this_process() -> Self {
        Self { default_bind: std::env::var_os(DEFAULT_BIND), verbs: Vec::new() }
    }

    /// The verb that a word is most likely meant to be: as it is spelt, or as Docker has it.
    pub(crate) fn suggest(&self, word: &str) -> Option<&'static str> {
        match word {
            "stop" | "kill" | "rm" => Some("detach"),
            "create" => Some("network create"),
            "connect" => Some("network connect"),
            "disconnect" => Some("network disconnect"),
            "list" => Some("ps"),
            _ => argv::closest(word, self.verbs.iter().map(|verb| verb.name).chain(["run"])),
        }
    }

    /// The addresses of published ports that name none; none of them is every address.
    pub(crate) fn bind(&self) -> Result<Vec<IpAddr>, UsageError> {
        let text = self.default_bind.as_deref().unwrap_or_default().to_string_lossy();
        if text.is_empty() {
            return Ok(Vec::new());
        }
        Input::new(DEFAULT_BIND, &text).read(publish::default_bind)
    }
}

const DEFAULT_BIND: &str = "RNSNET_DEFAULT_BIND";

/// [`parse_in`] an empty environment.
///
/// # Errors
/// As [`parse_in`].
pub fn parse(mut args: impl Iterator<Item = OsString>) -> Result<Command, UsageError> {
    parse_in(&Environment::default(), &mut args)
}

/// Reads a command line without a verb. `args` are the words after the program's name.
///
/// # Errors
/// Whatever makes the line unusable, the first problem found.
pub fn parse_in(
    environment: &Environment,
    args: &mut dyn Iterator<Item = OsString>,
) -> Result<Command, UsageError> {
    let mut args = args.peekable();
    let job = if args.next_if(|word| word == "run").is_some() { Job::Run } else { Job::Attach };
    let syntax = Syntax { options: OPTIONS, job, verbs: &environment.verbs };
    let words = match argv::normalise(syntax, &mut args)? {
        Normalised::Help => return Ok(Command::Help(help(job, &environment.verbs))),
        Normalised::Version => return Ok(Command::Version(help::version())),
        Normalised::Words(words) => words,
    };
    let given = Given::from_args(&["rnsnet"], &words.for_argh())
        .map_err(|exit| UsageError::Parser { message: exit.output.trim().to_owned() })?;
    match job {
        Job::Attach | Job::Verb => attach(given, &words, environment).map(Command::Attach),
        Job::Run => run(&given, words, environment).map(Command::Run),
    }
}

/// The help of a job, with what engines look for that take us for slirp4netns.
fn help(job: Job, verbs: &[VerbName]) -> String {
    let mut text = help::help(job, verbs);
    if job == Job::Attach {
        text.push_str(slirp4netns::IN_NATIVE_HELP);
    }
    text
}

fn attach(
    mut given: Given,
    words: &Words,
    environment: &Environment,
) -> Result<Attach, UsageError> {
    let mut positionals = std::mem::take(&mut given.words).into_iter();
    let target = positionals.next().ok_or(UsageError::NoTarget)?;
    let is_anything = !values::is_digits(&target) && !target.is_empty() && !target.contains('/');
    if words.bare && given.netns_type.is_none() && is_anything {
        let suggestion = environment.suggest(&target);
        return Err(UsageError::NoSuchVerb { word: target, suggestion });
    }
    let ifname = positionals.next();
    if let Some(word) = positionals.next() {
        return Err(UsageError::ExtraArgument { word });
    }
    if ifname.is_some() && given.ifname.is_some() {
        return Err(UsageError::Conflict { option: "--ifname", other: "IFNAME" });
    }
    let ifname = ifname.map(|name| ("IFNAME", name));
    let target = self::target(&given, &target)?;
    if let Target::Tap(_) = target {
        let option =
            words.seen().map(|option| option.long).find(|long| NOT_OF_A_TAP.contains(long));
        if let Some(option) = option.or_else(|| ifname.as_ref().map(|(what, _)| *what)) {
            return Err(UsageError::Conflict { option, other: "--netns-type tapfd" });
        }
    }
    let asked = join::parse_all(&given.network)?;
    if asked == Asked::None
        && let Some(option) = words.seen().find(|option| NOT_OF_LOOPBACK.contains(&option.long))
    {
        return Err(UsageError::Conflict { option: option.long, other: "--network none" });
    }
    let membership = membership(&given, words, ifname.as_ref(), &asked, environment)?;
    let (endpoint, network) = link(&given, words, ifname, environment, &asked)?;
    let mut process = process(&given)?;
    if !given.dns_opt.is_empty() && process.resolv_conf.is_none() {
        return Err(UsageError::Useless { option: "--dns-opt", needed: "--write-resolv-conf" });
    }
    process.arguments = words.for_argh().into_iter().map(str::to_owned).collect();
    // Whoever takes over may have another environment, and no port is to be open to more then.
    if let (None, Some(bind), Asked::Private) =
        (&given.default_bind, &environment.default_bind, &asked)
        && !bind.is_empty()
    {
        let words = ["--default-bind".to_owned(), bind.to_string_lossy().into_owned()];
        process.arguments.splice(0..0, words);
    }
    let caller = caller(&given)?;
    Ok(Attach { target, endpoint, network, membership, process, caller })
}

fn run(given: &Given, words: Words, environment: &Environment) -> Result<Run, UsageError> {
    if words.command.first().is_none_or(|command| command.is_empty()) {
        return Err(UsageError::NoCommand);
    }
    let asked = join::parse_all(&given.network)?;
    let membership = membership(given, &words, None, &asked, environment)?;
    let (endpoint, network) = link(given, &words, None, environment, &asked)?;
    Ok(Run {
        membership,
        hostname: read(given.hostname.as_deref(), "--hostname", values::hostname)?,
        endpoint,
        network,
        process: process(given)?,
        command: words.command,
        caller: caller(given)?,
    })
}

/// The namespace that the first positional names.
fn target(given: &Given, word: &str) -> Result<Target, UsageError> {
    let is_pid = match given.netns_type.as_deref() {
        Some("tapfd") => return Ok(Target::Tap(Input::new("FD", word).read(values::fd)?)),
        None => !word.is_empty() && values::is_digits(word),
        Some("pid") => true,
        Some("path") => false,
        Some(other) => {
            let typed = Input::new("--netns-type", other);
            return Err(typed.refuse(ValueError::Expected("pid, path or tapfd")));
        }
    };
    let userns = read(given.userns_path.as_deref(), "--userns-path", values::path)?;
    if is_pid {
        let pid = Input::new("PID", word).read(values::pid)?;
        return match userns {
            None => Ok(Target::Pid(pid)),
            Some(_) => Err(UsageError::UsernsOfPid { pid }),
        };
    }
    Ok(Target::Path { netns: Input::new("NETNS_PATH", word).read(values::path)?, userns })
}

/// The container's interface and its network. `ifname` is the positional one, with its name.
fn link(
    given: &Given,
    words: &Words,
    ifname: Option<(&'static str, String)>,
    environment: &Environment,
    asked: &Asked,
) -> Result<(Endpoint, Network), UsageError> {
    if matches!(asked, Asked::Named(_)) {
        // Its addresses are the named network's.
        let (ifname, lease) = (DEFAULT_IFNAME.to_owned(), Lease::default());
        let offload = read(given.offload.as_deref(), "--offload", values::offload)?;
        let offload = offload.unwrap_or_default();
        let endpoint = Endpoint { loopback_only: false, ifname, lease, offload };
        return Ok((endpoint, Network::default()));
    }
    let loopback_only = *asked == Asked::None;
    if loopback_only {
        let option = words.seen().find(|option| option.needs_interface);
        let option =
            option.map(|option| option.long).or_else(|| ifname.as_ref().map(|(what, _)| *what));
        if let Some(option) = option {
            return Err(UsageError::Conflict { option, other: "--network none" });
        }
    }
    let ipv6 = [(&given.ip6, "--ip6"), (&given.cidr6, "--cidr6")];
    let ipv6 = ipv6.into_iter().find(|(value, _)| value.is_some());
    if let (true, Some((_, option))) = (given.no_ipv6, ipv6) {
        return Err(UsageError::Conflict { option, other: "--no-ipv6" });
    }
    let v6 = (!given.no_ipv6).then_some((given.cidr6.as_deref(), given.ip6.as_deref()));
    let (addresses, mut lease) = values::addresses(given.cidr.as_deref(), given.ip.as_deref(), v6)?;
    if let Some(mac) = read(given.mac.as_deref(), "--mac", values::mac)? {
        lease.mac = mac;
    }
    let (what, name) = match (&ifname, &given.ifname) {
        (Some((what, name)), _) => (*what, Some(name)),
        (None, name) => ("--ifname", name.as_ref()),
    };
    let endpoint = Endpoint {
        loopback_only,
        ifname: read(name.map(String::as_str), what, values::ifname)?
            .unwrap_or_else(|| DEFAULT_IFNAME.to_owned()),
        lease,
        offload: read(given.offload.as_deref(), "--offload", values::offload)?.unwrap_or_default(),
    };
    let host_access = given.host_access.as_deref();
    let (publish, publish_defaults) = published(given, environment)?;
    let network = Network {
        addresses,
        mtu: read(given.mtu.as_deref(), "--mtu", values::mtu)?.unwrap_or_else(Mtu::default),
        publish,
        publish_defaults,
        host_access: read(host_access, "--host-access", values::host_access)?.unwrap_or_default(),
        dns: true,
        resolver: dns::resolver(given)?,
        default_route: true,
        refusal: Refusal::default(),
        dhcp_pool: None,
        sharing: Sharing::Private,
        between: Vec::new(),
        internal: false,
        allow_broadcast: given.allow_broadcast,
        discovery: discovery::discovery(given)?,
        rules: Rules::default(),
        limits: limits(&given.limit)?,
        rate: read(given.rate.as_deref(), "--rate", values::rate)?.unwrap_or_default(),
        egress: egress::egress(words)?,
        overlay: None,
    };
    Ok((endpoint, network))
}

/// The bounds of `--limit`; of one that is given twice the last counts.
fn limits(given: &[String]) -> Result<Limits, UsageError> {
    let mut limits = Limits::default();
    for text in given {
        Input::new("--limit", text).read(|text| limits.read(text).map_err(ValueError::Limit))?;
    }
    Ok(limits)
}

/// The ports of `--publish` and `--publish-all`.
fn published(
    given: &Given,
    environment: &Environment,
) -> Result<(Vec<Publish>, PublishDefaults), UsageError> {
    let bind = match given.default_bind.as_deref() {
        Some(text) => Input::new("--default-bind", text).read(publish::default_bind)?,
        None => environment.bind()?,
    };
    let defaults = PublishDefaults { bind, freebind: given.freebind };
    let mut rules = publish::parse_all(&given.publish, &defaults)?;
    let useless = |option, needed| Err(UsageError::Useless { option, needed });
    match (given.publish_all, given.expose.is_empty(), given.publish_range.as_deref()) {
        (true, true, _) => return useless("--publish-all", "--expose"),
        (false, false, _) => return useless("--expose", "--publish-all"),
        (false, _, Some(_)) => return useless("--publish-range", "--publish-all"),
        (true, false, range) => {
            let more = publish::exposed(&given.expose, range, &rules, &defaults)?;
            rules.extend(more);
        }
        (false, true, None) => {}
    }
    Ok((rules, defaults))
}

/// What the command line says beyond the network.
fn caller(given: &Given) -> Result<Caller, UsageError> {
    let (outbound, to_loopback) = (outbound(given)?, given.publish_loopback);
    Ok(Caller { outbound, to_loopback, ..Caller::default() })
}

/// What the container sends with: `--outbound-addr`, one for each family, and `--outbound-if`.
fn outbound(given: &Given) -> Result<Outbound, UsageError> {
    let interface = read(given.outbound_if.as_deref(), "--outbound-if", values::ifname)?;
    let mut outbound = Outbound {
        interface_v4: interface.clone(),
        interface_v6: interface,
        ..Outbound::default()
    };
    for text in &given.outbound_addr {
        let typed = Input::new("--outbound-addr", text);
        let again = match typed.read(values::outbound)? {
            IpAddr::V4(ip) => {
                outbound.v4.replace(Source::Address(ip)).map(|_| ValueError::FamilyTwice("IPv4"))
            }
            IpAddr::V6(ip) => {
                outbound.v6.replace(Source::Address(ip)).map(|_| ValueError::FamilyTwice("IPv6"))
            }
        };
        if let Some(again) = again {
            return Err(typed.refuse(again));
        }
    }
    Ok(outbound)
}

fn process(given: &Given) -> Result<Process, UsageError> {
    let process = Process {
        ready_fd: read(given.ready_fd.as_deref(), "--ready-fd", values::fd)?,
        exit_fd: read(given.exit_fd.as_deref(), "--exit-fd", values::fd)?,
        name: read(given.name.as_deref(), "--name", values::container_name)?,
        pid_file: read(given.pid_file.as_deref(), "--pid-file", values::output)?,
        log_file: None,
        pcap: read(given.pcap.as_deref(), "--pcap", values::output)?,
        resolv_conf: read(
            given.write_resolv_conf.as_deref(),
            "--write-resolv-conf",
            values::output,
        )?,
        hosts: read(given.write_hosts.as_deref(), "--write-hosts", values::output)?,
        detach: given.detach,
        log_level: read(given.log_level.as_deref(), "--log-level", values::log_level)?
            .unwrap_or_default(),
        confinement: match (given.no_sandbox, given.no_seccomp) {
            (true, _) => Confinement::None,
            (false, true) => Confinement::FilesOnly,
            (false, false) => Confinement::Full,
        },
        arguments: Vec::new(),
        republished: Republished::default(),
    };
    match (process.ready_fd, process.exit_fd) {
        (Some(ready), Some(exit)) if ready == exit => Err(UsageError::SameFd { fd: ready }),
        _ => apart(&process).map(|()| process),
    }
}

/// Refuses one file for two purposes: the last that is written would be all that is in it.
fn apart(process: &Process) -> Result<(), UsageError> {
    let Process { pid_file, pcap, resolv_conf, hosts, .. } = process;
    let mut files: Vec<(&str, PathBuf)> = Vec::new();
    for (option, path) in [
        ("--pid-file", pid_file),
        ("--pcap", pcap),
        ("--write-resolv-conf", resolv_conf),
        ("--write-hosts", hosts),
    ] {
        let Some(path) = path else { continue };
        // `./a` is `a`; a link is its owner's business.
        let path = path.components().filter(|part| *part != Component::CurDir).collect();
        if let Some((first, _)) = files.iter().find(|(_, other)| *other == path) {
            return Err(UsageError::SameFile { options: (first, option), path });
        }
        files.push((option, path));
    }
    Ok(())
}

/// Reads the value of an option that may be absent.
fn read<T>(
    text: Option<&str>,
    what: &'static str,
    read: impl FnOnce(&str) -> Result<T, ValueError>,
) -> Result<Option<T>, UsageError> {
    text.map(|text| Input::new(what, text).read(read)).transpose()
}

fn did_you_mean(suggestion: Option<&str>) -> String {
    suggestion.map_or_else(String::new, |option| format!(": did you mean {option}?"))
}

/// What needs a namespace to enter, or an interface that is not made yet.
const NOT_OF_A_TAP: [&str; 10] = [
    "--userns-path",
    "--network",
    "--ifname",
    "--mac",
    "--ip6",
    "--offload",
    "--dns-listen",
    "--publish-loopback",
    "--write-resolv-conf",
    "--write-hosts",
];

/// What is about a process that stays: none does where `lo` alone is brought up.
const NOT_OF_LOOPBACK: [&str; 3] = ["--name", "--pid-file", "--exit-fd"];

/// The container's interface name unless told: what Docker and Podman call theirs.
const DEFAULT_IFNAME: &str = "eth0";

#[cfg(test)]
mod tests;
