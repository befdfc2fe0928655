//! A connection that stops being HTTP: its bytes are relayed to and from a target of the peer.

use std::io;
use std::sync::Arc;
use std::time::Instant;

use super::{After, Connection, RequestInfo};
use crate::event::{CODE_FINE, Event, Verb};
use crate::http::refusal::Refusal;
use crate::http::request::PeerRequest;
use crate::http::response::HttpResponse;
use crate::http::response_writer;
use crate::tcp_tunnel;

impl Connection<'_> {
    /// Asks the peer to connect to the target that the path names, and relays this connection to
    /// it.
    pub(super) fn tunnel(&mut self, request: PeerRequest, info: RequestInfo) -> io::Result<After> {
        let connection = tcp_tunnel::TunnelConnection::new(Arc::clone(self.slot.socket()))?;
        let early = self.input.buffered().to_vec();
        self.input.consume(early.len());
        let PeerRequest { destination, target, headers, wait, .. } = request;
        let mut event = Event {
            verb: Verb::Connect,
            target,
            media_type: String::new(),
            headers,
            body: connection.body(early),
            head_only: false,
            request_id: info.id,
        };
        let asked =
            self.shared.pipe.request(destination.peer(), &mut event, wait, connection.as_ref());
        let mut reply = match asked {
            Ok(reply) if reply.code == CODE_FINE => reply,
            Ok(reply) => {
                let answer = self.shared.respond(reply, &event, &destination);
                return self.send(answer, true, info);
            }
            Err(error) => {
                let refusal = Refusal::from(error);
                return self.send(HttpResponse::of_refusal(&refusal), true, info);
            }
        };
        connection.set_established();
        let deadline = Instant::now() + self.shared.settings.limits.transfer_timeout;
        response_writer::switch_to_tcp(self.slot.socket(), deadline)?;
        if let Err(error) = connection.write_all(&mut reply.body) {
            log::debug!("http: a tunnelled connection ended (request {}): {error}", info.id);
        }
        connection.wait_sent();
        Ok(After::Close)
    }
}
