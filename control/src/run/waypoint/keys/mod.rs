//! The keys of tokens' issuers that are to be fetched: when each is due, and what was there the last time.
//!
//! ```text
//!  follow: which there are ─▶ due ─▶ under way ┬▶ text ─▶ tables, published ─▶ due in five minutes
//!                              ▲               └▶ failed: what was there stays ─▶ due in a second, two, four …
//!                              └───────────────────────────────────────────────────────┘
//! ```
//!
//! **Invariant:** a fetch that fails changes nothing that is in force. Before the first one that does not, tokens of that issuer
//! are refused.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ringway_engine::limits::{
    TOKEN_KEYS_REFRESH, TOKEN_KEYS_REFRESH_FILE, TOKEN_KEYS_RETRY_MAX, TOKEN_KEYS_RETRY_MIN,
};
use ringway_http::model::HttpConfig;
use ringway_http::model::policy::{KeySource, Keys};
use ringway_http::tables::Tables;
use ringway_http::token::KeySet;
use tokio::task::JoinSet;
use tokio::time::sleep_until;

use super::fetch::fetch;

/// See the module's text.
#[derive(Default)]
pub(in crate::run) struct TokenKeys {
    /// What they stand in, where there are any.
    http: Option<HttpConfig>,
    entries: BTreeMap<KeySource, Entry>,
    fetches: JoinSet<(KeySource, Result<String, String>)>,
}

struct Entry {
    timeout: Duration,
    text: Option<Arc<str>>,
    due: Instant,
    failures: u32,
    under_way: bool,
}

impl TokenKeys {
    /// Takes another configuration, of which `own` is what concerns this process. What is known already of its keys is in
    /// the tables that are returned.
    pub(in crate::run) fn follow(
        &mut self,
        own: impl FnOnce() -> HttpConfig,
        http: &HttpConfig,
    ) -> Option<Arc<Tables>> {
        let mut before = std::mem::take(&mut self.entries);
        for (from, timeout) in sources(http) {
            let known = before.remove(from).or_else(|| self.entries.remove(from));
            let new = || Entry {
                timeout,
                text: None,
                due: Instant::now(),
                failures: 0,
                under_way: false,
            };
            let entry = Entry { timeout, ..known.unwrap_or_else(new) };
            self.entries.insert(from.clone(), entry);
        }
        self.http = (!self.entries.is_empty()).then(own);
        let is_known = self.entries.values().any(|entry| entry.text.is_some());
        is_known.then(|| self.tables()).flatten()
    }

    /// The tables with all keys that are known.
    pub(in crate::run) fn tables(&self) -> Option<Arc<Tables>> {
        let mut http = self.http.clone()?;
        let rules = http.policies.authentications.iter_mut().flat_map(|one| &mut one.policy.rules);
        for rule in rules {
            if let Keys::Fetched { from, text, .. } = &mut rule.keys {
                *text = self.entries.get(from).and_then(|entry| entry.text.clone());
            }
        }
        match Tables::compile(http) {
            Ok(tables) => Some(Arc::new(tables)),
            Err(errors) => {
                tracing::error!(?errors, "keys of tokens' issuers cannot be taken");
                None
            }
        }
    }

    /// Fetches what is due; ends when there are keys that are new.
    pub(in crate::run) async fn changed(&mut self) {
        loop {
            self.begin_due();
            let next =
                self.entries.values().filter(|entry| !entry.under_way).map(|it| it.due).min();
            let due = async {
                match next {
                    Some(due) => sleep_until(due.into()).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                Some(ended) = self.fetches.join_next(), if !self.fetches.is_empty() => {
                    if let Ok((from, fetched)) = ended && self.ended(&from, fetched) {
                        return;
                    }
                }
                () = due => {}
            }
        }
    }

    fn begin_due(&mut self) {
        let now = Instant::now();
        for (from, entry) in &mut self.entries {
            if entry.under_way || entry.due > now {
                continue;
            }
            entry.under_way = true;
            let (from, timeout) = (from.clone(), entry.timeout);
            self.fetches.spawn(async move {
                let fetched = tokio::time::timeout(timeout, fetch(&from)).await;
                let fetched = fetched.unwrap_or_else(|_| Err("no answer in time".to_owned()));
                (from, fetched)
            });
        }
    }

    /// Whether what was fetched is new.
    fn ended(&mut self, from: &KeySource, fetched: Result<String, String>) -> bool {
        // It may have gone meanwhile.
        let Some(entry) = self.entries.get_mut(from) else { return false };
        entry.under_way = false;
        let usable = fetched
            .and_then(|text| KeySet::parse(&text).map(|_| text).map_err(|error| error.to_string()));
        match usable {
            Ok(text) => {
                let is_file = matches!(from, KeySource::Url(url) if url.starts_with("file:"));
                entry.due = Instant::now()
                    + if is_file { TOKEN_KEYS_REFRESH_FILE } else { TOKEN_KEYS_REFRESH };
                entry.failures = 0;
                let is_new = entry.text.as_deref() != Some(&text);
                if is_new {
                    tracing::info!(%from, "keys of a token's issuer fetched");
                    entry.text = Some(text.into());
                }
                is_new
            }
            Err(error) => {
                let pause = TOKEN_KEYS_RETRY_MIN
                    .saturating_mul(1 << entry.failures.min(8))
                    .min(TOKEN_KEYS_RETRY_MAX);
                entry.failures += 1;
                entry.due = Instant::now() + pause;
                match entry.text {
                    Some(_) => {
                        tracing::warn!(%from, error, "keys of a token's issuer not fetched; those before stay")
                    }
                    None => {
                        tracing::warn!(%from, error, "keys of a token's issuer not fetched; its tokens are refused")
                    }
                }
                false
            }
        }
    }
}

/// Everything that is to be fetched; of what is named twice, each.
fn sources(http: &HttpConfig) -> impl Iterator<Item = (&KeySource, Duration)> {
    let rules = http.policies.authentications.iter().flat_map(|one| &one.policy.rules);
    rules.filter_map(|rule| match &rule.keys {
        Keys::Fetched { from, timeout, .. } => Some((from, *timeout)),
        Keys::Inline(_) => None,
    })
}

#[cfg(test)]
mod tests;
