//! Named networks: what they are, where they are kept, and who has which address.
//!
//! - [`definition`]: what a network is, and what `network create` may ask for.
//! - [`prefix`], [`subnets`]: address prefixes, and the choice of a free one.
//! - [`ipam`]: leases of addresses.
//! - [`store`]: the files. The only part that touches the system; all others are pure.
//! - [`when`]: points in time.

pub mod definition;
pub mod ipam;
pub mod prefix;
pub mod store;
pub mod subnets;
pub mod when;
