//! The rules on who may use what, as `docs/design.md` has them, checked on the text of the source.
//!
//! Every module of the top level stands above those that it uses ([`FLOORS`]): there is no circle.
//! The engine is pure: no socket, file, process, thread or clock. `unsafe` is in `src/sys` alone,
//! smoltcp's interfaces and sockets in `engine/stack.rs` alone. No file outgrows its reader.

use std::fs;
use std::path::{Path, PathBuf};

/// What the engine must not mention, not even in its tests.
const IMPURE: [&str; 16] = [
    "TcpStream",
    "TcpListener",
    "UdpSocket",
    "UnixStream",
    "std::fs",
    "std::process",
    "std::env",
    "std::thread",
    "std::time",
    "mio",
    "nix",
    "libc",
    "crate::io",
    "crate::sys",
    "Instant::now",
    "SystemTime",
];

/// Lines of code that may name smoltcp's sockets outside `engine/stack.rs`: the states and errors
/// of a connection, which have no other name.
const SOCKET_TYPES: (&str, &str) = ("engine/flow/tcp/", "use smoltcp::socket::tcp;");

/// The rooms of the house, from the top floor down: each uses only what stands below it.
const FLOORS: [&str; 24] = [
    "verbs",
    "session",
    "error",
    "doctor",
    "run",
    "attach",
    "io",
    "survivor",
    "cli",
    "client",
    "output",
    "runtime_dir",
    "socket_file",
    "control",
    "network",
    "testing",
    "clock",
    "engine",
    "pasta",
    "sys",
    "config",
    "json",
    "user",
    "sorted",
];

/// Longest file, in lines.
const LONGEST: usize = 800;

/// A line of code with where it is: comments are left out.
struct Line {
    file: String,
    number: usize,
    code: String,
}

fn sources(directory: &Path, found: &mut Vec<PathBuf>) {
    let entries = fs::read_dir(directory).expect("a readable source directory");
    for entry in entries {
        let path = entry.expect("a readable source directory").path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

/// Every source file by its path below `src`, with its text.
fn files() -> Vec<(String, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut paths = Vec::new();
    sources(&root, &mut paths);
    paths.sort();
    let name = |path: &PathBuf| {
        let below = path.strip_prefix(&root).expect("a path below src");
        below.to_str().expect("a UTF-8 path").to_owned()
    };
    let text = |path: &PathBuf| fs::read_to_string(path).expect("a readable source file");
    paths.iter().map(|path| (name(path), text(path))).collect()
}

fn lines() -> Vec<Line> {
    let mut lines = Vec::new();
    for (file, text) in files() {
        for (index, line) in text.lines().enumerate() {
            let code = line.split("//").next().unwrap_or_default().trim().to_owned();
            lines.push(Line { file: file.clone(), number: index + 1, code });
        }
    }
    lines
}

/// Whether `code` has `word` with no letter, digit or underscore next to it.
fn mentions(code: &str, word: &str) -> bool {
    let part = |c: char| c.is_alphanumeric() || c == '_';
    code.match_indices(word)
        .any(|(at, _)| !code[..at].ends_with(part) && !code[at + word.len()..].starts_with(part))
}

fn assert_none(what: &str, broken: impl Iterator<Item = Line>) {
    let broken: Vec<String> =
        broken.map(|line| format!("src/{}:{}: {}", line.file, line.number, line.code)).collect();
    assert!(broken.is_empty(), "{what}:\n{}", broken.join("\n"));
}

fn is_test(file: &str) -> bool {
    file.ends_with("tests.rs") || file.contains("/tests/")
}

#[test]
fn the_walk_finds_the_engine() {
    let files = files();
    for known in ["lib.rs", "engine/mod.rs", "engine/stack.rs", "sys/mod.rs"] {
        assert!(files.iter().any(|(file, _)| file == known), "src/{known} was not found");
    }
}

#[test]
fn the_engine_knows_no_kernel_and_no_clock() {
    let impure = |line: &Line| {
        line.file.starts_with("engine/") && IMPURE.iter().any(|word| mentions(&line.code, word))
    };
    assert_none("the engine is pure", lines().into_iter().filter(impure));
}

/// The first name of a path.
fn first_name(path: &str) -> Option<&str> {
    path.trim().split(|c: char| !c.is_alphanumeric() && c != '_').next()
}

/// The modules that a line names after `crate::`, be it one or several in braces.
fn rooms_named(code: &str) -> Vec<&str> {
    let mut rooms = Vec::new();
    for (at, word) in code.match_indices("crate::") {
        let rest = &code[at + word.len()..];
        match rest.strip_prefix('{') {
            Some(several) => rooms.extend(several.split(',').filter_map(first_name)),
            None => rooms.extend(first_name(rest)),
        }
    }
    rooms.retain(|room| !room.is_empty());
    rooms
}

#[test]
fn every_room_uses_only_what_stands_below_it() {
    let floor = |room: &str| FLOORS.iter().position(|known| *known == room);
    let mut seen = 0;
    for (file, text) in files() {
        let room = file.split(['/', '.']).next().unwrap_or_default();
        if is_test(&file) || matches!(room, "lib" | "main") {
            continue;
        }
        let own = floor(room);
        assert!(own.is_some(), "src/{file}: {room} has no place in FLOORS");
        let code = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
        for line in code.lines().map(|line| line.split("//").next().unwrap_or_default()) {
            for used in rooms_named(line).into_iter().filter(|used| *used != room) {
                assert!(
                    floor(used) > own,
                    "src/{file}: {room} does not stand above {used}: {line}"
                );
                seen += 1;
            }
        }
    }
    assert!(seen > 100, "the imports were not found");
}

#[test]
fn unsafe_code_is_in_sys_alone() {
    let broken = |line: &Line| !line.file.starts_with("sys/") && mentions(&line.code, "unsafe");
    assert_none("unsafe outside src/sys", lines().into_iter().filter(broken));
}

#[test]
fn smoltcp_s_stack_is_used_in_one_file() {
    let broken = |line: &Line| {
        let (place, allowed) = SOCKET_TYPES;
        let uses = line.code.starts_with("use smoltcp")
            && ["iface", "socket"].iter().any(|module| mentions(&line.code, module))
            || line.code.contains("smoltcp::iface")
            || line.code.contains("smoltcp::socket");
        let in_place = line.file == "engine/stack.rs"
            || is_test(&line.file)
            || (line.file.starts_with(place) && line.code == allowed);
        uses && !in_place
    };
    assert_none("smoltcp's stack outside engine/stack.rs", lines().into_iter().filter(broken));
}

#[test]
fn no_file_is_too_long_to_be_read() {
    let long: Vec<String> = files()
        .into_iter()
        .filter(|(_, text)| text.lines().count() > LONGEST)
        .map(|(file, text)| format!("src/{file}: {} lines", text.lines().count()))
        .collect();
    assert!(long.is_empty(), "over {LONGEST} lines:\n{}", long.join("\n"));
}

#[test]
fn the_rules_see_what_they_are_for() {
    assert!(mentions("use std::net::{IpAddr, UdpSocket};", "UdpSocket"));
    assert!(mentions("let x = unsafe { y };", "unsafe"));
    assert!(!mentions("#![deny(unsafe_code)]", "unsafe"));
    assert!(!mentions("let minimal = 1;", "mio"));
    assert_eq!(rooms_named("use crate::engine::dns;"), ["engine"]);
    assert_eq!(rooms_named("use crate::{session, sys::fd};"), ["session", "sys"]);
}
