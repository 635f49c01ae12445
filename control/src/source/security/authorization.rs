//! `security.istio.io AuthorizationPolicy`: who may connect to the workloads it is for.

use ringway_engine::snapshot::{AuthorizationPolicy, PolicyAction, PolicyRule, PolicyScope};

use super::AuthorizationObject;
use super::rule::rules;
use super::selector::selector;
use super::targets::{TargetReference, target_references};
use crate::source::context::Context;
use crate::source::diagnostics::suggest::nearest;
use crate::source::diagnostics::{Problem, Reporter};
use crate::source::kubernetes::{Metadata, metadata};
use crate::source::objects::{Labels, find};
#[cfg(feature = "waypoint")]
use crate::source::policy::PolicyObject;
use crate::source::yaml::fields::{Fields, list, mapping};
use crate::source::yaml::scalars::{nonempty, word};
use crate::source::yaml::value::{Content, Value};
#[cfg(feature = "waypoint")]
use ringway_http::model::policy::AuthorizationPolicy as AttachedPolicy;

/// It decides nothing; what it would decide is told.
const DRY_RUN: &str = "istio.io/dry-run";

/// What is done with a connection that matches.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Action {
    Allow,
    Deny,
    Audit,
    Custom,
}

/// What an AuthorizationPolicy comes to.
pub(crate) enum Authorization {
    /// It is for node proxies.
    OfWorkloads(AuthorizationObject),
    /// It is for waypoints.
    #[cfg(feature = "waypoint")]
    Attached(PolicyObject<AttachedPolicy>),
    /// It has no effect, which was told.
    Nothing,
}

pub(crate) fn authorization_policy(
    value: &Value,
    context: &mut Context,
    reporter: &mut Reporter,
) -> Option<Authorization> {
    mapping("AuthorizationPolicy", value, reporter, |fields| {
        fields.ignore(&["apiVersion", "kind", "status"]);
        let metadata =
            fields.required("metadata", |value, reporter| metadata(value, context, reporter));
        // Without its name it is refused in any case; the spec is read for what else is wrong.
        let namespace = metadata.as_ref().map_or("default", |metadata| &*metadata.namespace);
        let spec =
            fields.required("spec", |value, reporter| spec(value, namespace, context, reporter))?;
        let metadata = metadata?;
        let dry_run = dry_run(&metadata, fields.reporter);
        report_nearly_dry_run(value, &metadata, fields.reporter);
        if !spec.targets.is_empty() && spec.selects {
            return Some(Authorization::Nothing);
        }
        #[cfg(feature = "waypoint")]
        if !spec.targets.is_empty() {
            return Some(attached(metadata, spec, dry_run, fields.reporter));
        }
        let Some(action) = enforced(&metadata, &spec, fields.reporter) else {
            return Some(Authorization::Nothing);
        };
        report_denies_nobody(&metadata, action, &spec, fields.reporter);
        let policy = AuthorizationPolicy {
            name: metadata.name.as_ref().into(),
            namespace: metadata.namespace.as_ref().into(),
            scope: PolicyScope::Namespace,
            action,
            rules: spec.rules,
            dry_run,
        };
        let (place, selector) = (metadata.place, spec.selector);
        Some(Authorization::OfWorkloads(AuthorizationObject { place, selector, policy }))
    })?
}

struct Spec {
    selector: Option<Labels>,
    action: Action,
    /// Of the action CUSTOM.
    #[cfg(feature = "waypoint")]
    provider: Option<std::sync::Arc<str>>,
    rules: Vec<PolicyRule>,
    /// It is for a waypoint, if there are any.
    targets: Vec<TargetReference>,
    /// There is a selector, whatever it says.
    selects: bool,
    #[cfg(feature = "waypoint")]
    attached_rules: Vec<ringway_http::model::policy::AuthorizationRule>,
    /// As they were written, those that never match included.
    rules_written: usize,
}

fn spec(
    value: &Value,
    namespace: &str,
    context: &mut Context,
    reporter: &mut Reporter,
) -> Option<Spec> {
    const ACTIONS: &[(&str, Action)] = &[
        ("ALLOW", Action::Allow),
        ("DENY", Action::Deny),
        ("AUDIT", Action::Audit),
        ("CUSTOM", Action::Custom),
    ];
    mapping("spec", value, reporter, |fields| {
        let action = fields.optional("action", word(ACTIONS)).unwrap_or(Action::Allow);
        let targets = target_references(fields, namespace);
        let attached = !targets.is_empty();
        let selects = fields.value("selector").is_some();
        let selector = selector(fields, context);
        if attached && selects {
            let message = "`selector` and `targetRefs` cannot stand in one policy";
            fields.reporter.report(Problem::error(fields.place("selector"), message));
        }
        report_provider(action, fields);
        #[cfg_attr(
            not(feature = "waypoint"),
            expect(unused_variables, reason = "read for its mistakes")
        )]
        let provider = fields.optional("provider", |value, reporter| {
            mapping("provider", value, reporter, |fields| fields.required("name", nonempty))?
        });
        fields.must_not_be_null("rules", "leave the key out for a policy that never matches");
        // What becomes of L7 matters only to a policy that is enforced here.
        let judged = match action {
            Action::Deny => PolicyAction::Deny,
            _ => PolicyAction::Allow,
        };
        let enforced = !attached && matches!(action, Action::Allow | Action::Deny);
        #[cfg(feature = "waypoint")]
        let attached_rules = fields
            .value("rules")
            .filter(|_| attached)
            .and_then(|value| crate::source::policy::rules(value, namespace, fields.reporter));
        let rules = fields.optional("rules", |value, reporter| match enforced {
            true => rules(value, judged, namespace, reporter),
            false => list(value, reporter, |_, _| None),
        });
        let rules_written = fields.value("rules").map_or(0, written);
        Spec {
            selector,
            action,
            #[cfg(feature = "waypoint")]
            provider: provider.map(Into::into),
            rules: rules.unwrap_or_default(),
            targets,
            selects,
            #[cfg(feature = "waypoint")]
            attached_rules: attached_rules.unwrap_or_default(),
            rules_written,
        }
    })
}

fn written(rules: &Value) -> usize {
    match &rules.content {
        Content::Sequence(rules) => rules.len(),
        _ => 0,
    }
}

/// What it is at a waypoint.
#[cfg(feature = "waypoint")]
fn attached(
    metadata: Metadata,
    spec: Spec,
    dry_run: bool,
    reporter: &mut Reporter,
) -> Authorization {
    use ringway_http::model::policy::Action as Attached;
    let action = match spec.action {
        Action::Allow => Attached::Allow,
        Action::Deny => Attached::Deny,
        Action::Audit => Attached::Audit,
        Action::Custom => {
            let Some(provider) = spec.provider.clone() else {
                let message =
                    format!("the action CUSTOM of `{}` says not whom to ask", metadata.name);
                let help = "write `provider: {name: …}`, one of a MeshConfig's".to_owned();
                reporter.report(Problem::error(metadata.place, message).help(help));
                return Authorization::Nothing;
            };
            report_tokens(&metadata, &spec.attached_rules, reporter);
            Attached::Custom(provider)
        }
    };
    let judged = if action == Attached::Deny { PolicyAction::Deny } else { PolicyAction::Allow };
    report_denies_nobody(&metadata, judged, &spec, reporter);
    let policy = AttachedPolicy { action, rules: spec.attached_rules, dry_run };
    let (place, name, namespace) = (metadata.place, metadata.name, metadata.namespace);
    let targets = spec.targets;
    Authorization::Attached(PolicyObject { place, name, namespace, targets, policy })
}

/// Tokens are verified when external authorizers have answered: a rule about them would never have anybody asked.
#[cfg(feature = "waypoint")]
fn report_tokens(
    metadata: &Metadata,
    rules: &[ringway_http::model::policy::AuthorizationRule],
    reporter: &mut Reporter,
) {
    use ringway_http::model::policy::{AuthorizationRule, Condition};
    let needs_token = |rule: &AuthorizationRule| {
        let by_source = rule.from.iter().any(|source| !source.request_principals.is_empty());
        let by_condition = rule.when.iter().any(|condition| {
            matches!(
                condition,
                Condition::RequestPrincipal(_)
                    | Condition::Audience(_)
                    | Condition::Presenter(_)
                    | Condition::Claim(..)
            )
        });
        by_source || by_condition
    };
    if rules.iter().any(needs_token) {
        let message = format!(
            "the action CUSTOM of `{}` asks for what is in a token, and none is verified yet when it is decided whom to ask",
            metadata.name
        );
        let help = "the external authorizer gets the token itself".to_owned();
        reporter.report(Problem::error(metadata.place, message).help(help));
    }
}

fn report_provider(action: Action, fields: &mut Fields<'_, '_>) {
    if fields.value("provider").is_some() && action != Action::Custom {
        let message = "`provider` belongs to the action CUSTOM";
        fields.reporter.report(Problem::error(fields.place("provider"), message));
    }
}

/// What it does here, unless that is nothing.
fn enforced(metadata: &Metadata, spec: &Spec, reporter: &mut Reporter) -> Option<PolicyAction> {
    let name = &metadata.name;
    let warn = |reporter: &mut Reporter, message: String| {
        reporter.report(Problem::warning(metadata.place, message));
    };
    match spec.action {
        Action::Custom => {
            let message = format!("the action CUSTOM of `{name}` needs a waypoint");
            let help = "an external authorizer is asked about requests, which a node proxy does \
                        not see; write ALLOW or DENY"
                .to_owned();
            reporter.report(Problem::error(metadata.place, message).help(help));
            None
        }
        _ if !spec.targets.is_empty() => {
            let message = format!(
                "`{name}` is attached by `targetRefs`, which only a waypoint enforces: it has no effect here"
            );
            warn(reporter, message);
            None
        }
        Action::Audit => {
            let message =
                format!("the action AUDIT of `{name}` needs a waypoint: it has no effect here");
            warn(reporter, message);
            None
        }
        Action::Allow => Some(PolicyAction::Allow),
        Action::Deny => Some(PolicyAction::Deny),
    }
}

fn report_denies_nobody(
    metadata: &Metadata,
    action: PolicyAction,
    spec: &Spec,
    reporter: &mut Reporter,
) {
    if action == PolicyAction::Deny && spec.rules_written == 0 {
        let message = format!("the DENY policy `{}` has no rule: it denies nobody", metadata.name);
        let help = "`rules: [{}]` denies everybody".to_owned();
        reporter.report(Problem::warning(metadata.place, message).help(help));
    }
}

fn dry_run(metadata: &Metadata, reporter: &mut Reporter) -> bool {
    match find(&metadata.annotations, DRY_RUN).map(|text| &**text) {
        None | Some("false") => false,
        Some("true") => true,
        Some(other) => {
            let message =
                format!("the annotation `{DRY_RUN}` is {other:?}, expected \"true\" or \"false\"");
            reporter.report(Problem::error(metadata.place, message));
            false
        }
    }
}

/// An annotation that was probably meant to be that one; like this, the policy is enforced.
fn report_nearly_dry_run(object: &Value, metadata: &Metadata, reporter: &mut Reporter) {
    let annotations = object.get("metadata").and_then(|metadata| metadata.get("annotations"));
    for (key, _) in annotations.and_then(Value::entries).unwrap_or_default() {
        if *key.text == *DRY_RUN || !is_nearly_dry_run(&key.text) {
            continue;
        }
        let (key_text, name) = (&key.text, &metadata.name);
        let message = format!("the annotation `{key_text}` means nothing: `{name}` is enforced");
        let help = format!("did you mean `{DRY_RUN}`?");
        reporter.report(Problem::warning(key.place, message).help(help));
    }
}

/// Part by part: a long prefix would let very different names pass for near ones.
fn is_nearly_dry_run(key: &str) -> bool {
    let parts = key.split_once('/').zip(DRY_RUN.split_once('/'));
    parts.is_some_and(|((prefix, name), (own_prefix, own_name))| {
        nearest(prefix, [own_prefix]).is_some() && nearest(name, [own_name]).is_some()
    })
}
