//! As much of a DNS message as the forwarder must understand: the header, the one question, and
//! where each record of an answer has its type and its time to live.
//!
//! Names are walked, never decompressed: a question cannot be compressed, and of a record's name
//! only the end matters (RFC 9267, section 2). Answers of our own are composed by [`super::reply`].

use crate::config::name::{MAX_LABEL_LEN, MAX_NAME_LEN};

use std::net::IpAddr;

/// Length of the header (RFC 1035, section 4.1.1), in bytes.
pub(super) const HEADER_LEN: usize = 12;
/// The largest answer over UDP to a client that says nothing of larger ones (RFC 1035, section
/// 4.2.1), in bytes.
const MIN_UDP_LEN: usize = 512;
/// The largest answer over UDP that is made here, in bytes (RFC 6891, section 6.2.5).
const MAX_UDP_LEN: usize = 4096;

/// This is an answer.
pub(super) const FLAG_RESPONSE: u8 = 0x80;
const FLAG_TRUNCATED: u8 = 0x02;
pub(super) const FLAG_RECURSION_DESIRED: u8 = 0x01;
pub(super) const OPCODE: u8 = 0x78;
/// QR, and the opcode and RD that an answer repeats.
pub(super) const REPEATED: u8 = 0x79;
/// AD and CD of the second flag byte (RFC 4035, section 3.2).
const AD_CD: u8 = 0x30;

/// Record types and classes (RFC 1035, section 3.2; RFC 3596; RFC 6891).
pub(super) mod rr {
    pub(in crate::engine::dns) const A: u16 = 1;
    pub(in crate::engine::dns) const SOA: u16 = 6;
    pub(in crate::engine::dns) const PTR: u16 = 12;
    pub(in crate::engine::dns) const TXT: u16 = 16;
    pub(in crate::engine::dns) const AAAA: u16 = 28;
    pub(in crate::engine::dns) const SRV: u16 = 33;
    pub(in crate::engine::dns) const OPT: u16 = 41;
    pub(in crate::engine::dns) const ANY: u16 = 255;
    pub(in crate::engine::dns) const CLASS_IN: u16 = 1;
    /// Transactions and zone transfers: types from here to [`ANY`], which no cache may keep.
    pub(in crate::engine::dns) const FIRST_META: u16 = 249;
    /// Zone transfers (RFC 5936, RFC 1995), which take more than one message to answer.
    pub(in crate::engine::dns) const TRANSFERS: [u16; 2] = [251, 252];
}

/// Response codes that a forwarder cares for (RFC 1035, section 4.1.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Rcode {
    NoError,
    FormatError,
    ServerFailure,
    NameError,
    NotImplemented,
    Refused,
    Other(u8),
}

impl Rcode {
    fn from_flags(low: u8) -> Self {
        match low & 0xf {
            0 => Self::NoError,
            1 => Self::FormatError,
            2 => Self::ServerFailure,
            3 => Self::NameError,
            4 => Self::NotImplemented,
            5 => Self::Refused,
            other => Self::Other(other),
        }
    }

    pub(super) fn bits(self) -> u8 {
        match self {
            Self::NoError => 0,
            Self::FormatError => 1,
            Self::ServerFailure => 2,
            Self::NameError => 3,
            Self::NotImplemented => 4,
            Self::Refused => 5,
            Self::Other(bits) => bits & 0xf,
        }
    }
}

/// A header alone.
#[derive(Debug, Clone, Copy)]
pub(super) struct Header([u8; HEADER_LEN]);

impl Header {
    pub(super) fn parse(payload: &[u8]) -> Option<Self> {
        payload.first_chunk().copied().map(Self)
    }

    /// FORMERR, if the header is a query's.
    pub(super) fn format_error(self) -> Option<Vec<u8>> {
        let Self([id0, id1, flags, ..]) = self;
        (flags & FLAG_RESPONSE == 0).then(|| {
            let mut answer = vec![id0, id1, flags & REPEATED | FLAG_RESPONSE, 1];
            answer.resize(HEADER_LEN, 0);
            answer
        })
    }
}

/// What a query says of itself in an OPT record (RFC 6891).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Edns {
    /// The largest answer over UDP, in bytes.
    pub(super) udp_len: usize,
    /// "DNSSEC OK" (RFC 3225).
    pub(super) dnssec_ok: bool,
    /// It has options that an answer may depend on: any but a cookie (RFC 7873).
    pub(super) options: bool,
}

/// A query with exactly one question.
#[derive(Debug, Clone)]
pub(super) struct Query {
    bytes: Vec<u8>,
    /// Where the question's name ends; its type and class follow.
    name_end: usize,
    edns: Option<Edns>,
    /// It has records other than OPT, or something else behind the question.
    odd: bool,
}

impl Query {
    /// Takes a query; `None` if it is an answer, has not one question, or is malformed.
    pub(super) fn parse(payload: &[u8]) -> Option<Self> {
        let &[_, _, flags, _, questions0, questions1, ..] = payload.first_chunk::<HEADER_LEN>()?;
        if flags & FLAG_RESPONSE != 0 || [questions0, questions1] != [0, 1] {
            return None;
        }
        let name_end = question_name_end(payload)?;
        let mut query = Self { bytes: payload.to_vec(), name_end, edns: None, odd: false };
        let records = Records::of(payload, query.question_end());
        let (mut walked, mut end) = (0, query.question_end());
        for record in records {
            walked += 1;
            end = record.map_or(end, |record| record.end);
            match record {
                Some(record) if record.is_opt() && query.edns.is_none() => {
                    query.edns = Some(read_edns(payload, &record));
                }
                _ => query.odd = true,
            }
        }
        query.odd |= walked != record_count(payload) || end != payload.len();
        Some(query)
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    pub(super) fn id(&self) -> u16 {
        self.bytes.first_chunk().copied().map_or(0, u16::from_be_bytes)
    }

    pub(super) fn set_id(&mut self, id: u16) {
        if let Some(field) = self.bytes.get_mut(..2) {
            field.copy_from_slice(&id.to_be_bytes());
        }
    }

    fn question_end(&self) -> usize {
        self.name_end + 4
    }

    /// The labels of the name asked for, in the client's case.
    pub(super) fn name(&self) -> &[u8] {
        self.bytes.get(HEADER_LEN..self.name_end).unwrap_or_default()
    }

    /// The whole question: name, type, class.
    pub(super) fn question(&self) -> &[u8] {
        self.bytes.get(HEADER_LEN..self.question_end()).unwrap_or_default()
    }

    /// The record type asked for.
    pub(super) fn kind(&self) -> u16 {
        read_u16(&self.bytes, self.name_end).unwrap_or(0)
    }

    pub(super) fn edns(&self) -> Option<Edns> {
        self.edns
    }

    pub(super) fn flags(&self) -> u8 {
        self.bytes.get(2).copied().unwrap_or(0)
    }

    /// AD and CD, which say what kind of answer the client understands.
    pub(super) fn security_flags(&self) -> u8 {
        self.bytes.get(3).copied().unwrap_or(0) & AD_CD
    }

    /// Whether it is an ordinary question about names of the internet, which may be answered here.
    pub(super) fn is_ordinary(&self) -> bool {
        self.flags() & OPCODE == 0
            && !self.odd
            && read_u16(&self.bytes, self.name_end + 2) == Some(rr::CLASS_IN)
    }

    /// Whether it says nothing to a server but its question.
    pub(super) fn is_plain(&self) -> bool {
        self.is_ordinary() && !self.edns.is_some_and(|edns| edns.options)
    }

    /// Whether the answer to it may be kept, and answer others.
    pub(super) fn is_cacheable(&self) -> bool {
        self.is_ordinary()
            && self.flags() & FLAG_RECURSION_DESIRED != 0
            && self.kind() < rr::FIRST_META
            && self.kind() != rr::OPT
            && !self.edns.is_some_and(|edns| edns.options)
    }

    /// The largest answer that the client takes over UDP, in bytes.
    pub(super) fn max_udp_len(&self) -> usize {
        self.edns.map_or(MIN_UDP_LEN, |edns| edns.udp_len.clamp(MIN_UDP_LEN, MAX_UDP_LEN))
    }

    /// The response code of `answer`, if it answers this query: same id, same question.
    /// Case is ignored, as names are compared (RFC 1035, section 2.3.3).
    pub(super) fn rcode_of_answer(&self, answer: &[u8]) -> Option<Rcode> {
        let &[id0, id1, flags, low, questions0, questions1, ..] =
            answer.first_chunk::<HEADER_LEN>()?;
        if flags & FLAG_RESPONSE == 0 || u16::from_be_bytes([id0, id1]) != self.id() {
            return None;
        }
        let rcode = Rcode::from_flags(low);
        if [questions0, questions1] == [0, 0] && rcode == Rcode::FormatError {
            // A server that cannot read a query cannot repeat its question (RFC 9619).
            return Some(rcode);
        }
        let repeated = answer.get(HEADER_LEN..self.question_end())?;
        let same =
            [questions0, questions1] == [0, 1] && self.question().eq_ignore_ascii_case(repeated);
        same.then_some(rcode)
    }
}

/// Whether an answer says that it is cut short (RFC 1035, section 4.1.1).
pub(super) fn is_truncated(answer: &[u8]) -> bool {
    answer.get(2).is_some_and(|flags| flags & FLAG_TRUNCATED != 0)
}

/// Whether an answer says that something went wrong.
pub(super) fn is_failure(answer: &[u8]) -> bool {
    answer.get(3).is_none_or(|low| Rcode::from_flags(*low) != Rcode::NoError)
}

/// The response code of an answer, as it stands there.
pub(super) fn rcode_bits(answer: &[u8]) -> u8 {
    answer.get(3).map_or(0, |low| low & 0xf)
}

/// What may be kept of an answer: for how long, and where its records count their own time.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Keepable {
    /// Until it is no longer true, in seconds; never 0.
    pub(super) ttl: u32,
    /// Where the records before the OPT record have their time to live.
    pub(super) ttl_at: Vec<u16>,
    /// The records in each section but the question, OPT left out.
    pub(super) counts: [u16; 3],
    /// Where the OPT record is, if there is one.
    pub(super) opt: Option<(usize, usize)>,
}

/// The longest time to live that is believed: a day, against answers that stay for ever (RFC 8767,
/// section 4, allows a week).
const MAX_TTL: u32 = 86_400;
/// The same for "there is no such thing" (RFC 2308, section 5, one to three hours).
const MAX_NEGATIVE_TTL: u32 = 3600;
/// Records of one answer that are kept; more are passed on and forgotten.
const MAX_RECORDS: usize = 256;

/// Looks through an answer that [`Query::rcode_of_answer`] has taken for `query`. `None` if it is
/// to be passed on and forgotten: truncated, a failure, without a time to live, or malformed.
pub(super) fn keepable(query: &Query, answer: &[u8]) -> Option<Keepable> {
    let &[_, _, flags, low, ..] = answer.first_chunk::<HEADER_LEN>()?;
    let rcode = Rcode::from_flags(low);
    if flags & (FLAG_TRUNCATED | OPCODE) != 0
        || !matches!(rcode, Rcode::NoError | Rcode::NameError)
        || record_count(answer) > MAX_RECORDS
    {
        return None;
    }
    let mut found = Keepable { ttl: MAX_TTL, ttl_at: Vec::new(), counts: [0; 3], opt: None };
    let (mut answered, mut negative_ttl) = (false, None);
    let mut end = query.question_end();
    for record in Records::of(answer, end) {
        let record = record?;
        end = record.end;
        if record.kind == rr::OPT {
            // The extended part of the response code (RFC 6891, section 6.1.3).
            if found.opt.is_some() || record.section != 2 || record.ttl >> 24 != 0 {
                return None;
            }
            found.opt = Some((record.start, record.end));
            continue;
        }
        // Signatures of this very message, and nothing that belongs into one.
        if record.kind >= rr::FIRST_META && record.kind <= rr::ANY || record.kind == 24 {
            return None;
        }
        // RFC 2181, section 8: a time with its highest bit set is none.
        let ttl = if record.ttl > i32::MAX.unsigned_abs() { 0 } else { record.ttl };
        if record.section < 2 {
            found.ttl = found.ttl.min(ttl);
        }
        if record.section == 0 {
            answered |= record.kind == query.kind() || query.kind() == rr::ANY;
        }
        if record.section == 1 && record.kind == rr::SOA {
            // RFC 2308, section 5: the lesser of the record's own time and its last field.
            let minimum = read_u32(answer, record.end.checked_sub(4)?)?;
            negative_ttl = Some(ttl.min(minimum).min(MAX_NEGATIVE_TTL));
        }
        found.ttl_at.push(u16::try_from(record.ttl_at).ok()?);
        if let Some(count) = found.counts.get_mut(record.section) {
            *count += 1;
        }
    }
    if !answered || rcode == Rcode::NameError {
        found.ttl = found.ttl.min(negative_ttl?);
    }
    // An OPT record before others would move them when it is cut out.
    let opt_is_last = found.opt.is_none_or(|(_, opt_end)| opt_end == answer.len());
    (end == answer.len() && opt_is_last && found.ttl > 0).then_some(found)
}

/// One record of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Record {
    /// Answer, authority, additional: 0, 1, 2.
    pub(super) section: usize,
    pub(super) kind: u16,
    ttl: u32,
    /// Where it begins, has its time to live, and ends.
    pub(super) start: usize,
    pub(super) ttl_at: usize,
    pub(super) end: usize,
}

impl Record {
    /// Whether it is an OPT record, which has the root's name (RFC 6891, section 6.1.2).
    fn is_opt(&self) -> bool {
        self.kind == rr::OPT && self.ttl_at == self.start + 5
    }
}

/// The records of a message; `None` as the last where it is malformed.
pub(super) struct Records<'a> {
    message: &'a [u8],
    at: usize,
    left: [u16; 3],
    broken: bool,
}

impl<'a> Records<'a> {
    /// The records behind the question's end.
    pub(super) fn of(message: &'a [u8], at: usize) -> Self {
        let left = [6, 8, 10].map(|at| read_u16(message, at).unwrap_or(0));
        Self { message, at, left, broken: false }
    }

    fn read(&mut self, section: usize) -> Option<Record> {
        let start = self.at;
        let name_end = name_end(self.message, start)?;
        let kind = read_u16(self.message, name_end)?;
        let ttl_at = name_end + 4;
        let ttl = read_u32(self.message, ttl_at)?;
        let length = usize::from(read_u16(self.message, ttl_at + 4)?);
        let end = ttl_at + 6 + length;
        if end > self.message.len() {
            return None;
        }
        self.at = end;
        Some(Record { section, kind, ttl, start, ttl_at, end })
    }
}

impl Iterator for Records<'_> {
    type Item = Option<Record>;

    fn next(&mut self) -> Option<Option<Record>> {
        if self.broken {
            return None;
        }
        let (section, left) = self.left.iter_mut().enumerate().find(|(_, left)| **left > 0)?;
        *left -= 1;
        let record = self.read(section);
        self.broken = record.is_none();
        Some(record)
    }
}

/// The name in the question of a message with one, as the message has it.
pub(super) fn question_name(message: &[u8]) -> Option<&[u8]> {
    question_name_end(message).and_then(|end| message.get(HEADER_LEN..end))
}

/// The addresses in the answer section of a message with one question, with their times to live in
/// seconds.
pub(super) fn addresses(message: &[u8]) -> impl Iterator<Item = (IpAddr, u32)> {
    let start = question_name_end(message).map_or(message.len(), |end| end + 4);
    let records = Records::of(message, start).flatten().take_while(|record| record.section == 0);
    records.filter_map(|record| {
        let data = message.get(record.ttl_at + 6..record.end)?;
        let address = match record.kind {
            rr::A => <[u8; 4]>::try_from(data).ok().map(IpAddr::from),
            rr::AAAA => <[u8; 16]>::try_from(data).ok().map(IpAddr::from),
            _ => None,
        };
        Some((address?, record.ttl))
    })
}

/// How many records the header announces behind the question.
fn record_count(message: &[u8]) -> usize {
    [6, 8, 10].map(|at| usize::from(read_u16(message, at).unwrap_or(0))).iter().sum()
}

fn read_edns(message: &[u8], record: &Record) -> Edns {
    // RFC 6891, section 6.1.2: the class is the client's limit, the time to live holds flags.
    let udp_len = record.ttl_at.checked_sub(2).and_then(|at| read_u16(message, at)).unwrap_or(0);
    let mut options = false;
    let mut at = record.ttl_at + 6;
    while at < record.end {
        let (code, length) = (read_u16(message, at), read_u16(message, at + 2));
        options |= code != Some(COOKIE);
        at += 4 + usize::from(length.unwrap_or(u16::MAX));
    }
    options |= at != record.end;
    Edns {
        udp_len: usize::from(udp_len),
        dnssec_ok: record.ttl & u32::from(DNSSEC_OK) != 0,
        options,
    }
}

/// The option of RFC 7873: an answer without it is one of a server that does not know it.
const COOKIE: u16 = 10;
/// Among the flags of an OPT record (RFC 3225).
pub(super) const DNSSEC_OK: u16 = 0x8000;

pub(super) fn read_u16(message: &[u8], at: usize) -> Option<u16> {
    message.get(at..)?.first_chunk().copied().map(u16::from_be_bytes)
}

fn read_u32(message: &[u8], at: usize) -> Option<u32> {
    message.get(at..)?.first_chunk().copied().map(u32::from_be_bytes)
}

/// Where the name of the only question ends; `None` if the question is malformed or compressed.
fn question_name_end(message: &[u8]) -> Option<usize> {
    let mut at = HEADER_LEN;
    loop {
        let length = *message.get(at)?;
        at += 1;
        if length == 0 {
            break;
        }
        if length > MAX_LABEL_LEN {
            return None;
        }
        at += usize::from(length);
        if at - HEADER_LEN >= MAX_NAME_LEN {
            return None;
        }
    }
    (at + 4 <= message.len()).then_some(at)
}

/// A name with what its pointers lead to, each of which leads further back.
pub(super) fn read_name(message: &[u8], mut at: usize) -> Option<Vec<u8>> {
    let (mut name, mut before) = (Vec::new(), at);
    loop {
        let length = *message.get(at)?;
        match length {
            0 => {
                name.push(0);
                return Some(name);
            }
            0xc0.. => {
                at = usize::from(read_u16(message, at)? & 0x3fff);
                if at >= before {
                    return None;
                }
                before = at;
            }
            1..=MAX_LABEL_LEN => {
                let end = at + 1 + usize::from(length);
                name.extend_from_slice(message.get(at..end)?);
                at = end;
                if name.len() >= MAX_NAME_LEN {
                    return None;
                }
            }
            _ => return None,
        }
    }
}

/// Where a record's name ends: at the root's label or behind the first pointer.
pub(super) fn name_end(message: &[u8], start: usize) -> Option<usize> {
    let mut at = start;
    loop {
        let length = *message.get(at)?;
        match length {
            0 => return Some(at + 1),
            0xc0.. => return Some(at + 2),
            1..=MAX_LABEL_LEN => at += 1 + usize::from(length),
            _ => return None,
        }
        if at - start >= MAX_NAME_LEN {
            return None;
        }
    }
}

#[cfg(test)]
mod tests;
