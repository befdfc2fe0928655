//! The thread that writes the log, and the bounded queue before it: whoever logs never waits for the
//! reader of standard error.
//!
//! In scope: whole lines in, bytes out, and how many lines were lost. Not in scope: the form of a
//! line.

use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, bounded};

use crate::sync::threads;

/// Most waiting lines. A line has at most some 8 KiB, so that this is 8 MiB at the very worst.
const MAX_WAITING: usize = 1024;
/// How often a full standard error that does not block is tried again.
const RETRY_INTERVAL: Duration = Duration::from_millis(20);

/// The way to the thread that writes. It ends with the last clone of this.
#[derive(Clone)]
pub(super) struct LogQueue {
    entries: Sender<Entry>,
    /// Lines that found no place since the last one that did.
    lost: Arc<AtomicU64>,
}

enum Entry {
    Line {
        text: Vec<u8>,
        /// How many lines were lost just before this one.
        lost_before: u64,
    },
    /// Answered once everything before it is written.
    Flush(Sender<()>),
}

impl LogQueue {
    /// Starts the thread. `notice` is the line about a number of lost ones.
    pub fn start(
        out: impl Write + Send + 'static,
        notice: impl Fn(u64) -> Vec<u8> + Send + 'static,
    ) -> io::Result<Self> {
        let (entries, taken) = bounded(MAX_WAITING);
        let lost = Arc::new(AtomicU64::new(0));
        let writer = Writer { out, notice, lost: Arc::clone(&lost), unsaid: 0 };
        threads::spawn("log", move || writer.run(&taken))?;
        Ok(Self { entries, lost })
    }

    /// Adds a line, which is lost and counted where the queue is full.
    pub fn push(&self, text: Vec<u8>) {
        let lost_before = self.lost.swap(0, Ordering::Relaxed);
        if self.entries.try_send(Entry::Line { text, lost_before }).is_err() {
            self.lost.fetch_add(lost_before + 1, Ordering::Relaxed);
        }
    }

    /// Adds a line that must not be lost, and waits at most `limit` until it is written.
    pub fn push_and_flush(&self, text: Vec<u8>, limit: Duration) {
        let deadline = Instant::now() + limit;
        let lost_before = self.lost.swap(0, Ordering::Relaxed);
        let line = Entry::Line { text, lost_before };
        if self.entries.send_deadline(line, deadline).is_ok() {
            self.flush_until(deadline);
        }
    }

    /// Waits at most `limit` until everything is written.
    pub fn flush(&self, limit: Duration) {
        self.flush_until(Instant::now() + limit);
    }

    fn flush_until(&self, deadline: Instant) {
        let (done, is_done) = bounded(1);
        // Nobody reads: what is left cannot be written.
        if self.entries.send_deadline(Entry::Flush(done), deadline).is_ok() {
            let _ = is_done.recv_deadline(deadline);
        }
    }
}

/// `env_logger` writes each line whole, by one call.
impl Write for LogQueue {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.push(line.to_vec());
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

struct Writer<W, N> {
    out: W,
    notice: N,
    lost: Arc<AtomicU64>,
    /// Lost lines that the log has not said yet.
    unsaid: u64,
}

impl<W: Write, N: Fn(u64) -> Vec<u8>> Writer<W, N> {
    fn run(mut self, entries: &Receiver<Entry>) {
        // Ends when nobody can log any more.
        for entry in entries {
            match entry {
                Entry::Line { text, lost_before } => {
                    self.unsaid += lost_before;
                    self.say_lost();
                    if write_all(&mut self.out, &text).is_err() {
                        self.unsaid += 1;
                    }
                }
                // Disconnected: it has waited long enough.
                Entry::Flush(done) => drop(done.send(())),
            }
            // Without a next line, nothing else would say it.
            if entries.is_empty() {
                self.unsaid += self.lost.swap(0, Ordering::Relaxed);
                self.say_lost();
            }
        }
    }

    fn say_lost(&mut self) {
        if self.unsaid > 0 && write_all(&mut self.out, &(self.notice)(self.unsaid)).is_ok() {
            self.unsaid = 0;
        }
    }
}

/// As [`Write::write_all`], also where the other owner of a terminal or pipe has made it not block.
fn write_all(out: &mut impl Write, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        match out.write(bytes) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(count) => bytes = &bytes[count..],
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                thread::sleep(RETRY_INTERVAL)
            }
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(20);

    /// Passes on what is written, a permit each.
    struct Gate {
        permits: Receiver<io::Result<()>>,
        out: Sender<String>,
    }

    impl Write for Gate {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.permits.recv_timeout(PATIENCE).unwrap()?;
            self.out.send(String::from_utf8(bytes.to_vec()).unwrap()).unwrap();
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn gate() -> (LogQueue, Sender<io::Result<()>>, Receiver<String>) {
        let (permit, permits) = crossbeam_channel::unbounded();
        let (out, written) = crossbeam_channel::unbounded();
        let notice = |lost| format!("{lost} lost").into_bytes();
        (LogQueue::start(Gate { permits, out }, notice).unwrap(), permit, written)
    }

    #[test]
    fn what_finds_no_place_is_counted_and_said_where_it_was_lost() {
        let (queue, permit, written) = gate();
        // One is being written, the others wait.
        queue.push(b"first".to_vec());
        while !queue.entries.is_empty() {
            thread::yield_now();
        }
        for at in 0..MAX_WAITING + 7 {
            queue.push(format!("line {at}").into_bytes());
        }
        permit.send(Ok(())).unwrap();
        assert_eq!(written.recv_timeout(PATIENCE).unwrap(), "first");
        while queue.entries.is_full() {
            thread::yield_now();
        }
        queue.push(b"after".to_vec());
        (0..MAX_WAITING + 3).for_each(|_| permit.send(Ok(())).unwrap());
        for at in 0..MAX_WAITING {
            assert_eq!(written.recv_timeout(PATIENCE).unwrap(), format!("line {at}"));
        }
        assert_eq!(written.recv_timeout(PATIENCE).unwrap(), "7 lost");
        assert_eq!(written.recv_timeout(PATIENCE).unwrap(), "after");
        queue.flush(PATIENCE);
        assert!(written.is_empty());
    }

    #[test]
    fn the_last_lost_line_is_said_without_a_next_one() {
        let (queue, permit, written) = gate();
        (0..MAX_WAITING + 9).for_each(|_| queue.push(b"line".to_vec()));
        (0..MAX_WAITING + 9).for_each(|_| permit.send(Ok(())).unwrap());
        queue.flush(PATIENCE);
        let written: Vec<String> = written.try_iter().collect();
        let lines = written.iter().filter(|line| *line == "line").count();
        assert_eq!(written.last().unwrap(), &format!("{} lost", MAX_WAITING + 9 - lines));
    }

    #[test]
    fn what_cannot_be_written_is_counted_too() {
        let (queue, permit, written) = gate();
        permit.send(Err(io::ErrorKind::StorageFull.into())).unwrap();
        permit.send(Err(io::ErrorKind::StorageFull.into())).unwrap();
        queue.push(b"a".to_vec());
        queue.flush(PATIENCE);
        (0..2).for_each(|_| permit.send(Ok(())).unwrap());
        queue.push(b"b".to_vec());
        queue.flush(PATIENCE);
        assert_eq!(written.try_iter().collect::<Vec<_>>(), ["1 lost", "b"]);
    }

    #[test]
    fn what_is_fatal_waits_for_a_place_but_not_for_ever() {
        let (queue, permit, written) = gate();
        (0..MAX_WAITING + 9).for_each(|_| queue.push(b"line".to_vec()));
        let began = Instant::now();
        queue.push_and_flush(b"nobody reads".to_vec(), Duration::from_millis(50));
        assert!(began.elapsed() < PATIENCE);
        (0..MAX_WAITING + 20).for_each(|_| permit.send(Ok(())).unwrap());
        queue.push_and_flush(b"fatal".to_vec(), PATIENCE);
        assert_eq!(written.try_iter().last().unwrap(), "fatal");
    }

    #[test]
    fn an_output_that_does_not_block_gets_whole_lines() {
        let (mut reader, writer) = io::pipe().unwrap();
        rustix::io::ioctl_fionbio(&writer, true).unwrap();
        let queue = LogQueue::start(writer, |_| Vec::new()).unwrap();
        let line = [vec![b'x'; 300_000], b"\n".to_vec()].concat();
        queue.push(line.clone());
        drop(queue);
        let mut read = Vec::new();
        reader.read_to_end(&mut read).unwrap();
        assert!(read == line);
    }
}
