//! What the local HTTP port needs of the pipe: to send a request to a peer and get its reply, or an
//! error.
//!
//! In scope: the trait and its errors. Not in scope: how a peer is found and reached (`node`), and
//! the status of an error (`http`).

use std::time::Duration;

use crate::event::{Event, Reply};

/// Sends requests to peers.
///
/// [`Client::request`](crate::Client::request) and [`Server::request`](crate::Server::request) are
/// the short form. With the pipe itself a caller sets how long to wait for a disconnected peer, and
/// can cancel the request:
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
    /// `wait` is how long the request may wait for a disconnected peer, in total; zero fails at
    /// once. The reply timeout is a setting of the pipe, and a total as well. A streamed body is taken out of `event` and read on
    /// its own thread while it is sent; the reply may begin before that has ended. The reply's body
    /// may be a stream too, which arrives while it is read.
    ///
    /// `caller` is polled to see whether the reply is still wanted.
    fn request(
        &self,
        peer: Peer<'_>,
        event: &mut Event,
        wait: Duration,
        caller: &dyn Caller,
    ) -> Result<Reply, RequestError>;
}

/// The caller that waits for a reply.
pub trait Caller {
    /// Whether the caller no longer waits, so that the peer may stop.
    fn is_gone(&self) -> bool;
}

/// A caller that never gives up.
pub struct Patient;

impl Caller for Patient {
    fn is_gone(&self) -> bool {
        false
    }
}

/// The peer to send to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Peer<'a> {
    /// The server, as seen from a client.
    Server,
    /// A client, by its certificate's name, its IP address, `localhost`, or a name that the
    /// server's settings allow to look up.
    Client(&'a str),
}

/// Why a request has no reply. The doc of each says whether the event may have been handled.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    /// No client with this name was ever connected, and it is neither an address nor the name of a
    /// host that may be and was found. Not sent.
    #[error(
        "no client {0:?} was ever connected; names of hosts are looked up only where \
         RP_SERVER_LOOKUP_HOSTS lists them"
    )]
    UnknownPeer(String),
    /// More than one client matches by address; these are their names. Not sent.
    #[error(
        "more than one client is connected from this address: {}; use one of these names",
        .0.join(", ")
    )]
    Ambiguous(Vec<String>),
    /// The peer did not connect within the wait. Not sent.
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
    /// The peer is an original RestPipe and cannot be sent this, or the headers are none (the text
    /// says what). Not sent.
    #[error("{0}")]
    NotCarried(String),
    /// The body is longer than the peer takes (the text says how long). Not sent.
    #[error("{0}")]
    TooLarge(String),
    /// The caller disconnected before the reply; the peer was asked to stop. It may have been
    /// handled.
    #[error("the caller went away")]
    CallerGone,
    /// The caller's body could not be read to its end (the text says why), so the peer did not get
    /// all of it.
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
