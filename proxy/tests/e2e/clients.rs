//! Clients and servers that others have written, through a waypoint: Google's gRPC, WebSockets, curl, h2load, nginx.
//!
//! What they are written with, `scripts/get-clients` puts under `target/tools`. The stories with h2load and nginx have
//! those names in theirs, so that `scripts/test` can leave them out, and say so, where the programs are not to be had.

use std::fs;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use ringway_bench::lab::{Process, Program, wait_until};

use crate::on_both_reactors;
use crate::support::waypoint::WaypointMesh;
use crate::support::{Application, PATIENCE, connect};

on_both_reactors! {
    grpc_of_every_kind,
    websockets_over_http1,
    websockets_over_http2,
    h2load_loses_nothing,
    nginx_is_a_backend,
}

mod once {
    #[test]
    fn a_gigabyte_each_way_is_not_held() {
        super::a_gigabyte_each_way_is_not_held("auto");
    }
}

/// A service of neighbour's, behind the waypoint, with a port for each kind of server.
const KINDS: &str = "---
apiVersion: v1
kind: Service
metadata: {name: kinds, labels: {istio.io/use-waypoint: web-waypoint}}
spec:
  clusterIP: 10.96.1.4
  selector: {app: neighbour}
  ports:
  - {name: grpc-echo, port: 9000, targetPort: 9000}
  - {name: http-sockets, port: 9001, targetPort: 9001}
  - {name: http-nginx, port: 9002, targetPort: 9002}
  - {name: http-bytes, port: 9003, targetPort: 9003}
  - {name: grpc-nobody, port: 9004, targetPort: 9004}
---
apiVersion: gateway.networking.k8s.io/v1
kind: GRPCRoute
metadata: {name: echo}
spec:
  parentRefs: [{group: '', kind: Service, name: kinds, port: 9000}]
  rules:
  - matches: [{method: {service: told.Echo}}]
    backendRefs: [{name: kinds, port: 9000}]
";

const GIGABYTE: u64 = 1 << 30;
/// What the waypoint may hold more than before while it passes: windows and buffers of two tunnels in both directions, and
/// what the allocator has not given back.
const KEPT_MAX: u64 = 64 << 20;

fn grpc_of_every_kind(reactor: &str) {
    let story = WaypointMesh::policed(reactor, "", KINDS);
    let _server = story.python("neighbour", "grpc_echo.py", &["server", "0.0.0.0:9000"]);
    let told = story.run_python("grpc_echo.py", &["client", "10.96.1.4:9000"]);
    assert!(told.contains("all is well"), "{told}\n{}", story.logs());
    // What is answered by the waypoint is said as gRPC says it.
    for (to, method, want) in [
        ("10.96.1.4:9000", "/other.Service/None", "UNIMPLEMENTED"),
        ("10.96.1.4:9004", "/told.Echo/One", "UNAVAILABLE"),
    ] {
        let told = story.run_python("grpc_echo.py", &["call", to, method]);
        assert!(told.starts_with(want), "{method}: {told}\n{}", story.logs());
    }
}

fn websockets_over_http1(reactor: &str) {
    let story = WaypointMesh::policed(reactor, "", KINDS);
    let _server = story.python("neighbour", "websocket.py", &["server", "0.0.0.0:9001"]);
    let told = story.run_python("websocket.py", &["client", "10.96.1.4:9001"]);
    assert!(told.contains("all is well"), "{told}\n{}", story.logs());
}

fn websockets_over_http2(reactor: &str) {
    let story = WaypointMesh::policed(reactor, "", KINDS);
    let _server = story.python("neighbour", "websocket.py", &["server", "0.0.0.0:9001"]);
    let told = story.run_python("websocket.py", &["http2", "10.96.1.4:9001"]);
    assert!(told.contains("all is well"), "{told}\n{}", story.logs());
}

fn h2load_loses_nothing(reactor: &str) {
    let story = WaypointMesh::start(reactor, "");
    for (version, more) in [("h2", &["-m", "10"][..]), ("h1", &["--h1"])] {
        let program = Program::new(tool("h2load"))
            .arguments(["-n", "2000", "-c", "10"])
            .arguments(more)
            .argument("http://10.96.1.1/load");
        let told = story.run("client", version, &program);
        let want = "requests: 2000 total, 2000 started, 2000 done, 2000 succeeded, 0 failed";
        assert!(told.contains(want), "{version}: {told}\n{}", story.logs());
        assert!(told.contains("status codes: 2000 2xx"), "{version}: {told}");
    }
}

fn nginx_is_a_backend(reactor: &str) {
    let story = WaypointMesh::policed(reactor, "", KINDS);
    let folder = story.mesh.lab.directory().join("nginx");
    fs::create_dir_all(folder.join("files")).unwrap();
    let content: Vec<u8> = (0..3_000_000_u32).map(|at| (at % 253) as u8).collect();
    fs::write(folder.join("files/large"), &content).unwrap();
    let settings = NGINX.replace("FOLDER", &folder.display().to_string());
    fs::write(folder.join("nginx.conf"), settings).unwrap();
    let program = Program::new(tool("nginx"))
        .arguments(["-e", "stderr", "-p"])
        .argument(&folder)
        .argument("-c")
        .argument(folder.join("nginx.conf"));
    let nginx = story.mesh.lab.start("neighbour", "nginx", &program).unwrap();
    let answers = || {
        story.mesh.at("neighbour").connect_timeout(([127, 0, 0, 1], 9002).into(), PATIENCE).is_ok()
    };
    wait_until("nginx listens", PATIENCE, answers)
        .unwrap_or_else(|error| panic!("{error}: {}", nginx.log()));

    let file = folder.join("got");
    let got = |version: &str, more: &[&str]| {
        // Whatever was there is not what comes.
        let _ = fs::remove_file(&file);
        let told =
            story.curl(version, &[more, &["--output", &file.display().to_string()]].concat());
        (told, fs::read(&file).unwrap_or_default())
    };
    for version in ["--http1.1", "--http2-prior-knowledge"] {
        let (told, body) = got(version, &["http://10.96.1.4:9002/large"]);
        assert!(
            told.ends_with("200") && body == content,
            "{version}: {told}, {} bytes",
            body.len()
        );
        let (told, body) = got(version, &["--range", "1000-1999", "http://10.96.1.4:9002/large"]);
        assert!(told.ends_with("206") && body == content[1000..2000], "{version}: {told}");
        let (told, body) = got(version, &["--head", "http://10.96.1.4:9002/large"]);
        assert!(
            told.ends_with("200") && body.windows(7).any(|found| found == b"3000000"),
            "{version}: {told}"
        );
        let (told, _) = got(version, &["http://10.96.1.4:9002/none"]);
        assert!(told.ends_with("404"), "{version}: {told}");
        // Its chunks of an answer whose length it does not know: what it compresses.
        let (told, body) = got(version, &["--compressed", "http://10.96.1.4:9002/large"]);
        assert!(
            told.ends_with("200") && body == content,
            "{version}: {told}, {} bytes",
            body.len()
        );
    }
    // curl asks first whether a body this large is wanted.
    let large = folder.join("files/large").display().to_string();
    let asks = ["--header", "expect: 100-continue", "--upload-file", &large];
    let (told, _) = got("--http1.1", &[&asks[..], &["http://10.96.1.4:9002/put/copy"]].concat());
    assert!(told.ends_with("201"), "{told}: {}", nginx.log());
    assert!(fs::read(folder.join("files/put/copy")).unwrap() == content);
}

const NGINX: &str = "daemon off; master_process off; pid FOLDER/nginx.pid; error_log stderr;
events { worker_connections 256; }
http {
  access_log off; gzip on; gzip_types *; sendfile on; client_max_body_size 100m;
  client_body_temp_path FOLDER/body; proxy_temp_path FOLDER/proxy; fastcgi_temp_path FOLDER/fastcgi;
  uwsgi_temp_path FOLDER/uwsgi; scgi_temp_path FOLDER/scgi;
  server { listen 0.0.0.0:9002; root FOLDER/files; location /put/ { dav_methods PUT; create_full_put_path on; } }
}
";

/// Once, on the reactor of this machine: it takes as long as all of the others.
fn a_gigabyte_each_way_is_not_held(reactor: &str) {
    let story = WaypointMesh::policed(reactor, "", KINDS);
    let _server = Application::start(story.mesh.at("neighbour"), 9003, |mut stream, _| {
        let mut head = Vec::new();
        let mut byte = [0; 1];
        while !head.ends_with(b"\r\n\r\n") {
            stream.read_exact(&mut byte).unwrap();
            head.push(byte[0]);
        }
        if head.starts_with(b"PUT") {
            let taken = std::io::copy(&mut (&stream).take(GIGABYTE), &mut std::io::sink()).unwrap();
            let answer = format!("{taken}");
            write!(
                stream,
                "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{answer}",
                answer.len()
            )
            .unwrap();
        } else {
            write!(
                stream,
                "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: {GIGABYTE}\r\n\r\n"
            )
            .unwrap();
            std::io::copy(&mut std::io::repeat(7).take(GIGABYTE), &mut stream).unwrap();
        }
    });
    // So that what is allocated once is there.
    assert_eq!(story.ask("/", "").0, 200);
    let before = story.resident_bytes();
    let mut most = before;

    let mut client = connect(story.mesh.at("client"), "10.96.1.4:9003".parse().unwrap());
    client.write_all(b"GET /down HTTP/1.1\r\nhost: kinds\r\nconnection: close\r\n\r\n").unwrap();
    let (mut piece, mut received) = (vec![0; 1 << 20], 0_u64);
    loop {
        let count =
            client.read(&mut piece).unwrap_or_else(|error| panic!("{error}\n{}", story.logs()));
        if count == 0 {
            break;
        }
        received += count as u64;
        if received & (GIGABYTE / 64 - 1) < count as u64 {
            most = most.max(story.resident_bytes());
        }
    }
    assert!((GIGABYTE..GIGABYTE + 1000).contains(&received), "{received}");

    let mut client = connect(story.mesh.at("client"), "10.96.1.4:9003".parse().unwrap());
    write!(
        client,
        "PUT /up HTTP/1.1\r\nhost: kinds\r\nconnection: close\r\ncontent-length: {GIGABYTE}\r\n\r\n"
    )
    .unwrap();
    for at in 0..GIGABYTE >> 20 {
        client.write_all(&piece).unwrap_or_else(|error| panic!("{error}\n{}", story.logs()));
        if at % 16 == 0 {
            most = most.max(story.resident_bytes());
        }
    }
    let mut answer = String::new();
    client.read_to_string(&mut answer).unwrap();
    assert!(answer.ends_with(&format!("\r\n\r\n{GIGABYTE}")), "{answer}");
    let kept = most - before;
    assert!(kept < KEPT_MAX, "{kept} bytes more than {before} were held");
}

impl WaypointMesh {
    /// Starts one of our scripts in a pod, and waits until it listens.
    fn python(&self, pod: &str, script: &str, arguments: &[&str]) -> Process {
        let mut process = self.mesh.lab.start(pod, script, &python(script, arguments)).unwrap();
        process.wait_for_log("listening", PATIENCE).unwrap();
        process
    }

    /// Runs one to its end as a client; what it said.
    fn run_python(&self, script: &str, arguments: &[&str]) -> String {
        self.run("client", &format!("{script}-client"), &python(script, arguments))
    }

    fn run(&self, pod: &str, name: &str, program: &Program) -> String {
        let mut process = self.mesh.lab.start(pod, name, program).unwrap();
        let status = process
            .wait(PATIENCE * 3)
            .unwrap_or_else(|error| panic!("{error}: {}\n{}", process.log(), self.logs()));
        let told = process.log();
        assert!(status.success(), "{name}: {told}\n{}", self.logs());
        told
    }

    /// Runs curl in client; what it said, the code last.
    fn curl(&self, version: &str, arguments: &[&str]) -> String {
        let program = Program::new("curl")
            .arguments(["--silent", "--show-error", "--write-out", "%{http_code}", version])
            .arguments(arguments);
        self.run("client", "curl", &program).trim_end().to_owned()
    }
}

fn python(script: &str, arguments: &[&str]) -> Program {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients").join(script);
    Program::new(tool("clients-python/bin/python"))
        .argument(script)
        .arguments(arguments)
        .environment("PYTHONDONTWRITEBYTECODE", "1")
        .environment("GRPC_VERBOSITY", "NONE")
}

/// Something of `scripts/get-clients`.
pub(crate) fn tool(name: &str) -> PathBuf {
    let target = Path::new(env!("CARGO_BIN_EXE_ringway")).ancestors().nth(2).unwrap();
    let path = target.join("tools").join(name);
    assert!(path.exists(), "{} is not here; scripts/get-clients puts it there", path.display());
    path
}
