//! Tests of the whole engine in virtual time: no kernel, no thread, no sleep.
//!
//! [`net::Net`] is an engine with a host and a guest around it; [`packets`] makes and reads what
//! crosses the link. The other modules are the cases by topic.

mod guest;
mod net;
pub(super) mod packets;

mod batches;
mod between;
mod dhcp;
mod discovery;
mod dns;
mod dns_here;
mod dns_local;
mod dns_log;
mod dns_stream;
mod egress;
mod goodput;
mod hostile;
mod icmp;
mod inbound;
mod limits;
mod link;
mod machines;
mod overlay;
mod ports;
mod rate;
mod rings;
mod streams;
mod switch;
mod tcp;
mod tcp_end;
mod udp;
