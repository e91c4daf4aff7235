//! The API socket with real clients, without a network behind it.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};

use mio::{Events, Poll};

use super::*;
use crate::config::Network;
use crate::engine::Engine;
use crate::io::host::Sockets;
use crate::io::outbound::OutboundPolicy;
use crate::testing::{self, scratch};

/// A directory of the test's own, and an API socket in it.
struct Lab {
    directory: PathBuf,
    poll: Poll,
    api: Api,
    engine: Engine,
    sockets: Sockets,
    published: PublishedPorts,
    now: Instant,
}

const LISTENER: Token = Token(0);
const FIRST_CLIENT: usize = 1;

fn directory(test: &str) -> PathBuf {
    scratch(&format!("api-{test}"))
}

impl Lab {
    fn new(test: &str) -> Self {
        drop(crate::sys::link::bring_up("lo"));
        let directory = directory(test);
        let socket = ApiSocket::bind(&directory.join("api.sock")).unwrap();
        let poll = Poll::new().unwrap();
        let network = Network::default();
        let registry = || poll.registry().try_clone().unwrap();
        let addresses = network.addresses;
        let mut engine = Engine::new(network, [1, 2, 3, 4]);
        let lease = Lease::default();
        let port = engine.add_port(lease, false, Instant::ZERO).unwrap();
        let container = Container { port, lease, addresses };
        let api = Api::new(socket, registry(), LISTENER, FIRST_CLIENT, container).unwrap();
        let sockets = Sockets::new(registry(), 100, OutboundPolicy::default());
        let published = PublishedPorts::default();
        Self { directory, poll, api, engine, sockets, published, now: Instant::ZERO }
    }

    fn connect(&self) -> UnixStream {
        let stream = UnixStream::connect(self.directory.join("api.sock")).unwrap();
        stream.set_read_timeout(Some(std::time::Duration::from_secs(60))).unwrap();
        stream
    }

    /// What the event loop does, until nothing happens any more.
    fn turn(&mut self) {
        let mut events = Events::with_capacity(64);
        loop {
            testing::wait(&mut self.poll, &mut events, 20);
            if events.is_empty() {
                return;
            }
            for event in &events {
                if event.token() == LISTENER {
                    self.api.accept(self.now);
                } else if Api::is_client(FIRST_CLIENT, event.token()) {
                    let (engine, sockets) = (&mut self.engine, &mut self.sockets);
                    let place = Place { engine, sockets };
                    let mut target = Target { published: &mut self.published, place };
                    self.api.handle_client(event.token(), &mut target);
                }
            }
            while let Some(op) = self.engine.poll_host() {
                match op {
                    crate::engine::host::HostOp::Close { socket, reset } => {
                        self.sockets.close(socket, reset);
                    }
                    other => panic!("{other:?}"),
                }
            }
            self.api.flush(self.now);
        }
    }

    fn ask(&mut self, request: &str) -> String {
        let mut client = self.connect();
        client.write_all(request.as_bytes()).unwrap();
        self.turn();
        let mut answer = String::new();
        client.read_to_string(&mut answer).unwrap();
        answer
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        drop(std::fs::remove_dir_all(&self.directory));
    }
}

/// The port after that.
fn after(at: SocketAddr) -> SocketAddr {
    SocketAddr::new(at.ip(), at.port() + 1)
}

fn add(at: SocketAddr, range: u16) -> String {
    let (ip, port) = (at.ip(), at.port());
    format!(
        r#"{{"execute":"add_hostfwd","arguments":{{"proto":"tcp","host_addr":"{ip}","host_port":{port},"guest_addr":"","guest_port":80,"range":{range}}}}}"#
    )
}

#[test]
fn a_forward_is_bound_listed_and_taken_back() {
    let mut lab = Lab::new("life");
    let at = testing::address();
    assert_eq!(lab.ask(&add(at, 1)), r#"{"return":{"id":1}}"#);
    TcpStream::connect(at).unwrap();
    let list = lab.ask("{\"execute\":\"list_hostfwd\"}");
    assert!(list.contains(&format!("\"host_port\":{},", at.port())), "{list}");
    let remove = r#"{"execute":"remove_hostfwd","arguments":{"id":1}}"#;
    assert_eq!(lab.ask(remove), r#"{"return":{}}"#);
    // Free at once, and for others too.
    testing::nobody_listens(at);
    assert!(lab.ask(remove).contains("remove_hostfwd: bad arguments.id"));
    // An id is never used again.
    assert_eq!(lab.ask(&add(at, 1)), r#"{"return":{"id":2}}"#);
}

#[test]
fn a_range_is_bound_whole_or_not_at_all() {
    let mut lab = Lab::new("range");
    let at = testing::address();
    let taken = TcpListener::bind(after(at)).unwrap();
    let refused = lab.ask(&add(at, 2));
    assert!(refused.starts_with(r#"{"error":{"desc":"bad request: add_hostfwd: slirp_add_"#));
    assert!(refused.contains("in use"), "{refused}");
    testing::nobody_listens(at);
    drop(taken);
    testing::nobody_listens(after(at));
    assert_eq!(lab.ask(&add(at, 2)), r#"{"return":{"id":1}}"#);
    TcpStream::connect(after(at)).unwrap();
}

#[test]
fn a_name_is_free_for_others_only_after_its_socket_is_closed() {
    let mut lab = Lab::new("names");
    let at = testing::address();
    lab.ask(&add(at, 1));
    // Both requests in one turn: the second must not get the socket that the first closes.
    let (mut a, mut b) = (lab.connect(), lab.connect());
    a.write_all(br#"{"execute":"remove_hostfwd","arguments":{"id":1}}"#).unwrap();
    b.write_all(add(after(at), 1).as_bytes()).unwrap();
    lab.turn();
    TcpStream::connect(after(at)).unwrap();
    testing::nobody_listens(at);
}

#[test]
fn a_silent_client_delays_nobody_and_is_ended() {
    let mut lab = Lab::new("silent");
    let mut silent: Vec<UnixStream> = (0..MAX_CLIENTS).map(|_| lab.connect()).collect();
    lab.turn();
    lab.api.was_full();
    assert_eq!(lab.ask("{}"), r#"{"error":{"desc":"bad request: no execute found"}}"#);
    assert!(lab.api.was_full(), "one had to give way");
    lab.now = lab.api.poll_timeout().unwrap();
    lab.api.handle_timeout(lab.now);
    assert_eq!(lab.api.poll_timeout(), None);
    let mut answer = String::new();
    silent.pop().unwrap().read_to_string(&mut answer).unwrap();
    assert_eq!(answer, r#"{"error":{"desc":"bad request: cannot parse JSON"}}"#);
}

#[test]
fn a_request_may_come_in_two_writes_and_a_long_answer_in_many_reads() {
    let mut lab = Lab::new("slow");
    let mut client = lab.connect();
    client.write_all(b"{\"execute\":").unwrap();
    lab.turn();
    client.write_all(b"\"list_hostfwd\"}").unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    lab.turn();
    let mut answer = String::new();
    client.read_to_string(&mut answer).unwrap();
    assert_eq!(answer, r#"{"return":{"entries":[]},"entries":[]}"#);

    // As many forwards as make the answer longer than any socket buffer.
    let forward = Forward {
        protocol: crate::config::Protocol::Tcp,
        host: "127.0.0.1".parse().unwrap(),
        host_port: 1,
        guest: None,
        guest_port: 1,
        range: 1,
    };
    for id in 1..=4000 {
        lab.api.forwards.insert(id, Active { forward, rules: Vec::new() });
    }
    let mut client = lab.connect();
    client.write_all(b"{\"execute\":\"list_hostfwd\"}").unwrap();
    lab.turn();
    client.set_nonblocking(true).unwrap();
    let (mut answer, mut buffer) = (Vec::new(), [0; 1000]);
    loop {
        match client.read(&mut buffer) {
            Ok(0) => break,
            Ok(length) => answer.extend_from_slice(&buffer[..length]),
            Err(_) => lab.turn(),
        }
    }
    let answer: serde_json::Value = serde_json::from_slice(&answer).unwrap();
    assert_eq!(answer["return"]["entries"].as_array().unwrap().len(), 4000);
    assert_eq!(answer["entries"][3999]["id"], 4000);
}

#[test]
fn a_message_that_is_too_large_is_answered() {
    let mut lab = Lab::new("large");
    let answer = lab.ask(&"x".repeat(20_000));
    // Whichever limit the first read meets.
    assert!(answer.starts_with(r#"{"error":{"desc":"bad request: "#), "{answer}");
    let answer = lab.ask(&" ".repeat(4096));
    assert_eq!(answer, r#"{"error":{"desc":"bad request: too large message"}}"#);
}

#[test]
fn the_socket_is_private_and_goes_at_the_end() {
    let directory = directory("file");
    let path = directory.join("api.sock");
    let socket = ApiSocket::bind(&path).unwrap();
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(socket.directory(), directory);
    let error = ApiSocket::bind(&path).unwrap_err();
    assert!(matches!(error, ApiError::InUse { .. }), "{error}");
    drop(socket);
    assert!(!path.exists());

    // What a helper that was killed left behind.
    drop(UnixListener::bind(&path).unwrap());
    assert!(path.exists());
    testing::until("nobody listens", || ApiSocket::bind(&path).ok());

    std::fs::write(&path, "precious").unwrap();
    let error = ApiSocket::bind(&path).unwrap_err();
    assert!(matches!(error, ApiError::Bind(BindError::NotASocket { .. })), "{error}");
    assert_eq!(std::fs::read(&path).unwrap(), b"precious");

    let long = directory.join("a".repeat(108));
    let error = ApiSocket::bind(&long).unwrap_err();
    assert_eq!(error.to_string(), "the specified API socket path is too long (>= 108)");
    std::fs::remove_dir_all(&directory).unwrap();
}

#[test]
fn the_descriptors_of_control_and_dns_are_left_alone() {
    let mut lab = Lab::new("reserve");
    let at = testing::address();
    lab.sockets.keep_reserve(4);
    let refused = lab.ask(&add(at, 1));
    assert!(refused.contains("Too many open files"), "{refused}");
    testing::nobody_listens(at);
    lab.sockets.keep_reserve(usize::MAX);
    assert_eq!(lab.ask(&add(at, 1)), r#"{"return":{"id":1}}"#);
}

#[test]
fn a_forward_that_somebody_else_took_back_is_no_more() {
    let mut lab = Lab::new("elsewhere");
    let at = testing::address();
    lab.ask(&add(at, 2));
    let rule = lab.published.iter().next().unwrap().id();
    let (engine, sockets) = (&mut lab.engine, &mut lab.sockets);
    assert!(lab.published.unpublish(rule, &mut Place { engine, sockets }));
    let list = lab.ask("{\"execute\":\"list_hostfwd\"}");
    assert_eq!(list, r#"{"return":{"entries":[]},"entries":[]}"#);
    let remove = r#"{"execute":"remove_hostfwd","arguments":{"id":1}}"#;
    assert!(lab.ask(remove).contains("remove_hostfwd: bad arguments.id"));
    assert!(lab.api.forwards.is_empty());
}
