//! Requests to the control socket, whole and in pieces, and what its clients are answered.

use rnsnet::control::{
    self, Arrival, Capture, Kind, Named, Refusal, Request, Said, Since, Spec, VERSION, Wanted,
    Whose,
};

/// Runs one input: the bytes of one client.
///
/// # Panics
/// At the first thing that must not be.
pub fn run(bytes: &[u8]) {
    // However it comes in pieces, the lines are the same and nothing is lost.
    let mut whole = bytes.to_vec();
    let lines: Vec<Vec<u8>> = std::iter::from_fn(|| control::take_line(&mut whole)).collect();
    let mut received = Vec::new();
    let mut again = Vec::new();
    for piece in bytes.chunks(1 + bytes.len() / 3) {
        received.extend_from_slice(piece);
        again.extend(std::iter::from_fn(|| control::take_line(&mut received)));
    }
    assert_eq!((&again, &received), (&lines, &whole));
    let length: usize = lines.iter().map(|line| line.len() + 1).sum();
    assert_eq!(length + whole.len(), bytes.len());

    for line in lines.iter().chain([&whole]) {
        let _ = Said::parse(line);
        match Request::parse(line) {
            Ok(request) => accepted(&request),
            Err(refusal) => refused(refusal),
        }
    }
    // The same where the fuzzer need not find the frame of a request.
    for words in [
        format!(r#"{{"version":{VERSION},"execute":"publish","arguments":"#),
        format!(r#"{{"version":{VERSION},"arguments":{{}},"execute":"#),
    ] {
        if let Ok(request) = Request::parse(&[words.as_bytes(), bytes, b"}"].concat()) {
            accepted(&request);
        }
    }
}

/// A request is what its own line says, and each type takes its arguments or says why not.
fn accepted(request: &Request) {
    let line = request.line();
    let (last, line) = line.split_last().expect("a line");
    assert!(*last == b'\n' && !line.contains(&b'\n'), "a request of several lines");
    // Numbers beyond 2^53 are read as the double next to them, or the one after.
    let again = Request::parse(line).expect("what it says itself");
    assert_eq!(again.execute, request.execute);
    assert!(again.arguments.keys().eq(request.arguments.keys()), "other arguments");
    let text = request.line();
    assert!(text.contains(&b'.') || text.contains(&b'e') || again == *request, "{again:?}");
    let taken = [
        request.arguments::<Spec>().map(drop),
        request.arguments::<Whose>().map(drop),
        request.arguments::<Named>().map(drop),
        request.arguments::<Since>().map(drop),
        request.arguments::<Capture>().map(drop),
        request.arguments::<Wanted>().map(drop),
        request.arguments::<Arrival>().map(drop),
    ];
    for refusal in taken.into_iter().filter_map(Result::err) {
        assert_eq!(refusal.kind, Kind::Arguments);
        refused(refusal);
    }
}

/// The other end reads a refusal as what it was.
fn refused(refusal: Refusal) {
    assert!(!refusal.message.is_empty(), "a message without words");
    let answer = control::answer(&Err(refusal.clone()));
    let (last, line) = answer.split_last().expect("a line");
    assert!(*last == b'\n' && !line.contains(&b'\n'), "an answer of several lines");
    assert_eq!(Said::parse(line), Some(Said::Error(refusal)));
}
