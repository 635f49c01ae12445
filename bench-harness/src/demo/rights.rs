//! What the policies of the example let happen, and what not.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Result, anyhow};

use super::stage::Stage;
use super::story::Story;
use crate::http::get_from;
use crate::lab::wait_until;

/// Where the stars of the reviews are.
const RATINGS: &str = "10.2.0.30:9080";

/// Who asks for the stars, from where, and what the access log of their host says if that is refused.
const ROWS: [(&str, &str, &str, Option<&str>); 3] = [
    ("the reviews may ask for the stars", "reviews-v3", "bookinfo/bookinfo-reviews", None),
    (
        "the page itself may not: an ALLOW policy is for the reviews",
        "productpage-v1",
        "bookinfo/bookinfo-productpage",
        Some("none allowed"),
    ),
    (
        "nor may a client outside the mesh, who has no identity",
        "outside",
        "none",
        Some("istio_converted_static_strict"),
    ),
];

/// Shows all of it.
pub(super) fn show(story: &mut Story, stage: &Stage) -> Result<()> {
    let ratings: SocketAddr = RATINGS.parse()?;
    for (claim, pod, client, refused) in ROWS {
        let before = stage.log_of("host-b").lines().count();
        let answer = get_from(stage.lab.namespace(pod), ratings, "/ratings/0");
        let said = stage.authorize(client, "bookinfo/ratings-v1")?;
        let seen = match (answer, refused) {
            (Ok((200, _)), None) => Ok(format!("`ringway authorize` says {said:?}")),
            (Err(_), Some(why)) => refusal(stage, before, why)
                .map(|line| format!("`ringway authorize` says {said:?}, and host-b:\n     {line}"))
                .ok_or_else(|| anyhow!("the log of host-b does not say {why:?}")),
            (other, _) => Err(anyhow!("the answer was {other:?}")),
        };
        let agrees = said.starts_with("denied") == refused.is_some();
        let disagrees = || Err(anyhow!("`ringway authorize` says {said:?}"));
        story.claim(claim, if agrees { seen } else { disagrees() });
    }
    Ok(())
}

/// The line of the access log of host-b after so many lines that says why.
fn refusal(stage: &Stage, after: usize, why: &str) -> Option<String> {
    let mut found = None;
    let _ = wait_until("the refusal is logged", Duration::from_secs(5), || {
        let log = stage.log_of("host-b");
        let mut lines = log.lines().skip(after).filter(|line| line.contains("\taccess\t"));
        found = lines.find(|line| line.contains(why)).map(|line| line.replace('\t', " "));
        found.is_some()
    });
    found
}
