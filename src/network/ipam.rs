//! Who has which address of a network.
//!
//! PURE. A container that is attached holds its lease; one that has gone leaves a memory of it, so
//! that the same name gets the same addresses when it comes back. A memory gives way to a container
//! that asks for that very address, and, the oldest first, when no other address is free.
//! Two containers never have an address, a hardware address or a name at the same time.

use std::net::IpAddr;

use super::definition::{Definition, Pool, v4, v6};
use super::leases::Owner;
use super::prefix::Prefix;
use crate::config::{Lease, MacAddress};
use crate::sorted::{SortedMap, SortedSet};

/// The addresses of one network.
#[derive(Debug, Clone)]
pub struct Ipam {
    v4: Pool,
    v6: Option<Pool>,
    /// Addresses outside of the ranges are other hosts' to give.
    ranges_only: bool,
    leases: SortedMap<String, Entry>,
    /// Counts up, so that memories have an age.
    clock: u64,
}

/// What a container asks for.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Wish {
    /// Its name, which no other container on the network has.
    pub name: String,
    /// This address and no other, of either family.
    pub addresses: Vec<IpAddr>,
    /// This hardware address.
    pub mac: Option<MacAddress>,
    /// Whether its lease is to be remembered when it has gone.
    pub keep: bool,
    /// Whose it is.
    pub owner: Owner,
}

/// Why a container gets no lease.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs)] // the messages say it
pub enum IpamError {
    #[error("the name {name} is in use on this network")]
    Name { name: String },
    #[error("the address {address} is in use by {by}")]
    Address { address: IpAddr, by: String },
    #[error("the address {address} cannot be used: it is {use_}")]
    Reserved { address: IpAddr, use_: String },
    #[error("the address {address} is not in the network's subnet{}", in_words(.subnets))]
    Outside { address: IpAddr, subnets: Vec<Prefix> },
    #[error("the address {address} is another host's: {range} is here")]
    Elsewhere { address: IpAddr, range: Prefix },
    #[error("the hardware address {mac} is in use by {by}")]
    Mac { mac: MacAddress, by: String },
    #[error("no free address is left in {range}")]
    NoneFree { range: Prefix },
    #[error("two IPv{version} addresses are asked for")]
    Two { version: u8 },
}

#[derive(Debug, Clone)]
struct Entry {
    lease: Lease,
    keep: bool,
    owner: Owner,
    state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// A container has it.
    Held,
    /// The container has gone, at this point of `Ipam::clock`.
    Remembered(u64),
}

impl Ipam {
    /// A network where nobody has an address yet.
    #[must_use]
    pub fn new(definition: &Definition) -> Self {
        let (v4, v6) = (definition.v4.clone(), definition.v6.clone());
        let ranges_only = definition.overlay.is_some();
        Self { v4, v6, ranges_only, leases: SortedMap::new(), clock: 0 }
    }

    /// Takes note of what a container once had. What no longer fits the network, or what another
    /// one has, is left out.
    pub fn remember(&mut self, name: &str, lease: Lease, owner: Owner) {
        let fits = |pool: &Pool, address| pool.subnet.contains(address) && pool.is_free(address);
        let fits4 = fits(&self.v4, lease.v4.into());
        let fits6 = match (&self.v6, lease.v6) {
            (Some(pool), Some(address)) => fits(pool, address.into()),
            (None, None) => true,
            _ => false,
        };
        let another = self.leases.iter().any(|(other, entry)| {
            let theirs = entry.lease;
            other != name
                && (theirs.v4 == lease.v4
                    || theirs.mac == lease.mac
                    || (lease.v6.is_some() && theirs.v6 == lease.v6))
        });
        let held = self.leases.get(name).is_some_and(|entry| entry.state == State::Held);
        if fits4 && fits6 && !another && !held {
            let state = State::Remembered(self.tick());
            self.leases.insert(name.to_owned(), Entry { lease, keep: true, owner, state });
            self.bound(owner);
        }
    }

    /// Gives a container its addresses.
    ///
    /// # Errors
    /// What it asks for is taken or impossible, or nothing is left. Nothing has changed then.
    pub fn lease(&mut self, wish: &Wish) -> Result<Lease, IpamError> {
        let memory = match self.leases.get(&wish.name) {
            Some(Entry { state: State::Held, .. }) => {
                return Err(IpamError::Name { name: wish.name.clone() });
            }
            Some(Entry { lease, .. }) => Some(*lease),
            None => None,
        };
        let asked4 = wished(wish, true)?;
        let asked6 = wished(wish, false)?;
        if let (Some(address), None) = (asked6, &self.v6) {
            return Err(IpamError::Outside { address, subnets: vec![self.v4.subnet] });
        }
        let mut leaving = SortedSet::default();
        let memory4 = memory.map(|lease| lease.v4.into());
        let v4 = v4(self.choose(&self.v4, asked4, memory4, wish, &mut leaving)?);
        let v6 = match &self.v6 {
            None => None,
            Some(pool) => {
                let memory6 = memory.and_then(|lease| lease.v6).map(IpAddr::V6);
                Some(v6(self.choose(pool, asked6, memory6, wish, &mut leaving)?))
            }
        };
        let remembered = memory.filter(|lease| lease.v4 == v4).map(|lease| lease.mac);
        let stable = Lease::new(v4, v6);
        let mac = wish.mac.or(remembered).unwrap_or(stable.mac);
        for (name, entry) in &self.leases {
            if *name != wish.name && entry.lease.mac == mac {
                match entry.state {
                    State::Held => return Err(IpamError::Mac { mac, by: name.clone() }),
                    State::Remembered(_) => drop(leaving.insert(name.clone())),
                }
            }
        }
        self.leases.retain(|name, _| !leaving.contains(name));
        let lease = Lease { mac, ..stable };
        let Wish { keep, owner, .. } = *wish;
        let entry = Entry { lease, keep, owner, state: State::Held };
        self.leases.insert(wish.name.clone(), entry);
        Ok(lease)
    }

    /// A container has gone. What is to be kept is remembered.
    pub fn release(&mut self, name: &str) {
        let now = self.tick();
        if let Some(entry) = self.leases.get_mut(name) {
            entry.state = State::Remembered(now);
            let owner = entry.owner;
            if entry.keep {
                self.bound(owner);
            } else {
                self.leases.remove(name);
            }
        }
    }

    /// Forgets the oldest of what is remembered for another user's containers, if it is too much.
    fn bound(&mut self, owner: Owner) {
        if owner.is_none() {
            return;
        }
        let theirs = self.leases.iter().filter(|(_, entry)| entry.owner == owner);
        let mut since: Vec<(u64, String)> = theirs
            .filter_map(|(name, entry)| match entry.state {
                State::Held => None,
                State::Remembered(since) => Some((since, name.clone())),
            })
            .collect();
        since.sort_unstable();
        while since.len() > MAX_REMEMBERED {
            let (_, oldest) = since.remove(0);
            self.leases.remove(&oldest);
        }
    }

    /// What is worth remembering: names with their leases.
    pub fn kept(&self) -> impl Iterator<Item = (&str, Lease)> {
        let kept = self.leases.iter().filter(|(_, entry)| entry.keep);
        kept.map(|(name, entry)| (name.as_str(), entry.lease))
    }

    /// Whether a name's lease is kept for a container of another than this user that is not there.
    #[must_use]
    pub fn is_kept(&self, name: &str, user: Owner) -> bool {
        let known = self.leases.iter().find(|(known, _)| known.eq_ignore_ascii_case(name));
        known.is_some_and(|(_, entry)| entry.state != State::Held && entry.owner != user)
    }

    /// How many containers hold a lease.
    #[must_use]
    pub fn held(&self) -> usize {
        self.leases.values().filter(|entry| entry.state == State::Held).count()
    }

    /// An address of one family. Names whose memory gives way are added to `leaving`.
    fn choose(
        &self,
        pool: &Pool,
        asked: Option<IpAddr>,
        memory: Option<IpAddr>,
        wish: &Wish,
        leaving: &mut SortedSet<String>,
    ) -> Result<IpAddr, IpamError> {
        if let Some(address) = asked {
            if !pool.subnet.contains(address) {
                return Err(IpamError::Outside { address, subnets: vec![pool.subnet] });
            }
            if let Some(use_) = pool.taken_by(address) {
                return Err(IpamError::Reserved { address, use_ });
            }
            let here = |range: &Prefix| range.contains(address);
            if let Some(range) = pool.ip_range.filter(|range| self.ranges_only && !here(range)) {
                return Err(IpamError::Elsewhere { address, range });
            }
            return match self.who_has(address) {
                Some((name, State::Held)) => {
                    Err(IpamError::Address { address, by: name.to_owned() })
                }
                Some((name, State::Remembered(_))) if name != wish.name => {
                    leaving.insert(name.to_owned());
                    Ok(address)
                }
                _ => Ok(address),
            };
        }
        if let Some(address) = memory {
            return Ok(address);
        }
        let range = pool.ip_range.unwrap_or(pool.subnet);
        let mut known: Vec<(IpAddr, &String, State)> = self
            .leases
            .iter()
            .flat_map(|(name, entry)| {
                let state = entry.state;
                addresses(entry.lease).map(move |address| (address, name, state))
            })
            .filter(|(address, ..)| range.contains(*address))
            .collect();
        known.sort_unstable_by_key(|(address, ..)| *address);
        // Of so many places one is free, unless there are not so many.
        let places = u128::try_from(known.len() + pool.aux.len()).unwrap_or(u128::MAX) + 4;
        let free = (0..places).map_while(|index| range.nth(index)).find(|address| {
            pool.is_free(*address)
                && known.binary_search_by_key(address, |(address, ..)| *address).is_err()
        });
        if let Some(address) = free {
            return Ok(address);
        }
        let oldest = known
            .into_iter()
            .filter_map(|(address, name, state)| match state {
                State::Held => None,
                State::Remembered(since) => Some((since, address, name)),
            })
            .min();
        let (_, address, name) = oldest.ok_or(IpamError::NoneFree { range })?;
        leaving.insert(name.clone());
        Ok(address)
    }

    fn who_has(&self, address: IpAddr) -> Option<(&str, State)> {
        let (name, entry) = self
            .leases
            .iter()
            .find(|(_, entry)| addresses(entry.lease).any(|theirs| theirs == address))?;
        Some((name, entry.state))
    }

    fn tick(&mut self) -> u64 {
        self.clock += 1;
        self.clock
    }
}

impl Pool {
    /// What has an address without a lease.
    fn taken_by(&self, address: IpAddr) -> Option<String> {
        if address == self.gateway {
            return Some("the gateway's".to_owned());
        }
        let aux = self.aux.iter().find(|(_, aux)| **aux == address);
        let aux = aux.map(|(name, _)| format!("the auxiliary address {name}"));
        aux.or_else(|| self.use_of(address).map(str::to_owned))
    }

    fn is_free(&self, address: IpAddr) -> bool {
        self.taken_by(address).is_none()
    }
}

/// The address of one family that a container asks for.
fn wished(wish: &Wish, v4: bool) -> Result<Option<IpAddr>, IpamError> {
    let mut asked = wish.addresses.iter().copied().filter(|address| address.is_ipv4() == v4);
    match (asked.next(), asked.next()) {
        (_, Some(_)) => Err(IpamError::Two { version: if v4 { 4 } else { 6 } }),
        (asked, None) => Ok(asked),
    }
}

fn addresses(lease: Lease) -> impl Iterator<Item = IpAddr> {
    std::iter::once(lease.v4.into()).chain(lease.v6.map(IpAddr::V6))
}

fn in_words(subnets: &[Prefix]) -> String {
    subnets.iter().map(|subnet| format!(" {subnet}")).collect()
}

/// How many leases are remembered for the containers of one user who is not the network's owner.
pub(super) const MAX_REMEMBERED: usize = 128;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::network::definition::{Made, Plan, Taken};

    fn network(subnets: &[&str], range: Option<&str>) -> Ipam {
        let aux = [("router".to_owned(), "192.168.100.129".parse().unwrap())];
        let plan = Plan {
            name: "n1".into(),
            subnets: subnets.iter().map(|text| text.parse().unwrap()).collect(),
            ip_ranges: range.into_iter().map(|text| text.parse().unwrap()).collect(),
            aux: aux.into_iter().filter(|_| subnets[0] == "192.168.100.0/24").collect(),
            ..Plan::default()
        };
        let made = Made { id: [1; 32], global_id: 1, created: String::new() };
        Ipam::new(&plan.make(&Taken::default(), &made).unwrap())
    }

    fn dual() -> Ipam {
        network(&["192.168.100.0/24", "fd00:1::/64"], None)
    }

    fn wish(name: &str, addresses: &[&str]) -> Wish {
        let addresses = addresses.iter().map(|text| text.parse().unwrap()).collect();
        Wish { name: name.into(), addresses, mac: None, keep: true, owner: None }
    }

    fn lease(ipam: &mut Ipam, name: &str, addresses: &[&str]) -> Result<String, String> {
        let lease = ipam.lease(&wish(name, addresses)).map_err(|error| error.to_string())?;
        let v6 = lease.v6.map(|v6| format!(" {v6}")).unwrap_or_default();
        Ok(format!("{}{v6}", lease.v4))
    }

    #[test]
    fn addresses_come_in_order_and_return() {
        let mut ipam = dual();
        let next = |ipam: &mut Ipam, name| lease(ipam, name, &[]).unwrap();
        assert_eq!(next(&mut ipam, "a"), "192.168.100.2 fd00:1::2");
        assert_eq!(next(&mut ipam, "b"), "192.168.100.3 fd00:1::3");
        ipam.release("a");
        // The memory of `a` keeps its address from others, and for itself.
        assert_eq!(next(&mut ipam, "c"), "192.168.100.4 fd00:1::4");
        assert_eq!(next(&mut ipam, "a"), "192.168.100.2 fd00:1::2");
        assert_eq!(ipam.held(), 3);
        ipam.lease(&Wish { keep: false, ..wish("once", &[]) }).unwrap();
        ipam.release("once");
        assert_eq!(next(&mut ipam, "d"), "192.168.100.5 fd00:1::5");
        assert_eq!(ipam.kept().count(), 4);
    }

    // E2
    #[test]
    fn a_range_is_used_up_and_its_auxiliary_address_never_given() {
        let mut ipam = network(&["192.168.100.0/24"], Some("192.168.100.128/30"));
        let given: Vec<_> =
            ["a", "b", "c"].iter().map(|name| lease(&mut ipam, name, &[]).unwrap()).collect();
        assert_eq!(given, ["192.168.100.128", "192.168.100.130", "192.168.100.131"]);
        assert_eq!(
            lease(&mut ipam, "d", &[]).unwrap_err(),
            "no free address is left in 192.168.100.128/30"
        );
        // What is asked for need not be in the range.
        assert_eq!(lease(&mut ipam, "d", &["192.168.100.10"]).unwrap(), "192.168.100.10");
        // The memory that is oldest gives way.
        ipam.release("c");
        ipam.release("a");
        assert_eq!(lease(&mut ipam, "e", &[]).unwrap(), "192.168.100.131");
        assert_eq!(lease(&mut ipam, "f", &[]).unwrap(), "192.168.100.128");
        assert!(lease(&mut ipam, "c", &[]).is_err());
    }

    // E19
    #[test]
    fn a_conflict_names_who_has_it() {
        let mut ipam = dual();
        lease(&mut ipam, "web", &["192.168.100.10", "fd00:1::10"]).unwrap();
        for (name, addresses, message) in [
            ("db", &["192.168.100.10"][..], "the address 192.168.100.10 is in use by web"),
            ("db", &["fd00:1::10"], "the address fd00:1::10 is in use by web"),
            ("web", &[], "the name web is in use on this network"),
            (
                "db",
                &["192.168.99.1"],
                "the address 192.168.99.1 is not in the network's subnet 192.168.100.0/24",
            ),
            (
                "db",
                &["192.168.100.1"],
                "the address 192.168.100.1 cannot be used: it is the gateway's",
            ),
            (
                "db",
                &["192.168.100.129"],
                "the address 192.168.100.129 cannot be used: it is the auxiliary address router",
            ),
            (
                "db",
                &["192.168.100.255"],
                "the address 192.168.100.255 cannot be used: it is the broadcast address",
            ),
            ("db", &["192.168.100.5", "192.168.100.6"], "two IPv4 addresses are asked for"),
        ] {
            assert_eq!(lease(&mut ipam, name, addresses).unwrap_err(), message);
        }
        let mut only4 = network(&["192.168.100.0/24"], None);
        assert!(lease(&mut only4, "db", &["fd00:1::10"]).unwrap_err().ends_with("100.0/24"));
        let mac = MacAddress([2, 0, 0, 0, 0, 7]);
        ipam.lease(&Wish { mac: Some(mac), ..wish("cache", &[]) }).unwrap();
        let error = ipam.lease(&Wish { mac: Some(mac), ..wish("db", &[]) }).unwrap_err();
        assert_eq!(error.to_string(), "the hardware address 02:00:00:00:00:07 is in use by cache");
        // A refused container has left nothing behind.
        assert_eq!(ipam.held(), 2);
    }

    #[test]
    fn a_memory_gives_way_to_who_asks_for_its_address() {
        let mut ipam = dual();
        lease(&mut ipam, "web", &["192.168.100.10"]).unwrap();
        ipam.release("web");
        lease(&mut ipam, "db", &["192.168.100.10"]).unwrap();
        assert_ne!(lease(&mut ipam, "web", &[]).unwrap(), "192.168.100.10 fd00:1::2");
    }

    // E19 E21
    #[test]
    fn what_was_remembered_comes_back() {
        let mut ipam = dual();
        let mac = MacAddress([2, 0, 0, 0, 0, 7]);
        let lease = ipam.lease(&Wish { mac: Some(mac), ..wish("web", &["192.168.100.9"]) });
        let lease = lease.unwrap();
        let mut later = dual();
        for (name, lease) in ipam.kept() {
            later.remember(name, lease, None);
        }
        assert_eq!(later.lease(&wish("web", &[])), Ok(lease));
        // Another subnet, the gateway's address, or an address twice: left out.
        let mut other = network(&["10.1.0.0/24"], None);
        other.remember("web", lease, None);
        let gateway = Lease { v4: "10.1.0.1".parse().unwrap(), v6: None, ..lease };
        other.remember("gateway", gateway, None);
        assert_eq!(other.kept().count(), 0);
        let fits = Lease { v4: "10.1.0.9".parse().unwrap(), v6: None, ..lease };
        other.remember("a", fits, None);
        other.remember("b", fits, None);
        assert_eq!(other.kept().count(), 1);
    }

    // E19 E22
    #[test]
    fn another_users_names_are_kept_for_that_user_up_to_a_bound() {
        let mut ipam = dual();
        let of = |name: &str| Wish { owner: Some(1001), ..wish(name, &[]) };
        let lease = ipam.lease(&of("cam")).unwrap();
        ipam.release("cam");
        assert!(ipam.is_kept("CAM", Some(1002)) && ipam.is_kept("cam", None));
        assert!(!ipam.is_kept("cam", Some(1001)));
        assert_eq!(ipam.lease(&of("cam")), Ok(lease));
        ipam.release("cam");
        for number in 0..MAX_REMEMBERED {
            let name = format!("c{number}");
            ipam.lease(&of(&name)).unwrap();
            ipam.release(&name);
        }
        assert_eq!(ipam.kept().count(), MAX_REMEMBERED);
        assert!(!ipam.is_kept("cam", None) && ipam.is_kept("c0", None));
        // The same over a restart.
        let mut later = dual();
        for last in (2..=200).filter(|last| *last != 129) {
            let lease = Lease::new(
                [192, 168, 100, last].into(),
                Some([0xfd00, 1, 0, 0, 0, 0, 0, last.into()].into()),
            );
            later.remember(&format!("c{last}"), lease, (last > 60).then_some(1001));
        }
        assert_eq!(later.kept().count(), 59 + MAX_REMEMBERED);
    }
}
