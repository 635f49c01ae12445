//! Services that this process is no longer the waypoint of: for a while they are served as before.
//!
//! Nodes and waypoints read the same files, each when it comes to it. A node that still sends what is for such a service
//! would be refused otherwise. (The other way round the engine waits: a node may know earlier that a service has its
//! waypoint here.)

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use ringway_engine::snapshot::{NamespacedHostname, Service, Snapshot};

/// How much later than this process a node may learn it. A file is read within a second; a directory that is copied to
/// many hosts takes longer.
const LINGER: Duration = Duration::from_secs(30);

/// See the module's text.
#[derive(Debug, Default)]
pub(in crate::run) struct Lingering {
    services: BTreeMap<NamespacedHostname, Entry>,
}

#[derive(Debug)]
struct Entry {
    until: Instant,
    /// As it is configured.
    truth: Service,
}

impl Lingering {
    /// Keeps in `world`, which is about to follow on `before`, what services had before them until now.
    pub(in crate::run) fn carry(&mut self, before: &Snapshot, world: &mut Snapshot, now: Instant) {
        let mut carried = BTreeMap::new();
        let mut changed = Vec::new();
        for service in world.services() {
            let Some(old) = before.service(&service.id) else { continue };
            if has_the_same(old, service) || has_none(old) {
                continue;
            }
            // One that lingers already does so no longer for being read once more.
            let until = self.services.get(&service.id).map_or(now + LINGER, |entry| entry.until);
            if until <= now {
                continue;
            }
            let kept = Service {
                waypoint: old.waypoint.clone(),
                weighted_waypoints: old.weighted_waypoints.clone(),
                ..Service::clone(service)
            };
            carried.insert(service.id.clone(), Entry { until, truth: Service::clone(service) });
            changed.push(kept);
        }
        self.services = carried;
        changed.into_iter().for_each(|service| world.upsert_service(service));
    }

    /// Puts in `world` those whose time is over as they are configured. Returns whether there were any.
    pub(in crate::run) fn end(&mut self, world: &mut Snapshot, now: Instant) -> bool {
        let over = |(_, entry): &(&NamespacedHostname, &Entry)| entry.until <= now;
        let over: Vec<_> = self.services.iter().filter(over).map(|(id, _)| id.clone()).collect();
        for id in &over {
            if let Some(entry) = self.services.remove(id) {
                world.upsert_service(entry.truth);
            }
        }
        !over.is_empty()
    }

    /// Whether there is anything to end by now.
    pub(in crate::run) fn is_over(&self, now: Instant) -> bool {
        self.services.values().any(|entry| entry.until <= now)
    }
}

fn has_the_same(one: &Service, other: &Service) -> bool {
    one.waypoint == other.waypoint && one.weighted_waypoints == other.weighted_waypoints
}

fn has_none(service: &Service) -> bool {
    service.waypoint.is_none() && service.weighted_waypoints.is_empty()
}

#[cfg(test)]
mod tests {
    use ringway_engine::snapshot::{GatewayAddress, GatewayDestination};

    use super::*;

    fn service(waypoint: Option<&str>) -> Service {
        let mut service = Service::new(NamespacedHostname::new("default", "web.example"));
        service.waypoint = waypoint.map(|host| GatewayAddress {
            destination: GatewayDestination::Hostname(NamespacedHostname::new("default", host)),
            hbone_mtls_port: 15008,
        });
        service
    }

    fn world(waypoint: Option<&str>) -> Snapshot {
        let mut world = Snapshot::new("");
        world.upsert_service(service(waypoint));
        world
    }

    fn has(world: &Snapshot) -> bool {
        !has_none(world.service(&service(None).id).unwrap())
    }

    #[test]
    fn a_service_keeps_its_waypoint_for_a_while_and_no_longer() {
        let mut lingering = Lingering::default();
        let now = Instant::now();
        let mut next = world(None);
        lingering.carry(&world(Some("us")), &mut next, now);
        assert!(has(&next) && !lingering.is_over(now));
        // Read once more meanwhile: its time does not begin anew.
        let mut again = world(None);
        lingering.carry(&next, &mut again, now + LINGER / 2);
        assert!(has(&again));
        let later = now + LINGER;
        assert!(lingering.is_over(later) && lingering.end(&mut again, later));
        assert!(!has(&again) && !lingering.is_over(later));
        let mut after = world(None);
        lingering.carry(&again, &mut after, later);
        assert!(!has(&after));
    }

    #[test]
    fn one_that_comes_back_or_never_had_one_does_not_linger() {
        let mut lingering = Lingering::default();
        let now = Instant::now();
        let mut bound = world(Some("us"));
        lingering.carry(&world(None), &mut bound, now);
        assert!(has(&bound));
        let mut unbound = world(None);
        lingering.carry(&bound, &mut unbound, now);
        let mut back = world(Some("us"));
        lingering.carry(&unbound, &mut back, now);
        assert!(!lingering.is_over(now + LINGER * 2), "nothing is taken from it later");
        assert!(has(&back));
    }
}
