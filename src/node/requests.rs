//! One request to a peer: find its link, send it, and decide what a lost link means for the caller.
//!
//! A request that was never written may be sent on the next connection. One that was written and
//! then lost is sent again only if it is idempotent.

use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::peer_table::{FindError, PeerQuery, PeerTable};
use crate::event::pipe::{Caller, Peer, Pipe, RequestError};
use crate::event::{Event, Reply};
use crate::link::{Link, Unanswered};
use crate::metrics::meter::{Mark, Meter};
use crate::net::dial::Resolver;
use crate::wire::Unsendable;

/// Minimum timeout of a name lookup, however short the request's wait.
const MIN_LOOKUP_TIMEOUT: Duration = Duration::from_secs(5);

/// Maximum wait for an absent peer.
const MAX_WAIT: Duration = Duration::from_secs(86_400);

/// The key of a client's server in its peer table, whatever the certificate says.
pub(super) const SERVER: &str = "server";

/// Sends requests to the peers of a peer table.
pub(super) struct Requests {
    pub peers: Arc<PeerTable>,
    pub resolver: Arc<Resolver>,
    /// Time limit for the reply.
    pub reply_timeout: Duration,
    /// Until then, unknown names are waited for as well; absent if they never are.
    pub restart_grace: Option<Instant>,
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
        let wait = wait.min(MAX_WAIT);
        let deadline = Instant::now() + wait;
        let name = match peer {
            Peer::Server => SERVER,
            Peer::Client(name) => name,
        };
        // The fast path: the peer is addressed by name and connected.
        let mut link = match self.peers.named(name) {
            Some(link) => link,
            None => self.find(peer, name, wait, deadline)?,
        };
        loop {
            let began = Instant::now();
            self.meter.mark(Mark::Asking);
            let (outcome, answer) = link.request(event, self.reply_timeout, &|| caller.is_gone());
            let lost = match answer {
                Ok(reply) => {
                    self.meter.mark(Mark::Replied { outcome, took: began.elapsed() });
                    return Ok(reply);
                }
                Err(error) => {
                    self.meter.mark(Mark::Unanswered { outcome });
                    match error {
                        Unanswered::NotSent(_) => None,
                        Unanswered::Lost(end) if may_repeat(event) => Some(end),
                        error => return Err(self.explain(&link, error)),
                    }
                }
            };
            let (name_there, id) = (&link.peer().name, event.request_id);
            log::debug!("{name_there}: request {id} is sent again: {}", event.target);
            link = match (self.find(peer, name, wait, deadline), lost) {
                (Ok(link), _) => link,
                (Err(error), None) => return Err(error),
                (Err(_), Some(end)) => return Err(self.explain(&link, Unanswered::Lost(end))),
            };
        }
    }
}

impl Requests {
    /// Finds the link of a peer that is absent or addressed by IP address.
    fn find(
        &self,
        peer: Peer<'_>,
        name: &str,
        wait: Duration,
        deadline: Instant,
    ) -> Result<Arc<Link>, RequestError> {
        let addresses = match peer {
            Peer::Client(host) if !self.peers.knows(host) => {
                // Looking up a client's name may take longer than the client's reconnect.
                match host.parse::<IpAddr>() {
                    Err(_) if self.is_in_restart_grace() => Vec::new(),
                    _ => self.addresses(host, deadline)?,
                }
            }
            Peer::Server | Peer::Client(_) => Vec::new(),
        };
        let wanted = PeerQuery { name, addresses: &addresses };
        let found = self.peers.wait_for(&wanted, deadline);
        if found.is_err() {
            self.meter.mark(Mark::NotAsked);
        }
        found.map_err(|error| match error {
            FindError::Away => RequestError::Away { peer: describe(peer), waited: wait },
            FindError::Ambiguous(names) => RequestError::Ambiguous(names),
            FindError::Full => {
                RequestError::Full("too many requests wait for peers that are away".to_owned())
            }
            FindError::Stopping => RequestError::Stopping,
        })
    }

    fn is_in_restart_grace(&self) -> bool {
        self.restart_grace.is_some_and(|until| Instant::now() < until)
    }

    fn addresses(&self, host: &str, deadline: Instant) -> Result<Vec<IpAddr>, RequestError> {
        let timeout = deadline.saturating_duration_since(Instant::now()).max(MIN_LOOKUP_TIMEOUT);
        self.resolver.resolve(host, timeout).map_err(|error| {
            log::debug!("{}: not resolved: {error}", host.escape_debug());
            not_resolved(host, &error)
        })
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
                why @ (Unsendable::NotSevenBit(_) | Unsendable::NoConnections),
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

fn describe(peer: Peer<'_>) -> String {
    match peer {
        Peer::Server => "the server".to_owned(),
        Peer::Client(name) => name.escape_debug().to_string(),
    }
}

/// A name is reported as unknown only after a failed lookup.
fn not_resolved(host: &str, error: &io::Error) -> RequestError {
    match error.kind() {
        io::ErrorKind::ResourceBusy => {
            RequestError::Full("too many host names are being looked up".to_owned())
        }
        _ => RequestError::UnknownPeer(host.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_was_not_looked_up_is_not_called_unknown() {
        let busy = io::Error::from(io::ErrorKind::ResourceBusy);
        assert!(matches!(not_resolved("web1", &busy), RequestError::Full(_)));
        let unknown = io::Error::from(io::ErrorKind::NotFound);
        assert_eq!(not_resolved("web1", &unknown), RequestError::UnknownPeer("web1".to_owned()));
    }
}
