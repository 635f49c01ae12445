//! A node hands over to a successor.
//!
//! ```text
//!            asked          no job under way         ready            serving
//!   Nothing ──────▶ Asked ──────────────────▶ UnderWay ──▶ UnderWay ──────────▶ give_away ─▶ end
//!      ▲                                          │ anything else │
//!      └──────────────────────────────────────────┴───────────────┘  rolled back: nothing has changed
//! ```
//!
//! While a hand-over is under way, what is captured does not change: reloads and jobs wait.

use tokio::task::JoinHandle;

use crate::handover::channel::Breaker;
use crate::handover::control_socket::{Answer, Ask};
use crate::handover::predecessor::Heir;

/// See the module's drawing.
#[derive(Default)]
pub(super) enum HandingOver {
    #[default]
    Nothing,
    Asked(Ask),
    /// A successor is prepared, or was told to serve: the next step ends with it, further by that one step.
    UnderWay(Ask, Breaker, JoinHandle<Result<Heir, String>>),
}

impl HandingOver {
    pub(super) fn is_none(&self) -> bool {
        matches!(self, Self::Nothing)
    }

    /// Takes note that a hand-over is wanted; one is enough.
    pub(super) fn ask(&mut self, ask: Ask) {
        if self.is_none() {
            *self = Self::Asked(ask);
        } else {
            tracing::warn!("a hand-over is under way: the second one is refused");
            answer(ask, rolled_back("a hand-over is under way already"));
        }
    }

    /// Waits for the step under way; for ever, when there is none. [`step_ended`](Self::step_ended) wants to know.
    pub(super) async fn step(&mut self) -> Result<Heir, String> {
        match self {
            Self::UnderWay(_, _, step) => match step.await {
                Ok(outcome) => outcome,
                Err(panic) => Err(format!("the hand-over broke: {panic}")),
            },
            _ => std::future::pending().await,
        }
    }

    /// Goes on to the next step: a successor that is ready is let serve. One that serves is returned; one that is not
    /// ready, or does not serve, has been ended, and nothing has changed.
    pub(super) fn step_ended(&mut self, outcome: Result<Heir, String>) -> Option<Heir> {
        let Self::UnderWay(ask, breaker, _) = std::mem::take(self) else { return outcome.ok() };
        match outcome {
            Ok(mut heir) if !heir.serves() => {
                let serving = tokio::task::spawn_blocking(move || heir.serve().map(|()| heir));
                *self = Self::UnderWay(ask, breaker, serving);
                None
            }
            Ok(heir) => {
                answer(ask, Answer::HandedOver { from: std::process::id(), to: heir.id() });
                Some(heir)
            }
            Err(why) => {
                tracing::error!(why, "no hand-over: this process goes on, nothing has changed");
                answer(ask, rolled_back(&why));
                None
            }
        }
    }

    /// Ends it, with whatever has been prepared. A successor that has just begun to serve is the node, and is returned.
    pub(super) async fn abandon(&mut self, why: &str) -> Option<Heir> {
        match std::mem::take(self) {
            Self::Nothing => None,
            Self::Asked(ask) => {
                answer(ask, abandoned(why));
                None
            }
            Self::UnderWay(ask, breaker, step) => {
                breaker.shut();
                // An heir that does not serve is ended when it is dropped.
                match step.await {
                    Ok(Ok(heir)) if heir.serves() => {
                        answer(ask, Answer::HandedOver { from: std::process::id(), to: heir.id() });
                        Some(heir)
                    }
                    _ => {
                        answer(ask, abandoned(why));
                        None
                    }
                }
            }
        }
    }
}

pub(super) fn rolled_back(why: &str) -> Answer {
    Answer::RolledBack { why: format!("nothing has changed: {why}") }
}

/// Nobody has taken over, and yet it does not go on as before.
fn abandoned(why: &str) -> Answer {
    Answer::RolledBack { why: why.to_owned() }
}

pub(super) fn answer(ask: Ask, outcome: Answer) {
    if let Some(sender) = ask.answer {
        // Whoever asked may have left.
        let _ = sender.send(outcome);
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::oneshot;

    use super::*;

    fn ask() -> (Ask, oneshot::Receiver<Answer>) {
        let (sender, answer) = oneshot::channel();
        (Ask { binary: None, answer: Some(sender) }, answer)
    }

    #[tokio::test]
    async fn nothing_has_changed_unless_the_node_ends() {
        let mut handover = HandingOver::default();
        let ((first, told_first), (second, told_second)) = (ask(), ask());
        handover.ask(first);
        handover.ask(second);
        let Answer::RolledBack { why } = told_second.await.unwrap() else {
            panic!("one is enough")
        };
        assert_eq!(why, "nothing has changed: a hand-over is under way already");
        assert!(handover.abandon("the process is told to end: it drains").await.is_none());
        let Answer::RolledBack { why } = told_first.await.unwrap() else { panic!("it ended") };
        assert_eq!(why, "the process is told to end: it drains");
    }
}
