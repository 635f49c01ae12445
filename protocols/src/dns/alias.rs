//! Which names a requested name may stand for: what a client's resolver appends, and what Kubernetes lets one leave out.

use super::bounds::SEARCH_DOMAINS_MAX;
use super::name::Name;

/// One name under which a service may be known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// The name.
    pub name: String,
    /// When the client's resolver has appended a search domain: what was there before.
    pub stripped: Option<Name>,
}

/// The names to look for, in this order, each once: the requested name, its completions, and the same for what is left
/// without each of the search domains.
pub fn names_to_try<S: AsRef<str>>(
    name: &Name,
    client_namespace: &str,
    cluster_domain: &str,
    search_domains: impl IntoIterator<Item = S>,
) -> Vec<Candidate> {
    let mut candidates: Vec<Candidate> = Vec::new();
    let mut add = |name: &str, stripped: Option<&Name>| {
        let completions = completions(name, client_namespace, cluster_domain);
        for name in std::iter::once(name.to_owned()).chain(completions) {
            if candidates.iter().all(|other| other.name != name) {
                candidates.push(Candidate { name, stripped: stripped.cloned() });
            }
        }
    };
    add(name.as_str(), None);
    for domain in search_domains.into_iter().take(SEARCH_DOMAINS_MAX) {
        let stripped = without(name.as_str(), domain.as_ref());
        if let Some(stripped) = stripped.and_then(|text| Name::new(text).ok()) {
            add(stripped.as_str(), Some(&stripped));
        }
    }
    candidates
}

/// The wildcards a name falls under, the most specific first: `*.b.c` and `*.c` for `a.b.c`.
pub fn wildcards_of(name: &str) -> impl Iterator<Item = String> {
    let dots = name.match_indices('.').map(|(at, _)| at);
    dots.map(move |at| format!("*{}", &name[at..]))
}

/// The full names that a shortened one can mean in Kubernetes: `name`, `name.namespace`, `name.namespace.svc`, and the
/// same with a pod's name before it.
fn completions(name: &str, namespace: &str, domain: &str) -> Vec<String> {
    let labels = name.split('.').count();
    let is_service = name.rsplit('.').next() == Some("svc");
    let mut completions = Vec::new();
    match labels {
        1 => completions.push(format!("{name}.{namespace}.svc.{domain}")),
        2 => {
            completions.push(format!("{name}.svc.{domain}"));
            completions.push(format!("{name}.{namespace}.svc.{domain}"));
        }
        3 => {
            completions.extend(is_service.then(|| format!("{name}.{domain}")));
            completions.push(format!("{name}.svc.{domain}"));
        }
        4 => completions.extend(is_service.then(|| format!("{name}.{domain}"))),
        _ => {}
    }
    completions
}

/// What is before a proper suffix of whole labels.
fn without<'n>(name: &'n str, domain: &str) -> Option<&'n str> {
    let domain = domain.trim_matches('.');
    if domain.is_empty() || domain.len() >= name.len() {
        return None;
    }
    let (rest, end) = name.split_at_checked(name.len() - domain.len())?;
    let rest = rest.strip_suffix('.').filter(|rest| !rest.is_empty())?;
    end.eq_ignore_ascii_case(domain).then_some(rest)
}
