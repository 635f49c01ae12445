//! `security.istio.io AuthorizationPolicy`: who may connect to the workloads it is for.

use ringway_engine::snapshot::{AuthorizationPolicy, PolicyAction, PolicyRule, PolicyScope};

use super::AuthorizationObject;
use super::rule::rules;
use super::selector::selector;
use crate::source::diagnostics::{Problem, Reporter};
use crate::source::kubernetes::{Context, Metadata, metadata};
use crate::source::objects::{Labels, find};
use crate::source::yaml::fields::{Fields, list, mapping};
use crate::source::yaml::scalars::{nonempty, word};
use crate::source::yaml::value::{Content, Value};

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

/// `Some(None)`: it has no effect on a node proxy, which was told.
pub(crate) fn authorization_policy(
    value: &Value,
    context: &mut Context,
    reporter: &mut Reporter,
) -> Option<Option<AuthorizationObject>> {
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
        let Some(action) = enforced(&metadata, &spec, fields.reporter) else { return Some(None) };
        report_denies_nobody(&metadata, action, &spec, fields.reporter);
        let policy = AuthorizationPolicy {
            name: metadata.name.as_ref().into(),
            namespace: metadata.namespace.as_ref().into(),
            scope: PolicyScope::Namespace,
            action,
            rules: spec.rules,
            dry_run,
        };
        Some(Some(AuthorizationObject { place: metadata.place, selector: spec.selector, policy }))
    })?
}

struct Spec {
    selector: Option<Labels>,
    action: Action,
    rules: Vec<PolicyRule>,
    /// It is for a waypoint.
    attached: bool,
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
        let attached = attached(fields);
        let selector = selector(fields, context);
        if attached && fields.value("selector").is_some() {
            let message = "`selector` and `targetRefs` cannot stand in one policy";
            fields.reporter.report(Problem::error(fields.place("selector"), message));
        }
        report_provider(action, fields);
        fields.must_not_be_null("rules", "leave the key out for a policy that never matches");
        // What becomes of L7 matters only to a policy that is enforced here.
        let judged = match action {
            Action::Deny => PolicyAction::Deny,
            _ => PolicyAction::Allow,
        };
        let enforced = !attached && matches!(action, Action::Allow | Action::Deny);
        let rules = fields.optional("rules", |value, reporter| match enforced {
            true => rules(value, judged, namespace, reporter),
            false => list(value, reporter, |_, _| None),
        });
        let rules_written = fields.value("rules").map_or(0, written);
        Spec { selector, action, rules: rules.unwrap_or_default(), attached, rules_written }
    })
}

fn written(rules: &Value) -> usize {
    match &rules.content {
        Content::Sequence(rules) => rules.len(),
        _ => 0,
    }
}

/// Whether it is attached to a Service or a Gateway, for which waypoints answer.
fn attached(fields: &mut Fields<'_, '_>) -> bool {
    let target = |value: &Value, reporter: &mut Reporter| {
        mapping("targetRefs[]", value, reporter, |fields| {
            fields.ignore(&["group", "namespace"]);
            fields.required("kind", nonempty).is_some()
                & fields.required("name", nonempty).is_some()
        })
    };
    let many = fields.optional("targetRefs", |value, reporter| list(value, reporter, target));
    let one = fields.optional("targetRef", target);
    many.is_some_and(|many| !many.is_empty()) || one.is_some()
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
        _ if spec.attached => {
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
