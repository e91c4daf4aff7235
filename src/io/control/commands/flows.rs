//! What goes through: `flows` and `stats`.

use serde_json::json;

use super::super::instance::Member;
use super::{Command, Context, Reply, value};
use crate::control::{Flow, Named, Refusal, Request, Stats};
use crate::engine::stats::DropReason;
use crate::sorted::SortedMap;

pub(super) const COMMANDS: &[Command] =
    &[Command { name: "flows", run: flows }, Command { name: "stats", run: stats }];

fn flows(context: &mut Context<'_>, request: &Request) -> Result<Reply, Refusal> {
    let Named { container } = request.arguments()?;
    let only = match &container {
        Some(name) => Some(context.instance.find(Some(name))?.port),
        None => None,
    };
    let now = context.now;
    let flows = context
        .engine
        .flows()
        .into_iter()
        .filter(|flow| only.is_none_or(|port| port == Some(flow.port)));
    let flows: Vec<Flow> = flows
        .map(|flow| Flow {
            protocol: flow.protocol.to_owned(),
            outbound: flow.outbound,
            guest: flow.guest.to_string(),
            host: flow.host.to_string(),
            host_name: flow.host_name,
            state: flow.state.to_owned(),
            tx_bytes: flow.to_host_bytes,
            rx_bytes: flow.to_guest_bytes,
            age_ms: (now - flow.opened).total_millis(),
            container: context
                .instance
                .containers
                .iter()
                .find(|member| member.port == Some(flow.port))
                .map(|member| member.facts.name.clone())
                .unwrap_or_default(),
        })
        .collect();
    Ok(value(&json!({ "flows": flows })))
}

fn stats(context: &mut Context<'_>, request: &Request) -> Result<Reply, Refusal> {
    let Named { container } = request.arguments()?;
    let members = match &container {
        Some(name) => std::slice::from_ref(context.instance.find(Some(name))?),
        None => &context.instance.containers[..],
    };
    let of = |member| stats_of(context.engine, member);
    let stats: Vec<Stats> = members.iter().map(of).collect();
    Ok(value(&json!({ "stats": stats })))
}

fn stats_of(engine: &crate::engine::Engine, member: &Member) -> Stats {
    let counters = engine.stats();
    // What crosses the interface is counted by port.
    let crossed = engine.ports().find(|(port, ..)| Some(*port) == member.port);
    let crossed = crossed.map(|(_, _, counters)| *counters).unwrap_or_default();
    let opened = [
        ("tcp_outbound", counters.tcp_outbound),
        ("tcp_inbound", counters.tcp_inbound),
        ("tcp_refused", counters.tcp_refused),
        ("tcp_reset", counters.tcp_reset),
        ("udp", counters.udp_opened),
        ("icmp", counters.echo_opened),
    ];
    let drops = DropReason::ALL.iter().map(|(reason, name)| (*name, counters.dropped(*reason)));
    let drops: SortedMap<String, u64> = drops
        .filter(|(_, count)| *count > 0)
        .map(|(name, count)| (name.to_owned(), count))
        .collect();
    Stats {
        name: member.facts.name.clone(),
        id: member.facts.id.clone(),
        rx_packets: crossed.tx_frames,
        rx_bytes: crossed.tx_bytes,
        tx_packets: crossed.rx_frames,
        tx_bytes: crossed.rx_bytes,
        flows: engine.count_flows(),
        opened: opened.into_iter().map(|(name, count)| (name.to_owned(), count)).collect(),
        dns: counters.dns_queries,
        dns_failed: counters.dns_failed,
        dropped: drops.values().sum(),
        drops,
        limits: counters.limits_met().map(|(name, count)| (name.to_owned(), count)).collect(),
        denied: counters.denied,
    }
}
