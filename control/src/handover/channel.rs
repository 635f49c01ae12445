//! Frames with descriptors on a Unix stream.
//!
//! ```text
//!   "RWH1" │ descriptors: u16 │ text bytes: u32 │ raw bytes: u32 │ text │ raw       little endian
//! ```
//!
//! The descriptors travel with the head. Every length is checked before anything is allocated for it.

use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use ringway_engine::limits::{
    HANDOVER_DESCRIPTORS_MAX, HANDOVER_RAW_BYTES_MAX, HANDOVER_TEXT_BYTES_MAX,
};
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags,
};

const MAGIC: [u8; 4] = *b"RWH1";
const HEAD_BYTES: usize = 14;

/// One end of the channel. Blocks, up to its patience.
#[derive(Debug)]
pub(crate) struct Channel {
    stream: UnixStream,
}

/// Ends a [`Channel`].
#[derive(Debug)]
pub(crate) struct Breaker(UnixStream);

impl Breaker {
    /// Nothing more is said or heard.
    pub(crate) fn shut(&self) {
        // It fails only for what is no socket.
        let _ = self.0.shutdown(std::net::Shutdown::Both);
    }
}

/// What one side says at a time.
#[derive(Debug, Default)]
pub(crate) struct Frame {
    /// JSON.
    pub(crate) text: Vec<u8>,
    /// Bytes as they are.
    pub(crate) raw: Vec<u8>,
    /// Descriptors.
    pub(crate) descriptors: Vec<OwnedFd>,
}

impl Channel {
    /// Both ends; the second is for another process.
    pub(crate) fn pair() -> io::Result<(Self, OwnedFd)> {
        let (near, far) = UnixStream::pair()?;
        Ok((Self { stream: near }, far.into()))
    }

    /// An end that was inherited.
    ///
    /// # Errors
    /// When it is no connected Unix stream.
    pub(crate) fn inherited(descriptor: OwnedFd) -> io::Result<Self> {
        let stream = UnixStream::from(descriptor);
        stream.peer_addr()?;
        Ok(Self { stream })
    }

    /// What ends the channel from another thread: whoever waits on it hears the end.
    pub(crate) fn breaker(&self) -> io::Result<Breaker> {
        Ok(Breaker(self.stream.try_clone()?))
    }

    /// How long a receive or a send may take from now on; `None` is for ever.
    pub(crate) fn set_patience(&self, patience: Option<Duration>) -> io::Result<()> {
        self.stream.set_read_timeout(patience)?;
        self.stream.set_write_timeout(patience)
    }

    /// Says something.
    ///
    /// # Errors
    /// When the other side is gone, or does not listen in time.
    pub(crate) fn send(
        &self,
        text: &[u8],
        raw: &[u8],
        descriptors: &[BorrowedFd<'_>],
    ) -> io::Result<()> {
        let head = head(text.len(), raw.len(), descriptors.len())?;
        let mut space =
            [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(HANDOVER_DESCRIPTORS_MAX))];
        let mut ancillary = SendAncillaryBuffer::new(&mut space);
        if !descriptors.is_empty() {
            let pushed = ancillary.push(SendAncillaryMessage::ScmRights(descriptors));
            assert!(pushed, "the space is for as many as a frame may have");
        }
        // In one call: a short frame arrives as a whole or not at all.
        let pieces = [IoSlice::new(&head), IoSlice::new(text), IoSlice::new(raw)];
        let mut sent = rustix::io::retry_on_intr(|| {
            rustix::net::sendmsg(&self.stream, &pieces, &mut ancillary, SendFlags::NOSIGNAL)
        })?;
        // The descriptors went with the first byte.
        for piece in [&head[..], text, raw] {
            (&self.stream).write_all(&piece[sent.min(piece.len())..])?;
            sent = sent.saturating_sub(piece.len());
        }
        Ok(())
    }

    /// What the other side has said until now is heard still; from now on it can say nothing more, and knows so when it
    /// tries.
    ///
    /// # Errors
    /// When the other side is gone.
    pub(crate) fn hear_no_more(&self) -> io::Result<()> {
        self.stream.shutdown(std::net::Shutdown::Read)
    }

    /// Hears what is said next; `None` is the end.
    ///
    /// # Errors
    /// [`io::ErrorKind::WouldBlock`] when nothing is said in time, [`io::ErrorKind::InvalidData`] when it is no frame.
    pub(crate) fn receive(&self) -> io::Result<Option<Frame>> {
        let mut head = [0; HEAD_BYTES];
        let (had, descriptors) = self.receive_head(&mut head)?;
        if had == 0 {
            return Ok(None);
        }
        (&self.stream).read_exact(&mut head[had..])?;
        let (text_bytes, raw_bytes, announced) = read_head(&head)?;
        if announced != descriptors.len() {
            return Err(refuse("a frame's descriptors did not all arrive"));
        }
        let mut text = vec![0; text_bytes];
        (&self.stream).read_exact(&mut text)?;
        let mut raw = vec![0; raw_bytes];
        (&self.stream).read_exact(&mut raw)?;
        Ok(Some(Frame { text, raw, descriptors }))
    }

    fn receive_head(&self, head: &mut [u8]) -> io::Result<(usize, Vec<OwnedFd>)> {
        let mut space =
            [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(HANDOVER_DESCRIPTORS_MAX))];
        let mut ancillary = RecvAncillaryBuffer::new(&mut space);
        let received = loop {
            let mut pieces = [IoSliceMut::new(&mut *head)];
            let flags = RecvFlags::CMSG_CLOEXEC;
            match rustix::net::recvmsg(&self.stream, &mut pieces, &mut ancillary, flags) {
                Err(rustix::io::Errno::INTR) => {}
                outcome => break outcome?,
            }
        };
        let mut descriptors = Vec::new();
        for message in ancillary.drain() {
            if let RecvAncillaryMessage::ScmRights(rights) = message {
                descriptors.extend(rights);
            }
        }
        if received.flags.contains(ReturnFlags::CTRUNC) {
            return Err(refuse(
                "descriptors were lost: the descriptor limit of the process is reached",
            ));
        }
        Ok((received.bytes, descriptors))
    }
}

impl AsFd for Channel {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}

fn head(text: usize, raw: usize, descriptors: usize) -> io::Result<[u8; HEAD_BYTES]> {
    if text > HANDOVER_TEXT_BYTES_MAX
        || raw > HANDOVER_RAW_BYTES_MAX
        || descriptors > HANDOVER_DESCRIPTORS_MAX
    {
        return Err(refuse("a frame would be too long"));
    }
    let mut head = [0; HEAD_BYTES];
    head[..4].copy_from_slice(&MAGIC);
    head[4..6].copy_from_slice(&(descriptors as u16).to_le_bytes());
    head[6..10].copy_from_slice(&(text as u32).to_le_bytes());
    head[10..].copy_from_slice(&(raw as u32).to_le_bytes());
    Ok(head)
}

/// Lengths of text and raw bytes, and how many descriptors.
fn read_head(head: &[u8; HEAD_BYTES]) -> io::Result<(usize, usize, usize)> {
    let [m0, m1, m2, m3, d0, d1, t0, t1, t2, t3, r0, r1, r2, r3] = *head;
    if [m0, m1, m2, m3] != MAGIC {
        return Err(refuse("this is no hand-over frame"));
    }
    let text = u32::from_le_bytes([t0, t1, t2, t3]) as usize;
    let raw = u32::from_le_bytes([r0, r1, r2, r3]) as usize;
    if text > HANDOVER_TEXT_BYTES_MAX || raw > HANDOVER_RAW_BYTES_MAX {
        return Err(refuse("a frame is too long"));
    }
    Ok((text, raw, u16::from_le_bytes([d0, d1]).into()))
}

fn refuse(why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why)
}

#[cfg(test)]
mod tests {
    use std::fs::File;

    use proptest::prelude::*;

    use super::*;

    fn channels() -> (Channel, Channel) {
        let (near, far) = Channel::pair().unwrap();
        let far = Channel::inherited(far).unwrap();
        for end in [&near, &far] {
            end.set_patience(Some(Duration::from_secs(5))).unwrap();
        }
        (near, far)
    }

    #[test]
    fn text_bytes_and_descriptors_arrive_together_and_apart_from_the_next() {
        let (near, far) = channels();
        let home = tempfile::TempDir::new().unwrap();
        let path = home.path().join("file");
        std::fs::write(&path, "content").unwrap();
        let file = File::open(&path).unwrap();
        near.send(b"one", b"raw", &[file.as_fd(), file.as_fd()]).unwrap();
        near.send(b"two", b"", &[]).unwrap();
        drop((near, file));
        let first = far.receive().unwrap().unwrap();
        assert_eq!(
            (&*first.text, &*first.raw, first.descriptors.len()),
            (&b"one"[..], &b"raw"[..], 2)
        );
        for descriptor in first.descriptors {
            let flags = rustix::io::fcntl_getfd(&descriptor).unwrap();
            assert!(flags.contains(rustix::io::FdFlags::CLOEXEC), "no child of ours inherits it");
            assert_eq!(File::from(descriptor).metadata().unwrap().len(), 7);
        }
        let second = far.receive().unwrap().unwrap();
        assert_eq!((&*second.text, second.descriptors.len()), (&b"two"[..], 0));
        assert!(far.receive().unwrap().is_none(), "the end");
    }

    #[test]
    fn a_frame_of_the_largest_size_passes_and_a_larger_one_is_not_sent() {
        let (near, far) = channels();
        let file = File::open("/dev/null").unwrap();
        let many = vec![file.as_fd(); HANDOVER_DESCRIPTORS_MAX];
        let raw = vec![7; HANDOVER_RAW_BYTES_MAX];
        std::thread::scope(|scope| {
            scope.spawn(|| near.send(b"x", &raw, &many).unwrap());
            let frame = far.receive().unwrap().unwrap();
            assert_eq!((frame.raw.len(), frame.descriptors.len()), (raw.len(), many.len()));
        });
        assert!(near.send(b"x", &vec![0; HANDOVER_RAW_BYTES_MAX + 1], &[]).is_err());
        assert!(near.send(b"x", b"", &vec![file.as_fd(); HANDOVER_DESCRIPTORS_MAX + 1]).is_err());
    }

    #[test]
    fn silence_is_told_from_the_end() {
        let (near, far) = channels();
        far.set_patience(Some(Duration::from_millis(20))).unwrap();
        assert_eq!(far.receive().unwrap_err().kind(), io::ErrorKind::WouldBlock);
        drop(near);
        assert!(far.receive().unwrap().is_none());
    }

    #[test]
    fn a_missing_descriptor_is_noticed() {
        let (near, far) = channels();
        let mut frame = head(2, 0, 1).unwrap().to_vec();
        frame.extend(b"{}");
        (&near.stream).write_all(&frame).unwrap();
        assert_eq!(far.receive().unwrap_err().kind(), io::ErrorKind::InvalidData);
    }

    /// A frame is heard or its sender knows that it was not: there is nothing in between.
    #[test]
    fn what_was_said_before_the_ear_closed_is_heard_and_nothing_after() {
        let (near, far) = channels();
        far.send(b"in time", b"", &[]).unwrap();
        near.hear_no_more().unwrap();
        let refused = far.send(b"too late", b"", &[]).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::BrokenPipe);
        assert_eq!(near.receive().unwrap().unwrap().text, b"in time");
        assert!(near.receive().unwrap().is_none());
        near.send(b"the other way", b"", &[]).unwrap();
        assert_eq!(far.receive().unwrap().unwrap().text, b"the other way");
    }

    proptest! {
        /// Whatever is on the stream, a receive ends with a frame, an end or an error.
        #[test]
        fn hostile_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200), honest in any::<bool>()) {
            let (near, far) = channels();
            let mut stream = Vec::new();
            if honest {
                stream.extend(MAGIC);
            }
            stream.extend(&bytes);
            (&near.stream).write_all(&stream).unwrap();
            drop(near);
            while let Ok(Some(_)) = far.receive() {}
        }
    }
}
