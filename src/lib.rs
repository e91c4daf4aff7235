//! rnsnet connects a container's network namespace to the host without root: a TAP device in the
//! namespace, a user-space stack in front of ordinary host sockets.
//!
//! # The map
//! - [`cli`]: what was typed; ends in [`config`], validated types without strings.
//! - [`verbs`]: `rnsnet ps` and the like, each in a file; [`output`]: what they print with.
//! - [`session`]: one run of the program, step by step; [`error`]: how it ends when it fails.
//!   [`survivor`]: what a killed one leaves behind.
//! - [`doctor`]: what the machine lacks.
//! - [`attach`] and [`run`]: the container's namespaces and its TAP; [`pasta`]: what of the host's
//!   addresses and routes a container gets in the place of pasta.
//! - [`engine`]: PURE. Everything that is decided: what a frame means, flows, DNS, addresses.
//! - [`io`]: the shell around it. The event loop, host sockets, the TAP, signals, files.
//! - [`control`]: what is said on control sockets, which are where [`runtime_dir`] says, each a
//!   [`socket_file`]; [`client`] is the side of the verbs that ask.
//! - [`json`]: how JSON is read; [`sorted`]: small maps.
//! - [`network`]: named networks, which several containers share; [`user`]: whose they are.
//! - [`sys`]: system calls, and all `unsafe` code.
//!
//! # One packet's way
//! TAP -> [`io`]'s event loop -> [`engine::Engine::handle_frame`] -> the checked parse
//! ([`engine::frame`]) -> the gateway -> a flow -> smoltcp's ring -> a request to relay ->
//! [`engine::Engine::relay`] with the host's socket lent to it -> the kernel. The whole walk is in
//! `docs/packet-path.md`.

/// `Debug` of an error is its message. The standard library keeps `Debug` of whatever becomes a
/// `dyn Error`, though nobody prints it, and a derived one of an enum with texts in it is large.
macro_rules! debug_as_display {
    ($error:ty) => {
        impl std::fmt::Debug for $error {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                std::fmt::Display::fmt(self, f)
            }
        }
    };
}

pub mod attach;
pub mod cli;
pub mod client;
mod clock;
pub mod config;
pub mod doctor;
pub mod control;
pub mod engine;
pub mod error;
pub mod io;
pub mod json;
pub mod network;
pub mod output;
pub mod pasta;
pub mod run;
pub mod runtime_dir;
pub mod session;
pub mod socket_file;
pub mod sorted;
pub mod survivor;
pub mod sys;
#[cfg(test)]
mod testing;
pub mod user;
pub mod verbs;
