use super::super::{Dead, choose, mirrors};
use crate::model::{Backend, BackendTarget, Filter, Mirror, Rule, ServiceName, WeightedBackend};

fn backend(name: &str) -> Backend {
    let service = ServiceName { namespace: "default".into(), hostname: name.into() };
    Backend { target: BackendTarget::Service { service, port: 80 } }
}

/// A rule with backends of these weights.
pub(super) fn rule(weights: &[u32]) -> Rule {
    let weighted = |(at, weight): (usize, &u32)| WeightedBackend {
        backend: backend(&format!("v{at}")),
        weight: *weight,
        filters: Vec::new(),
    };
    Rule { backends: weights.iter().enumerate().map(weighted).collect(), ..Rule::default() }
}

/// `count` draws, evenly spread.
fn draws(count: u64) -> impl Iterator<Item = u64> {
    (0..count).map(move |n| n * (u64::MAX / count) + u64::MAX / count / 2)
}

#[test]
fn http_route_weight() {
    let rule = rule(&[70, 0, 30]);
    let mut counts = [0; 3];
    for draw in draws(1_000) {
        counts[choose(&rule, draw).expect("a backend").0] += 1;
    }
    assert_eq!(counts, [700, 0, 300], "HTTPRouteWeight");
    for draw in [0, 1, u64::MAX / 2, u64::MAX] {
        assert_ne!(choose(&rule, draw).expect("a backend").0, 1, "weight 0 gets none");
    }
}

#[test]
fn rules_that_nobody_answers() {
    assert_eq!(choose(&rule(&[]), 7).err(), Some(Dead::NoBackends), "HTTPRouteNoBackendRefs");
    assert_eq!(choose(&rule(&[0, 0]), 7).err(), Some(Dead::NoWeight));
    let mut partly = rule(&[1, 1]);
    partly.backends[1].backend.target = BackendTarget::Invalid("no such service".into());
    let dead = draws(100).filter(|draw| choose(&partly, *draw).is_err()).count();
    assert_eq!(dead, 50, "HTTPRoutePartiallyInvalidViaInvalidReferenceGrant: its share gets 500");
    let why = choose(&partly, u64::MAX).expect_err("the invalid one").to_string();
    assert_eq!(why, "the backend cannot be had: no such service");
}

#[test]
fn http_route_request_mirror() {
    let mirror = |name: &str, numerator, denominator| {
        Filter::Mirror(Mirror { backend: backend(name), numerator, denominator })
    };
    let filters = [
        mirror("all", 100, 100),
        mirror("fifth", 20, 100),
        mirror("half", 25, 50),
        mirror("none", 0, 100),
    ];
    let mut counts = std::collections::BTreeMap::new();
    for draw in draws(1_000) {
        for mirror in mirrors(&filters, || draw) {
            let BackendTarget::Service { service, .. } = &mirror.backend.target else { continue };
            *counts.entry(service.hostname.to_string()).or_insert(0) += 1;
        }
    }
    let want = [("all", 1_000), ("fifth", 200), ("half", 500)];
    let want = want.map(|(name, count)| (name.to_owned(), count)).into_iter().collect();
    assert_eq!(counts, want, "HTTPRouteRequestPercentageMirror, MultipleMirrors");
}
