//! The bounds of a network: how much of each thing there is at the most, and what happens then.
//!
//! One table: `--limit` and `--opt limit.NAME=` are read against it, the help and the manual page
//! print it, docs/security.md has it word for word (a test compares them), and every bound that is
//! met is counted under its name (`limit.NAME`). What is not in it is not to be changed, and is a
//! constant beside its use.

use std::fmt;

/// One row of the table.
#[derive(Debug)]
pub struct Bound {
    /// What it is called.
    pub name: &'static str,
    /// What it is unless told.
    pub default: u32,
    /// What it may be.
    pub range: (u32, u32),
    /// What of.
    pub what: &'static str,
    /// What happens when so many are there.
    pub then: &'static str,
}

macro_rules! limits {
    ($($(#[doc = $doc:literal])* $limit:ident $name:literal = $default:literal
        ($least:literal to $most:literal) $what:literal => $then:literal,)+) => {
        /// Which bound.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Limit {
            $(#[doc = $what] $(#[doc = $doc])* $limit,)+
        }

        impl Limit {
            /// How many there are.
            pub const COUNT: usize = Limits::TABLE.len();
        }

        impl Limits {
            /// Every bound, in the order of [`Limit`].
            pub const TABLE: &[Bound] = &[$(Bound {
                name: $name,
                default: $default,
                range: ($least, $most),
                what: $what,
                then: $then,
            },)+];

            /// What applies unless told.
            pub const DEFAULT: Self = Self([$($default),+]);

            /// Names with their defaults, for the help.
            pub const HELP: &str = concat!(
                "Another bound than the usual one, of: ",
                $($name, "=", $default, ", ",)+
                "where an -each of 0 is a quarter. rnsnet(1) says what each is of, and from where to where it goes. May be repeated."
            );
        }
    };
}

limits! {
    Tcp "tcp" = 16384 (1 to 262144)
        "TCP connections" => "a new one is reset",
    TcpEach "tcp-each" = 0 (0 to 262144)
        "the same of one container beside others; 0 is a quarter of tcp"
        => "a new one of its is reset",
    Opening "opening" = 4096 (1 to 65536)
        "TCP connections out whose handshake is not over, on either side"
        => "the oldest is forgotten, of the container that has most: its SYN comes again, or it is reset",
    OpeningEach "opening-each" = 0 (0 to 65536)
        "the same of one container beside others; 0 is a quarter of opening"
        => "its oldest is forgotten",
    Calling "calling" = 4096 (1 to 65536)
        "clients of published ports that their container has not accepted yet"
        => "the oldest is reset, of the container that has most",
    Memory "memory" = 480 (1 to 65536)
        "MiB for the buffers of TCP connections; beyond half of it new ones have smaller buffers"
        => "buffers do not grow any more, a new connection is reset",
    Udp "udp" = 4096 (1 to 262144)
        "UDP conversations"
        => "the one that was silent longest ends, of the container that has most",
    UdpEach "udp-each" = 0 (0 to 262144)
        "the same of one container beside others; 0 is a quarter of udp"
        => "its own that was silent longest ends",
    Echo "echo" = 256 (1 to 65536)
        "pings by address and identifier"
        => "the one that was silent longest ends, of the container that has most",
    EchoEach "echo-each" = 0 (0 to 65536)
        "the same of one container beside others; 0 is a quarter of echo"
        => "its own that was silent longest ends",
    Dns "dns" = 1024 (1 to 65536)
        "DNS queries that wait for a server"
        => "the oldest fails, of the container that has most",
    DnsLog "dns-log" = 256 (0 to 4096)
        "answers to DNS queries that are remembered for rnsnet dns log"
        => "the oldest is forgotten, of the container that has most",
    Fragments "fragments" = 32 (1 to 4096)
        "datagrams of 64 KiB at most that are put together from fragments"
        => "the oldest is dropped, of the container that has most",
    Waiting "waiting" = 4 (1 to 1024)
        "MiB of frames that wait for their TAP or their rate; what TCP sends by itself may be twice as much"
        => "a datagram or an answer is dropped, of the container that has most",
    Storm "storm" = 1000 (1 to 1000000)
        "frames for everybody of one container each second, and as many at once"
        => "another is dropped",
    Groups "groups" = 64 (0 to 4096)
        "multicast groups of one container"
        => "others are not joined",
    Containers "containers" = 1024 (1 to 1024)
        "containers of a named network, and so hardware and IP addresses that are known"
        => "one more is refused",
    Elsewhere "elsewhere" = 1024 (1 to 65536)
        "hardware addresses behind one other host of a network that spans several"
        => "one more is not known: what is for it goes by the IP address within",
    Clients "clients" = 256 (1 to 256)
        "clients of the control socket; slirp4netns's API socket always has 16"
        => "the one goes that owes us an answer longest; others wait",
    Descriptors "descriptors" = 1048576 (64 to 1048576)
        "descriptors, if the system allows so many; a quarter, 128 at most, is kept for DNS and control"
        => "a new connection or a further published port is refused, and clients of published ports wait",
    Log "log" = 2 (1 to 1000)
        "warnings in the log each second, after 50 at once"
        => "they are left out, and their number is told",
}

/// The bounds of one network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits([u32; Limit::COUNT]);

/// A bound that cannot be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs)] // the messages say it
pub enum LimitError {
    #[error("expected NAME=NUMBER")]
    Syntax,
    #[error("there is no such bound: there are {}", Names)]
    Unknown,
    #[error("{name}: expected a number from {least} to {most}")]
    Range { name: &'static str, least: u32, most: u32 },
    #[error("{name} is of named networks: rnsnet network create --opt limit.{name}=N")]
    OfNetworks { name: &'static str },
}

/// How many entries of a table there may be.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Room {
    /// Of all containers together.
    pub(crate) all: usize,
    /// Of one container.
    pub(crate) each: usize,
}

impl Limit {
    /// What it is called.
    #[must_use]
    pub fn name(self) -> &'static str {
        Limits::TABLE.get(self as usize).map_or("", |bound| bound.name)
    }
}

impl Limits {
    /// How many there may be.
    #[must_use]
    pub const fn get(&self, limit: Limit) -> usize {
        // At most 65,536 MiB are no more than 32 bits can count, of whatever unit.
        self.0[limit as usize] as usize
    }

    /// Changes one.
    ///
    /// # Errors
    /// Names and numbers that are not in the table.
    pub fn set(&mut self, name: &str, number: &str) -> Result<(), LimitError> {
        let row = Self::TABLE.iter().position(|bound| bound.name == name);
        let row = row.ok_or(LimitError::Unknown)?;
        let Some((Bound { name, range: (least, most), .. }, value)) =
            Self::TABLE.get(row).zip(self.0.get_mut(row))
        else {
            return Err(LimitError::Unknown);
        };
        let digits = number.bytes().all(|byte| byte.is_ascii_digit());
        let number = number.parse().ok().filter(|n| digits && (least..=most).contains(&n));
        *value = number.ok_or(LimitError::Range { name, least: *least, most: *most })?;
        Ok(())
    }

    /// Changes one as typed after `--limit`: for the network of a single container.
    ///
    /// # Errors
    /// As [`Limits::set`], and bounds that mean nothing there.
    pub fn read(&mut self, text: &str) -> Result<(), LimitError> {
        let (name, number) = text.split_once('=').ok_or(LimitError::Syntax)?;
        self.set(name, number)?;
        match [Limit::Containers, Limit::Groups, Limit::Storm, Limit::Elsewhere]
            .iter()
            .find(|limit| limit.name() == name)
        {
            Some(limit) => Err(LimitError::OfNetworks { name: limit.name() }),
            None => Ok(()),
        }
    }

    /// Room for all, and for each of several containers; one that is alone has it all.
    pub(crate) fn room(&self, all: Limit, each: Limit, alone: bool) -> Room {
        let all = self.get(all);
        let each = match self.get(each) {
            0 if alone => all,
            0 => (all / 4).max(1),
            each => each.min(all),
        };
        Room { all, each }
    }

    /// The buffers of TCP connections, in bytes.
    #[must_use]
    pub(crate) const fn memory(&self) -> usize {
        self.get(Limit::Memory).saturating_mul(1 << 20)
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self::DEFAULT
    }
}

/// The names of all, for a message.
struct Names;

impl fmt::Display for Names {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, bound) in Limits::TABLE.iter().enumerate() {
            write!(f, "{}{}", if index == 0 { "" } else { ", " }, bound.name)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_and_names_are_in_one_order() {
        assert_eq!(Limit::Tcp.name(), "tcp");
        assert_eq!(Limit::Log.name(), "log");
        assert_eq!(Limit::Log as usize + 1, Limit::COUNT);
        for Bound { name, default, range: (least, most), .. } in Limits::TABLE {
            assert!((least..=most).contains(&default), "{name}");
        }
    }

    #[test]
    fn what_is_typed_is_what_applies() {
        let mut limits = Limits::default();
        limits.read("tcp=100").unwrap();
        limits.read("udp-each=7").unwrap();
        assert_eq!(limits.get(Limit::Tcp), 100);
        let room = limits.room(Limit::Tcp, Limit::TcpEach, false);
        assert_eq!((room.all, room.each), (100, 25));
        assert_eq!(limits.room(Limit::Tcp, Limit::TcpEach, true).each, 100);
        assert_eq!(limits.room(Limit::Udp, Limit::UdpEach, true).each, 7);
        for (text, message) in [
            ("tcp", "expected NAME=NUMBER"),
            ("tcp=", "tcp: expected a number from 1 to 262144"),
            ("tcp=0", "tcp: expected a number from 1 to 262144"),
            ("tcp=+5", "tcp: expected a number from 1 to 262144"),
            ("memory=99999999999", "memory: expected a number from 1 to 65536"),
            ("groups=5", "groups is of named networks: rnsnet network create --opt limit.groups=N"),
        ] {
            assert_eq!(limits.read(text).unwrap_err().to_string(), message, "{text}");
        }
        let unknown = limits.read("frames=5").unwrap_err().to_string();
        assert!(
            unknown.starts_with("there is no such bound: there are tcp, tcp-each,"),
            "{unknown}"
        );
    }

    /// The table of docs/security.md; `UPDATE_GOLDEN=1` writes it there.
    #[test]
    fn the_documentation_has_the_table() {
        let file = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/security.md");
        let text = std::fs::read_to_string(file).unwrap();
        let head = "| bound | unless told | of | when it is met |\n|---|---|---|---|\n";
        let (before, rest) = text.split_once(head).expect("a table of bounds");
        let end = rest.find("\n\n").map_or(rest.len(), |end| end + 1);
        let (found, after) = rest.split_at(end);
        let mut table = String::new();
        for Bound { name, default, what, then, .. } in Limits::TABLE {
            table.push_str(&format!("| `{name}` | {default} | {what} | {then} |\n"));
        }
        if std::env::var_os("UPDATE_GOLDEN").is_some() {
            std::fs::write(file, format!("{before}{head}{table}{after}")).unwrap();
        } else {
            assert_eq!(found, table, "UPDATE_GOLDEN=1 cargo test --lib limits writes it");
        }
    }
}
