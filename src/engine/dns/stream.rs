//! DNS over TCP: messages in a stream, each behind its length (RFC 1035, section 4.2.2).
//!
//! To a guest's connection the forwarder is a host's socket that is never away: [`Service`] takes
//! the bytes that would have been sent and gives those that were received. Several queries may be
//! under way and are answered as their answers come (RFC 7766, section 6.2.1.1); beyond a bound the
//! stream is read no further, so a client that reads nothing costs no more than its window.

use std::collections::VecDeque;
use std::io::{self, ErrorKind};

use smoltcp::time::Duration;

use super::MAX_QUERY_LEN;
use crate::engine::Instant;
use crate::engine::host::HostStream;

/// Queries of one connection that may be under way at once.
const MAX_UNDER_WAY: usize = 64;
/// Bytes of answers that may wait for a client; beyond, its queries wait.
const MAX_WAITING: usize = 64 << 10;
/// Bytes that are read and thrown away behind what ends a connection: who sends more than that meets a
/// reset, and nobody keeps us reading for as long as it can send.
const MAX_DISCARDED: usize = 64 << 10;
/// How long a connection may be silent before it is closed (RFC 7766, section 6.2.3).
const IDLE: Duration = Duration::from_secs(30);

/// The forwarder's end of one connection of a guest.
#[derive(Debug)]
pub(in crate::engine) struct Service {
    /// Tells it from others that had the same flow's index.
    pub(in crate::engine) serial: u64,
    inbox: Vec<u8>,
    outbox: VecDeque<u8>,
    under_way: usize,
    /// The client has ended its half.
    finished: bool,
    /// Nothing more is taken, and the stream ends behind what waits.
    closing: bool,
    /// How many bytes have come since.
    discarded: usize,
    /// When it has been silent for too long.
    pub(in crate::engine) idle_at: Instant,
}

impl Service {
    pub(in crate::engine) fn new(serial: u64, now: Instant) -> Self {
        Self {
            serial,
            inbox: Vec::new(),
            outbox: VecDeque::new(),
            under_way: 0,
            finished: false,
            closing: false,
            discarded: 0,
            idle_at: now + IDLE,
        }
    }

    /// The next whole query of the client.
    pub(in crate::engine) fn next_query(&mut self, now: Instant) -> Option<Vec<u8>> {
        if !self.has_room() {
            return None;
        }
        let length = self.first_len()?;
        if length > MAX_QUERY_LEN {
            self.closing = true;
            self.inbox = Vec::new();
            return None;
        }
        let query = self.inbox.get(2..2 + length)?.to_vec();
        self.inbox.drain(..2 + length);
        if self.inbox.is_empty() {
            // Most connections have one query.
            self.inbox = Vec::new();
        }
        self.under_way += 1;
        self.idle_at = now + IDLE;
        Some(query)
    }

    /// Takes the answer to a query; `None` if it gets none.
    pub(in crate::engine) fn answer(&mut self, message: Option<&[u8]>, now: Instant) {
        self.under_way = self.under_way.saturating_sub(1);
        self.idle_at = now + IDLE;
        if let Some(message) = message
            && let Ok(length) = u16::try_from(message.len())
        {
            self.outbox.extend(length.to_be_bytes());
            self.outbox.extend(message);
        }
    }

    /// It was silent for too long. Returns whether it had been told to end before.
    pub(in crate::engine) fn handle_idle(&mut self, now: Instant) -> bool {
        self.idle_at = now + IDLE;
        if self.under_way > 0 {
            return false;
        }
        std::mem::replace(&mut self.closing, true)
    }

    /// The length of the first query, if that is there to the end or too long ever to be.
    fn first_len(&self) -> Option<usize> {
        let length = usize::from(u16::from_be_bytes(*self.inbox.first_chunk()?));
        (length > MAX_QUERY_LEN || self.inbox.len() >= 2 + length).then_some(length)
    }

    /// How many bytes of the client can be taken.
    pub(super) fn room(&self) -> usize {
        match (self.finished, self.closing) {
            (true, _) => 0,
            (false, true) => MAX_DISCARDED.saturating_sub(self.discarded),
            (false, false) => (2 + MAX_QUERY_LEN).saturating_sub(self.inbox.len()),
        }
    }

    fn has_room(&self) -> bool {
        self.under_way < MAX_UNDER_WAY && self.outbox.len() < MAX_WAITING && !self.closing
    }
}

impl HostStream for Service {
    fn recv(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = buffer.len().min(self.outbox.len());
        if length == 0 {
            // What is left of a query that never came whole is no reason to stay.
            let over = self.closing || self.finished && self.first_len().is_none();
            return if over && self.under_way == 0 { Ok(0) } else { Err(would_block()) };
        }
        for (place, byte) in buffer.iter_mut().zip(self.outbox.drain(..length)) {
            *place = byte;
        }
        if self.outbox.is_empty() {
            self.outbox = VecDeque::new();
        }
        Ok(length)
    }

    fn send(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.closing {
            // Read and thrown away, so that the end of the answers is not cut off by a reset.
            let length = bytes.len().min(MAX_DISCARDED.saturating_sub(self.discarded));
            self.discarded += length;
            return if length > 0 { Ok(length) } else { Err(would_block()) };
        }
        let room = (2 + MAX_QUERY_LEN).saturating_sub(self.inbox.len());
        let length = bytes.len().min(room);
        if length == 0 {
            return Err(would_block());
        }
        self.inbox.extend(bytes.iter().take(length));
        Ok(length)
    }

    fn finish(&mut self) {
        self.finished = true;
    }
}

fn would_block() -> io::Error {
    ErrorKind::WouldBlock.into()
}

/// Our own exchange with a server over TCP: one query, one answer.
#[derive(Debug, Default)]
pub(super) struct Exchange {
    outbox: Vec<u8>,
    inbox: Vec<u8>,
    /// An answer was read.
    over: bool,
}

/// What came of moving an exchange on.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Progress {
    Waiting,
    Answer(Vec<u8>),
    Broken,
}

impl Exchange {
    pub(super) fn new(query: &[u8]) -> Self {
        let length = u16::try_from(query.len()).unwrap_or(u16::MAX);
        let outbox = [&length.to_be_bytes(), query].concat();
        Self { outbox, inbox: Vec::new(), over: false }
    }

    /// Whether an answer was read.
    pub(super) fn is_over(&self) -> bool {
        self.over
    }

    /// Sends what is left of the query, and reads what there is of the answer.
    pub(super) fn advance(&mut self, stream: &mut impl HostStream) -> Progress {
        while !self.outbox.is_empty() {
            match stream.send(&self.outbox) {
                Ok(sent) => drop(self.outbox.drain(..sent.min(self.outbox.len()))),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Progress::Waiting,
                Err(_) => return Progress::Broken,
            }
        }
        loop {
            let wanted = match self.inbox.first_chunk() {
                None => 2,
                Some(length) => 2 + usize::from(u16::from_be_bytes(*length)),
            };
            let have = self.inbox.len();
            if have >= 2 && have >= wanted {
                self.over = true;
                return Progress::Answer(self.inbox.split_off(2));
            }
            // Memory grows with what has come, not with what is announced.
            let mut buffer = [0; 2048];
            let room = buffer.len().min(wanted - have);
            match stream.recv(buffer.get_mut(..room).unwrap_or_default()) {
                Ok(0) => return Progress::Broken,
                Ok(received) => self.inbox.extend(buffer.iter().take(received)),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Progress::Waiting,
                Err(_) => return Progress::Broken,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now() -> Instant {
        Instant::from_secs(10)
    }

    #[test]
    fn queries_are_taken_whole_however_they_come() {
        let mut service = Service::new(1, now());
        let bytes = b"\0\x03abc\0\x02de\0";
        for byte in bytes {
            assert_eq!(service.send(&[*byte]).unwrap(), 1);
        }
        assert_eq!(service.next_query(now()), Some(b"abc".to_vec()));
        assert_eq!(service.next_query(now()), Some(b"de".to_vec()));
        assert_eq!(service.next_query(now()), None);
        service.finish();
        let mut buffer = [0; 3];
        assert_eq!(service.recv(&mut buffer).unwrap_err().kind(), ErrorKind::WouldBlock);
        service.answer(Some(b"xyz"), now());
        service.answer(None, now());
        assert_eq!(service.recv(&mut buffer).unwrap(), 3);
        assert_eq!(&buffer, b"\0\x03x");
        assert_eq!(service.recv(&mut buffer).unwrap(), 2);
        assert_eq!(service.recv(&mut buffer).unwrap(), 0, "the end behind the last answer");
    }

    #[test]
    fn a_client_that_asks_and_never_reads_is_not_read_for_ever() {
        let mut service = Service::new(1, now());
        let query = [&[0, 100][..], &[7; 100]].concat();
        let mut taken = 0;
        while let Ok(sent) = service.send(&query) {
            taken += sent;
            while service.next_query(now()).is_some() {}
            assert!(taken < 100_000);
        }
        assert_eq!(service.under_way, MAX_UNDER_WAY);
        let mut service = Service::new(1, now());
        for _ in 0..1000 {
            if service.send(&query).is_err() {
                break;
            }
            while service.next_query(now()).is_some() {
                service.answer(Some(&[1; 1000]), now());
            }
        }
        assert!(service.outbox.len() < MAX_WAITING + 2000, "{}", service.outbox.len());
    }

    #[test]
    fn a_query_that_is_too_long_ends_the_connection() {
        let mut service = Service::new(1, now());
        service.send(&[0xff; 100]).unwrap();
        assert_eq!(service.next_query(now()), None);
        assert_eq!(service.recv(&mut [0; 8]).unwrap(), 0);
        assert_eq!(service.send(&[0; 5000]).unwrap(), 5000);
        // For a while.
        assert_eq!(service.send(&[0; MAX_DISCARDED]).unwrap(), MAX_DISCARDED - 5000);
        assert_eq!(service.send(&[0; 5]).unwrap_err().kind(), ErrorKind::WouldBlock);
        assert_eq!(service.room(), 0);
    }

    #[test]
    fn a_silent_connection_is_told_to_end_once() {
        let mut service = Service::new(1, now());
        assert!(!service.handle_idle(now()));
        assert_eq!(service.recv(&mut [0; 8]).unwrap(), 0);
        assert!(service.handle_idle(now()));
    }
}
