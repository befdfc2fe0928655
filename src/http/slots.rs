//! The open connections: their number is limited, and stopping reaches each of them.
//!
//! In scope: which connections are open and whether each is processing a request. Not in scope:
//! threads, HTTP.

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
use crate::net::hangup::has_hung_up;

/// All connections of a port.
pub(super) struct ConnectionSlots {
    most: usize,
    stopping: AtomicBool,
    /// Whether connections that have not sent a request yet may still send one.
    keep_fresh_connections: AtomicBool,
    /// Guards the table and the id counter. Only socket shutdowns, which do not block, happen under
    /// it.
    table: Mutex<Table>,
    /// Signalled when the table becomes empty and, while stopping, whenever a connection ends.
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
    /// It has not started a request yet.
    new: AtomicBool,
    /// Its unread bytes belong to the body of the current request.
    uploads: AtomicBool,
    /// It receives a stream that ends only with this node, so draining does not wait for it.
    listens: AtomicBool,
    /// This node shut down its reading side, so end of file does not mean that the caller
    /// disconnected.
    read_shut_down: AtomicBool,
}

impl ConnectionSlots {
    /// Creates slots for `most` connections.
    pub fn new(most: usize) -> Self {
        Self {
            most,
            stopping: AtomicBool::new(false),
            keep_fresh_connections: AtomicBool::new(false),
            table: Mutex::default(),
            emptied: Condvar::new(),
        }
    }

    /// Takes a slot for a new connection; returns the socket if none is free.
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
            uploads: AtomicBool::new(false),
            listens: AtomicBool::new(false),
            read_shut_down: AtomicBool::new(false),
        });
        table.open.insert(id, Arc::clone(&connected));
        Ok(ConnectionSlot { slots: Arc::clone(self), id, connected })
    }

    /// Closes idle connections; the others close after their response. `keep_fresh` spares
    /// connections that have not sent a request yet, since their callers cannot know that the port
    /// is stopping. A second call without it closes those too.
    pub fn stop(&self, keep_fresh: bool) {
        self.keep_fresh_connections.store(keep_fresh, Ordering::SeqCst);
        self.stopping.store(true, Ordering::SeqCst);
        for connected in self.table.lock().open.values() {
            // Shut down only the reading side: a request that has just arrived is still answered. A
            // concurrent change between busy and idle is not missed: the connection sets its flag
            // before it reads `stopping`.
            let spared = keep_fresh && connected.new.load(Ordering::SeqCst);
            if !spared && !connected.busy.load(Ordering::SeqCst) {
                connected.end_input();
            }
        }
    }

    /// Ends the input of all connections: what has not arrived by now is not waited for any longer.
    pub fn end_input(&self) {
        self.table.lock().open.values().for_each(|connected| connected.end_input());
    }

    /// Closes all connections, even those processing a request.
    pub fn cut(&self) {
        for connected in self.table.lock().open.values() {
            connected.read_shut_down.store(false, Ordering::SeqCst);
            let _ = connected.socket.shutdown(Shutdown::Both);
        }
    }

    /// Waits until no connection is open. Returns `false` if some remain at `deadline`.
    pub fn wait_empty(&self, deadline: Instant) -> bool {
        self.wait_until(deadline, |table| table.open.is_empty())
    }

    /// After `stop`: waits until all requests are answered, ignoring event streams.
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

impl Connected {
    /// What has arrived can still be read, and the response can still be written.
    fn end_input(&self) {
        self.read_shut_down.store(true, Ordering::SeqCst);
        // Fails if the caller has already closed it.
        let _ = self.socket.shutdown(Shutdown::Read);
    }
}

/// The slot of one connection; released on drop.
pub(super) struct ConnectionSlot {
    slots: Arc<ConnectionSlots>,
    id: u64,
    connected: Arc<Connected>,
}

impl ConnectionSlot {
    /// The connection's number, for thread names and log lines.
    pub fn id(&self) -> u64 {
        self.id
    }

    /// The connection's socket.
    pub fn socket(&self) -> &Arc<Socket> {
        &self.connected.socket
    }

    /// Marks the connection as processing a request: from the request's first byte to the end of
    /// its response.
    pub fn set_busy(&self, busy: bool) {
        self.connected.busy.store(busy, Ordering::SeqCst);
        if busy {
            self.connected.new.store(false, Ordering::SeqCst);
        }
    }

    /// Marks the connection as sending the body of a request that has begun.
    pub fn set_uploading(&self, uploads: bool) {
        self.connected.uploads.store(uploads, Ordering::SeqCst);
    }

    /// Marks the connection as receiving a stream that ends only with this node. Must be set before
    /// the stream exists.
    pub fn set_listening(&self, listens: bool) {
        self.connected.listens.store(listens, Ordering::SeqCst);
    }

    /// Whether the end of the input was made here, not by the caller.
    pub fn input_was_ended(&self) -> bool {
        self.connected.read_shut_down.load(Ordering::SeqCst)
    }

    /// Whether the port is stopping and this connection must close.
    pub fn stopping(&self) -> bool {
        let is_spared = || {
            self.slots.keep_fresh_connections.load(Ordering::SeqCst)
                && self.connected.new.load(Ordering::SeqCst)
        };
        self.slots.stopping.load(Ordering::SeqCst) && !is_spared()
    }
}

/// A caller that closed its end, even only for sending, does not wait for a response. Unread bytes
/// are the next request, so the caller is still connected, unless they belong to this one's body.
impl Caller for ConnectionSlot {
    fn is_gone(&self) -> bool {
        self.has_closed() && !self.input_was_ended()
    }
}

impl ConnectionSlot {
    fn has_closed(&self) -> bool {
        if self.connected.uploads.load(Ordering::SeqCst) {
            return has_hung_up(&**self.socket());
        }
        let flags = libc::MSG_PEEK | libc::MSG_DONTWAIT;
        match self.socket().recv_with_flags(&mut [MaybeUninit::uninit()], flags) {
            Ok(count) => count == 0,
            Err(e) => !matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted),
        }
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
        slot.set_uploading(true);
        assert!(!slot.is_gone());
        slot.set_uploading(false);
        drop(end);
        assert!(!slot.is_gone(), "a next request");
        slot.set_uploading(true);
        assert!(slot.is_gone(), "the rest of a body");
        slot.set_uploading(false);
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
