//! What the process of a named network keeps beside the engine: who has which address, who is on
//! its way, and since when nobody is there.

use std::rc::{Rc, Weak};

use smoltcp::time::Duration;

use crate::engine::{Instant, PortId};
use crate::network::definition::Definition;
use crate::network::ipam::Ipam;
use crate::network::leases::Journal;

/// A named network, as its process knows it.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) definition: Definition,
    pub(super) ipam: Ipam,
    pub(super) journal: Journal,
    /// Containers with a lease and no port yet. Who brings one has the strong reference.
    coming: Vec<(String, Weak<()>)>,
    /// Containers that leave when a connection ends, which has the strong reference.
    held: Vec<(PortId, Weak<()>)>,
    /// When the process ends, if nobody comes.
    ends_at: Option<Instant>,
}

impl Shared {
    /// A network without containers, with the leases that are remembered.
    pub(super) fn new(definition: Definition, journal: Journal) -> Self {
        let mut ipam = Ipam::new(&definition);
        for (name, lease, owner) in journal.known() {
            ipam.remember(name, lease, owner);
        }
        Self { definition, ipam, journal, coming: Vec::new(), held: Vec::new(), ends_at: None }
    }

    /// A container is on its way, for as long as somebody has what is returned.
    pub(super) fn await_container(&mut self, name: &str) -> Rc<()> {
        let alive = Rc::new(());
        self.coming.push((name.to_owned(), Rc::downgrade(&alive)));
        alive
    }

    /// A container that was on its way is there.
    pub(super) fn arrived(&mut self, name: &str) {
        self.coming.retain(|(coming, _)| coming != name);
    }

    /// The container at a port stays for as long as somebody has what is returned.
    pub(super) fn hold(&mut self, port: PortId) -> Rc<()> {
        let alive = Rc::new(());
        self.held.push((port, Rc::downgrade(&alive)));
        alive
    }

    /// The container at a port has gone.
    pub(super) fn gone(&mut self, port: PortId) {
        self.held.retain(|(held, _)| *held != port);
    }

    /// A container that nobody holds any more who did.
    pub(super) fn abandoned(&mut self) -> Option<PortId> {
        let abandoned = self.held.iter().find(|(_, alive)| alive.strong_count() == 0);
        abandoned.map(|(port, _)| *port)
    }

    /// Takes leases back whose containers will not come any more.
    pub(super) fn sweep(&mut self) {
        let ipam = &mut self.ipam;
        self.coming.retain(|(name, alive)| {
            let comes = alive.strong_count() > 0;
            if !comes {
                ipam.release(name);
            }
            comes
        });
    }

    /// Whether nobody has been there for so long that the process may end; see
    /// [`Shared::ends_at`]. `anybody` says whether a container is attached.
    pub(super) fn is_over(&mut self, anybody: bool, now: Instant) -> bool {
        if self.definition.group.is_some() {
            // Others cannot start it again.
            return false;
        }
        // Asked for in every turn of the loop, so the leases are not counted while somebody is there.
        if !anybody {
            self.sweep();
        }
        if anybody || self.ipam.held() > 0 {
            self.ends_at = None;
            return false;
        }
        *self.ends_at.get_or_insert(now + GRACE) <= now
    }

    /// When to ask again whether it is over.
    pub(super) fn ends_at(&self) -> Option<Instant> {
        self.ends_at
    }
}

/// How long a network's process waits for the next container: who has just started it needs a
/// moment, and a container that is started anew finds its network as it was.
const GRACE: Duration = Duration::from_secs(2);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::network::definition::{Made, Plan, Taken};
    use crate::network::ipam::Wish;

    fn at(millis: i64) -> Instant {
        Instant::from_millis(millis)
    }

    fn shared() -> Shared {
        let made = Made { id: [1; 32], global_id: 1, created: String::new() };
        let plan = Plan { name: "n1".into(), ..Plan::default() };
        let definition = plan.make(&Taken::default(), &made).unwrap();
        Shared::new(definition, Journal::nowhere())
    }

    fn wish(name: &str) -> Wish {
        Wish { name: name.into(), ..Wish::default() }
    }

    #[test]
    fn a_caller_that_dies_gives_its_lease_back() {
        let mut shared = shared();
        let lease = shared.ipam.lease(&wish("web")).unwrap();
        let alive = shared.await_container("web");
        shared.sweep();
        assert!(shared.ipam.lease(&wish("web")).is_err());
        drop(alive);
        shared.sweep();
        assert_eq!(shared.ipam.lease(&wish("db")), Ok(lease));
    }

    #[test]
    fn one_that_has_arrived_keeps_it() {
        let mut shared = shared();
        shared.ipam.lease(&wish("web")).unwrap();
        let alive = shared.await_container("web");
        shared.arrived("web");
        drop(alive);
        shared.sweep();
        assert_eq!(shared.ipam.held(), 1);
    }

    #[test]
    fn a_container_leaves_with_the_connection_that_holds_it() {
        let mut shared = shared();
        let alive = shared.hold(PortId(3));
        assert_eq!(shared.abandoned(), None);
        drop(alive);
        assert_eq!(shared.abandoned(), Some(PortId(3)));
        shared.gone(PortId(3));
        assert_eq!(shared.abandoned(), None);
    }

    #[test]
    fn it_is_over_when_nobody_comes_for_a_while() {
        let mut shared = shared();
        assert!(!shared.is_over(false, at(0)));
        assert!(!shared.is_over(false, at(1999)));
        shared.ipam.lease(&wish("web")).unwrap();
        assert!(!shared.is_over(false, at(5000)));
        assert!(!shared.is_over(true, at(5000)));
        assert_eq!(shared.ends_at(), None);
        shared.arrived("web");
        shared.ipam.release("web");
        assert!(!shared.is_over(false, at(9000)));
        assert!(shared.is_over(false, at(11_000)));
    }
}
