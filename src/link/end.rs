//! Why a link ended, and how much of that the peer is told.

use std::time::Duration;

use super::tls::Alert;
use crate::wire::{Goodbye, GoodbyeReason, WireError};

/// Why a link ended.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LinkEnd {
    /// The peer closed the connection cleanly.
    #[error("closed by the peer")]
    ClosedByPeer,
    /// The peer closed the connection and gave a reason.
    #[error("{}", dismissal(.0))]
    Dismissed(Goodbye),
    /// The connection broke: a reset, or an end without a TLS close_notify.
    #[error("connection broken: {0}")]
    Broken(String),
    /// No bytes arrived for this long.
    #[error("no bytes received for {:.1} s", .0.as_secs_f64())]
    Silent(Duration),
    /// The peer does not read what is sent to it.
    #[error("cannot send to it: {0}")]
    NotTaking(String),
    /// The peer broke the protocol.
    #[error("protocol error: {0}")]
    Protocol(WireError),
    /// The peer refused us with this alert.
    #[error("the peer refused this node ({0})")]
    Refused(Alert),
    /// TLS failed: the peer sent something other than TLS.
    #[error("TLS error: {0}")]
    Tls(String),
    /// The peer sends heartbeats faster than it reads the replies.
    #[error("it sends heartbeats without reading the answers")]
    Flood,
    /// The peer's certificate is no longer accepted, for this reason.
    #[error("its certificate is accepted no longer: {0}")]
    CertificateRejected(String),
    /// A newer connection of the same name, from this address, replaced it.
    #[error("replaced by a newer connection from {0}")]
    Replaced(String),
    /// The same, and two machines seem to share a key.
    #[error(
        "replaced by a newer connection from {0}; two machines seem to share this key, so each \
         replaces the other: give each an identity of its own"
    )]
    DuplicateIdentity(String),
    /// A newer link of this node replaced it.
    #[error("a newer connection of this node has taken over")]
    Superseded,
    /// The operator of this node closed it.
    #[error("closed on request, on this node's local port")]
    Dropped,
    /// This node is stopping.
    #[error("this node is stopping")]
    Stopping,
    /// An internal failure: no thread could be started, or a bug.
    #[error("failure in this node: {0}")]
    Failed(String),
}

impl LinkEnd {
    /// The goodbye sent to the peer, if any.
    pub(super) fn goodbye(&self) -> Option<Goodbye> {
        let (reason, text) = match self {
            Self::CertificateRejected(why) => (GoodbyeReason::Certificate, why.clone()),
            Self::Replaced(_) => (GoodbyeReason::Replaced, self.to_string()),
            Self::DuplicateIdentity(_) => (GoodbyeReason::DuplicateIdentity, self.to_string()),
            _ => return None,
        };
        Some(Goodbye { reason, text }.bounded())
    }
}

/// The reason that the peer gave for closing the link.
fn dismissal(goodbye: &Goodbye) -> String {
    let text = goodbye.text.escape_debug();
    match goodbye.reason {
        GoodbyeReason::Certificate => {
            format!("the peer accepts this node's certificate no longer: {text}")
        }
        _ => format!("closed by the peer: {text}"),
    }
}
