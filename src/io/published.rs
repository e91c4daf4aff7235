//! The published ports of a running network: what is bound, changed while it runs.
//!
//! Holds which host socket belongs to which rule, so that a rule can be listed and taken back, and
//! moves the sockets of a rule that names an interface when the interface's addresses change.
//! Binding is in [`super::listen`]; what clients may do is for the engine.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsRawFd as _;
use std::sync::Arc;

use super::host::Sockets;
use super::listen::{self, Binder, BoundPort, ListenError, Listener, Published};
use crate::config::{Bind, Egress, HostPorts, HostSide, Ports, Publish, Rate};
use crate::engine::host::SocketId;
use crate::engine::{Destination, Engine, PortId};
use crate::survivor::Record;
use crate::sys::interfaces::Interfaces;

/// What published ports are made in.
pub(super) struct Place<'a> {
    pub(super) engine: &'a mut Engine,
    pub(super) sockets: &'a mut Sockets,
}

/// Every published port.
#[derive(Debug, Default)]
pub(super) struct PublishedPorts {
    rules: Vec<Rule>,
    last_id: u64,
    /// Where changes are noted that outlive this process.
    record: Option<Record>,
}

/// A rule with what it came to.
#[derive(Debug)]
pub(super) struct Rule {
    id: u64,
    publish: Publish,
    to: Vec<Destination>,
    service: Option<String>,
    pairs: Vec<(u16, u16)>,
    /// Its place in the record.
    place: Option<usize>,
    sockets: Vec<(SocketId, SocketAddr, u16)>,
}

impl Rule {
    /// Its name, for taking it back.
    pub(super) fn id(&self) -> u64 {
        self.id
    }

    /// Whether clients are led to the container at a port.
    pub(super) fn leads_to(&self, port: PortId) -> bool {
        self.to.iter().any(|to| to.port == port)
    }

    /// The name that it was published for, if not for a container: whoever has it is led to.
    pub(super) fn service(&self) -> Option<&str> {
        self.service.as_deref()
    }

    /// What was asked for.
    pub(super) fn publish(&self) -> &Publish {
        &self.publish
    }

    /// What asks for the same again, with the ports that were found by chance and the addresses of
    /// one that named none.
    pub(super) fn again(&self) -> Vec<(String, Vec<IpAddr>)> {
        match &self.publish.host {
            HostSide::Bound { on, ports } if !matches!(ports, HostPorts::Exactly(_)) => {
                let pinned = |(host, guest): &(u16, u16)| {
                    let ports = HostPorts::Exactly(Ports::one(*host));
                    let host = HostSide::Bound { on: on.clone(), ports };
                    let guest = Ports::one(*guest);
                    Publish { host, guest, ..self.publish.clone() }.spelt()
                };
                self.pairs.iter().map(pinned).collect()
            }
            _ => vec![self.publish.spelt()],
        }
    }

    /// What is bound for it now.
    pub(super) fn bound(&self) -> impl Iterator<Item = BoundPort<'_>> {
        self.sockets.iter().map(|(_, address, guest_port)| BoundPort {
            address: *address,
            zone: listen::zone_of(&self.publish),
            protocol: self.publish.protocol,
            guest_port: *guest_port,
        })
    }
}

impl PublishedPorts {
    /// Binds rules while the network runs, all or none, and leads their clients `to` containers.
    /// Returns the rules' names.
    ///
    /// # Errors
    /// What cannot be bound; `EMFILE` too where only the descriptors of DNS and control are left.
    pub(super) fn publish(
        &mut self,
        rules: &[Publish],
        to: &[Destination],
        v6: bool,
        interfaces: Option<&mut Interfaces>,
        place: &mut Place<'_>,
    ) -> Result<Vec<u64>, ListenError> {
        let published = Binder { v6, interfaces, may_inherit: false }.bind(rules)?;
        let limit = place.sockets.flow_limit();
        for Published { rule, listeners, .. } in &published {
            if let Some(listener) = listeners.iter().find(|l| l.socket.as_raw_fd() >= limit) {
                let (publish, address) = (Box::new(rule.clone()), listener.address);
                let source = io::Error::from_raw_os_error(libc::EMFILE);
                return Err(ListenError::Bind { publish, address, source });
            }
        }
        let mut ids = Vec::with_capacity(published.len());
        for published in published {
            let publish = Box::new(published.rule.clone());
            match self.adopt(published, to, place) {
                Ok(id) => ids.push(id),
                Err(source) => {
                    for id in ids {
                        self.unpublish(id, place);
                    }
                    return Err(ListenError::Watch { publish, source });
                }
            }
        }
        Ok(ids)
    }

    /// Serves a rule that is bound. Returns its name.
    ///
    /// # Errors
    /// What epoll_ctl(2) reports; nothing of the rule is left then.
    pub(super) fn adopt(
        &mut self,
        published: Published,
        to: &[Destination],
        place: &mut Place<'_>,
    ) -> io::Result<u64> {
        self.last_id += 1;
        let Published { rule: publish, pairs, listeners } = published;
        let (id, to) = (self.last_id, to.to_vec());
        let mut rule =
            Rule { id, publish, to, service: None, pairs, place: None, sockets: Vec::new() };
        for listener in listeners {
            if let Err(error) = rule.open(listener, place) {
                rule.close_all(place);
                return Err(error);
            }
        }
        self.rules.push(rule);
        Ok(id)
    }

    /// Changes are noted from now on; the rules that are there have these places, or their own.
    pub(super) fn keep(&mut self, record: Record, places: &[usize]) {
        for (index, rule) in self.rules.iter_mut().enumerate() {
            rule.place = Some(places.get(index).copied().unwrap_or(index));
        }
        self.record = Some(record);
    }

    /// Notes that a rule is to be there after this process, too.
    pub(super) fn note(&mut self, id: u64) {
        if let Some(record) = &mut self.record {
            for rule in self.rules.iter_mut().filter(|rule| rule.id == id) {
                rule.place = Some(record.added(&rule.publish, &rule.pairs));
            }
        }
    }

    /// Notes the rate that the container has from now on, for another process than this.
    pub(super) fn note_rate(&mut self, rate: Rate) {
        if let Some(record) = &mut self.record {
            record.rate(rate);
        }
    }

    /// Notes what the container may reach outside from now on, alike.
    pub(super) fn note_egress(&mut self, egress: &Egress) {
        if let Some(record) = &mut self.record {
            record.egress(egress);
        }
    }

    /// A rule is for a name from now on: it stays when nobody has it.
    pub(super) fn set_service(&mut self, id: u64, service: &str) {
        for rule in self.rules.iter_mut().filter(|rule| rule.id == id) {
            rule.service = Some(service.to_owned());
        }
    }

    /// A container has come. Clients of rules for one of its names are led to it too.
    pub(super) fn welcome(
        &mut self,
        port: PortId,
        is_called: impl Fn(&str) -> bool,
        engine: &mut Engine,
    ) {
        for rule in &mut self.rules {
            if rule.service.as_deref().is_some_and(&is_called) {
                rule.to.push(Destination { port, address: None });
                rule.retarget(engine);
            }
        }
    }

    /// Takes a rule back; connections that stand go on. Returns whether there was one.
    pub(super) fn unpublish(&mut self, id: u64, place: &mut Place<'_>) -> bool {
        let Some(index) = self.rules.iter().position(|rule| rule.id == id) else {
            return false;
        };
        let rule = self.rules.remove(index);
        if let (Some(record), Some(place)) = (&mut self.record, rule.place) {
            record.removed(place, &rule.pairs);
        }
        rule.close_all(place);
        true
    }

    /// The container at a port is gone: clients are led there no more, and ports that lead nowhere
    /// else are taken back, but for those of names.
    pub(super) fn forget(&mut self, port: PortId, place: &mut Place<'_>) {
        for rule in self.rules.iter_mut().filter(|rule| rule.leads_to(port)) {
            rule.to.retain(|to| to.port != port);
            rule.retarget(place.engine);
        }
        let gone = |rule: &mut Rule| rule.to.is_empty() && rule.service.is_none();
        for rule in self.rules.extract_if(.., gone) {
            rule.close_all(place);
        }
    }

    /// Whether there is a rule of this name.
    pub(super) fn has(&self, id: u64) -> bool {
        self.rules.iter().any(|rule| rule.id == id)
    }

    /// The container's port behind a socket.
    pub(super) fn guest_port(&self, socket: SocketId) -> Option<u16> {
        let sockets = self.rules.iter().flat_map(|rule| &rule.sockets);
        sockets.into_iter().find(|(id, ..)| *id == socket).map(|(.., guest_port)| *guest_port)
    }

    /// The rules, in the order in which they came.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Rule> {
        self.rules.iter()
    }

    /// The host's addresses have changed: rules that name an interface follow it.
    pub(super) fn follow(&mut self, interfaces: &Interfaces, place: &mut Place<'_>) {
        for rule in &mut self.rules {
            if let HostSide::Bound { on: on @ (Bind::Interface(_) | Bind::Device { .. }), .. } =
                &rule.publish.host
            {
                let now = listen::addresses_of(interfaces, on).unwrap_or_default();
                rule.move_to(&now, place);
            }
        }
    }
}

impl Rule {
    /// Serves one socket of the rule; nothing is left of it where that cannot be.
    fn open(&mut self, listener: Listener, place: &mut Place<'_>) -> io::Result<()> {
        let Place { engine, sockets } = place;
        let Listener { address, guest_port, protocol, .. } = listener;
        let id = engine.publish(protocol, self.to.clone(), guest_port);
        engine.set_address(id, address);
        if !self.publish.from.is_empty() {
            engine.admit_only(id, Arc::from(self.publish.from.as_slice()));
        }
        if let Err(error) = sockets.add_listener(id, listener) {
            engine.unpublish(id);
            return Err(error);
        }
        self.sockets.push((id, address, guest_port));
        Ok(())
    }

    /// Tells the engine where clients are led to now.
    fn retarget(&self, engine: &mut Engine) {
        for (id, ..) in &self.sockets {
            engine.retarget(*id, self.to.clone());
        }
    }

    fn close_all(self, place: &mut Place<'_>) {
        for (id, ..) in self.sockets {
            place.engine.unpublish(id);
        }
    }

    /// Binds at addresses that are new, and lets go of those that are gone.
    fn move_to(&mut self, now: &[SocketAddr], place: &mut Place<'_>) {
        let without_port = |mut address: SocketAddr| {
            address.set_port(0);
            address
        };
        // An interface that was made anew is another, whatever its name.
        let device = match &self.publish.host {
            HostSide::Bound { on: Bind::Device { interface, .. }, .. } => Some(interface),
            _ => None,
        };
        let mut before: Vec<SocketAddr> = Vec::new();
        self.sockets.retain(|(id, address, _)| {
            let address = without_port(*address);
            let stays = now.contains(&address)
                && device.is_none_or(|device| place.sockets.is_of_device(*id, device));
            if !stays {
                place.engine.unpublish(*id);
            } else if !before.contains(&address) {
                before.push(address);
            }
            stays
        });
        for address in now.iter().filter(|address| !before.contains(address)) {
            for pair in self.pairs.clone() {
                match listen::listen_on_interface(&self.publish, *address, pair) {
                    Ok(Some(listener)) => match self.open(listener, place) {
                        Ok(()) => {
                            let zone = listen::zone_of(&self.publish);
                            let at = listen::without_port(*address, zone);
                            log::info!("{}: now at {at}", self.publish);
                        }
                        Err(error) => log::warn!("{}: {error}", self.publish),
                    },
                    Ok(None) => {}
                    Err(error) => log::warn!("{}", error.with_cause()),
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;

    use super::*;
    use crate::config::{Network, Protocol};
    use crate::io::outbound::OutboundPolicy;

    #[test]
    fn a_port_that_cannot_be_watched_is_not_shown_as_bound() {
        let registry = mio::Poll::new().unwrap().registry().try_clone().unwrap();
        let mut sockets = Sockets::new(registry, 0, OutboundPolicy::default());
        let mut engine = Engine::new(Network::default(), [1, 2, 3, 4]);
        let mut place = Place { engine: &mut engine, sockets: &mut sockets };
        let publish = Publish::one(None, 8080, 80, Protocol::Tcp);
        let nothing = Published { rule: publish, pairs: vec![(8080, 80)], listeners: Vec::new() };
        let mut published = PublishedPorts::default();
        published.adopt(nothing, &[], &mut place).unwrap();
        // No socket, so nothing that clients can be accepted from.
        let socket = File::open("/dev/null").unwrap().into();
        let address = "192.0.2.1:8080".parse().unwrap();
        let listener = Listener {
            socket,
            address,
            protocol: Protocol::Tcp,
            guest_port: 80,
            dual_stack: false,
        };
        let [rule] = &mut published.rules[..] else { panic!("one rule") };
        assert!(rule.open(listener, &mut place).is_err());
        assert_eq!(rule.bound().count(), 0);
    }
}
