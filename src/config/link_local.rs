//! Addresses that are good on one link alone, besides those of a container's lease: RFC 3927, RFC 4291.
//!
//! They are asked for one by one (`--link-local-ip`), belong to the container like its others, and
//! are routed nowhere.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Addresses of a container that are good on one link alone, one of each family.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LinkLocal {
    /// Of 169.254.0.0/16, RFC 3927.
    pub v4: Option<Ipv4Addr>,
    /// Of fe80::/10, RFC 4291; the one that the kernel makes of the hardware address is not meant.
    pub v6: Option<Ipv6Addr>,
}

/// An address that is not a link's alone, or one too many.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs)] // the messages say it
pub enum LinkLocalError {
    #[error("expected an address of 169.254.0.0/16 or fe80::/10")]
    Other,
    #[error("one address of each family is the most")]
    Two,
}

impl LinkLocal {
    /// These addresses.
    ///
    /// # Errors
    /// As [`LinkLocal::add`].
    pub fn of(addresses: &[IpAddr]) -> Result<Self, LinkLocalError> {
        let mut all = Self::default();
        addresses.iter().try_for_each(|address| all.add(*address)).map(|()| all)
    }

    /// Adds an address.
    ///
    /// # Errors
    /// One that is none of a link's own, or a second one of its family.
    pub fn add(&mut self, address: IpAddr) -> Result<(), LinkLocalError> {
        let second = match address {
            IpAddr::V4(ip)
                if ip.is_link_local() && !matches!(ip.octets(), [.., 0, 0] | [.., 255, 255]) =>
            {
                self.v4.replace(ip).is_some()
            }
            IpAddr::V6(ip) if ip.is_unicast_link_local() => self.v6.replace(ip).is_some(),
            _ => return Err(LinkLocalError::Other),
        };
        if second { Err(LinkLocalError::Two) } else { Ok(()) }
    }

    /// All of them.
    #[must_use]
    pub fn all(self) -> Vec<IpAddr> {
        let mut all = Vec::new();
        all.extend(self.v4.map(IpAddr::V4));
        all.extend(self.v6.map(IpAddr::V6));
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // E9
    #[test]
    fn one_of_each_family_and_no_other() {
        let of = |texts: &[&str]| {
            let addresses: Vec<IpAddr> = texts.iter().map(|text| text.parse().unwrap()).collect();
            LinkLocal::of(&addresses)
        };
        let both = of(&["fe80::1:5", "169.254.1.5"]).unwrap();
        assert_eq!(
            both.all().iter().map(|ip| ip.to_string()).collect::<Vec<_>>(),
            ["169.254.1.5", "fe80::1:5"]
        );
        for other in
            ["192.0.2.1", "169.254.0.0", "169.254.255.255", "fd00::1", "::ffff:169.254.1.5"]
        {
            assert_eq!(of(&[other]), Err(LinkLocalError::Other), "{other}");
        }
        assert_eq!(of(&["fe80::1", "fe80::2"]), Err(LinkLocalError::Two));
    }
}
