//! An open flow: two halves, each carried across on its own.
//!
//! The rings of the guest's connection are lent to the host's socket and the other way round, so
//! a byte is copied once each way. A half ends with its end of stream, or breaks with an error;
//! what the other half still has to say is never cut short by it.

use std::io::ErrorKind;

use smoltcp::socket::tcp;

use super::rings::room_to_grow;
use super::{HANDSHAKE, SLOW_HOST, patience};
use crate::engine::Instant;
use crate::engine::host::HostStream;
use crate::engine::stack::Connection;

#[derive(Debug)]
pub(super) struct Open {
    pub(super) connection: Connection,
    to_host: Half,
    to_guest: Half,
    /// The guest has sent its FIN (whether or not everything before it is relayed).
    guest_finished: bool,
    /// The last relay stopped because the guest's ring could take no more.
    ring_full: bool,
    /// Its rings hold it back: it moves as much as they take.
    cramped: bool,
    /// The larger rings, in bytes, that it gets once nothing is on its way.
    expected_ring: Option<usize>,
    /// Set while only the guest's acknowledgements are missing, of our SYN-ACK or of the last bytes:
    /// when a silent guest is given up.
    pub(super) until: Option<Instant>,
}

/// One direction of an open flow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Half {
    /// Bytes may still come.
    Open,
    /// The host has finished, and the guest learns of it when it has acknowledged what came before.
    /// smoltcp 0.14.0 is deaf to window updates in LAST-ACK, so it must not be there with bytes left.
    Finishing,
    /// The end of the stream was carried across.
    Finished,
    /// The host's side broke: the guest gets a reset once it has what was received.
    Broken,
}

/// What an open flow has come to.
pub(super) enum End {
    NotYet,
    Orderly,
    GuestReset,
    HostReset,
}

/// How far one step of a relay came.
enum Step {
    More,
    Blocked,
    Ended,
    Failed,
}

impl Open {
    pub(super) fn new(connection: Connection, now: Instant) -> Self {
        let mut open = Self {
            connection,
            to_host: Half::Open,
            to_guest: Half::Open,
            guest_finished: false,
            // Bytes of the host may wait since before the guest could take any.
            ring_full: true,
            cramped: false,
            expected_ring: None,
            until: None,
        };
        open.note_guest_finished();
        if open.connection.state() == tcp::State::SynReceived {
            open.until = Some(now + HANDSHAKE);
        }
        open
    }

    /// After every packet of the guest.
    pub(super) fn note_guest_state(&mut self, now: Instant) {
        self.note_guest_finished();
        if self.to_guest == Half::Finishing && self.connection.socket().send_queue() == 0 {
            self.connection.socket_mut().close();
            self.to_guest = Half::Finished;
        }
        if self.connection.state() != tcp::State::SynReceived {
            self.until = self.owes_only_acks().then(|| now + patience(&self.connection));
        }
    }

    /// Whether nothing more comes from the host, though the guest has yet to hear of it.
    fn owes_only_acks(&self) -> bool {
        let broken = self.to_host == Half::Broken || self.to_guest == Half::Broken;
        broken || self.to_guest == Half::Finishing
    }

    /// Whether the guest has left, in order, while the host has yet to take what it said.
    fn waits_for_host_alone(&self) -> bool {
        self.to_host == Half::Open
            && matches!(self.connection.state(), tcp::State::TimeWait | tcp::State::Closed)
    }

    /// After smoltcp was polled or the guest was heard: the host's patience begins with the guest's
    /// end, of whatever kind.
    pub(super) fn note_guest_left(&mut self, now: Instant) {
        if self.until.is_none() && self.waits_for_host_alone() {
            self.until = Some(now + SLOW_HOST);
        }
    }

    /// The host has taken some bytes.
    pub(super) fn note_host_progress(&mut self, now: Instant) {
        if self.waits_for_host_alone() {
            self.until = Some(now + SLOW_HOST);
        }
    }

    fn note_guest_finished(&mut self) {
        self.guest_finished |= matches!(
            self.connection.state(),
            tcp::State::CloseWait
                | tcp::State::Closing
                | tcp::State::LastAck
                | tcp::State::TimeWait
        );
    }

    pub(super) fn wants_relay(&self) -> bool {
        let socket = self.connection.socket();
        (self.to_host == Half::Open && (socket.recv_queue() > 0 || self.guest_finished))
            || (self.to_guest == Half::Open
                && self.ring_full
                && socket.can_send()
                && !self.holds_back())
    }

    /// Whether its rings were what held it back when it was last relayed, and larger ones would not.
    pub(super) fn is_cramped(&self) -> bool {
        self.cramped && self.expected_ring.is_none() && room_to_grow(&self.connection).is_some()
    }

    /// Waits for rings of `step` bytes, if so many make a difference.
    pub(super) fn expect_ring(&mut self, step: usize) {
        self.expected_ring = room_to_grow(&self.connection).map(|largest| largest.min(step));
    }

    pub(super) fn expect_no_ring(&mut self) {
        self.expected_ring = None;
        self.cramped = false;
    }

    pub(super) fn expected_ring(&self) -> Option<usize> {
        self.expected_ring
    }

    /// Whether the host is not read for a moment, so that everything gets to the guest. Never while
    /// the host has something to take: it may wait for us to read first.
    fn holds_back(&self) -> bool {
        self.expected_ring.is_some()
            && self.connection.state() == tcp::State::Established
            && self.connection.socket().recv_queue() == 0
    }

    pub(super) fn relay_to_host(&mut self, stream: &mut impl HostStream) -> u64 {
        let ring = self.connection.ring() as u64;
        let socket = self.connection.socket_mut();
        let mut moved = 0;
        while self.to_host == Half::Open {
            let step = socket.recv(|bytes| {
                if bytes.is_empty() {
                    return (0, Step::Blocked);
                }
                match stream.send(bytes) {
                    Ok(sent) => {
                        moved += sent as u64;
                        (sent, if sent < bytes.len() { Step::Blocked } else { Step::More })
                    }
                    Err(error) if error.kind() == ErrorKind::WouldBlock => (0, Step::Blocked),
                    Err(_) => (0, Step::Failed),
                }
            });
            match step {
                Ok(Step::More | Step::Ended) => {}
                Ok(Step::Blocked) | Err(tcp::RecvError::InvalidState) => break,
                Ok(Step::Failed) => self.to_host = Half::Broken,
                Err(tcp::RecvError::Finished) => {
                    stream.finish();
                    self.to_host = Half::Finished;
                }
            }
        }
        self.cramped |= moved >= ring / 2;
        moved
    }

    pub(super) fn relay_to_guest(&mut self, stream: &mut impl HostStream) -> u64 {
        self.ring_full = self.holds_back();
        if self.ring_full {
            return 0;
        }
        let socket = self.connection.socket_mut();
        let mut moved = 0;
        while self.to_guest == Half::Open {
            if !socket.can_send() {
                self.ring_full = true;
                // Before its handshake is over it has room that it may not use.
                self.cramped |= socket.may_send();
                break;
            }
            let step = socket.send(|space| match stream.recv(space) {
                Ok(0) => (0, Step::Ended),
                Ok(received) => {
                    moved += received as u64;
                    (received, Step::More)
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => (0, Step::Blocked),
                Err(_) => (0, Step::Failed),
            });
            match step {
                Ok(Step::More) => {}
                Ok(Step::Blocked) | Err(tcp::SendError::InvalidState) => break,
                Ok(Step::Failed) => self.to_guest = Half::Broken,
                Ok(Step::Ended) if self.guest_finished && socket.send_queue() > 0 => {
                    self.to_guest = Half::Finishing;
                }
                Ok(Step::Ended) => {
                    self.to_guest = Half::Finished;
                    if self.to_host != Half::Broken {
                        socket.close();
                    }
                }
            }
        }
        moved
    }

    /// A host that has said everything may reset the connection still: nothing is read any more that
    /// would tell, and the guest may have nothing more to say.
    pub(super) fn note_host_state(&mut self, stream: &impl HostStream) {
        let said_everything = self.to_guest != Half::Open;
        if said_everything && self.to_host == Half::Open && stream.is_broken() {
            self.to_host = Half::Broken;
        }
    }

    /// Whether smoltcp has no connection although the flow did not end in order. It is back in
    /// LISTEN when it did not take the SYN, or when the guest resets what it has just begun.
    pub(super) fn is_dead(&self) -> bool {
        match self.connection.state() {
            tcp::State::Listen => true,
            tcp::State::Closed => !(self.guest_finished && self.to_guest == Half::Finished),
            _ => false,
        }
    }

    pub(super) fn end(&mut self, now: Instant) -> End {
        if self.is_dead() {
            return End::GuestReset;
        }
        let broken = self.to_host == Half::Broken || self.to_guest == Half::Broken;
        // What was received before the host's side broke still goes to the guest.
        if broken && self.to_guest != Half::Open && self.connection.socket().send_queue() == 0 {
            return End::HostReset;
        }
        if self.to_host == Half::Finished && self.to_guest == Half::Finished {
            return End::Orderly;
        }
        if self.until.is_none() && self.owes_only_acks() {
            self.until = Some(now + patience(&self.connection));
        }
        self.note_guest_left(now);
        End::NotYet
    }
}
