//! Requests to slirp4netns's API socket, whole and in pieces.

use rnsnet::config::{Addresses, Lease};

use super::protocol::{MAX_RANGE, Parsed, Refusal, Request, added, listed, parse, refused};

/// Runs one input: the bytes of one client.
///
/// # Panics
/// At the first thing that must not be.
pub fn run(bytes: &[u8]) {
    let addresses = Addresses::default();
    let lease = Lease::default();
    for cut in [bytes.len() / 2, bytes.len()] {
        // Whatever has come so far, a complete value stays what it is when more comes.
        let _ = parse(&bytes[..cut], false, &addresses);
    }
    let answer = match parse(bytes, true, &addresses) {
        Parsed::More => panic!("more, although the client has ended"),
        Parsed::Done(Ok(Request::Add(forward))) => {
            assert!((1..=MAX_RANGE).contains(&forward.range));
            assert!(forward.host_port != 0 && forward.guest_port != 0);
            assert!(forward.host_port.checked_add(forward.range - 1).is_some());
            assert!(forward.guest_port.checked_add(forward.range - 1).is_some());
            listed([(7, &forward)].into_iter(), &lease)
        }
        Parsed::Done(Ok(Request::List)) => listed(std::iter::empty(), &lease),
        Parsed::Done(Ok(Request::Remove(id))) => added(id),
        Parsed::Done(Err(refusal)) => {
            assert_ne!(refusal, Refusal::NoSuchId);
            refused(&refusal)
        }
    };
    serde_json::from_slice::<serde_json::Value>(&answer).expect("an answer in JSON");
}
