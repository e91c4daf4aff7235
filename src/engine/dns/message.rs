//! As much of a DNS message as a forwarder must understand: the header and the one question.
//!
//! Names are walked, never decompressed: a question cannot be compressed (RFC 9267, section 2).

/// Length of the header (RFC 1035, section 4.1.1), in bytes.
const HEADER_LEN: usize = 12;
/// Longest name with its length bytes (RFC 1035, section 2.3.4), in bytes.
const MAX_NAME_LEN: usize = 255;
const MAX_LABEL_LEN: u8 = 63;

const FLAG_RESPONSE: u8 = 0x80;
/// QR, and the opcode and RD that an answer repeats.
const REPEATED: u8 = 0x79;

/// Response codes that a forwarder cares for (RFC 1035, section 4.1.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Rcode {
    FormatError,
    ServerFailure,
    NotImplemented,
    Refused,
    /// Any other, success among them.
    Other,
}

impl Rcode {
    fn from_flags(low: u8) -> Self {
        match low & 0xf {
            1 => Self::FormatError,
            2 => Self::ServerFailure,
            4 => Self::NotImplemented,
            5 => Self::Refused,
            _ => Self::Other,
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

/// A query with exactly one question.
#[derive(Debug, Clone)]
pub(super) struct Query {
    bytes: Vec<u8>,
    /// Where the question ends.
    question_end: usize,
}

impl Query {
    /// Takes a query; `None` if it is an answer, has not one question, or is malformed.
    pub(super) fn parse(payload: &[u8]) -> Option<Self> {
        let &[_, _, flags, _, questions0, questions1, ..] = payload.first_chunk::<HEADER_LEN>()?;
        if flags & FLAG_RESPONSE != 0 || [questions0, questions1] != [0, 1] {
            return None;
        }
        let question_end = question_end(payload)?;
        Some(Self { bytes: payload.to_vec(), question_end })
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
        let question = self.bytes.get(HEADER_LEN..self.question_end)?;
        let repeated = answer.get(HEADER_LEN..self.question_end)?;
        let same = [questions0, questions1] == [0, 1] && question.eq_ignore_ascii_case(repeated);
        same.then_some(rcode)
    }

    /// SERVFAIL to this query under the client's id.
    pub(super) fn failure(&self, id: u16) -> Vec<u8> {
        let mut answer = self.bytes.get(..self.question_end).unwrap_or_default().to_vec();
        if let Some(header) = answer.first_chunk_mut::<HEADER_LEN>() {
            let [id0, id1] = id.to_be_bytes();
            let flags = header[2] & REPEATED | FLAG_RESPONSE;
            // RA and SERVFAIL; one question, no records.
            *header = [id0, id1, flags, 0x82, 0, 1, 0, 0, 0, 0, 0, 0];
        }
        answer
    }
}

/// Where the only question of a message ends; `None` if it is malformed or compressed.
fn question_end(message: &[u8]) -> Option<usize> {
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
    let end = at + 4;
    (end <= message.len()).then_some(end)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn query(name: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0x12, 0x34, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
        bytes.extend_from_slice(name);
        bytes.extend_from_slice(&[0, 1, 0, 1]);
        bytes
    }

    fn answer(name: &[u8], id: u8) -> Vec<u8> {
        let mut bytes = query(name);
        bytes[1] = id;
        bytes[2] |= FLAG_RESPONSE;
        bytes
    }

    #[test]
    fn only_the_answer_to_this_very_question_counts() {
        let sent = Query::parse(&query(b"\x01a\x04test\0")).unwrap();
        assert_eq!(sent.rcode_of_answer(&answer(b"\x01A\x04TEST\0", 0x34)), Some(Rcode::Other));
        assert_eq!(sent.rcode_of_answer(&answer(b"\x01b\x04test\0", 0x34)), None);
        assert_eq!(sent.rcode_of_answer(&answer(b"\x01a\x04test\0", 0x35)), None);
        assert_eq!(sent.rcode_of_answer(&query(b"\x01a\x04test\0")), None);
        assert_eq!(sent.rcode_of_answer(b""), None);
    }

    #[test]
    fn malformed_queries_are_refused_and_none_panics() {
        let whole = query(b"\x01a\x04test\0");
        for length in 0..whole.len() {
            assert!(Query::parse(&whole[..length]).is_none(), "{length} bytes were taken");
        }
        assert!(Query::parse(&query(b"\xc0\x0c")).is_none(), "a compressed question");
        assert!(
            Query::parse(&query(&[b"\x3f".as_slice(), &[b'a'; 63]].concat().repeat(5))).is_none()
        );
        assert!(Query::parse(&answer(b"\x01a\0", 0x34)).is_none(), "an answer as a query");
        let mut two = whole;
        two[5] = 2;
        assert!(Query::parse(&two).is_none(), "two questions");
    }

    #[test]
    fn a_failure_repeats_id_and_question() {
        let failure = Query::parse(&query(b"\x01a\0")).unwrap().failure(0xbeef);
        assert_eq!(failure[..4], [0xbe, 0xef, 0x81, 0x82]);
        assert_eq!(failure[12..], *b"\x01a\0\0\x01\0\x01");
    }
}
