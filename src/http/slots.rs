//! The open connections: their number is bounded, and stopping reaches each of them.
//!
//! In scope: who is connected and whether it is in the middle of a request. Not in scope: threads,
//! HTTP.

use std::collections::HashMap;
use std::io;
use std::mem::MaybeUninit;
use std::net::Shutdown;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use parking_lot::{Condvar, Mutex};
use socket2::Socket;

use crate::event::pipe::Caller;

/// All connections of a port.
pub(super) struct ConnectionSlots {
    most: usize,
    stopping: AtomicBool,
    /// Whether those may still ask that have not asked anything yet.
    keep_fresh_connections: AtomicBool,
    /// Guards the table and the numbering. Only socket shutdowns, which do not wait, happen while
    /// it is held.
    table: Mutex<Table>,
    /// A connection has ended, once stopping; or the last.
    emptied: Condvar,
}

#[derive(Default)]
struct Table {
    last_id: u64,
    open: HashMap<u64, Arc<Connected>>,
}

struct Connected {
    socket: Arc<Socket>,
    busy: AtomicBool,
    /// It has not begun to ask anything.
    new: AtomicBool,
    /// It takes a stream that ends only with this node: nobody waits for it.
    listens: AtomicBool,
    /// Its reading end was closed here, so an end of it does not mean that the caller has closed.
    read_shut_down: AtomicBool,
}

impl ConnectionSlots {
    /// Room for `most` connections.
    pub fn new(most: usize) -> Self {
        Self {
            most,
            stopping: AtomicBool::new(false),
            keep_fresh_connections: AtomicBool::new(false),
            table: Mutex::default(),
            emptied: Condvar::new(),
        }
    }

    /// A slot for a new connection, or the socket back where all are taken.
    pub fn admit(self: &Arc<Self>, socket: Socket) -> Result<ConnectionSlot, Socket> {
        let mut table = self.table.lock();
        if table.open.len() >= self.most {
            return Err(socket);
        }
        table.last_id += 1;
        let id = table.last_id;
        let connected = Arc::new(Connected {
            socket: Arc::new(socket),
            busy: AtomicBool::new(false),
            new: AtomicBool::new(true),
            listens: AtomicBool::new(false),
            read_shut_down: AtomicBool::new(false),
        });
        table.open.insert(id, Arc::clone(&connected));
        Ok(ConnectionSlot { slots: Arc::clone(self), id, connected })
    }

    /// Ends connections that wait for a request; the others end after their answer. `keep_fresh`
    /// leaves those alone that have not asked anything: their callers cannot know that they came at a
    /// bad moment. Calling it again without that ends them.
    pub fn stop(&self, keep_fresh: bool) {
        self.keep_fresh_connections.store(keep_fresh, Ordering::SeqCst);
        self.stopping.store(true, Ordering::SeqCst);
        for connected in self.table.lock().open.values() {
            // Reading only: a request that has just arrived is still answered. One that turns busy
            // or idle meanwhile is not missed: it changes its flag first and then looks at ours.
            let spared = keep_fresh && connected.new.load(Ordering::SeqCst);
            if !spared && !connected.busy.load(Ordering::SeqCst) {
                connected.read_shut_down.store(true, Ordering::SeqCst);
                // Fails where the caller has closed already.
                let _ = connected.socket.shutdown(Shutdown::Read);
            }
        }
    }

    /// Ends all connections, whatever they are doing.
    pub fn cut(&self) {
        for connected in self.table.lock().open.values() {
            connected.read_shut_down.store(false, Ordering::SeqCst);
            let _ = connected.socket.shutdown(Shutdown::Both);
        }
    }

    /// Waits until no connection is left. `false` where some are at `deadline`.
    pub fn wait_empty(&self, deadline: Instant) -> bool {
        self.wait_until(deadline, |table| table.open.is_empty())
    }

    /// Once stopping: waits until all requests are answered. Those that listen are not waited for.
    pub fn wait_answered(&self, deadline: Instant) -> bool {
        self.wait_until(deadline, |table| {
            table.open.values().all(|connected| connected.listens.load(Ordering::SeqCst))
        })
    }

    fn wait_until(&self, deadline: Instant, is_so: impl Fn(&Table) -> bool) -> bool {
        let mut table = self.table.lock();
        self.emptied.wait_while_until(&mut table, |table| !is_so(table), deadline);
        is_so(&table)
    }

    /// The number of open connections.
    pub fn count(&self) -> usize {
        self.table.lock().open.len()
    }
}

/// The slot of one connection, free again when dropped.
pub(super) struct ConnectionSlot {
    slots: Arc<ConnectionSlots>,
    id: u64,
    connected: Arc<Connected>,
}

impl ConnectionSlot {
    /// The connection's number, for names of threads and log lines.
    pub fn id(&self) -> u64 {
        self.id
    }

    /// The connection.
    pub fn socket(&self) -> &Arc<Socket> {
        &self.connected.socket
    }

    /// Whether the connection is in the middle of a request: from its first byte to the end of its
    /// answer.
    pub fn set_busy(&self, busy: bool) {
        self.connected.busy.store(busy, Ordering::SeqCst);
        if busy {
            self.connected.new.store(false, Ordering::SeqCst);
        }
    }

    /// Whether the connection takes a stream that ends only with this node. To be set before the
    /// stream exists.
    pub fn set_listening(&self, listens: bool) {
        self.connected.listens.store(listens, Ordering::SeqCst);
    }

    /// Whether the port is stopping, and this connection has to end.
    pub fn stopping(&self) -> bool {
        let is_spared = || {
            self.slots.keep_fresh_connections.load(Ordering::SeqCst)
                && self.connected.new.load(Ordering::SeqCst)
        };
        self.slots.stopping.load(Ordering::SeqCst) && !is_spared()
    }
}

/// A caller that closed its end, even only for sending, does not wait for an answer. Bytes that have
/// arrived and were not read yet are a next request, so somebody is there.
impl Caller for ConnectionSlot {
    fn is_gone(&self) -> bool {
        let flags = libc::MSG_PEEK | libc::MSG_DONTWAIT;
        let closed = match self.socket().recv_with_flags(&mut [MaybeUninit::uninit()], flags) {
            Ok(count) => count == 0,
            Err(e) => !matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted),
        };
        closed && !self.connected.read_shut_down.load(Ordering::SeqCst)
    }
}

impl Drop for ConnectionSlot {
    fn drop(&mut self) {
        let mut table = self.slots.table.lock();
        table.open.remove(&self.id);
        if table.open.is_empty() || self.slots.stopping.load(Ordering::SeqCst) {
            self.slots.emptied.notify_all();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::os::unix::net::UnixStream;
    use std::time::Duration;

    use super::*;

    fn admit(slots: &Arc<ConnectionSlots>) -> (ConnectionSlot, UnixStream) {
        let (ours, theirs) = UnixStream::pair().unwrap();
        (slots.admit(ours.into()).ok().unwrap(), theirs)
    }

    #[test]
    fn the_number_is_bounded_and_slots_are_given_back() {
        let slots = Arc::new(ConnectionSlots::new(2));
        let (first, _a) = admit(&slots);
        let (_second, _b) = admit(&slots);
        let (ours, _theirs) = UnixStream::pair().unwrap();
        let ours = slots.admit(ours.into()).err().unwrap();
        drop(first);
        assert_eq!(slots.count(), 1);
        assert!(slots.admit(ours).is_ok());
    }

    #[test]
    fn stopping_ends_those_that_wait_for_a_request() {
        let slots = Arc::new(ConnectionSlots::new(2));
        let (idle, mut idle_end) = admit(&slots);
        let (busy, mut busy_end) = admit(&slots);
        busy.set_busy(true);
        slots.stop(false);
        assert!(idle.stopping());
        assert_eq!((&mut &**idle.socket()).read(&mut [0; 8]).unwrap(), 0);
        assert!(idle_end.write_all(b"x").is_err());
        busy_end.write_all(b"x").unwrap();
        assert_eq!((&mut &**busy.socket()).read(&mut [0; 8]).unwrap(), 1);
        (&mut &**busy.socket()).write_all(b"yz").unwrap();
        let mut answer = [0; 2];
        busy_end.read_exact(&mut answer).unwrap();
    }

    #[test]
    fn one_that_has_just_come_may_be_spared_for_a_while() {
        let slots = Arc::new(ConnectionSlots::new(2));
        let (new, _new_end) = admit(&slots);
        let (old, _old_end) = admit(&slots);
        old.set_busy(true);
        old.set_busy(false);
        slots.stop(true);
        assert!(old.stopping() && !new.stopping());
        assert_eq!((&mut &**old.socket()).read(&mut [0; 8]).unwrap(), 0);
        new.set_busy(true);
        assert!(new.stopping(), "after this request");
        slots.stop(false);
        new.set_busy(false);
        assert!(new.stopping());
    }

    #[test]
    fn a_caller_is_gone_when_it_has_closed_and_sent_nothing_more() {
        let slots = Arc::new(ConnectionSlots::new(2));
        let (slot, mut end) = admit(&slots);
        assert!(!slot.is_gone());
        end.write_all(b"x").unwrap();
        assert!(!slot.is_gone());
        drop(end);
        assert!(!slot.is_gone(), "a next request");
        assert_eq!((&mut &**slot.socket()).read(&mut [0; 8]).unwrap(), 1);
        assert!(slot.is_gone());
        let (idle, _end) = admit(&slots);
        slots.stop(false);
        assert!(!idle.is_gone(), "its end was made here");
        slots.cut();
        assert!(idle.is_gone());
    }

    #[test]
    fn waiting_ends_with_the_last_connection_or_the_deadline() {
        let slots = Arc::new(ConnectionSlots::new(1));
        let (slot, _end) = admit(&slots);
        assert!(!slots.wait_empty(Instant::now() + Duration::from_millis(10)));
        let waiter = std::thread::scope(|scope| {
            let waiter = scope.spawn(|| slots.wait_empty(Instant::now() + Duration::from_secs(30)));
            drop(slot);
            waiter.join().unwrap()
        });
        assert!(waiter);
    }

    #[test]
    fn nobody_waits_for_those_that_listen() {
        let slots = Arc::new(ConnectionSlots::new(2));
        let (listener, _a) = admit(&slots);
        let (asker, _b) = admit(&slots);
        listener.set_listening(true);
        asker.set_busy(true);
        slots.stop(false);
        assert!(!slots.wait_answered(Instant::now() + Duration::from_millis(10)));
        let deadline = Instant::now() + Duration::from_secs(30);
        let waiter = std::thread::scope(|scope| {
            let waiter = scope.spawn(|| slots.wait_answered(deadline));
            drop(asker);
            waiter.join().unwrap()
        });
        assert!(waiter);
        assert!(!slots.wait_empty(Instant::now()), "it is there still");
    }
}
