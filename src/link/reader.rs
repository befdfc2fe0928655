//! The reader: from the socket through TLS to frames, and on to their consumers. It blocks on
//! nothing but its socket.

use std::io::{self, Read};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::Duration;

use super::closing::{Closing, FragileMutex};
use super::drain::DrainState;
use super::end::LinkEnd;
use super::health::Health;
use super::incoming_body::IncomingBody;
use super::output::SendError;
use super::pending::PendingRequests;
use super::service::EventService;
use super::serving::ServedEvents;
use super::streams::{IncomingStream, StreamKey};
use super::tls::{Alert, LinkTls};
use super::transport::Transport;
use crate::event::Body;
use crate::metrics::meter::Mark;
use crate::wire::{
    Frame, FrameDecoder, Heartbeat, Message, Piece, WireError, decode, decode_credit, decode_end,
    decode_reason, encode_heartbeat_reply,
};

/// Maximum size of one socket read.
const READ_SIZE: usize = 64 * 1024;

/// Reads one link's socket and dispatches the messages.
pub(super) struct LinkReader<'a> {
    pub socket: &'a TcpStream,
    pub tls: &'a FragileMutex<LinkTls>,
    pub transport: &'a Arc<Transport>,
    pub pending: &'a PendingRequests,
    pub events: &'a Arc<ServedEvents>,
    pub health: &'a Health,
    pub drain: &'a DrainState,
    pub closing: &'a Closing,
    pub service: &'a EventService,
    /// Called after each message until the peer is known to be ready.
    pub set_ready: &'a dyn Fn(),
}

impl LinkReader<'_> {
    /// Reads until the link ends. Returns the reason.
    pub fn run(&self) -> LinkEnd {
        let mut cipher = vec![0; READ_SIZE];
        let mut decoder = FrameDecoder::new(self.transport.limits);
        // Bytes that arrived with the end of the handshake are already in TLS.
        let mut count = 0;
        loop {
            let Some(mut tls) = self.tls.lock() else { return self.closing.reason() };
            let opened = tls.open(&cipher[..count], decoder.buffer());
            drop(tls);
            let opened = match opened {
                Ok(opened) => opened,
                Err(error) => {
                    self.transport.output.request_flush();
                    return match Alert::received(&error) {
                        Some(alert) => LinkEnd::Refused(alert),
                        None => LinkEnd::Tls(error.to_string()),
                    };
                }
            };
            if opened.wants_flush {
                self.transport.output.request_flush();
            }
            if let Err(end) = self.take_frames(&mut decoder) {
                return end;
            }
            if opened.peer_closed {
                return if decoder.is_mid_frame() {
                    LinkEnd::Broken("closed in the middle of a message".to_owned())
                } else {
                    LinkEnd::ClosedByPeer
                };
            }
            count = match self.read(&mut cipher) {
                Ok(count) => count,
                Err(end) => return end,
            };
        }
    }

    fn read(&self, cipher: &mut [u8]) -> Result<usize, LinkEnd> {
        let mut socket = self.socket;
        loop {
            match socket.read(cipher) {
                Ok(0) => return Err(LinkEnd::Broken("ended without TLS's close".to_owned())),
                Ok(count) => {
                    self.health.bytes_came(count);
                    return Ok(count);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(LinkEnd::Broken(error.to_string())),
            }
        }
    }

    fn take_frames(&self, decoder: &mut FrameDecoder) -> Result<(), LinkEnd> {
        let mut wakeups = PendingWakeups::default();
        while let Some(frame) = decoder.next_frame().map_err(LinkEnd::Protocol)? {
            self.take(&frame, &mut wakeups)?;
            if !self.health.is_ready() {
                (self.set_ready)();
            }
        }
        Ok(())
    }

    fn take(&self, frame: &Frame<'_>, wakeups: &mut PendingWakeups) -> Result<(), LinkEnd> {
        let id = frame.id;
        match decode(frame).map_err(LinkEnd::Protocol)? {
            Message::Heartbeat(heartbeat) => {
                self.note_heartbeat(heartbeat);
                let reply = encode_heartbeat_reply(id, self.transport.max_data());
                if self.transport.output.send_control(reply) == Err(SendError::Full) {
                    return Err(LinkEnd::Flood);
                }
            }
            Message::Goodbye(goodbye) => return Err(LinkEnd::Dismissed(goodbye)),
            Message::Drain(notice) => self.drain.note(notice, self.pending, self.transport),
            Message::HeartbeatReply { extensions, max_data } => {
                let took = self.health.heartbeat_answered();
                self.service.meter().mark(Mark::HeartbeatAnswered { took });
                self.transport.set_capabilities(extensions, max_data);
                self.drain_with_node();
            }
            Message::Event(mut event, streamed) => {
                if let Some(length) = streamed {
                    // A stalled request body occupies a handler.
                    let stall = self.transport.stall(event.verb);
                    event.body = self.begin(StreamKey::theirs(id), length, stall)?;
                }
                match self.events.begin(id, event, streamed.is_some()).map_err(LinkEnd::Protocol)? {
                    Ok(served) => self.service.submit(self.events, served),
                    Err(event) => {
                        let why = "too many requests of this peer at once";
                        self.service.refuse(self.events, id, why);
                        drop(event);
                    }
                }
            }
            Message::BadEvent(reply, streamed) => {
                if let Some(length) = streamed {
                    drop(self.begin(StreamKey::theirs(id), length, None)?);
                }
                self.events.refuse(id, &reply);
            }
            Message::Reply(mut reply, streamed) => {
                let waiter = self.pending.take(id);
                if let Some(length) = streamed {
                    // No stall limit: a reply may be an event stream, silent for any length of
                    // time.
                    reply.body = self.begin(StreamKey::ours(id), length, None)?;
                }
                match waiter {
                    // The requester may have given up at this moment.
                    Some(waiter) => drop(waiter.try_send(Ok(reply))),
                    None => {
                        log::debug!("{}: a reply to no pending request", self.transport.peer.name);
                    }
                }
            }
            Message::Stream(piece, side) => {
                self.take_piece(piece, StreamKey::of_frame(side, id), frame.body, wakeups)
                    .map_err(LinkEnd::Protocol)?;
            }
        }
        Ok(())
    }

    fn begin(
        &self,
        key: StreamKey,
        length: Option<u64>,
        stall: Option<Duration>,
    ) -> Result<Body, LinkEnd> {
        IncomingBody::begin(self.transport, key, length, stall).map_err(LinkEnd::Protocol)
    }

    /// Handles a frame about a body in pieces.
    fn take_piece(
        &self,
        piece: Piece,
        key: StreamKey,
        bytes: &[u8],
        wakeups: &mut PendingWakeups,
    ) -> Result<(), WireError> {
        let streams = &self.transport.streams;
        // A request with an incomplete body wants no reply. That has to be known before its
        // consumer sees the end and replies anyway.
        let cancel = || {
            if !key.ours {
                self.events.cancel(key.id);
            }
        };
        match piece {
            Piece::Chunk if bytes.is_empty() => {
                Err(WireError::Malformed("an empty piece of a body"))
            }
            Piece::Chunk => {
                if let Some((stream, pushed)) = streams.chunk(key, bytes)? {
                    if let Some(count) = pushed.grant {
                        self.transport.grant(key, count);
                    }
                    if pushed.is_left {
                        wakeups.note(stream);
                    }
                }
                Ok(())
            }
            Piece::End => streams.end(key, decode_end(bytes)?, cancel),
            Piece::Reset => streams.reset(key, decode_reason(bytes)?, cancel),
            Piece::Credit => streams.credit(key, decode_credit(bytes)?),
            Piece::Stop => {
                if !streams.stop(key, decode_reason(bytes)?) {
                    cancel();
                }
                Ok(())
            }
        }
    }

    /// Announces the drain to a peer that connected while this node is stopping, once it is known
    /// to support that.
    fn drain_with_node(&self) {
        if let Some(spread) = self.service.draining() {
            self.drain.announce(self.transport, spread);
        }
    }

    /// Applies what a heartbeat announces.
    fn note_heartbeat(&self, heartbeat: Heartbeat) {
        if heartbeat.takes_over {
            self.health.set_takes_over();
        }
        self.transport.set_capabilities(heartbeat.extensions, heartbeat.max_data);
        self.drain_with_node();
        if self.health.set_silence(heartbeat.silence_ms) {
            self.closing.wake();
        }
        self.health.heartbeat_came(heartbeat.round_trip_us);
    }
}

/// Bodies that received bytes from one socket read: their consumers are woken once, at the end.
#[derive(Default)]
struct PendingWakeups(Vec<Arc<IncomingStream>>);

impl PendingWakeups {
    /// Above this number, consumers are woken early.
    const MAX: usize = 16;

    fn note(&mut self, stream: Arc<IncomingStream>) {
        if self.0.iter().any(|noted| Arc::ptr_eq(noted, &stream)) {
            return;
        }
        if self.0.len() == Self::MAX {
            self.wake();
        }
        self.0.push(stream);
    }

    fn wake(&mut self) {
        self.0.drain(..).for_each(|stream| stream.wake_consumer());
    }
}

impl Drop for PendingWakeups {
    fn drop(&mut self) {
        self.wake();
    }
}
