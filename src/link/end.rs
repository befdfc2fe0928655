//! Why a link ended, and what of that the peer learns.

use std::time::Duration;

use super::tls::Alert;
use crate::wire::{Goodbye, GoodbyeReason, WireError};

/// Why a link ended.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LinkEnd {
    /// The peer closed it properly.
    #[error("closed by the peer")]
    ClosedByPeer,
    /// The peer closed it and said why.
    #[error("{}", dismissal(.0))]
    Dismissed(Goodbye),
    /// The connection broke: reset, or ended without TLS's proper close.
    #[error("connection broken: {0}")]
    Broken(String),
    /// No bytes came for this long.
    #[error("no bytes received for {:.1} s", .0.as_secs_f64())]
    Silent(Duration),
    /// The peer does not take what is sent to it.
    #[error("cannot send to it: {0}")]
    NotTaking(String),
    /// The peer broke the protocol.
    #[error("protocol error: {0}")]
    Protocol(WireError),
    /// The peer refused us, by this alert.
    #[error("the peer refused this node ({0})")]
    Refused(Alert),
    /// TLS failed: the peer sent what is not TLS.
    #[error("TLS error: {0}")]
    Tls(String),
    /// The peer sends heartbeats faster than it takes the answers.
    #[error("it sends heartbeats without reading the answers")]
    Flood,
    /// The peer's certificate is no longer accepted; why.
    #[error("its certificate is accepted no longer: {0}")]
    CertificateRejected(String),
    /// A newer connection of the same name took over, from this address.
    #[error("replaced by a newer connection from {0}")]
    Replaced(String),
    /// The same, and it seems that two machines share a key.
    #[error(
        "replaced by a newer connection from {0}; two machines seem to share this key, so each \
         replaces the other: give each an identity of its own"
    )]
    DuplicateIdentity(String),
    /// A newer link of this node has taken its place.
    #[error("a newer connection of this node has taken over")]
    Superseded,
    /// Whoever runs this node has it closed.
    #[error("closed on request, on this node's local port")]
    Dropped,
    /// This node is stopping.
    #[error("this node is stopping")]
    Stopping,
    /// This node could not go on with it: no thread to be had, or a defect.
    #[error("failure in this node: {0}")]
    Failed(String),
}

impl LinkEnd {
    /// What the peer learns, if anything.
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

/// What the peer has said before it closed the link.
fn dismissal(goodbye: &Goodbye) -> String {
    let text = goodbye.text.escape_debug();
    match goodbye.reason {
        GoodbyeReason::Certificate => {
            format!("the peer accepts this node's certificate no longer: {text}")
        }
        _ => format!("closed by the peer: {text}"),
    }
}
