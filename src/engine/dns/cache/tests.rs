use super::*;

fn question(name: &[u8], opt: &[u8]) -> Query {
    let count = u8::from(!opt.is_empty());
    let head = [b"\x12\x34\x01\0\0\x01\0\0\0\0\0", &[count][..]].concat();
    Query::parse(&[&head, name, b"\0\x01\0\x01", opt].concat()).unwrap()
}

const WEB: &[u8] = b"\x03web\x04test\0";
const DNSSEC: &[u8] = b"\0\0\x29\x05\x78\0\0\x80\0\0\0";

/// An answer with one address that is true for `ttl` seconds, and an OPT record.
fn answer(query: &Query, ttl: u8) -> Vec<u8> {
    let mut message = query.bytes()[..12 + query.question().len()].to_vec();
    message[2..12].copy_from_slice(&[0x85, 0xa0, 0, 1, 0, 1, 0, 0, 0, 1]);
    message.extend_from_slice(b"\xc0\x0c\0\x01\0\x01\0\0\0");
    message.extend_from_slice(&[ttl, 0, 4, 192, 0, 2, 9]);
    message.extend_from_slice(b"\0\0\x29\x04\xd0\0\0\0\0\0\0");
    message
}

fn cache(max_bytes: usize) -> Cache {
    Cache::new(KeyedHash::new([1, 2]), max_bytes)
}

fn at(seconds: i64) -> Instant {
    Instant::from_secs(1_000 + seconds)
}

/// What the cache says: the age of a fresh answer, or whether the servers are to be asked.
fn found(cache: &mut Cache, query: &Query, seconds: i64) -> String {
    match cache.find(query, at(seconds)) {
        Found::Fresh(kept) => format!("fresh {}", kept.age.unwrap()),
        Found::Stale { ask: true, .. } => "stale, ask".to_owned(),
        Found::Stale { ask: false, .. } => "stale".to_owned(),
        Found::Nothing => "nothing".to_owned(),
    }
}

#[test]
fn an_answer_lives_as_long_as_it_says_and_then_serves_in_need_for_a_day() {
    let mut cache = cache(10_000);
    let query = question(WEB, b"");
    cache.insert(&query, &answer(&query, 60), at(0));
    assert_eq!(found(&mut cache, &query, 0), "fresh 0");
    assert_eq!(found(&mut cache, &query, 59), "fresh 59");
    assert_eq!(found(&mut cache, &query, 60), "stale, ask");
    cache.note_failure(&query, at(61));
    assert_eq!(found(&mut cache, &query, 90), "stale");
    assert_eq!(found(&mut cache, &query, 91), "stale, ask");
    assert_eq!(found(&mut cache, &query, 86_459), "stale, ask");
    assert_eq!(found(&mut cache, &query, 86_460), "nothing");
    assert_eq!(cache.size(), (0, 0));
}

#[test]
fn a_question_is_its_name_in_any_case_its_type_and_what_dnssec_the_client_knows() {
    let mut cache = cache(10_000);
    let query = question(WEB, b"");
    cache.insert(&query, &answer(&query, 60), at(0));
    assert_eq!(found(&mut cache, &question(b"\x03wEB\x04TeSt\0", b""), 1), "fresh 1");
    assert_eq!(found(&mut cache, &question(WEB, DNSSEC), 1), "nothing");
    assert_eq!(found(&mut cache, &question(b"\x03wec\x04test\0", b""), 1), "nothing");
    let mut other_type = query.bytes().to_vec();
    let end = other_type.len();
    other_type[end - 3] = 28;
    assert_eq!(found(&mut cache, &Query::parse(&other_type).unwrap(), 1), "nothing");
    let mut checked = query.bytes().to_vec();
    checked[3] = 0x20;
    assert_eq!(found(&mut cache, &Query::parse(&checked).unwrap(), 1), "nothing");
}

#[test]
fn a_kept_answer_is_given_as_the_client_asked() {
    let mut cache = cache(10_000);
    let query = question(WEB, b"");
    cache.insert(&query, &answer(&query, 60), at(0));
    let asked = question(b"\x03WEB\x04test\0", b"");
    let Found::Fresh(kept) = cache.find(&asked, at(20)) else { panic!("not kept") };
    let given = kept.answer(&asked, 0xbeef, 512);
    // No longer authoritative, the id and name of this client, 40 seconds left, no OPT record.
    assert_eq!(
        given,
        b"\xbe\xef\x81\xa0\0\x01\0\x01\0\0\0\0\x03WEB\x04test\0\0\x01\0\x01\
          \xc0\x0c\0\x01\0\x01\0\0\0\x28\0\x04\xc0\0\x02\x09"
    );
    let edns = question(WEB, b"\0\0\x29\x05\x78\0\0\0\0\0\0");
    let Found::Stale { kept, .. } = cache.find(&edns, at(70)) else { panic!("not kept") };
    let given = kept.answer(&edns, 1, 512);
    assert_eq!(given[..12], *b"\0\x01\x81\x80\0\x01\0\x01\0\0\0\x01", "AD is gone");
    assert_eq!(given[32..36], [0, 0, 0, 30], "the time of stale records");
    assert!(given.ends_with(b"\0\0\x29\x04\xd0\0\0\0\0\0\x06\0\x0f\0\x02\0\x03"), "{given:02x?}");
}

#[test]
fn an_answer_that_is_too_long_for_this_client_is_truncated() {
    let mut cache = cache(10_000);
    let query = question(WEB, b"");
    cache.insert(&query, &answer(&query, 60), at(0));
    let Found::Fresh(kept) = cache.find(&query, at(0)) else { panic!("not kept") };
    assert_eq!(
        kept.answer(&query, 1, 41),
        b"\0\x01\x83\x80\0\x01\0\0\0\0\0\0\x03web\x04test\0\0\x01\0\x01"
    );
}

#[test]
fn memory_is_bounded_and_what_was_not_used_makes_room() {
    let mut cache = cache(10_000);
    let names = |index: u32| {
        let label = format!("n{index:03}");
        [b"\x04", label.as_bytes(), b"\x04test\0"].concat()
    };
    for index in 0..1000 {
        let query = question(&names(index), b"");
        cache.insert(&query, &answer(&query, 60), at(0));
        let first = found(&mut cache, &question(&names(0), b""), 1);
        assert_eq!(first, "fresh 1", "used all the time");
        assert!(cache.size().1 <= 10_000, "{:?}", cache.size());
    }
    assert_eq!(found(&mut cache, &question(&names(999), b""), 1), "fresh 1");
    assert_eq!(found(&mut cache, &question(&names(1), b""), 1), "nothing");
    let (answers, bytes) = cache.size();
    assert!(answers > 30, "{answers}");
    assert_eq!((cache.by_hash.len(), cache.by_use.len()), (answers, answers));
    // The same again replaces.
    let query = question(&names(999), b"");
    cache.insert(&query, &answer(&query, 60), at(0));
    assert_eq!(cache.size(), (answers, bytes));
}

#[test]
fn no_memory_keeps_nothing() {
    let mut cache = cache(0);
    let query = question(WEB, b"");
    cache.insert(&query, &answer(&query, 60), at(0));
    assert_eq!(found(&mut cache, &query, 0), "nothing");
}

#[test]
fn other_servers_make_every_answer_stale() {
    let mut cache = cache(10_000);
    let query = question(WEB, b"");
    cache.insert(&query, &answer(&query, 60), at(0));
    cache.expire_all(at(5));
    cache.note_failure(&query, at(5));
    assert_eq!(found(&mut cache, &query, 6), "stale");
    cache.expire_all(at(7));
    assert_eq!(found(&mut cache, &query, 8), "stale, ask");
}
