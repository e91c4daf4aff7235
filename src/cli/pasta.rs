//! The personality of pasta: its command line, for engines that call a helper of that name.
//!
//! When it is taken on: the program was called `pasta` (the last part of `argv[0]`, so a symbolic
//! link does), or by any other name with one of [`MARKS`], which `rnsnet` itself refuses. Owns the
//! meaning of every option, the defaults, the help and the version. What is left to the host's
//! addresses and routes is decided in `crate::pasta`. How an option may be spelt is in `getopt`, the
//! options are in `words`, port specifications in `ports`. How we differ from the original is in
//! docs/engines.md.

mod ports;
mod words;

use std::ffi::{OsStr, OsString};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::{Path, PathBuf};

use super::getopt::{GetoptError, Order, Word, Words};
use super::values::{self, ValueError};
use crate::config::pasta::{HostLoopback, Job, Pasta, Ports, Wish};
use crate::config::{LogLevel, Mtu, Name, NameError, Process, Protocol, Protocols, Target};
pub use ports::PortsError;
use words::{Id, OPTIONS};

/// A command line of pasta that cannot be carried out as written. The exit code is 1.
#[derive(Clone, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs)] // the messages say it
pub enum PastaError {
    #[error(transparent)]
    Words(#[from] GetoptError),
    #[error("not UTF-8: {0:?}")]
    NotUtf8(String),
    #[error("--{0} is not supported: {1}")]
    Refused(&'static str, &'static str),
    #[error("--{0} is an option of passt, for virtual machines")]
    Passt(&'static str),
    #[error("invalid --{option} {text:?}: {source}")]
    Value { option: &'static str, text: String, source: ValueError },
    #[error("invalid --{0} {1:?}: an address is expected")]
    Address(&'static str, String),
    #[error("invalid --{0} {1:?}: nothing can have this address")]
    Unusable(&'static str, String),
    #[error("invalid --mtu {0:?}: 68 to 65520 bytes are possible, or 0")]
    Mtu(String),
    #[error("invalid --netmask {0:?}: 1 to 32 bits, or a mask like 255.255.255.0")]
    Netmask(String),
    #[error("invalid --address {0:?}: the prefix has 1 to {1} bits")]
    PrefixLength(String, u8),
    #[error("--{0} needs --{1}")]
    NothingToTell(&'static str, &'static str),
    #[error("invalid --search {0:?}: {1}")]
    Name(String, NameError),
    #[error("invalid --{option} {text:?}: {source}")]
    Ports { option: &'static str, text: String, source: PortsError },
    #[error("PID must be a positive integer")]
    Pid,
    #[error("--{0} and {1:?} both say what is to have the network")]
    TwoTargets(&'static str, String),
    #[error("--fd and --{0} both say what is to have the network")]
    FdAndTarget(&'static str),
    #[error("--{0} needs a PID or --netns")]
    NoTarget(&'static str),
    #[error("--fd must be a file descriptor")]
    Fd,
    #[error("--{0}: what listens behind a TAP of --fd is not known; name ports")]
    FdFollowed(&'static str),
    #[error("--{0} cannot be combined with --fd: there is no namespace to make sockets in")]
    FdOutwards(&'static str),
    #[error("--no-splice and --host-lo-to-ns-lo exclude each other")]
    Spliced,
    #[error("--{0} is about a family that is left out by --{1}")]
    LeftOut(&'static str, &'static str),
    #[error("--ns-mac-addr needs --config-net")]
    MacUnconfigured,
    #[error("--config-net cannot be combined with --fd: there is no namespace to enter")]
    FdConfigured,
}

debug_as_display!(PastaError);

/// What a line of pasta's asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// A network.
    Pasta(Box<Pasta>),
    /// This text.
    Print(String),
}

/// Whether a command line is pasta's, by the rule at the top of this file.
#[must_use]
pub fn is_meant(program: &OsStr, args: &[OsString]) -> bool {
    let name = Path::new(program).file_name();
    if NAMES.iter().any(|known| name == Some(OsStr::new(known))) {
        return true;
    }
    // Up to the first word that pasta would not understand either.
    let mut marked = false;
    for word in Words::new(OPTIONS, Order::First, args) {
        match word {
            Ok(Word::Option { spec, in_full, long, .. }) => {
                marked |= in_full && long && MARKS.contains(&spec.long);
            }
            Ok(Word::Positional(_)) | Err(_) => break,
        }
    }
    marked && super::parse(args.iter().cloned()).is_err()
}

/// Reads a command line. `args` are the words after the program's name.
///
/// # Errors
/// Whatever makes the line unusable, the first problem found.
pub fn parse(args: &[OsString]) -> Result<Command, PastaError> {
    let mut given = Given::default();
    let mut print = None;
    for word in Words::new(OPTIONS, Order::First, args) {
        match word? {
            Word::Positional(word) => given.positionals.push(word),
            Word::Option { spec, value, .. } => match (spec.id, value) {
                (Id::Help, _) => print = print.or_else(|| Some(HELP.to_owned())),
                (Id::Version, _) => print = print.or_else(|| Some(version())),
                (Id::Refused(why), _) => return Err(PastaError::Refused(spec.long, why)),
                (Id::Passt, _) => return Err(PastaError::Passt(spec.long)),
                (Id::AlwaysSo, _) => {}
                (id, Some(value)) => given.values.push((id, text(&value)?.to_owned())),
                (id, None) => given.switches.push(id),
            },
        }
    }
    // After the whole line: a caller that asks for the version with an option wants to know
    // whether there is that option.
    match print {
        Some(text) => Ok(Command::Print(text)),
        None => given.understand().map(|pasta| Command::Pasta(Box::new(pasta))),
    }
}

/// The text of `--help`.
#[must_use]
pub fn help() -> &'static str {
    HELP
}

fn version() -> String {
    format!("pasta rnsnet {}\n", env!("CARGO_PKG_VERSION"))
}

/// What was typed. Of an option that is repeated, the last counts, but for ports.
#[derive(Debug, Default)]
struct Given {
    positionals: Vec<OsString>,
    values: Vec<(Id, String)>,
    switches: Vec<Id>,
}

/// An address family: how to take its addresses from those typed.
trait Family: Copy + Into<IpAddr> {
    /// The option that names the interface it leaves by.
    const OUTBOUND_IF: (Id, &'static str);
    fn of(address: IpAddr) -> Option<Self>;
    fn is_usable(self) -> bool;
}

impl Family for Ipv4Addr {
    const OUTBOUND_IF: (Id, &'static str) = (Id::OutboundIf4, "outbound-if4");

    fn of(address: IpAddr) -> Option<Self> {
        match address {
            IpAddr::V4(address) => Some(address),
            IpAddr::V6(_) => None,
        }
    }

    fn is_usable(self) -> bool {
        let [first, ..] = self.octets();
        first != 0 && first != 127 && first < 224
    }
}

impl Family for Ipv6Addr {
    const OUTBOUND_IF: (Id, &'static str) = (Id::OutboundIf6, "outbound-if6");

    fn of(address: IpAddr) -> Option<Self> {
        match address {
            IpAddr::V4(_) => None,
            IpAddr::V6(address) => Some(address),
        }
    }

    fn is_usable(self) -> bool {
        let mapped = self.to_ipv4_mapped().is_some();
        !(self.is_unspecified() || self.is_loopback() || self.is_multicast() || mapped)
    }
}

impl Given {
    fn has(&self, switch: Id) -> bool {
        self.switches.contains(&switch)
    }

    fn all(&self, id: Id) -> impl DoubleEndedIterator<Item = &str> {
        self.values.iter().filter(move |(of, _)| *of == id).map(|(_, value)| value.as_str())
    }

    fn last(&self, id: Id) -> Option<&str> {
        self.all(id).next_back()
    }

    fn read<T>(
        &self,
        id: Id,
        option: &'static str,
        read: impl FnOnce(&str) -> Result<T, ValueError>,
    ) -> Result<Option<T>, PastaError> {
        let invalid = |text: &str| {
            let text = text.to_owned();
            move |source| PastaError::Value { option, text, source }
        };
        self.last(id).map(|text| read(text).map_err(invalid(text))).transpose()
    }

    fn understand(self) -> Result<Pasta, PastaError> {
        // Of the two the last counts. What is said of a family that is left out is of no meaning:
        // Podman adds addresses of IPv4 to every line.
        let families = self.switches.iter().rev();
        let only = families.copied().find(|id| matches!(id, Id::Ipv4Only | Id::Ipv6Only));
        let (only_v4, only_v6) = (only == Some(Id::Ipv4Only), only == Some(Id::Ipv6Only));
        // Unlike an interface to leave by.
        for (left_out, (id, option), by) in [
            (only_v6, Ipv4Addr::OUTBOUND_IF, "ipv6-only"),
            (only_v4, Ipv6Addr::OUTBOUND_IF, "ipv4-only"),
        ] {
            if left_out && self.last(id).is_some() {
                return Err(PastaError::LeftOut(option, by));
            }
        }
        let job = self.job()?;
        let mut v4 = self.wish::<Ipv4Addr>()?;
        let v6 = self.wish::<Ipv6Addr>()?;
        v4.prefix_len = self.netmask()?.or(v4.prefix_len);
        if self.last(Id::NsMacAddr).is_some() && !self.has(Id::ConfigNet) {
            return Err(PastaError::MacUnconfigured);
        }
        Ok(Pasta {
            v4: (!only_v6).then_some(v4),
            v6: (!only_v4).then_some(v6),
            template: self.read(Id::Interface, "interface", values::ifname)?,
            configure: self.has(Id::ConfigNet),
            copy_addresses: !self.has(Id::NoCopyAddrs),
            copy_routes: !self.has(Id::NoCopyRoutes),
            ifname: self.read(Id::NsIfname, "ns-ifname", values::ifname)?,
            guest_mac: self.read(Id::NsMacAddr, "ns-mac-addr", values::mac)?,
            gateway_mac: self.read(Id::MacAddr, "mac-addr", values::mac)?,
            mtu: self.mtu()?,
            announced: self.announced(only_v4, only_v6)?,
            search: self.search()?,
            protocols: Protocols {
                ipv4: !only_v6,
                tcp: !self.has(Id::NoTcp),
                udp: !self.has(Id::NoUdp),
                icmp: !self.has(Id::NoIcmp),
                ndp: !self.has(Id::NoNdp),
                ra: !self.has(Id::NoRa),
                dhcp: !self.has(Id::NoDhcp),
                dhcpv6: !self.has(Id::NoDhcpv6),
            },
            ports: self.ports()?,
            quit_with_netns: !self.has(Id::NoNetnsQuit),
            process: self.process(&job)?,
            job,
        })
    }

    /// What is to have the network: `--fd`, `--netns`, a pid, or a command.
    fn job(&self) -> Result<Job, PastaError> {
        let netns = self.last(Id::Netns).map(|name| named("/run/netns", name));
        let userns = self.last(Id::Userns).map(|name| named("/run/userns", name));
        if let Some(fd) = self.last(Id::Fd) {
            let fd = values::fd(fd).map_err(|_| PastaError::Fd)?;
            return match (&netns, &userns, self.positionals.first()) {
                (Some(_), ..) => Err(PastaError::FdAndTarget("netns")),
                (_, Some(_), _) => Err(PastaError::FdAndTarget("userns")),
                (_, _, Some(word)) => {
                    Err(PastaError::TwoTargets("fd", word.to_string_lossy().into_owned()))
                }
                _ if self.has(Id::ConfigNet) => Err(PastaError::FdConfigured),
                _ => Ok(Job::Attach(Target::Tap(fd))),
            };
        }
        if let Some(netns) = netns {
            return match self.positionals.first() {
                Some(word) => {
                    Err(PastaError::TwoTargets("netns", word.to_string_lossy().into_owned()))
                }
                None => Ok(Job::Attach(Target::Path { netns, userns })),
            };
        }
        match self.positionals.as_slice() {
            [word] if word.to_str().is_some_and(|w| !w.is_empty() && values::is_digits(w)) => {
                let pid = values::pid(text(word)?).map_err(|_| PastaError::Pid)?;
                Ok(Job::Attach(match userns {
                    None => Target::Pid(pid),
                    // A path that names a process gets what a pid gets.
                    userns => Target::Path { netns: format!("/proc/{pid}/ns/net").into(), userns },
                }))
            }
            _ if userns.is_some() => Err(PastaError::NoTarget("userns")),
            command => Ok(Job::Run(command.to_vec())),
        }
    }

    /// What was said about one family.
    fn wish<A: Family>(&self) -> Result<Wish<A>, PastaError> {
        let mut wish = Wish::default();
        let gateways =
            if self.has(Id::NoMapGw) { HostLoopback::Nothing } else { wish.host_loopback };
        wish.host_loopback = gateways;
        for (id, text) in &self.values {
            let Some(option) = addressed(*id) else { continue };
            let (address, length) = match (*id, text.split_once('/')) {
                (Id::Address, Some((address, length))) => (address, Some(length)),
                _ => (text.as_str(), None),
            };
            if address == "none" && matches!(*id, Id::MapHostLoopback | Id::MapGuestAddr) {
                match *id {
                    Id::MapGuestAddr => wish.map_guest = None,
                    _ => wish.host_loopback = HostLoopback::Nothing,
                }
                continue;
            }
            let parsed: IpAddr =
                address.parse().map_err(|_| PastaError::Address(option, text.clone()))?;
            let Some(address) = A::of(parsed) else { continue };
            if *id != Id::DnsHost && !address.is_usable() {
                return Err(PastaError::Unusable(option, text.clone()));
            }
            match *id {
                Id::Address => {
                    wish.address = Some(address);
                    wish.prefix_len =
                        length.map(|length| prefix_len(text, parsed, length)).transpose()?;
                }
                Id::Gateway => wish.gateway = Some(address),
                Id::DnsForward => wish.dns_forward = Some(address),
                Id::DnsHost => wish.dns_host = Some(address),
                Id::MapHostLoopback => wish.host_loopback = HostLoopback::At(address),
                Id::MapGuestAddr => wish.map_guest = Some(address),
                _ => wish.outbound = Some(address),
            }
        }
        let (id, option) = A::OUTBOUND_IF;
        wish.outbound_interface = self.read(id, option, values::ifname)?;
        Ok(wish)
    }

    /// The resolvers that are announced; `None` is the one of `--dns-forward`.
    fn announced(&self, only_v4: bool, only_v6: bool) -> Result<Option<Vec<IpAddr>>, PastaError> {
        let wanted = self.switches.iter().rev().find_map(|switch| match switch {
            Id::DhcpDns(wanted) => Some(*wanted),
            _ => None,
        });
        let mut named = None;
        for text in self.all(Id::Dns) {
            let list: &mut Vec<IpAddr> = named.get_or_insert_default();
            if text == "none" {
                list.clear();
                continue;
            }
            let invalid = || PastaError::Address("dns", text.to_owned());
            let address: IpAddr = text.parse().map_err(|_| invalid())?;
            let (usable, left_out) = match address {
                IpAddr::V4(v4) => (v4.is_usable(), only_v6),
                IpAddr::V6(v6) => (v6.is_usable(), only_v4),
            };
            if !usable {
                return Err(PastaError::Unusable("dns", text.to_owned()));
            }
            if !left_out {
                list.push(address);
            }
        }
        match (wanted, named) {
            (Some(false), _) => Ok(Some(Vec::new())),
            (Some(true), None) if self.last(Id::DnsForward).is_none() => {
                Err(PastaError::NothingToTell("dhcp-dns", "dns-forward or --dns"))
            }
            (_, named) => Ok(named),
        }
    }

    /// The domains to search that are announced.
    fn search(&self) -> Result<Vec<Name>, PastaError> {
        let wanted = self.switches.iter().rev().find_map(|switch| match switch {
            Id::DhcpSearch(wanted) => Some(*wanted),
            _ => None,
        });
        let mut domains = Vec::new();
        for text in self.all(Id::Search) {
            let invalid = |source| PastaError::Name(text.to_owned(), source);
            if text == "none" {
                domains.clear();
                continue;
            }
            for word in text.split([' ', ',']).filter(|word| !word.is_empty()) {
                domains.push(word.parse().map_err(invalid)?);
            }
        }
        match wanted {
            Some(false) => Ok(Vec::new()),
            Some(true) if self.last(Id::Search).is_none() => {
                Err(PastaError::NothingToTell("dhcp-search", "search"))
            }
            _ => Ok(domains),
        }
    }

    fn netmask(&self) -> Result<Option<u8>, PastaError> {
        let Some(text) = self.last(Id::Netmask) else {
            return Ok(None);
        };
        let invalid = || PastaError::Netmask(text.to_owned());
        let bits = match text.parse::<Ipv4Addr>() {
            Ok(mask) if mask.to_bits().leading_ones() == mask.to_bits().count_ones() => {
                mask.to_bits().count_ones()
            }
            Ok(_) => return Err(invalid()),
            Err(_) if values::is_digits(text) => text.parse().map_err(|_| invalid())?,
            Err(_) => return Err(invalid()),
        };
        u8::try_from(bits).ok().filter(|bits| (1..=32).contains(bits)).map(Some).ok_or_else(invalid)
    }

    fn mtu(&self) -> Result<Mtu, PastaError> {
        let Some(text) = self.last(Id::Mtu) else {
            return Ok(Mtu::LARGEST);
        };
        let invalid = || PastaError::Mtu(text.to_owned());
        let number = Some(text).filter(|text| !text.is_empty() && values::is_digits(text));
        match number.and_then(|text| text.parse::<u16>().ok()) {
            // What the kernel gives an interface that nobody gives one.
            Some(0) => Ok(Mtu::default()),
            Some(bytes) if bytes <= Mtu::MAX => Mtu::unusual(bytes).ok_or_else(invalid),
            _ => Err(invalid()),
        }
    }

    fn ports(&self) -> Result<Ports, PastaError> {
        let mut ports = Ports { to_loopback: self.has(Id::HostLoToNsLo), ..Ports::default() };
        for (id, option, protocol) in
            [(Id::TcpPorts, "tcp-ports", Protocol::Tcp), (Id::UdpPorts, "udp-ports", Protocol::Udp)]
        {
            let mut texts: Vec<&str> = self.all(id).collect();
            let followed = !self.values.iter().any(|(id, _)| *id == Id::Fd);
            if texts.is_empty() && followed {
                texts.push("auto");
            }
            for text in texts {
                let invalid = |source| PastaError::Ports { option, text: text.to_owned(), source };
                if let Some(spec) = ports::parse(text).map_err(invalid)? {
                    if spec.follows && !followed {
                        return Err(PastaError::FdFollowed(option));
                    }
                    spec.add_to(protocol, self.has(Id::Freebind), &mut ports);
                }
            }
        }
        ports::merge(&mut ports.fixed);
        // Otherwise every client comes by the container's interface anyway.
        if ports.to_loopback && self.has(Id::NoSplice) {
            return Err(PastaError::Spliced);
        }
        if ports.to_loopback && self.last(Id::Fd).is_some() {
            return Err(PastaError::FdOutwards("host-lo-to-ns-lo"));
        }
        self.add_outwards(&mut ports)?;
        Ok(ports)
    }

    /// Ports from the container's loopback to the host's: none unless told.
    fn add_outwards(&self, ports: &mut Ports) -> Result<(), PastaError> {
        for (id, option, protocol) in
            [(Id::TcpNs, "tcp-ns", Protocol::Tcp), (Id::UdpNs, "udp-ns", Protocol::Udp)]
        {
            for text in self.all(id) {
                let invalid = |source| PastaError::Ports { option, text: text.to_owned(), source };
                let Some(spec) = ports::parse(text).map_err(invalid)? else { continue };
                if self.last(Id::Fd).is_some() {
                    return Err(PastaError::FdOutwards(option));
                }
                ports::add_outwards(spec, protocol, ports).map_err(invalid)?;
            }
        }
        Ok(())
    }

    fn process(&self, job: &Job) -> Result<Process, PastaError> {
        let level = if self.has(Id::Trace) {
            log::LevelFilter::Trace
        } else if self.has(Id::Debug) {
            log::LevelFilter::Debug
        } else if self.has(Id::Quiet) {
            log::LevelFilter::Warn
        } else {
            log::LevelFilter::Info
        };
        Ok(Process {
            pid_file: self.read(Id::Pid, "pid", values::output)?,
            pcap: self.read(Id::Pcap, "pcap", values::output)?,
            log_file: self.read(Id::LogFile, "log-file", values::output)?,
            detach: matches!(job, Job::Attach(_)) && !self.has(Id::Foreground),
            log_level: LogLevel(level),
            ..Process::default()
        })
    }
}

/// The options that take an address.
fn addressed(id: Id) -> Option<&'static str> {
    Some(match id {
        Id::Address => "address",
        Id::Gateway => "gateway",
        Id::DnsForward => "dns-forward",
        Id::DnsHost => "dns-host",
        Id::MapHostLoopback => "map-host-loopback",
        Id::MapGuestAddr => "map-guest-addr",
        Id::Outbound => "outbound",
        _ => return None,
    })
}

fn prefix_len(text: &str, address: IpAddr, length: &str) -> Result<u8, PastaError> {
    let most = if address.is_ipv4() { 32 } else { 128 };
    let bits = Some(length).filter(|length| values::is_digits(length));
    bits.and_then(|bits| bits.parse().ok())
        .filter(|bits| (1..=most).contains(bits))
        .ok_or_else(|| PastaError::PrefixLength(text.to_owned(), most))
}

/// A namespace by its path, or by its name in a directory.
fn named(directory: &str, name: &str) -> PathBuf {
    if name.contains('/') { name.into() } else { Path::new(directory).join(name) }
}

fn text(word: &OsString) -> Result<&str, PastaError> {
    word.to_str().ok_or_else(|| PastaError::NotUtf8(word.to_string_lossy().into_owned()))
}

/// What the program is called.
const NAMES: [&str; 2] = ["pasta", "pasta.avx2"];
/// Options that nobody means who does not mean pasta. `--quiet` or `--gateway` might be a guess at
/// what rnsnet has.
const MARKS: [&str; 12] = [
    "config-net",
    "ns-ifname",
    "ns-mac-addr",
    "dns-forward",
    "map-guest-addr",
    "map-host-loopback",
    "no-map-gw",
    "host-lo-to-ns-lo",
    "tcp-ports",
    "udp-ports",
    "tcp-ns",
    "udp-ns",
];

const HELP: &str = "\
Usage: pasta [OPTION]... [COMMAND [ARG]...]
       pasta [OPTION]... PID
       pasta [OPTION]... --netns PATH|NAME

rnsnet, called as pasta: gives a network namespace a way out, without root, by a
TAP device in it that has the host's own addresses. Without PID and --netns it
makes namespaces and runs COMMAND, or a shell, in them.

Process:
  -f, --foreground         stay in the foreground; without it, pasta returns as
                           soon as the network works
  -P, --pid=FILE           write the process id there
  -q, --quiet              warnings and errors alone
  -d, --debug              say more; --trace says most
  -l, --log-file=FILE      write messages there
  -p, --pcap=FILE          capture every frame
  -h, --help               print this help
      --version            print the version
Namespace:
      --netns=PATH|NAME    network namespace, by path or in /run/netns
      --userns=PATH|NAME   user namespace to enter first (default: the one that
                           owns the network namespace)
      --no-netns-quit      go on when the namespace is gone
  -F, --fd=FD              the descriptor of a TAP instead of a namespace
Interface:
      --config-net         bring it up, with addresses and routes
  -I, --ns-ifname=NAME     its name (default: as the host's, or tap0)
      --ns-mac-addr=MAC    its hardware address
  -M, --mac-addr=MAC       the hardware address of everybody else on its link
  -m, --mtu=MTU            68 to 65520, or 0 for the kernel's (default: 65520)
  -i, --interface=NAME     the host's interface to copy addresses and routes
                           from (default: that of the default route)
  -a, --address=ADDR[/LEN] its address, once for each family (default: all those
                           of the host's interface)
  -n, --netmask=MASK|LEN   its IPv4 prefix
  -g, --gateway=ADDR       its router (default: all routes of the host's
                           interface)
      --no-copy-addrs      the first address of the host's interface alone
      --no-copy-routes     a default route alone
  -4, --ipv4-only
  -6, --ipv6-only
What addresses mean:
      --dns-forward=ADDR   queries to this address go to the host's resolvers
      --dns-host=ADDR      to this one instead (default: all of resolv.conf)
      --map-host-loopback=ADDR|none
                           this address is the host's 127.0.0.1 or ::1 (default:
                           the router's)
      --no-map-gw          the router is the router
      --map-guest-addr=ADDR|none
                           this address is the host's own, which is also the
                           container's
  -D, --dns=ADDR|none      DHCP and router advertisements name this resolver
                           (default: that of --dns-forward)
  -S, --search=LIST|none   and these domains (default: none)
      --dhcp-dns --no-dhcp-dns --dhcp-search --no-dhcp-search
                           they do, or do not
  -o, --outbound=ADDR      local address of what is sent
      --outbound-if4=NAME  the host's interface that IPv4 leaves by, and the one
                           to copy from unless --interface is given
      --outbound-if6=NAME  the same for IPv6
Ports:
  -t, --tcp-ports=SPEC     TCP from the host to the container (default: auto)
  -u, --udp-ports=SPEC     UDP from the host to the container (default: auto)
  -T, --tcp-ns=SPEC        TCP from the container's loopback to the host's
                           (default: none)
  -U, --udp-ns=SPEC        UDP from the container's loopback to the host's
      --host-lo-to-ns-lo   clients on the host's loopback are led to the
                           container's, not to its address
      --freebind           bind addresses that are not there yet, too
  SPEC is none, or [ADDR/] or [%IFACE/] and a list, with commas, of
    22, 8000-8010          these ports
    8080:80, 8000-8010:80-90
                           other ports in the container
    ~25, ~1-1023           but not these
    auto                   those on which the container listens, as it does; for
                           -T and -U, the host's loopback
    all                    the same
Off:
      --no-tcp --no-udp --no-icmp --no-ndp --no-ra --no-dhcp --no-dhcpv6
";

#[cfg(test)]
mod tests;
