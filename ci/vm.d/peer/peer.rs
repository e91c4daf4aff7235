//! A client and server for ci/vm: every byte it takes is compared with what was sent.
//!
//! ```text
//! peer tcp-server ADDR:PORT...              answers `get` and checks `put`, for ever
//! peer udp-server ADDR:PORT...              answers each datagram that is right, for ever
//! peer dns-server ADDR:PORT V4 V6           says for every name that it is at V4 and V6, for ever
//! peer get NAME:PORT BYTES                  takes so many bytes by TCP
//! peer put NAME:PORT BYTES                  sends so many, and has them confirmed
//! peer udp NAME:PORT COUNT                  exchanges datagrams of 1 to 8,000 bytes
//! ```
//!
//! Exits with 0 when everything was exact, else with 1 and a line that says what was not. Both
//! sides make the bytes from the same seed, so nothing else needs to be agreed on.

use std::env;
use std::error::Error;
use std::io::{Read, Write};
use std::net::{
    Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr, TcpListener, TcpStream, ToSocketAddrs, UdpSocket,
};
use std::process::ExitCode;
use std::thread;
use std::time::Duration;

type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

/// No answer within this time is a failure; an emulated machine is slow.
const PATIENCE: Duration = Duration::from_secs(30);
/// Bytes at a time.
const CHUNK: usize = 16 * 1024;
/// The largest datagram sent: more than five frames of 1,500 bytes, so that fragments are tested.
const MAX_DATAGRAM: u64 = 8_000;

fn main() -> ExitCode {
    let words: Vec<String> = env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let result = match words.as_slice() {
        ["tcp-server", at @ ..] if !at.is_empty() => serve(at, tcp_server),
        ["udp-server", at @ ..] if !at.is_empty() => serve(at, udp_server),
        ["dns-server", at, v4, v6] => dns_server(at, v4, v6),
        ["get", at, count] => count.parse().map_err(Into::into).and_then(|count| get(at, count)),
        ["put", at, count] => count.parse().map_err(Into::into).and_then(|count| put(at, count)),
        ["udp", at, count] => count.parse().map_err(Into::into).and_then(|count| udp(at, count)),
        _ => Err("no such command; the head of peer.rs lists them".into()),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("peer {}: {error}", words.join(" "));
            ExitCode::FAILURE
        }
    }
}

/// Pseudo-random bytes (xorshift64), the same for the same seed.
struct Bytes(u64);

impl Bytes {
    fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    fn fill(&mut self, buffer: &mut [u8]) {
        for byte in buffer {
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            *byte = self.0.to_le_bytes()[3];
        }
    }
}

/// Sends so many bytes.
fn send(to: &mut TcpStream, count: u64) -> Result<()> {
    let mut bytes = Bytes::new(count);
    let mut buffer = [0; CHUNK];
    let mut left = count;
    while left > 0 {
        let part = &mut buffer[..usize::try_from(left.min(CHUNK as u64))?];
        bytes.fill(part);
        to.write_all(part)?;
        left -= part.len() as u64;
    }
    Ok(())
}

/// Takes bytes up to the end of the stream, and compares them.
fn expect(from: &mut TcpStream, count: u64) -> Result<()> {
    let mut bytes = Bytes::new(count);
    let mut buffer = [0; CHUNK];
    let mut wanted = [0; CHUNK];
    let mut at = 0;
    loop {
        let got = from.read(&mut buffer).map_err(|error| format!("after {at} bytes: {error}"))?;
        if got == 0 {
            break;
        }
        bytes.fill(&mut wanted[..got]);
        if buffer[..got] != wanted[..got] {
            return Err(format!("other bytes than were sent, after {at}").into());
        }
        at += got as u64;
    }
    if at == count { Ok(()) } else { Err(format!("{at} bytes instead of {count}").into()) }
}

fn connect(at: &str) -> Result<TcpStream> {
    let mut last = "no address".into();
    for address in at.to_socket_addrs()? {
        match TcpStream::connect_timeout(&address, PATIENCE) {
            Ok(stream) => {
                stream.set_read_timeout(Some(PATIENCE))?;
                stream.set_write_timeout(Some(PATIENCE))?;
                return Ok(stream);
            }
            Err(error) => last = format!("{address}: {error}").into(),
        }
    }
    Err(last)
}

fn get(at: &str, count: u64) -> Result<()> {
    let mut stream = connect(at)?;
    writeln!(stream, "get {count}")?;
    expect(&mut stream, count)
}

fn put(at: &str, count: u64) -> Result<()> {
    let mut stream = connect(at)?;
    writeln!(stream, "put {count}")?;
    send(&mut stream, count)?;
    // The other side must still be able to answer on the half that is open.
    stream.shutdown(Shutdown::Write)?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    if answer == "exact\n" { Ok(()) } else { Err(format!("the server says {answer:?}").into()) }
}

/// Runs a server for each address, each in its thread.
fn serve(at: &[&str], server: fn(&str) -> Result<()>) -> Result<()> {
    thread::scope(|scope| {
        let threads: Vec<_> = at.iter().map(|at| scope.spawn(move || server(at))).collect();
        threads.into_iter().try_for_each(|one| one.join().map_err(|_| "a server panicked")?)
    })
}

fn tcp_server(at: &str) -> Result<()> {
    let listener = TcpListener::bind(at)?;
    loop {
        let (stream, client) = listener.accept()?;
        thread::spawn(move || {
            if let Err(error) = answer(stream) {
                eprintln!("peer tcp-server: {client}: {error}");
            }
        });
    }
}

fn answer(mut stream: TcpStream) -> Result<()> {
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let mut line = Vec::new();
    let mut byte = [0];
    while stream.read(&mut byte)? == 1 && byte != *b"\n" {
        line.push(byte[0]);
    }
    match String::from_utf8(line)?.split_once(' ') {
        Some(("get", count)) => send(&mut stream, count.parse()?),
        Some(("put", count)) => match expect(&mut stream, count.parse()?) {
            Ok(()) => Ok(writeln!(stream, "exact")?),
            Err(error) => Ok(writeln!(stream, "{error}")?),
        },
        _ => Err("neither get nor put".into()),
    }
}

/// The datagram of this number: the number, then bytes made from it.
fn datagram(number: u64) -> Result<Vec<u8>> {
    let len = 8 + number.wrapping_mul(0x9e37_79b9) % (MAX_DATAGRAM - 8);
    let mut datagram = vec![0; usize::try_from(len)?];
    Bytes::new(number).fill(&mut datagram);
    datagram[..8].copy_from_slice(&number.to_le_bytes());
    Ok(datagram)
}

/// Answers datagram N with datagram N + 1,000,000, and nothing else at all.
fn udp_server(at: &str) -> Result<()> {
    let socket = UdpSocket::bind(at)?;
    let mut buffer = vec![0; 65_536];
    loop {
        let (len, client) = socket.recv_from(&mut buffer)?;
        let got = &buffer[..len];
        let Some(number) = got.first_chunk().map(|number| u64::from_le_bytes(*number)) else {
            eprintln!("peer udp-server: {client}: only {len} bytes");
            continue;
        };
        if number < ANSWER && got == datagram(number)? {
            socket.send_to(&datagram(number + ANSWER)?, client)?;
        } else {
            eprintln!("peer udp-server: {client}: a datagram that nobody sent");
        }
    }
}

/// What an answer's number is above its question's.
const ANSWER: u64 = 1_000_000;

/// One datagram at a time, so that none has a reason to be lost.
fn udp(at: &str, count: u64) -> Result<()> {
    let to = at.to_socket_addrs()?.next().ok_or("no address")?;
    let any: SocketAddr = match to {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    let socket = UdpSocket::bind(any)?;
    socket.connect(to)?;
    socket.set_read_timeout(Some(PATIENCE))?;
    let mut buffer = vec![0; 65_536];
    for number in 0..count {
        socket.send(&datagram(number)?)?;
        let len = socket
            .recv(&mut buffer)
            .map_err(|error| format!("no answer to datagram {number} of {count}: {error}"))?;
        if buffer[..len] != datagram(number + ANSWER)? {
            return Err(format!("the answer to datagram {number} is not what was sent").into());
        }
    }
    Ok(())
}

/// RFC 1035, of which one question with one answer is enough here.
fn dns_server(at: &str, v4: &str, v6: &str) -> Result<()> {
    let (v4, v6): (Ipv4Addr, Ipv6Addr) = (v4.parse()?, v6.parse()?);
    let socket = UdpSocket::bind(at)?;
    let mut query = [0; 512];
    loop {
        let (len, client) = socket.recv_from(&mut query)?;
        if let Some(answer) = dns_answer(&query[..len], v4, v6) {
            socket.send_to(&answer, client)?;
        }
    }
}

/// `None` for what is no question.
fn dns_answer(query: &[u8], v4: Ipv4Addr, v6: Ipv6Addr) -> Option<Vec<u8>> {
    // The question's name ends with an empty label; its type and class follow.
    let name_len = query.get(12..)?.iter().position(|byte| *byte == 0)? + 1;
    let question = query.get(12..12 + name_len + 4)?;
    let (&id, &[_, kind, _, class]) = (query.first_chunk::<2>()?, question.last_chunk()?);
    let address: Vec<u8> = match (kind, class) {
        (1, 1) => v4.octets().into(),
        (28, 1) => v6.octets().into(),
        _ => Vec::new(),
    };
    let answers = u8::from(!address.is_empty());
    let mut answer = id.to_vec();
    // A response, recursion desired and available, no error; one question and the answer.
    answer.extend([0x81, 0x80, 0, 1, 0, answers, 0, 0, 0, 0]);
    answer.extend(question);
    if !address.is_empty() {
        // The name of the question, its type and class, 60 s, and the address.
        answer.extend([0xc0, 12, 0, kind, 0, class, 0, 0, 0, 60, 0]);
        answer.extend([u8::try_from(address.len()).ok()?]);
        answer.extend(address);
    }
    Some(answer)
}
