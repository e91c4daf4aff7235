//! What containers have asked the DNS forwarder: `dns-log`.

use serde_json::{Value, json};

use super::super::instance::Instance;
use super::{Command, Context, Reply, to_value};
use crate::clock::since_epoch;
use crate::control::{DnsLog, Lookup, Refusal, Request, Streaming};
use crate::engine::{self, Engine, Instant, PortId};

pub(super) const COMMANDS: &[Command] = &[Command { name: "dns-log", run: dns_log }];

/// How far a client is that reads what is asked as it is answered. What it is too slow for is
/// forgotten by the engine, and it sees that numbers are missing.
#[derive(Debug)]
pub(in crate::io::control) struct Following {
    whose: Whose,
    /// The number of the last lookup that it was told of.
    last: u64,
}

/// Whose questions.
#[derive(Debug, Clone, Copy)]
enum Whose {
    All,
    /// Of the container at this port, if it has one.
    One(Option<PortId>),
}

fn dns_log(context: &mut Context<'_>, request: &Request) -> Result<Reply, Refusal> {
    let DnsLog { container, follow } = request.arguments()?;
    let whose = match &container {
        Some(name) => Whose::One(context.instance.find(Some(name))?.port),
        None => Whose::All,
    };
    let mut following = Following { whose, last: 0 };
    if follow {
        context.check_stream()?;
        context.session.lookups = Some(following);
        return Ok(Reply::Stream(to_value(&Streaming { streaming: true }), Vec::new()));
    }
    let (engine, instance, now) = (&*context.engine, &*context.instance, context.now);
    let lookups = std::iter::from_fn(|| Some(to_value(&following.next(engine, instance, now)?)));
    Ok(Reply::Value(json!({"lookups": Value::Array(lookups.collect())})))
}

impl Following {
    /// The next lookup that it was not told of.
    pub(in crate::io::control) fn next(
        &mut self,
        engine: &Engine,
        instance: &Instance,
        now: Instant,
    ) -> Option<Lookup> {
        let (whose, last) = (self.whose, &mut self.last);
        let is_meant = |lookup: &&engine::Lookup| match whose {
            Whose::All => true,
            Whose::One(port) => port == Some(lookup.port),
        };
        // Those of others are not looked at twice.
        let mut lookups = engine.lookups(*last).inspect(|lookup| *last = lookup.number);
        let lookup = lookups.find(is_meant)?;
        let ago = std::time::Duration::from_micros((now - lookup.answered).total_micros());
        let time = since_epoch().saturating_sub(ago).as_millis();
        let container = instance.at(lookup.port).map(|member| member.facts.name.clone());
        Some(Lookup {
            time_ms: u64::try_from(time).unwrap_or(u64::MAX),
            container: container.unwrap_or_default(),
            number: lookup.serial,
            name: lookup.name.to_string(),
            kind: lookup.kind().into_owned(),
            result: lookup.result().into_owned(),
            from: lookup.source.to_string(),
            answers: lookup.answers,
            address: lookup.address,
            took_ms: lookup.took.total_millis(),
        })
    }

    /// Whether there will be no more: the container is gone.
    pub(in crate::io::control) fn is_over(&self, instance: &Instance) -> bool {
        matches!(self.whose, Whose::One(Some(port)) if instance.at(port).is_err())
    }
}
