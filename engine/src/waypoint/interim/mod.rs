//! What a backend says before it answers (RFC 9110 §15.2): that it wants the body, and hints.
//!
//! ```text
//!  backend ─100─▶ Listening ─▶ Gate opens: the body is asked of the client, who is told to go on
//!          ─103─▶ Listening ─▶ InterimSink: between two writes of hyper's, or a head on the stream
//!          ─2xx─▶ Listening ─▶ Gate opens, as if it had asked: who takes the request takes its body
//!          ─else▶ Listening ─▶ a Gate that is still shut stays so: the body goes to nobody
//! ```

mod gate;
mod http1;
mod http2;
mod sink;

use std::{
    future::{Future, poll_fn},
    pin::Pin,
    rc::Rc,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    task::Waker,
};

use crossbeam_queue::SegQueue;
use http::{HeaderMap, Request, StatusCode, header};
use http_body::Body;

pub(crate) use self::{
    gate::{Expected, Gate, Unwanted},
    http1::Http1Interims,
    http2::Http2Interims,
    sink::InterimSink,
};
use super::{upload::Attempt, upstream::Dialect};
use crate::limits::INTERIM_ANSWERS_MAX;

/// What an HTTP/1 backend has said of one request. hyper wants it to be fit for other threads; it is on none.
#[derive(Default)]
struct Said {
    heads: SegQueue<(StatusCode, HeaderMap)>,
    /// It wants the body.
    asked: AtomicBool,
    /// Of the task that waits for the answer.
    waker: OnceLock<Waker>,
}

impl Said {
    fn tell(&self, status: StatusCode, headers: &HeaderMap) {
        if status == StatusCode::CONTINUE {
            self.asked.store(true, Relaxed);
        } else if self.heads.len() < INTERIM_ANSWERS_MAX {
            self.heads.push((status, headers.clone()));
        }
        if let Some(waker) = self.waker.get() {
            waker.wake_by_ref();
        }
    }
}

/// Hears what is said of a request before its answer.
pub(crate) struct Listening {
    said: Option<Arc<Said>>,
    gate: Option<Rc<Gate>>,
    sink: Option<InterimSink>,
}

impl Listening {
    /// From before the request is sent on, for the client at `sink`; a body that it sends only when it is asked waits.
    pub(crate) fn begin(
        request: &mut Request<Attempt>,
        dialect: Dialect,
        sink: Option<&InterimSink>,
    ) -> Self {
        let to_ask = request.headers().contains_key(header::EXPECT);
        let gate = (to_ask && !request.body().is_end_stream()).then(Gate::shut_for_now);
        if let Some(gate) = &gate {
            request.body_mut().wait_at(gate.clone());
        }
        let listening = Self { said: None, gate, sink: sink.cloned() };
        if dialect == Dialect::Http2 || !listening.hears() {
            return listening;
        }
        let said = Arc::new(Said::default());
        let teller = said.clone();
        hyper::ext::on_informational(request, move |interim| {
            teller.tell(interim.status(), interim.headers());
        });
        Self { said: Some(said), ..listening }
    }

    /// Whether anybody wants to know.
    pub(crate) fn hears(&self) -> bool {
        self.gate.is_some() || self.sink.is_some()
    }

    /// What keeps the body from being sent once the request is over.
    pub(crate) fn expected(&self) -> Option<Expected> {
        self.gate.clone().map(Expected)
    }

    /// The backend has answered.
    pub(crate) fn answered(&self, status: StatusCode) {
        match &self.gate {
            Some(gate) if !status.is_success() => gate.stay_shut(),
            _ => self.ask(),
        }
    }

    /// The backend wants the body. The client is told at once: nobody may come to read it before the answer's head is sent.
    fn ask(&self) {
        let Some(gate) = &self.gate else { return };
        gate.open();
        if let Some(sink) = &self.sink {
            sink.ask();
        }
    }

    /// Waits for the answer of an HTTP/1 backend, and tells the client what comes before it.
    pub(crate) async fn until<T>(&self, mut answer: Pin<&mut impl Future<Output = T>>) -> T {
        poll_fn(|cx| {
            if let Some(said) = &self.said {
                said.waker.get_or_init(|| cx.waker().clone());
                if said.asked.swap(false, Relaxed) {
                    self.hear(StatusCode::CONTINUE, &HeaderMap::new());
                }
                while let Some((status, headers)) = said.heads.pop() {
                    self.hear(status, &headers);
                }
            }
            answer.as_mut().poll(cx)
        })
        .await
    }

    /// The backend has said something.
    pub(crate) fn hear(&self, status: StatusCode, headers: &HeaderMap) {
        match status {
            StatusCode::CONTINUE => self.ask(),
            status => self.sink.iter().for_each(|sink| sink.put(status, headers)),
        }
    }
}
