//! Named networks: what they are, where they are kept, and who has which address.
//!
//! - [`definition`]: what a network is, and what `network create` may ask for.
//! - [`subnets`]: the choice of a free one.
//! - [`ipam`]: leases of addresses; [`builtin`]: the networks that nobody made.
//! - [`options`], [`inspect`]: the words of Docker and Podman for all that.
//! - [`overlay`]: networks that span hosts.
//! - [`store`]: the files; [`manage`]: what verbs do. These two touch the system, the others are pure.
//! - [`when`]: points in time.

pub use crate::config::prefix;

pub mod builtin;
pub mod definition;
pub mod inspect;
pub mod ipam;
pub mod leases;
pub mod manage;
pub mod options;
pub mod overlay;
pub mod store;
pub mod subnets;
pub mod when;
