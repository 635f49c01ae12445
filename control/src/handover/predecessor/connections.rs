//! Live connections on their way to the successor, and whose they are when it does not answer.

use std::io;
use std::time::Duration;

use ringway_engine::MovedConnection;
use ringway_engine::limits::HANDOVER_ANSWER_TIMEOUT;

use super::super::message::{Message, fitting, write_connection};
use super::{Heir, describe, unexpected};

/// Connections the successor did not take.
#[derive(Debug)]
pub(crate) struct NotTaken {
    /// Still this process's: nobody else can have begun to relay them.
    pub(crate) back: Vec<MovedConnection>,
    /// Perhaps the successor's, which could not be told: not to be touched any more.
    pub(crate) unknown: usize,
    /// What went wrong.
    pub(crate) why: String,
}

/// Whether the successor has connections.
enum Theirs {
    /// It never will.
    Not,
    /// It has.
    Taken,
    /// It would relay them if this process died, and could not be told otherwise.
    Perhaps,
}

impl Heir {
    /// Gives it live connections.
    ///
    /// # Errors
    /// [`NotTaken`]: no further ones can be given.
    pub(crate) fn give(&self, connections: Vec<MovedConnection>) -> Result<(), NotTaken> {
        self.give_within(connections, HANDOVER_ANSWER_TIMEOUT)
    }

    fn give_within(
        &self,
        mut connections: Vec<MovedConnection>,
        patience: Duration,
    ) -> Result<(), NotTaken> {
        while !connections.is_empty() {
            let mut back = connections.split_off(fitting(&connections));
            let Err(error) = self.give_frame(&connections, patience) else {
                connections = back;
                continue;
            };
            let why = describe(&error);
            let count = connections.len();
            let unknown = match error.kind() {
                io::ErrorKind::WouldBlock => match self.take_back() {
                    Theirs::Not => 0,
                    // It was only late; but what is not heard any more cannot go on.
                    Theirs::Taken => return Err(NotTaken { back, unknown: 0, why }),
                    Theirs::Perhaps => count,
                },
                _ => 0,
            };
            if unknown == 0 {
                back.extend(connections);
            }
            return Err(NotTaken { back, unknown, why });
        }
        Ok(())
    }

    fn give_frame(&self, connections: &[MovedConnection], patience: Duration) -> io::Result<()> {
        let mut raw = Vec::new();
        let texts = connections.iter().map(|one| write_connection(one, &mut raw)).collect();
        let text = serde_json::to_vec(&Message::Connections { connections: texts })?;
        let mut sockets = Vec::with_capacity(2 * connections.len());
        for connection in connections {
            sockets.push(connection.client.descriptor()?);
            sockets.push(connection.server.descriptor()?);
        }
        self.channel.set_patience(Some(patience))?;
        self.channel.send(&text, &raw, &sockets)?;
        match Message::receive(&self.channel)?.0 {
            Message::Taken => Ok(()),
            other => Err(unexpected(&other)),
        }
    }

    /// After silence: whose are the connections that were given last? Nothing can be said after this, so the answer
    /// stays what it is.
    fn take_back(&self) -> Theirs {
        // It fails only when the other side is gone: then it has taken nothing that it relays.
        let _ = self.channel.hear_no_more();
        match Message::receive(&self.channel) {
            Ok((Message::Taken, _)) => Theirs::Taken,
            _ => match self.say(&Message::TakenBack) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => Theirs::Perhaps,
                _ => Theirs::Not,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;
    use std::sync::Arc;

    use super::super::super::channel::Channel;
    use super::super::super::message::tests::moved;
    use super::super::super::successor::Predecessor;
    use super::super::super::successor::tests::predecessor_at;
    use super::*;

    /// A successor that serves, and the channel's other end.
    fn heir() -> (Heir, Predecessor) {
        let (channel, far) = Channel::pair().unwrap();
        let child = Command::new("/bin/true").spawn().unwrap();
        let heir = Heir { child, channel, workloads: Arc::default(), serves: true };
        (heir, predecessor_at(far))
    }

    #[test]
    fn what_a_silent_successor_does_not_take_comes_back_and_it_knows() {
        let (heir, successor) = heir();
        let given = vec![moved(b"up", b"", false).0, moved(b"", b"down", true).0];
        let refused = heir.give_within(given, Duration::from_millis(20)).unwrap_err();
        assert_eq!((refused.back.len(), refused.unknown), (2, 0));
        // It wakes up, and must not relay what somebody else relays.
        let late = successor.next().unwrap_err();
        assert!(late.to_string().contains("taken its connections back"), "{late}");
    }

    #[test]
    fn what_a_successor_takes_when_its_predecessor_has_died_is_its_own() {
        let (heir, successor) = heir();
        let giving = std::thread::spawn(move || {
            let given = vec![moved(b"up", b"", false).0];
            // Dead before it hears anything.
            heir.give_frame(&given, Duration::ZERO + Duration::from_millis(1)).unwrap_err();
        });
        giving.join().unwrap();
        assert_eq!(successor.next().unwrap().unwrap().len(), 1);
        assert!(successor.next().unwrap().is_none());
    }

    #[test]
    fn what_was_taken_at_the_last_moment_is_not_taken_back() {
        let (heir, successor) = heir();
        Message::Taken.send(successor.channel(), &[]).unwrap();
        assert!(matches!(heir.take_back(), Theirs::Taken));
        let dying = self::heir();
        drop(dying.1);
        assert!(matches!(dying.0.take_back(), Theirs::Not));
    }
}
