//! What a container says by multicast DNS, as it is true on the host's network.
//!
//! A message is taken apart and written anew: the container's addresses become the host's, ports
//! of services the published ones. What is not true out there is left out: services whose port is
//! not published with all that is said of them, other addresses, the host's own name. So whatever a
//! container says, the only machine that it can speak for is the host.
//! Read first: RFC 6762 sections 6, 10 and 18, RFC 6763 sections 4 to 6.

use std::net::IpAddr;

use super::message::{
    FLAG_RESPONSE, HEADER_LEN, OPCODE, Record, Records, name_end, read_name, read_u16, rr,
};
use crate::config::name::parents;
use crate::config::{Name, Protocol};

/// The longest message (RFC 6762, section 17, with headers), in bytes.
pub(in crate::engine) const MAX_LEN: usize = 9000 - 48;
/// Questions and records of one message; a machine with many services announces some forty.
const MAX_RECORDS: usize = 256;
/// "Answer to me alone" in the class of a question (RFC 6762, section 5.4).
const UNICAST: u16 = 0x8000;
/// Addresses that stand for one of the container's.
const MAX_ADDRESSES: usize = 4;

/// What is true on one of the host's networks.
pub(in crate::engine) struct Truth<'a> {
    /// The container's addresses.
    pub(in crate::engine) guest: [Option<IpAddr>; 2],
    /// The host's.
    pub(in crate::engine) host: &'a [IpAddr],
    /// What the host itself is called.
    pub(in crate::engine) host_name: Option<&'a Name>,
    /// The host's port of a container's.
    pub(in crate::engine) port: &'a dyn Fn(Protocol, u16) -> Option<u16>,
}

/// Whether a message may be one of multicast DNS at all (RFC 6762, section 18); if so, whether it is
/// a response.
pub(in crate::engine) fn is_response(message: &[u8]) -> Option<bool> {
    let &[_, _, flags, low, ..] = message.first_chunk::<HEADER_LEN>()?;
    let plausible = flags & OPCODE == 0 && low & 0xf == 0 && message.len() <= MAX_LEN;
    plausible.then_some(flags & FLAG_RESPONSE != 0)
}

/// A container's message for one of the host's networks; `None` if nothing in it is of use there, or
/// it is malformed.
pub(in crate::engine) fn for_lan(message: &[u8], truth: &Truth<'_>) -> Option<Vec<u8>> {
    let response = is_response(message)?;
    let mut out = Writer { bytes: message.get(..HEADER_LEN)?.to_vec(), names: Vec::new() };
    let questions = usize::from(read_u16(message, 4)?);
    if questions > MAX_RECORDS {
        return None;
    }
    let mut at = HEADER_LEN;
    for _ in 0..questions {
        out.name(&read_name(message, at)?);
        at = name_end(message, at)?;
        let class = read_u16(message, at + 2)?;
        out.number(read_u16(message, at)?);
        // Answers come to everybody, and so to the container.
        out.number(if response { class } else { class & !UNICAST });
        at += 4;
    }
    let records = Records::of(message, at).take(MAX_RECORDS + 1).collect::<Option<Vec<_>>>()?;
    if records.len() > MAX_RECORDS {
        return None;
    }
    // What somebody who asks knows already is the network's, and passes as it is.
    let known = |record: &Record| !response && record.section == 0;
    let mut withheld = Vec::new();
    for record in records.iter().filter(|record| record.kind == rr::SRV && !known(record)) {
        let owner = read_name(message, record.start)?.to_ascii_lowercase();
        if truth.port_of(message, record, &owner).is_none() {
            withheld.push(owner);
        }
    }
    let mut counts = [0_u16; 3];
    for record in &records {
        let written = if known(record) {
            out.copy(message, record, None)?
        } else {
            truth.write(message, record, &withheld, &mut out)?
        };
        if out.bytes.len() > MAX_LEN {
            return None;
        }
        if let Some(count) = counts.get_mut(record.section) {
            *count += written;
        }
    }
    let of_use = if response { counts[0] > 0 } else { questions > 0 || counts != [0; 3] };
    for (place, count) in out.bytes.get_mut(6..HEADER_LEN)?.chunks_exact_mut(2).zip(counts) {
        place.copy_from_slice(&count.to_be_bytes());
    }
    of_use.then_some(out.bytes)
}

impl Truth<'_> {
    /// The host's port of the service that an SRV record is about; `owner` is in lower case.
    fn port_of(&self, message: &[u8], record: &Record, owner: &[u8]) -> Option<u16> {
        let udp = parents(owner).any(|name| name.starts_with(b"\x04_udp"));
        let protocol = if udp { Protocol::Udp } else { Protocol::Tcp };
        (self.port)(protocol, read_u16(message, record.ttl_at + 10)?)
    }

    /// Writes what is true of a record; returns how many records that is. `None` is malformed.
    fn write(
        &self,
        message: &[u8],
        record: &Record,
        withheld: &[Vec<u8>],
        out: &mut Writer,
    ) -> Option<u16> {
        let owner = read_name(message, record.start)?.to_ascii_lowercase();
        let data = message.get(record.ttl_at + 6..record.end)?;
        if withheld.contains(&owner) || self.host_name.is_some_and(|own| own.labels() == owner) {
            return Some(0);
        }
        match record.kind {
            rr::A | rr::AAAA => {
                let address = match record.kind {
                    rr::A => IpAddr::from(<[u8; 4]>::try_from(data).ok()?),
                    _ => IpAddr::from(<[u8; 16]>::try_from(data).ok()?),
                };
                if !self.guest.contains(&Some(address)) {
                    return Some(0);
                }
                let alike = |ip: &&IpAddr| match ip {
                    IpAddr::V4(_) => address.is_ipv4(),
                    IpAddr::V6(ip) => address.is_ipv6() && !ip.is_unicast_link_local(),
                };
                let mut written = 0;
                for ip in self.host.iter().filter(alike).take(MAX_ADDRESSES) {
                    out.head(message, record)?;
                    match ip {
                        IpAddr::V4(ip) => out.data(&ip.octets()),
                        IpAddr::V6(ip) => out.data(&ip.octets()),
                    }
                    written += 1;
                }
                Some(written)
            }
            rr::PTR => {
                let target = read_name(message, record.ttl_at + 6)?.to_ascii_lowercase();
                // Whose an address is out there, is not for a container to say.
                let reverse = parents(&owner).any(|name| name == b"\x04arpa\0");
                if reverse || withheld.contains(&target) {
                    return Some(0);
                }
                out.copy(message, record, None)
            }
            rr::SRV => out.copy(message, record, self.port_of(message, record, &owner)),
            rr::TXT => out.copy(message, record, None),
            // Among them NSEC, of what there is not: a family that the host has not, say.
            _ => Some(0),
        }
    }
}

/// A message that is being written. Names that were written are pointed to.
struct Writer {
    bytes: Vec<u8>,
    /// Names with their places.
    names: Vec<(Vec<u8>, u16)>,
}

impl Writer {
    fn number(&mut self, number: u16) {
        self.bytes.extend_from_slice(&number.to_be_bytes());
    }

    fn name(&mut self, name: &[u8]) {
        if let Some((_, place)) = self.names.iter().find(|(known, _)| known == name) {
            return self.number(0xc000 | place);
        }
        if let Ok(place @ ..0x4000) = u16::try_from(self.bytes.len()) {
            self.names.push((name.to_vec(), place));
        }
        self.bytes.extend_from_slice(name);
    }

    /// What comes before a record's data.
    fn head(&mut self, message: &[u8], record: &Record) -> Option<()> {
        self.name(&read_name(message, record.start)?);
        // Type, class and time to live.
        self.bytes.extend_from_slice(message.get(record.ttl_at - 4..record.ttl_at + 4)?);
        Some(())
    }

    fn data(&mut self, data: &[u8]) {
        self.number(u16::try_from(data.len()).unwrap_or(0));
        self.bytes.extend_from_slice(data);
    }

    /// Copies a record, if it is of a kind whose data is understood; a service with another `port`.
    /// Returns how many were written.
    fn copy(&mut self, message: &[u8], record: &Record, port: Option<u16>) -> Option<u16> {
        let at = record.ttl_at + 6;
        let data = match record.kind {
            rr::A | rr::AAAA | rr::TXT => message.get(at..record.end)?.to_vec(),
            rr::PTR => read_name(message, at)?,
            rr::SRV => {
                let mut data = message.get(at..record.end)?.get(..6)?.to_vec();
                if let Some(port) = port {
                    data.get_mut(4..)?.copy_from_slice(&port.to_be_bytes());
                }
                // Never a pointer: who asks but once need not understand it (section 18.14).
                data.extend(read_name(message, at + 6)?);
                data
            }
            _ => return Some(0),
        };
        self.head(message, record)?;
        self.data(&data);
        Some(1)
    }
}

#[cfg(test)]
mod tests;
