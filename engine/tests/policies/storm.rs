//! What many connections at once cost others: their records, and the room for handshakes.

use std::time::Duration;

use ringway_engine::{limits::ACCESS_RECORDS_MAX, runtime::sleep};

use crate::mesh::{CLIENTS, HANDSHAKES_MAX, play};

#[test]
fn a_storm_of_one_workload_costs_another_no_record() {
    play(async |mesh| {
        for _ in 0..=ACCESS_RECORDS_MAX {
            mesh.knock("alice").await;
        }
        assert_eq!(mesh.call("bob").await, Ok(()));
        sleep(Duration::from_secs(1)).await;
        let telemetry = mesh.near.telemetry();
        let records = std::iter::from_fn(|| telemetry.next_record());
        let from: Vec<_> = records.map(|record| record.source.address.ip().to_string()).collect();
        let [alice, bob] = CLIENTS.map(|(_, ip)| from.iter().filter(|from| *from == ip).count());
        assert_eq!((alice, bob), (ACCESS_RECORDS_MAX / 2, 1));
        assert_eq!(telemetry.records_lost(), (ACCESS_RECORDS_MAX + 1 - alice) as u64);

        mesh.knock("alice").await;
        sleep(Duration::from_secs(1)).await;
        assert!(telemetry.next_record().is_some(), "there is room again");
    });
}

/// One turn accepts more than that, and none of them has begun to speak.
#[test]
fn handshakes_are_bounded_from_the_moment_of_the_accept() {
    play(async |mesh| {
        let silent = mesh.connect_to_tunnels(4 * HANDSHAKES_MAX).await;
        sleep(Duration::from_millis(100)).await;
        let reached = mesh.far.limits_reached();
        let names: Vec<_> = reached.iter().map(|row| row.limit.name()).collect();
        assert_eq!(names, ["handshakesPerWorkload"]);
        drop(silent);
        assert_eq!(mesh.call("bob").await, Ok(()), "there is room again");
    });
}
