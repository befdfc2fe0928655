//! What the local HTTP port needs of the pipe: to ask a peer and get its reply, or to learn in one
//! word why there is none.
//!
//! In scope: the trait and its errors. Not in scope: how a peer is found and reached (`node`),
//! and what status an error becomes (`http`).

use std::time::Duration;

use crate::event::{Event, Reply};

/// Asks peers.
///
/// [`Client::request`](crate::Client::request) and [`Server::request`](crate::Server::request) are the
/// short way. With the pipe itself a caller says how long to wait for a peer that is away, and when it
/// no longer wants the reply:
///
/// ```
/// use std::sync::Arc;
/// use std::sync::atomic::{AtomicBool, Ordering};
/// use std::time::Duration;
///
/// use restpipe::event::pipe::{Caller, Peer};
/// use restpipe::{Event, Pipe, Reply, RequestError, Verb};
///
/// struct Button(Arc<AtomicBool>);
///
/// impl Caller for Button {
///     fn is_gone(&self) -> bool {
///         self.0.load(Ordering::Relaxed)
///     }
/// }
///
/// fn ask(pipe: &dyn Pipe, event: &mut Event, button: &Button) -> Result<Reply, RequestError> {
///     pipe.request(Peer::Client("web1"), event, Duration::from_secs(2), button)
/// }
/// ```
pub trait Pipe: Send + Sync {
    /// Sends `event` to `peer` and waits for its reply.
    ///
    /// `wait` is how long the request may wait for a peer that is away; zero fails at once. How
    /// long it then waits for the reply is the pipe's own setting. A body that is a stream is read
    /// while it is sent, on a thread of its own, and its event has an empty or unreadable body in its
    /// place then; the reply may begin before that has ended. The reply's body may be a stream too,
    /// which arrives while it is read.
    ///
    /// `caller` is asked now and then whether the reply is still wanted.
    fn request(
        &self,
        peer: Peer<'_>,
        event: &mut Event,
        wait: Duration,
        caller: &dyn Caller,
    ) -> Result<Reply, RequestError>;
}

/// Who waits for a reply.
pub trait Caller {
    /// Whether nobody waits any longer, so that the peer may stop.
    fn is_gone(&self) -> bool;
}

/// A caller that waits whatever happens.
pub struct Patient;

impl Caller for Patient {
    fn is_gone(&self) -> bool {
        false
    }
}

/// Whom to ask.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Peer<'a> {
    /// The server, as seen from a client.
    Server,
    /// A client, by its certificate's name, its IP address, or a host name that resolves to that.
    Client(&'a str),
}

/// Why a request has no reply. The doc of each says whether the event may have been handled.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    /// No client of this name was ever seen, and it is neither an address nor resolvable. Not sent.
    #[error("no client {0:?} was ever connected, and the name does not resolve to an address")]
    UnknownPeer(String),
    /// More than one client matches by address; these are their names. Not sent.
    #[error(
        "more than one client is connected from this address: {}; use one of these names",
        .0.join(", ")
    )]
    Ambiguous(Vec<String>),
    /// The peer stayed away for the whole wait. Not sent.
    #[error("{peer} is not connected (waited {} s)", waited.as_secs())]
    Away {
        /// The peer that was asked.
        peer: String,
        /// How long the request waited for it.
        waited: Duration,
    },
    /// Too many requests wait or are in flight already. Not sent.
    #[error("{0}")]
    Full(String),
    /// This node is stopping. Not sent.
    #[error("this node is stopping")]
    Stopping,
    /// The peer is an original RestPipe and cannot be sent this (the text says what). Not sent.
    #[error("{0}")]
    NotCarried(String),
    /// The body is longer than the peer takes (the text says how long). Not sent.
    #[error("{0}")]
    TooLarge(String),
    /// The caller went away before the reply; the peer was told to stop. It may have been handled.
    #[error("the caller went away")]
    CallerGone,
    /// The caller's body could not be read to its end (the text says why), so that the peer did not
    /// get it whole.
    #[error("the request's body was not complete: {0}")]
    Body(String),
    /// No reply came within the reply timeout. It may have been handled.
    #[error("{peer} sent no reply within {} s", waited.as_secs())]
    NoReply {
        /// The peer that was asked.
        peer: String,
        /// How long the request waited for the reply.
        waited: Duration,
    },
    /// The link was lost after the event was written. It may have been handled.
    #[error(
        "the link to {peer} was lost before the reply ({reason}); whether the request was handled is unknown"
    )]
    OutcomeUnknown {
        /// The peer that was asked.
        peer: String,
        /// Why the link ended.
        reason: String,
    },
}
