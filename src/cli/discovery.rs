//! What multicast crosses the border: `--mdns` and `--relay`.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::UsageError;
use super::options::Given;
use super::values::{Input, ValueError};
use crate::config::{Discovery, MAX_RELAYS, MDNS};

/// Reads the options about it.
///
/// # Errors
/// What is no group, and too many of them.
pub(crate) fn discovery(given: &Given) -> Result<Discovery, UsageError> {
    let mut discovery = Discovery { mdns: given.mdns, ..Discovery::default() };
    for text in &given.relay {
        let typed = Input::new("--relay", text);
        for group in typed.read(groups)? {
            if !discovery.relays.contains(&group) {
                discovery.relays.push(group);
            }
        }
        if discovery.relays.len() > MAX_RELAYS {
            return Err(typed.refuse(ValueError::Refused("there may be 16 groups at most")));
        }
    }
    Ok(discovery)
}

/// One group, or both of a protocol that has a name.
fn groups(text: &str) -> Result<Vec<SocketAddr>, ValueError> {
    let both = |port| {
        let v4 = Ipv4Addr::new(239, 255, 255, 250);
        let v6 = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 0xc);
        vec![SocketAddr::new(v4.into(), port), SocketAddr::new(v6.into(), port)]
    };
    match text {
        // UPnP Device Architecture 2.0, section 1.1 and annex A; WS-Discovery 1.1, section 2.4.
        "ssdp" => return Ok(both(1900)),
        "wsd" => return Ok(both(3702)),
        _ => {}
    }
    let expected = "ssdp, wsd or GROUP:PORT, as 239.1.2.3:5000 or [ff05::1:3]:5000";
    let group: SocketAddr = text.parse().map_err(|_| ValueError::Expected(expected))?;
    let wide = match group.ip() {
        IpAddr::V4(ip) => ip.is_multicast(),
        // RFC 4291, section 2.7: reserved, and within one machine.
        IpAddr::V6(ip) => ip.is_multicast() && ip.octets()[1] & 0xf > 1,
    };
    // Of an interface by its number nothing is known here: --outbound-if is about that.
    let everywhere = SocketAddr::new(group.ip(), group.port()) == group;
    if !wide || !everywhere || group.port() == 0 {
        return Err(ValueError::Expected(expected));
    }
    if MDNS.contains(&group) {
        return Err(ValueError::Refused("that is --mdns, which makes true what is announced"));
    }
    Ok(vec![group])
}
