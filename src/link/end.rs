//! Why a link ended, and what of that the peer is told.

use std::fmt;
use std::time::Duration;

use super::Alert;
use crate::wire::{Goodbye, GoodbyeReason, WireError};

/// Why a link ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LinkEnd {
    /// The peer closed it properly.
    ClosedByPeer,
    /// The peer closed it and said why.
    Dismissed(Goodbye),
    /// The connection broke: reset, or ended without TLS's proper close.
    Broken(String),
    /// No bytes came for this long.
    Silent(Duration),
    /// The peer does not take what is sent to it.
    NotTaking(String),
    /// The peer broke the protocol.
    Protocol(WireError),
    /// The peer refused us, by this alert.
    Refused(Alert),
    /// TLS failed: the peer sent what is not TLS.
    Tls(String),
    /// The peer sends heartbeats faster than it takes the answers.
    Flood,
    /// The peer's certificate counts no longer; why.
    CertificateRejected(String),
    /// A newer connection of the same name took over, from this address.
    Replaced(String),
    /// The same, and it seems that two machines share a key.
    DuplicateIdentity(String),
    /// A newer link of this node has taken its place.
    Superseded,
    /// Whoever runs this node has it closed.
    Dropped,
    /// This node is stopping.
    Stopping,
    /// This node could not go on with it: no thread to be had, or a defect.
    Failed(String),
}

impl LinkEnd {
    /// What the peer is told, if anything.
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

impl fmt::Display for LinkEnd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ClosedByPeer => write!(f, "closed by the peer"),
            Self::Dismissed(goodbye) => match goodbye.reason {
                GoodbyeReason::Certificate => write!(
                    f,
                    "the peer accepts this node's certificate no longer: {}",
                    goodbye.text.escape_debug()
                ),
                _ => write!(f, "closed by the peer: {}", goodbye.text.escape_debug()),
            },
            Self::Broken(what) => write!(f, "connection broken: {what}"),
            Self::Silent(time) => write!(f, "no bytes received for {:.1} s", time.as_secs_f64()),
            Self::NotTaking(what) => write!(f, "cannot send to it: {what}"),
            Self::Protocol(error) => write!(f, "protocol error: {error}"),
            Self::Refused(alert) => write!(f, "the peer refused this node ({alert})"),
            Self::Tls(what) => write!(f, "TLS error: {what}"),
            Self::Flood => write!(f, "it sends heartbeats without reading the answers"),
            Self::CertificateRejected(why) => {
                write!(f, "its certificate is accepted no longer: {why}")
            }
            Self::Replaced(by) => write!(f, "replaced by a newer connection from {by}"),
            Self::DuplicateIdentity(by) => write!(
                f,
                "replaced by a newer connection from {by}; two machines seem to share this key, so \
                 each replaces the other: give each an identity of its own"
            ),
            Self::Superseded => write!(f, "a newer connection of this node has taken over"),
            Self::Dropped => write!(f, "closed on request, on this node's local port"),
            Self::Stopping => write!(f, "this node is stopping"),
            Self::Failed(what) => write!(f, "failure in this node: {what}"),
        }
    }
}
