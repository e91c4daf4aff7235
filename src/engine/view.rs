//! The engine as people look at it from outside: its conversations, for `rnsnet flows`.

use std::net::SocketAddr;

use super::{Engine, Instant, PortId};

/// One conversation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FlowView {
    /// The switch port of its container.
    pub port: PortId,
    /// `tcp`, `udp` or `icmp`.
    pub protocol: &'static str,
    /// Whether the container has opened it.
    pub outbound: bool,
    /// The container's end.
    pub guest: SocketAddr,
    /// The other end as the container sees it.
    pub host: SocketAddr,
    /// The name by which the container has found that address.
    pub host_name: Option<String>,
    /// The state of a TCP connection (RFC 9293, section 3.3.2); `ACTIVE` once both sides of another
    /// conversation have spoken, `ONE-WAY` before.
    pub state: &'static str,
    /// Payload from the container, in bytes.
    pub to_host_bytes: u64,
    /// Payload to the container, in bytes.
    pub to_guest_bytes: u64,
    /// When it was opened.
    pub opened: Instant,
}

impl Engine {
    /// Every conversation there is, in the order of their ends.
    #[must_use]
    pub fn flows(&self) -> Vec<FlowView> {
        let tables = &self.tables;
        let tcp = tables.tcp.flows.iter().map(|(_, flow)| flow.view());
        let udp = tables.udp.flows.iter().map(|(_, flow)| flow.view());
        let echo = tables.echo.flows.iter().map(|(_, flow)| flow.view());
        let mut flows: Vec<FlowView> = tcp.chain(udp).chain(echo).collect();
        for flow in &mut flows {
            flow.host_name = self.fx.seen.name(flow.host.ip()).map(str::to_owned);
        }
        flows.sort_by_key(|flow| (flow.port, flow.protocol, flow.guest, flow.host));
        flows
    }

    /// How many conversations there are.
    #[must_use]
    pub fn count_flows(&self) -> u64 {
        let tables = &self.tables;
        (tables.tcp.flows.len() + tables.udp.flows.len() + tables.echo.flows.len()) as u64
    }
}
