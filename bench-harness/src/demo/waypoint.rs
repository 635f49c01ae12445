//! A waypoint comes before the reviews, shows what it can do, and goes again, while the page is asked on and on.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, ensure};

use super::bookstore::PATIENCE;
use super::client::{end_client, no_failures, start_client};
use super::stage::{Stage, replace};
use super::story::Story;
use crate::http::{ask_from, get_from};
use crate::lab::{Process, Program, wait_until};
use crate::observe::Metrics;

/// The pod of the waypoint, and its host.
const POD: &str = "waypoint";
const HOST: &str = "host-a";
const ADDRESS: [u8; 4] = [10, 1, 0, 40];

/// The reviews' service.
const REVIEWS: &str = "10.96.0.12:9080";

/// How the reviews' service is labelled, without a waypoint and with it.
const UNBOUND: &str = "labels: {app: reviews}\nspec:\n  clusterIP";
const BOUND: &str = "labels: {app: reviews, istio.io/use-waypoint: waypoint}\nspec:\n  clusterIP";

/// The kinds and names of the example's documents that the bookstore does not have.
const NEW: [(&str, &str); 7] = [
    ("Gateway", "waypoint"),
    ("Pod", "waypoint"),
    ("HTTPRoute", "reviews"),
    ("AuthorizationPolicy", "reviews-for-the-page-only"),
    ("AuthorizationPolicy", "no-administration"),
    ("Service", "reviews-v1"),
    ("Service", "reviews-v2"),
];

/// Shows all of it.
pub(super) fn show(story: &mut Story, stage: &mut Stage, example: &Path) -> Result<()> {
    let ids: Vec<u32> = stage.proxies.iter().map(|(_, process)| process.id()).collect();
    let client = start_client(stage, "productpage-v1", "reviews", REVIEWS, "/reviews/0")?;
    let mut waypoint = Waypoint::start(stage, example)?;
    waypoint.bind(stage, true)?;
    let bound = wait_until("requests pass it", PATIENCE, || waypoint.requests(stage, &[]) > 0.0);
    story.claim(
        "the reviews get a waypoint: a label on their Service",
        bound.map(|()| String::new()),
    );

    story.claim(
        "nine of ten requests go to v1, the tenth to v2, none to v3",
        split(stage, &waypoint)?,
    );
    let canary = stage.judge_canary(POD)?;
    println!("     `ringway canary --baseline v1 --canary v2` says:\n{canary}");
    story.claim("who sends `end-user: jason` is always sent to v2", by_header(stage));
    story
        .claim("what takes too long ends after half a second, as the route says", times_out(stage));
    story.claim(
        "what is for administrators is for nobody",
        denied(stage, "productpage-v1", "/reviews/admin/x"),
    );
    story.claim(
        "and only the page may ask, by the identity it proves",
        denied(stage, "ratings-v1", "/reviews/0"),
    );

    waypoint.bind(stage, false)?;
    let versions =
        || (0..12).any(|_| asked(stage, "").is_ok_and(|(_, body)| body.contains("reviews-v3")));
    let direct = wait_until("v3 answers again", PATIENCE, versions);
    story.claim(
        "without the label, all versions are asked directly again",
        direct.map(|()| String::new()),
    );
    let before = waypoint.requests(stage, &[]);
    story.wait(Duration::from_millis(700))?;
    let quiet = waypoint.requests(stage, &[]) - before;
    story.claim(
        "and the waypoint has nothing more to do",
        if quiet == 0.0 { Ok(String::new()) } else { Err(anyhow!("{quiet} requests since")) },
    );
    let status = waypoint.process.terminate(PATIENCE)?;
    story.claim(
        "it ends in order",
        if status.success() {
            Ok(String::new())
        } else {
            Err(anyhow!("{status}:\n{}", waypoint.process.log()))
        },
    );
    story.wait(Duration::from_millis(500))?;
    story.claim("no request failed from beginning to end", no_failures(&end_client(client)?));
    let now: Vec<u32> = stage.proxies.iter().map(|(_, process)| process.id()).collect();
    let running = stage.proxies.iter_mut().all(|(_, process)| process.is_running());
    story.claim(
        "no proxy was restarted",
        if ids == now && running { Ok(String::new()) } else { Err(anyhow!("a proxy ended")) },
    );
    Ok(())
}

/// The waypoint's process, in a pod of its own.
struct Waypoint {
    process: Process,
}

impl Waypoint {
    fn start(stage: &mut Stage, example: &Path) -> Result<Self> {
        stage.lab.add_pod(HOST, POD, ADDRESS.into())?;
        replace(&stage.mesh.join("waypoint.yaml"), &documents(example)?)?;
        let program = Program::new(stage.ringway())
            .arguments(["waypoint", "--node", HOST, "--name", "bookinfo/waypoint", "--file"])
            .argument(&stage.mesh)
            .environment("RINGWAY_CORES", "1");
        let mut process = stage.lab.start(POD, "ringway-waypoint", &program)?;
        let ready = SocketAddr::from(([127, 0, 0, 1], 15021));
        wait_until("the waypoint is ready", PATIENCE, || {
            !process.is_running()
                || get_from(stage.lab.namespace(POD), ready, "/healthz/ready")
                    .is_ok_and(|(code, _)| code == 200)
        })
        .with_context(|| process.log())?;
        ensure!(process.is_running(), "the waypoint ended:\n{}", process.log());
        Ok(Self { process })
    }

    /// Puts it before the reviews, or takes it away.
    fn bind(&self, stage: &Stage, bound: bool) -> Result<()> {
        let path = stage.mesh.join("reviews.yaml");
        let text = fs::read_to_string(&path)?;
        let (from, to) = if bound { (UNBOUND, BOUND) } else { (BOUND, UNBOUND) };
        ensure!(text.contains(from), "reviews.yaml has no {from:?}");
        replace(&path, &text.replace(from, to))
    }

    /// The requests it has counted with these labels.
    fn requests(&self, stage: &Stage, labels: &[(&str, &str)]) -> f64 {
        let metrics = SocketAddr::from(([127, 0, 0, 1], 15020));
        let told = get_from(stage.lab.namespace(POD), metrics, "/stats/prometheus");
        told.map_or(0.0, |(_, text)| Metrics::parse(&text).sum("istio_requests_total", labels))
    }
}

/// What the example has beside the bookstore's own files.
fn documents(example: &Path) -> Result<String> {
    let path = example.join("mesh.yaml");
    let text = fs::read_to_string(&path).with_context(|| format!("no {}", path.display()))?;
    let is = |document: &str, kind: &str, name: &str| {
        let names = [format!("metadata: {{name: {name},"), format!("metadata:\n  name: {name}\n")];
        document.contains(&format!("\nkind: {kind}\n"))
            && names.iter().any(|one| document.contains(one))
    };
    let documents: Vec<&str> = text
        .split("---\n")
        .filter(|document| NEW.iter().any(|(kind, name)| is(document, kind, name)))
        .collect();
    ensure!(documents.len() == NEW.len(), "{} is not what it was", path.display());
    Ok(documents.join("---\n"))
}

/// Waits until enough was counted to tell.
fn split(stage: &Stage, waypoint: &Waypoint) -> Result<Result<String>> {
    let ok = ("response_code", "200");
    let of = |version| waypoint.requests(stage, &[("destination_version", version), ok]);
    wait_until("120 requests", PATIENCE, || waypoint.requests(stage, &[ok]) >= 120.0)?;
    let (one, two, three) = (of("v1"), of("v2"), of("v3"));
    let share = two / (one + two);
    // Of 120 requests, a tenth and nearly five standard deviations.
    Ok(if (0.0..=0.23).contains(&share) && two > 0.0 && three == 0.0 {
        Ok(format!("{one} to v1, {two} to v2"))
    } else {
        Err(anyhow!("{one} to v1, {two} to v2, {three} to v3"))
    })
}

fn asked(stage: &Stage, headers: &str) -> Result<(u16, String)> {
    let to = REVIEWS.parse()?;
    Ok(ask_from(stage.lab.namespace("productpage-v1"), to, "/reviews/0", headers, PATIENCE)?)
}

fn by_header(stage: &Stage) -> Result<String> {
    for _ in 0..10 {
        let (status, body) = asked(stage, "end-user: jason\r\n")?;
        ensure!(status == 200 && body.contains("reviews-v2"), "{status}: {body}");
    }
    Ok("ten of ten".to_owned())
}

fn times_out(stage: &Stage) -> Result<String> {
    let from = stage.lab.namespace("productpage-v1");
    let (status, body) = get_from(from, REVIEWS.parse()?, "/reviews/slow")?;
    ensure!(status == 504, "{status}: {body}");
    Ok("504".to_owned())
}

fn denied(stage: &Stage, pod: &str, path: &str) -> Result<String> {
    let (status, body) = get_from(stage.lab.namespace(pod), REVIEWS.parse()?, path)?;
    ensure!(status == 403, "{status}: {body}");
    Ok(format!("{pod} asks for {path}: 403, {body:?}"))
}
