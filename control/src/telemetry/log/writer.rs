//! Lines on their way to standard output: a bounded queue and one thread.
//!
//! Writing never blocks whoever logs. When the reader of our output stops reading, or the disk is full, lines are
//! dropped and counted; the process goes on.

use std::collections::VecDeque;
use std::io::{self, IoSlice, Write};
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread::Thread;
use std::time::{Duration, Instant};

use crossbeam_queue::ArrayQueue;

use super::line::TEXT_BYTES_MAX;

/// Lines that may wait.
const LINES_MAX: usize = 10_000;

/// Bytes that may wait.
const BYTES_MAX: usize = 4 << 20;

/// Lines in one write.
const BATCH_LINES_MAX: usize = 64;

/// How long the thread pauses after a write that failed, so that a full disk costs no core.
const FAILURE_PAUSE: Duration = Duration::from_millis(100);

const _: () = assert!(BYTES_MAX > BATCH_LINES_MAX * TEXT_BYTES_MAX);

/// Where lines are handed in. Cheap to clone.
#[derive(Clone)]
pub struct LogWriter {
    shared: Arc<Shared>,
}

struct Shared {
    queue: ArrayQueue<Vec<u8>>,
    waiting_bytes: AtomicUsize,
    lost: AtomicU64,
    /// Lines handed in, and lines written or given up: equal when nothing is under way.
    accepted: AtomicU64,
    finished: AtomicU64,
    asleep: AtomicBool,
    thread: OnceLock<Thread>,
}

impl LogWriter {
    /// Starts the thread that writes to `sink`.
    ///
    /// # Errors
    /// When the thread cannot be made.
    pub fn new(sink: impl Write + Send + 'static) -> io::Result<Self> {
        let shared = Arc::new(Shared {
            queue: ArrayQueue::new(LINES_MAX),
            waiting_bytes: AtomicUsize::new(0),
            lost: AtomicU64::new(0),
            accepted: AtomicU64::new(0),
            finished: AtomicU64::new(0),
            asleep: AtomicBool::new(false),
            thread: OnceLock::new(),
        });
        let weak = Arc::downgrade(&shared);
        let thread = std::thread::Builder::new().name("ringway-log".to_owned());
        let handle = thread.spawn(move || {
            // The writer outlives its handles only while there is something left to write.
            let mut sink = sink;
            while let Some(shared) = weak.upgrade() {
                if !shared.write_batch(&mut sink) {
                    shared.sleep();
                }
            }
        })?;
        shared.thread.get_or_init(|| handle.thread().clone());
        Ok(Self { shared })
    }

    /// Starts the thread that writes to standard output.
    ///
    /// # Errors
    /// When there is no standard output or the thread cannot be made.
    pub fn stdout() -> io::Result<Self> {
        let descriptor = io::stdout().as_fd().try_clone_to_owned()?;
        Self::new(std::fs::File::from(descriptor))
    }

    /// Hands in one line, or drops it if too much waits already.
    pub fn write(&self, line: Vec<u8>) {
        let shared = &self.shared;
        let length = line.len();
        if shared.waiting_bytes.fetch_add(length, Ordering::Relaxed) + length > BYTES_MAX {
            shared.waiting_bytes.fetch_sub(length, Ordering::Relaxed);
            shared.lost.fetch_add(1, Ordering::Relaxed);
            return;
        }
        shared.accepted.fetch_add(1, Ordering::SeqCst);
        if shared.queue.push(line).is_err() {
            shared.waiting_bytes.fetch_sub(length, Ordering::Relaxed);
            shared.finished.fetch_add(1, Ordering::SeqCst);
            shared.lost.fetch_add(1, Ordering::Relaxed);
        }
        shared.wake();
    }

    /// Whether less than half of what may wait does. Who can wait leaves the other half to who cannot.
    pub fn has_room(&self) -> bool {
        let shared = &self.shared;
        shared.queue.len() < LINES_MAX / 2
            && shared.waiting_bytes.load(Ordering::Relaxed) < BYTES_MAX / 2
    }

    /// Lines that were dropped.
    pub fn lost(&self) -> u64 {
        self.shared.lost.load(Ordering::Relaxed)
    }

    /// Waits until everything handed in so far is written, at most for `patience`. Returns whether it is.
    pub fn flush(&self, patience: Duration) -> bool {
        let target = self.shared.accepted.load(Ordering::SeqCst);
        let deadline = Instant::now() + patience;
        while self.shared.finished.load(Ordering::SeqCst) < target {
            if Instant::now() >= deadline {
                return false;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        true
    }
}

impl Shared {
    /// Writes what waits, at most one batch. Returns whether there was anything.
    fn write_batch(&self, sink: &mut impl Write) -> bool {
        let mut batch = VecDeque::with_capacity(BATCH_LINES_MAX);
        while batch.len() < BATCH_LINES_MAX
            && let Some(line) = self.queue.pop()
        {
            batch.push_back(line);
        }
        let lines = batch.len() as u64;
        if lines == 0 {
            return false;
        }
        let bytes: usize = batch.iter().map(Vec::len).sum();
        if let Err(unwritten) = write_all(sink, batch) {
            self.lost.fetch_add(unwritten as u64, Ordering::Relaxed);
            std::thread::sleep(FAILURE_PAUSE);
        }
        self.waiting_bytes.fetch_sub(bytes, Ordering::Relaxed);
        self.finished.fetch_add(lines, Ordering::SeqCst);
        true
    }

    fn sleep(&self) {
        self.asleep.store(true, Ordering::SeqCst);
        if self.queue.is_empty() {
            // The timeout lets the thread notice that every handle is gone.
            std::thread::park_timeout(Duration::from_secs(1));
        }
        self.asleep.store(false, Ordering::SeqCst);
    }

    fn wake(&self) {
        if self.asleep.swap(false, Ordering::SeqCst)
            && let Some(thread) = self.thread.get()
        {
            thread.unpark();
        }
    }
}

/// Writes every line, or says how many were not written whole.
fn write_all(sink: &mut impl Write, mut lines: VecDeque<Vec<u8>>) -> Result<(), usize> {
    let mut offset = 0;
    while let Some(first) = lines.front() {
        let mut slices = Vec::with_capacity(lines.len());
        slices.push(IoSlice::new(&first[offset..]));
        slices.extend(lines.iter().skip(1).map(|line| IoSlice::new(line)));
        let mut written = match sink.write_vectored(&slices) {
            Ok(0) => return Err(lines.len()),
            Ok(written) => written,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            // Somebody made our standard output non-blocking: it is shared with whoever started us.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                std::thread::sleep(Duration::from_millis(5));
                continue;
            }
            Err(_) => return Err(lines.len()),
        };
        while let Some(line) = lines.front() {
            let left = line.len() - offset;
            if written < left {
                offset += written;
                break;
            }
            written -= left;
            offset = 0;
            lines.pop_front();
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;
    use std::sync::mpsc::{Receiver, Sender, channel};

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(20);

    /// Takes a few bytes at a time, and nothing at all before it is told to.
    struct Pipe {
        taken: Arc<Mutex<Vec<u8>>>,
        gate: Receiver<()>,
        open: bool,
    }

    impl Write for Pipe {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            if !self.open {
                self.gate.recv().map_err(|_| io::Error::from(io::ErrorKind::BrokenPipe))?;
                self.open = true;
            }
            let count = bytes.len().min(7);
            self.taken.lock().unwrap().extend_from_slice(&bytes[..count]);
            Ok(count)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn pipe() -> (Pipe, Arc<Mutex<Vec<u8>>>, Sender<()>) {
        let (open, gate) = channel();
        let taken = Arc::new(Mutex::new(Vec::new()));
        (Pipe { taken: Arc::clone(&taken), gate, open: false }, taken, open)
    }

    #[test]
    fn lines_arrive_whole_and_in_order() {
        let (sink, taken, open) = pipe();
        open.send(()).unwrap();
        let writer = LogWriter::new(sink).unwrap();
        let lines: Vec<_> = (0..500).map(|n| format!("line number {n}\n")).collect();
        for line in &lines {
            writer.write(line.clone().into_bytes());
        }
        assert!(writer.flush(PATIENCE));
        assert_eq!(String::from_utf8(taken.lock().unwrap().clone()).unwrap(), lines.concat());
        assert_eq!(writer.lost(), 0);
    }

    #[test]
    fn a_reader_that_stopped_costs_lines_and_never_time() {
        let (sink, taken, open) = pipe();
        let writer = LogWriter::new(sink).unwrap();
        let count = LINES_MAX + 3 * BATCH_LINES_MAX;
        for _ in 0..count {
            writer.write(b"x\n".to_vec());
        }
        assert!(!writer.flush(Duration::ZERO));
        let lost = writer.lost();
        assert!(lost >= 1, "the queue is bounded");
        open.send(()).unwrap();
        assert!(writer.flush(PATIENCE));
        assert_eq!(taken.lock().unwrap().len() as u64, 2 * (count as u64 - lost));
    }

    #[test]
    fn who_can_wait_sees_when_half_of_the_places_are_taken() {
        //  bytes of a line            lines until there is no room
        let rows = [(2, LINES_MAX / 2), (TEXT_BYTES_MAX, BYTES_MAX / 2 / TEXT_BYTES_MAX)];
        for (bytes, lines) in rows {
            let (sink, _taken, open) = pipe();
            let writer = LogWriter::new(sink).unwrap();
            // The thread takes a batch out of the queue and is stuck with it.
            let most = lines + BATCH_LINES_MAX;
            let line = vec![b'x'; bytes];
            let until = (0..most).find(|_| {
                let is_full = !writer.has_room();
                writer.write(line.clone());
                is_full
            });
            assert!(until.is_none_or(|until| until >= lines), "{bytes}: {until:?}");
            assert!(!writer.has_room(), "{bytes}");
            assert_eq!(writer.lost(), 0, "{bytes}: what cannot wait still has the other half");
            open.send(()).unwrap();
            assert!(writer.flush(PATIENCE));
            assert!(writer.has_room(), "{bytes}");
        }
    }

    #[test]
    fn waiting_bytes_are_bounded_too() {
        let (sink, _taken, open) = pipe();
        let writer = LogWriter::new(sink).unwrap();
        let lines = 2 * BYTES_MAX / TEXT_BYTES_MAX;
        assert!(lines < LINES_MAX);
        for _ in 0..lines {
            writer.write(vec![b'x'; TEXT_BYTES_MAX]);
        }
        assert_eq!(writer.lost(), lines as u64 / 2);
        drop(open);
    }

    #[test]
    fn a_broken_sink_loses_lines_and_is_counted() {
        let (sink, _taken, open) = pipe();
        drop(open);
        let writer = LogWriter::new(sink).unwrap();
        writer.write(b"one\n".to_vec());
        assert!(writer.flush(PATIENCE));
        assert_eq!(writer.lost(), 1);
    }
}
