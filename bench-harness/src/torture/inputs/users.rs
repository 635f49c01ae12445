//! H2: the abuse of B3 by those who speak HTTP with a waypoint or a gateway, without TLS and without a certificate.

use std::net::{Ipv4Addr, SocketAddr};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::super::arena::{Arena, PATIENCE, Plan, SERVED};
use super::super::hostile::Hostile;
use super::super::traffic::{Load, requests};
use super::super::trial::Trial;
use super::abuse::{ATTACKS, FRAMES, FRAMES_FIRST};
use super::kinds;
use super::layer7::{GATEWAY, GATEWAY_PORT, WAYPOINT, behind_waypoint, wait_for};
use crate::lab::Process;

/// The one kind of B3 that a user does not have: a server of HTTP takes what it is sent, so that nothing stalls behind it.
const OF_TUNNELS: &str = "empty-data-stalled";
/// The service of the null server.
const SERVICE: Ipv4Addr = Ipv4Addr::new(10, 255, 1, 9);
/// What leads from the gateway to it.
const ROUTE: &str = "---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: gateway}
spec:
  parentRefs: [{name: gateway}]
  rules: [{backendRefs: [{name: served, port: 8080}]}]
";

/// Who is abused, and by whom.
struct Abused<'a> {
    who: &'a str,
    process: Process,
    from: &'a str,
    to: SocketAddr,
}

/// Runs the row.
pub(in super::super) fn abuse_by_users(trial: &mut Trial<'_>) -> Result<()> {
    let service = behind_waypoint("served", SERVICE, [SERVED].into_iter());
    let documents = [WAYPOINT.documents(), GATEWAY.documents(), service, ROUTE.to_owned()].concat();
    let mut arena = Arena::start(Plan::new(trial.settings).documents(&documents))?;
    let waypoint = Abused {
        who: "waypoint: ",
        process: WAYPOINT.start(trial, &mut arena)?,
        from: "client",
        to: (SERVICE, SERVED).into(),
    };
    let gateway = Abused {
        who: "gateway: ",
        process: GATEWAY.start(trial, &mut arena)?,
        from: "stranger",
        to: (GATEWAY.address, GATEWAY_PORT).into(),
    };
    let kinds: Vec<&str> = ATTACKS.into_iter().filter(|name| *name != OF_TUNNELS).collect();
    for mut abused in [waypoint, gateway] {
        wait_for(&arena, &abused.process, (abused.from, abused.to), "/bytes/1")?;
        // For what is allocated once and kept for everybody.
        attack(trial, &arena, &abused, "rapid-reset", &["--again", "--frames", FRAMES_FIRST])?;
        kinds::cost(trial, (abused.who, &abused.process), &kinds, |trial, name| {
            attack(trial, &arena, &abused, name, &["--frames", FRAMES])
        })?;
        what_others_feel(trial, &arena, &abused, &kinds.join(","))?;
        ensure!(
            abused.process.is_running(),
            "{}it has ended: {}",
            abused.who,
            abused.process.log()
        );
    }
    arena.must_work()
}

/// All kinds once more, beside honest requests to the same place.
fn what_others_feel(
    trial: &mut Trial<'_>,
    arena: &Arena,
    abused: &Abused<'_>,
    kinds: &str,
) -> Result<()> {
    let (rounds, seconds) = trial.amount((1, 6.0), (5, 15.0));
    let load = |trial: &Trial<'_>| {
        let load = requests(trial, abused.to, 200, seconds);
        Load::launch(arena, abused.from, "load", load)
    };
    kinds::felt(trial, abused.who, rounds, load, |trial| {
        attack(trial, arena, abused, kinds, &["--frames", FRAMES]).map(drop)
    })
}

/// What the client tells, and the process's memory at its most.
fn attack(
    trial: &Trial<'_>,
    arena: &Arena,
    abused: &Abused<'_>,
    kinds: &str,
    frames: &[&str],
) -> Result<(Value, u64)> {
    let target = abused.to.to_string();
    let arguments = [&["--plain", "--target", &target, "--attack", kinds], frames].concat();
    let client = (abused.from, "attack");
    let client = Hostile::start(arena, trial, client, "abuse.py", &arguments)?;
    kinds::weigh(trial, client, PATIENCE * 4, &abused.process).with_context(|| kinds.to_owned())
}
