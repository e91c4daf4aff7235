//! The shell: the event loop and the host's side of everything.
//!
//! It owns descriptors and moves bytes; what any of them mean is for [`crate::engine`] to decide.

pub mod activation;
pub mod api;
pub mod clients;
pub mod control;
mod event_loop;
mod host;
pub mod listen;
pub mod logger;
pub mod notify;
pub mod mirror;
pub mod outbound;
pub mod overlay;
mod pcap;
mod ports;
pub mod process;
mod published;
pub mod relay;
mod resolv;
mod signals;
mod tap;
mod watch;

pub use event_loop::{Ended, LoopError, Network, serve};
pub use pcap::PcapError;
pub use ports::{AttachPortError, Container};
pub use resolv::{HostResolvers, ResolverError, directories as resolv_conf_directories};
pub use signals::Signals;
