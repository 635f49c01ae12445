//! Name servers that are played, and clients of them. Messages are put together by hand: what is tested must not check itself.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::Duration;

use ringway_bench::lab::Namespace;

use super::{Application, PATIENCE, connect};

/// Type A: IPv4 addresses.
const IPV4: u16 = 1;

/// A question for the addresses of a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Question {
    pub(crate) id: u16,
    pub(crate) name: String,
    record_type: u16,
}

impl Question {
    pub(crate) fn new(id: u16, name: &str) -> Question {
        Question { id, name: name.to_owned(), record_type: IPV4 }
    }

    pub(crate) fn message(&self) -> Vec<u8> {
        let mut message = self.id.to_be_bytes().to_vec();
        message.extend([1, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
        for label in self.name.split('.') {
            message.push(label.len() as u8);
            message.extend(label.as_bytes());
        }
        message.push(0);
        message.extend(self.record_type.to_be_bytes());
        message.extend([0, 1]);
        message
    }

    /// What a server says to it that knows these addresses, and none of another family.
    pub(crate) fn answer(&self, addresses: &[Ipv4Addr]) -> Vec<u8> {
        let addresses = if self.record_type == IPV4 { addresses } else { &[] };
        let mut message = self.message();
        message[2..4].copy_from_slice(&[0x81, 0x80]);
        message[6..8].copy_from_slice(&(addresses.len() as u16).to_be_bytes());
        for address in addresses {
            message.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4]);
            message.extend(address.octets());
        }
        message
    }

    /// Whether IPv4 addresses are asked for.
    pub(crate) fn is_for_ipv4(&self) -> bool {
        self.record_type == IPV4
    }

    /// Reads the question of a message.
    pub(crate) fn read(message: &[u8]) -> Question {
        let mut labels = Vec::new();
        let mut at = 12;
        while message[at] > 0 {
            let end = at + 1 + usize::from(message[at]);
            labels.push(String::from_utf8_lossy(&message[at + 1..end]).into_owned());
            at = end;
        }
        let number = |at: usize| u16::from_be_bytes([message[at], message[at + 1]]);
        Question { id: number(0), name: labels.join("."), record_type: number(at + 1) }
    }

    /// Asks `server` from inside `from`, in a datagram.
    pub(crate) fn ask(&self, from: &Namespace, server: SocketAddr) -> io::Result<Answered> {
        let socket = from.enter(|| UdpSocket::bind("0.0.0.0:0")).unwrap()?;
        socket.set_read_timeout(Some(PATIENCE))?;
        socket.connect(server)?;
        socket.send(&self.message())?;
        let mut answer = vec![0; 65_535];
        let length = socket.recv(&mut answer)?;
        Ok(self.answered(&answer[..length]))
    }

    /// Asks `server` from inside `from`, over a connection.
    pub(crate) fn ask_over_tcp(&self, from: &Namespace, server: SocketAddr) -> Answered {
        let mut stream = connect(from, server);
        let message = self.message();
        stream.write_all(&(message.len() as u16).to_be_bytes()).unwrap();
        stream.write_all(&message).unwrap();
        let mut length = [0; 2];
        stream.read_exact(&mut length).unwrap();
        let mut answer = vec![0; u16::from_be_bytes(length).into()];
        stream.read_exact(&mut answer).unwrap();
        self.answered(&answer)
    }

    fn answered(&self, answer: &[u8]) -> Answered {
        assert_eq!(
            answer[..2],
            self.id.to_be_bytes(),
            "an answer under the number of the question"
        );
        assert!(
            answer[2] & 0x80 != 0 && answer[3] & 0x80 != 0,
            "a response of somebody who recurses"
        );
        let mut addresses = Vec::new();
        let (records, mut at) = (u16::from_be_bytes([answer[6], answer[7]]), self.message().len());
        for _ in 0..records {
            // Owners are pointers in all that is sent here.
            let kind = answer[at + 3];
            let length = usize::from(answer[at + 11]);
            if let (1, [a, b, c, d]) = (kind, &answer[at + 12..at + 12 + length]) {
                addresses.push(Ipv4Addr::new(*a, *b, *c, *d));
            }
            at += 12 + length;
        }
        Answered {
            code: answer[3] & 0xf,
            authoritative: answer[2] & 4 != 0,
            truncated: answer[2] & 2 != 0,
            addresses,
        }
    }
}

/// What came back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Answered {
    pub(crate) code: u8,
    pub(crate) authoritative: bool,
    pub(crate) truncated: bool,
    pub(crate) addresses: Vec<Ipv4Addr>,
}

/// A name server on port 53 of a pod, which sends what it is told to say to each question. Dropping it stops it.
pub(crate) struct NameServer {
    asked: Receiver<(Question, SocketAddr)>,
    stop: Arc<AtomicBool>,
    _tcp: Application,
}

impl NameServer {
    /// `say` gets the question, and gives the messages of the answer; what does not fit into 512 bytes is truncated over UDP.
    pub(crate) fn start(
        pod: &Namespace,
        say: impl Fn(&Question) -> Vec<Vec<u8>> + Send + Sync + 'static,
    ) -> NameServer {
        let say = Arc::new(say);
        let socket = pod.enter(|| UdpSocket::bind("0.0.0.0:53")).unwrap().unwrap();
        socket.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
        let (told, asked) = channel();
        let stop = Arc::new(AtomicBool::new(false));
        let (stopped, said, noted) = (stop.clone(), say.clone(), told.clone());
        thread::spawn(move || {
            let mut message = [0; 4096];
            while !stopped.load(Ordering::Relaxed) {
                let Ok((length, from)) = socket.recv_from(&mut message) else { continue };
                let question = Question::read(&message[..length]);
                for mut answer in said(&question) {
                    if answer.len() > 512 {
                        answer.truncate(question.message().len());
                        answer[2] |= 2;
                        answer[6..8].fill(0);
                    }
                    let _ = socket.send_to(&answer, from);
                }
                let _ = noted.send((question, from));
            }
        });
        let tcp = Application::start(pod, 53, move |mut stream, from| {
            let mut length = [0; 2];
            while stream.read_exact(&mut length).is_ok() {
                let mut message = vec![0; u16::from_be_bytes(length).into()];
                let Ok(()) = stream.read_exact(&mut message) else { break };
                let question = Question::read(&message);
                for answer in say(&question) {
                    let _ = stream.write_all(&(answer.len() as u16).to_be_bytes());
                    let _ = stream.write_all(&answer);
                }
                let _ = told.send((question, from));
            }
        });
        NameServer { asked, stop, _tcp: tcp }
    }

    /// Knows one address for every name.
    pub(crate) fn of(pod: &Namespace, address: Ipv4Addr) -> NameServer {
        NameServer::start(pod, move |question| vec![question.answer(&[address])])
    }

    /// The next question, and where it came from.
    pub(crate) fn asked(&self) -> (Question, SocketAddr) {
        self.asked.recv_timeout(PATIENCE).expect("somebody asks")
    }

    /// How many questions there were that nobody has looked at.
    pub(crate) fn unseen(&self) -> usize {
        self.asked.try_iter().count()
    }
}

impl Drop for NameServer {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}
