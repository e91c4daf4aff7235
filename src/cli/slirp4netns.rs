//! The personality of slirp4netns: its command line, for engines that call a helper of that name.
//!
//! When it is taken on: the program was called `slirp4netns` (the last part of `argv[0]`, so a
//! symbolic link does), or by any other name with an option that only slirp4netns has, spelt in
//! full or as its letter (`--configure` or `-c`, `--disable-host-loopback`, `--enable-sandbox` and
//! so on), and none that only `rnsnet` has. `rnsnet` knows none of these itself, so no command line
//! that is valid for it is ever taken away from it: `rnsnet --mtu 1500 -r 3 4711 tap0` and `rnsnet --help` are its own.
//! Owns the meaning of every option, the defaults, the help and the version. How an option may be
//! spelt is in `getopt`, what a value of our own kind looks like in `values`. How we differ from the
//! original is in docs/engines.md.

mod words;

use std::ffi::{OsStr, OsString};
use std::net::{Ipv4Addr, Ipv6Addr};
use std::path::{Path, PathBuf};

use super::getopt::{GetoptError, Order, Spec, Word, Words};
use super::options::is_option;
use super::values;
use super::{Command, Environment};
use crate::config::{
    Addresses, Attach, Caller, Cidr, Discovery, Egress, Endpoint, Family, HostAccess, Lease,
    Limits, MacAddress, Mtu, Network, Offload, Outbound, Process, Rate, Refusal, Resolver, Rules,
    Setup, Sharing, Source, Target,
};
use words::{Id, OPTIONS};

/// A command line of slirp4netns that cannot be carried out as written. The exit code is 1.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs)] // the messages say it
pub enum Slirp4netnsError {
    #[error(transparent)]
    Words(#[from] GetoptError),
    #[error("not UTF-8: {0:?}")]
    NotUtf8(String),
    #[error("PID, PATH or FD is missing")]
    NoTarget,
    #[error("PID must be a positive integer")]
    Pid,
    #[error("TAPFD must be a file descriptor")]
    TapFd,
    #[error("the network namespace's path is empty")]
    NoPath,
    #[error("invalid TAPNAME {0:?}: {1}")]
    TapName(String, values::ValueError),
    #[error("{0}-fd must be a non-negative integer")]
    Fd(&'static str),
    #[error("--ready-fd and --exit-fd are both {0}")]
    SameFd(i32),
    #[error("MTU must be a positive integer (< 65522)")]
    Mtu,
    #[error("MTU must be at least 68, which IPv4 needs")]
    SmallMtu,
    #[error("invalid CIDR: {0}")]
    Cidr(String),
    #[error("invalid network address: {0}")]
    NetworkAddress(String),
    #[error("prefix length needs to be 1-25")]
    PrefixLength,
    #[error("CIDR needs to be a network address like 10.0.2.0/24, not like 10.0.2.100/24")]
    HostBits,
    #[error("the network of --cidr overlaps {0}")]
    Reserved(&'static str),
    #[error("--netns-type must be pid, path or tapfd")]
    NetnsType,
    #[error("--{0} cannot be combined with --netns-type=tapfd: there is no namespace to enter")]
    WithTapFd(&'static str),
    #[error("the path of --{0} is empty")]
    EmptyPath(&'static str),
    #[error("outbound-addr has to be valid ipv4 address or interface name.")]
    OutboundAddr,
    #[error("outbound-addr6 has to be valid ipv6 address or interface name.")]
    OutboundAddr6,
    #[error("--macaddr cannot be specified when --configure or -c is not specified")]
    MacWithoutConfigure,
    #[error(
        "macaddress has to be a valid MAC address (hex string, 6 bytes, each byte separated by a \
         ':')."
    )]
    Mac,
    #[error("--target-type must be either \"netns\" or \"bess\"")]
    TargetType,
    #[error("--target-type=bess is not part of rnsnet: give it a namespace, or a TAP by tapfd")]
    Bess,
}

/// A command line as understood, and what its writer should know about it.
#[derive(Debug)]
pub struct Invocation {
    /// What to do.
    pub command: Command,
    /// One line each.
    pub warnings: Vec<String>,
}

/// Whether a command line is slirp4netns's, by the rule at the top of this file.
#[must_use]
pub fn is_meant(program: &OsStr, args: &[OsString], environment: &Environment) -> bool {
    if Path::new(program).file_name() == Some(OsStr::new(NAME)) {
        return true;
    }
    let verbs = &environment.verbs;
    let is_verb = |word| matches!(word, "run" | "help") || verbs.iter().any(|verb| verb.is(word));
    if args.first().and_then(|word| word.to_str()).is_some_and(is_verb) {
        return false;
    }
    let mut marked = false;
    for word in Words::new(OPTIONS, Order::Anywhere, args) {
        match word {
            Ok(Word::Option { spec, in_full, .. }) => marked |= in_full && spec.only_here,
            Ok(Word::Positional(_)) => {}
            // Somebody who meant us, and took one of its options for ours.
            Err(GetoptError::Unknown(option)) if is_option(&option) => return false,
            // Nobody understands the rest.
            Err(_) => break,
        }
    }
    marked && super::parse_in(environment, &mut args.iter().cloned()).is_err()
}

/// Reads a command line. `args` are the words after the program's name.
///
/// # Errors
/// Whatever makes the line unusable, the first problem found.
pub fn parse(args: &[OsString]) -> Result<Invocation, Slirp4netnsError> {
    let mut given = Given::default();
    for word in Words::new(OPTIONS, Order::Anywhere, args) {
        match word? {
            Word::Option { spec, value, .. } => match given.take(spec, value) {
                Some(command) => return Ok(Invocation { command, warnings: Vec::new() }),
                None => continue,
            },
            Word::Positional(word) => given.positionals.push(word),
        }
    }
    given.understand()
}

/// The text of `--help`.
#[must_use]
pub fn help() -> &'static str {
    HELP
}

/// The text of `--version`: lines of `key: value` after the first, as callers take them apart.
/// The first names the release whose behaviour is meant; `SLIRP_CONFIG_VERSION_MAX` stands for
/// outbound addresses and `--disable-dns`, which the release's test suite asks for by this number.
fn version() -> String {
    format!(
        "slirp4netns version 1.3.2\ncommit: rnsnet {}\nlibslirp: none\n\
         SLIRP_CONFIG_VERSION_MAX: 4\nlibseccomp: none\n",
        env!("CARGO_PKG_VERSION")
    )
}

/// What was typed. Of an option that is repeated, the last counts.
#[derive(Debug, Default)]
struct Given {
    positionals: Vec<OsString>,
    values: Vec<(Id, OsString)>,
    switches: Vec<Id>,
    deprecated: Vec<&'static str>,
}

impl Given {
    /// Takes note of an option. Help and version are all that happens, as soon as they are met.
    fn take(&mut self, spec: &'static Spec<Id>, value: Option<OsString>) -> Option<Command> {
        match (spec.id, value) {
            (Id::Help, _) => return Some(Command::Help(HELP.to_owned())),
            (Id::Version, _) => return Some(Command::Version(version())),
            (id, Some(value)) => self.values.push((id, value)),
            (id, None) => self.switches.push(id),
        }
        if matches!(spec.long, "no-host-loopback" | "create-sandbox") {
            self.deprecated.push(spec.long);
        }
        None
    }

    fn has(&self, switch: Id) -> bool {
        self.switches.contains(&switch)
    }

    fn os_value(&self, id: Id) -> Option<&OsString> {
        self.values.iter().rev().find(|(of, _)| *of == id).map(|(_, value)| value)
    }

    fn value(&self, id: Id) -> Result<Option<&str>, Slirp4netnsError> {
        self.os_value(id).map(|value| text(value)).transpose()
    }

    fn fd(&self, id: Id, what: &'static str) -> Result<Option<i32>, Slirp4netnsError> {
        let fd = self.value(id)?.map(|text| number(text).ok_or(Slirp4netnsError::Fd(what)));
        fd.transpose()
    }

    fn path(&self, id: Id, long: &'static str) -> Result<Option<PathBuf>, Slirp4netnsError> {
        match self.os_value(id) {
            Some(path) if path.is_empty() => Err(Slirp4netnsError::EmptyPath(long)),
            path => Ok(path.map(PathBuf::from)),
        }
    }

    fn understand(self) -> Result<Invocation, Slirp4netnsError> {
        match self.value(Id::TargetType)? {
            None | Some("netns") => {}
            Some("bess") => return Err(Slirp4netnsError::Bess),
            Some(_) => return Err(Slirp4netnsError::TargetType),
        }
        let (addresses, mut lease) = self.addresses()?;
        let configure = self.has(Id::Configure);
        let target = self.target()?;
        match (self.value(Id::MacAddress)?, configure) {
            (None, _) => {}
            (Some(_), false) => return Err(Slirp4netnsError::MacWithoutConfigure),
            (Some(text), true) => lease.mac = mac(text)?,
        }
        let ifname = match self.positionals.get(1) {
            Some(name) => {
                let name = text(name)?;
                let invalid = |source| Slirp4netnsError::TapName(name.to_owned(), source);
                values::ifname(name).map_err(invalid)?
            }
            None => DEFAULT_TAPNAME.to_owned(),
        };
        let endpoint = Endpoint { loopback_only: false, ifname, lease, offload: Offload::Auto };
        let closed = self.has(Id::DisableHostLoopback);
        let network = Network {
            addresses,
            mtu: self.mtu()?,
            publish: Vec::new(),
            publish_defaults: super::PublishDefaults::default(),
            host_access: if closed { HostAccess::None } else { HostAccess::All },
            dns: !self.has(Id::DisableDns),
            resolver: Resolver::default(),
            default_route: true,
            refusal: Refusal::Unreachable,
            // As its users find it in their logs: .15 to .30.
            dhcp_pool: Some(Ipv4Addr::from_bits(addresses.v4.subnet.address.to_bits() | 15)),
            sharing: Sharing::Private,
            between: Vec::new(),
            internal: false,
            allow_broadcast: false,
            discovery: Discovery::default(),
            limits: Limits::default(),
            rate: Rate::UNLIMITED,
            egress: Egress::default(),
            overlay: None,
            rules: Rules::default(),
        };
        let caller = Caller {
            setup: if configure { Setup::Configure } else { Setup::Bare },
            outbound: self.outbound()?,
            api_socket: self.path(Id::ApiSocket, "api-socket")?,
            any_fds: true,
            inspectable: self.has(Id::Sandbox),
            personality: Some(NAME),
            ..Caller::default()
        };
        let process = self.process()?;
        let warnings = self.warnings(&network);
        let command = Command::Attach(Attach {
            target,
            endpoint,
            network,
            membership: None,
            process,
            caller,
        });
        Ok(Invocation { command, warnings })
    }

    fn target(&self) -> Result<Target, Slirp4netnsError> {
        let netns_type = self.value(Id::NetnsType)?.unwrap_or("pid");
        let word = self.positionals.first().ok_or(Slirp4netnsError::NoTarget)?;
        let userns = self.path(Id::UsernsPath, "userns-path")?;
        match netns_type {
            "pid" => {
                let pid = text(word)?;
                let pid: i32 = number(pid).filter(|pid| *pid > 0).ok_or(Slirp4netnsError::Pid)?;
                Ok(match userns {
                    None => Target::Pid(pid),
                    // A path that names a process gets what a pid gets.
                    userns => Target::Path { netns: format!("/proc/{pid}/ns/net").into(), userns },
                })
            }
            "path" if word.is_empty() => Err(Slirp4netnsError::NoPath),
            "path" => Ok(Target::Path { netns: word.into(), userns }),
            "tapfd" => {
                if userns.is_some() {
                    return Err(Slirp4netnsError::WithTapFd("userns-path"));
                }
                if self.has(Id::Configure) {
                    return Err(Slirp4netnsError::WithTapFd("configure"));
                }
                number(text(word)?).map(Target::Tap).ok_or(Slirp4netnsError::TapFd)
            }
            _ => Err(Slirp4netnsError::NetnsType),
        }
    }

    fn addresses(&self) -> Result<(Addresses, Lease), Slirp4netnsError> {
        let subnet = match self.value(Id::Cidr)? {
            Some(text) => cidr(text)?,
            None => Addresses::default().v4.subnet,
        };
        // A prefix of at most 25 bits has them all.
        let v4 = |last: u32| Ipv4Addr::from_bits(subnet.address.to_bits() | last);
        let v6 = |last: u16| Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, last);
        let ipv6 = self.has(Id::Ipv6);
        let addresses = Addresses {
            v4: Family { subnet, gateway: v4(2), dns: v4(3) },
            v6: ipv6.then(|| Family {
                subnet: Cidr { address: v6(0), prefix_len: 64 },
                gateway: v6(2),
                dns: v6(3),
            }),
        };
        Ok((addresses, Lease::new(v4(100), ipv6.then(|| v6(0x100)))))
    }

    fn mtu(&self) -> Result<Mtu, Slirp4netnsError> {
        let Some(text) = self.value(Id::Mtu)? else {
            return Ok(Mtu::default());
        };
        let bytes: u16 = number(text)
            .and_then(|bytes| u16::try_from(bytes).ok())
            .filter(|bytes| (1..65522).contains(bytes))
            .ok_or(Slirp4netnsError::Mtu)?;
        Mtu::unusual(bytes).ok_or(Slirp4netnsError::SmallMtu)
    }

    fn outbound(&self) -> Result<Outbound, Slirp4netnsError> {
        let v4 = self.value(Id::OutboundAddr)?;
        let v6 = self.value(Id::OutboundAddr6)?;
        Ok(Outbound {
            v4: v4.map(|text| source(text).ok_or(Slirp4netnsError::OutboundAddr)).transpose()?,
            v6: v6.map(|text| source(text).ok_or(Slirp4netnsError::OutboundAddr6)).transpose()?,
            loopback_too: v4.is_some() || v6.is_some(),
            ..Outbound::default()
        })
    }

    fn process(&self) -> Result<Process, Slirp4netnsError> {
        let process = Process {
            ready_fd: self.fd(Id::ReadyFd, "ready")?,
            exit_fd: self.fd(Id::ExitFd, "exit")?,
            ..Process::default()
        };
        match (process.ready_fd, process.exit_fd) {
            (Some(ready), Some(exit)) if ready == exit => Err(Slirp4netnsError::SameFd(ready)),
            _ => Ok(process),
        }
    }

    fn warnings(&self, network: &Network) -> Vec<String> {
        let mut warnings: Vec<String> = self
            .deprecated
            .iter()
            .map(|long| {
                let now = if *long == "create-sandbox" {
                    "enable-sandbox"
                } else {
                    "disable-host-loopback"
                };
                format!("--{long} is deprecated: use --{now}")
            })
            .collect();
        if self.positionals.len() > 2 {
            warnings.push("too many arguments".to_owned());
        }
        if network.host_access == HostAccess::All {
            warnings.push(format!(
                "127.0.0.1:* on the host is accessible as {} (--disable-host-loopback prohibits it)",
                network.addresses.v4.gateway
            ));
        }
        warnings
    }
}

fn text(word: &OsString) -> Result<&str, Slirp4netnsError> {
    word.to_str().ok_or_else(|| Slirp4netnsError::NotUtf8(word.to_string_lossy().into_owned()))
}

/// A decimal number without a sign.
fn number(text: &str) -> Option<i32> {
    if values::is_digits(text) { text.parse().ok() } else { None }
}

/// `A.B.C.D/LENGTH`, checked in the order and refused in the words that callers know.
fn cidr(text: &str) -> Result<Cidr<Ipv4Addr>, Slirp4netnsError> {
    let invalid = || Slirp4netnsError::Cidr(text.to_owned());
    let (address, length) = text.split_once('/').ok_or_else(invalid)?;
    let octets: Vec<&str> = address.split('.').collect();
    let digits = |text: &str, most| values::is_digits(text) && (1..=most).contains(&text.len());
    if octets.len() != 4 || !octets.iter().all(|octet| digits(octet, 3)) || !digits(length, 2) {
        return Err(invalid());
    }
    let address: Ipv4Addr =
        address.parse().map_err(|_| Slirp4netnsError::NetworkAddress(address.to_owned()))?;
    let prefix_len: u8 = length.parse().map_err(|_| invalid())?;
    if !(1..=25).contains(&prefix_len) {
        return Err(Slirp4netnsError::PrefixLength);
    }
    let host_bits = u32::MAX >> prefix_len;
    if address.to_bits() & host_bits != 0 {
        return Err(Slirp4netnsError::HostBits);
    }
    let prefix = Cidr { address, prefix_len };
    let ([first, ..], [last, ..]) = (address.octets(), prefix.broadcast().octets());
    if first == 0 {
        Err(Slirp4netnsError::Reserved("0.0.0.0/8"))
    } else if (first..=last).contains(&127) {
        Err(Slirp4netnsError::Reserved("127.0.0.0/8"))
    } else if last >= 224 {
        Err(Slirp4netnsError::Reserved("224.0.0.0/3"))
    } else {
        Ok(prefix)
    }
}

fn mac(text: &str) -> Result<MacAddress, Slirp4netnsError> {
    values::mac(text).map_err(|_| Slirp4netnsError::Mac)
}

/// An address of the family, or the name of an interface.
fn source<A: std::str::FromStr>(text: &str) -> Option<Source<A>> {
    match text.parse() {
        Ok(address) => Some(Source::Address(address)),
        // Of the other family, or nearly an address.
        Err(_) if text.contains(':') || text.parse::<Ipv4Addr>().is_ok() => None,
        // `lo` is a good source, though no name for a new interface.
        Err(_) if text == "lo" => Some(Source::Interface(text.to_owned())),
        Err(_) => values::ifname(text).ok().map(Source::Interface),
    }
}

/// What the program is called.
const NAME: &str = "slirp4netns";
/// The interface's name unless told.
const DEFAULT_TAPNAME: &str = "tap0";

const HELP: &str = "\
Usage: slirp4netns [OPTION]... PID|PATH|FD [TAPNAME]

rnsnet, called as slirp4netns: gives a network namespace a way out, without
root, by a TAP device in it (tap0 unless TAPNAME is given).

Interface:
  -c, --configure          bring up lo and the interface, with its addresses and
                           routes; without it the interface is left as it is,
                           and one that is there already is taken over
  -m, --mtu=MTU            MTU in bytes, 68 to 65521 (default: 1500)
      --macaddress=MAC     hardware address, with --configure
      --cidr=CIDR          IPv4 network; its address 2 is the gateway, 3 the DNS
                           server and 100 the container (default: 10.0.2.0/24)
  -6, --enable-ipv6        IPv6 too, in fd00::/64
      --disable-dns        no DNS server
Target:
      --netns-type=TYPE    what the first argument is: pid, path or tapfd, the
                           descriptor of a TAP (default: pid)
      --userns-path=PATH   user namespace to enter first (default: the one that
                           owns the network namespace)
      --target-type=TYPE   netns; bess is not supported (default: netns)
Host:
      --disable-host-loopback
                           do not offer the host's 127.0.0.1 at the gateway
      --outbound-addr=IPv4|INTERFACE
                           local address of outgoing IPv4
      --outbound-addr6=IPv6|INTERFACE
                           local address of outgoing IPv6
  -a, --api-socket=PATH    take requests to forward ports there
Process:
  -e, --exit-fd=FD         end when the other side of this descriptor is closed
  -r, --ready-fd=FD        write the byte 1 to this descriptor when ready
      --enable-sandbox     files and capabilities are given up; always so here
      --enable-seccomp     system calls are restricted; always so here
  -h, --help               print this help
  -v, --version            print the version

Requests of --api-socket, one object per connection:
  {\"execute\": \"add_hostfwd\", \"arguments\": {\"proto\": \"tcp\", \"host_addr\":
   \"0.0.0.0\", \"host_port\": 8080, \"guest_addr\": \"10.0.2.100\", \"guest_port\": 80}}
  {\"execute\": \"list_hostfwd\"}
  {\"execute\": \"remove_hostfwd\", \"arguments\": {\"id\": 1}}
";

/// What the help of `rnsnet` says about all this. Engines that are told to use `rnsnet` as their
/// slirp4netns look for these options in it.
pub(super) const IN_NATIVE_HELP: &str = "
In place of slirp4netns:
  Called as slirp4netns, or with an option that only slirp4netns has, rnsnet
  takes its whole command line: --configure (-c), --api-socket (-a),
  --enable-ipv6 (-6), --disable-host-loopback, --enable-sandbox,
  --enable-seccomp, --outbound-addr, --outbound-addr6, --disable-dns,
  --macaddress, --target-type, with --mtu, --cidr, --ready-fd, --exit-fd,
  --netns-type and --userns-path. `rnsnet -c --help` describes them.
";

#[cfg(test)]
mod tests;
