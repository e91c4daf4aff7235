//! Which frames a capture keeps: a part of the language of pcap-filter(7), without a compiler.
//!
//! [`Filter`] is read from an expression once and asked about every frame before it is copied. A
//! test that the frame is too short for refuses the frame, whatever `not` is before it, and of a
//! fragmented datagram only the first fragment has ports: both as libpcap has it, with which a test
//! compares it (tests/netns). What is not known here is refused by name, never left out.
//! Not here: names of hosts and services, `vlan`, and arithmetic as in `tcp[13] & 2 != 0`.
//! PURE: what it looks at comes from a container, so nothing here may panic.

#![warn(clippy::indexing_slicing, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::net::IpAddr;
use std::ops::RangeInclusive;

use crate::config::MacAddress;
use crate::network::leases::mac_address;
use crate::network::prefix::{Prefix, PrefixError};

/// An expression that has been understood.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Filter(Vec<Step>);

/// Why a text is no filter. Its Display does not name the text.
#[derive(Clone, PartialEq, Eq, thiserror::Error)]
pub enum FilterError {
    /// Nothing but blanks.
    #[error("it is empty")]
    Empty,
    /// A word that means nothing here.
    #[error("{0:?} is not known: there are {WORDS}")]
    Word(String),
    /// Something behind a condition that is over.
    #[error("{0:?} stands where and, or or the end should")]
    Operator(String),
    /// Words that are no condition together.
    #[error("{0} does not go with {1}")]
    Together(String, String),
    /// The wrong thing behind a word.
    #[error("{word} needs {needs}, not {found:?}")]
    Value {
        /// The word.
        word: String,
        /// What belongs behind it.
        needs: &'static str,
        /// What is there, or nothing at the end.
        found: String,
    },
    /// Not a prefix.
    #[error(transparent)]
    Prefix(#[from] PrefixError),
    /// Parentheses that do not match.
    #[error("a ( has no )")]
    Open,
    /// An expression that would cost too much with every frame.
    #[error("it has more than {MAX_TESTS} conditions")]
    TooLong,
}

debug_as_display!(FilterError);

/// The words that begin a condition.
const WORDS: &str = "ip, ip6, arp, tcp, udp, icmp, icmp6, host, net, port, portrange, src, dst, \
                     ether host, less, greater, and, or, not and ( )";
/// The most conditions of one expression.
const MAX_TESTS: usize = 64;

const IPV4: u16 = 0x0800;
const ARP: u16 = 0x0806;
const RARP: u16 = 0x8035;
const IPV6: u16 = 0x86dd;
const ICMP: u8 = 1;
const TCP: u8 = 6;
const UDP: u8 = 17;
const IPV6_FRAGMENT: u8 = 44;
const ICMPV6: u8 = 58;
const SCTP: u8 = 132;

/// One step of the evaluation, which knows one value: what held last.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Step {
    Test(Test),
    Not,
    /// `and` and `or`, which bind alike, from left to right: where the value is `when` already,
    /// what stands to the right is left out.
    Skip {
        when: bool,
        to: usize,
    },
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Test {
    Kind(u16),
    /// What IP carries, over the families by their EtherType.
    Carries(&'static [u16], u8),
    Address(Side, Option<u16>, Prefix),
    Ports(Side, &'static [u8], RangeInclusive<u16>),
    Ether(Side, MacAddress),
    Less(usize),
    Greater(usize),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Side {
    Source,
    Destination,
    Either,
    Both,
}

/// The words before an address or a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Words<'a> {
    protocol: Option<&'a str>,
    side: Side,
    of: Of,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Of {
    Host,
    Net,
    Port,
    PortRange,
}

impl Filter {
    /// Understands an expression.
    ///
    /// # Errors
    /// What it says that is not known here.
    pub fn parse(text: &str) -> Result<Self, FilterError> {
        Parser::new(text).parse()
    }

    /// Whether a frame, from its Ethernet header on, is what the expression is about.
    #[must_use]
    pub fn matches(&self, frame: &[u8]) -> bool {
        self.value(frame) == Some(true)
    }

    fn value(&self, frame: &[u8]) -> Option<bool> {
        let (mut value, mut at) = (false, 0);
        while let Some(step) = self.0.get(at) {
            at += 1;
            match step {
                Step::Test(test) => value = test.holds(frame)?,
                Step::Not => value = !value,
                Step::Skip { when, to } if *when == value => at = *to,
                Step::Skip { .. } => {}
            }
        }
        Some(value)
    }
}

impl Test {
    /// `None` where the frame ends before what it is about.
    fn holds(&self, frame: &[u8]) -> Option<bool> {
        match self {
            Self::Kind(kind) => Some(kind_of(frame)? == *kind),
            Self::Carries(families, protocol) => {
                let kind = kind_of(frame)?;
                Some(families.contains(&kind) && carries(frame, kind, *protocol)?)
            }
            Self::Address(side, only, prefix) => {
                let kind = kind_of(frame)?;
                let (source, destination) = match kind {
                    _ if only.is_some_and(|only| only != kind) => return Some(false),
                    IPV4 if prefix.is_v4() => (26, 30),
                    ARP | RARP if prefix.is_v4() => (28, 38),
                    IPV6 if !prefix.is_v4() => (22, 38),
                    _ => return Some(false),
                };
                side.holds(source, destination, |at| {
                    let address = match prefix.is_v4() {
                        true => IpAddr::from(bytes::<4>(frame, at)?),
                        false => IpAddr::from(bytes::<16>(frame, at)?),
                    };
                    Some(prefix.contains(address))
                })
            }
            Self::Ports(side, protocols, ports) => {
                let (protocol, at) = match kind_of(frame)? {
                    IPV6 => (byte(frame, 20)?, 54),
                    IPV4 => {
                        let protocol = byte(frame, 23)?;
                        if !protocols.contains(&protocol) || number(frame, 20)? & 0x1fff != 0 {
                            return Some(false);
                        }
                        (protocol, 14 + 4 * usize::from(byte(frame, 14)? & 0xf))
                    }
                    _ => return Some(false),
                };
                if !protocols.contains(&protocol) {
                    return Some(false);
                }
                side.holds(at, at + 2, |at| Some(ports.contains(&number(frame, at)?)))
            }
            Self::Ether(side, mac) => side.holds(6, 0, |at| Some(bytes(frame, at)? == mac.0)),
            Self::Less(length) => Some(frame.len() <= *length),
            Self::Greater(length) => Some(frame.len() >= *length),
        }
    }
}

impl Side {
    fn holds(
        self,
        source: usize,
        destination: usize,
        at: impl Fn(usize) -> Option<bool>,
    ) -> Option<bool> {
        match self {
            Self::Source => at(source),
            Self::Destination => at(destination),
            Self::Either => Some(at(source)? || at(destination)?),
            Self::Both => Some(at(source)? && at(destination)?),
        }
    }
}

fn bytes<const N: usize>(frame: &[u8], at: usize) -> Option<[u8; N]> {
    frame.get(at..)?.first_chunk().copied()
}

fn byte(frame: &[u8], at: usize) -> Option<u8> {
    frame.get(at).copied()
}

fn number(frame: &[u8], at: usize) -> Option<u16> {
    bytes(frame, at).map(u16::from_be_bytes)
}

fn kind_of(frame: &[u8]) -> Option<u16> {
    number(frame, 12)
}

/// Of IPv6's headers only the fragment's is looked behind, as libpcap does.
fn carries(frame: &[u8], kind: u16, protocol: u8) -> Option<bool> {
    if kind == IPV4 {
        return Some(byte(frame, 23)? == protocol);
    }
    let next = byte(frame, 20)?;
    Some(next == protocol || (next == IPV6_FRAGMENT && byte(frame, 54)? == protocol))
}

/// Reads an expression from left to right; what is open is a stack, so its depth costs no calls.
struct Parser<'a> {
    words: Vec<&'a str>,
    /// The next word.
    at: usize,
    steps: Vec<Step>,
    tests: usize,
    /// What an address or number without any word means: what the one before it did.
    last: Option<Words<'a>>,
}

/// What waits for a condition to be over.
#[derive(Default)]
struct Level {
    negated: bool,
    /// The step of the `and` or `or` before it.
    skip: Option<usize>,
}

impl<'a> Parser<'a> {
    fn new(text: &'a str) -> Self {
        let mut words = Vec::new();
        for mut word in text.split_whitespace() {
            while !word.is_empty() {
                let end = match word.find(['(', ')', '!', '&', '|']).unwrap_or(word.len()) {
                    0 if word.starts_with("&&") || word.starts_with("||") => 2,
                    0 => 1,
                    end => end,
                };
                let (head, rest) = word.split_at(end);
                words.push(head);
                word = rest;
            }
        }
        Self { words, at: 0, steps: Vec::new(), tests: 0, last: None }
    }

    fn parse(mut self) -> Result<Filter, FilterError> {
        if self.words.is_empty() {
            return Err(FilterError::Empty);
        }
        let mut open = Vec::new();
        let mut level = Level::default();
        loop {
            match self.peek() {
                "not" | "!" => {
                    self.at += 1;
                    level.negated = !level.negated;
                    continue;
                }
                "(" => {
                    self.at += 1;
                    open.push(std::mem::take(&mut level));
                    continue;
                }
                _ => {}
            }
            let Some(test) = self.condition()? else { continue };
            self.tests += 1;
            if self.tests > MAX_TESTS {
                return Err(FilterError::TooLong);
            }
            self.steps.push(Step::Test(test));
            self.close(std::mem::take(&mut level));
            loop {
                let word = self.peek();
                let when = match word {
                    "and" | "&&" => false,
                    "or" | "||" => true,
                    ")" => {
                        self.at += 1;
                        let Some(outer) = open.pop() else {
                            return Err(FilterError::Operator(word.to_owned()));
                        };
                        self.close(outer);
                        continue;
                    }
                    "" if open.is_empty() => return Ok(Filter(self.steps)),
                    "" => return Err(FilterError::Open),
                    other => return Err(FilterError::Operator(other.to_owned())),
                };
                self.at += 1;
                level.skip = Some(self.steps.len());
                self.steps.push(Step::Skip { when, to: 0 });
                break;
            }
        }
    }

    /// A condition, or all between two parentheses, is over.
    fn close(&mut self, level: Level) {
        if level.negated {
            self.steps.push(Step::Not);
        }
        let end = self.steps.len();
        if let Some(Step::Skip { to, .. }) = level.skip.and_then(|at| self.steps.get_mut(at)) {
            *to = end;
        }
    }

    /// The next word; empty at the end.
    fn peek(&self) -> &'a str {
        self.words.get(self.at).copied().unwrap_or_default()
    }

    /// Takes the next word if it has a meaning.
    fn take<T>(&mut self, meaning: impl Fn(&str) -> Option<T>) -> Option<T> {
        let found = meaning(self.peek());
        self.at += usize::from(found.is_some());
        found
    }

    /// `None` where its words are for all between the parentheses that follow.
    fn condition(&mut self) -> Result<Option<Test>, FilterError> {
        let first = self.peek();
        let protocol = match first {
            "ip" | "ip6" | "arp" | "tcp" | "udp" | "icmp" | "icmp6" | "ether" => Some(first),
            "less" | "greater" => {
                self.at += 1;
                let length = self.number(first, "a number of bytes")?;
                let test = if first == "less" { Test::Less } else { Test::Greater };
                return Ok(Some(test(length)));
            }
            _ => None,
        };
        self.at += usize::from(protocol.is_some());
        let side = self.take(|word| match word {
            "src" => Some(Side::Source),
            "dst" => Some(Side::Destination),
            _ => None,
        });
        let side = side.map(|side| self.second_side(side));
        let of = self.take(|word| match word {
            "host" => Some(Of::Host),
            "net" => Some(Of::Net),
            "port" => Some(Of::Port),
            "portrange" => Some(Of::PortRange),
            _ => None,
        });
        let words = match (protocol, side, of) {
            (Some("ether"), None, None) => return Err(self.needs("ether", "host, src or dst")),
            (Some(protocol), None, None) => {
                self.last = None;
                return Ok(Some(protocol_alone(protocol)));
            }
            // An address is a host's, if no word says what.
            (None, None, None) if is_value(first) => match self.last {
                Some(last) => last,
                None => Words { protocol, side: Side::Either, of: Of::Host },
            },
            (None, None, None) if first.is_empty() => return Err(self.needs("the end", CONDITION)),
            (None, None, None) => return Err(FilterError::Word(first.to_owned())),
            _ => Words { protocol, side: side.unwrap_or(Side::Either), of: of.unwrap_or(Of::Host) },
        };
        self.last = Some(words);
        if self.peek() == "(" { Ok(None) } else { self.value(words).map(Some) }
    }

    /// `src or dst`, `src and dst`: the rest of them, if they are there.
    fn second_side(&mut self, first: Side) -> Side {
        let other = if first == Side::Source { "dst" } else { "src" };
        let both = match self.peek() {
            "and" | "&&" => Side::Both,
            "or" | "||" => Side::Either,
            _ => return first,
        };
        if self.words.get(self.at + 1) != Some(&other) {
            return first;
        }
        self.at += 2;
        both
    }

    /// The address or number behind its words.
    fn value(&mut self, Words { protocol, side, of }: Words<'_>) -> Result<Test, FilterError> {
        let together = |of: &str| {
            let protocol = protocol.unwrap_or_default();
            FilterError::Together(protocol.to_owned(), of.to_owned())
        };
        let text = self.peek();
        let test = match of {
            Of::Host if protocol == Some("ether") => match mac_address(text) {
                Some(mac) => Test::Ether(side, mac),
                None => return Err(self.needs("ether host", "a hardware address")),
            },
            Of::Host | Of::Net => {
                let only = match protocol {
                    None => None,
                    Some("ip") => Some(IPV4),
                    Some("ip6") => Some(IPV6),
                    Some("arp") => Some(ARP),
                    Some(_) => return Err(together(if of == Of::Net { "net" } else { "host" })),
                };
                let prefix = match text.parse::<IpAddr>().ok() {
                    Some(address) => Prefix::from(address),
                    None if of == Of::Net && text.contains('/') => text.parse::<Prefix>()?,
                    None if of == Of::Net => {
                        return Err(self.needs("net", "a prefix, as in 192.0.2.0/24"));
                    }
                    None => return Err(self.needs("host", "an address")),
                };
                if only.is_some_and(|only| (only == IPV6) == prefix.is_v4()) {
                    return Err(together(text));
                }
                Test::Address(side, only, prefix)
            }
            Of::Port => {
                let protocols = carriers(protocol).ok_or_else(|| together("port"))?;
                let port =
                    decimal(text).ok_or_else(|| self.needs("port", "a number up to 65535"))?;
                Test::Ports(side, protocols, port..=port)
            }
            Of::PortRange => {
                let protocols = carriers(protocol).ok_or_else(|| together("port"))?;
                let range = text
                    .split_once('-')
                    .and_then(|(first, last)| Some(decimal::<u16>(first)?..=decimal::<u16>(last)?));
                let range = range.filter(|range| !range.is_empty());
                let needs = || self.needs("portrange", "a range, as in 8000-8010");
                Test::Ports(side, protocols, range.ok_or_else(needs)?)
            }
        };
        self.at += 1;
        Ok(test)
    }

    fn number<T: std::str::FromStr>(
        &mut self,
        word: &str,
        needs: &'static str,
    ) -> Result<T, FilterError> {
        let number = decimal(self.peek()).ok_or_else(|| self.needs(word, needs))?;
        self.at += 1;
        Ok(number)
    }

    fn needs(&self, word: &str, needs: &'static str) -> FilterError {
        FilterError::Value { word: word.to_owned(), needs, found: self.peek().to_owned() }
    }
}

const CONDITION: &str = "a condition";

fn protocol_alone(word: &str) -> Test {
    const BOTH: &[u16] = &[IPV4, IPV6];
    match word {
        "ip" => Test::Kind(IPV4),
        "ip6" => Test::Kind(IPV6),
        "arp" => Test::Kind(ARP),
        "tcp" => Test::Carries(BOTH, TCP),
        "udp" => Test::Carries(BOTH, UDP),
        "icmp" => Test::Carries(&[IPV4], ICMP),
        _ => Test::Carries(&[IPV6], ICMPV6),
    }
}

/// What has ports, of all protocols or of one.
fn carriers(protocol: Option<&str>) -> Option<&'static [u8]> {
    match protocol {
        None => Some(&[TCP, UDP, SCTP]),
        Some("tcp") => Some(&[TCP]),
        Some("udp") => Some(&[UDP]),
        Some(_) => None,
    }
}

/// Whether a word is an address or a number rather than a word.
fn is_value(word: &str) -> bool {
    word.starts_with(|c: char| c.is_ascii_digit()) || word.contains(':')
}

/// A number without a sign.
fn decimal<T: std::str::FromStr>(text: &str) -> Option<T> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|_| digits)
}

#[cfg(test)]
mod tests;
