//! Whole connections with random sizes, pauses and ends: every byte arrives once and in order.

use std::net::SocketAddr;

use proptest::prelude::*;
use proptest::test_runner::RngSeed;
use smoltcp::iface::SocketHandle;
use smoltcp::socket::tcp;
use smoltcp::time::Duration;

use super::net::{Net, Options, guest, server};
use super::packets::{Dice, pattern};
use crate::config::Protocol;
use crate::engine::host::{SocketId, SocketKind};

/// One connection between the guest and a peer of the host.
#[derive(Debug, Clone)]
struct Case {
    mtu: u16,
    vnet: bool,
    v6: bool,
    inbound: bool,
    /// Bytes from the guest and from the peer.
    up: usize,
    down: usize,
    guest_ring: usize,
    /// Whether the host's send buffer is short and the peer reads now and then.
    slow_host: bool,
    slow_guest: bool,
    /// Whether there are pauses of many seconds.
    pauses: bool,
    seed: u64,
}

fn case() -> impl Strategy<Value = Case> {
    let mtu = prop_oneof![Just(1280), Just(1500), Just(9000), Just(65_520)];
    let len = prop_oneof![Just(0_usize), 1..5_000_usize, 5_000..300_000_usize];
    let flags = (any::<bool>(), any::<bool>(), any::<bool>(), any::<bool>(), any::<bool>());
    let ring = prop_oneof![Just(2_000_usize), Just(65_535), Just(200_000)];
    (mtu, flags, any::<bool>(), len.clone(), len, ring, any::<u64>()).prop_map(
        |(mtu, (vnet, v6, inbound, slow_host, slow_guest), pauses, up, down, guest_ring, seed)| {
            Case {
                mtu,
                vnet,
                v6,
                inbound,
                up,
                down,
                guest_ring,
                slow_host,
                slow_guest,
                pauses,
                seed,
            }
        },
    )
}

/// Opens the connection; returns the guest's socket and the host's.
fn open(net: &mut Net, case: &Case) -> (SocketHandle, SocketId) {
    if case.inbound {
        let listener = net.publish(Protocol::Tcp, 80);
        let handle = net.guest().listen(guest(case.v6, 80), case.guest_ring);
        let socket = net.accept(listener, server(case.v6, 5_000)).unwrap();
        assert_eq!(net.guest().peer(handle), Some(server(case.v6, 5_000)));
        (handle, socket)
    } else {
        let to: SocketAddr = server(case.v6, 80);
        let handle = net.guest().connect(guest(case.v6, 40_000), to, case.guest_ring);
        net.settle();
        (handle, net.host_opens(SocketKind::TcpConnect(to)))
    }
}

fn run(case: &Case) {
    let options = Options { mtu: case.mtu, vnet: case.vnet, ..Options::default() };
    let mut net = Net::with_guest(&options);
    let mut dice = Dice::new(case.seed);
    let (handle, socket) = open(&mut net, case);
    assert_eq!(net.guest().socket(handle).state(), tcp::State::Established);
    if case.slow_host {
        net.stream(socket).room = dice.below(5_000);
        net.stream(socket).chunk = dice.size(50_000);
    }
    let (up, down) = (pattern(case.up), pattern(case.down));
    let (mut sent_up, mut sent_down) = (0, 0);
    let (mut guest_closed, mut peer_closed) = (false, false);
    let mut at_guest = Vec::new();
    for step in 0.. {
        assert!(step < 20_000, "no end: {case:?}\n{}", net.engine);
        match dice.below(6) {
            0 if sent_up < up.len() => {
                let end = up.len().min(sent_up + dice.size(100_000));
                let socket = net.guest().socket(handle);
                sent_up += socket.send_slice(&up[sent_up..end]).unwrap();
            }
            1 if sent_down < down.len() => {
                let end = down.len().min(sent_down + dice.size(100_000));
                net.peer_sends(socket, &down[sent_down..end]);
                sent_down = end;
            }
            2 if case.slow_host => {
                let more = dice.size(100_000);
                if let Some(stream) = net.host.streams.get_mut(&socket) {
                    stream.room += more;
                }
                net.stream_ready(socket);
            }
            3 if sent_up == up.len() && !guest_closed => {
                net.guest().socket(handle).close();
                guest_closed = true;
            }
            4 if sent_down == down.len() && !peer_closed => {
                net.peer_finishes(socket);
                peer_closed = true;
            }
            _ => {}
        }
        // The guest's smoltcp forgets what it received when its TIME-WAIT is over.
        let in_time = net.guest().socket(handle).state() == tcp::State::TimeWait;
        let slow = case.slow_guest && !in_time;
        if !slow || dice.below(3) == 0 {
            let limit = if slow { dice.size(50_000) } else { usize::MAX };
            let socket = net.guest().socket(handle);
            while at_guest.len() < down.len() && socket.can_recv() {
                let take = |bytes: &mut [u8]| {
                    let len = bytes.len().min(limit);
                    (len, bytes[..len].to_vec())
                };
                at_guest.extend(socket.recv(take).unwrap());
                if slow {
                    break;
                }
            }
        }
        if dice.below(4) == 0 {
            let millis = u64::try_from(dice.below(200)).unwrap();
            net.pass(Duration::from_millis(millis));
        }
        // Long pauses of the host alone: a guest that has all it is to get may wait in TIME-WAIT.
        if case.pauses && dice.below(20) == 0 && at_guest.len() == down.len() {
            net.pass(Duration::from_secs(15));
        }
        net.settle();
        let received = match net.host.streams.get(&socket) {
            Some(stream) => stream.received.len() == up.len() && stream.received_end,
            None => true,
        };
        if guest_closed && peer_closed && at_guest.len() == down.len() && received {
            break;
        }
        if let Some(stream) = net.host.streams.get(&socket) {
            assert!(up.starts_with(&stream.received), "the peer got something else");
        }
    }
    assert_eq!(at_guest, down, "what the guest got");
    net.pass(Duration::from_secs(61));
    assert!(!net.guest().socket(handle).may_recv(), "the guest got the end of the stream");
    net.host_closes(socket, false);
    net.expect_no_flows();
    let opened = if case.inbound { "tcp_inbound" } else { "tcp_outbound" };
    net.expect_counters(&[(opened, 1)]);
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 200,
        failure_persistence: None,
        rng_seed: RngSeed::Fixed(1),
        max_shrink_iters: 200,
        ..ProptestConfig::default()
    })]

    #[test]
    fn every_byte_arrives_once_and_in_order(case in case()) {
        run(&case);
    }
}
