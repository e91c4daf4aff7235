//! Port specifications of `-t`, `-u`, `-T` and `-U`: `none`, or `[ADDR/]` or `[%IFACE/]` and a list of ports,
//! ranges with a mapping, exclusions, `auto` and `all`. What they lead to is bound elsewhere.

use std::net::IpAddr;
use std::ops::RangeInclusive;

use crate::cli::values;
use crate::config::pasta::{MAX_OUTWARDS, Mirror, Outward, Ports};
use crate::config::{self, Bind, HostPorts, HostSide, Protocol, Publish};

/// What is wrong with a specification.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs)] // the messages say it
pub enum PortsError {
    #[error("it is empty")]
    Empty,
    #[error("{0:?} is no port, no range and none of auto, all and none")]
    Port(String),
    #[error("{0:?} ends before it begins")]
    Backwards(String),
    #[error("{0:?} has not as many ports on both sides of the colon")]
    Lengths(String),
    #[error("{0:?} is no address")]
    Address(String),
    #[error("none goes with nothing else")]
    None,
    #[error("{0:?} leads to an address of its own, which is not supported")]
    ToAddress(String),
    #[error("{0:?} leads to another port, which goes with neither auto nor all")]
    Mapped(String),
    #[error("{0:?} is no name of an interface")]
    Interface(String),
    #[error("only addresses of the container's loopback lead to the host's")]
    NoLoopback,
    #[error("at most {0} ports lead to the host's loopback")]
    TooManyOutwards(usize),
}

/// One specification.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Spec {
    pub(super) bind: Option<IpAddr>,
    /// With an address, that of the interface alone; without one, all that it has.
    interface: Option<String>,
    /// The host's ports, and the first of the container's.
    ranges: Vec<(RangeInclusive<u16>, u16)>,
    exclude: Vec<RangeInclusive<u16>>,
    /// `auto`, `all` or exclusions alone.
    pub(super) follows: bool,
}

/// Reads one specification; `None` is `none`.
pub(super) fn parse(text: &str) -> Result<Option<Spec>, PortsError> {
    if text == "none" {
        return Ok(None);
    }
    let ((bind, interface), list) = split_place(text)?;
    let mut spec = Spec { bind, interface, ..Spec::default() };
    let (mut all, mut mapped) = (false, None);
    for item in list.split(',') {
        match item {
            "" => return Err(PortsError::Empty),
            "none" => return Err(PortsError::None),
            "auto" => spec.follows = true,
            "all" => (spec.follows, all) = (true, true),
            _ if item.starts_with("all:") => return Err(PortsError::ToAddress(item.to_owned())),
            _ => match item.strip_prefix('~') {
                Some(excluded) => spec.exclude.push(range(excluded, item)?),
                None => {
                    let (range, first_inside) = mapping(item)?;
                    if *range.start() != first_inside {
                        mapped = Some(item);
                    }
                    spec.ranges.push((range, first_inside));
                }
            },
        }
    }
    if let Some(item) = mapped.filter(|_| spec.follows) {
        // What follows has the same number on both sides.
        return Err(PortsError::Mapped(item.to_owned()));
    }
    if spec.ranges.is_empty() || all {
        spec.follows = true;
    }
    if all {
        spec.ranges.clear();
    }
    Ok(Some(spec))
}

impl Spec {
    /// Adds what it stands for to `ports`.
    pub(super) fn add_to(self, protocol: Protocol, freebind: bool, ports: &mut Ports) {
        if self.follows {
            ports.mirrors.push(self.mirror(protocol, freebind));
            return;
        }
        let Self { bind, interface, ranges, exclude, .. } = self;
        for (range, first_inside) in ranges {
            let start = *range.start();
            for host_port in range.filter(|port| !exclude.iter().any(|r| r.contains(port))) {
                let guest_port = first_inside + (host_port - start);
                let on = match (bind, interface.clone()) {
                    (None, None) => Bind::All,
                    (Some(address), None) => Bind::Addresses(vec![address]),
                    (None, Some(name)) => Bind::Interface(name),
                    (Some(address), Some(interface)) => Bind::Device { address, interface },
                };
                let host = HostPorts::Exactly(config::Ports::one(host_port));
                let guest = config::Ports::one(guest_port);
                let publish = Publish { freebind, ..Publish::at(on, host, guest, protocol) };
                if !ports.fixed.contains(&publish) {
                    ports.fixed.push(publish);
                }
            }
        }
    }
}

/// A port that is bound everywhere is so at each address: Podman names both, in either order.
pub(super) fn merge(fixed: &mut Vec<Publish>) {
    let everywhere = |publish: &Publish| {
        let mut publish = publish.clone();
        if let HostSide::Bound { on, .. } = &mut publish.host {
            *on = Bind::All;
        }
        publish
    };
    let is_all = |publish: &&Publish| everywhere(publish) == **publish;
    let all: Vec<Publish> = fixed.iter().filter(is_all).cloned().collect();
    fixed.retain(|publish| is_all(&publish) || !all.contains(&everywhere(publish)));
}

impl Spec {
    /// The rule of ports that follow.
    fn mirror(self, protocol: Protocol, freebind: bool) -> Mirror {
        let Self { bind, interface, ranges, exclude, .. } = self;
        let mut include: Vec<_> = ranges.into_iter().map(|(range, _)| range).collect();
        if include.is_empty() {
            include.push(1..=u16::MAX);
        }
        Mirror { protocol, bind, interface, include, exclude, freebind }
    }
}

/// What stands before the ports: an address, an interface, both or neither.
type Place = (Option<IpAddr>, Option<String>);

/// Adds what a specification of `-T` or `-U` stands for to `ports`.
pub(super) fn add_outwards(
    spec: Spec,
    protocol: Protocol,
    ports: &mut Ports,
) -> Result<(), PortsError> {
    let at = spec.bind;
    let elsewhere = spec.interface.as_deref().is_some_and(|interface| interface != LOOPBACK);
    if elsewhere || at.is_some_and(|at| !at.is_loopback()) {
        return Err(PortsError::NoLoopback);
    }
    if spec.follows {
        let mirror = spec.mirror(protocol, false);
        ports.outward_mirrors.push(Mirror { interface: None, ..mirror });
        return Ok(());
    }
    let Spec { ranges, exclude, .. } = spec;
    for (range, first) in ranges {
        let start = *range.start();
        for inside in range.filter(|port| !exclude.iter().any(|r| r.contains(port))) {
            let outward = Outward { protocol, at, inside, host: first + (inside - start) };
            if !ports.outwards.contains(&outward) {
                ports.outwards.push(outward);
            }
            if ports.outwards.len() > MAX_OUTWARDS {
                return Err(PortsError::TooManyOutwards(MAX_OUTWARDS));
            }
        }
    }
    Ok(())
}

/// The address and interface before the first slash, if there are any, and the rest.
fn split_place(text: &str) -> Result<(Place, &str), PortsError> {
    let Some((before, list)) = text.split_once('/') else {
        // All ports, by what goes without saying.
        return match text.contains('%') {
            true => Ok((split_interface(text)?, "all")),
            false => Ok(((None, None), text)),
        };
    };
    match split_interface(before) {
        // `5000:192.0.2.5/6000`: the slash belongs to where it leads.
        Err(PortsError::Address(_))
            if before.split_once(':').is_some_and(|(ports, _)| range(ports, ports).is_ok()) =>
        {
            Err(PortsError::ToAddress(text.to_owned()))
        }
        place => Ok((place?, list)),
    }
}

/// `ADDRESS`, `ADDRESS%INTERFACE` or `%INTERFACE`; the address may be `*` and stand in brackets.
fn split_interface(text: &str) -> Result<Place, PortsError> {
    let unbracketed = text.strip_prefix('[').and_then(|text| text.strip_suffix(']'));
    let (address, name) = match unbracketed.unwrap_or(text).split_once('%') {
        Some((address, name)) => (address, Some(name)),
        None => (unbracketed.unwrap_or(text), None),
    };
    // Unlike the container's own it may be `lo`.
    if name.is_some_and(|name| name != LOOPBACK && values::ifname(name).is_err()) {
        return Err(PortsError::Interface(text.to_owned()));
    }
    let address = match address.parse() {
        Ok(address) => Some(address),
        Err(_) if address == "*" || (address.is_empty() && name.is_some()) => None,
        Err(_) => return Err(PortsError::Address(text.to_owned())),
    };
    Ok((address, name.map(str::to_owned)))
}

/// The interface that every namespace has.
const LOOPBACK: &str = "lo";

/// `first[-last][:tofirst[-tolast]]`.
fn mapping(item: &str) -> Result<(RangeInclusive<u16>, u16), PortsError> {
    let Some((host, inside)) = item.split_once(':') else {
        let host = range(item, item)?;
        let first = *host.start();
        return Ok((host, first));
    };
    if inside.contains('/') {
        return Err(PortsError::ToAddress(item.to_owned()));
    }
    let host = range(host, item)?;
    let mapped = range(inside, item)?;
    if inside.contains('-') && mapped.len() != host.len() {
        return Err(PortsError::Lengths(item.to_owned()));
    }
    let first = *mapped.start();
    // One port stands for the first of as many.
    if usize::from(u16::MAX - first) < host.len() - 1 {
        return Err(PortsError::Lengths(item.to_owned()));
    }
    Ok((host, first))
}

fn range(text: &str, item: &str) -> Result<RangeInclusive<u16>, PortsError> {
    let port = |text: &str| {
        let digits = Some(text).filter(|text| values::is_digits(text));
        let number = digits.and_then(|text| text.parse().ok()).filter(|port| *port != 0);
        number.ok_or_else(|| PortsError::Port(item.to_owned()))
    };
    let (first, last) = match text.split_once('-') {
        Some((first, last)) => (port(first)?, port(last)?),
        None => (port(text)?, port(text)?),
    };
    if first > last {
        return Err(PortsError::Backwards(item.to_owned()));
    }
    Ok(first..=last)
}
