//! Accepting connections as long as a port is open: a loop that survives every error.
//!
//! In scope: a listening socket, its thread, stopping. Not in scope: serving a connection.

mod handed;
mod socket;
pub(crate) mod strangers;

use std::io;
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use socket2::{SockFilter, Socket};

pub use handed::{Handed, HandoverError};
pub use socket::BindError;
pub(crate) use socket::{BACKLOG, Bound, SocketFile, bind_tcp, listen};

use crate::sync::threads;
use crate::sync::throttle::Throttle;

/// How long accepting pauses when the system has no more sockets.
const ERROR_PAUSE: Duration = Duration::from_millis(100);

/// How long a TCP handshake that has begun may take when a port is closed. Callers are on this
/// machine.
const LAST_HANDSHAKES: Timespec = Timespec { tv_sec: 0, tv_nsec: 1_000_000 };

/// A socket filter that drops the first packet of a TCP handshake: the system of who connects tries
/// again, and is then refused, or reaches the next process.
const NO_NEWCOMERS: [SockFilter; 4] = {
    const FLAGS_AT: u32 = 13;
    const SYN: u32 = 2;
    [
        SockFilter::new((libc::BPF_LD | libc::BPF_B | libc::BPF_ABS) as u16, 0, 0, FLAGS_AT),
        SockFilter::new((libc::BPF_JMP | libc::BPF_JSET | libc::BPF_K) as u16, 0, 1, SYN),
        SockFilter::new((libc::BPF_RET | libc::BPF_K) as u16, 0, 0, 0),
        SockFilter::new((libc::BPF_RET | libc::BPF_K) as u16, 0, 0, u32::MAX),
    ]
};

/// A port that accepts connections. Dropping it stops it.
pub(crate) struct Acceptor {
    listener: Socket,
    at_stop: AtStop,
    stopping: Arc<AtomicBool>,
    /// Dropped to wake the thread from a pause.
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
    /// Whether accepting succeeds.
    accepts: Arc<AtomicBool>,
    /// Shut down to wake the thread: a socket that is shared with other processes must not be
    /// touched.
    waker: UnixStream,
}

/// What becomes of the connections in the accept queue when a port is closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AtStop {
    /// They are refused.
    Refuse,
    /// They are admitted: their callers get an answer.
    Admit,
    /// They are left to the other processes that share the socket.
    Leave,
}

impl Acceptor {
    /// Starts accepting on a new thread. `what` names the port in log lines. `admit` gets each
    /// connection and must not block.
    pub fn start(
        what: &'static str,
        listener: Socket,
        at_stop: AtStop,
        admit: impl Fn(Socket) + Send + 'static,
    ) -> io::Result<Self> {
        let stopping = Arc::new(AtomicBool::new(false));
        let (stop, stopped) = bounded(0);
        let (waker, woken) = UnixStream::pair()?;
        // The caller of a connection that was announced may have gone: `accept` must not block.
        listener.set_nonblocking(true)?;
        let accepting = listener.try_clone()?;
        let stopping_seen = Arc::clone(&stopping);
        let accepts = Arc::new(AtomicBool::new(true));
        let outcome = Arc::clone(&accepts);
        let thread = threads::spawn(format!("{what}-accept"), move || {
            let accept = || accept(&accepting, &woken);
            run(what, accept, &stopping_seen, &stopped, &outcome, &admit);
            if at_stop == AtStop::Admit {
                admit_queued(&accepting, admit);
            }
        })?;
        let (stop, thread) = (Some(stop), Some(thread));
        Ok(Self { listener, at_stop, stopping, stop, thread, accepts, waker })
    }

    /// Whether its thread runs: a panic would have ended it.
    pub fn is_alive(&self) -> bool {
        self.thread.as_ref().is_some_and(|thread| !thread.is_finished())
    }

    /// Whether accepting succeeds: false while the system is out of sockets.
    pub fn accepts(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.accepts)
    }

    /// Closes the port.
    pub fn stop(&mut self) {
        let Some(thread) = self.thread.take() else { return };
        self.stopping.store(true, Ordering::Release);
        drop(self.stop.take());
        match self.waker.shutdown(Shutdown::Both) {
            // The thread blocks on nothing else, so this is short.
            Ok(()) => drop(thread.join()),
            Err(error) => log::warn!("the listener does not stop: {error}"),
        }
        if self.at_stop != AtStop::Leave {
            // On Linux this refuses further connections.
            let _ = self.listener.shutdown(Shutdown::Both);
        }
    }
}

impl Drop for Acceptor {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Waits for a connection; fails if woken.
fn accept(listener: &Socket, woken: &UnixStream) -> io::Result<Socket> {
    let mut waiting = [PollFd::new(listener, PollFlags::IN), PollFd::new(woken, PollFlags::IN)];
    poll(&mut waiting, None)?;
    if !waiting[1].revents().is_empty() {
        return Err(io::ErrorKind::WouldBlock.into());
    }
    listener.accept().map(|(socket, _)| socket)
}

/// Admits the connections in the accept queue, and no more than fit into one.
fn admit_queued(listener: &Socket, admit: impl Fn(Socket)) {
    // Without it, whoever connects between the last `accept` and the close would be reset. A Unix
    // socket has no packets; its file is gone by now.
    if let Err(error) = listener.attach_filter(&NO_NEWCOMERS) {
        log::debug!("who connects while a port is being closed may be reset: {error}");
    }
    for _ in 0..BACKLOG {
        let mut waiting = [PollFd::new(listener, PollFlags::IN)];
        if !matches!(poll(&mut waiting, Some(&LAST_HANDSHAKES)), Ok(1..)) {
            return;
        }
        match listener.accept() {
            Ok((socket, _)) => admit(socket),
            // The caller has gone, or a signal arrived.
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::Interrupted | io::ErrorKind::ConnectionAborted
                ) => {}
            Err(_) => return,
        }
    }
}

fn run(
    what: &str,
    accept: impl Fn() -> io::Result<Socket>,
    stopping: &AtomicBool,
    stopped: &Receiver<()>,
    accepts: &AtomicBool,
    admit: &impl Fn(Socket),
) {
    let errors = Throttle::default();
    loop {
        let accepted = accept();
        let is_stopping = stopping.load(Ordering::Acquire);
        match accepted {
            // Also when stopping: a connection that was accepted must be served.
            Ok(socket) => {
                accepts.store(true, Ordering::Relaxed);
                admit(socket);
            }
            Err(_) if is_stopping => {}
            // The caller disconnected or went to another process, or a signal arrived: not a
            // failure.
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::Interrupted
                        | io::ErrorKind::ConnectionAborted
                        | io::ErrorKind::WouldBlock
                ) => {}
            Err(error) => {
                accepts.store(false, Ordering::Relaxed);
                if let Some(more) = errors.allow() {
                    log::warn!("{what}: accepting failed, trying again: {error}{more}");
                }
                if stopped.recv_timeout(ERROR_PAUSE) != Err(RecvTimeoutError::Timeout) {
                    return;
                }
            }
        }
        if is_stopping {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
    use std::thread;
    use std::time::Instant;

    use super::*;

    #[test]
    fn a_stopped_port_refuses_and_its_thread_has_ended() {
        let listener = TcpListener::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).unwrap();
        let address = listener.local_addr().unwrap();
        let (seen, admitted) = bounded(1);
        let mut acceptor = Acceptor::start("test", listener.into(), AtStop::Refuse, move |_| {
            seen.send(()).unwrap();
        })
        .unwrap();
        TcpStream::connect(address).unwrap();
        admitted.recv_timeout(Duration::from_secs(10)).unwrap();
        acceptor.stop();
        assert!(admitted.recv().is_err(), "the thread has dropped what it held");
        drop(acceptor);
        assert!(TcpStream::connect(address).is_err());
    }

    #[test]
    fn a_port_whose_thread_has_panicked_is_not_alive() {
        let listener = TcpListener::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).unwrap();
        let address = listener.local_addr().unwrap();
        let (held, let_go) = bounded::<()>(0);
        let acceptor = Acceptor::start("test", listener.into(), AtStop::Refuse, move |_| {
            let _ = let_go.recv();
            std::panic::resume_unwind(Box::new("a defect"));
        })
        .unwrap();
        assert!(acceptor.is_alive());
        TcpStream::connect(address).unwrap();
        assert!(acceptor.is_alive());
        drop(held);
        let until = Instant::now() + Duration::from_secs(10);
        while acceptor.is_alive() {
            assert!(Instant::now() < until, "it is taken for alive");
            thread::yield_now();
        }
    }

    #[test]
    fn a_connection_that_came_at_the_last_moment_is_admitted() {
        let stopping = AtomicBool::new(false);
        let (_stop, stopped) = bounded(0);
        let admitted = std::cell::Cell::new(0);
        let accept = || {
            stopping.store(true, Ordering::Release);
            UnixStream::pair().map(|(near, _)| near.into())
        };
        let accepts = AtomicBool::new(true);
        let admit = |_| admitted.set(admitted.get() + 1);
        run("test", accept, &stopping, &stopped, &accepts, &admit);
        assert_eq!(admitted.get(), 1);
    }

    #[test]
    fn connections_in_the_queue_are_admitted_where_their_callers_get_an_answer() {
        const WAITING: usize = 20;
        // One may be accepted before the thread notices the stop.
        for (at_stop, expected) in [(AtStop::Admit, WAITING..=WAITING), (AtStop::Leave, 0..=1)] {
            let listener = TcpListener::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).unwrap();
            let address = listener.local_addr().unwrap();
            let shared = listener.try_clone().unwrap();
            let (seen, admitted) = bounded(WAITING + 1);
            let (held, let_go) = bounded::<()>(0);
            let mut acceptor = Acceptor::start("test", listener.into(), at_stop, move |_| {
                seen.send(()).unwrap();
                let _ = let_go.recv();
            })
            .unwrap();
            // The thread is busy with the first; the others wait in the queue.
            let _first = TcpStream::connect(address).unwrap();
            admitted.recv_timeout(Duration::from_secs(10)).unwrap();
            let _others = [(); WAITING].map(|()| TcpStream::connect(address).unwrap());
            acceptor.stopping.store(true, Ordering::Release);
            drop(held);
            acceptor.stop();
            let count = admitted.try_iter().count();
            assert!(expected.contains(&count), "{at_stop:?}: {count}");
            shared.set_nonblocking(true).unwrap();
            assert_eq!(shared.accept().is_ok(), at_stop == AtStop::Leave);
        }
    }
}
