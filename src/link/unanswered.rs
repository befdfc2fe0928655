//! Why a request on a link has no reply.

use super::end::LinkEnd;
use crate::metrics::meter::RequestOutcome;
use crate::wire::Unsendable;

/// Why a request on this link has no reply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unanswered {
    /// The link ended before the request was written, and its body is whole: it may be sent on
    /// another.
    NotSent(LinkEnd),
    /// The link ended after the request was written; whether it was handled is unknown.
    Lost(LinkEnd),
    /// Too many requests wait on this link. Not sent.
    Full,
    /// The peer cannot be sent this. Not sent.
    Unsendable(Unsendable),
    /// No reply within the time. It may have been handled.
    NoReply,
    /// The caller went away.
    CallerGone,
    /// The request's body could not be read to its end.
    Body(String),
}

impl Unanswered {
    /// As it is counted.
    pub const fn outcome(&self) -> RequestOutcome {
        match self {
            Self::Lost(_) => RequestOutcome::Lost,
            Self::NoReply => RequestOutcome::NoReply,
            Self::CallerGone => RequestOutcome::CallerGone,
            Self::NotSent(_) | Self::Full | Self::Unsendable(_) | Self::Body(_) => {
                RequestOutcome::NotSent
            }
        }
    }
}
