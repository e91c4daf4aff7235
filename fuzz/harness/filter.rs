//! Filters of captures: an expression, and frames that it is asked about.
//!
//! The first byte says how much of the input is the expression; the rest is a frame. Of what is
//! understood each part must mean what it means alone.

use rnsnet::control::filter::Filter;

use super::input::Input;

/// Words for expressions that a fuzzer need not spell. The first bytes of an input may choose some.
const WORDS: [&str; 32] = [
    "ip",
    "ip6",
    "arp",
    "tcp",
    "udp",
    "icmp",
    "icmp6",
    "ether",
    "host",
    "net",
    "port",
    "portrange",
    "src",
    "dst",
    "less",
    "greater",
    "and",
    "or",
    "not",
    "(",
    ")",
    "80",
    "0",
    "1-2",
    "10.0.2.100",
    "fd00::100",
    "10.0.0.0/8",
    "::/0",
    "02:00:00:00:00:01",
    "&&",
    "||",
    "!",
];

/// Runs one input.
///
/// # Panics
/// At the first thing that must not be.
pub fn run(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let length = usize::from(input.u8());
    let typed = match length & 0x80 {
        0 => String::from_utf8_lossy(input.bytes(length)).into_owned(),
        _ => {
            let words = input.bytes(length & 0x1f).iter();
            let words: Vec<_> = words.map(|byte| WORDS[usize::from(byte & 31)]).collect();
            words.join(" ")
        }
    };
    let rest = input.bytes(usize::MAX);
    // Whole frames of each kind, and one that is whatever it is.
    let kind = [0x08, 0x86, 0x08][rest.len() % 3];
    let low = [0x00, 0xdd, 0x06][rest.len() % 3];
    let framed = [&[2; 12][..], &[kind, low], rest].concat();
    let filter = match Filter::parse(&typed) {
        Ok(filter) => filter,
        Err(error) => {
            assert!(!error.to_string().is_empty(), "a message without words");
            return;
        }
    };
    let both = |other: &str| Filter::parse(&format!("({typed}) {other}"));
    for frame in [rest, &framed] {
        let kept = filter.matches(frame);
        let whole = |other: &Result<Filter, _>| other.as_ref().ok().map(|it| it.matches(frame));
        // Double negation, and what does not decide, change nothing; the bound on conditions may be
        // met by them.
        assert_eq!(
            Filter::parse(&format!("not not ({typed})")).map(|it| it.matches(frame)),
            Ok(kept)
        );
        assert!(whole(&both("and greater 0")).is_none_or(|it| it == kept), "{typed:?}");
        assert!(whole(&both("and less 0")).is_none_or(|it| !it || frame.is_empty()), "{typed:?}");
        // Not both it and its opposite; neither, where the frame is too short to say.
        let opposite = Filter::parse(&format!("not ({typed})")).map(|it| it.matches(frame));
        assert_ne!((kept, &opposite), (true, &Ok(true)), "{typed:?} and not");
        if frame.len() >= 128 {
            assert_eq!(opposite, Ok(!kept), "{typed:?} on a long frame");
        }
        // What was kept of the beginning is kept of all, unless its length was asked for.
        if !typed.contains("less") && !typed.contains("greater") {
            for cut in [frame.len() / 2, frame.len().saturating_sub(1)] {
                assert!(!filter.matches(&frame[..cut]) || kept, "{typed:?} of {cut} bytes");
            }
        }
    }
}
