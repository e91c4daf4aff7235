//! Load that `iperf3` does not make, for `ci/bench`: request/response, connection rate, datagrams,
//! idle connections, and a link with a rate, a delay and a short queue.
//!
//! Compiled by `ci/bench` with rustc alone; uses nothing but the standard library and no `unsafe`.
//! Every client prints one line of JSON. Measures only: what the numbers mean is said in
//! `docs/benchmarks.md`.

use std::fs::File;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

const USAGE: &str = "usage: netload serve TCP_PORT | hold PORT
       netload rr|crr ADDR:PORT SECONDS
       netload udp-up|udp-down ADDR:PORT SECONDS SIZE RATE    (RATE 0: as fast as it goes)
       serve, udp-up and udp-down use the UDP socket on descriptor 0, which serve's must be bound
       netload idle ADDR:PORT COUNT    (until standard input ends)
       netload link MBIT DELAY_US QUEUE_FRAMES    (between the TAPs on descriptors 0 and 1)";

/// Bytes of a request, and of its response.
const REQUEST: usize = 64;
/// Connections that are made at a time to measure how many can be made in a second.
const CALLERS: u64 = 8;
/// Longer than any honest answer takes.
const PATIENCE: Duration = Duration::from_secs(5);

type Outcome = Result<(), Box<dyn std::error::Error>>;

fn main() -> Outcome {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    match args[..] {
        ["serve", tcp] => serve(tcp.parse()?),
        ["hold", port] => hold(port.parse()?),
        ["rr", server, seconds] => rr(server.parse()?, span(seconds)?),
        ["crr", server, seconds] => crr(server.parse()?, span(seconds)?),
        ["udp-up", server, seconds, size, rate] => {
            udp_up(server.parse()?, span(seconds)?, size.parse()?, rate.parse()?)
        }
        ["udp-down", server, seconds, size, rate] => {
            udp_down(server.parse()?, span(seconds)?, size.parse()?, rate.parse()?)
        }
        ["idle", server, count] => idle(server.parse()?, count.parse()?),
        ["link", mbit, delay, queue] => link(mbit.parse()?, delay.parse()?, queue.parse()?),
        _ => Err(USAGE.into()),
    }
}

fn span(seconds: &str) -> Result<Duration, Box<dyn std::error::Error>> {
    Ok(Duration::from_secs_f64(seconds.parse()?))
}

fn any(port: u16) -> SocketAddr {
    SocketAddr::new(std::net::Ipv6Addr::UNSPECIFIED.into(), port)
}

/// Answers requests on TCP and UDP until it is killed.
fn serve(tcp: u16) -> Outcome {
    let listener = TcpListener::bind(any(tcp))?;
    // A thread a connection would measure how fast threads are made.
    for _ in 0..2 * CALLERS {
        let listener = listener.try_clone()?;
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                // The client ends it; how is of no interest here.
                drop(answer(stream));
            }
        });
    }
    serve_udp(&udp_socket()?)
}

fn answer(mut stream: TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut buffer = [0; REQUEST];
    while stream.read_exact(&mut buffer).is_ok() {
        stream.write_all(&buffer)?;
    }
    Ok(())
}

/// Accepts connections, answers one request on each and keeps them all.
fn hold(port: u16) -> Outcome {
    let mut held = Vec::new();
    for stream in TcpListener::bind(any(port))?.incoming() {
        let mut stream = stream?;
        let mut buffer = [0; REQUEST];
        if stream.read_exact(&mut buffer).and_then(|()| stream.write_all(&buffer)).is_ok() {
            held.push(stream);
        }
    }
    Ok(())
}

fn call(server: SocketAddr) -> io::Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&server, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

fn request(stream: &mut TcpStream) -> io::Result<()> {
    let mut buffer = [7; REQUEST];
    stream.write_all(&buffer)?;
    stream.read_exact(&mut buffer)
}

/// Requests one after the other on one connection.
fn rr(server: SocketAddr, span: Duration) -> Outcome {
    let mut stream = call(server)?;
    request(&mut stream)?;
    let mut times = Vec::new();
    let start = Instant::now();
    while start.elapsed() < span {
        let begin = Instant::now();
        request(&mut stream)?;
        times.push(begin.elapsed());
    }
    let rate = times.len() as f64 / start.elapsed().as_secs_f64();
    times.sort_unstable();
    let micros = |share: f64| {
        let index = (times.len() as f64 * share) as usize;
        times.get(index).or(times.last()).map_or(0.0, |time| time.as_secs_f64() * 1e6)
    };
    println!("{{\"rate\": {rate:.1}, \"p50\": {:.1}, \"p99\": {:.1}}}", micros(0.5), micros(0.99));
    Ok(())
}

/// Connect, request, response, close; several callers at a time.
fn crr(server: SocketAddr, span: Duration) -> Outcome {
    let (made, failed) = (AtomicU64::new(0), AtomicU64::new(0));
    let start = Instant::now();
    thread::scope(|scope| {
        for _ in 0..CALLERS {
            scope.spawn(|| {
                while start.elapsed() < span {
                    let outcome = call(server).and_then(|mut stream| request(&mut stream));
                    let count = if outcome.is_ok() { &made } else { &failed };
                    count.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
    });
    let rate = made.into_inner() as f64 / start.elapsed().as_secs_f64();
    println!("{{\"rate\": {rate:.1}, \"failed\": {}}}", failed.into_inner());
    Ok(())
}

/// Datagrams begin with what they are.
const DATA: u8 = b'D';
/// To the server: size (2 bytes), rate (4), microseconds (4): send me data.
const GO: u8 = b'G';
/// To the server: how much data came? Back: count (8), nanoseconds from first to last (8).
const REPORT: u8 = b'R';
/// From the server: that was all; the number sent (8).
const END: u8 = b'E';

fn serve_udp(socket: &UdpSocket) -> Outcome {
    let mut buffer = vec![0; 65_536];
    let mut seen = Seen::default();
    loop {
        // An error is what an earlier client's going brought.
        let Ok((len, client)) = socket.recv_from(&mut buffer) else {
            continue;
        };
        match buffer[..len] {
            [DATA, ..] => seen.note(),
            [REPORT, ..] => {
                let reply = [&[REPORT][..], &seen.count.to_le_bytes(), &seen.nanos().to_le_bytes()];
                drop(socket.send_to(&reply.concat(), client));
            }
            [GO, a, b, c, d, e, f, g, h, i, j, ..] => {
                let size = u16::from_le_bytes([a, b]).into();
                let span = Duration::from_micros(u32::from_le_bytes([g, h, i, j]).into());
                let rate = u32::from_le_bytes([c, d, e, f]);
                let sent = send(span, size, rate, |data| socket.send_to(data, client));
                for _ in 0..5 {
                    thread::sleep(Duration::from_millis(20));
                    drop(socket.send_to(&[&[END][..], &sent.to_le_bytes()].concat(), client));
                }
            }
            // The start of a measurement.
            _ => seen = Seen::default(),
        }
    }
}

/// Data that came.
#[derive(Default)]
struct Seen {
    count: u64,
    span: Option<(Instant, Instant)>,
}

impl Seen {
    fn note(&mut self) {
        let now = Instant::now();
        self.count += 1;
        self.span = Some((self.span.map_or(now, |(first, _)| first), now));
    }

    fn nanos(&self) -> u64 {
        let nanos = self.span.map_or(0, |(first, last)| (last - first).as_nanos());
        u64::try_from(nanos).unwrap_or(u64::MAX)
    }

    fn print(&self, sent: u64) {
        let rate = self.count as f64 * 1e9 / self.nanos().max(1) as f64;
        let loss = 1.0 - self.count as f64 / sent.max(1) as f64;
        println!("{{\"rate\": {rate:.1}, \"sent\": {sent}, \"loss\": {loss:.6}}}");
    }
}

/// Sends data for a while; in bursts of half a millisecond where a rate is asked for. After a pause
/// that the scheduler made it goes on, it does not catch up: that would fill any socket's buffer.
fn send(
    span: Duration,
    size: usize,
    rate: u32,
    mut send: impl FnMut(&[u8]) -> io::Result<usize>,
) -> u64 {
    let data = vec![DATA; size];
    let burst = u64::from(rate / 1000);
    let start = Instant::now();
    let (mut sent, mut skipped) = (0, 0);
    while start.elapsed() < span {
        if rate > 0 {
            let due = (start.elapsed().as_secs_f64() * f64::from(rate)) as u64;
            skipped = due.saturating_sub(sent + burst).max(skipped);
            if sent + skipped >= due {
                thread::sleep(Duration::from_micros(500));
                continue;
            }
        }
        if send(&data).is_ok() {
            sent += 1;
        }
    }
    sent
}

/// The socket that was made for us: the standard library cannot ask for a larger receive buffer.
fn udp_socket() -> io::Result<UdpSocket> {
    Ok(io::stdin().as_fd().try_clone_to_owned()?.into())
}

fn udp_client(server: SocketAddr) -> io::Result<UdpSocket> {
    let socket = udp_socket()?;
    socket.connect(server)?;
    Ok(socket)
}

fn udp_up(server: SocketAddr, span: Duration, size: usize, rate: u32) -> Outcome {
    let socket = udp_client(server)?;
    socket.send(b"start")?;
    thread::sleep(Duration::from_millis(20));
    let sent = send(span, size, rate, |data| socket.send(data));
    socket.set_read_timeout(Some(Duration::from_millis(300)))?;
    let mut reply = [0; 17];
    for _ in 0..10 {
        // What is still on its way counts, and a full queue may lose the question.
        thread::sleep(Duration::from_millis(50));
        socket.send(&[REPORT])?;
        if socket.recv(&mut reply).is_ok_and(|len| len == reply.len()) {
            let number = |at: usize| u64::from_le_bytes(reply[at..at + 8].try_into().unwrap());
            let first = Instant::now();
            let span = Some((first, first + Duration::from_nanos(number(9))));
            Seen { count: number(1), span }.print(sent);
            return Ok(());
        }
    }
    Err("the server does not report".into())
}

fn udp_down(server: SocketAddr, span: Duration, size: u16, rate: u32) -> Outcome {
    let socket = udp_client(server)?;
    let micros = u32::try_from(span.as_micros())?;
    let go = [&[GO][..], &size.to_le_bytes(), &rate.to_le_bytes(), &micros.to_le_bytes()].concat();
    socket.send(&go)?;
    socket.set_read_timeout(Some(span + Duration::from_secs(1)))?;
    let mut buffer = vec![0; 65_536];
    let mut seen = Seen::default();
    loop {
        let len = socket.recv(&mut buffer)?;
        match buffer[..len] {
            [DATA, ..] => seen.note(),
            [END, ref sent @ ..] => {
                seen.print(u64::from_le_bytes(sent.try_into()?));
                return Ok(());
            }
            _ => {}
        }
    }
}

/// Opens connections, makes one request on each and keeps them until standard input ends.
fn idle(server: SocketAddr, count: u64) -> Outcome {
    let workers: Vec<_> = (0..4)
        .map(|worker| {
            thread::spawn(move || {
                let open = |_| call(server).and_then(|mut s| request(&mut s).map(|()| s));
                (worker..count).step_by(4).filter_map(|n| open(n).ok()).collect::<Vec<_>>()
            })
        })
        .collect();
    let held: Vec<_> = workers.into_iter().flat_map(|worker| worker.join().unwrap()).collect();
    println!("{{\"open\": {}}}", held.len());
    io::copy(&mut io::stdin(), &mut io::sink())?;
    Ok(())
}

/// A link between two TAPs: both ways a drop-tail queue, a rate and a delay.
fn link(mbit: f64, delay: u64, queue: u32) -> Outcome {
    let ends =
        [io::stdin().as_fd().try_clone_to_owned()?, io::stdout().as_fd().try_clone_to_owned()?];
    let [a, b] = ends.map(File::from);
    let delay = Duration::from_micros(delay);
    let back = (b.try_clone()?, a.try_clone()?);
    thread::spawn(move || carry(back.0, back.1, mbit, delay, queue));
    carry(a, b, mbit, delay, queue);
    Ok(())
}

fn carry(mut from: File, mut to: File, mbit: f64, delay: Duration, queue: u32) {
    /// A full frame with preamble, check sum and gap, in bytes.
    const FULL: f64 = 1538.0;
    let on_wire = |bytes: f64| Duration::from_secs_f64(bytes * 8.0 / (mbit * 1e6));
    let longest = on_wire(FULL) * queue;
    let (sender, receiver) = mpsc::channel::<(Instant, Vec<u8>)>();
    thread::spawn(move || {
        for (due, frame) in receiver {
            let wait = due.saturating_duration_since(Instant::now());
            if !wait.is_zero() {
                thread::sleep(wait);
            }
            drop(to.write(&frame));
        }
    });
    let mut free = Instant::now();
    let mut buffer = vec![0; 65_536];
    while let Ok(len) = from.read(&mut buffer) {
        let now = Instant::now();
        let begin = free.max(now);
        if begin - now > longest {
            continue;
        }
        free = begin + on_wire(len as f64 + 24.0);
        if sender.send((free + delay, buffer[..len].to_vec())).is_err() {
            return;
        }
    }
}
