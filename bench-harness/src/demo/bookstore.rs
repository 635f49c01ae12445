//! The bookstore: its hosts, pods and addresses, and how an application joins it late.
//!
//! ```text
//!   office            host-a                      host-b
//!     outside           productpage-v1              details-v1
//!                       reviews-v1                  details-v2   (joins the mesh later)
//!                       reviews-v3                  reviews-v2
//!                                                   ratings-v1
//! ```

use std::time::Duration;

/// Nothing of it takes longer, even on a busy machine.
pub(super) const PATIENCE: Duration = Duration::from_secs(30);

/// The hosts that have a proxy.
pub(super) const HOSTS: [&str; 2] = ["host-a", "host-b"];

/// The application that is not part of the mesh at first.
pub(super) const LATE: &str = "details-v2";

/// Where the page is, for a client outside the mesh.
pub(super) const PAGE: &str = "10.1.0.10:9080";

/// Its pods: their names, hosts and addresses.
pub(super) const PODS: [(&str, &str, [u8; 4]); 8] = [
    ("productpage-v1", "host-a", [10, 1, 0, 10]),
    ("reviews-v1", "host-a", [10, 1, 0, 21]),
    ("reviews-v3", "host-a", [10, 1, 0, 23]),
    ("details-v1", "host-b", [10, 2, 0, 10]),
    (LATE, "host-b", [10, 2, 0, 11]),
    ("reviews-v2", "host-b", [10, 2, 0, 22]),
    ("ratings-v1", "host-b", [10, 2, 0, 30]),
    ("outside", "office", [10, 3, 0, 10]),
];

/// Service addresses, and where they lead without a mesh.
pub(super) const SERVICES: [(&str, &str); 4] = [
    ("10.96.0.10", "10.1.0.10"),
    ("10.96.0.11", "10.2.0.10"),
    ("10.96.0.12", "10.2.0.22"),
    ("10.96.0.13", "10.2.0.30"),
];

/// The late application, as a workload.
pub(super) const LATE_POD: &str = "\
apiVersion: v1
kind: Pod
metadata: {name: details-v2, namespace: bookinfo, labels: {app: details, version: v2}}
spec:
  serviceAccountName: bookinfo-details
  nodeName: host-b
  containers: [{name: details, ports: [{name: http, containerPort: 9080}]}]
status: {podIP: 10.2.0.11}
";

/// While it joins, the page may ask it without an identity.
pub(super) const JOINING: &str = "\
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {name: details-v2-joins, namespace: bookinfo}
spec: {selector: {matchLabels: {app: details, version: v2}}, mtls: {mode: PERMISSIVE}}
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: details-v2-joins, namespace: bookinfo}
spec:
  selector: {matchLabels: {app: details, version: v2}}
  rules: [{from: [{source: {ipBlocks: [10.1.0.10]}}]}]
";
