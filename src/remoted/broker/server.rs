//! A registered server: the WebSocket on which it is told of its callers.
//!
//! In scope: taking a path, also from one's own dead connection, being told, the end. Not in scope:
//! who waits (`hall`), and the frames (`session`).

mod session;

use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};
use parking_lot::Mutex;

use super::Shared;
use super::hall::{Hall, Taken, tell_closed};
use super::refusal::Refusal;
use super::request::Handshake;
use super::visit::{Refused, Visitor};
use crate::remoted::head::websocket_accepted;
use crate::remoted::keys::Key;
use crate::remoted::waker::Waker;
use session::{Left, Session};

/// Callers that a server was not told of yet.
const MAX_NOTICES: usize = 2048;
/// Newcomers that wait for a sign of life at the same time.
const MAX_PROBES: usize = 16;

/// A server that has, or had, a path.
pub(super) struct Registration {
    pub path: String,
    pub key: Arc<Key>,
    notices: Sender<String>,
    probes: Sender<Sender<()>>,
    /// Guards why it is to end, once it is; nothing is done while it is held.
    end: Mutex<Option<End>>,
    waker: Waker,
}

/// Why a broker ends a registration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// The broker is stopping.
    Stopping,
    /// Its key counts no longer.
    KeyGone,
    /// The server has returned on another connection.
    Replaced,
}

impl Registration {
    /// Tells it of a caller. False if it has too much to take in already.
    pub fn tell(&self, notice: String) -> bool {
        let is_told = self.notices.try_send(notice).is_ok();
        self.waker.wake();
        is_told
    }

    /// Ends it. The path must be free or another's by now.
    pub fn end(&self, why: End) {
        self.end.lock().get_or_insert(why);
        self.waker.wake();
    }

    fn ending(&self) -> Option<End> {
        *self.end.lock()
    }

    /// Whether it gives a sign of life within so long.
    fn is_alive(&self, within: Duration) -> bool {
        let (answer, answered) = bounded(1);
        // So many newcomers at once are no returning server.
        if self.probes.try_send(answer).is_err() {
            return true;
        }
        self.waker.wake();
        // Disconnected: its thread has ended meanwhile.
        !matches!(
            answered.recv_timeout(within),
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected)
        )
    }
}

/// Gives a server its path and serves it until it ends, or says why not.
pub(super) fn register(
    visitor: Visitor,
    key: Arc<Key>,
    path: &str,
    handshake: Result<Handshake, Refusal>,
    shared: &Arc<Shared>,
) -> Result<(), Box<Refused>> {
    let (notices, noticed) = bounded(MAX_NOTICES);
    let (probes, probed) = bounded(MAX_PROBES);
    let waker = match Waker::new() {
        Ok(waker) => waker,
        Err(error) => return Err(visitor.refused(Refusal::full(&error.to_string()))),
    };
    let (path, end) = (path.to_owned(), Mutex::new(None));
    let registration = Arc::new(Registration { path, key, notices, probes, end, waker });
    let taken = || Refusal::server("another server has this path");
    // The original looks at the path first.
    let handshake = match (handshake, shared.hall.find(&registration.path)) {
        (Ok(handshake), _) => handshake,
        (Err(_), Some(_)) => return Err(visitor.refused(taken())),
        (Err(refusal), None) => return Err(visitor.refused(refusal)),
    };
    if let Err(refusal) = take_path(&registration, shared) {
        return Err(visitor.refused(refusal));
    }
    serve(visitor, &handshake, &registration, (noticed, probed), shared);
    Ok(())
}

fn take_path(new: &Arc<Registration>, shared: &Shared) -> Result<(), Refusal> {
    let holder = match shared.hall.register(new) {
        Ok(()) => return Ok(()),
        Err(Taken::Full(why)) => return Err(Refusal::full(why)),
        Err(Taken::By(holder)) => holder,
    };
    if !holder.key.is(&new.key) {
        return Err(Refusal::server("a server with another key has this path"));
    }
    if holder.is_alive(shared.settings.times.probe) {
        return Err(Refusal::server("a live server has this path"));
    }
    // It may have noticed its end by itself meanwhile.
    if shared.hall.replace(&holder, new) || shared.hall.register(new).is_ok() {
        holder.end(End::Replaced);
        return Ok(());
    }
    Err(Refusal::server("another server took this path"))
}

fn serve(
    visitor: Visitor,
    handshake: &Handshake,
    registration: &Arc<Registration>,
    (notices, probes): (Receiver<String>, Receiver<Sender<()>>),
    shared: &Shared,
) {
    let Visitor { mut stream, name, permit, .. } = visitor;
    let times = &shared.settings.times;
    let path = &registration.path;
    let accepted = websocket_accepted(&handshake.key);
    let _registered = shared.registered.take();
    let held = Held { registration, hall: &shared.hall };
    let mut session = None;
    let left = match stream.write_all_within(&accepted, Instant::now() + times.head) {
        Err(error) => Left::Failed(error),
        Ok(()) => {
            log::info!("server {name}: registered {path} with key {}", registration.key.name());
            session.insert(Session::new(stream, registration, notices, probes, times)).run()
        }
    };
    drop(held);
    log::info!("server {name}: {path} is free: {left}");
    // Last, because the server may take a moment to take it in.
    if let (Some(session), Some(word)) = (session, left.word()) {
        session.close(&word);
    }
    drop(permit);
}

/// A path that is held. Dropped, also by a panic, it is free, and who waited for it is closed.
struct Held<'a> {
    registration: &'a Arc<Registration>,
    hall: &'a Hall,
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        for caller in self.hall.unregister(self.registration) {
            tell_closed(caller, "its server left");
        }
    }
}
