//! `ringway authorize`: whether a client may connect to a workload, as the data plane would decide it.

use ringway_control::policy::{Answer, DryRunAnswer, Inquiry, NoAnswer, ask};
use ringway_control::source;
use serde_json::{Value, json};

use super::{node, sources, tell};
use crate::cli::AuthorizeArguments;
use crate::exit::{Exit, Failure};
use crate::output::{self, Format};

/// Asks the policies of a configuration.
pub(crate) fn run(arguments: &AuthorizeArguments) -> Result<Exit, Failure> {
    let sources = sources(&arguments.source)?;
    let mesh = source::load(&sources, node(&arguments.source).as_deref())
        .map_err(|mistakes| Failure::configuration(&mistakes))?;
    tell(&mesh.warnings);
    let inquiry = Inquiry {
        client: arguments.from.clone(),
        source: arguments.source_ip,
        namespace: arguments.to.namespace.clone(),
        workload: arguments.to.name.clone(),
        port: arguments.port,
    };
    let answer = ask(&mesh, &inquiry).map_err(unanswered)?;
    match arguments.output {
        Format::Table => output::print(&as_text(&answer))?,
        Format::Json => output::json(&as_json(&answer))?,
    }
    Ok(if answer.allowed { Exit::Ok } else { Exit::Failed })
}

fn unanswered(why: NoAnswer) -> Failure {
    let message = why.to_string();
    match why {
        NoAnswer::NoWorkload { help, .. } => {
            let next =
                help.unwrap_or_else(|| "`--to` is the namespace and name of a workload".to_owned());
            Failure::new(Exit::Unavailable, message).next(next)
        }
        NoAnswer::NoIdentity(_) => {
            Failure::new(Exit::Usage, message).next("write --from namespace/service-account")
        }
        NoAnswer::NeedsSource { .. } | NoAnswer::DependsOnSource(_) => {
            Failure::new(Exit::Usage, message).next("say it with --source-ip")
        }
    }
}

fn as_text(answer: &Answer) -> String {
    let word = if answer.allowed { "allowed" } else { "denied" };
    let comma = if answer.reason.starts_with("by ") { "" } else { ":" };
    let mut text = format!("{word}{comma} {}\n", answer.reason);
    for DryRunAnswer { allowed, policy } in &answer.dry_runs {
        let word = if *allowed { "allow" } else { "deny" };
        text += &match policy {
            Some((policy, rule)) => {
                format!("dry run: {policy}, rule {rule}, would {word} it\n")
            }
            None => {
                "dry run: there are ALLOW policies, none matches, they would deny it\n".to_owned()
            }
        };
    }
    text
}

fn as_json(answer: &Answer) -> Value {
    let dry_runs: Vec<Value> = answer
        .dry_runs
        .iter()
        .map(|DryRunAnswer { allowed, policy }| {
            let (policy, rule) = policy.as_ref().map(|(policy, rule)| (policy, rule)).unzip();
            json!({"allowed": allowed, "policy": policy, "rule": rule})
        })
        .collect();
    let (policy, rule) = answer.decided_by.as_ref().map(|(policy, rule)| (policy, *rule)).unzip();
    json!({
        "allowed": answer.allowed,
        "reason": answer.reason,
        "policy": policy,
        "rule": rule.flatten(),
        "dryRuns": dry_runs,
    })
}
