//! What passes between two containers of a network whose containers do not reach each other.
//!
//! Written as `tcp:5432`, `udp:5000-5010`, `tcp`, `udp` or `icmp`.

use std::fmt;
use std::str::FromStr;

use super::Name;

/// One way between containers, opened by name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Between {
    /// Who opens: every container of this name or alias.
    pub from: Name,
    /// Who is reached.
    pub to: Name,
    /// What passes, with its answers.
    pub pass: Pass,
}

/// What may be opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pass {
    /// The protocol.
    pub kind: PassKind,
    /// The first port that is reached; 0 for pings.
    pub first: u16,
    /// The last one.
    pub last: u16,
}

/// A protocol that may pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)] // their names say it
pub enum PassKind {
    Tcp,
    Udp,
    /// Pings, of both families.
    Icmp,
}

/// A text that is no [`Pass`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("expected tcp, udp, tcp:PORT, udp:PORT, tcp:PORT-END, udp:PORT-END or icmp")]
pub struct PassError;

impl Pass {
    /// Everything that can pass.
    pub const ALL: [Self; 3] = [
        Self { kind: PassKind::Tcp, first: 1, last: u16::MAX },
        Self { kind: PassKind::Udp, first: 1, last: u16::MAX },
        Self { kind: PassKind::Icmp, first: 0, last: 0 },
    ];
}

impl FromStr for Pass {
    type Err = PassError;

    fn from_str(text: &str) -> Result<Self, PassError> {
        let (kind, ports) = match text.split_once(':') {
            Some((kind, ports)) => (kind, Some(ports)),
            None => (text, None),
        };
        let kind = match (kind, ports) {
            ("icmp", None) => return Ok(Self { kind: PassKind::Icmp, first: 0, last: 0 }),
            ("tcp", _) => PassKind::Tcp,
            ("udp", _) => PassKind::Udp,
            _ => return Err(PassError),
        };
        let port = |text: &str| {
            let digits = text.bytes().all(|byte| byte.is_ascii_digit());
            text.parse().ok().filter(|port| digits && *port > 0).ok_or(PassError)
        };
        let (first, last) = match ports {
            None => (1, u16::MAX),
            Some(ports) => {
                let (first, last) = ports.split_once('-').unwrap_or((ports, ports));
                (port(first)?, port(last)?)
            }
        };
        if first <= last { Ok(Self { kind, first, last }) } else { Err(PassError) }
    }
}

impl fmt::Display for Pass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self.kind {
            PassKind::Tcp => "tcp",
            PassKind::Udp => "udp",
            PassKind::Icmp => return f.write_str("icmp"),
        };
        match (self.first, self.last) {
            (1, u16::MAX) => f.write_str(kind),
            (first, last) if first == last => write!(f, "{kind}:{first}"),
            (first, last) => write!(f, "{kind}:{first}-{last}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_way_is_written_as_it_is_read() {
        for text in ["tcp", "udp", "icmp", "tcp:5432", "udp:5000-5010", "tcp:1", "udp:65535"] {
            let pass: Pass = text.parse().unwrap();
            assert_eq!(pass.to_string(), text);
        }
        assert_eq!("tcp:7-7".parse::<Pass>().unwrap().to_string(), "tcp:7");
        for text in
            ["", "sctp:1", "tcp:", "tcp:0", "tcp:65536", "tcp:9-8", "icmp:1", "tcp:+1", "udp:1-"]
        {
            assert_eq!(text.parse::<Pass>(), Err(PassError), "{text}");
        }
    }
}
