//! Copies of requests, for whoever the mirrors of a rule name.
//!
//! ```text
//!  tries ─▶ copy ─ its body has come whole ─▶ send, at whom each mirror names ─▶ the answer is looked at, and dropped
//!    └────▶ run: the request itself, which knows nothing of copies                └▶ comparison ◀─ its own answer
//! ```
//!
//! A copy goes whole or not at all, in a task of its own: what becomes of it changes nothing about its request. It is what
//! the request's own backend gets, but for the host. It has no record and counts in no metric of requests: no client has made
//! it. How its answer differs from the client's is told, see `comparison`.

use std::{future::poll_fn, pin::Pin, rc::Rc, sync::Arc};

use http::request::Parts;
use http_body::Body;
use ringway_http::filter;

use super::{
    comparison::{Comparison, Looking},
    exchange::AsksForUpgrade,
    places::Place,
    plan::Plan,
    record::Recorder,
    serve::Downstream,
    tries::{Answered, Tries},
    upload::Upload,
};
use crate::{
    limits::{MIRRORED_MAX, MIRRORED_TIMEOUT},
    runtime,
    snapshot::Workload,
    telemetry::http::Answer,
};

/// Begins to copy a request that is about to be sent, before anything of its body is.
pub(crate) fn copy(tries: &Tries<'_>, recorder: &mut Recorder) {
    // What becomes another protocol has no answer that could be dropped.
    if tries.plan.mirrors.is_empty() || tries.parts.extensions.get::<AsksForUpgrade>().is_some() {
        return;
    }
    let shard = &tries.downstream.shard;
    let comparison = Comparison::begin(shard, recorder.rule.as_deref(), tries.parts);
    recorder.compared = Some(comparison.clone());
    let mut parts = tries.parts.clone();
    filter::shadow(&mut parts);
    let (downstream, source) = (tries.downstream.clone(), tries.source.clone());
    let (was_http2, mirrors) = (tries.was_http2, tries.plan.mirrors.clone());
    let body = tries.upload.copied();
    tries.downstream.pod.spawn(async move {
        let Some(body) = body.get().await else {
            return mirrors.iter().for_each(|mirror| comparison.skipped(mirror));
        };
        for mirror in mirrors {
            let mirrored = &downstream.pod.l7.kept().mirrored;
            let Some(place) = Place::take(mirrored, MIRRORED_MAX) else {
                comparison.skipped(&mirror);
                continue;
            };
            let copied = Copied {
                downstream: downstream.clone(),
                source: source.clone(),
                plan: mirror,
                parts: parts.clone(),
                body: body.clone(),
                was_http2,
                _place: place,
            };
            let comparison = comparison.clone();
            downstream.pod.spawn(async move {
                let sending = runtime::timeout(MIRRORED_TIMEOUT, Box::pin(copied.send()));
                let answer = sending.await.ok().flatten();
                comparison.copied(&copied.plan, answer);
            });
        }
    });
}

/// A copy for one mirror.
struct Copied {
    downstream: Rc<Downstream>,
    source: Arc<Workload>,
    plan: Rc<Plan>,
    parts: Parts,
    body: Rc<Upload>,
    was_http2: bool,
    _place: Place,
}

impl Copied {
    /// Sends it, and takes the answer to its end; none: there is no whole answer.
    async fn send(&self) -> Option<Answer> {
        let began = runtime::now();
        let tries = Tries {
            downstream: &self.downstream,
            source: &self.source,
            plan: &self.plan,
            parts: &self.parts,
            upload: &self.body,
            interims: None,
            was_http2: self.was_http2,
            deadline: None,
        };
        let mut recorder = Recorder::of_copy(&self.downstream);
        let Answered { response, lease } = tries.run(&mut recorder).await.ok()?;
        let time = runtime::now().saturating_duration_since(began);
        let mut looking = Looking::at(&response);
        let mut answer = response.into_body();
        while let Some(frame) = poll_fn(|cx| Pin::new(&mut answer).poll_frame(cx)).await {
            let frame = frame.ok()?;
            if let Some(data) = frame.data_ref() {
                looking.passes(data);
            } else if let Some(trailers) = frame.trailers_ref() {
                looking.trailers(trailers);
            }
        }
        lease.give_back(answer.take_rest());
        Some(looking.ended(time))
    }
}
