//! Tests of the protocol's words.

use super::*;

fn parsed(line: &str) -> Result<Request, (Kind, String)> {
    Request::parse(line.as_bytes()).map_err(|refusal| (refusal.kind, refusal.message))
}

#[test]
fn a_request_is_an_object_of_this_version() {
    let request = parsed(r#"{"version":1,"execute":"info"}"#).unwrap();
    assert_eq!((request.execute.as_str(), request.arguments.len()), ("info", 0));
    let request = r#"{"version":1,"execute":"publish","arguments":{"spec":"8080:80"}}"#;
    let request = parsed(request).unwrap();
    let Spec { spec, container, .. } = request.arguments().unwrap();
    assert_eq!((spec.as_str(), container), ("8080:80", None));
    assert_eq!(Request::parse(request.line().strip_suffix(b"\n").unwrap()), Ok(request));
}

#[test]
fn what_is_no_request_is_told_why() {
    for (line, kind, message) in [
        ("", Kind::Syntax, "not one line of JSON"),
        ("{", Kind::Syntax, "not one line of JSON"),
        (r#"{"version":1,"execute":"info"} {}"#, Kind::Syntax, "not one line of JSON"),
        ("[]", Kind::Syntax, "a request is an object"),
        ("null", Kind::Syntax, "a request is an object"),
        ("{}", Kind::Syntax, "version is missing"),
        (r#"{"execute":"info"}"#, Kind::Syntax, "version is missing"),
        (r#"{"version":2,"execute":5}"#, Kind::Version, "version 2 is not spoken here"),
        (r#"{"version":"1","execute":"info"}"#, Kind::Version, "version \"1\" is not"),
        (r#"{"version":1.0,"execute":"info"}"#, Kind::Version, "version 1.0 is not"),
        (r#"{"version":1}"#, Kind::Syntax, "execute is missing or no string"),
        (r#"{"version":1,"execute":null}"#, Kind::Syntax, "execute is missing or no string"),
        (r#"{"version":1,"execute":"a","arguments":[]}"#, Kind::Syntax, "arguments is no object"),
        (r#"{"version":1,"execute":"a","id":7}"#, Kind::Syntax, "unknown field \"id\""),
    ] {
        let (is, told) = parsed(line).unwrap_err();
        assert!(is == kind && told.starts_with(message), "{line}: {is:?} {told}");
    }
    // Deep nesting is refused by the parser, not by the stack.
    let nested = format!(r#"{{"version":1,"execute":"a","arguments":{}"#, "{\"a\":".repeat(9000));
    assert_eq!(parsed(&nested).unwrap_err().0, Kind::Syntax);
}

#[test]
fn arguments_have_their_names_and_types() {
    let request = |arguments: &str| {
        parsed(&format!(r#"{{"version":1,"execute":"publish","arguments":{arguments}}}"#)).unwrap()
    };
    for (arguments, message) in [
        ("{}", "publish: missing field `spec`"),
        (r#"{"spec":80}"#, "publish: invalid type: integer `80`, expected a string"),
        (r#"{"spec":"80:80","force":true}"#, "publish: unknown field `force`"),
        (r#"{"spec":"80:80","container":7}"#, "publish: invalid type"),
    ] {
        let refusal = request(arguments).arguments::<Spec>().unwrap_err();
        assert_eq!(refusal.kind, Kind::Arguments);
        assert!(refusal.message.starts_with(message), "{arguments}: {refusal}");
    }
    let asked: Capture = request(r#"{"count":3}"#).arguments().unwrap();
    assert_eq!(asked, Capture { count: Some(3), ..Capture::default() });
    for arguments in [r#"{"count":-1}"#, r#"{"snap":4294967296}"#, r#"{"count":"3"}"#] {
        assert!(request(arguments).arguments::<Capture>().is_err(), "{arguments}");
    }
}

#[test]
fn lines_are_taken_one_by_one() {
    let mut received = b"one\ntwo\n\nthr".to_vec();
    for line in [&b"one"[..], b"two", b""] {
        assert_eq!(take_line(&mut received).as_deref(), Some(line));
    }
    assert_eq!(take_line(&mut received), None);
    assert_eq!(received, b"thr");
}

#[test]
fn both_sides_understand_each_other() {
    let refusal = Refusal::new(Kind::NotFound, "no \"web\"\nat all");
    let line = answer(&Err(refusal.clone()));
    assert_eq!(line.iter().filter(|byte| **byte == b'\n').count(), 1);
    let said = |line: &[u8]| Said::parse(line.strip_suffix(b"\n").unwrap());
    assert_eq!(said(&line), Some(Said::Error(refusal)));
    assert_eq!(said(&answer(&Ok(json!({"a": 1})))), Some(Said::Return(json!({"a": 1}))));
    assert_eq!(said(&event(&json!("x"))), Some(Said::Event(json!("x"))));
    assert_eq!(Said::parse(b"{}"), None);
    assert_eq!(Said::parse(b"hello"), None);
    for kind in [
        Kind::Syntax,
        Kind::Version,
        Kind::Command,
        Kind::Arguments,
        Kind::NotFound,
        Kind::Conflict,
        Kind::Failed,
    ] {
        let refusal = Refusal::new(kind, "because");
        assert_eq!(said(&answer(&Err(refusal.clone()))), Some(Said::Error(refusal)));
    }
}

#[test]
fn a_name_comes_before_the_beginning_of_an_id() {
    let (one, other) = (&"db1".repeat(22)[..64], &"dc".repeat(32)[..]);
    let containers = [("web", one), ("db", other)];
    let meant = |word| meant(word, &containers);
    assert_eq!(meant("db"), Ok(1));
    assert_eq!(meant("web"), Ok(0));
    assert_eq!(meant(one), Ok(0));
    assert_eq!(meant("db1"), Ok(0));
    assert_eq!(meant("dc"), Ok(1));
    assert_eq!(meant("d"), Err(2));
    assert_eq!(meant("x"), Err(0));
    assert_eq!(meant(""), Err(0));
}

#[test]
fn an_id_is_64_digits() {
    assert!(is_id(&"0f".repeat(32)));
    for other in ["", "0f", "www.example.com", &"0F".repeat(32), &"0f".repeat(33)] {
        assert!(!is_id(other), "{other}");
    }
}
