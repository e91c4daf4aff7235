//! Answers that are composed here: of names that this network knows, of the cache, and failures.
//!
//! Each repeats the question byte for byte, so a client that mixes upper and lower case into its
//! names to know its answers (draft-vixie-dnsext-dns0x20) sees its own. The OPT record is between
//! the client and us (RFC 6891, section 6.1.1): it is made anew, and only for a client that sent one.

use std::net::IpAddr;

use super::message::{
    DNSSEC_OK, FLAG_RECURSION_DESIRED, FLAG_RESPONSE, HEADER_LEN, Query, REPEATED, Rcode, rr,
};
use crate::config::Name;

/// Bits of the second flag byte.
const RECURSION_AVAILABLE: u8 = 0x80;
const CHECKING_DISABLED: u8 = 0x10;
/// Bits of the first.
const AUTHORITATIVE: u8 = 0x04;
const TRUNCATED: u8 = 0x02;

/// The answer is older than its time to live (RFC 8914, section 4.4).
pub(super) const STALE_ANSWER: u16 = 3;
/// This is no answer for a client like this one (RFC 8914, section 4.19).
pub(super) const PROHIBITED: u16 = 18;

/// Length of an OPT record, and of an extended error in it, in bytes.
const OPT_LEN: usize = 11;
const EXTENDED_ERROR_LEN: usize = 6;
/// What is said to clients of the largest query that is taken (RFC 6891, section 6.2.5), in bytes.
const OWN_UDP_LEN: u16 = 1232;
/// A pointer to the question's name (RFC 1035, section 4.1.4).
const QUESTION_NAME: [u8; 2] = [0xc0, 12];

/// An answer in the making.
#[derive(Debug)]
pub(super) struct Reply<'q> {
    query: &'q Query,
    bytes: Vec<u8>,
    answers: u16,
    /// The longest that it may become with its OPT record, in bytes.
    limit: usize,
    rcode: Rcode,
    flags: u8,
    extended_error: Option<u16>,
}

impl<'q> Reply<'q> {
    /// An answer without records to `query`, whose client knows it by `id`.
    pub(super) fn new(query: &'q Query, id: u16, rcode: Rcode, limit: usize) -> Self {
        let mut bytes = Vec::with_capacity(128);
        bytes.extend_from_slice(&id.to_be_bytes());
        bytes.extend_from_slice(&[0, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
        bytes.extend_from_slice(query.question());
        Self { query, bytes, answers: 0, limit, rcode, flags: 0, extended_error: None }
    }

    /// Says why it is as it is (RFC 8914).
    pub(super) fn because(mut self, extended_error: u16) -> Self {
        self.extended_error = Some(extended_error);
        self
    }

    /// Says that nobody knows better.
    pub(super) fn authoritative(mut self) -> Self {
        self.flags |= AUTHORITATIVE;
        self
    }

    /// Adds an address of the name that was asked for.
    pub(super) fn address(&mut self, address: IpAddr, ttl: u32) {
        match address {
            IpAddr::V4(ip) => self.record(rr::A, ttl, &ip.octets()),
            IpAddr::V6(ip) => self.record(rr::AAAA, ttl, &ip.octets()),
        }
    }

    /// Adds a name of the address that was asked for.
    pub(super) fn pointer(&mut self, name: &Name, ttl: u32) {
        self.record(rr::PTR, ttl, name.labels());
    }

    fn record(&mut self, kind: u16, ttl: u32, data: &[u8]) {
        let length = QUESTION_NAME.len() + 10 + data.len();
        let Ok(data_len) = u16::try_from(data.len()) else { return };
        if self.bytes.len() + length + self.opt_len() > self.limit {
            self.flags |= TRUNCATED;
            return;
        }
        self.bytes.extend_from_slice(&QUESTION_NAME);
        self.bytes.extend_from_slice(&kind.to_be_bytes());
        self.bytes.extend_from_slice(&rr::CLASS_IN.to_be_bytes());
        self.bytes.extend_from_slice(&ttl.to_be_bytes());
        self.bytes.extend_from_slice(&data_len.to_be_bytes());
        self.bytes.extend_from_slice(data);
        self.answers += 1;
    }

    fn opt_len(&self) -> usize {
        match (self.query.edns(), self.extended_error) {
            (None, _) => 0,
            (Some(_), None) => OPT_LEN,
            (Some(_), Some(_)) => OPT_LEN + EXTENDED_ERROR_LEN,
        }
    }

    /// The message.
    pub(super) fn finish(mut self) -> Vec<u8> {
        let flags = self.query.flags() & REPEATED | FLAG_RESPONSE | self.flags;
        let low = RECURSION_AVAILABLE
            | self.query.security_flags() & CHECKING_DISABLED
            | self.rcode.bits();
        write(&mut self.bytes, 2, &[flags, low]);
        write(&mut self.bytes, 6, &self.answers.to_be_bytes());
        append_opt(&mut self.bytes, self.query, self.extended_error);
        self.bytes
    }
}

/// An answer that is kept, as a client of `query` may have it.
#[derive(Debug)]
pub(super) struct Kept<'a> {
    /// The message without its OPT record.
    pub(super) message: &'a [u8],
    /// Where its records have their time to live.
    pub(super) ttl_at: &'a [u16],
    /// For how long it was kept, in seconds; `None` if it is stale.
    pub(super) age: Option<u32>,
}

/// The time to live of stale records (RFC 8767, section 4), in seconds.
const STALE_TTL: u32 = 30;

impl Kept<'_> {
    /// The answer to `query`, whose client knows it by `id` and takes `limit` bytes.
    pub(super) fn answer(&self, query: &Query, id: u16, limit: usize) -> Vec<u8> {
        let reason = self.age.is_none().then_some(STALE_ANSWER);
        let mut empty = Reply::new(query, id, Rcode::NoError, limit);
        empty.extended_error = reason;
        if self.message.len() + empty.opt_len() > limit {
            empty.flags |= TRUNCATED;
            return empty.finish();
        }
        let mut bytes = self.message.to_vec();
        write(&mut bytes, 0, &id.to_be_bytes());
        write(&mut bytes, HEADER_LEN, query.question());
        if let Some([_, _, flags, low, ..]) = bytes.first_chunk_mut::<HEADER_LEN>() {
            // Nobody here is the authority, and only what is fresh counts as verified.
            *flags = *flags & !AUTHORITATIVE & !FLAG_RECURSION_DESIRED
                | query.flags() & FLAG_RECURSION_DESIRED;
            if self.age.is_none() {
                *low &= !AUTHENTIC_DATA;
            }
        }
        for at in self.ttl_at {
            let Some(field) = bytes.get_mut(usize::from(*at)..).and_then(<[u8]>::first_chunk_mut)
            else {
                continue;
            };
            let ttl = match self.age {
                Some(age) => u32::from_be_bytes(*field).saturating_sub(age),
                None => STALE_TTL,
            };
            *field = ttl.to_be_bytes();
        }
        append_opt(&mut bytes, query, reason);
        bytes
    }
}

/// AD, of the second flag byte (RFC 4035, section 3.2.3).
const AUTHENTIC_DATA: u8 = 0x20;

/// Adds an OPT record if the client sent one; counts it as the last additional record.
fn append_opt(bytes: &mut Vec<u8>, query: &Query, extended_error: Option<u16>) {
    let Some(edns) = query.edns() else { return };
    let flags = if edns.dnssec_ok { DNSSEC_OK } else { 0 };
    // The root's name, the type, our limit, extended code and version 0, flags.
    bytes.push(0);
    bytes.extend_from_slice(&rr::OPT.to_be_bytes());
    bytes.extend_from_slice(&OWN_UDP_LEN.to_be_bytes());
    bytes.extend_from_slice(&[0, 0]);
    bytes.extend_from_slice(&flags.to_be_bytes());
    match extended_error {
        None => bytes.extend_from_slice(&[0, 0]),
        Some(code) => {
            bytes.extend_from_slice(&[0, 6, 0, 15, 0, 2]);
            bytes.extend_from_slice(&code.to_be_bytes());
        }
    }
    let count = super::message::read_u16(bytes, 10).unwrap_or(0).saturating_add(1);
    write(bytes, 10, &count.to_be_bytes());
}

fn write(bytes: &mut [u8], at: usize, field: &[u8]) {
    if let Some(place) = bytes.get_mut(at..at + field.len()) {
        place.copy_from_slice(field);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn query(message: &[u8]) -> Query {
        Query::parse(message).unwrap()
    }

    const PLAIN: &[u8] = b"\x12\x34\x01\0\0\x01\0\0\0\0\0\0\x03WeB\0\0\x01\0\x01";
    /// The same with an OPT record: 1,400 bytes, DO.
    const EDNS: &[u8] =
        b"\x12\x34\x01\0\0\x01\0\0\0\0\0\x01\x03WeB\0\0\x01\0\x01\0\0\x29\x05\x78\0\0\x80\0\0\0";

    #[test]
    fn an_answer_repeats_the_question_in_its_own_case() {
        let query = query(PLAIN);
        let mut reply = Reply::new(&query, 0xbeef, Rcode::NoError, 512).authoritative();
        reply.address("10.0.2.100".parse().unwrap(), 1);
        assert_eq!(
            reply.finish(),
            b"\xbe\xef\x85\x80\0\x01\0\x01\0\0\0\0\x03WeB\0\0\x01\0\x01\
              \xc0\x0c\0\x01\0\x01\0\0\0\x01\0\x04\x0a\0\x02\x64"
        );
    }

    #[test]
    fn a_client_with_edns_gets_an_opt_record() {
        let query = query(EDNS);
        let reply = Reply::new(&query, 1, Rcode::Refused, 512).because(PROHIBITED);
        assert_eq!(
            reply.finish(),
            b"\0\x01\x81\x85\0\x01\0\0\0\0\0\x01\x03WeB\0\0\x01\0\x01\
              \0\0\x29\x04\xd0\0\0\x80\0\0\x06\0\x0f\0\x02\0\x12"
        );
    }

    #[test]
    fn what_does_not_fit_is_left_out_and_said_so() {
        let query = query(EDNS);
        for limit in 12..120 {
            let mut reply = Reply::new(&query, 1, Rcode::NoError, limit);
            for last in 0..4 {
                reply.address(IpAddr::from([10, 0, 2, last]), 1);
            }
            let message = reply.finish();
            let room = limit.saturating_sub(12 + 9 + OPT_LEN) / 16;
            assert_eq!(usize::from(message[7]), room.min(4), "{limit}");
            assert_eq!(message[2] & TRUNCATED != 0, room < 4, "{limit}");
        }
    }
}
