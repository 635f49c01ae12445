//! Judges open inbound connections again when policies, or what they apply to, have changed.
//!
//! When a snapshot is published, each pod's policies are compared with those of the snapshot before: by address, so
//! that whatever else changed costs nothing. The connections of pods for which they differ are judged with
//! the workload as it is now, some at a time so that the shard's other work goes on; those that are
//! refused are cut.
//!
//! A workload that names a policy nobody has told us of keeps its connections for [`POLICY_TIMEOUT`]: the policy may be on
//! its way. A workload that is gone keeps them until it is withdrawn.

use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet},
    rc::Rc,
    sync::Arc,
    time::Instant,
};

use crate::{
    close::CloseReason,
    connection::JudgedAgain,
    decide::Refusal,
    limits::{JUDGED_PER_SLICE, POLICY_TIMEOUT},
    publish::HeldSnapshot,
    runtime,
    shard::Shard,
    single::{Running, Single},
};

/// What one shard has to judge again.
pub(crate) struct Rejudging {
    /// What every connection is judged by, or is about to be.
    snapshot: RefCell<Rc<HeldSnapshot>>,
    /// The pods whose connections are to be judged.
    due: RefCell<BTreeSet<Arc<str>>>,
    /// Those whose connections are being judged. What a panic leaves here is judged by the next task.
    in_hand: RefCell<BTreeSet<Arc<str>>>,
    task: Single,
    /// The pods whose workload names a policy nobody has told us of, and until when that is borne.
    awaiting: RefCell<BTreeMap<Arc<str>, Instant>>,
}

impl Rejudging {
    pub(crate) fn new(snapshot: Rc<HeldSnapshot>) -> Rejudging {
        Rejudging {
            snapshot: RefCell::new(snapshot),
            due: RefCell::default(),
            in_hand: RefCell::default(),
            task: Single::default(),
            awaiting: RefCell::default(),
        }
    }

    /// Takes `snapshot` as the one to judge by; nothing when it is already, or else the one before.
    pub(crate) fn follow(&self, snapshot: &Rc<HeldSnapshot>) -> Option<Rc<HeldSnapshot>> {
        let mut held = self.snapshot.borrow_mut();
        (!Rc::ptr_eq(&held, snapshot)).then(|| std::mem::replace(&mut *held, snapshot.clone()))
    }

    /// Whether connections are being judged.
    pub(crate) fn is_running(&self) -> bool {
        self.task.is_running()
    }

    /// Forgets a pod that was withdrawn.
    pub(crate) fn forget(&self, pod: &str) {
        self.awaiting.borrow_mut().remove(pod);
    }
}

/// Begins to judge again whatever may be judged otherwise by `now` than by `before`.
pub(crate) fn snapshot_changed(shard: &Rc<Shard>, before: &HeldSnapshot, now: &HeldSnapshot) {
    for pod in shard.pods() {
        // One that is gone is cut when it is withdrawn, and not before.
        let Some(workload) = now.workload_of(&pod.workload) else { continue };
        let former = before.workload_of(&pod.workload);
        if !former.is_some_and(|former| now.judges_alike(workload, before, former)) {
            shard.rejudging.due.borrow_mut().insert(pod.uid.clone());
            await_policies(shard, &pod.uid, now.knows_policies_of(workload));
        }
    }
    start(shard);
}

/// Bears an unknown policy for a while, from when it was first named.
fn await_policies(shard: &Rc<Shard>, pod: &Arc<str>, are_known: bool) {
    let mut awaiting = shard.rejudging.awaiting.borrow_mut();
    if are_known {
        awaiting.remove(pod);
    } else if !awaiting.contains_key(pod) {
        awaiting.insert(pod.clone(), runtime::now() + POLICY_TIMEOUT);
        let (shard, pod) = (shard.clone(), pod.clone());
        runtime::spawn_for_shard(async move {
            runtime::sleep(POLICY_TIMEOUT).await;
            // Known by now or not: judging once more changes nothing that is right.
            shard.rejudging.due.borrow_mut().insert(pod);
            start(&shard);
        });
    }
}

fn start(shard: &Rc<Shard>) {
    let rejudging = &shard.rejudging;
    if rejudging.due.borrow().is_empty() && rejudging.in_hand.borrow().is_empty() {
        return;
    }
    if let Some(running) = rejudging.task.begin() {
        rejudging.due.borrow_mut().append(&mut rejudging.in_hand.borrow_mut());
        runtime::spawn_for_shard(judge_what_is_due(shard.clone(), running));
    }
}

async fn judge_what_is_due(shard: Rc<Shard>, _running: Running) {
    loop {
        shard.rejudging.in_hand.replace(shard.rejudging.due.take());
        if shard.rejudging.in_hand.borrow().is_empty() {
            return;
        }
        let mut slots = 0..JUDGED_PER_SLICE;
        while shard.connections.judge_again(slots.clone(), |asked| judge(&shard, asked)) {
            slots = slots.end..slots.end + JUDGED_PER_SLICE;
            runtime::yield_now().await;
        }
    }
}

/// Why the connection is to be cut, if it is.
fn judge(shard: &Shard, asked: &JudgedAgain<'_>) -> Option<CloseReason> {
    if !shard.rejudging.in_hand.borrow().contains(asked.pod()) {
        return None;
    }
    let snapshot = shard.snapshot();
    let workload = snapshot.workload_of(&shard.pod(asked.pod())?.workload)?;
    let refusal = asked.authorize(&snapshot, workload).err()?;
    let is_borne = matches!(refusal, Refusal::UnknownPolicy { .. })
        && is_awaited(&shard.rejudging, asked.pod());
    (!is_borne).then_some(CloseReason::PolicyChanged(refusal))
}

fn is_awaited(rejudging: &Rejudging, pod: &str) -> bool {
    rejudging.awaiting.borrow().get(pod).is_some_and(|until| runtime::now() < *until)
}
