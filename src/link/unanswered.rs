//! Why a request on a link got no reply.

use super::end::LinkEnd;
use crate::metrics::meter::RequestOutcome;
use crate::wire::Unsendable;

/// Why a request on this link got no reply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unanswered {
    /// The link ended before the request was written, and its body is intact: it may be sent on
    /// another link.
    NotSent(LinkEnd),
    /// The link ended after the request was written; whether it was handled is unknown.
    Lost(LinkEnd),
    /// Too many pending requests on this link. Not sent.
    Full,
    /// The peer cannot receive this request. Not sent.
    Unsendable(Unsendable),
    /// No reply in time. The request may have been handled.
    NoReply,
    /// The caller went away.
    CallerGone,
    /// The request's body could not be read to the end.
    Body(String),
}

impl Unanswered {
    /// The outcome as counted in the metrics.
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
