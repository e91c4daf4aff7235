//! Answers that are kept for as long as they say, and in need for longer.
//!
//! An answer is found by its question without regard to case, its type and class, and by what the
//! client understands of DNSSEC. Only whole answers are kept that came from the server asked, to
//! the question asked ([`keepable`]); there being no such name counts as one (RFC 2308). An answer
//! whose time is over stays for a day: it is given when no server answers (RFC 8767). What was used
//! least recently makes room. Read first: RFC 2181 section 5, RFC 2308, RFC 8767.

use std::collections::BTreeMap;
use std::hash::BuildHasher;

use slab::Slab;
use smoltcp::time::Duration;

use super::message::{Keepable, Query, keepable};
use super::reply::Kept;
use crate::engine::Instant;
use crate::engine::flow::{GuestMap, KeyedHash};

/// How long an answer is kept beyond its time (RFC 8767, section 4: one to three days).
const STALE: Duration = Duration::from_secs(86_400);
/// After all servers have failed, how long a stale answer is given without asking them again (RFC
/// 8767, section 5).
const RECHECK: Duration = Duration::from_secs(30);
/// The longest answer that is kept, in bytes.
const MAX_ANSWER_LEN: usize = 4096;
/// What an entry costs besides its bytes, in bytes: itself, its place in two maps, allocations.
const OVERHEAD: usize = 200;

/// Kept answers.
#[derive(Debug)]
pub(super) struct Cache {
    entries: Slab<Entry>,
    /// By hash: who cannot know its key cannot make two questions meet, and if they do, the older
    /// answer makes room.
    by_hash: GuestMap<u64, usize>,
    /// By the order of their last use.
    by_use: BTreeMap<u64, usize>,
    hash: KeyedHash,
    uses: u64,
    bytes: usize,
    max_bytes: usize,
}

#[derive(Debug)]
struct Entry {
    hash: u64,
    key: Box<[u8]>,
    /// The message without its OPT record.
    message: Box<[u8]>,
    ttl_at: Box<[u16]>,
    stored: Instant,
    expires: Instant,
    /// The servers have failed: they are not asked for this before then.
    recheck: Option<Instant>,
    used: u64,
}

/// What is kept for a question.
#[derive(Debug)]
pub(super) enum Found<'a> {
    Fresh(Kept<'a>),
    /// Its time is over. `ask` says whether the servers are to be asked first.
    Stale {
        kept: Kept<'a>,
        ask: bool,
    },
    Nothing,
}

impl Cache {
    /// A cache that takes so much memory at most, in bytes; 0 keeps nothing.
    pub(super) fn new(hash: KeyedHash, max_bytes: usize) -> Self {
        Self {
            entries: Slab::new(),
            by_hash: GuestMap::with_hasher(hash),
            by_use: BTreeMap::new(),
            hash,
            uses: 0,
            bytes: 0,
            max_bytes,
        }
    }

    /// Looks for an answer to `query`.
    pub(super) fn find(&mut self, query: &Query, now: Instant) -> Found<'_> {
        if !query.is_cacheable() || self.entries.is_empty() {
            return Found::Nothing;
        }
        let key = key_of(query);
        let Some(index) = self.index_of(&key) else {
            return Found::Nothing;
        };
        if self.entries.get(index).is_none_or(|entry| now >= entry.expires + STALE) {
            self.remove(index);
            return Found::Nothing;
        }
        self.uses += 1;
        let Some(entry) = self.entries.get_mut(index) else {
            return Found::Nothing;
        };
        self.by_use.remove(&entry.used);
        entry.used = self.uses;
        self.by_use.insert(entry.used, index);
        let age = u32::try_from((now - entry.stored).secs()).unwrap_or(u32::MAX);
        let age = (now < entry.expires).then_some(age);
        let kept = Kept { message: &entry.message, ttl_at: &entry.ttl_at, age };
        match age {
            Some(_) => Found::Fresh(kept),
            None => Found::Stale { kept, ask: entry.recheck.is_none_or(|at| at <= now) },
        }
    }

    /// Keeps an answer that [`Query::rcode_of_answer`] has taken for `query`, if it may be kept.
    pub(super) fn insert(&mut self, query: &Query, answer: &[u8], now: Instant) {
        if !query.is_cacheable() || answer.len() > MAX_ANSWER_LEN || self.max_bytes == 0 {
            return;
        }
        let Some(Keepable { ttl, ttl_at, counts, opt }) = keepable(query, answer) else {
            return;
        };
        let mut message = answer.to_vec();
        if let Some((start, _)) = opt {
            message.truncate(start);
        }
        for (at, count) in [(6, counts[0]), (8, counts[1]), (10, counts[2])] {
            if let Some(field) = message.get_mut(at..at + 2) {
                field.copy_from_slice(&count.to_be_bytes());
            }
        }
        let key = key_of(query);
        let hash = self.hash.hash_one(&key);
        if let Some(old) = self.by_hash.get(&hash) {
            self.remove(*old);
        }
        self.uses += 1;
        let entry = Entry {
            hash,
            key: key.into(),
            message: message.into(),
            ttl_at: ttl_at.into(),
            stored: now,
            expires: now + Duration::from_secs(ttl.into()),
            recheck: None,
            used: self.uses,
        };
        self.bytes += entry.cost();
        let index = self.entries.insert(entry);
        self.by_hash.insert(hash, index);
        self.by_use.insert(self.uses, index);
        while self.bytes > self.max_bytes
            && let Some((_, index)) = self.by_use.first_key_value()
        {
            self.remove(*index);
        }
    }

    /// Notes that all servers have failed to answer `query`.
    pub(super) fn note_failure(&mut self, query: &Query, now: Instant) {
        if let Some(index) = self.index_of(&key_of(query))
            && let Some(entry) = self.entries.get_mut(index)
        {
            entry.recheck = Some(now + RECHECK);
        }
    }

    /// Other servers may have other answers: what is kept is given only when they have none.
    pub(super) fn expire_all(&mut self, now: Instant) {
        for (_, entry) in &mut self.entries {
            entry.expires = entry.expires.min(now);
            entry.recheck = None;
        }
    }

    fn index_of(&self, key: &[u8]) -> Option<usize> {
        let index = *self.by_hash.get(&self.hash.hash_one(key))?;
        let same = self.entries.get(index).is_some_and(|entry| *entry.key == *key);
        same.then_some(index)
    }

    fn remove(&mut self, index: usize) {
        if let Some(entry) = self.entries.try_remove(index) {
            self.bytes -= entry.cost();
            self.by_hash.remove(&entry.hash);
            self.by_use.remove(&entry.used);
        }
    }

    /// How many answers are kept, and their memory in bytes.
    pub(super) fn size(&self) -> (usize, usize) {
        (self.entries.len(), self.bytes)
    }
}

impl Entry {
    fn cost(&self) -> usize {
        self.key.len() + self.message.len() + 2 * self.ttl_at.len() + OVERHEAD
    }
}

/// What an answer is found by.
fn key_of(query: &Query) -> Vec<u8> {
    let mut key = query.question().to_ascii_lowercase();
    let dnssec_ok = query.edns().is_some_and(|edns| edns.dnssec_ok);
    key.push(query.security_flags() | u8::from(dnssec_ok));
    key
}

#[cfg(test)]
mod tests;
