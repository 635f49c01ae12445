//! Who comes back to his backend, and how much is tried again, as documents say it.

use std::collections::BTreeMap;

use ringway_bench::lab::wait_until;

use crate::on_both_reactors;
use crate::support::PATIENCE;
use crate::support::waypoint::WaypointMesh;

on_both_reactors! {
    a_session_stays_at_its_backend,
    a_session_moves_when_its_backend_dies,
    a_session_of_elsewhere_leads_nowhere,
    a_session_goes_by_a_header,
    a_budget_stops_a_storm_of_retries,
}

/// An answer of one of the pods.
struct Answer(String);

impl Answer {
    fn of(story: &WaypointMesh, headers: &str) -> Answer {
        Answer(story.ask_whole("/", headers))
    }

    fn header(&self, name: &str) -> Option<&str> {
        let head = self.0.split("\r\n\r\n").next()?;
        head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
    }

    fn pod(&self) -> &str {
        self.header("x-pod").unwrap_or_else(|| panic!("a pod answers, not\n{}", self.0))
    }

    /// The header line by which a client goes on with the session that it was given.
    fn cookie(&self) -> String {
        let cookie = self.header("set-cookie").unwrap_or_else(|| panic!("no session:\n{}", self.0));
        format!("cookie: {}; own=1\r\n", cookie.split(';').next().unwrap())
    }
}

const SPLIT: &str = "  - matches: [{path: {type: PathPrefix, value: /}}]
    sessionPersistence: {sessionName: cart, absoluteTimeout: 1h, cookieConfig: {lifetimeType: Permanent}}
    backendRefs: [{name: web-v1, port: 80, weight: 50}, {name: web-v2, port: 80, weight: 50}]";

/// Weights are for who has no session yet.
fn a_session_stays_at_its_backend(reactor: &str) {
    let story = WaypointMesh::start(reactor, SPLIT);
    let mut sessions = BTreeMap::new();
    for _ in 0..40 {
        let first = Answer::of(&story, "");
        let told = first.header("set-cookie").unwrap();
        assert!(told.starts_with("cart="), "{told}");
        assert!(told.ends_with("; Path=/; HttpOnly; SameSite=Lax; Max-Age=3600"), "{told}");
        sessions.insert(first.pod().to_owned(), first.cookie());
    }
    let pods: Vec<&str> = sessions.keys().map(|pod| &**pod).collect();
    assert_eq!(pods, ["neighbour", "server", "server-2"], "new sessions go everywhere");
    let stay = || {
        for (pod, cookie) in &sessions {
            for _ in 0..5 {
                let again = Answer::of(&story, cookie);
                assert_eq!(again.pod(), pod, "{}\n{}", again.0, story.logs());
                assert_eq!(again.header("set-cookie"), None, "it is known already");
                assert!(again.0.contains("\r\ncookie: own=1\r\n"), "nobody else's: {}", again.0);
            }
        }
    };
    stay();
    // GEP-1619: "even if the weight is set to 0".
    story.rewrite("name: web-v2, port: 80, weight: 50", "name: web-v2, port: 80, weight: 0");
    let is_in_force = || (0..20).all(|_| Answer::of(&story, "").pod() != "neighbour");
    wait_until("nobody new goes to v2", PATIENCE, is_in_force).unwrap();
    stay();
}

fn a_session_moves_when_its_backend_dies(reactor: &str) {
    let mut story = WaypointMesh::start(
        reactor,
        "  - sessionPersistence: {idleTimeout: 1h}\n    backendRefs: [{name: web-v1, port: 80}]",
    );
    let first = (0..100).map(|_| Answer::of(&story, "")).find(|answer| answer.pod() == "server");
    let cookie = first.expect("one of two").cookie();
    assert_eq!(Answer::of(&story, &cookie).pod(), "server");
    // It ends the connection that is kept to it, and takes no other.
    story.ask_whole("/last", &cookie);
    drop(story.applications.remove(0));
    let moved = Answer::of(&story, &cookie);
    assert_eq!(moved.pod(), "server-2", "{}\n{}", moved.0, story.logs());
    let cookie = moved.cookie();
    for _ in 0..5 {
        assert_eq!(Answer::of(&story, &cookie).pod(), "server-2");
    }
}

/// Whoever wrote it: what a session names must be a backend of the rule.
fn a_session_of_elsewhere_leads_nowhere(reactor: &str) {
    let rule = |backends: &str| {
        format!(
            "  - name: all\n    sessionPersistence: {{sessionName: cart}}\n    backendRefs: [{backends}]"
        )
    };
    let story = WaypointMesh::start(reactor, &rule("{name: web-v2, port: 80}"));
    let of_neighbour = Answer::of(&story, "");
    assert_eq!(of_neighbour.pod(), "neighbour");
    let of_neighbour = of_neighbour.cookie();
    // From here on neighbour is a pod like any other that the rule does not lead to, and the cookie as good as one can be.
    story.rewrite(
        "backendRefs: [{name: web-v2, port: 80}]",
        "backendRefs: [{name: web-v1, port: 80}]",
    );
    let is_in_force = || Answer::of(&story, "").pod() != "neighbour";
    wait_until("the rule leads to v1", PATIENCE, is_in_force).unwrap();
    for cookie in [&*of_neighbour, "cookie: cart=MTAuMS4wLjE6MjI7MDswOzA\r\n", "cookie: cart=x\r\n"]
    {
        for _ in 0..5 {
            let answer = Answer::of(&story, cookie);
            assert_ne!(answer.pod(), "neighbour", "{cookie}\n{}", answer.0);
            assert!(answer.header("set-cookie").is_some(), "a session of its own begins");
        }
    }
}

fn a_session_goes_by_a_header(reactor: &str) {
    let policy = "---
apiVersion: gateway.networking.x-k8s.io/v1alpha1
kind: XBackendTrafficPolicy
metadata: {name: back}
spec:
  targetRefs: [{group: '', kind: Service, name: web-v1}]
  sessionPersistence: {type: Header, sessionName: X-Session}
";
    let rules = "  - backendRefs: [{name: web-v1, port: 80}]";
    let story = WaypointMesh::policed(reactor, rules, policy);
    let mut pods = BTreeMap::new();
    for _ in 0..20 {
        let first = Answer::of(&story, "");
        let session = format!("x-session: {}\r\n", first.header("x-session").expect("a session"));
        for _ in 0..3 {
            let again = Answer::of(&story, &session);
            assert_eq!(again.pod(), first.pod(), "{}", story.logs());
            assert!(!again.0.contains("x-session"), "it is ours, and known: {}", again.0);
        }
        pods.insert(first.pod().to_owned(), ());
    }
    assert_eq!(pods.len(), 2, "{pods:?}");
}

fn a_budget_stops_a_storm_of_retries(reactor: &str) {
    const REQUESTS: u32 = 100;
    let policy = "---
apiVersion: gateway.networking.x-k8s.io/v1alpha1
kind: XBackendTrafficPolicy
metadata: {name: calm}
spec:
  targetRefs: [{group: '', kind: Service, name: web-v2}]
  retryConstraint: {budget: {percent: 20, interval: 1h}, minRetryRate: {count: 1, interval: 1h}}
";
    let rules = "  - retry: {attempts: 3, codes: [500], backoff: 1ms}\n    backendRefs: [{name: web-v2, port: 80}]";
    let story = WaypointMesh::policed(reactor, rules, policy);
    let mut statuses = BTreeMap::new();
    for _ in 0..REQUESTS {
        let (status, _) = story.ask("/storm", "x-fails: v2\r\n");
        *statuses.entry(status).or_insert(0) += 1;
    }
    let seen = Answer::of(&story, "").header("x-seen").unwrap().parse::<u32>().unwrap() - 1;
    // Three retries of each request would be 300; a fifth of the requests, and the rate's one, are 21.
    assert!((REQUESTS + 15..=REQUESTS + 21).contains(&seen), "{seen} tries, {statuses:?}");
    assert!(statuses.keys().all(|status| [500, 503].contains(status)), "{statuses:?}");
    assert!(
        statuses[&503] > REQUESTS / 2,
        "what is not tried again is answered here: {statuses:?}"
    );
    let record = story.record("/storm");
    assert!(record["response_flags"].as_str().unwrap().contains("UO"), "{record}");
}
