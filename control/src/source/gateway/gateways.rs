//! `Gateway` and `GatewayClass`.

use std::sync::Arc;

use super::objects::{
    Addressed, FrontendTls, GatewayClassObject, GatewayObject, LabelExpression, LabelOperator,
    LabelSelector, ListenerObject, NamespacesFrom, SpokenAtListener,
};
use super::tls::{gateway_tls, listener_tls};
use super::values::{GATEWAY_GROUP, hostname};
use crate::source::context::Context;
use crate::source::diagnostics::{Place, Problem, Reporter};
use crate::source::kubernetes::{TELLS_CLIENT, generation, labels, metadata};
use crate::source::objects::find;
use crate::source::yaml::fields::{Fields, list, mapping};
use crate::source::yaml::scalars::{ip, name, nonempty, port, text, word};
use crate::source::yaml::value::Value;

pub(super) fn gateway_class(
    value: &Value,
    context: &mut Context,
    reporter: &mut Reporter,
) -> Option<GatewayClassObject> {
    mapping("GatewayClass", value, reporter, |fields| {
        fields.ignore(&["apiVersion", "kind", "status"]);
        let metadata =
            fields.required("metadata", |value, reporter| metadata(value, context, reporter));
        let controller = fields.required("spec", |value, reporter| {
            mapping("spec", value, reporter, |fields| {
                fields.ignore(&["description", "parametersRef"]);
                fields.required("controllerName", nonempty)
            })?
        });
        let metadata = metadata?;
        Some(GatewayClassObject {
            place: metadata.place,
            name: metadata.name,
            labels: metadata.labels,
            controller: context.names.share_ref(controller?),
            generation: generation(value),
        })
    })?
}

pub(super) fn gateway(
    value: &Value,
    context: &mut Context,
    reporter: &mut Reporter,
) -> Option<GatewayObject> {
    mapping("Gateway", value, reporter, |fields| {
        fields.ignore(&["apiVersion", "kind"]);
        let metadata =
            fields.required("metadata", |value, reporter| metadata(value, context, reporter));
        let spec = fields.required("spec", |value, reporter| spec(value, context, reporter));
        let given = fields
            .value("status")
            .map_or_else(Vec::new, |status| status_addresses(status, context));
        let (metadata, spec) = (metadata?, spec?);
        Some(GatewayObject {
            place: metadata.place,
            name: metadata.name,
            namespace: metadata.namespace,
            labels: metadata.labels,
            class: spec.class,
            addresses: if spec.addresses.is_empty() { given } else { spec.addresses },
            listeners: spec.listeners,
            frontend: spec.frontend,
            allowed_listeners: spec.allowed_listeners,
            generation: generation(value),
            tells_client: find(&metadata.annotations, TELLS_CLIENT)
                .is_some_and(|value| &**value == "true"),
        })
    })?
}

/// Of a Gateway that comes from a cluster; a status is nobody's to get wrong.
fn status_addresses(status: &Value, context: &mut Context) -> Vec<Addressed> {
    let mut quiet = Reporter::default();
    let addresses = status.get("addresses");
    let read = addresses.and_then(|value| {
        list(value, &mut quiet, |value, reporter| address(value, context, reporter))
    });
    read.unwrap_or_default()
}

struct Spec {
    class: Arc<str>,
    addresses: Vec<Addressed>,
    listeners: Vec<ListenerObject>,
    frontend: FrontendTls,
    allowed_listeners: NamespacesFrom,
}

fn spec(value: &Value, context: &mut Context, reporter: &mut Reporter) -> Option<Spec> {
    mapping("spec", value, reporter, |fields| {
        // What it is made of in a cluster says nothing about its listeners.
        fields.ignore(&["infrastructure"]);
        let class =
            fields.required("gatewayClassName", name).map(|name| context.names.share_ref(name));
        let addresses = fields.optional("addresses", |value, reporter| {
            list(value, reporter, |value, reporter| address(value, context, reporter))
        });
        let listeners = fields.required("listeners", |value, reporter| {
            list(value, reporter, |value, reporter| listener(value, context, reporter))
        });
        report_same_name(listeners.as_deref().unwrap_or_default(), fields.reporter);
        let frontend =
            fields.optional("tls", |value, reporter| gateway_tls(value, context, reporter));
        let allowed = fields.optional("allowedListeners", |value, reporter| {
            mapping("allowedListeners", value, reporter, |fields| {
                fields.optional("namespaces", |value, reporter| {
                    mapping("namespaces", value, reporter, |fields| {
                        namespaces(fields, "None", context)
                    })?
                })
            })?
        });
        Some(Spec {
            class: class?,
            addresses: addresses.unwrap_or_default(),
            listeners: listeners?,
            frontend: frontend.unwrap_or_default(),
            allowed_listeners: allowed.unwrap_or(NamespacesFrom::None),
        })
    })?
}

pub(super) fn report_same_name(listeners: &[ListenerObject], reporter: &mut Reporter) {
    for (index, listener) in listeners.iter().enumerate() {
        if let Some(first) = listeners[..index].iter().find(|other| other.name == listener.name) {
            let message = format!("two listeners are named `{}`", listener.name);
            reporter.report(
                Problem::error(listener.place, message).related(first.place, "the other one"),
            );
        }
    }
}

fn address(value: &Value, context: &mut Context, reporter: &mut Reporter) -> Option<Addressed> {
    mapping("addresses[]", value, reporter, |fields| {
        let kind = fields.optional("type", nonempty).unwrap_or("IPAddress");
        match kind {
            "IPAddress" => fields.required("value", ip).map(Addressed::Ip),
            "Hostname" => {
                let name = fields.required("value", hostname)?;
                Some(Addressed::Hostname(context.names.share_ref(name)))
            }
            _ => {
                let text = fields.required("value", text)?;
                Some(Addressed::Other(format!("{kind} {text}").into()))
            }
        }
    })?
}

pub(super) fn listener(
    value: &Value,
    context: &mut Context,
    reporter: &mut Reporter,
) -> Option<ListenerObject> {
    mapping("listeners[]", value, reporter, |fields| {
        let own = fields.required("name", name).map(|name| context.names.share_ref(name));
        let place = fields.value_place("name");
        let hostname =
            fields.optional("hostname", hostname).map(|name| context.names.share_ref(name));
        let port = fields.required("port", port);
        let protocol = fields.required("protocol", nonempty).map(protocol);
        let tls = fields.optional("tls", |value, reporter| listener_tls(value, context, reporter));
        let allowed = fields
            .optional("allowedRoutes", |value, reporter| allowed_routes(value, context, reporter));
        let (from, kinds) = allowed.unwrap_or((NamespacesFrom::Same, None));
        Some(ListenerObject {
            place,
            name: own?,
            hostname,
            port: port?,
            protocol: protocol?,
            tls,
            from,
            kinds,
        })
    })?
}

fn protocol(text: &str) -> SpokenAtListener {
    match text {
        "HTTP" => SpokenAtListener::Http,
        "HTTPS" => SpokenAtListener::Https,
        "TLS" => SpokenAtListener::Tls,
        "TCP" => SpokenAtListener::Tcp,
        "HBONE" => SpokenAtListener::Hbone,
        other => SpokenAtListener::Other(other.into()),
    }
}

/// Groups and kinds.
type Kinds = Vec<(Arc<str>, Arc<str>)>;

fn allowed_routes(
    value: &Value,
    context: &mut Context,
    reporter: &mut Reporter,
) -> Option<(NamespacesFrom, Option<Kinds>)> {
    mapping("allowedRoutes", value, reporter, |fields| {
        let from = fields.optional("namespaces", |value, reporter| {
            mapping("namespaces", value, reporter, |fields| namespaces(fields, "Same", context))?
        });
        let kinds = fields.optional("kinds", |value, reporter| {
            list(value, reporter, |value, reporter| {
                mapping("kinds[]", value, reporter, |fields| {
                    let group = fields.optional("group", text).unwrap_or(GATEWAY_GROUP);
                    let kind = fields.required("kind", nonempty)?;
                    Some((context.names.share_ref(group), context.names.share_ref(kind)))
                })?
            })
        });
        // An empty list is the same as none.
        let kinds = kinds.filter(|kinds| !kinds.is_empty());
        (from.unwrap_or(NamespacesFrom::Same), kinds)
    })
}

fn namespaces(
    fields: &mut Fields<'_, '_>,
    default: &'static str,
    context: &mut Context,
) -> Option<NamespacesFrom> {
    const FROM: &[(&str, &str)] =
        &[("Same", "Same"), ("All", "All"), ("Selector", "Selector"), ("None", "None")];
    let selector =
        fields.optional("selector", |value, reporter| label_selector(value, context, reporter));
    match fields.optional("from", word(FROM)).unwrap_or(default) {
        "All" => Some(NamespacesFrom::All),
        "None" => Some(NamespacesFrom::None),
        "Selector" if fields.value("selector").is_none() => {
            let place = fields.value_place("from");
            let message = "`from: Selector` needs a `selector`";
            fields.reporter.report(Problem::error(place, message));
            None
        }
        "Selector" => selector.map(NamespacesFrom::Selector),
        _ => Some(NamespacesFrom::Same),
    }
}

/// `matchLabels` and `matchExpressions`.
fn label_selector(
    value: &Value,
    context: &mut Context,
    reporter: &mut Reporter,
) -> Option<LabelSelector> {
    mapping("selector", value, reporter, |fields| {
        let equal = fields.optional("matchLabels", |value, reporter| {
            labels("matchLabels", value, context, reporter)
        });
        let expressions = fields.optional("matchExpressions", |value, reporter| {
            list(value, reporter, |value, reporter| expression(value, context, reporter))
        });
        LabelSelector {
            labels: equal.unwrap_or_default(),
            expressions: expressions.unwrap_or_default(),
        }
    })
}

fn expression(
    value: &Value,
    context: &mut Context,
    reporter: &mut Reporter,
) -> Option<LabelExpression> {
    const OPERATORS: &[(&str, LabelOperator)] = &[
        ("In", LabelOperator::In),
        ("NotIn", LabelOperator::NotIn),
        ("Exists", LabelOperator::Exists),
        ("DoesNotExist", LabelOperator::DoesNotExist),
    ];
    mapping("matchExpressions[]", value, reporter, |fields| {
        let key = fields.required("key", nonempty);
        let operator = fields.required("operator", word(OPERATORS));
        let values = fields.optional("values", |value, reporter| {
            list(value, reporter, |value, reporter| {
                text(value, reporter).map(|text| context.names.share_ref(text))
            })
        });
        let values = values.unwrap_or_default();
        let operator = operator?;
        report_values(operator, values.len(), fields.place("values"), fields.reporter);
        Some(LabelExpression { key: context.names.share_ref(key?), operator, values })
    })?
}

fn report_values(operator: LabelOperator, values: usize, place: Place, reporter: &mut Reporter) {
    let wants = matches!(operator, LabelOperator::In | LabelOperator::NotIn);
    if wants != (values > 0) {
        let message = match wants {
            true => "`In` and `NotIn` need `values`",
            false => "`Exists` and `DoesNotExist` have no `values`",
        };
        reporter.report(Problem::error(place, message));
    }
}
