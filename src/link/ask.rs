//! Asking: one request on a link, from the asker's thread.

use std::time::Duration;

use crossbeam_channel::bounded;

use super::output::{Outgoing, SendError};
use super::{End, Link, Lost, lock, patience};
use crate::event::{Event, Reply};
use crate::wire::{Refused, RegisterError, encode_event};

/// Why a request on this link has no reply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LinkError {
    /// The link ended before the request was written; it may be sent on another.
    NotSent(End),
    /// The link ended after the request was written; whether it was handled is unknown.
    Lost(End),
    /// Too many requests wait on this link. Not sent.
    Full,
    /// The peer cannot be sent this. Not sent.
    Refused(Refused),
    /// No reply within the time. It may have been handled.
    NoReply,
}

impl Link {
    /// Asks the peer and waits for its reply.
    pub fn request(&self, event: &Event, timeout: Duration) -> Result<Reply, LinkError> {
        let (waiter, answer) = bounded(1);
        let (id, alone) = {
            let mut pending = lock(&self.pending);
            let id = match pending.register(waiter) {
                Ok(id) => id,
                Err(RegisterError::Full) => return Err(LinkError::Full),
                Err(RegisterError::Closed) => return Err(LinkError::NotSent(self.end())),
            };
            (id, pending.len() == 1)
        };
        let bytes = encode_event(id, event, self.terms()).map_err(|refused| {
            self.forget(id);
            LinkError::Refused(refused)
        })?;
        let message = Outgoing { bytes, request: Some(id) };
        match self.output.send(message, alone, &self.tls, self) {
            // Closing answers every waiter, so there is an answer on its way.
            Ok(()) | Err(SendError::Closed) => {}
            Err(SendError::Full) => {
                self.forget(id);
                return Err(LinkError::Full);
            }
        }
        let turns = if alone { patience::ALONE } else { patience::CROWD };
        let answer = match patience::receive(&answer, timeout, turns) {
            Ok(answer) => answer,
            Err(_) if self.forget(id) => return Err(LinkError::NoReply),
            // Somebody took the waiter at this very moment, to answer it.
            Err(_) => match answer.recv() {
                Ok(answer) => answer,
                Err(_) => return Err(LinkError::NoReply),
            },
        };
        answer.map_err(|lost| match lost {
            Lost { written: true, end } => LinkError::Lost(end),
            Lost { written: false, end } => LinkError::NotSent(end),
        })
    }

    /// Nobody waits for this reply any more. False when it was taken already.
    fn forget(&self, id: u32) -> bool {
        lock(&self.pending).take(id).is_some()
    }
}
