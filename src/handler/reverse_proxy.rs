//! A handler that forwards events to a local HTTP service.
//!
//! In scope: HTTP/1.1 to one address, which comes only from the configuration; persistent
//! connections; bodies that stream in both directions at once. Not in scope: HTTPS, redirects (they
//! are passed back), upgrades.
//!
//! The handler's own thread writes a request with a small buffered body and reads the reply. Any
//! other body is sent by a second thread: the service may reply before it has read the whole body,
//! or echo it, and a blocking socket needs one thread per direction.
//!
//! Enforced here, because the peer is not trusted: the path stays below the prefix ([`path`]),
//! fields that belong to a connection or identify the peer are not forwarded ([`request`]), and an
//! ambiguous reply is rejected ([`response`]).

mod connection;
mod fault;
mod idle;
mod path;
mod reply;
mod request;
mod response;
mod upload;

use std::sync::Arc;
use std::time::Duration;

use connection::{POLL_INTERVAL, ProgressWatch, ServiceConnection, ServiceEndpoint};
use fault::ServiceFault;
use idle::IdleConnections;
use reply::Exchange;
use response::ServiceReplyHead;
use upload::ProxyUpload;

use super::{Context, Failure, Handler};
use crate::config::ServiceAddress;
use crate::event::{Body, CODE_FINE, Event, Reply};
use crate::http1::framing::Framing;
use crate::http1::head::InvalidHead;
use crate::sync::throttle::Throttle;

/// Bodies up to this size, in bytes, are written with the head: any service buffers that much.
const SMALL: usize = 16 * 1024;
/// The default time limit for a service to start its reply.
const REPLY_TIMEOUT: Duration = Duration::from_secs(60);

/// Forwards events to a local HTTP service.
///
/// The request carries the caller's method, path, query, headers and body, plus `RP-Peer-Name`,
/// `RP-Peer-Fingerprint`, `RP-Peer-Address` and `RP-Request-Id`, which identify the peer and the
/// request. The reply
/// carries the service's status, headers and body, with code 0. Without a reply from the service,
/// it is an error: 502 `unreachable` or `bad_answer` and 504 `service_timeout` with code 251, 400
/// `bad_path` with code 400.
pub struct Service {
    endpoint: ServiceEndpoint,
    /// The value of `Host`.
    host: String,
    prefix: String,
    /// The service's name in messages.
    name: String,
    reply_timeout: Duration,
    idle: Arc<IdleConnections>,
    /// Limits log lines while a service is down.
    faults: Throttle,
}

impl Service {
    /// Forwards to this address. A service that is not listening shows only with the first request.
    /// Fails if the address is invalid, and says why.
    pub fn new(address: &ServiceAddress) -> Result<Self, String> {
        let prefix = match address {
            ServiceAddress::Tcp { prefix, .. } => prefix.clone(),
            ServiceAddress::Unix(_) => String::new(),
        };
        Ok(Self {
            endpoint: ServiceEndpoint::of(address).map_err(|error| error.to_string())?,
            host: address.authority(),
            prefix,
            name: format!("the service at {address}"),
            reply_timeout: REPLY_TIMEOUT,
            idle: Arc::default(),
            faults: Throttle::default(),
        })
    }

    /// Sets the time limit for the start of a reply, counted from the last byte of the request; 60
    /// s by default.
    pub fn with_reply_timeout(mut self, timeout: Duration) -> Self {
        self.reply_timeout = timeout;
        self
    }

    /// Sends one request and reads its reply, on an idle connection if it can be repeated, or else on
    /// a new one.
    fn ask(&self, context: &Context, event: &mut Event) -> Result<Reply, ServiceFault> {
        let head = request::head(&self.prefix, &self.host, context, event);
        let mut request = head.map_err(ServiceFault::BadPath)?;
        let head_only = request::is_head(event);
        let mut watch = ProgressWatch::new(context, self.reply_timeout);
        let small = event.body.whole().filter(|body| body.len() <= SMALL);
        let repeatable = small.is_some() && event.verb.is_idempotent();
        let rest = match small {
            Some(body) => {
                request.extend_from_slice(body);
                None
            }
            None => Some((request::framing(event), event.body.take_out())),
        };
        // The service may close an idle connection at any moment. What cannot be repeated would then be
        // lost, or its outcome unknown.
        if repeatable && let Some(kept) = self.idle.take() {
            match self.ask_on(kept, &request, None, head_only, &mut watch) {
                Err(ServiceFault::Silent(_)) => {}
                result => return result,
            }
        }
        let fresh = ServiceConnection::open(&self.endpoint, &watch)?;
        self.ask_on(fresh, &request, rest, head_only, &mut watch)
    }

    /// Writes `request`, sends the rest of the body, and reads the reply.
    fn ask_on(
        &self,
        mut connection: ServiceConnection,
        request: &[u8],
        rest: Option<(Framing, Body)>,
        head_only: bool,
        watch: &mut ProgressWatch<'_>,
    ) -> Result<Reply, ServiceFault> {
        // Read the reply even after an incomplete write: there may be one.
        let taken = connection.write(request, watch)?;
        let upload = match rest.filter(|_| taken) {
            Some((framing, body)) => Some(self.send(&connection, framing, body)?),
            None => None,
        };
        let head = read_final_head(&mut connection, upload.as_ref(), watch)?;
        // A 204 that announces a body may be followed by one, late enough to look like the next reply.
        let may_follow = head.status == 204
            && !matches!(head.framing, Framing::None | Framing::Length(0) | Framing::Close);
        let keep_alive = head.keep_alive && taken && !may_follow;
        let exchange = Exchange { connection, upload, idle: Arc::clone(&self.idle), keep_alive };
        let body = if head_only {
            exchange.end();
            Body::left_out(match head.framing {
                Framing::Length(length) => Some(length),
                Framing::None | Framing::Chunked | Framing::Close => None,
            })
        } else if matches!(head.status, 204 | 304) {
            exchange.end();
            Body::empty()
        } else {
            reply::body(exchange, head.framing, watch)?
        };
        Ok(Reply {
            code: CODE_FINE,
            media_type: head.media_type,
            body,
            status: Some(head.status),
            headers: head.headers,
        })
    }

    fn send(
        &self,
        connection: &ServiceConnection,
        framing: Framing,
        body: Body,
    ) -> Result<ProxyUpload, ServiceFault> {
        ProxyUpload::begin(connection, body, framing, Arc::clone(&self.idle))
            .map_err(|error| ServiceFault::NoThread(format!("no thread to send the body: {error}")))
    }

    fn note(&self, context: &Context, event: &Event, fault: &ServiceFault) {
        if *fault == ServiceFault::Cancelled {
            return;
        }
        if let Some(more) = self.faults.allow() {
            log::warn!(
                "{}: request {}: {} {}: {}{more}",
                context.peer.name,
                context.request_id,
                event.verb.as_str(),
                event.target,
                fault.message(&self.name).escape_debug()
            );
        }
    }
}

impl Handler for Service {
    fn handle(&self, context: &Context, event: &mut Event) -> Result<Reply, Failure> {
        Ok(self.ask(context, event).unwrap_or_else(|fault| {
            self.note(context, event, &fault);
            fault.reply(&self.name)
        }))
    }

    fn passes_on(&self, _: &Event) -> bool {
        true
    }
}

/// Reads heads until a final one (RFC 9110, section 15.2). Interim replies are no progress: they do
/// not extend the time limit.
fn read_final_head(
    connection: &mut ServiceConnection,
    upload: Option<&ProxyUpload>,
    watch: &mut ProgressWatch<'_>,
) -> Result<ServiceReplyHead, ServiceFault> {
    let mut first = true;
    loop {
        let head = read_head(connection, first, upload, watch)?;
        match head.status {
            101 => return Err(ServiceFault::BadAnswer("it changes the protocol (101)".to_owned())),
            100..=199 => first = false,
            _ => return Ok(head),
        }
    }
}

/// Reads one head; `first` means that no part of the reply was read before.
fn read_head(
    connection: &mut ServiceConnection,
    first: bool,
    upload: Option<&ProxyUpload>,
    watch: &mut ProgressWatch<'_>,
) -> Result<ServiceReplyHead, ServiceFault> {
    let unusable = |error: InvalidHead| ServiceFault::BadAnswer(error.to_string());
    let mut seen = 0;
    let mut moves = 0;
    loop {
        let buffered = connection.input.buffered();
        if let Some(end) = response::find_end(buffered, seen).map_err(unusable)? {
            let head = response::parse(&buffered[..end]).map_err(ServiceFault::BadAnswer)?;
            connection.input.consume(end);
            return Ok(head);
        }
        seen = buffered.len();
        let end = match connection.input.fill(POLL_INTERVAL) {
            Ok(Some(0)) => Ok(()),
            Ok(Some(_) | None) => {
                // While the body is being sent, its own limits apply.
                let now = upload.map_or(0, ProxyUpload::moves);
                if now != moves {
                    moves = now;
                    watch.moved();
                }
                watch.check("reply")?;
                continue;
            }
            Err(error) => Err(error),
        };
        let why = ServiceFault::ended(end);
        return Err(match upload.and_then(ProxyUpload::broken) {
            Some(broken) => ServiceFault::Body(broken),
            None if first && seen == 0 => ServiceFault::Silent(why),
            None => ServiceFault::BadAnswer(format!("its head is not complete: {why}")),
        });
    }
}
