//! The control socket with real clients, without a container behind it.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::Shutdown;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;

use mio::{Events, Poll};
use serde_json::{Value, json};

use super::*;
use crate::config::{Lease, Network};
use crate::engine::host::{HostEvent, HostOp};
use crate::io::outbound::OutboundPolicy;
use crate::socket_file::SocketFile;
use crate::sys::unix;
use crate::testing::{self, scratch};

struct Lab {
    path: PathBuf,
    poll: Poll,
    control: Control,
    engine: Engine,
    sockets: Sockets,
    published: PublishedPorts,
    ports: Ports,
    resolvers: HostResolvers,
    now: Instant,
}

const LISTENER: Token = Token(0);
const FIRST_CLIENT: usize = 1;

impl Lab {
    fn new(test: &str) -> Self {
        drop(crate::sys::link::bring_up("lo"));
        let base = scratch(&format!("ctl-{test}"));
        let path = base.join("control.sock");
        let socket = SocketFile::bind(&path).unwrap();
        let place = Place { socket, directory: Directory::of(base.clone()).unwrap() };
        let poll = Poll::new().unwrap();
        let registry = || poll.registry().try_clone().unwrap();
        let mut engine = Engine::new(Network::default(), [1, 2, 3, 4]);
        let lease = Lease::default();
        let port = engine.add_port(lease, true, Instant::ZERO).unwrap();
        let facts = Facts {
            id: "0123456789abcdef".repeat(4),
            name: "web".to_owned(),
            pid: Some(4711),
            netns: None,
            called_as: "rnsnet",
            ifname: "eth0".to_owned(),
            inode: Some(7),
            aliases: Vec::new(),
            metric: Some(0),
        };
        let instance = Instance::private(facts, Network::default(), Some((port, lease)));
        let control =
            Control::new(place, registry(), LISTENER, FIRST_CLIENT, instance, MAX_CLIENTS).unwrap();
        let sockets = Sockets::new(registry(), 100, OutboundPolicy::default());
        let published = PublishedPorts::default();
        let ports = Ports::new(registry(), 200);
        let resolvers = HostResolvers::default();
        let now = Instant::ZERO;
        Self { path, poll, control, engine, sockets, published, ports, resolvers, now }
    }

    fn connect(&self) -> UnixStream {
        let stream = UnixStream::connect(&self.path).unwrap();
        stream.set_read_timeout(Some(std::time::Duration::from_secs(60))).unwrap();
        stream
    }

    /// What the event loop does, until nothing happens any more.
    fn turn(&mut self) {
        let mut events = Events::with_capacity(64);
        loop {
            testing::wait(&mut self.poll, &mut events, 10);
            let due = self.control.poll_timeout(self.now).is_some_and(|at| at <= self.now);
            if events.is_empty() && !due {
                return;
            }
            let mut target = Target {
                engine: &mut self.engine,
                sockets: &mut self.sockets,
                published: &mut self.published,
                interfaces: None,
                ports: &mut self.ports,
                resolvers: &mut self.resolvers,
                now: self.now,
            };
            for event in &events {
                if event.token() == LISTENER {
                    self.control.accept(self.now);
                } else if self.control.is_client(event.token()) {
                    self.control.handle_client(event.token(), &mut target);
                }
            }
            self.control.handle_timeout(&mut target);
            while let Some(op) = self.engine.poll_host() {
                match op {
                    HostOp::Close { socket, reset } => {
                        self.sockets.close(socket, reset);
                    }
                    other => panic!("{other:?}"),
                }
            }
            self.control.tell_of_lookups(&self.engine, self.now);
            self.control.flush(self.now);
        }
    }

    fn ask_on(&mut self, client: &UnixStream, execute: &str, arguments: Value) -> Value {
        let request = json!({"version": 1, "execute": execute, "arguments": arguments});
        let mut writer = client;
        writeln!(writer, "{request}").unwrap();
        self.turn();
        read(client)
    }

    fn ask(&mut self, execute: &str, arguments: Value) -> Value {
        let client = self.connect();
        self.ask_on(&client, execute, arguments)
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        if let Some(base) = self.path.parent() {
            drop(std::fs::remove_dir_all(base));
        }
    }
}

/// One line, and not a byte more.
fn read(mut client: &UnixStream) -> Value {
    let mut line = Vec::new();
    let mut byte = [0];
    while client.read(&mut byte).unwrap() > 0 && byte != *b"\n" {
        line.push(byte[0]);
    }
    serde_json::from_slice(&line).unwrap_or(Value::Null)
}

#[test]
fn the_network_is_told_of_and_changed() {
    let mut lab = Lab::new("life");
    let mode = std::fs::metadata(&lab.path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let info = lab.ask("info", json!({}));
    let container = &info["return"]["containers"][0];
    assert_eq!(container["name"], "web");
    assert_eq!(container["interface"]["ipv4"], "10.0.2.100");
    let at = testing::address();
    let (ip, port) = (at.ip(), at.port());
    let spec = format!("{at}:80");
    let published = lab.ask("publish", json!({"spec": spec}));
    let expected = json!({
        "protocol": "tcp", "guest_port": 80, "host_address": ip, "host_port": port
    });
    assert_eq!(published, json!({"return": {"ports": [expected]}}));
    assert_eq!(lab.ask("ports", json!({"container": "0123"})), published);
    let again = lab.ask("publish", json!({"spec": spec, "container": "web"}));
    assert_eq!(again["error"]["kind"], "conflict", "{again}");
    assert_eq!(lab.ask("unpublish", json!({"spec": spec})), published);
    // Free when the answer is there.
    testing::nobody_listens(at);
    let gone = lab.ask("unpublish", json!({"spec": spec}));
    assert_eq!(gone["error"]["kind"], "not-found");
    // By the host's port, too, of the same protocol.
    assert_eq!(lab.ask("publish", json!({"spec": spec})), published);
    for other in [format!("{port}/udp"), "80".to_owned(), format!("{port}:81")] {
        let gone = lab.ask("unpublish", json!({"spec": other}));
        assert_eq!(gone["error"]["kind"], "not-found", "{other}");
    }
    assert_eq!(lab.ask("unpublish", json!({"spec": port.to_string()})), published);
    assert_eq!(lab.ask("flows", json!({})), json!({"return": {"flows": []}}));
    assert_eq!(lab.ask("stats", json!({}))["return"]["stats"][0]["rx_packets"], 0);
    assert!(!lab.control.asked_to_end());
    assert_eq!(lab.ask("detach", json!({"container": "db"}))["error"]["kind"], "not-found");
    assert_eq!(lab.ask("detach", json!({"container": "web"})), json!({"return": {}}));
    assert!(lab.control.asked_to_end());
}

#[test]
fn what_is_refused_says_of_what_sort_the_reason_is() {
    let mut lab = Lab::new("kinds");
    let bind = |port| std::net::TcpListener::bind(("127.0.0.1", port));
    let two_in_a_row = || {
        let first = bind(0).ok()?;
        let port = first.local_addr().ok()?.port();
        Some((port, first, bind(port.checked_add(1)?).ok()?))
    };
    let (port, _first, _second) = std::iter::repeat_with(two_in_a_row).flatten().next().unwrap();
    let range = format!("127.0.0.1:{port}-{}:80", port + 1);
    for (command, arguments, kind) in [
        ("publish", json!({"spec": format!("127.0.0.1:{port}:80")}), "conflict"),
        ("publish", json!({"spec": range}), "conflict"),
        ("publish", json!({"spec": "fd:3:80"}), "arguments"),
        ("publish", json!({"spec": "192.0.2.77:0:80"}), "arguments"),
        ("publish", json!({"spec": "192.0.2.77:8080:80"}), "failed"),
        ("publish", json!({"spec": "nosuch0/8080:80"}), "failed"),
        ("publish", json!({"spec": "1-5000:1-5000"}), "failed"),
        ("publish", json!({"spec": "8080:80", "container": "db"}), "not-found"),
        ("publish", json!({"spec": "8080:80", "service": "web"}), "failed"),
        ("publish", json!({"spec": "8080:80", "service": "a b"}), "arguments"),
        ("ports", json!({"container": "web", "service": "web"}), "arguments"),
        ("rate", json!({"container": "db", "rate": "1mbit"}), "not-found"),
        ("rate", json!({"container": "web", "rate": "1"}), "arguments"),
        ("stats", json!({"container": "db"}), "not-found"),
        ("dns-log", json!({"container": "db"}), "not-found"),
        ("log-level", json!({"level": "loud"}), "arguments"),
        ("flows", json!({"container": "db"}), "not-found"),
        ("network", json!({}), "failed"),
        ("frobnicate", json!({}), "command"),
    ] {
        let answer = lab.ask(command, arguments.clone());
        assert_eq!(answer["error"]["kind"], kind, "{command} {arguments}: {answer}");
    }
}

#[test]
fn every_command_is_listed_and_refuses_what_it_does_not_know() {
    let mut lab = Lab::new("list");
    let version = lab.ask("version", json!({}));
    assert_eq!(version["return"]["version"], 1);
    for name in version["return"]["commands"].as_array().unwrap() {
        let answer = lab.ask(name.as_str().unwrap(), json!({"nobody knows this": 1}));
        assert_eq!(answer["error"]["kind"], "arguments", "{name}");
    }
    assert!(!lab.control.asked_to_end());
}

#[test]
fn a_request_may_come_in_any_pieces() {
    let mut lab = Lab::new("pieces");
    let mut client = lab.connect();
    for byte in b"{\"version\":1,\"execute\":\"ports\"}\n" {
        client.write_all(&[*byte]).unwrap();
        lab.turn();
    }
    assert_eq!(read(&client), json!({"return": {"ports": []}}));
    // Many in one write are answered in order, more than one turn takes among them.
    let mut all = String::new();
    for number in 0..100 {
        let execute = if number % 2 == 0 { "ports" } else { "frobnicate" };
        all.push_str(&format!("{{\"version\":1,\"execute\":\"{execute}\"}}\n"));
    }
    client.write_all(all.as_bytes()).unwrap();
    lab.turn();
    for number in 0..100 {
        let key = if number % 2 == 0 { "return" } else { "error" };
        assert!(read(&client).get(key).is_some(), "{number}");
    }
}

#[test]
fn a_request_without_end_and_one_without_an_end_in_time_are_refused() {
    let mut lab = Lab::new("long");
    let mut client = lab.connect();
    let writer = std::thread::spawn(move || {
        drop(client.write_all(&vec![b'x'; MAX_REQUEST + 10]));
        client
    });
    while !writer.is_finished() {
        lab.turn();
    }
    lab.turn();
    let client = writer.join().unwrap();
    assert_eq!(read(&client)["error"]["message"], "the request is too long");

    let mut late = lab.connect();
    late.write_all(b"{\"version\"").unwrap();
    lab.turn();
    lab.now += LIMITS.patience;
    lab.turn();
    assert_eq!(read(&late)["error"]["message"], "no request came in time");
    assert_eq!(late.read(&mut [0]).unwrap(), 0);
}

#[test]
fn a_crowd_that_is_silent_makes_room() {
    let mut lab = Lab::new("crowd");
    let crowd: Vec<UnixStream> = (0..200).map(|_| lab.connect()).collect();
    lab.turn();
    let mut client = lab.connect();
    client.write_all(b"{\"version\":1,\"execute\":\"ports\"}\n").unwrap();
    for _ in 0..10 {
        lab.now += LIMITS.grace;
        lab.turn();
    }
    assert_eq!(read(&client), json!({"return": {"ports": []}}));
    drop(crowd);
}

#[test]
fn who_sees_the_end_in_order_finds_nothing() {
    // Whoever looks is another process; a thread that waits for the end meets the same moments.
    for _ in 0..100 {
        let (mut lab, mut other) = (Lab::new("end"), Lab::new("other"));
        let (socket, state) = (lab.path.clone(), lab.path.with_file_name("state.json"));
        let directory = lab.path.parent().unwrap().to_owned();
        lab.control.directory.state().unwrap();
        let client = lab.connect();
        lab.turn();
        // A lab that goes takes its files with it, so another's takes the control socket.
        std::mem::swap(&mut lab.control, &mut other.control);
        let there = std::thread::scope(|threads| {
            let looks = threads.spawn(|| {
                assert_eq!((&client).read_to_end(&mut Vec::new()).unwrap(), 0);
                // It may begin to serve in the same place.
                state.exists() || socket.exists() || directory.exists()
            });
            drop(other);
            looks.join().unwrap()
        });
        assert!(!there);
    }
}

#[test]
fn only_who_finds_no_place_meets_the_bound() {
    let mut lab = Lab::new("bound");
    let mut crowd: Vec<UnixStream> = (0..MAX_CLIENTS).map(|_| lab.connect()).collect();
    lab.turn();
    assert!(!lab.control.was_full());
    let mut client = lab.connect();
    client.write_all(b"{\"version\":1,\"execute\":\"ports\"}\n").unwrap();
    lab.turn();
    assert!(lab.control.was_full());
    // It waits, and is one client however often there is no place.
    lab.now += LIMITS.grace / 2;
    lab.turn();
    assert!(!lab.control.was_full());
    crowd.pop().unwrap().shutdown(Shutdown::Both).unwrap();
    for _ in 0..3 {
        lab.now += LIMITS.grace / 4;
        lab.turn();
    }
    assert_eq!(read(&client), json!({"return": {"ports": []}}));
    assert!(!lab.control.was_full());
}

#[test]
fn a_thousand_clients_are_answered() {
    let mut lab = Lab::new("thousand");
    let path = lab.path.clone();
    let clients = std::thread::spawn(move || {
        for _ in 0..1000 {
            let mut client = UnixStream::connect(&path).unwrap();
            client.write_all(b"{\"version\":1,\"execute\":\"ports\"}\n").unwrap();
            let mut line = String::new();
            BufReader::new(&client).read_line(&mut line).unwrap();
            assert_eq!(line, "{\"return\":{\"ports\":[]}}\n");
        }
    });
    while !clients.is_finished() {
        lab.turn();
    }
    clients.join().unwrap();
}

#[test]
fn listeners_hear_of_what_happens_and_slow_ones_are_let_go() {
    let mut lab = Lab::new("events");
    let listener = lab.connect();
    let answer = lab.ask_on(&listener, "events", json!({"since_ms": 0}));
    assert_eq!(answer, json!({"return": {"streaming": true}}));
    assert_eq!(read(&listener)["event"]["action"], "connect");
    // Nothing is owed by who only listens.
    lab.now += LIMITS.patience + LIMITS.patience;
    lab.turn();
    let spec = format!("{}:80", testing::address());
    lab.ask("publish", json!({"spec": spec}));
    let event = read(&listener);
    assert_eq!(
        (&event["event"]["action"], &event["event"]["name"]),
        (&json!("publish"), &json!("web"))
    );
    assert_eq!(event["event"]["port"]["guest_port"], 80);
    lab.ask("unpublish", json!({"spec": spec}));
    assert_eq!(read(&listener)["event"]["action"], "unpublish");
    // It reads no more, and is not remembered for ever.
    for _ in 0..3000 {
        lab.control.events.push("connect", "default", "0", &"x".repeat(100), None);
        lab.control.tell();
        lab.control.flush(lab.now);
    }
    lab.now += LIMITS.patience;
    lab.turn();
    assert_eq!(lab.control.clients.iter().filter(|client| client.session.events).count(), 0);
    assert_eq!(lab.control.events.past.len(), MAX_EVENTS);
    lab.control.farewell(lab.now);
}

/// Asks for a capture; the pipe to read it from.
fn capture(lab: &mut Lab, client: &UnixStream, arguments: Value) -> (io::PipeReader, Value) {
    let (reader, writer) = io::pipe().unwrap();
    let request = json!({"version": 1, "execute": "capture", "arguments": arguments});
    let line = format!("{request}\n");
    unix::send(client.as_fd(), line.as_bytes(), &[OwnedFd::from(writer)]).unwrap();
    lab.turn();
    (reader, read(client))
}

#[test]
fn captures_are_whole_and_never_wait() {
    let mut lab = Lab::new("capture");
    let (slow, counted) = (lab.connect(), lab.connect());
    let (mut pipe, answer) = capture(&mut lab, &slow, json!({}));
    assert_eq!(answer, json!({"return": {"streaming": true}}));
    let (mut few, answer) = capture(&mut lab, &counted, json!({"count": 2, "snap": 10}));
    assert_eq!(answer, json!({"return": {"streaming": true}}));
    assert!(lab.control.is_capturing());
    for _ in 0..100 {
        lab.control.record(PortId(0), &[7; 1514], false);
    }
    lab.turn();
    let mut file = Vec::new();
    few.read_to_end(&mut file).unwrap();
    assert_eq!(file.len(), 24 + 2 * (16 + 10));
    assert_eq!(read(&counted), json!({"event": {"captured": 2, "missed": 0}}));

    // A pipe holds 64 KiB: what did not fit is counted, and no record is torn.
    let mut head = [0; 24];
    pipe.read_exact(&mut head).unwrap();
    slow.shutdown(Shutdown::Both).unwrap();
    lab.turn();
    assert!(!lab.control.is_capturing());
    let mut records = Vec::new();
    pipe.read_to_end(&mut records).unwrap();
    // The last may be cut by the end of the pipe alone.
    assert!(records.len() > 20 * 1530, "{}", records.len());
    for record in records.chunks_exact(1530) {
        assert_eq!(record[8..12], 1514_u32.to_ne_bytes());
    }
}

#[test]
fn a_capture_needs_one_pipe() {
    let mut lab = Lab::new("nopipe");
    let none = lab.ask("capture", json!({}));
    assert_eq!(none["error"]["message"], "capture takes 1 descriptors, but 0 came");
    let client = lab.connect();
    let file = std::fs::File::open("/dev/null").unwrap();
    unix::send(client.as_fd(), b"{\"version\":1,\"execute\":\"capture\"}\n", &[file.into()])
        .unwrap();
    lab.turn();
    assert_eq!(read(&client)["error"]["message"], "the descriptor is no pipe");
}

#[test]
fn another_user_is_turned_away() {
    if !nix::unistd::geteuid().is_root() {
        eprintln!("SKIP: only root can be another user");
        return;
    }
    let mut lab = Lab::new("other");
    let base = lab.path.parent().unwrap();
    // As if the directory's and the file's modes had not kept it out.
    std::fs::set_permissions(base, std::fs::Permissions::from_mode(0o755)).unwrap();
    std::fs::set_permissions(&lab.path, std::fs::Permissions::from_mode(0o666)).unwrap();
    let path = lab.path.clone();
    let pid = crate::sys::netns::spawn(move || {
        nix::unistd::setuid(nix::unistd::Uid::from_raw(65_534)).unwrap();
        let mut client = UnixStream::connect(&path).unwrap();
        drop(client.write_all(b"{\"version\":1,\"execute\":\"info\"}\n"));
        let mut answer = Vec::new();
        drop(client.read_to_end(&mut answer));
        i32::try_from(answer.len()).unwrap_or(1)
    })
    .unwrap();
    let status = loop {
        lab.turn();
        if let Some(status) = crate::sys::netns::wait_nonblocking(pid).unwrap() {
            break status;
        }
    };
    assert_eq!(status, 0);
}

// D21
#[test]
fn who_follows_the_dns_log_is_told_what_is_new_and_leaves_with_the_container() {
    let mut lab = Lab::new("dns-log");
    let nothing = json!({"return": {"lookups": []}});
    assert_eq!(lab.ask("dns-log", json!({})), nothing);
    let client = lab.connect();
    let answer = lab.ask_on(&client, "dns-log", json!({"container": "web", "follow": true}));
    assert_eq!(answer, json!({"return": {"streaming": true}}));
    for number in 1..3 {
        look_up(&mut lab);
        lab.turn();
        let told = read(&client);
        assert_eq!(told["event"]["number"], number, "{told}");
        assert_eq!((&told["event"]["name"], &told["event"]["type"]), (&json!("x"), &json!("A")));
        assert_eq!(told["event"]["container"], "web");
    }
    let past = lab.ask("dns-log", json!({}));
    assert_eq!(past["return"]["lookups"].as_array().unwrap().len(), 2, "{past}");
    let port = lab.engine.ports().next().unwrap().0;
    lab.engine.remove_port(port, lab.now);
    lab.control.handle_gone(port);
    lab.turn();
    assert_eq!((&client).read(&mut [0]).unwrap(), 0);
}

/// The container asks its forwarder, which has no server, for `x`.
fn look_up(lab: &mut Lab) {
    let question = b"\x12\x34\x01\0\0\x01\0\0\0\0\0\0\x01x\0\0\x01\0\x01";
    let port = lab.engine.ports().next().unwrap().0;
    let socket = lab.engine.listen_dns(port);
    let from = "127.0.0.1:4000".parse().unwrap();
    let event = HostEvent::Datagram { from, to: None, payload: question };
    lab.engine.handle_host(socket, event, lab.now);
    assert!(matches!(lab.engine.poll_host(), Some(HostOp::Send { .. })));
}
