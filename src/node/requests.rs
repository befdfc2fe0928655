//! One request to a peer: find its link, send it, and decide what a lost link means for the caller.
//!
//! A request that was never written may be sent on the next connection. One that was written and
//! then lost is sent again only if it is idempotent, and a few times at most; whatever comes after,
//! its caller learns in the end that it may have been handled.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::peer_finder::PeerFinder;
use super::request_limits::RequestLimits;
use crate::event::pipe::{Caller, Peer, Pipe, RequestError};
use crate::event::{Event, Reply};
use crate::link::{Link, Unanswered};
use crate::metrics::meter::{Mark, Meter};
use crate::wire::Unsendable;

/// Sends requests to peers.
pub(super) struct Requests {
    pub finder: PeerFinder,
    /// Time limit for the reply.
    pub reply_timeout: Duration,
    pub meter: Arc<dyn Meter>,
}

impl Pipe for Requests {
    fn request(
        &self,
        peer: Peer<'_>,
        event: &mut Event,
        wait: Duration,
        caller: &dyn Caller,
    ) -> Result<Reply, RequestError> {
        let mut limits = RequestLimits::new(wait, self.reply_timeout);
        // The fast path: the peer is addressed by name and connected.
        let mut link = match self.finder.named(peer) {
            Some(link) => link,
            None => self.find(peer, &mut limits, caller)?,
        };
        // What became of it when it was last written.
        let mut written = None;
        loop {
            let sent = limits.replying(|timeout| self.send(&link, event, timeout, caller));
            let unanswered = match sent {
                Ok(reply) => return in_the_end_answered(reply, written),
                Err(unanswered) => unanswered,
            };
            let may_repeat = match &unanswered {
                Unanswered::NotSent(_) => true,
                Unanswered::Lost(_) => {
                    limits.sendings -= 1;
                    may_repeat(event)
                }
                _ => false,
            };
            let error = in_the_end(self.explain(&link, unanswered), written);
            if !may_repeat || limits.are_spent() {
                return Err(error);
            }
            if caller.is_gone() {
                return Err(RequestError::CallerGone);
            }
            // The same client, whoever else may come to its address.
            let (client, id) = (Arc::clone(link.peer()), event.request_id);
            let same = match peer {
                Peer::Server => Peer::Server,
                Peer::Client(_) => Peer::Client(&client.name),
            };
            log::debug!("{}: request {id} is sent again: {}", client.name, event.target);
            written = matches!(error, RequestError::OutcomeUnknown { .. }).then_some(error);
            link = match self.find(same, &mut limits, caller) {
                Ok(link) => link,
                Err(error) => return Err(in_the_end(error, written)),
            };
        }
    }
}

impl Requests {
    /// Finds the link of a peer that is away or asked for by its address.
    fn find(
        &self,
        peer: Peer<'_>,
        limits: &mut RequestLimits,
        caller: &dyn Caller,
    ) -> Result<Arc<Link>, RequestError> {
        let found = limits.waiting(|wait| self.finder.find(peer, wait, caller));
        if found.is_err() {
            self.meter.mark(Mark::NotAsked);
        }
        found
    }

    /// Sends a request on this link and waits for the reply.
    fn send(
        &self,
        link: &Link,
        event: &mut Event,
        timeout: Duration,
        caller: &dyn Caller,
    ) -> Result<Reply, Unanswered> {
        let began = Instant::now();
        self.meter.mark(Mark::Asking);
        let (outcome, answer) = link.request(event, timeout, &|| caller.is_gone());
        self.meter.mark(match answer {
            Ok(_) => Mark::Replied { outcome, took: began.elapsed() },
            Err(_) => Mark::Unanswered { outcome },
        });
        answer
    }

    fn explain(&self, link: &Link, error: Unanswered) -> RequestError {
        let peer = link.peer().name.clone();
        match error {
            Unanswered::NotSent(_) => RequestError::Away { peer, waited: Duration::ZERO },
            Unanswered::Lost(end) => RequestError::OutcomeUnknown { peer, reason: end.to_string() },
            Unanswered::Full => {
                RequestError::Full(format!("too many requests to {peer} are in flight"))
            }
            Unanswered::Unsendable(
                why @ (Unsendable::NotSevenBit(_)
                | Unsendable::NoConnections
                | Unsendable::Headers
                | Unsendable::LongMediaType),
            ) => RequestError::NotCarried(format!("{peer}: {why}")),
            Unanswered::Unsendable(why @ Unsendable::TooLarge { .. }) => {
                RequestError::TooLarge(format!("{peer}: {why}"))
            }
            Unanswered::CallerGone => RequestError::CallerGone,
            Unanswered::Body(why) => RequestError::Body(why),
            Unanswered::NoReply => RequestError::NoReply { peer, waited: self.reply_timeout },
        }
    }
}

/// Whether the request is idempotent and its body can be sent again.
fn may_repeat(event: &Event) -> bool {
    event.verb.is_idempotent() && event.body.whole().is_some()
}

/// What the caller gets: a reply that says that the request was not handled is not true of one that
/// was written earlier.
fn in_the_end_answered(reply: Reply, written: Option<RequestError>) -> Result<Reply, RequestError> {
    match written {
        Some(written) if reply.is_busy() => Err(written),
        _ => Ok(reply),
    }
}

/// What the caller is told: an error that says that the request was not handled is not true of one
/// that was written earlier.
fn in_the_end(error: RequestError, written: Option<RequestError>) -> RequestError {
    match (error, written) {
        (
            error @ (RequestError::CallerGone
            | RequestError::NoReply { .. }
            | RequestError::OutcomeUnknown { .. }),
            _,
        )
        | (error, None) => error,
        (_, Some(written)) => written,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_that_was_once_written_is_never_said_to_be_unsent() {
        let unknown = |reason: &str| RequestError::OutcomeUnknown {
            peer: "web1".to_owned(),
            reason: reason.to_owned(),
        };
        let waited = Duration::from_secs(1);
        for error in [
            RequestError::UnknownPeer("web1".to_owned()),
            RequestError::Ambiguous(Vec::new()),
            RequestError::Away { peer: "web1".to_owned(), waited },
            RequestError::Full(String::new()),
            RequestError::Stopping,
            RequestError::NotCarried(String::new()),
            RequestError::TooLarge(String::new()),
            RequestError::Body(String::new()),
        ] {
            assert_eq!(in_the_end(error.clone(), Some(unknown("reset"))), unknown("reset"));
            assert_eq!(in_the_end(error.clone(), None), error);
        }
        let answered = in_the_end_answered(Reply::busy("later"), Some(unknown("reset")));
        assert_eq!(answered, Err(unknown("reset")));
        assert!(in_the_end_answered(Reply::busy("later"), None).is_ok());
        assert!(in_the_end_answered(Reply::unhandled(), Some(unknown("reset"))).is_ok());
        for error in [
            RequestError::CallerGone,
            RequestError::NoReply { peer: "web1".to_owned(), waited },
            unknown("a later one"),
        ] {
            assert_eq!(in_the_end(error.clone(), Some(unknown("reset"))), error);
        }
    }
}
