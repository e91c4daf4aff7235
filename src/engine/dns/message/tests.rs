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
    assert_eq!(sent.rcode_of_answer(&answer(b"\x01A\x04TEST\0", 0x34)), Some(Rcode::NoError));
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
    assert!(Query::parse(&query(&[b"\x3f".as_slice(), &[b'a'; 63]].concat().repeat(5))).is_none());
    assert!(Query::parse(&answer(b"\x01a\0", 0x34)).is_none(), "an answer as a query");
    let mut two = whole;
    two[5] = 2;
    assert!(Query::parse(&two).is_none(), "two questions");
}

#[test]
fn what_a_client_says_of_itself_is_read() {
    let plain = Query::parse(&query(b"\x01a\0")).unwrap();
    assert_eq!((plain.max_udp_len(), plain.edns()), (512, None));
    assert!(plain.is_cacheable());
    let with = |opt: &[u8]| {
        let mut bytes = query(b"\x01a\0");
        bytes[11] = 1;
        bytes.extend_from_slice(opt);
        Query::parse(&bytes).unwrap()
    };
    let edns = with(b"\0\0\x29\x05\x78\0\0\x80\0\0\0");
    assert_eq!(edns.max_udp_len(), 1400);
    assert_eq!(edns.edns().map(|edns| (edns.dnssec_ok, edns.options)), Some((true, false)));
    assert!(edns.is_cacheable());
    let tiny = with(b"\0\0\x29\0\x10\0\0\0\0\0\0");
    assert_eq!(tiny.max_udp_len(), 512);
    let cookie = with(b"\0\0\x29\x05\x78\0\0\0\0\0\x0c\0\x0a\0\x08abcdefgh");
    assert!(cookie.is_cacheable(), "the answer does not depend on a cookie");
    let subnet = with(b"\0\0\x29\x05\x78\0\0\0\0\0\x0b\0\x08\0\x07\0\x01\x18\0\xc0\0\x02");
    assert!(!subnet.is_cacheable(), "the answer depends on the client's network");
    assert!(!with(b"\0\0\x29\x05\x78\0\0\0\0\0\x02\0\x0a").is_cacheable(), "cut off");
    assert!(!with(b"\0\0\x10\0\x01\0\0\0\0\0\0").is_ordinary(), "a TXT record");
    assert!(!with(b"").is_ordinary(), "a record is announced and missing");
}

/// An answer to `query(b"\x01a\x04test\0")` with these records behind the question.
fn with_records(flags: [u8; 2], counts: [u8; 3], records: &[&[u8]]) -> Vec<u8> {
    let mut bytes = answer(b"\x01a\x04test\0", 0x34);
    bytes[2] |= flags[0];
    bytes[3] |= flags[1];
    for (at, count) in [7, 9, 11].into_iter().zip(counts) {
        bytes[at] = count;
    }
    [&bytes[..], &records.concat()].concat()
}

const A: &[u8] = b"\xc0\x0c\0\x01\0\x01\0\0\0\x3c\0\x04\xc0\0\x02\x09";
const CNAME: &[u8] = b"\xc0\x0c\0\x05\0\x01\0\0\0\x0a\0\x02\xc0\x0e";
const OPT: &[u8] = b"\0\0\x29\x04\xd0\0\0\0\0\0\0";
/// TTL 3600, minimum 300.
const SOA: &[u8] = b"\xc0\x0e\0\x06\0\x01\0\0\x0e\x10\0\x16\0\0\0\0\0\x01\0\0\0\x02\0\0\0\x03\0\0\0\x04\0\0\x01\x2c";

#[test]
fn an_answer_is_kept_for_as_long_as_its_shortest_record() {
    let sent = Query::parse(&query(b"\x01a\x04test\0")).unwrap();
    let ttl = |flags, counts, records: &[&[u8]]| {
        let message = with_records(flags, counts, records);
        // Cut anywhere, it is malformed, and nothing panics.
        for length in 0..message.len() {
            assert_eq!(keepable(&sent, &message[..length]), None, "{length}");
        }
        keepable(&sent, &message).map(|found| found.ttl)
    };
    let none = [0, 0];
    assert_eq!(ttl(none, [1, 0, 0], &[A]), Some(60));
    assert_eq!(ttl(none, [2, 0, 1], &[CNAME, A, OPT]), Some(10));
    assert_eq!(ttl(none, [0, 1, 0], &[SOA]), Some(300), "no such record");
    assert_eq!(ttl([0, 3], [0, 1, 0], &[SOA]), Some(300), "no such name");
    assert_eq!(ttl(none, [1, 1, 0], &[CNAME, SOA]), Some(10), "an alias of nothing");
    assert_eq!(ttl([0, 3], [0, 0, 0], &[]), None, "nobody says for how long (RFC 2308)");
    assert_eq!(ttl(none, [1, 0, 0], &[CNAME]), None);
    assert_eq!(ttl([2, 0], [1, 0, 0], &[A]), None, "truncated");
    assert_eq!(ttl([0, 2], [1, 0, 0], &[A]), None, "SERVFAIL");
    assert_eq!(ttl([0, 5], [1, 0, 0], &[A]), None, "REFUSED");
    assert_eq!(ttl(none, [1, 0, 1], &[A, b"\0\0\x29\x04\xd0\x01\0\0\0\0\0"]), None, "BADVERS");
    assert_eq!(ttl(none, [1, 0, 2], &[A, OPT, OPT]), None, "two OPT records");
    assert_eq!(ttl(none, [1, 0, 2], &[A, OPT, A]), None, "OPT is not the last");
    let zero = [&A[..6], &[0; 4], &A[10..]].concat();
    assert_eq!(ttl(none, [1, 0, 0], &[&zero]), None);
    let never = [&A[..6], &[0xff; 4], &A[10..]].concat();
    assert_eq!(ttl(none, [1, 0, 0], &[&never]), None, "RFC 2181, section 8");
    let long = [&A[..6], &[0x7f; 4], &A[10..]].concat();
    assert_eq!(ttl(none, [1, 0, 0], &[&long]), Some(86_400));
    let more = with_records(none, [1, 0, 0], &[A, b"x"]);
    assert_eq!(keepable(&sent, &more), None, "something behind the end");
    let found = keepable(&sent, &with_records(none, [2, 0, 1], &[CNAME, A, OPT])).unwrap();
    assert_eq!((found.ttl_at, found.counts, found.opt), (vec![30, 44], [2, 0, 0], Some((54, 65))));
}

#[test]
fn names_that_never_end_are_malformed() {
    let sent = Query::parse(&query(b"\x01a\x04test\0")).unwrap();
    let long = [&[63; 64].repeat(5)[..], &A[2..]].concat();
    assert_eq!(keepable(&sent, &with_records([0, 0], [1, 0, 0], &[&long])), None);
    let reserved = [b"\x80\x0c", &A[2..]].concat();
    assert_eq!(keepable(&sent, &with_records([0, 0], [1, 0, 0], &[&reserved])), None);
}
