//! The side of the new process: takes what its predecessor gives, says when it is ready, and goes on with the
//! connections that come.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use ringway_engine::limits::{HANDOVER_ANSWER_TIMEOUT, HANDOVER_GATHERING_TIMEOUT};
use ringway_engine::runtime::NetNamespace;
use ringway_engine::{Engine, ListeningWorkload, MovedConnection};

use super::channel::{Channel, Frame};
use super::message::{Message, read_connections};
use super::{PROTOCOL, VARIABLE};

/// What a predecessor leaves to this process.
#[derive(Debug)]
pub(crate) struct Inheritance {
    /// The configuration that came by standard input.
    pub(crate) standard_input: Option<String>,
    /// The listening servers, by name.
    pub(crate) servers: BTreeMap<String, OwnedFd>,
    /// The workloads, by uid.
    pub(crate) workloads: BTreeMap<Arc<str>, InheritedWorkload>,
    /// What is redirected and how.
    pub(crate) redirect: String,
    /// The filter of system calls that this process has with its birth.
    pub(crate) call_filter: Option<u64>,
    /// For what follows.
    pub(crate) predecessor: Predecessor,
}

/// One workload.
#[derive(Debug)]
pub(crate) struct InheritedWorkload {
    /// Its sockets.
    pub(crate) listening: ListeningWorkload,
    /// The tool that installed its rules.
    pub(crate) tool: Option<String>,
}

/// The process that hands over.
#[derive(Debug)]
pub(crate) struct Predecessor {
    channel: Channel,
}

impl Inheritance {
    /// What is inherited, when this process was started by a predecessor. Its standard input is free afterwards.
    ///
    /// # Errors
    /// When the predecessor will not hand over, or is none.
    pub(crate) fn receive(version: &str) -> io::Result<Option<Self>> {
        if std::env::var_os(VARIABLE).is_none() {
            return Ok(None);
        }
        let descriptor = io::stdin().as_fd().try_clone_to_owned()?;
        let channel = Channel::inherited(descriptor).map_err(|error| {
            io::Error::other(format!(
                "{VARIABLE} is set, but standard input is no channel to a predecessor ({error}): unset it"
            ))
        })?;
        // The tools this process starts must not keep the channel open.
        let nothing = std::fs::File::open("/dev/null")?;
        rustix::stdio::dup2_stdin(&nothing)?;
        Self::ask(channel, version).map(Some)
    }

    fn ask(channel: Channel, version: &str) -> io::Result<Self> {
        channel.set_patience(Some(HANDOVER_GATHERING_TIMEOUT))?;
        Message::Hello { protocol: PROTOCOL, version: version.to_owned() }.send(&channel, &[])?;
        let (standard_input, names, redirect, call_filter, descriptors) =
            match Message::receive(&channel)? {
                (
                    Message::Inheritance { standard_input, servers, redirect, call_filter },
                    frame,
                ) => (standard_input, servers, redirect, call_filter, frame.descriptors),
                (Message::Refused { why }, _) => return Err(io::Error::other(why)),
                (other, _) => return Err(unexpected(&other)),
            };
        if names.len() != descriptors.len() {
            return Err(invalid("each server has one descriptor"));
        }
        let servers = names.into_iter().zip(descriptors).collect();
        let workloads = receive_workloads(&channel)?;
        let predecessor = Predecessor { channel };
        Ok(Self { standard_input, servers, workloads, redirect, call_filter, predecessor })
    }
}

fn receive_workloads(channel: &Channel) -> io::Result<BTreeMap<Arc<str>, InheritedWorkload>> {
    let mut workloads: BTreeMap<Arc<str>, InheritedWorkload> = BTreeMap::new();
    loop {
        let (uid, tool, ways, descriptors) = match Message::receive(channel)? {
            (Message::Workload { uid, tool, ways }, frame) => (uid, tool, ways, frame.descriptors),
            (Message::Complete, _) => return Ok(workloads),
            (other, _) => return Err(unexpected(&other)),
        };
        let mut descriptors = descriptors.into_iter();
        let namespace = descriptors.next().ok_or_else(|| invalid("a workload has a namespace"))?;
        if ways.len() != descriptors.len() {
            return Err(invalid("each way of a workload has one descriptor"));
        }
        let sockets = ways.into_iter().map(Into::into).zip(descriptors);
        let uid: Arc<str> = uid.into();
        match workloads.get_mut(&uid) {
            Some(known) => known.listening.sockets.extend(sockets),
            None => {
                let namespace = NetNamespace::from_fd(namespace)?;
                let sockets = sockets.collect();
                let listening = ListeningWorkload { uid: Arc::clone(&uid), namespace, sockets };
                workloads.insert(uid, InheritedWorkload { listening, tool });
            }
        }
    }
}

impl Predecessor {
    /// Says that these workloads are taken over, and waits for the word to serve.
    ///
    /// # Errors
    /// When the predecessor has gone back on it.
    pub(crate) fn ready(&self, workloads: Vec<String>) -> io::Result<()> {
        self.channel.set_patience(Some(HANDOVER_ANSWER_TIMEOUT))?;
        Message::Ready { workloads }.send(&self.channel, &[])?;
        self.expect(&Message::Serve)
    }

    /// Says that this process accepts, and waits until the predecessor leaves the rest to it. Before that nothing may be
    /// changed that the predecessor needs if it is to go on.
    ///
    /// # Errors
    /// When the predecessor is not heard of again. This process serves all the same.
    pub(crate) fn serving(&self) -> io::Result<()> {
        Message::Serving.send(&self.channel, &[])?;
        self.expect(&Message::Succeeded)
    }

    /// Takes connections and gives them to the engine, until the predecessor has no more. Returns how many came.
    ///
    /// # Errors
    /// When what comes makes no sense, or this process was too slow; the predecessor keeps its connections then.
    pub(crate) fn take_connections(self, engine: &Engine) -> io::Result<usize> {
        let mut taken = 0;
        self.channel.set_patience(None)?;
        while let Some(connections) = self.next_connections()? {
            taken += connections.len();
            connections.into_iter().for_each(|moved| engine.resume(moved));
        }
        Ok(taken)
    }

    /// The next ones, which are this process's from now on; `None` when there are no more.
    fn next_connections(&self) -> io::Result<Option<Vec<MovedConnection>>> {
        let Some((message, frame)) = self.hear()? else { return Ok(None) };
        let Message::Connections { connections } = message else {
            return Err(unexpected(&message));
        };
        let connections = read_connections(connections, frame)?;
        // Said before anything is done with them.
        if Message::Taken.send(&self.channel, &[]).is_ok() {
            return Ok(Some(connections));
        }
        match self.hear()? {
            // Nobody has them but this process: the predecessor has died.
            None => Ok(Some(connections)),
            Some((Message::TakenBack, _)) => Err(io::Error::other(
                "this process was too slow: the old one has taken its connections back",
            )),
            Some((other, _)) => Err(unexpected(&other)),
        }
    }

    fn hear(&self) -> io::Result<Option<(Message, Frame)>> {
        match Message::receive(&self.channel) {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(None),
            received => received.map(Some),
        }
    }

    fn expect(&self, wanted: &Message) -> io::Result<()> {
        match Message::receive(&self.channel)?.0 {
            said if said == *wanted => Ok(()),
            other => Err(unexpected(&other)),
        }
    }
}

fn unexpected(message: &Message) -> io::Error {
    let text = serde_json::to_string(message).unwrap_or_default();
    let text: String = text.chars().take(200).collect();
    invalid(&format!("the old process said what makes no sense here: {text}"))
}

fn invalid(why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why)
}

#[cfg(test)]
pub(super) mod tests {
    use super::super::message::WayName;
    use super::*;

    /// The successor's end of a channel, for tests of the other side.
    pub(in super::super) fn predecessor_at(far: OwnedFd) -> Predecessor {
        Predecessor { channel: Channel::inherited(far).unwrap() }
    }

    impl Predecessor {
        pub(in super::super) fn next(&self) -> io::Result<Option<Vec<MovedConnection>>> {
            self.next_connections()
        }

        pub(in super::super) fn channel(&self) -> &Channel {
            &self.channel
        }
    }

    /// What a new process makes of a predecessor that says `said`, with so many descriptors of /dev/null each.
    fn heard(said: &[(Message, usize)]) -> io::Result<Inheritance> {
        let (old, new) = Channel::pair().unwrap();
        for (message, count) in said {
            let descriptors: Vec<OwnedFd> =
                (0..*count).map(|_| std::fs::File::open("/dev/null").unwrap().into()).collect();
            message.send(&old, &descriptors).unwrap();
        }
        let inherited = Inheritance::ask(Channel::inherited(new).unwrap(), "1.2.3");
        let (hello, _) = Message::receive(&old).unwrap();
        assert_eq!(hello, Message::Hello { protocol: PROTOCOL, version: "1.2.3".to_owned() });
        inherited
    }

    fn inheritance(servers: &[&str]) -> Message {
        Message::Inheritance {
            standard_input: Some("text".to_owned()),
            servers: servers.iter().map(|&name| name.to_owned()).collect(),
            redirect: "as ever".to_owned(),
            call_filter: Some(7),
        }
    }

    #[test]
    fn what_is_said_in_order_is_inherited() {
        let said = [(inheritance(&["admin", "metrics"]), 2), (Message::Complete, 0)];
        let inherited = heard(&said).unwrap();
        assert_eq!(inherited.servers.keys().collect::<Vec<_>>(), ["admin", "metrics"]);
        assert_eq!(inherited.standard_input.as_deref(), Some("text"));
        assert!(inherited.workloads.is_empty());
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        let workload = |ways: &[WayName]| Message::Workload {
            uid: "a".to_owned(),
            tool: None,
            ways: ways.to_vec(),
        };
        let refused = Message::Refused { why: "too old".to_owned() };
        //  name                             said                                                   complaint
        type Row = (&'static str, Vec<(Message, usize)>, &'static str);
        let rows: [Row; 6] = [
            ("the predecessor will not", vec![(refused, 0)], "too old"),
            ("a server is missing", vec![(inheritance(&["admin"]), 0)], "one descriptor"),
            ("no namespace", vec![(inheritance(&[]), 0), (workload(&[]), 0)], "has a namespace"),
            (
                "a way without a socket",
                vec![(inheritance(&[]), 0), (workload(&[WayName::Hbone]), 1)],
                "one descriptor",
            ),
            ("no namespace but a file", vec![(inheritance(&[]), 0), (workload(&[]), 1)], ""),
            ("out of order", vec![(Message::Serve, 0)], "makes no sense"),
        ];
        for (name, said, complaint) in rows {
            let error = heard(&said).expect_err(name);
            assert!(error.to_string().contains(complaint), "{name}: {error}");
        }
    }
}
