//! The system calls that need `unsafe`, each behind a safe function.
//!
//! The unsafe policy: this folder is the only place where `unsafe` compiles. A block holds one
//! system call or one pointer conversion, has a `// SAFETY:` line that says why it is sound, and
//! never leaks a raw descriptor or pointer: descriptors leave as `OwnedFd` and come in as
//! `BorrowedFd`. What nix offers safely is used from nix. Nothing here knows frames, flows or
//! policies; the namespaces(7), netlink(7), tun.c and capabilities(7) documents are the reference.
#![allow(unsafe_code)]

pub mod alloc;
pub mod datagram;
pub mod fd;
pub mod host_links;
pub mod inherited;
pub mod interfaces;
pub mod isolate;
pub mod landlock;
pub mod link;
pub mod maker;
pub mod netns;
pub mod pipe;
pub mod process;
pub mod root;
pub mod seccomp;
pub mod sock;
pub mod tun;
pub mod unix;
