//! Chooses an endpoint: by what it has in common with the client, then by chance and capacity.
//!
//! A choice draws a weight and walks down a tree to it; what is found is drawn again when it is no
//! candidate. Only after [`DRAWS_MAX`] misses in a row are the endpoints counted one by one. Either way
//! each candidate's chance is its capacity's share, and an endpoint of capacity 0 has none.

use super::chance::Chance;
use crate::snapshot::{Endpoint, Endpoints, Entry, Scope, Tree, Workload};

/// Misses in a row after which candidates are counted: by then they are most likely few or none.
const DRAWS_MAX: usize = 8;

/// Chooses among the endpoints that `is_candidate` accepts.
pub(super) fn choose<'a>(
    endpoints: &'a Endpoints,
    client: &Workload,
    chance: &mut Chance,
    is_candidate: impl Fn(&Endpoint) -> bool,
) -> Option<&'a Endpoint> {
    let ranking = endpoints.ranking();
    let preferences = ranking.preferences();
    let tree = endpoints.ready();
    let all = preferences.len();
    let is_network_first = preferences.first() == Some(&Scope::Network);
    let least = match ranking.is_strict() {
        true => all,
        false if is_network_first => 1,
        false => 0,
    };
    for depth in (least..=all).rev() {
        let run = ranking.keys_in_common(client, depth);
        let has_rank =
            |endpoint: &Endpoint| ranking.in_common(client, endpoint.workload()) >= depth;
        let chosen = draw(tree, &[run], chance, |endpoint| {
            (depth == 0 || has_rank(endpoint)) && is_candidate(endpoint)
        });
        if chosen.is_some() {
            return chosen;
        }
    }
    if is_network_first && !ranking.is_strict() {
        return choose_elsewhere(endpoints, client, chance, is_candidate);
    }
    None
}

/// All endpoints that `is_candidate` accepts and that have as much in common with the client as any of them has.
#[cfg(feature = "waypoint")]
pub(super) fn nearest<'a>(
    endpoints: &'a Endpoints,
    client: &Workload,
    is_candidate: impl Fn(&Endpoint) -> bool,
) -> Vec<&'a Endpoint> {
    let ranking = endpoints.ranking();
    let least = if ranking.is_strict() { ranking.preferences().len() } else { 0 };
    let candidates = endpoints.ready().iter().filter(|endpoint| is_candidate(endpoint));
    let mut ranked: Vec<_> = candidates
        .map(|endpoint| (ranking.in_common(client, endpoint.workload()), endpoint))
        .filter(|(in_common, _)| *in_common >= least)
        .collect();
    let most = ranked.iter().map(|(in_common, _)| *in_common).max().unwrap_or(0);
    ranked.retain(|(in_common, _)| *in_common == most);
    ranked.into_iter().map(|(_, endpoint)| endpoint).collect()
}

/// Chooses among endpoints on other networks, when the network was the first preference. There the other
/// preferences still rank.
fn choose_elsewhere<'a>(
    endpoints: &'a Endpoints,
    client: &Workload,
    chance: &mut Chance,
    is_candidate: impl Fn(&Endpoint) -> bool,
) -> Option<&'a Endpoint> {
    let ranking = endpoints.ranking();
    let tree = endpoints.ready();
    for depth in (1..=ranking.preferences().len()).rev() {
        let mut runs = Vec::new();
        let mut next = tree.range(0, u64::MAX).next();
        while let Some(endpoint) = next {
            runs.push(ranking.keys_in_common_elsewhere(endpoint.key(), client, depth));
            let (_, last_of_network) = ranking.keys_in_common_elsewhere(endpoint.key(), client, 1);
            next =
                last_of_network.checked_add(1).and_then(|first| tree.range(first, u64::MAX).next());
        }
        let chosen = draw(tree, &runs, chance, |endpoint| {
            ranking.in_common_after(1, client, endpoint.workload()) + 1 >= depth
                && is_candidate(endpoint)
        });
        if chosen.is_some() {
            return chosen;
        }
    }
    None
}

/// Draws one of the acceptable endpoints with a key in one of these ranges.
fn draw<'a>(
    tree: &'a Tree<Endpoint>,
    runs: &[(u64, u64)],
    chance: &mut Chance,
    is_acceptable: impl Fn(&Endpoint) -> bool,
) -> Option<&'a Endpoint> {
    let weights: u64 =
        runs.iter().map(|&(first, last)| tree.weight_between(first, last).weight).sum();
    if weights == 0 {
        return None;
    }
    for _ in 0..DRAWS_MAX {
        let mut offset = chance.below(weights);
        for &(first, last) in runs {
            let range = tree.weight_between(first, last);
            if offset < range.weight {
                let drawn = tree.at_weight(range.before + offset);
                if drawn.is_some_and(&is_acceptable) {
                    return drawn;
                }
                break;
            }
            offset -= range.weight;
        }
    }
    draw_counted(tree, runs, chance, is_acceptable)
}

fn draw_counted<'a>(
    tree: &'a Tree<Endpoint>,
    runs: &[(u64, u64)],
    chance: &mut Chance,
    is_acceptable: impl Fn(&Endpoint) -> bool,
) -> Option<&'a Endpoint> {
    let acceptable = || {
        runs.iter()
            .flat_map(|&(first, last)| tree.range(first, last))
            .filter(|endpoint| is_acceptable(endpoint))
    };
    let mut offset = chance.below(acceptable().map(Entry::weight).sum());
    acceptable().find(|endpoint| {
        let is_it = offset < endpoint.weight();
        offset = offset.saturating_sub(endpoint.weight());
        is_it
    })
}
