//! The application: a process of its own that echoes on every connection.

use std::{
    io::{BufRead, BufReader, ErrorKind},
    net::{Ipv4Addr, SocketAddr},
    process::{Child, Command, Stdio},
};

use ringway_engine::runtime::{
    ListenOptions, NetNamespace, ReactorChoice, Runtime, TcpListener, TcpStream, spawn,
};

pub(crate) struct Application {
    process: Child,
    pub(crate) port: u16,
}

impl Application {
    pub(crate) fn start() -> Application {
        let program = std::env::current_exe().expect("this program");
        let mut process = Command::new(program)
            .arg("application")
            .stdout(Stdio::piped())
            .spawn()
            .expect("this program runs");
        let mut line = String::new();
        let told = process.stdout.take().expect("piped");
        BufReader::new(told).read_line(&mut line).expect("it tells its port");
        Application { process, port: line.trim().parse().expect("a port") }
    }
}

impl Drop for Application {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Echoes until killed.
pub(crate) fn run() {
    let (runtime, _) = Runtime::new(ReactorChoice::Epoll).expect("a runtime");
    runtime.block_on(async {
        let here = NetNamespace::current().expect("our own");
        let any: SocketAddr = (Ipv4Addr::LOCALHOST, 0).into();
        let listener = TcpListener::bind(&here, any, &ListenOptions::default()).expect("a port");
        println!("{}", listener.local_addr().expect("bound").port());
        while let Ok((stream, _)) = listener.accept().await {
            spawn(echo(stream));
        }
    });
}

async fn echo(stream: TcpStream) {
    let mut byte = [0];
    loop {
        match stream.try_read(&mut byte) {
            Ok(1) => drop(stream.try_write(&byte)),
            Err(error) if error.kind() == ErrorKind::WouldBlock => stream.readable().await,
            _ => return,
        }
    }
}
