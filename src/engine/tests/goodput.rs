//! How fast TCP is over a link with a rate, a delay and losses, in virtual time: the same in every
//! run, on every machine, so that what an acknowledgement, a window or a timer too few costs is seen.
//!
//! The link is between the engine and the guest's stack, where a real TAP neither delays nor loses.
//! Neither of the two has congestion control, and both mostly wait a second before they send again
//! what nobody tells them is lost, so losses cost more here than between two kernels; the guest's
//! stack, which is smoltcp alone, does not hear of losses from selective acknowledgements.

use std::collections::VecDeque;

use smoltcp::time::Duration;

use super::net::{Connects, Net, Options, Stream, guest, server};
use super::packets::Dice;
use crate::engine::host::{HostEvent, HostOp, SocketKind};
use crate::engine::{Instant, PortId};

/// Bytes that are carried.
const LENGTH: usize = 4 << 20;
/// The rings of the guest's sockets, in bytes.
const RING: usize = 1 << 20;
/// 1 Gbit/s.
const BYTES_PER_MICROSECOND: u64 = 125;

/// One way of the link.
struct Way {
    delay: Duration,
    /// Frames lost of 10,000.
    loss: usize,
    free: Instant,
    frames: VecDeque<(Instant, Vec<u8>)>,
    dice: Dice,
}

impl Way {
    fn new(delay: u64, loss: usize, seed: u64) -> Self {
        let (free, delay) = (Instant::from_secs(0), Duration::from_micros(delay));
        Self { delay, loss, free, frames: VecDeque::new(), dice: Dice::new(seed) }
    }

    fn send(&mut self, frame: Vec<u8>, now: Instant) {
        let length = u64::try_from(frame.len()).unwrap();
        self.free = self.free.max(now) + Duration::from_micros(length / BYTES_PER_MICROSECOND + 1);
        if self.dice.below(10_000) >= self.loss {
            self.frames.push_back((self.free + self.delay, frame));
        }
    }

    fn next(&self) -> Option<Instant> {
        self.frames.front().map(|(at, _)| *at)
    }

    fn receive(&mut self, now: Instant) -> Option<Vec<u8>> {
        self.frames.pop_front_if(|(at, _)| *at <= now).map(|(_, frame)| frame)
    }
}

/// A network whose link takes time, with one connection.
struct Slow {
    net: Net,
    to_guest: Way,
    to_engine: Way,
}

impl Slow {
    fn new(vnet: bool, delay: u64, loss: usize) -> Self {
        let mut net = Net::with_guest(&Options { vnet, ..Options::default() });
        net.host.connects = Connects::Pending;
        Self { net, to_guest: Way::new(delay, loss, 11), to_engine: Way::new(delay, loss, 12) }
    }

    /// Everything that happens at this moment, and then the next moment.
    fn step(&mut self) {
        let Self { net, to_guest, to_engine } = self;
        let now = net.now;
        while let Some(mut frame) = to_engine.receive(now) {
            net.engine.handle_frame(PortId(0), &mut frame, now);
        }
        if net.engine.poll_timeout().is_some_and(|at| at <= now) {
            net.engine.handle_timeout(now);
        }
        while let Some(op) = net.engine.poll_host() {
            match op {
                HostOp::Open { socket, kind: SocketKind::TcpConnect(_) } => {
                    net.host.streams.insert(socket, Stream::with(&[]));
                    net.stream(socket).room = usize::MAX;
                    net.engine.handle_host(socket, HostEvent::Connected, now);
                }
                HostOp::Relay(socket) => {
                    if let Some(stream) = net.host.streams.get_mut(&socket) {
                        net.engine.relay(socket, stream, now);
                    }
                }
                other => panic!("{other:?}"),
            }
        }
        while net.engine.poll_frame(now, |_, frame, _| to_guest.send(frame.to_vec(), now)) {}
        while let Some(frame) = to_guest.receive(now) {
            net.guest().handle_frame(&frame);
        }
        for frame in net.guest().poll(now) {
            to_engine.send(frame, now);
        }
        let timers = [net.engine.poll_timeout(), net.guest().poll_at(now)];
        let next = [to_guest.next(), to_engine.next()].into_iter().chain(timers).flatten().min();
        let least = now + Duration::from_micros(1);
        net.now = next.unwrap_or_else(|| panic!("stuck\n{}", net.engine)).max(least);
    }

    /// Kbit/s of one connection that carries [`LENGTH`] bytes.
    fn goodput(mut self, down: bool) -> u64 {
        let to = server(false, 80);
        let handle = self.net.guest().connect(guest(false, 40_000), to, RING);
        let begin = self.net.now;
        let (mut given, mut done) = (0, 0);
        while done < LENGTH {
            self.step();
            let net = &mut self.net;
            assert!(net.now < begin + Duration::from_secs(3_600), "{done} bytes\n{}", net.engine);
            let Some(&socket) = net.host.streams.keys().next() else {
                continue;
            };
            if down {
                // As much as a host's socket has at a time.
                let stream = net.stream(socket);
                let more = (256 << 10_usize).min(LENGTH - given);
                if stream.to_read.is_empty() && more > 0 {
                    stream.to_read.extend(std::iter::repeat_n(7, more));
                    given += more;
                    let Net { engine, host, now, .. } = net;
                    engine.relay(socket, host.streams.get_mut(&socket).unwrap(), *now);
                }
                let guest = net.guest().socket(handle);
                while guest.can_recv() {
                    done += guest.recv(|bytes| (bytes.len(), bytes.len())).unwrap();
                }
            } else {
                let guest = net.guest().socket(handle);
                if guest.can_send() {
                    given += guest
                        .send(|room| {
                            let length = room.len().min(LENGTH - given);
                            room[..length].fill(7);
                            (length, length)
                        })
                        .unwrap();
                }
                done = net.stream(socket).received.len();
            }
        }
        let micros = (self.net.now - begin).total_micros();
        u64::try_from(LENGTH).unwrap() * 8_000 / micros
    }
}

#[test]
fn tcp_is_as_fast_as_it_was_over_links_that_delay_and_lose() {
    // (super-frames, microseconds one way, lost of 10,000 frames, kbit/s down, kbit/s up)
    let expected = [
        (true, 50, 0, 985_272, 986_662),
        (true, 1_000, 0, 797_187, 841_849),
        (true, 10_000, 0, 192_313, 157_993),
        (false, 50, 0, 888_694, 891_812),
        (false, 1_000, 0, 739_768, 127_738),
        (false, 10_000, 0, 194_003, 12_847),
        (false, 50, 10, 883_034, 889_495),
        (false, 1_000, 10, 655_027, 164_862),
        (false, 10_000, 10, 143_935, 17_021),
        (false, 50, 100, 32_291, 2_090),
        (false, 10_000, 100, 22_617, 1_968),
    ];
    let found = expected.map(|(vnet, delay, loss, ..)| {
        let goodput = |down| Slow::new(vnet, delay, loss).goodput(down);
        (vnet, delay, loss, goodput(true), goodput(false))
    });
    let near = |is: u64, was: u64| is * 20 >= was * 19 && is * 19 <= was * 20;
    for (is, was) in found.iter().zip(&expected) {
        assert!(near(is.3, was.3) && near(is.4, was.4), "{is:?} was {was:?}; all: {found:?}");
    }
}
