//! What happens around the connections of a run: the mesh changes, hosts go and come back, certificates
//! and clocks fail. Each seed draws its own mix.

use std::{cell::RefCell, collections::BTreeMap, rc::Rc, sync::Arc, time::Duration};

use ringway_engine::runtime::{Task, random, sleep, spawn};

use crate::{
    applications::Tally,
    authority::Authority,
    hostile::Hostile,
    mesh::{Mesh, PODS, identity, uid},
    oracle,
};

/// Which kinds of weather a run has.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Weather {
    seed: u64,
    swaps: bool,
    pub(crate) policies: bool,
    enrolment: bool,
    hosts: bool,
    certificates: bool,
    clock: bool,
    hostile: bool,
    moves: bool,
    /// The hosts are drained while clients are still there.
    pub(crate) early_drain: bool,
}

/// What was really done, and how often.
#[derive(Default)]
pub(crate) struct Done(pub(crate) RefCell<BTreeMap<String, u64>>);

impl Done {
    /// Connections that were moved.
    pub(crate) fn moved(&self) -> u64 {
        self.0.borrow().get("connections moved").copied().unwrap_or(0)
    }

    fn count(&self, what: &str) {
        *self.0.borrow_mut().entry(what.to_owned()).or_default() += 1;
    }
}

impl Weather {
    /// Each kind in one run of three, and one run of eight has none.
    pub(crate) fn drawn_from(seed: u64) -> Self {
        let mut state = seed ^ 0x005e_ed0f_5eed;
        let mut drawn = |one_in: u64| {
            state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            (mixed ^ (mixed >> 31)).is_multiple_of(one_in)
        };
        let fair = drawn(8);
        let mut kind = || drawn(3) && !fair;
        Self {
            seed,
            swaps: kind(),
            policies: kind(),
            enrolment: kind(),
            hosts: kind(),
            certificates: kind(),
            clock: kind(),
            hostile: kind(),
            moves: kind(),
            early_drain: kind(),
        }
    }

    /// Begins whatever is drawn. The tasks end by themselves, and leave the mesh as it was.
    pub(crate) fn begin(
        self,
        mesh: &Rc<Mesh>,
        tally: &Rc<Tally>,
        done: &Rc<Done>,
        authorities: &Arc<[Authority; 2]>,
    ) -> (Vec<Task>, Rc<Hostile>) {
        let hostile = Hostile::new(mesh, tally, &authorities[0], &authorities[1], self.seed);
        let (mesh, done) = (|| mesh.clone(), || done.clone());
        let mut tasks = Vec::new();
        if self.swaps {
            tasks.push(spawn(swaps(mesh(), done())));
        }
        if self.policies {
            tasks.push(spawn(policies(mesh(), done())));
        }
        if self.enrolment {
            tasks.push(spawn(enrolment(mesh(), done())));
        }
        if self.hosts {
            tasks.push(spawn(hosts(mesh(), done())));
        }
        if self.certificates {
            tasks.push(spawn(certificates(mesh(), done(), authorities.clone())));
        }
        if self.clock {
            tasks.push(spawn(clock(mesh(), done())));
        }
        if self.moves {
            tasks.push(spawn(moves(mesh(), done())));
        }
        if self.hostile {
            tasks.push(spawn(hostile.clone().run()));
            tasks.push(spawn(hostile.clone().run()));
        }
        (tasks, hostile)
    }
}

async fn pause(most_ms: u64) {
    sleep(Duration::from_millis(1 + random() % most_ms)).await;
}

/// Changes that concern nobody.
async fn swaps(mesh: Rc<Mesh>, done: Rc<Done>) {
    for _ in 0..15 {
        pause(40).await;
        let mut open = 0;
        for host in &mesh.hosts {
            open += host.connections().await.len();
        }
        mesh.publish();
        if open > 0 {
            done.count("swaps with connections open");
        }
    }
}

async fn policies(mesh: Rc<Mesh>, done: Rc<Done>) {
    for _ in 0..6 {
        let drawn = oracle::draw(&mut |below| random() % below);
        mesh.set_policies(drawn);
        done.count("policy sets");
        pause(200).await;
    }
    mesh.set_policies(Vec::new());
}

/// Pods are withdrawn and enrolled again under load.
async fn enrolment(mesh: Rc<Mesh>, done: Rc<Done>) {
    for _ in 0..3 {
        pause(200).await;
        let (name, _, host) = PODS[(random() % 4) as usize];
        let open = mesh.hosts[host].connections().await;
        mesh.withdraw_one(name).await;
        if open.iter().any(|open| *open.workload == *crate::mesh::uid(name)) {
            done.count("withdrawals with connections open");
        }
        pause(100).await;
        mesh.enroll_one(name).await;
    }
}

/// Live plain connections change from one process to the next, which here is the same one.
async fn moves(mesh: Rc<Mesh>, done: Rc<Done>) {
    let pods = Arc::new(PODS.iter().map(|(name, ..)| uid(name).into()).collect());
    for _ in 0..100 {
        pause(10).await;
        for host in &mesh.hosts {
            for connection in host.call_away(&pods, 1 + random() as usize % 4).await {
                done.count("connections moved");
                host.resume(connection);
            }
        }
    }
}

/// A serving pod's host goes and comes back.
async fn hosts(mesh: Rc<Mesh>, done: Rc<Done>) {
    for _ in 0..2 {
        pause(300).await;
        let namespace = mesh.namespace(if random().is_multiple_of(2) { "b1" } else { "b2" });
        mesh.world.unplug(namespace);
        done.count("hosts unplugged");
        pause(5_000).await;
        mesh.world.plug_in(namespace);
    }
}

/// Certificates are not there yet, run out, and are replaced.
async fn certificates(mesh: Rc<Mesh>, done: Rc<Done>, authorities: Arc<[Authority; 2]>) {
    let authority = &authorities[0];
    for _ in 0..3 {
        pause(200).await;
        let name = PODS[(random() % 4) as usize].0;
        match random() % 3 {
            0 => {
                done.count("certificates not there");
                mesh.credentials.borrow_mut().remove(name);
                mesh.publish();
                // Shorter, or longer, than a connection waits for one.
                pause(8_000).await;
            }
            1 => {
                done.count("certificates that run out");
                let end = mesh.world.elapsed() + Duration::from_secs(1);
                let short = authority.issue_until(&identity(name), end);
                mesh.credentials.borrow_mut().insert(name, short);
                mesh.publish();
                pause(3_000).await;
            }
            _ => done.count("certificates replaced"),
        }
        mesh.credentials.borrow_mut().insert(name, authority.issue(&identity(name)));
        mesh.publish();
    }
}

/// The wall clock jumps: a little, ten days, past the end of every certificate, before their beginning.
async fn clock(mesh: Rc<Mesh>, done: Rc<Done>) {
    const DAY: i64 = 86_400;
    for _ in 0..3 {
        pause(200).await;
        let by = [60, 10 * DAY, 2_000 * DAY, -10 * DAY][(random() % 4) as usize];
        mesh.world.set_wall_clock(by);
        done.count("clock jumps");
        pause(300).await;
        mesh.world.set_wall_clock(0);
    }
}
