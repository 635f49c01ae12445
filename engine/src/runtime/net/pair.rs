//! Two ends joined in memory: what is written to one is read from the other.
//!
//! A tunnel that runs inside a stream of another tunnel has one where others have a socket, and it keeps to
//! what sockets do: a short read means that nothing more is there, a full buffer takes nothing, closing with
//! bytes unread is an abort, and an abort never reads as an end. One thing is more polite than a socket:
//! what is written to an end whose other end has left in order is taken, and is nobody's.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::fmt;
use std::io::{self, ErrorKind, IoSlice, IoSliceMut, Read};
use std::mem;
use std::rc::Rc;
use std::time::Instant;

use super::super::readiness::Readiness;
use super::super::time::now;
use super::super::watch::Watch;
use crate::buffers;

/// One of the two.
#[derive(Debug)]
pub(crate) struct PairEnd {
    own: Rc<Side>,
    other: Rc<Side>,
    resets: Cell<bool>,
}

/// Is told how many bytes an end holds that were not read yet; dropped when nothing is held any more.
pub(crate) type Holds = Box<dyn Fn(usize)>;

struct Held(Holds);

impl fmt::Debug for Held {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Held")
    }
}

#[derive(Debug)]
struct Side {
    watch: Watch,
    /// What the other end has written and this one has not read. Holds no memory while empty.
    arrived: RefCell<VecDeque<u8>>,
    /// Since when nothing of it was read.
    waits_since: Cell<Option<Instant>>,
    /// Of `arrived`.
    bytes_max: usize,
    held: Held,
    /// The other end has written its last byte.
    ended: Cell<bool>,
    /// This end was dropped.
    left: Cell<bool>,
}

impl PairEnd {
    /// Two ends, each of which holds so many bytes that were not read yet, and tells how many these are.
    pub(super) fn pair(bytes_max: usize, holds: [Holds; 2]) -> (PairEnd, PairEnd) {
        let side = |holds| {
            Rc::new(Side {
                watch: Watch::new(Readiness::WRITABLE),
                arrived: RefCell::default(),
                waits_since: Cell::new(None),
                bytes_max,
                held: Held(holds),
                ended: Cell::new(false),
                left: Cell::new(false),
            })
        };
        let [one, other] = holds.map(side);
        let near = PairEnd { own: one.clone(), other: other.clone(), resets: Cell::new(false) };
        (near, PairEnd { own: other, other: one, resets: Cell::new(false) })
    }

    pub(super) fn watch(&self) -> &Watch {
        &self.own.watch
    }

    pub(super) fn try_read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        self.try_readv(&mut [IoSliceMut::new(buffer)])
    }

    pub(super) fn try_readv(&self, buffers: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        let wanted: usize = buffers.iter().map(|buffer| buffer.len()).sum();
        let Side { watch, arrived, waits_since, ended, held, .. } = &*self.own;
        let mut arrived = arrived.borrow_mut();
        if arrived.is_empty() && !ended.get() && !watch.is(Readiness::ABORTED) {
            watch.clear(Readiness::READABLE);
            return Err(ErrorKind::WouldBlock.into());
        }
        let mut read = 0;
        for buffer in buffers {
            read += take(&mut arrived, buffer)?;
        }
        if arrived.is_empty() {
            buffers::give_back(mem::take(&mut *arrived).into());
        }
        held.0(arrived.len());
        waits_since.set((!arrived.is_empty()).then(now));
        watch.check_end(read, wanted)?;
        watch.after_read(read, wanted);
        if read > 0 {
            self.other.watch.notify(Readiness::WRITABLE);
        }
        Ok(read)
    }

    pub(super) fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        self.try_writev(&[IoSlice::new(bytes)])
    }

    pub(super) fn try_writev(&self, buffers: &[IoSlice<'_>]) -> io::Result<usize> {
        let wanted: usize = buffers.iter().map(|buffer| buffer.len()).sum();
        if self.own.watch.is(Readiness::ABORTED) || self.other.ended.get() {
            return Err(ErrorKind::BrokenPipe.into());
        }
        if self.other.left.get() {
            return Ok(wanted);
        }
        let mut arrived = self.other.arrived.borrow_mut();
        let room = self.other.bytes_max - arrived.len();
        if room == 0 && wanted > 0 {
            self.own.watch.clear(Readiness::WRITABLE);
            return Err(ErrorKind::WouldBlock.into());
        }
        let mut left = room.min(wanted);
        if left > 0 && arrived.capacity() == 0 {
            *arrived = buffers::take().into();
        }
        for buffer in buffers {
            let taken = left.min(buffer.len());
            arrived.extend(&buffer[..taken]);
            left -= taken;
        }
        self.other.held.0(arrived.len());
        if !arrived.is_empty() && self.other.waits_since.get().is_none() {
            self.other.waits_since.set(Some(now()));
        }
        drop(arrived);
        let written = room.min(wanted);
        self.own.watch.after_write(written, wanted);
        if written > 0 {
            self.other.watch.notify(Readiness::READABLE);
        }
        Ok(written)
    }

    pub(super) fn shutdown_write(&self) -> io::Result<()> {
        if self.own.watch.is(Readiness::ABORTED) {
            return Err(ErrorKind::NotConnected.into());
        }
        self.other.ended.set(true);
        self.other.watch.notify(Readiness::READABLE.or(Readiness::READ_CLOSED));
        Ok(())
    }

    pub(super) fn has_unread(&self) -> bool {
        !self.own.arrived.borrow().is_empty()
    }

    /// Since when the other end has read nothing of what was written here, if something waits for it.
    pub(super) fn waits_since(&self) -> Option<Instant> {
        self.other.waits_since.get()
    }

    /// Takes back what was written here and not read. The other end reads an abort in its place.
    pub(super) fn forget_unread(&self) {
        buffers::give_back(mem::take(&mut *self.other.arrived.borrow_mut()).into());
        self.other.waits_since.set(None);
        self.other.held.0(0);
        self.resets.set(true);
        let aborted = Readiness::ABORTED.or(Readiness::ERROR).or(Readiness::READABLE);
        self.other.watch.notify(aborted.or(Readiness::WRITABLE).or(Readiness::HUNG_UP));
    }

    pub(super) fn reset_on_close(&self) {
        self.resets.set(true);
    }
}

/// Moves bytes from the front of `arrived` into `buffer`, as far as they go.
fn take(arrived: &mut VecDeque<u8>, buffer: &mut [u8]) -> io::Result<usize> {
    let mut taken = 0;
    loop {
        // A queue gives what it holds in one piece, or in two.
        match arrived.read(&mut buffer[taken..])? {
            0 => return Ok(taken),
            more => taken += more,
        }
    }
}

impl Drop for PairEnd {
    fn drop(&mut self) {
        self.own.left.set(true);
        let unread = !self.own.arrived.borrow().is_empty();
        let how = if self.resets.get() || unread {
            Readiness::ABORTED.or(Readiness::ERROR)
        } else {
            self.other.ended.set(true);
            Readiness::READ_CLOSED
        };
        let gone = Readiness::READABLE.or(Readiness::WRITABLE).or(Readiness::HUNG_UP);
        self.other.watch.notify(gone.or(how));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROOM: usize = 10;

    fn pair() -> (PairEnd, PairEnd) {
        PairEnd::pair(ROOM, [Box::new(|_| ()), Box::new(|_| ())])
    }

    fn read(end: &PairEnd) -> Result<Vec<u8>, ErrorKind> {
        let mut buffer = [0; 2 * ROOM];
        end.try_read(&mut buffer).map(|got| buffer[..got].to_vec()).map_err(|error| error.kind())
    }

    fn write(end: &PairEnd, bytes: &[u8]) -> Result<usize, ErrorKind> {
        end.try_write(bytes).map_err(|error| error.kind())
    }

    #[test]
    fn bytes_arrive_in_order_and_no_more_than_there_is_room_for() {
        let (near, far) = pair();
        assert_eq!(read(&far), Err(ErrorKind::WouldBlock));
        let slices = [IoSlice::new(b"hello "), IoSlice::new(b""), IoSlice::new(b"world")];
        assert_eq!(near.try_writev(&slices).ok(), Some(ROOM), "the last byte has no room");
        assert!(!near.watch().is_writable());
        assert_eq!(write(&near, b"d"), Err(ErrorKind::WouldBlock));
        assert!(far.watch().is_readable());
        let mut pieces = [[0; 4], [0; 4]];
        let [one, two] = &mut pieces;
        let got = far.try_readv(&mut [IoSliceMut::new(one), IoSliceMut::new(two)]).ok();
        assert_eq!((got, &pieces.concat()[..]), (Some(8), &b"hello wo"[..]));
        assert!(near.watch().is_writable());
        assert_eq!(write(&near, b"d"), Ok(1));
        assert_eq!(read(&far), Ok(b"rld".to_vec()));
        assert!(!far.watch().is_readable(), "a short read was the last of it");
        assert_eq!(far.own.arrived.borrow().capacity(), 0, "and nothing is held");
        assert_eq!(write(&near, b""), Ok(0));
        assert_eq!(far.own.arrived.borrow().capacity(), 0, "nor by a write of nothing");
    }

    #[test]
    fn what_each_end_holds_is_told() {
        let told = [(); 2].map(|()| Rc::new(Cell::new(0)));
        let holds = |told: &Rc<Cell<usize>>| {
            let told = told.clone();
            Box::new(move |bytes| told.set(bytes)) as Holds
        };
        let (near, far) = PairEnd::pair(ROOM, [holds(&told[0]), holds(&told[1])]);
        let held = || [told[0].get(), told[1].get()];
        assert_eq!(write(&near, b"seven b"), Ok(7));
        assert_eq!(write(&far, b"two"), Ok(3));
        assert_eq!(held(), [3, 7]);
        assert_eq!(far.try_read(&mut [0; 4]).ok(), Some(4));
        assert_eq!(held(), [3, 3]);
        assert_eq!((read(&far), read(&near)), (Ok(b"n b".to_vec()), Ok(b"two".to_vec())));
        assert_eq!(held(), [0, 0]);
        drop((near, far));
        assert!(told.iter().all(|told| Rc::strong_count(told) == 1), "nobody tells any more");
    }

    #[test]
    fn what_nobody_reads_can_be_taken_back() {
        let (near, far) = pair();
        assert_eq!(near.waits_since(), None);
        assert_eq!(write(&near, b"seven b"), Ok(7));
        let since = near.waits_since().expect("it waits");
        assert_eq!(write(&near, b"8"), Ok(1));
        assert_eq!(near.waits_since(), Some(since), "more does not make it newer");
        assert_eq!(far.try_read(&mut [0; 8]).ok(), Some(8));
        assert_eq!(near.waits_since(), None);
        assert_eq!(write(&near, b"unread"), Ok(6));
        near.forget_unread();
        assert_eq!((near.waits_since(), far.own.arrived.borrow().capacity()), (None, 0));
        for _ in 0..2 {
            assert_eq!(read(&far), Err(ErrorKind::ConnectionReset), "and no end in order");
            drop(near.shutdown_write());
        }
    }

    #[test]
    fn half_close_stays_half_close() {
        let (near, far) = pair();
        assert_eq!(write(&near, b"last"), Ok(4));
        near.shutdown_write().expect("open");
        assert_eq!(write(&near, b"more"), Err(ErrorKind::BrokenPipe));
        assert_eq!(read(&far), Ok(b"last".to_vec()));
        assert_eq!(read(&far), Ok(Vec::new()));
        assert_eq!(write(&far, b"answer"), Ok(6));
        assert_eq!(read(&near), Ok(b"answer".to_vec()));
        assert!(!far.watch().is_closed() && !near.watch().is_closed());
    }

    #[test]
    fn an_end_that_left_in_order_reads_as_an_end_and_takes_what_is_for_it() {
        let (near, far) = pair();
        assert_eq!(write(&near, b"last"), Ok(4));
        drop(near);
        assert_eq!(read(&far), Ok(b"last".to_vec()));
        assert_eq!(read(&far), Ok(Vec::new()));
        assert!(far.watch().is_closed() && !far.watch().is(Readiness::ABORTED));
        for _ in 0..3 {
            assert_eq!(write(&far, &[0; ROOM]), Ok(ROOM), "nobody's, and no error");
        }
        far.shutdown_write().expect("nothing speaks against it");
    }

    #[test]
    fn an_abort_never_reads_as_an_end() {
        for name in ["asked for", "by what nobody read"] {
            let (near, far) = pair();
            assert_eq!(write(&near, b"last"), Ok(4));
            match name {
                "asked for" => near.reset_on_close(),
                _ => assert_eq!(write(&far, b"unread"), Ok(6)),
            }
            drop(near);
            assert!(far.watch().is_closed() && far.watch().is(Readiness::ABORTED), "{name}");
            assert_eq!(read(&far), Ok(b"last".to_vec()), "{name}: it came before");
            for _ in 0..2 {
                assert_eq!(read(&far), Err(ErrorKind::ConnectionReset), "{name}");
            }
            assert_eq!(write(&far, b"more"), Err(ErrorKind::BrokenPipe), "{name}");
            assert!(far.shutdown_write().is_err(), "{name}");
        }
    }
}
