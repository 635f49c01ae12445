//! Stories of the machine. Namespaces are numbers; jobs end as the story says.

use std::time::{Duration, Instant};

use prost::Message;

use crate::cni::message::PodInfo;
use crate::cni::session::{Job, Outcome, Session, Step};
use crate::cni::socket::{NamespaceId, Packet};
use crate::proto::zds;
use crate::proto::zds::workload_request::Payload;

/// What came of a packet.
#[derive(Debug, PartialEq, Eq)]
enum Got {
    Ok,
    Error(String),
    Dropped(String),
}

struct Story {
    session: Session<u64>,
    now: Instant,
    /// What was done about pods: `start web@1`, `restart web@2`, `stop web`.
    jobs: Vec<String>,
    /// How the next attempts to serve a pod end, if not well.
    outcomes: Vec<Outcome>,
}

impl Story {
    /// An agent has connected.
    fn begin() -> Story {
        let mut story =
            Story { session: Session::new(), now: Instant::now(), jobs: vec![], outcomes: vec![] };
        story.connect();
        story
    }

    fn connect(&mut self) {
        assert_eq!(self.session.connected(), [8, 1], "the greeting");
    }

    /// An agent that has named these pods, and all listeners are bound.
    fn live(pods: &[(&str, u64)]) -> Story {
        let mut story = Story::begin();
        for (name, namespace) in pods {
            assert_eq!(story.add(name, *namespace), Got::Ok);
        }
        assert_eq!(story.snapshot_sent(), Got::Ok);
        story.jobs.clear();
        story
    }

    fn fails(&mut self, why: &str) -> &mut Story {
        self.outcomes.push(Outcome::Failed(why.to_owned()));
        self
    }

    fn refuses(&mut self, why: &str) -> &mut Story {
        self.outcomes.push(Outcome::Refused(why.to_owned()));
        self
    }

    fn add(&mut self, name: &str, namespace: u64) -> Got {
        self.add_as(name, "default", namespace)
    }

    fn add_as(&mut self, name: &str, account: &str, namespace: u64) -> Got {
        let info = zds::WorkloadInfo {
            name: name.to_owned(),
            namespace: "shop".to_owned(),
            service_account: account.to_owned(),
        };
        let add = zds::AddWorkload { uid: uid(name), workload_info: Some(info) };
        self.packet(Payload::Add(add), &[namespace])
    }

    fn del(&mut self, name: &str) -> Got {
        self.packet(Payload::Del(zds::DelWorkload { uid: uid(name) }), &[])
    }

    fn keep(&mut self, name: &str) -> Got {
        self.packet(Payload::Keep(zds::KeepWorkload { uid: uid(name) }), &[])
    }

    fn snapshot_sent(&mut self) -> Got {
        self.packet(Payload::SnapshotSent(zds::SnapshotSent {}), &[])
    }

    fn packet(&mut self, payload: Payload, namespaces: &[u64]) -> Got {
        let bytes = zds::WorkloadRequest { payload: Some(payload) }.encode_to_vec();
        self.bytes(bytes, namespaces, false)
    }

    fn bytes(&mut self, bytes: Vec<u8>, namespaces: &[u64], lost_descriptors: bool) -> Got {
        let namespaces = namespaces.iter().map(|one| (NamespaceId::new(*one), *one)).collect();
        let step = self.session.handle_packet(Packet { bytes, namespaces, lost_descriptors });
        match self.work_off(step) {
            Step::Answer(answer) => match error_of(&answer) {
                error if error.is_empty() => Got::Ok,
                error => Got::Error(error),
            },
            Step::Refuse(answer, why) => {
                assert_eq!(error_of(&answer), why, "the agent is told why");
                self.session.disconnected();
                Got::Dropped(why)
            }
            other => panic!("a request without an answer: {other:?}"),
        }
    }

    /// Lets time pass.
    fn after(&mut self, seconds: u64) {
        self.now += Duration::from_secs(seconds);
        while self.session.next_deadline().is_some_and(|due| due <= self.now) {
            let step = self.session.handle_deadline(self.now);
            assert_eq!(self.work_off(step), Step::Wait, "nothing is said unasked");
        }
    }

    fn work_off(&mut self, mut step: Step<u64>) -> Step<u64> {
        while let Step::Work(job) = step {
            let outcome = match job {
                Job::Start { uid, info, namespace, replaces } => {
                    assert_eq!(*uid, *format!("uid-{}", info.name));
                    let verb = if replaces { "restart" } else { "start" };
                    self.jobs.push(format!("{verb} {}@{namespace}", info.name));
                    if self.outcomes.is_empty() { Outcome::Done } else { self.outcomes.remove(0) }
                }
                Job::Stop(uids) => {
                    self.jobs.extend(uids.iter().map(|uid| format!("stop {}", &uid[4..])));
                    Outcome::Done
                }
            };
            step = self.session.done(outcome, self.now);
        }
        step
    }

    /// What was done since the last time.
    fn did(&mut self) -> Vec<String> {
        std::mem::take(&mut self.jobs)
    }

    /// `web Up` or `web Pending`, in order.
    fn pods(&self) -> Vec<String> {
        let seen = self.session.seen();
        let pod = |pod: &crate::cni::PodSeen| {
            let state = if pod.error.is_some() { "Pending" } else { "Up" };
            format!("{} {state}", pod.info.name)
        };
        seen.pods.values().map(pod).collect()
    }

    fn is_ready(&self) -> bool {
        self.session.seen().is_ready()
    }
}

fn uid(name: &str) -> String {
    format!("uid-{name}")
}

fn error_of(answer: &[u8]) -> String {
    let payload = zds::WorkloadResponse::decode(answer).unwrap().payload.unwrap();
    let zds::workload_response::Payload::Ack(ack) = payload;
    ack.error
}

fn dropped(got: Got) -> String {
    match got {
        Got::Dropped(why) => why,
        other => panic!("the connection should end: {other:?}"),
    }
}

const NOTHING: [&str; 0] = [];

#[test]
fn a_pod_is_served_and_acknowledged() {
    let mut story = Story::begin();
    assert_eq!(story.add("web", 1), Got::Ok);
    assert_eq!(story.did(), ["start web@1"]);
    assert!(!story.is_ready(), "not before all are named");
    assert_eq!(story.snapshot_sent(), Got::Ok);
    assert!(story.is_ready());
    assert_eq!(story.add("api", 2), Got::Ok);
    assert_eq!(story.did(), ["start api@2"]);
    assert_eq!(story.pods(), ["api Up", "web Up"]);
}

#[test]
fn a_pod_that_fails_is_told_and_tried_again_until_it_works() {
    for is_live in [false, true] {
        let mut story = if is_live { Story::live(&[]) } else { Story::begin() };
        let busy = "cannot listen on port 15008";
        let got = story.fails(busy).add("web", 1);
        assert_eq!(got, Got::Error(busy.to_owned()), "the plugin's call fails, and is repeated");
        assert_eq!(story.pods(), ["web Pending"]);
        if !is_live {
            assert_eq!(story.snapshot_sent(), Got::Ok);
        }
        assert!(!story.is_ready(), "a pod is not served");
        story.after(4);
        assert_eq!(story.did(), ["start web@1"], "not yet");
        story.fails(busy).after(1);
        story.after(5);
        assert_eq!(story.did(), ["start web@1", "start web@1"], "every five seconds");
        assert_eq!(story.pods(), ["web Up"]);
        assert!(story.is_ready());
        story.after(60);
        assert_eq!(story.did(), NOTHING);
    }
}

#[test]
fn added_again_while_it_waits_it_is_tried_at_once() {
    let mut story = Story::live(&[]);
    story.fails("busy").add("web", 1);
    assert_eq!(story.add("web", 1), Got::Ok);
    assert_eq!(story.did(), ["start web@1", "start web@1"]);
    story.after(10);
    assert_eq!(story.did(), NOTHING, "it waits no more");
    assert!(story.is_ready());
}

#[test]
fn a_pod_that_is_deleted_ends_at_once() {
    let mut story = Story::live(&[("web", 1)]);
    assert_eq!(story.del("web"), Got::Ok);
    assert_eq!(story.did(), ["stop web"]);
    assert_eq!(story.pods(), NOTHING);
    assert_eq!(story.del("web"), Got::Ok, "nobody minds one that is not there");
    assert_eq!(story.did(), NOTHING);
    assert_eq!(story.add("web", 2), Got::Ok);
    assert_eq!(story.did(), ["start web@2"], "and it may come back");
}

#[test]
fn deleting_ends_the_waiting() {
    let mut story = Story::live(&[]);
    story.fails("busy").add("web", 1);
    assert_eq!(story.del("web"), Got::Ok);
    assert_eq!(story.pods(), NOTHING);
    story.did();
    story.after(60);
    assert_eq!(story.did(), NOTHING);
    assert!(story.is_ready());
}

#[test]
fn deleted_before_the_snapshot_it_ends_with_the_snapshot() {
    let mut story = Story::begin();
    story.add("web", 1);
    assert_eq!(story.del("web"), Got::Ok);
    assert_eq!(story.did(), ["start web@1"]);
    assert_eq!(story.snapshot_sent(), Got::Ok);
    assert_eq!(story.did(), ["stop web"]);
    // And one that waits is not even that.
    let mut story = Story::begin();
    story.fails("busy").add("web", 1);
    assert_eq!(story.del("web"), Got::Ok);
    story.did();
    assert_eq!(story.snapshot_sent(), Got::Ok);
    assert_eq!(story.did(), NOTHING);
}

#[test]
fn added_deleted_and_added_before_the_snapshot_it_stays() {
    let mut story = Story::begin();
    story.add("web", 1);
    story.del("web");
    assert_eq!(story.add("web", 1), Got::Ok);
    assert_eq!(story.snapshot_sent(), Got::Ok);
    assert_eq!(story.did(), ["start web@1"], "it was never away");
    assert_eq!(story.pods(), ["web Up"]);
}

#[test]
fn the_same_pod_in_the_same_namespace_is_nothing_new() {
    let mut story = Story::live(&[("web", 1)]);
    assert_eq!(story.add("web", 1), Got::Ok);
    assert_eq!(story.did(), NOTHING);
}

#[test]
fn another_namespace_or_another_account_replaces_it() {
    let mut story = Story::live(&[("web", 1)]);
    assert_eq!(story.add("web", 2), Got::Ok);
    assert_eq!(story.did(), ["restart web@2"], "its sandbox was made anew");
    assert_eq!(story.add_as("web", "other", 2), Got::Ok);
    assert_eq!(story.did(), ["restart web@2"], "it must not go on as somebody it is not");
    let got = story.fails("busy").add("web", 3);
    assert_eq!(
        (got, story.pods()),
        (Got::Error("busy".to_owned()), vec!["web Pending".to_owned()])
    );
    story.did();
    story.after(5);
    assert_eq!(story.did(), ["start web@3"], "what was before has ended already");
}

#[test]
fn what_is_no_namespace_is_refused_and_changes_nothing() {
    let mut story = Story::live(&[("web", 1)]);
    let got = story.refuses("no network namespace").add("api", 7);
    assert_eq!(got, Got::Error("no network namespace".to_owned()));
    let got = story.refuses("no network namespace").add("web", 8);
    assert_eq!(got, Got::Error("no network namespace".to_owned()));
    assert_eq!(story.pods(), ["web Up"], "the one before goes on");
    story.did();
    story.after(60);
    assert_eq!(story.did(), NOTHING, "trying again would not help");
    assert!(story.is_ready());
    assert_eq!(story.add("web", 1), Got::Ok);
    assert_eq!(story.did(), NOTHING, "it is where it was");
}

#[test]
fn an_agent_that_comes_back_names_all_or_loses_them() {
    let mut story = Story::live(&[("added", 1), ("gone", 2), ("kept", 3), ("moved", 4)]);
    story.session.disconnected();
    assert!(!story.is_ready(), "without an agent no pod can start");
    assert_eq!(story.pods().len(), 4, "but those that are there go on");
    story.connect();
    assert_eq!(story.add("added", 1), Got::Ok);
    assert_eq!(story.keep("kept"), Got::Ok);
    assert_eq!(story.keep("never-seen"), Got::Ok);
    assert_eq!(story.add("moved", 5), Got::Ok);
    assert!(!story.is_ready());
    assert_eq!(story.did(), ["restart moved@5"]);
    assert_eq!(story.snapshot_sent(), Got::Ok);
    assert_eq!(story.did(), ["stop gone"]);
    assert_eq!(story.pods(), ["added Up", "kept Up", "moved Up"]);
    assert!(story.is_ready());
}

#[test]
fn who_waits_is_forgotten_with_the_connection() {
    let mut story = Story::live(&[]);
    story.fails("busy").add("web", 1);
    story.did();
    story.session.disconnected();
    assert_eq!(story.session.next_deadline(), None, "nobody could say that it has gone");
    story.after(60);
    assert_eq!(story.did(), NOTHING);
    story.connect();
    assert_eq!(story.pods(), NOTHING);
    assert_eq!(story.snapshot_sent(), Got::Ok);
    assert_eq!(story.did(), NOTHING, "and not stopped either");
}

#[test]
fn what_cannot_be_ends_the_connection_and_no_pod() {
    let no_info = Payload::Add(zds::AddWorkload { uid: uid("x"), workload_info: None });
    let del = Payload::Del(zds::DelWorkload { uid: uid("web") });
    //  name                            what is done                                        why
    type Misdeed = Box<dyn Fn(&mut Story) -> Got>;
    let rows: [(&str, Misdeed, &str); 8] = [
        (
            "add without info",
            Box::new(move |s| s.packet(no_info.clone(), &[7])),
            "does not say who",
        ),
        ("del with a namespace", Box::new(move |s| s.packet(del.clone(), &[7])), "brings 1 desc"),
        ("keep after the snapshot", Box::new(|s| s.keep("web")), "only Add and Del"),
        ("a second snapshot", Box::new(|s| s.snapshot_sent()), "a second snapshot"),
        ("no message", Box::new(|s| s.bytes(vec![0xff; 9], &[], false)), "cannot be decoded"),
        (
            "half a message",
            Box::new(|s| s.bytes(b"\x12\x09\x12\x05u".to_vec(), &[], false)),
            "cannot",
        ),
        ("nothing", Box::new(|s| s.bytes(vec![], &[3], false)), "asks for nothing"),
        ("too much", Box::new(|s| s.bytes(vec![0; 1025], &[], false)), "longer than 1024"),
    ];
    for (name, misdeed, why) in rows {
        let mut story = Story::live(&[("web", 1)]);
        let got = dropped(misdeed(&mut story));
        assert!(got.contains(why), "{name}: {got}");
        assert_eq!(story.pods(), ["web Up"], "{name}");
        assert!(!story.is_ready(), "{name}");
        assert_eq!(story.did(), NOTHING, "{name}");
        // And the next connection is as good as any.
        story.connect();
        assert_eq!((story.add("web", 1), story.snapshot_sent()), (Got::Ok, Got::Ok), "{name}");
        assert!(story.is_ready(), "{name}");
    }
}

#[test]
fn a_descriptor_lost_for_want_of_room_is_asked_for_again() {
    let add = || {
        let info =
            zds::WorkloadInfo { name: "n".into(), namespace: "s".into(), ..Default::default() };
        let add = zds::AddWorkload { uid: "u".into(), workload_info: Some(info) };
        zds::WorkloadRequest { payload: Some(Payload::Add(add)) }.encode_to_vec()
    };
    let mut story = Story::live(&[("web", 1)]);
    let got = story.bytes(add(), &[], true);
    assert!(
        matches!(got, Got::Error(why) if why.contains("descriptors")),
        "the plugin tries again"
    );
    assert_eq!(story.del("web"), Got::Ok, "and the connection goes on");
    let mut story = Story::begin();
    let why = dropped(story.bytes(add(), &[], true));
    assert!(why.contains("descriptors"), "only a new snapshot names the pod again: {why}");
}

#[test]
fn there_is_an_end_to_pods() {
    let mut story = Story::begin();
    for number in 0..4096 {
        assert_eq!(story.add(&format!("p{number}"), number), Got::Ok);
    }
    assert!(matches!(story.add("more", 9999), Got::Error(_)));
    assert!(matches!(story.keep("more"), Got::Error(_)));
    assert_eq!(story.add("p7", 7), Got::Ok, "one that is there may be named again");
    assert_eq!(story.snapshot_sent(), Got::Ok);
    assert_eq!(story.pods().len(), 4096);
}

#[test]
fn starts_and_ends_are_counted() {
    let mut story = Story::live(&[("a", 1), ("b", 2)]);
    story.add("a", 3);
    story.fails("busy").add("c", 4);
    story.del("b");
    let seen = story.session.seen();
    assert_eq!((seen.started, seen.stopped), (3, 2));
    let want =
        PodInfo { name: "a".into(), namespace: "shop".into(), service_account: "default".into() };
    assert_eq!(seen.pods["uid-a"].info, want);
}
