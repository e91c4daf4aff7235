//! Flows: conversations between a guest and something on the host's side.
//!
//! The two sides of a flow are always called *guest* and *host*, whichever opened it. A flow is
//! found by its [`FlowKey`], which holds the addresses **as the guest sees them**; what the host
//! side really is (a loopback service, a resolver) the flow itself remembers.

pub(super) mod echo;
pub(super) mod tcp;
pub(super) mod udp;

use std::collections::HashMap;
use std::fmt;
use std::hash::BuildHasher;
use std::net::SocketAddr;

use siphasher::sip::SipHasher13;

use super::PortId;

/// Identifies a flow: the switch port and both ends as the guest sees them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct FlowKey {
    pub(super) port: PortId,
    pub(super) guest: SocketAddr,
    pub(super) host: SocketAddr,
}

impl fmt::Display for FlowKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} <> {}", self.guest, self.host)
    }
}

/// A map whose keys a guest chooses: keyed hashing, so that it cannot make them collide.
pub(super) type GuestMap<K, V> = HashMap<K, V, KeyedHash>;

/// SipHash-1-3 with a secret key.
#[derive(Debug, Clone, Copy)]
pub(super) struct KeyedHash(u64, u64);

impl KeyedHash {
    pub(super) fn new(key: [u64; 2]) -> Self {
        let [a, b] = key;
        Self(a, b)
    }
}

impl BuildHasher for KeyedHash {
    type Hasher = SipHasher13;

    fn build_hasher(&self) -> SipHasher13 {
        SipHasher13::new_with_keys(self.0, self.1)
    }
}
