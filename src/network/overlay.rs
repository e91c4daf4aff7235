//! Networks that span hosts: what `network create -d overlay` is told by `--opt`, and what becomes of
//! it with the file that says which host has which part.
//!
//! PURE but for [`Overlay::read`], which reads that file.

use std::error::Error as _;
use std::io;
use std::net::IpAddr;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::definition::Definition;
use super::options::OptionError;
use super::prefix::Prefix;
use crate::config::overlay::{HostsError, Span, is_usable, parse};
use crate::config::{Mtu, OverlayHost};
use crate::sys::fd::read_file;

/// What a network's definition says of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Overlay {
    /// The number of the network among all that its hosts have.
    pub vni: u32,
    /// The address of this host, by which the others reach it.
    pub local: IpAddr,
    /// The UDP port, the same on all hosts.
    pub port: u16,
    /// The file that says which host has which part, by its absolute path.
    pub hosts: String,
}

/// What was given of it until now.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Wanted {
    vni: Option<u32>,
    local: Option<IpAddr>,
    port: Option<u16>,
    hosts: Option<String>,
}

/// Why a network cannot span its hosts.
#[derive(thiserror::Error)]
#[allow(missing_docs)] // the messages say it
pub enum OverlayError {
    #[error("cannot read {file}")]
    Read { file: String, source: io::Error },
    #[error("{file} is not text")]
    Text { file: String },
    #[error("{file}")]
    Hosts { file: String, source: HostsError },
    #[error("{file}: the line of {local}, this host, has no part of {subnet}")]
    NoPart { file: String, local: IpAddr, subnet: Prefix },
    #[error(
        "the interface of {local} takes {mtu} bytes, of which {left} are left for a container's: \
         at least {} are needed",
        Mtu::MIN
    )]
    Mtu { local: IpAddr, mtu: u32, left: u32 },
    #[error(
        "the network {name} has UDP port {port} of {local}: give another by --opt port, on every host"
    )]
    PortTaken { name: String, local: IpAddr, port: u16 },
}

debug_as_display!(OverlayError);

impl OverlayError {
    /// All of it in one line.
    #[must_use]
    pub fn told(&self) -> String {
        match self.source() {
            Some(source) => format!("{self}: {source}"),
            None => self.to_string(),
        }
    }
}

/// Whether an option is of networks that span hosts alone.
#[must_use]
pub fn is_option(key: &str) -> bool {
    matches!(key, "vni" | "local" | "port" | "store" | "encrypted")
}

impl Wanted {
    /// Applies one option; false if it is none of these.
    ///
    /// # Errors
    /// A value that does not exist or cannot be had.
    pub fn apply(&mut self, key: &str, value: &str) -> Result<bool, OptionError> {
        let expected = |what: &str| OptionError::Expected(what.to_owned());
        match key {
            "vni" => {
                let vni = value.parse().ok().filter(|vni| *vni < 1 << 24);
                self.vni = Some(vni.ok_or_else(|| expected("a number from 0 to 16777215"))?);
            }
            "local" => {
                let local = value.parse().ok().filter(|local| is_usable(*local));
                self.local = Some(local.ok_or_else(|| expected("an address of this host"))?);
            }
            "port" => {
                let port = value.parse().ok().filter(|port| *port > 0);
                self.port = Some(port.ok_or_else(|| expected("a number from 1 to 65535"))?);
            }
            "store" => match value.split_once(':') {
                Some(("file", path)) if Path::new(path).is_absolute() => {
                    self.hosts = Some(path.to_owned());
                }
                Some(("file", _)) => return Err(expected("file: and an absolute path")),
                _ => {
                    return Err(OptionError::Refused(
                        "a file is what there is: store=file:/PATH, the same on every host",
                    ));
                }
            },
            "mode" if value == "l2" => {}
            "mode" => {
                return Err(OptionError::Refused(
                    "the hosts share one subnet, of which each has a part: the mode is l2",
                ));
            }
            "encrypted" => {
                return Err(OptionError::Refused(
                    "nothing is encrypted here: give the address of a WireGuard interface as local",
                ));
            }
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// What was asked for, if all of it was.
    ///
    /// # Errors
    /// What is missing.
    pub fn complete(&self, has_subnet: bool) -> Result<Overlay, OptionError> {
        let missing: Vec<&str> = [
            (has_subnet, "--subnet PREFIX"),
            (self.vni.is_some(), "--opt vni=NUMBER"),
            (self.local.is_some(), "--opt local=ADDRESS (of this host)"),
            (self.hosts.is_some(), "--opt store=file:PATH (which host has which part)"),
        ]
        .iter()
        .filter_map(|(given, what)| (!given).then_some(*what))
        .collect();
        match (has_subnet, self.vni, self.local, &self.hosts) {
            (true, Some(vni), Some(local), Some(hosts)) => {
                let (port, hosts) = (self.port.unwrap_or(PORT), hosts.clone());
                Ok(Overlay { vni, local, port, hosts })
            }
            _ => Err(OptionError::Missing(missing.join(", "))),
        }
    }
}

impl Wanted {
    /// The same, where what is missing was told before.
    #[must_use]
    pub fn complete_all(&self) -> Option<Overlay> {
        self.complete(true).ok()
    }
}

impl Overlay {
    /// Reads the file for a network.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn read(&self, definition: &Definition) -> Result<Vec<OverlayHost>, OverlayError> {
        let bytes = read_file(self.hosts.as_ref());
        let bytes = bytes.map_err(|source| OverlayError::Read { file: self.hosts.clone(), source });
        self.parse(bytes?, &self.span(definition))
    }

    /// Reads what is in the file.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(&self, bytes: Vec<u8>, span: &Span) -> Result<Vec<OverlayHost>, OverlayError> {
        let file = || self.hosts.clone();
        let text = String::from_utf8(bytes).map_err(|_| OverlayError::Text { file: file() })?;
        parse(&text, span).map_err(|source| OverlayError::Hosts { file: file(), source })
    }

    /// What the file is held against.
    #[must_use]
    pub fn span(&self, definition: &Definition) -> Span {
        let pools = || std::iter::once(&definition.v4).chain(&definition.v6);
        Span {
            subnets: definition.subnets().collect(),
            gateways: pools().map(|pool| pool.gateway).collect(),
            local: self.local,
            own: pools().filter_map(|pool| pool.ip_range).collect(),
        }
    }

    /// Has a new network give the addresses of this host's part, and have the MTU that is left of the
    /// interface's.
    ///
    /// # Errors
    /// A file in which this host has no part, or too small an MTU.
    pub fn settle(
        &self,
        definition: &mut Definition,
        mtu: Option<u32>,
    ) -> Result<(), OverlayError> {
        let hosts = self.read(definition)?;
        let own = hosts.into_iter().find(|host| host.address == self.local);
        let own = own.map_or_else(Vec::new, |host| host.parts);
        for pool in std::iter::once(&mut definition.v4).chain(&mut definition.v6) {
            let subnet = pool.subnet;
            let part = own.iter().find(|part| subnet.covers(part)).copied();
            let part = part.ok_or_else(|| {
                let (file, local) = (self.hosts.clone(), self.local);
                OverlayError::NoPart { file, local, subnet }
            })?;
            pool.ip_range.get_or_insert(part);
        }
        if let Some(mtu) = mtu {
            let local = self.local;
            let left = mtu.saturating_sub(if local.is_ipv6() { 70 } else { 50 }).min(LARGEST_MTU);
            let fits = u16::try_from(left).ok().and_then(Mtu::new);
            definition.mtu = fits.ok_or(OverlayError::Mtu { local, mtu, left })?.get();
        }
        Ok(())
    }
}

/// The port of VXLAN (RFC 7348, section 5).
const PORT: u16 = 4789;

/// With all headers this is one datagram on an interface that takes any, as the loopback does.
const LARGEST_MTU: u32 = 65_000;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::network::definition::{Made, Plan, Taken};

    fn wanted(options: &[(&str, &str)]) -> Result<Wanted, String> {
        let mut wanted = Wanted::default();
        for (key, value) in options {
            assert!(wanted.apply(key, value).map_err(|error| error.to_string())?, "{key}");
        }
        Ok(wanted)
    }

    const ALL: [(&str, &str); 3] =
        [("vni", "42"), ("local", "192.0.2.1"), ("store", "file:/etc/fleet")];

    // J1
    #[test]
    fn what_is_missing_is_named() {
        let full = wanted(&ALL).unwrap().complete(true).unwrap();
        assert_eq!((full.vni, full.port, full.hosts.as_str()), (42, 4789, "/etc/fleet"));
        let error = Wanted::default().complete(false).unwrap_err().to_string();
        assert_eq!(
            error,
            "it needs --subnet PREFIX, --opt vni=NUMBER, --opt local=ADDRESS (of this host), \
             --opt store=file:PATH (which host has which part)"
        );
        let error = wanted(&ALL[..2]).unwrap().complete(true).unwrap_err().to_string();
        assert_eq!(error, "it needs --opt store=file:PATH (which host has which part)");
    }

    // J1 J3 J4 J8
    #[test]
    fn what_cannot_be_had_is_refused_with_the_reason() {
        for (key, value, message) in [
            ("vni", "16777216", "expected a number from 0 to 16777215"),
            ("port", "0", "expected a number from 1 to 65535"),
            ("local", "fe80::1", "expected an address of this host"),
            ("store", "etcd://192.0.2.7", "a file is what there is: store=file:/PATH"),
            ("store", "file:fleet", "expected file: and an absolute path"),
            ("mode", "l3", "the hosts share one subnet, of which each has a part: the mode is l2"),
            ("encrypted", "", "nothing is encrypted here: give the address of a WireGuard"),
        ] {
            let error = wanted(&[(key, value)]).unwrap_err();
            assert!(error.starts_with(message), "{key}={value}: {error}");
        }
        assert!(wanted(&[("mode", "l2")]).is_ok());
        assert_eq!(Wanted::default().apply("mtu", "1400"), Ok(false));
    }

    // J2 J7
    #[test]
    fn a_network_gives_the_addresses_of_its_hosts_part() {
        let scratch = crate::testing::scratch("overlay");
        let file = scratch.join("fleet");
        let overlay = |local: &str| Overlay {
            hosts: file.display().to_string(),
            local: local.parse().unwrap(),
            ..wanted(&ALL).unwrap().complete(true).unwrap()
        };
        let definition = |subnets: &[&str], ranges: &[&str]| {
            let read = |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect();
            let plan = Plan {
                name: "fleet".into(),
                subnets: read(subnets),
                ip_ranges: read(ranges),
                ..Plan::default()
            };
            let made = Made { id: [1; 32], global_id: 1, created: String::new() };
            plan.make(&Taken::default(), &made).unwrap()
        };
        let settled = |subnets: &[&str], ranges: &[&str], mtu| {
            let mut definition = definition(subnets, ranges);
            overlay("192.0.2.1")
                .settle(&mut definition, mtu)
                .map_err(|error| error.told().replace(&scratch.display().to_string(), ""))?;
            let range = definition.v4.ip_range.unwrap().to_string();
            Ok::<_, String>((range, definition.mtu))
        };
        let net = ["10.42.0.0/24"];
        let error = settled(&net, &[], None).unwrap_err();
        assert!(error.starts_with("cannot read /fleet: No such file"), "{error}");
        std::fs::write(&file, "192.0.2.1 10.42.0.64/26\n192.0.2.2 10.42.0.128/26\n").unwrap();
        assert_eq!(settled(&net, &[], Some(1500)), Ok(("10.42.0.64/26".into(), 1450)));
        assert_eq!(settled(&net, &["10.42.0.96/28"], None).unwrap().0, "10.42.0.96/28");
        assert_eq!(settled(&net, &[], Some(65_536)).unwrap().1, 65_000);
        let error = settled(&net, &["10.42.0.128/28"], None).unwrap_err();
        assert!(error.contains("10.42.0.128/28, which addresses are given from here"), "{error}");
        let error = settled(&net, &[], Some(1300)).unwrap_err();
        assert!(error.contains("takes 1300 bytes, of which 1250 are left"), "{error}");
        let error = settled(&["10.42.0.0/24", "fd42::/64"], &[], None).unwrap_err();
        assert!(error.ends_with("192.0.2.1, this host, has no part of fd42::/64"), "{error}");
        std::fs::write(&file, "192.0.2.1 10.42.0.0/26\n").unwrap();
        let error = settled(&net, &[], None).unwrap_err();
        assert_eq!(
            error,
            "/fleet: line 1: 10.42.0.0/26 holds 10.42.0.1, the gateway on every host"
        );
        std::fs::remove_dir_all(scratch).unwrap();
    }
}
