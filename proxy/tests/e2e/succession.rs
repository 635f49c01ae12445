//! What must not change before a successor serves, and what the old process still owes after.
//!
//! All of it is about hand-overs, files and rules of ours, and in ztunnel's place there are none of these three.

use std::fs;
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use ringway_bench::lab::wait_until;
use rustix::process::Signal;

use crate::on_both_reactors;
use crate::support::{
    Application, CLIENT, Mesh, PATIENCE, assert_cut, connect, echo_once, exchange, http_get,
};

on_both_reactors! {
    rules_change_only_when_the_new_process_serves,
    a_stop_is_obeyed_while_a_new_process_hesitates,
    what_a_dying_new_process_did_not_take_goes_on_in_the_old_one,
    what_changes_after_a_hand_over_holds_for_the_streams_of_the_old_process,
    a_workload_that_cannot_become_somebody_else_is_cut_off_and_not_let_out,
}

/// The version of the protocol that both processes speak.
const PROTOCOL: u32 = ringway_control::handover::PROTOCOL;

/// The rules of the pod, each with its handle: one that was put in again has another.
fn rules(mesh: &Mesh, pod: &str) -> String {
    let mut command = Command::new("nft");
    command.args(["-a", "list", "ruleset"]);
    command.env("PATH", format!("{}:/usr/sbin:/sbin", std::env::var("PATH").unwrap_or_default()));
    let output = mesh.at(pod).enter(|| command.output()).unwrap().unwrap();
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn rules_change_only_when_the_new_process_serves(reactor: &str) {
    let mut mesh = Mesh::with(reactor).redirect("nftables").start();
    let _echo = Application::echo(mesh.at("server"), 8080);
    // A tool that takes its time. It is in the new process's way only.
    let tools = mesh.lab.directory().join("tools");
    let go = tools.join("go");
    fs::create_dir(&tools).unwrap();
    let nft = tools.join("nft");
    let script = format!(
        "#!/bin/sh\nwhile ! [ -e {} ]; do sleep 0.05; done\nPATH=/usr/sbin:/sbin:/usr/bin exec nft \"$@\"\n",
        go.display()
    );
    fs::write(&nft, script).unwrap();
    fs::set_permissions(&nft, fs::Permissions::from_mode(0o755)).unwrap();
    // With other rules than its predecessor's.
    mesh.replace_program_by_script(&format!(
        "PATH={}:$PATH\nsed 's/redirect: nftables/redirect: auto/' \"$5\" > \"$5.other\"\n\
         exec $RINGWAY run --node host-a --file \"$5.other\"",
        tools.display()
    ));
    let before = rules(&mesh, "client");
    let mut old = mesh.a.hand_over();
    assert_eq!(rules(&mesh, "client"), before, "it serves, and has changed nothing yet");
    mesh.assert_works(8080);
    fs::write(go, "").unwrap();
    wait_until("its own rules are in", PATIENCE, || rules(&mesh, "client") != before).unwrap();
    mesh.assert_works(8080);
    assert!(old.wait(Duration::from_secs(30)).unwrap().success(), "{}", old.log());
}

/// A program that says these messages to its predecessor, with a pause between them, and then does as `end` says.
fn talker(mesh: &Mesh, messages: &[serde_json::Value], end: &str) {
    let mut script = String::new();
    for (index, message) in messages.iter().enumerate() {
        let text = message.to_string();
        let mut frame = b"RWH1\0\0".to_vec();
        frame.extend((text.len() as u32).to_le_bytes());
        frame.extend([0; 4]);
        frame.extend(text.as_bytes());
        let file = mesh.lab.directory().join(format!("said-{index}"));
        fs::write(&file, frame).unwrap();
        script.push_str(&format!("cat {} >&0\nsleep 1\n", file.display()));
    }
    mesh.replace_program_by_script(&format!("{script}{end}"));
}

fn hello() -> serde_json::Value {
    serde_json::json!({"message": "hello", "protocol": PROTOCOL, "version": "talker"})
}

/// How host-a calls the pod.
fn uid(mesh: &Mesh, pod: &str) -> String {
    let admin = "127.0.0.1:15000".parse().unwrap();
    let (_, dump) = http_get(mesh.at("host-a"), admin, "/config_dump").unwrap();
    let end = format!("/Pod/default/{pod}");
    dump.split('"').find(|word| word.ends_with(&end)).unwrap_or_else(|| panic!("{dump}")).to_owned()
}

fn a_stop_is_obeyed_while_a_new_process_hesitates(reactor: &str) {
    let mut mesh = Mesh::start(reactor);
    let marker = mesh.file().with_extension("yaml.pid");
    let ready = serde_json::json!({"message": "ready", "workloads": [uid(&mesh, "client")]});
    talker(&mesh, &[hello(), ready], "echo $$ > \"$5.pid\"; exec sleep 1000");
    mesh.a.process.signal(Signal::USR2).unwrap();
    let pid = || fs::read_to_string(&marker).unwrap_or_default().trim().to_owned();
    wait_until("it is asked to serve, and does not", PATIENCE, || !pid().is_empty()).unwrap();
    mesh.a.stop();
    assert!(!Path::new("/proc").join(pid()).exists(), "it was left behind");
    let log = mesh.a.process.log();
    assert!(!log.contains("did not answer in time"), "the end waited for the answer: {log}");
}

fn what_a_dying_new_process_did_not_take_goes_on_in_the_old_one(reactor: &str) {
    let mut mesh = Mesh::start(reactor);
    let _echo = Application::echo(mesh.at("legacy"), 8080);
    let mut stream = connect(mesh.at("client"), mesh.address("legacy", 8080));
    exchange(&mut stream, b"before").unwrap();
    let ready = serde_json::json!({"message": "ready", "workloads": [uid(&mesh, "client")]});
    let serving = serde_json::json!({"message": "serving"});
    talker(&mesh, &[hello(), ready, serving], "sleep 2; exit 3");
    mesh.a.process.signal(Signal::USR2).unwrap();
    mesh.a.wait_for_log("connections are not moved any more");
    for _ in 0..20 {
        exchange(&mut stream, b"in the old process").unwrap();
        thread::sleep(Duration::from_millis(20));
    }
    assert!(mesh.a.process.is_running(), "it has a connection: {}", mesh.a.process.log());
    finish(stream);
    let status = mesh.a.process.wait(Duration::from_secs(30)).unwrap();
    assert!(status.success(), "{}", mesh.a.process.log());
    assert_eq!(mesh.a.records(|r| r.get("bytes_recv") == (6 + 20 * 18).to_string()), 1);
}

fn finish(mut stream: TcpStream) {
    stream.shutdown(Shutdown::Write).unwrap();
    assert_eq!(std::io::Read::read(&mut stream, &mut [0; 1]).unwrap(), 0);
}

fn what_changes_after_a_hand_over_holds_for_the_streams_of_the_old_process(reactor: &str) {
    let mut mesh = Mesh::with(reactor).drain_deadline("100s").start();
    let _echo = Application::echo(mesh.at("server"), 8080);
    let to = mesh.address("server", 8080);
    let open = |from: &str| {
        let mut stream = connect(mesh.at(from), to);
        exchange(&mut stream, b"before").unwrap();
        stream
    };
    let (mut denied, mut revoked) = (open("neighbour"), open("client"));
    let serial = serial_of(&mesh, CLIENT);
    let mut old = mesh.b.hand_over();
    exchange(&mut denied, b"in the old process").unwrap();
    let policy = "---\napiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {name: no}\nspec:\n  \
                  action: DENY\n  rules: [{from: [{source: {principals: [cluster.local/ns/default/sa/neighbour]}}]}]\n";
    mesh.rewrite(&format!("{policy}{}", mesh.settings.configuration(&mesh.lab)));
    assert_cut(&mut denied);
    exchange(&mut revoked, b"nobody minds").unwrap();
    let mut ca = Command::new(env!("CARGO_BIN_EXE_ringway"));
    ca.args(["ca", "--directory"]).arg(mesh.lab.directory().join("ca")).arg("revoke");
    let ran = ca.arg(&serial).output().unwrap();
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
    assert_cut(&mut revoked);
    // Nothing is left that it would have to wait for.
    assert!(old.wait(Duration::from_secs(60)).unwrap().success(), "{}", old.log());
}

/// The serial number of the leaf that host-a's proxy has for an identity.
fn serial_of(mesh: &Mesh, identity: &str) -> String {
    let admin = "127.0.0.1:15000".parse().unwrap();
    let (_, dump) = http_get(mesh.at("host-a"), admin, "/config_dump").unwrap();
    let dump: serde_json::Value = serde_json::from_str(&dump).unwrap();
    let certificates = dump["certificates"].as_array().unwrap();
    let own = certificates.iter().find(|one| one["identity"] == identity).unwrap();
    own["certChain"][0]["serialNumber"].as_str().unwrap().to_owned()
}

/// Somebody else takes the port in the moment between the old capture and the new one.
fn a_workload_that_cannot_become_somebody_else_is_cut_off_and_not_let_out(reactor: &str) {
    let mesh = Mesh::start(reactor);
    let legacy = Application::echo(mesh.at("legacy"), 8080);
    let to = mesh.address("legacy", 8080);
    echo_once(mesh.at("client"), to).unwrap();
    let text = mesh.settings.configuration(&mesh.lab);
    let as_account = |name: &str| {
        text.replace("serviceAccountName: client\n", &format!("serviceAccountName: {name}\n"))
    };
    let failed = || mesh.a.process.log().contains("it is cut off until that works");
    let stop = AtomicBool::new(false);
    let thief = thread::scope(|scope| {
        let thief = scope.spawn(|| {
            let steal = || {
                while !stop.load(Ordering::Relaxed) {
                    if let Ok(listener) = TcpListener::bind("[::]:15001") {
                        return Some(listener);
                    }
                }
                None
            };
            mesh.at("client").enter(steal).unwrap()
        });
        // It may take some attempts to come in between.
        for attempt in 0..60 {
            mesh.rewrite(&as_account(["other", "client"][attempt % 2]));
            let _ =
                wait_until("the moment is used", Duration::from_secs(1), || thief.is_finished());
            if thief.is_finished() {
                break;
            }
        }
        stop.store(true, Ordering::Relaxed);
        thief.join().unwrap()
    });
    let thief = thief.expect("nobody came in between; try again");
    wait_until("it is told", PATIENCE, failed).unwrap();
    let seen = legacy.accepted();
    for _ in 0..10 {
        let mut stream = connect(mesh.at("client"), to);
        // Its rules lead it to the port still, whoever has that.
        drop(thief.accept().unwrap());
        let answer = exchange(&mut stream, b"hello");
        let _refused = answer.expect_err("it went past its capture");
    }
    assert_eq!(legacy.accepted(), seen, "it was let out in the clear");
    drop(thief);
    wait_until("it is captured again", 2 * PATIENCE, || echo_once(mesh.at("client"), to).is_ok())
        .unwrap();
}
