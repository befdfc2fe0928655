//! Accepting connections for as long as a port is open: a loop that no error ends.
//!
//! In scope: a listening socket, its thread, its end. Not in scope: what becomes of a connection.

mod socket;

use std::io;
use std::net::Shutdown;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};
use socket2::Socket;

pub use socket::BindError;
pub(crate) use socket::{Bound, SocketFile, listen};

use crate::throttle::Throttle;

/// How long accepting pauses when the system has no more sockets to give.
const PAUSE: Duration = Duration::from_millis(100);

/// A port that accepts. Dropping it stops it.
pub(crate) struct Acceptor {
    listener: Socket,
    stopping: Arc<AtomicBool>,
    /// Dropped to wake the thread from a pause.
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Acceptor {
    /// Accepts from now on, on a thread of its own. `what` names the port in its log lines. `admit`
    /// gets each connection and may not wait for anything.
    pub fn start(
        what: &'static str,
        listener: Socket,
        admit: impl Fn(Socket) + Send + 'static,
    ) -> io::Result<Self> {
        let stopping = Arc::new(AtomicBool::new(false));
        let (stop, stopped) = bounded(0);
        let accepting = listener.try_clone()?;
        let stopping_seen = Arc::clone(&stopping);
        let thread = thread::Builder::new()
            .name(format!("{what}-accept"))
            .spawn(move || run(what, &accepting, &stopping_seen, &stopped, admit))?;
        Ok(Self { listener, stopping, stop: Some(stop), thread: Some(thread) })
    }

    /// Closes the port. Connections that wait to be accepted are refused.
    pub fn stop(&mut self) {
        let Some(thread) = self.thread.take() else { return };
        self.stopping.store(true, Ordering::Release);
        // On Linux this wakes a thread that is in `accept`, and refuses callers from here on.
        let woken = self.listener.shutdown(Shutdown::Both);
        drop(self.stop.take());
        match woken {
            // The thread waits for nothing else, so this is short.
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

fn run(
    what: &str,
    listener: &Socket,
    stopping: &AtomicBool,
    stopped: &Receiver<()>,
    admit: impl Fn(Socket),
) {
    let errors = Throttle::default();
    loop {
        let accepted = listener.accept();
        if stopping.load(Ordering::Acquire) {
            return;
        }
        match accepted {
            Ok((socket, _)) => admit(socket),
            // The caller went away, or a signal came: nothing is wrong here.
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::Interrupted | io::ErrorKind::ConnectionAborted
                ) => {}
            Err(error) => {
                if let Some(left_out) = errors.note(Instant::now()) {
                    log::warn!(
                        "{what}: accepting failed, trying again: {error} \
                         ({left_out} more since the last such line)"
                    );
                }
                if stopped.recv_timeout(PAUSE) != Err(RecvTimeoutError::Timeout) {
                    return;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};

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
}
