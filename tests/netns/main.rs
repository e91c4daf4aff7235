//! Black-box tests of the `rnsnet` program, written from its documents.
//!
//! Every test builds its own small internet from network namespaces (see [`lab`]), needs no root and
//! may run beside any other. Nothing is ever sent from the machine's own namespace.
//! `docs/testing.md` tells how to run one test and what it leaves behind when it fails.
//!
//! The row ids in comments (`B5`, `C10`, ...) are those of the feature table.

mod eventually;
mod exec;
mod faults;
mod lab;
mod rnsnet;

mod attach;
mod bounds;
mod control;
mod dhcp;
mod discovery;
mod completion;
mod dns;
mod doctor;
mod egress;
mod dns_servers;
mod errors;
mod fanout;
mod icmp;
mod isolation;
mod kernels;
mod left;
mod lifecycle;
mod loopback;
mod manager;
mod names;
mod networks;
mod observe;
mod oracle;
mod overlay;
mod pasta;
mod policy;
mod ports;
mod publish;
mod rate;
mod readonly;
mod replicas;
mod run;
mod sandbox;
mod survive;
mod switch;
mod syscalls;
mod tcp;
mod trace;
mod udp;
mod verbs;
mod watch;
mod world;
