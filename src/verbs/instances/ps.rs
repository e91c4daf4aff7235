//! `rnsnet ps`: the containers there are.

use super::super::{Action, Typed, Verb};
use super::human::duration;
use super::{FORMAT, format, number, print_line, print_list, short, text};
use crate::cli::UsageError;
use crate::cli::options::{Kind, OptionSpec, VERB};
use crate::cli::values::ValueError;
use crate::client;
use crate::clock::since_epoch;
use crate::control::{Container, Info, PortMapping};
use crate::error::Error;
use crate::output::{Column, Format, Value};
use crate::sorted::SortedMap;

pub(in crate::verbs) const PS: Verb = Verb {
    name: "ps",
    aliases: &[],
    about: "List the containers that are attached",
    more: "",
    arguments: &[],
    options: &[
        OptionSpec {
            long: "--filter",
            short: Some('f'),
            kind: Kind::List("KEY=VALUE"),
            help: "Only those whose name or network contains VALUE, or whose id begins with it: \
                   name=, network=, id=. May be repeated; every one has to fit.",
            ..VERB
        },
        FORMAT,
        OptionSpec { long: "--no-trunc", help: "Ids with all their digits.", ..VERB },
        OptionSpec { long: "--quiet", short: Some('q'), help: "Ids only.", ..VERB },
    ],
    examples: &[
        ("rnsnet ps", "Everything in a table."),
        ("rnsnet ps -q --no-trunc -f name=web", "The ids of those called something with web."),
        ("rnsnet ps --format {{.Name}}", "The names, a line for each."),
    ],
    parse,
};

const COLUMNS: [Column; 10] = [
    ("ID", "CONTAINER ID"),
    ("Name", "NAME"),
    ("Pid", "PID"),
    ("Networks", "NETWORKS"),
    ("Addresses", "ADDRESSES"),
    ("Ports", "PORTS"),
    ("Status", "STATUS"),
    ("Names", "NAMES"),
    ("Process", "PROCESS"),
    ("CalledAs", "CALLED AS"),
];
/// How many of the columns the table has.
const SHOWN: usize = 7;

#[derive(Debug)]
struct Ps {
    filters: Vec<(Key, String)>,
    format: Format,
    whole_ids: bool,
    quiet: bool,
}

#[derive(Debug, Clone, Copy)]
enum Key {
    Name,
    Network,
    Id,
}

fn parse(typed: &Typed) -> Result<Box<dyn Action>, UsageError> {
    let filter = |text: &str| {
        let expected = ValueError::Expected("name=VALUE, network=VALUE or id=VALUE");
        let (key, value) = text.split_once('=').ok_or_else(|| expected.clone())?;
        match key {
            "name" => Ok((Key::Name, value.to_owned())),
            "network" => Ok((Key::Network, value.to_owned())),
            "id" => Ok((Key::Id, value.to_owned())),
            _ => Err(expected),
        }
    };
    let quiet = typed.switch("--quiet");
    if quiet && typed.value("--format").is_some() {
        return Err(UsageError::Conflict { option: "--quiet", other: "--format" });
    }
    Ok(Box::new(Ps {
        filters: typed.read_all("--filter", filter)?,
        format: format(typed)?,
        whole_ids: typed.switch("--no-trunc"),
        quiet,
    }))
}

impl Action for Ps {
    fn run(self: Box<Self>) -> Result<u8, Error> {
        let instances = client::instances()?;
        let infos = instances.iter().map(|instance| &instance.info);
        let all = infos.flat_map(|info| info.containers.iter().map(move |ctr| (info, ctr)));
        // A container may be on several networks, the first of which comes first.
        let mut by_id: SortedMap<&str, Vec<(&Info, &Container)>> = SortedMap::new();
        for (info, container) in all {
            by_id.or_default(&container.id).push((info, container));
        }
        let mut found: Vec<_> = by_id.into_values().collect();
        found.retain(|places| places.iter().any(|(info, ctr)| self.is_meant(info, ctr)));
        for places in &mut found {
            places.sort_by_key(|(_, container)| container.attached);
        }
        // The newest first, as Docker lists them.
        let key = |places: &[(&Info, &Container)]| {
            let first = places.first().map(|(_, container)| *container);
            first.map(|container| (std::cmp::Reverse(container.attached), container.name.clone()))
        };
        found.sort_by_key(|places| key(places));
        if self.quiet {
            for (_, container) in found.iter().filter_map(|places| places.first()) {
                print_line(&self.id(container))?;
            }
            return Ok(0);
        }
        let now = since_epoch().as_secs();
        let rows: Vec<Value> = found.iter().filter_map(|places| self.row(places, now)).collect();
        print_list(&self.format, &rows, &COLUMNS, SHOWN)?;
        Ok(0)
    }
}

impl Ps {
    fn is_meant(&self, info: &Info, container: &Container) -> bool {
        self.filters.iter().all(|(key, value)| match key {
            Key::Name => container.name.contains(value),
            Key::Network => info.network.contains(value),
            Key::Id => container.id.starts_with(value),
        })
    }

    fn id(&self, container: &Container) -> String {
        if self.whole_ids { container.id.clone() } else { short(&container.id) }
    }

    fn row(&self, places: &[(&Info, &Container)], now: u64) -> Option<Value> {
        let (info, container) = *places.first()?;
        let interfaces = places.iter().filter_map(|(_, container)| container.interface.as_ref());
        let addresses: Vec<&str> = interfaces
            .flat_map(|interface| std::iter::once(&interface.ipv4).chain(&interface.ipv6))
            .map(String::as_str)
            .collect();
        let network = |(info, container): &(&Info, &Container)| match container.interface {
            Some(_) => info.network.clone(),
            None => "none".to_owned(),
        };
        let networks: Vec<String> = places.iter().map(network).collect();
        let published: Vec<PortMapping> =
            places.iter().flat_map(|(_, container)| container.ports.clone()).collect();
        Some(Value::Struct(vec![
            ("ID", text(self.id(container))),
            ("Name", text(&container.name)),
            ("Pid", text(container.pid.map(|pid| pid.to_string()).unwrap_or_default())),
            ("Networks", text(networks.join(", "))),
            ("Addresses", text(addresses.join(", "))),
            ("Ports", text(ports(&published))),
            ("Status", text(format!("Up {}", duration(now.saturating_sub(container.attached))))),
            ("Names", text(&container.name)),
            ("Process", number(info.process.into())),
            ("CalledAs", text(&info.called_as)),
        ]))
    }
}

/// `0.0.0.0:8080->80/tcp, [::]:8080->80/tcp`; ports in a row are drawn together.
fn ports(ports: &[PortMapping]) -> String {
    let mut runs: Vec<(&PortMapping, u16)> = Vec::new();
    let mut sorted: Vec<&PortMapping> = ports.iter().collect();
    sorted.sort_by_key(|p| {
        (p.protocol.as_str(), p.host_address, &p.host_zone, p.guest_port, p.host_port)
    });
    for port in sorted {
        match runs.last_mut() {
            Some((first, more))
                if first.protocol == port.protocol
                    && first.host_address == port.host_address
                    && first.host_zone == port.host_zone
                    && first.guest_port.checked_add(*more + 1) == Some(port.guest_port)
                    && first.host_port.checked_add(*more + 1) == Some(port.host_port) =>
            {
                *more += 1;
            }
            _ => runs.push((port, 0)),
        }
    }
    runs.sort_by_key(|(port, _)| (port.guest_port, &port.protocol, port.host_address));
    let run = |(port, more): &(&PortMapping, u16)| {
        let end = |first: u16| if *more > 0 { format!("-{}", first + more) } else { String::new() };
        format!(
            "{}{}->{}{}/{}",
            port.host_end(),
            end(port.host_port),
            port.guest_port,
            end(port.guest_port),
            port.protocol
        )
    };
    runs.iter().map(run).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn port(address: &str, host_port: u16, guest_port: u16) -> PortMapping {
        PortMapping {
            protocol: "tcp".to_owned(),
            guest_port,
            host_address: address.parse().unwrap(),
            host_zone: None,
            host_port,
        }
    }

    #[test]
    fn ids_alone_have_no_format() {
        let words = ["ps", "-q", "--format", "json"].map(Into::into);
        let error = crate::verbs::parse(&crate::cli::Environment::default(), words.into_iter());
        let UsageError::Verb { source, .. } = error.unwrap_err() else { panic!() };
        assert_eq!(source.to_string(), "--quiet cannot be combined with --format");
    }

    #[test]
    fn ports_are_shown_as_docker_shows_them() {
        let both = [port("::", 80, 80), port("0.0.0.0", 80, 80)];
        assert_eq!(ports(&both), "0.0.0.0:80->80/tcp, [::]:80->80/tcp");
        let range: Vec<_> = (0..3).map(|step| port("0.0.0.0", 8000 + step, 90 + step)).collect();
        assert_eq!(ports(&range), "0.0.0.0:8000-8002->90-92/tcp");
        assert_eq!(ports(&[]), "");
    }
}
