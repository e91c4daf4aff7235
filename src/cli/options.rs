//! The table of the main job's options, what argh makes of them, and what an option is.
//!
//! `OPTIONS` is the one definition: `argv` checks words against it, `help` prints it, and a test
//! holds it against the fields of `Given`, the strict argh parser. Values are still strings here;
//! `values` and `publish` give them their meaning. Verbs have tables of their own, in `verbs`.

use argh::FromArgs;

use crate::config::{Limits, Rate};

/// Which of the program's jobs an option is for, or a command line asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Job {
    /// `rnsnet PID`
    Attach,
    /// `rnsnet run CMD`
    Run,
    /// `rnsnet VERB`; the verb's own table says which options there are.
    Verb,
}

/// Where an option may be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scope {
    Both,
    Only(Job),
}

/// What follows an option.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Nothing.
    Switch,
    /// A value; the string is its name in the help.
    Value(&'static str),
    /// A value, and the option may be repeated.
    List(&'static str),
    /// Nothing, and the help is all that happens.
    Help,
    /// Nothing, and the version is all that happens.
    Version,
}

/// The headings of the help, in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Group {
    Ports,
    Network,
    Names,
    Namespace,
    Process,
    Diagnosis,
    /// Of a verb, whose options have one heading.
    Verb,
}

/// One option.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct OptionSpec {
    /// The long name with its dashes.
    pub(crate) long: &'static str,
    pub(crate) short: Option<char>,
    pub(crate) kind: Kind,
    pub(crate) scope: Scope,
    pub(crate) group: Group,
    /// Means nothing, and is refused, under `--network none`.
    pub(crate) needs_interface: bool,
    /// The help, one paragraph without a line break.
    pub(crate) help: &'static str,
}

/// What argh found: every option's text, and the words that are no options.
///
/// The field comments satisfy argh; nobody reads them, the help comes from `OPTIONS`.
#[derive(Debug, Default, PartialEq, Eq, FromArgs)]
#[cfg_attr(test, derive(argh::ArgsInfo))]
#[argh(help_triggers("--help"))]
/// words of one rnsnet command line
pub(crate) struct Given {
    /// forwarded host ports
    #[argh(option)]
    pub(crate) publish: Vec<String>,
    /// every exposed port
    #[argh(switch)]
    pub(crate) publish_all: bool,
    /// ports that are exposed
    #[argh(option)]
    pub(crate) expose: Vec<String>,
    /// where host ports come from
    #[argh(option)]
    pub(crate) publish_range: Option<String>,
    /// addresses of ports that name none
    #[argh(option)]
    pub(crate) default_bind: Option<String>,
    /// addresses may be absent
    #[argh(switch)]
    pub(crate) freebind: bool,
    /// from loopback to loopback
    #[argh(switch)]
    pub(crate) publish_loopback: bool,
    /// local addresses of what is sent
    #[argh(option)]
    pub(crate) outbound_addr: Vec<String>,
    /// interface of what is sent
    #[argh(option)]
    pub(crate) outbound_if: Option<String>,
    /// loopback services of the host
    #[argh(option)]
    pub(crate) host_access: Option<String>,
    /// what is allowed at all
    #[argh(option)]
    pub(crate) egress: Option<String>,
    /// what may be reached
    #[argh(option)]
    pub(crate) allow: Vec<String>,
    /// what may not be reached
    #[argh(option)]
    pub(crate) deny: Vec<String>,
    /// DNS servers
    #[argh(option)]
    pub(crate) dns: Vec<String>,
    /// DNS servers of a domain
    #[argh(option)]
    pub(crate) dns_route: Vec<String>,
    /// search domains
    #[argh(option)]
    pub(crate) dns_search: Vec<String>,
    /// resolver options
    #[argh(option)]
    pub(crate) dns_opt: Vec<String>,
    /// DNS inside the container
    #[argh(option)]
    pub(crate) dns_listen: Option<String>,
    /// a resolv.conf to write
    #[argh(option)]
    pub(crate) write_resolv_conf: Option<String>,
    /// a hosts file to write
    #[argh(option)]
    pub(crate) write_hosts: Option<String>,
    /// memory for answers
    #[argh(option)]
    pub(crate) dns_cache: Option<String>,
    /// fixed names
    #[argh(option)]
    pub(crate) add_host: Vec<String>,
    /// network
    #[argh(option)]
    pub(crate) network: Vec<String>,
    /// interface name
    #[argh(option)]
    pub(crate) ifname: Option<String>,
    /// hardware address
    #[argh(option)]
    pub(crate) mac: Option<String>,
    /// IPv4 address
    #[argh(option)]
    pub(crate) ip: Option<String>,
    /// IPv4 prefix
    #[argh(option)]
    pub(crate) cidr: Option<String>,
    /// IPv6 address
    #[argh(option)]
    pub(crate) ip6: Option<String>,
    /// IPv6 prefix
    #[argh(option)]
    pub(crate) cidr6: Option<String>,
    /// no IPv6
    #[argh(switch)]
    pub(crate) no_ipv6: bool,
    /// broadcast
    #[argh(switch)]
    pub(crate) allow_broadcast: bool,
    /// multicast DNS
    #[argh(switch)]
    pub(crate) mdns: bool,
    /// groups
    #[argh(option)]
    pub(crate) relay: Vec<String>,
    /// MTU
    #[argh(option)]
    pub(crate) mtu: Option<String>,
    /// how much each second
    #[argh(option)]
    pub(crate) rate: Option<String>,
    /// offloads
    #[argh(option)]
    pub(crate) offload: Option<String>,
    /// pid, path or tapfd
    #[argh(option)]
    pub(crate) netns_type: Option<String>,
    /// user namespace
    #[argh(option)]
    pub(crate) userns_path: Option<String>,
    /// host name
    #[argh(option)]
    pub(crate) hostname: Option<String>,
    /// background
    #[argh(switch)]
    pub(crate) detach: bool,
    /// ready descriptor
    #[argh(option)]
    pub(crate) ready_fd: Option<String>,
    /// exit descriptor
    #[argh(option)]
    pub(crate) exit_fd: Option<String>,
    /// name
    #[argh(option)]
    pub(crate) name: Option<String>,
    /// pid file
    #[argh(option)]
    pub(crate) pid_file: Option<String>,
    /// capture file
    #[argh(option)]
    pub(crate) pcap: Option<String>,
    /// log level
    #[argh(option)]
    pub(crate) log_level: Option<String>,
    /// other bounds
    #[argh(option)]
    pub(crate) limit: Vec<String>,
    /// no sandbox
    #[argh(switch)]
    pub(crate) no_sandbox: bool,
    /// no seccomp
    #[argh(switch)]
    pub(crate) no_seccomp: bool,
    /// the words that are no options
    #[argh(positional)]
    pub(crate) words: Vec<String>,
}

impl Scope {
    pub(crate) fn covers(self, job: Job) -> bool {
        match self {
            Self::Both => true,
            Self::Only(only) => only == job,
        }
    }
}

impl Group {
    pub(crate) const ALL: [Self; 7] = [
        Self::Ports,
        Self::Network,
        Self::Names,
        Self::Namespace,
        Self::Process,
        Self::Diagnosis,
        Self::Verb,
    ];

    pub(crate) fn heading(self) -> &'static str {
        match self {
            Self::Ports => "Ports",
            Self::Network => "Network",
            Self::Names => "Names",
            Self::Namespace => "Namespace",
            Self::Process => "Process",
            Self::Diagnosis => "Diagnosis and help",
            Self::Verb => "Options",
        }
    }
}

impl OptionSpec {
    /// The name of its value, if it takes one.
    pub(crate) fn value(&self) -> Option<&'static str> {
        match self.kind {
            Kind::Value(name) | Kind::List(name) => Some(name),
            Kind::Switch | Kind::Help | Kind::Version => None,
        }
    }
}

const ATTACH: Scope = Scope::Only(Job::Attach);
const RUN: Scope = Scope::Only(Job::Run);

/// What most options are; the table names what differs.
const PLAIN: OptionSpec = OptionSpec {
    long: "",
    short: None,
    kind: Kind::Switch,
    scope: Scope::Both,
    group: Group::Network,
    needs_interface: false,
    help: "",
};

/// What an option of a verb is.
pub(crate) const VERB: OptionSpec = OptionSpec { group: Group::Verb, ..PLAIN };

/// The one option that everything has.
pub(crate) const HELP: OptionSpec = OptionSpec {
    long: "--help",
    short: Some('h'),
    kind: Kind::Help,
    help: "Print this help.",
    ..VERB
};

/// What an option of the container's link is.
const LINK: OptionSpec = OptionSpec { needs_interface: true, ..PLAIN };

/// What the container may reach outside, if nothing else is said.
pub(crate) const EGRESS: OptionSpec = OptionSpec {
    long: "--egress",
    kind: Kind::Value("allow|deny"),
    help: "What the container may reach outside where no --allow or --deny is about it. Default: \
           allow.",
    ..LINK
};

/// What it may reach.
pub(crate) const ALLOW: OptionSpec = OptionSpec {
    long: "--allow",
    kind: Kind::List("RULE"),
    help: "Let the container reach [tcp:|udp:]TO[:PORT[-END]], where TO is an address, a prefix, a \
           NAME, *.NAME, private, internet or any; tcp:443 is a port anywhere. icmp is pings, dns to \
           look up any name. Of all --allow and --deny the last that is about something decides. \
           May be repeated.",
    ..LINK
};

/// What it may not reach.
pub(crate) const DENY: OptionSpec = OptionSpec {
    long: "--deny",
    kind: Kind::List("RULE"),
    help: "Keep the container from reaching what a RULE says, as after --allow. It is told at once. \
           May be repeated.",
    ..LINK
};

/// Every option, in the order of the help.
pub(crate) const OPTIONS: &[OptionSpec] = &[
    OptionSpec {
        long: "--publish",
        short: Some('p'),
        kind: Kind::List("SPEC"),
        group: Group::Ports,
        help: "Forward host ports into the container: [ADDR:|IFACE/|fd:N:][HOST[-END]:]CTR[-END], \
               then /tcp or /udp, then ,from=CIDR to let in nobody else. An IPv6 ADDR goes \
               in brackets; IFACE/ is every address that an interface has at any time; fd:N: is a \
               socket handed in, as by systemd. CTR alone and ADDR::CTR take a free host port. \
               8000-8010:9000-9010 is a range, 8000-8010:80 the first that is free. Without ADDR, \
               every address of both families. May be repeated.",
        ..LINK
    },
    OptionSpec {
        long: "--publish-all",
        short: Some('P'),
        group: Group::Ports,
        help: "Publish every --expose at a free host port of --publish-range.",
        ..LINK
    },
    OptionSpec {
        long: "--expose",
        kind: Kind::List("PORT"),
        group: Group::Ports,
        help: "A port for --publish-all: PORT[-END][/tcp|/udp]. May be repeated.",
        ..LINK
    },
    OptionSpec {
        long: "--publish-range",
        kind: Kind::Value("FIRST-LAST"),
        group: Group::Ports,
        help: "Host ports for --publish-all. Default: 49000-49900.",
        ..LINK
    },
    OptionSpec {
        long: "--default-bind",
        kind: Kind::Value("ADDR[,ADDR...]"),
        group: Group::Ports,
        help: "Addresses of published ports that name none, as 127.0.0.1,::1. Default: \
               $RNSNET_DEFAULT_BIND, or every address.",
        ..LINK
    },
    OptionSpec {
        long: "--freebind",
        group: Group::Ports,
        help: "Publish at addresses and interfaces that are not there yet, too.",
        ..LINK
    },
    OptionSpec {
        long: "--publish-loopback",
        group: Group::Ports,
        help: "Lead clients of published ports that are on the host's loopback to the container's: \
               to servers that listen on 127.0.0.1 alone, which see it as their client.",
        ..LINK
    },
    OptionSpec {
        long: "--host-access",
        kind: Kind::Value("WHAT"),
        group: Group::Ports,
        help: "Services on the host's loopback that the container reaches at the gateway's \
               address: none, all or PORT[,PORT...]. Default: none.",
        ..LINK
    },
    OptionSpec {
        long: "--network",
        kind: Kind::List("NET"),
        help: "default or bridge: a private network with a gateway; none: lo is brought up and \
               nothing else; a network's name, with NAME:KEY=VALUE,... for alias, ip, ip6, \
               link-local-ip, mac, ifname, gw-priority, rate-down and rate-up there. Default: default.",
        ..PLAIN
    },
    OptionSpec {
        long: "--outbound-addr",
        kind: Kind::List("ADDR"),
        help: "Local address of what the container sends, looked for when it sends. May be given \
               for IPv4 and for IPv6.",
        ..LINK
    },
    OptionSpec {
        long: "--outbound-if",
        kind: Kind::Value("IFACE"),
        help: "Interface by which everything leaves that the container sends; it may come and go.",
        ..LINK
    },
    OptionSpec {
        long: "--ifname",
        kind: Kind::Value("NAME"),
        help: "Name of the container's interface. Default: eth0.",
        ..LINK
    },
    OptionSpec {
        long: "--mac",
        kind: Kind::Value("MAC"),
        help: "Hardware address of the container. Default: 02:72 and the four bytes of its IPv4 \
               address.",
        ..LINK
    },
    OptionSpec {
        long: "--ip",
        kind: Kind::Value("ADDR"),
        help: "IPv4 address of the container. Default: address 100 of the prefix.",
        ..LINK
    },
    OptionSpec {
        long: "--cidr",
        kind: Kind::Value("PREFIX"),
        help: "IPv4 prefix of the network; its address 2 is the gateway and 3 the DNS server. \
               Default: 10.0.2.0/24, or the /24 that --ip is in.",
        ..LINK
    },
    OptionSpec {
        long: "--ip6",
        kind: Kind::Value("ADDR"),
        help: "IPv6 address of the container. Default: address ::100 of the prefix.",
        ..LINK
    },
    OptionSpec {
        long: "--cidr6",
        kind: Kind::Value("PREFIX"),
        help: "IPv6 prefix of the network, a /64. Default: fd72:6e73:6e65::/64, or that of --ip6.",
        ..LINK
    },
    OptionSpec { long: "--no-ipv6", help: "IPv4 only.", ..LINK },
    OptionSpec {
        long: "--allow-broadcast",
        help: "Let datagrams to broadcast addresses out to the host's networks, as Wake-on-LAN \
               needs it. Default: they are dropped.",
        ..LINK
    },
    OptionSpec {
        long: "--mdns",
        help: "Let the container find what the host's networks announce by multicast DNS (Bonjour), \
               and announce its published services there, with the host's address and port.",
        ..LINK
    },
    OptionSpec {
        long: "--relay",
        kind: Kind::List("GROUP:PORT"),
        help: "Relay datagrams between this multicast group on the host's networks and the \
               container; also ssdp (UPnP) or wsd (WS-Discovery). May be repeated.",
        ..LINK
    },
    OptionSpec {
        long: "--mtu",
        kind: Kind::Value("BYTES"),
        help: "MTU of the container's interface, 1280 to 65520. Default: 1500.",
        ..LINK
    },
    EGRESS,
    ALLOW,
    DENY,
    OptionSpec { kind: Kind::Value("RATE"), help: Rate::HELP, long: "--rate", ..LINK },
    OptionSpec {
        long: "--offload",
        kind: Kind::Value("MODE"),
        help: "auto: checksums and segmentation are left to the other side where the kernel can; \
               off: plain frames. Default: auto.",
        ..LINK
    },
    OptionSpec {
        long: "--dns",
        kind: Kind::List("SERVER"),
        group: Group::Names,
        help: "Ask this DNS server instead of the host's: ADDR, ADDR:PORT or [IPV6]:PORT, with \
               %INTERFACE behind a link-local address. May be repeated.",
        ..LINK
    },
    OptionSpec {
        long: "--dns-route",
        kind: Kind::List("DOMAIN=SERVER"),
        group: Group::Names,
        help: "Ask this server for the names of a domain. The longest domain counts. May be \
               repeated.",
        ..LINK
    },
    OptionSpec {
        long: "--dns-search",
        kind: Kind::List("DOMAIN"),
        group: Group::Names,
        help: "Domain in which the container looks for short names: in the resolv.conf of rnsnet \
               run, and by DHCP. May be repeated.",
        ..LINK
    },
    OptionSpec {
        long: "--dns-opt",
        kind: Kind::List("OPTION"),
        group: Group::Names,
        help: "Option for the resolv.conf of rnsnet run or --write-resolv-conf, as in ndots:2. May \
               be repeated.",
        ..LINK
    },
    OptionSpec {
        long: "--write-resolv-conf",
        kind: Kind::Value("FILE"),
        scope: ATTACH,
        group: Group::Names,
        help: "Write a resolv.conf for the container to FILE, to be mounted there.",
        ..LINK
    },
    OptionSpec {
        long: "--write-hosts",
        kind: Kind::Value("FILE"),
        scope: ATTACH,
        group: Group::Names,
        help: "Write a hosts file for the container to FILE, with its addresses by its --name.",
        ..LINK
    },
    OptionSpec {
        long: "--dns-listen",
        kind: Kind::Value("ADDR"),
        group: Group::Names,
        help: "Answer DNS at this address of the container's own loopback too, as Docker does at \
               127.0.0.11.",
        ..LINK
    },
    OptionSpec {
        long: "--dns-cache",
        kind: Kind::Value("KIB"),
        group: Group::Names,
        help: "Memory for DNS answers, 0 to 65536; 0 keeps none. Default: 256.",
        ..LINK
    },
    OptionSpec {
        long: "--add-host",
        kind: Kind::List("NAME:ADDR"),
        group: Group::Names,
        help: "A name and its address, or host-gateway for the gateway's; *.NAME is every name \
               below NAME. May be repeated.",
        ..LINK
    },
    OptionSpec {
        long: "--netns-type",
        kind: Kind::Value("TYPE"),
        scope: ATTACH,
        group: Group::Namespace,
        help: "What the first argument is: pid, path, or tapfd for the inherited descriptor of a \
               TAP, which whoever made it configures. Default: pid if it is all digits, otherwise \
               path.",
        ..PLAIN
    },
    OptionSpec {
        long: "--userns-path",
        kind: Kind::Value("PATH"),
        scope: ATTACH,
        group: Group::Namespace,
        help: "User namespace to enter first, for a network namespace given by path. Default: the \
               one that owns it.",
        ..PLAIN
    },
    OptionSpec {
        long: "--hostname",
        kind: Kind::Value("NAME"),
        scope: RUN,
        group: Group::Namespace,
        help: "Host name inside. Default: the host's.",
        ..PLAIN
    },
    OptionSpec {
        long: "--detach",
        short: Some('d'),
        scope: ATTACH,
        group: Group::Process,
        help: "Go to the background once the network works.",
        ..PLAIN
    },
    OptionSpec {
        long: "--ready-fd",
        short: Some('r'),
        kind: Kind::Value("FD"),
        group: Group::Process,
        help: "Write the byte 1 to this inherited descriptor once the network works.",
        ..PLAIN
    },
    OptionSpec {
        long: "--exit-fd",
        short: Some('e'),
        kind: Kind::Value("FD"),
        group: Group::Process,
        help: "End when the other side of this inherited descriptor is closed.",
        ..PLAIN
    },
    OptionSpec {
        long: "--name",
        short: Some('n'),
        kind: Kind::Value("NAME"),
        group: Group::Process,
        help: "What rnsnet ps and the other verbs call the container. Default: ns- and the inode \
               of its network namespace.",
        ..PLAIN
    },
    OptionSpec {
        long: "--pid-file",
        kind: Kind::Value("FILE"),
        group: Group::Process,
        help: "Keep the process id in FILE while rnsnet runs.",
        ..PLAIN
    },
    OptionSpec {
        long: "--limit",
        kind: Kind::List("NAME=N"),
        group: Group::Process,
        help: Limits::HELP,
        ..LINK
    },
    OptionSpec {
        long: "--pcap",
        kind: Kind::Value("FILE"),
        group: Group::Diagnosis,
        help: "Write every frame of the container's interface to FILE, for tcpdump or Wireshark.",
        ..LINK
    },
    OptionSpec {
        long: "--log-level",
        kind: Kind::Value("LEVEL"),
        group: Group::Diagnosis,
        help: "error, warn, info, debug or trace. Default: info.",
        ..PLAIN
    },
    OptionSpec {
        long: "--no-sandbox",
        kind: Kind::Switch,
        group: Group::Diagnosis,
        help: "Do not restrict files (own root directory, Landlock) and system calls (seccomp), to find a fault.",
        ..PLAIN
    },
    OptionSpec {
        long: "--no-seccomp",
        kind: Kind::Switch,
        group: Group::Diagnosis,
        help: "Do not restrict system calls, to find one that the list lacks.",
        ..PLAIN
    },
    OptionSpec { group: Group::Diagnosis, ..HELP },
    OptionSpec {
        long: "--version",
        short: Some('V'),
        kind: Kind::Version,
        group: Group::Diagnosis,
        help: "Print the version.",
        ..PLAIN
    },
];

/// Whether there is an option that is spelt so, dashes and all.
pub(super) fn is_option(word: &str) -> bool {
    let is_letter = |letter| word.strip_prefix('-').is_some_and(|word| word.chars().eq([letter]));
    OPTIONS.iter().any(|option| option.long == word || option.short.is_some_and(is_letter))
}

#[cfg(test)]
mod tests {
    use super::*;
    use argh::ArgsInfo as _;
    use std::collections::BTreeSet;

    /// The parser's options, straight from argh.
    fn of_argh() -> BTreeSet<String> {
        let flags = Given::get_args_info().flags;
        flags.iter().map(|flag| flag.long.to_owned()).filter(|long| long != "--help").collect()
    }

    #[test]
    fn table_and_parser_know_the_same_options() {
        let of_table: BTreeSet<String> = OPTIONS
            .iter()
            .filter(|option| !matches!(option.kind, Kind::Help | Kind::Version))
            .map(|option| option.long.to_owned())
            .collect();
        assert_eq!(of_argh(), of_table);
    }

    #[test]
    fn table_and_parser_agree_on_values() {
        for option in OPTIONS {
            let args: &[&str] = match option.kind {
                Kind::Help | Kind::Version => continue,
                Kind::Switch => &[option.long],
                Kind::Value(_) => &[option.long, "--"],
                Kind::List(_) => &[option.long, "--", option.long, "-x"],
            };
            let given = Given::from_args(&["rnsnet"], args).expect(option.long);
            assert!(given.words.is_empty(), "{}", option.long);
            assert_ne!(given, Given::default(), "{}", option.long);
        }
    }

    #[test]
    fn no_name_is_there_twice() {
        let longs: BTreeSet<_> = OPTIONS.iter().map(|option| option.long).collect();
        let shorts: Vec<_> = OPTIONS.iter().filter_map(|option| option.short).collect();
        assert_eq!(longs.len(), OPTIONS.len());
        assert_eq!(shorts.iter().collect::<BTreeSet<_>>().len(), shorts.len());
    }
}
