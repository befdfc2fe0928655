//! How a joined connection ends if this process is killed.

use std::sync::Arc;

use socket2::Socket;

use crate::net::reset::set_reset_on_close;

/// Resets a joined connection if this process is killed, and otherwise lets it end as it is closed.
pub(in crate::remoted) struct ResetIfKilled(Option<Arc<Socket>>);

impl ResetIfKilled {
    /// Of this socket; standard input and output have none.
    pub(super) fn new(socket: Option<Arc<Socket>>) -> Self {
        if let Some(socket) = &socket {
            set_reset_on_close(&**socket, true);
        }
        Self(socket)
    }

    /// Leaves the reset on.
    pub fn keep(mut self) {
        self.0 = None;
    }
}

impl Drop for ResetIfKilled {
    fn drop(&mut self) {
        // What a panic has interrupted is not complete.
        if let Some(socket) = &self.0
            && !std::thread::panicking()
        {
            set_reset_on_close(&**socket, false);
        }
    }
}
