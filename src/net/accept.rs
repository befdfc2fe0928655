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
use rustix::event::{PollFd, PollFlags, poll};
use socket2::Socket;

pub use handed::{Handed, HandoverError};
pub use socket::BindError;
pub(crate) use socket::{BACKLOG, Bound, SocketFile, bind_tcp, listen};

use crate::sync::threads;
use crate::sync::throttle::Throttle;

/// How long accepting pauses when the system has no more sockets.
const ERROR_PAUSE: Duration = Duration::from_millis(100);

/// A port that accepts connections. Dropping it stops it.
pub(crate) struct Acceptor {
    listener: Socket,
    stopping: Arc<AtomicBool>,
    /// Dropped to wake the thread from a pause.
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
    /// Whether accepting succeeds.
    accepts: Arc<AtomicBool>,
    /// For a socket shared with other processes: shut down to wake the thread, as the socket itself
    /// must not be touched.
    waker: Option<UnixStream>,
}

impl Acceptor {
    /// Accepts on a bound socket; see [`Acceptor::start`].
    pub fn start_bound(
        what: &'static str,
        bound: Socket,
        handed: bool,
        admit: impl Fn(Socket) + Send + 'static,
    ) -> io::Result<Self> {
        if !handed {
            return Self::start(what, bound, admit);
        }
        let (waker, woken) = UnixStream::pair()?;
        let mut acceptor = Self::launch(what, bound, Some(woken), admit)?;
        acceptor.waker = Some(waker);
        Ok(acceptor)
    }

    /// Starts accepting on a new thread. `what` names the port in log lines. `admit` gets each
    /// connection and must not block.
    pub fn start(
        what: &'static str,
        listener: Socket,
        admit: impl Fn(Socket) + Send + 'static,
    ) -> io::Result<Self> {
        Self::launch(what, listener, None, admit)
    }

    fn launch(
        what: &'static str,
        listener: Socket,
        woken: Option<UnixStream>,
        admit: impl Fn(Socket) + Send + 'static,
    ) -> io::Result<Self> {
        let stopping = Arc::new(AtomicBool::new(false));
        let (stop, stopped) = bounded(0);
        let accepting = listener.try_clone()?;
        let stopping_seen = Arc::clone(&stopping);
        let accepts = Arc::new(AtomicBool::new(true));
        let outcome = Arc::clone(&accepts);
        let thread = threads::spawn(format!("{what}-accept"), move || {
            let accept = || match &woken {
                Some(woken) => accept_shared(&accepting, woken),
                None => accepting.accept().map(|(socket, _)| socket),
            };
            run(what, accept, &stopping_seen, &stopped, &outcome, admit);
        })?;
        let (stop, thread) = (Some(stop), Some(thread));
        Ok(Self { listener, stopping, stop, thread, accepts, waker: None })
    }

    /// Whether its thread runs: a panic would have ended it.
    pub fn is_alive(&self) -> bool {
        self.thread.as_ref().is_some_and(|thread| !thread.is_finished())
    }

    /// Whether accepting succeeds: false while the system is out of sockets.
    pub fn accepts(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.accepts)
    }

    /// Closes the port. Connections in the accept queue are refused, or left to the other processes
    /// that share the socket.
    pub fn stop(&mut self) {
        let Some(thread) = self.thread.take() else { return };
        self.stopping.store(true, Ordering::Release);
        // On Linux this wakes a thread in `accept`, and refuses further connections.
        let woken = match self.waker.take() {
            Some(waker) => waker.shutdown(Shutdown::Both),
            None => self.listener.shutdown(Shutdown::Both),
        };
        drop(self.stop.take());
        match woken {
            // The thread blocks on nothing else, so this is short.
            Ok(()) => drop(thread.join()),
            Err(error) => log::warn!("the listener does not stop: {error}"),
        }
    }
}

impl Drop for Acceptor {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Waits for a connection; fails if woken.
fn accept_shared(listener: &Socket, woken: &UnixStream) -> io::Result<Socket> {
    let mut waiting = [PollFd::new(listener, PollFlags::IN), PollFd::new(woken, PollFlags::IN)];
    poll(&mut waiting, None)?;
    if !waiting[1].revents().is_empty() {
        return Err(io::ErrorKind::WouldBlock.into());
    }
    listener.accept().map(|(socket, _)| socket)
}

fn run(
    what: &str,
    accept: impl Fn() -> io::Result<Socket>,
    stopping: &AtomicBool,
    stopped: &Receiver<()>,
    accepts: &AtomicBool,
    admit: impl Fn(Socket),
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
        let mut acceptor =
            Acceptor::start("test", listener.into(), move |_| seen.send(()).unwrap()).unwrap();
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
        let acceptor = Acceptor::start("test", listener.into(), move |_| {
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
        run("test", accept, &stopping, &stopped, &accepts, admit);
        assert_eq!(admitted.get(), 1);
    }
}
