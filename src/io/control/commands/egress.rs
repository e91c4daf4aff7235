//! What a container may reach outside: `egress`.

use super::super::instance::Member;
use super::{Command, Context, Reply, value};
use crate::config::{EgressError, EgressRule};
use crate::control::{Denied, EgressChange, EgressHits, EgressPolicy, Kind, Refusal, Request};
use crate::engine::{Denial, PortId};

pub(super) const COMMANDS: &[Command] = &[Command { name: "egress", run: egress }];

fn egress(context: &mut Context<'_>, request: &Request) -> Result<Reply, Refusal> {
    let EgressChange { container, change } = request.arguments()?;
    let member = context.instance.find(container.as_deref())?;
    let none = || Refusal::new(Kind::Failed, "the container has no interface");
    let port = member.port.ok_or_else(none)?;
    if let Some(change) = change {
        let [mut egress, first] = member.egress.clone();
        match change.as_str() {
            "reset" => egress = first,
            text => {
                let refuse = |error| refuse(text, &error);
                let rule: EgressRule = text.parse().map_err(refuse)?;
                if rule.allow && egress.rules().iter().all(|rule| rule.allow) {
                    let useless = "nothing is denied, so a rule that allows would change nothing";
                    return Err(Refusal::new(Kind::Failed, useless));
                }
                egress.add(rule).map_err(refuse)?;
            }
        }
        context.instance.note_egress(port, egress.clone());
        context.published.note_egress(&egress);
        context.engine.set_egress(port, egress, context.now);
    }
    let member = context.instance.at(port)?;
    Ok(value(&policy(context, member, port)))
}

fn refuse(text: &str, error: &EgressError) -> Refusal {
    let kind = match error {
        EgressError::TooMany => Kind::Failed,
        _ => Kind::Arguments,
    };
    Refusal::new(kind, format!("invalid rule {text:?}: {error}"))
}

fn policy(context: &Context<'_>, member: &Member, port: PortId) -> EgressPolicy {
    let [egress, _] = &member.egress;
    let rules = egress.rules().iter().zip(context.engine.egress_hits(port));
    let denied = context.engine.denied(port).map(|Denial { attempt, times, last }| Denied {
        attempt: attempt.to_string(),
        times: *times,
        age_ms: (context.now - *last).total_millis(),
    });
    EgressPolicy {
        rules: rules
            .map(|(rule, hits)| EgressHits { rule: rule.to_string(), hits: *hits })
            .collect(),
        denied: denied.collect(),
    }
}
