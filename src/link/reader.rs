//! The reader: socket to TLS to frames to whoever they are for. It waits for its socket and for
//! nothing else.

use std::io::{self, Read};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::body::{self, Arriving};
use super::output::SendError;
use super::streams::{Incoming, Key};
use super::{Alert, Link, LinkEnd, lock, millis};
use crate::event::Body;
use crate::metrics::meter::Mark;
use crate::wire::{
    Capabilities, Frame, FrameDecoder, Heartbeat, Message, Piece, WireError, decode, decode_credit,
    decode_end, decode_reason, encode_heartbeat_reply,
};

/// What is read from the socket at once.
const CHUNK: usize = 64 * 1024;
/// What a peer may ask its silence limit to be, in milliseconds.
const SILENCE_MS: std::ops::RangeInclusive<u64> = 100..=86_400_000;

/// Reads until the link ends. Returns why.
pub(super) fn run(link: &Arc<Link>) -> LinkEnd {
    let mut cipher = vec![0; CHUNK];
    let mut decoder = FrameDecoder::new(link.limits);
    // What came along with the end of the handshake is in TLS already.
    let mut count = 0;
    loop {
        let opened = match link.tls.open(&cipher[..count], decoder.buffer()) {
            Ok(opened) => opened,
            Err(error) => {
                link.output.request_flush();
                return match Alert::received(&error) {
                    Some(alert) => LinkEnd::Refused(alert),
                    None => LinkEnd::Tls(error.to_string()),
                };
            }
        };
        if opened.wants_flush {
            link.output.request_flush();
        }
        if let Err(end) = take_frames(link, &mut decoder) {
            return end;
        }
        if opened.peer_closed {
            return if decoder.is_mid_frame() {
                LinkEnd::Broken("closed in the middle of a message".to_owned())
            } else {
                LinkEnd::ClosedByPeer
            };
        }
        count = match read(link, &mut cipher) {
            Ok(count) => count,
            Err(end) => return end,
        };
        link.heard_ms.store(link.since_start_ms(), Ordering::Relaxed);
    }
}

fn read(link: &Link, cipher: &mut [u8]) -> Result<usize, LinkEnd> {
    loop {
        match (&link.socket).read(cipher) {
            Ok(0) => return Err(LinkEnd::Broken("ended without TLS's close".to_owned())),
            Ok(count) => {
                link.counts.received(count);
                return Ok(count);
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(LinkEnd::Broken(error.to_string())),
        }
    }
}

fn take_frames(link: &Arc<Link>, decoder: &mut FrameDecoder) -> Result<(), LinkEnd> {
    let mut fed = Fed::default();
    while let Some(frame) = decoder.next_frame().map_err(LinkEnd::Protocol)? {
        take(link, &frame, &mut fed)?;
        if !link.is_ready() {
            link.set_ready();
        }
    }
    Ok(())
}

/// The bodies that got bytes from what was read at once: their consumers are woken once for all of it.
#[derive(Default)]
struct Fed(Vec<Arc<Incoming>>);

impl Fed {
    /// More than so many are woken early.
    const MOST: usize = 16;

    fn note(&mut self, body: Arc<Incoming>) {
        if self.0.iter().any(|noted| Arc::ptr_eq(noted, &body)) {
            return;
        }
        if self.0.len() == Self::MOST {
            self.tell();
        }
        self.0.push(body);
    }

    fn tell(&mut self) {
        self.0.drain(..).for_each(|body| body.tell_consumer());
    }
}

impl Drop for Fed {
    fn drop(&mut self) {
        self.tell();
    }
}

fn take(link: &Arc<Link>, frame: &Frame<'_>, fed: &mut Fed) -> Result<(), LinkEnd> {
    match decode(frame).map_err(LinkEnd::Protocol)? {
        Message::Heartbeat(heartbeat) => {
            note(link, heartbeat);
            link.counts.heartbeat_came(link.started, heartbeat.round_trip_us);
            let max_data = u32::try_from(link.limits.max_data).unwrap_or(u32::MAX);
            let reply = encode_heartbeat_reply(frame.id, max_data);
            if link.output.send_control(reply) == Err(SendError::Full) {
                return Err(LinkEnd::Flood);
            }
        }
        Message::Goodbye(goodbye) => return Err(LinkEnd::Dismissed(goodbye)),
        Message::DrainNotice(leaving) => link.note_leaving(leaving),
        Message::HeartbeatReply { extensions, max_data } => {
            let took = link.counts.heartbeat_answered(link.started);
            link.service.meter().mark(Mark::HeartbeatAnswered { took });
            *lock(&link.capabilities) =
                Capabilities::announced(extensions, max_data, link.limits.max_data);
            leave_with_node(link);
        }
        Message::Event(mut event, streamed) => {
            if let Some(length) = streamed {
                // A request holds a handler.
                let stall = link.stall(event.verb);
                event.body = begin(link, Key { ours: false, id: frame.id }, length, stall)?;
            }
            let bytes = event.body.whole().map_or(0, <[u8]>::len);
            match link.begin(frame.id, bytes).map_err(LinkEnd::Protocol)? {
                Some(cancelled) => link.service.submit(link, frame.id, event, cancelled),
                None => {
                    link.service.refuse(link, frame.id, "too many requests of this peer at once")
                }
            }
        }
        Message::BadEvent(reply, streamed) => {
            if let Some(length) = streamed {
                drop(begin(link, Key { ours: false, id: frame.id }, length, None)?);
            }
            link.send_reply(frame.id, &reply, false);
        }
        Message::Reply(mut reply, streamed) => {
            let waiter = lock(&link.pending).take(frame.id);
            link.settle();
            if let Some(length) = streamed {
                // It may be silent for as long as it likes: events come when they come.
                reply.body = begin(link, Key { ours: true, id: frame.id }, length, None)?;
            }
            match waiter {
                // An asker that has given up at this moment is gone.
                Some((waiter, _)) => drop(waiter.try_send(Ok(reply))),
                None => log::debug!("{}: a reply nobody waits for (any more)", link.peer.name),
            }
        }
        Message::Stream(piece, side) => {
            take_piece(link, piece, Key::of_frame(side, frame.id), frame.body, fed)
                .map_err(LinkEnd::Protocol)?;
        }
    }
    Ok(())
}

fn begin(
    link: &Arc<Link>,
    key: Key,
    length: Option<u64>,
    stall: Option<Duration>,
) -> Result<Body, LinkEnd> {
    Arriving::begin(link, key, length, stall).map_err(LinkEnd::Protocol)
}

/// Takes a frame about a body in pieces.
fn take_piece(
    link: &Link,
    piece: Piece,
    key: Key,
    body: &[u8],
    fed: &mut Fed,
) -> Result<(), WireError> {
    match piece {
        Piece::Chunk if body.is_empty() => Err(WireError::Malformed("an empty piece of a body")),
        Piece::Chunk => {
            if let Some((body, pushed)) = link.streams.chunk(key, body)? {
                if let Some(count) = pushed.grant {
                    body::grant(link, key, count);
                }
                if pushed.is_left {
                    fed.note(body);
                }
            }
            Ok(())
        }
        Piece::End => link.streams.end(key, decode_end(body)?, || cancel(link, key)),
        Piece::Reset => {
            // An asker that cannot send its body whole wants no answer; one that was told to stop does.
            // Before its consumer learns of it, and answers all the same.
            link.streams.reset(key, decode_reason(body)?, || cancel(link, key))
        }
        Piece::Credit => link.streams.credit(key, decode_credit(body)?),
        Piece::Stop => {
            let reason = decode_reason(body)?;
            if !link.streams.stop(key, reason) && !key.ours {
                link.cancel(key.id);
            }
            Ok(())
        }
    }
}

/// The peer's event will not get its body whole, and so wants no answer.
fn cancel(link: &Link, key: Key) {
    if !key.ours {
        link.cancel(key.id);
    }
}

/// A peer that is met while this node is stopping is told as soon as it is known to understand.
fn leave_with_node(link: &Link) {
    if let Some(spread) = link.service.leaving() {
        link.leave(spread);
    }
}

/// Takes over what a heartbeat announces.
fn note(link: &Link, heartbeat: Heartbeat) {
    if heartbeat.takes_over {
        link.takes_over.store(true, Ordering::Relaxed);
    }
    *lock(&link.capabilities) =
        Capabilities::announced(heartbeat.extensions, heartbeat.max_data, link.limits.max_data);
    leave_with_node(link);
    let silence = heartbeat.silence_ms.map_or_else(
        || millis(link.heartbeat.silence()),
        |ms| u64::from(ms).clamp(*SILENCE_MS.start(), *SILENCE_MS.end()),
    );
    if link.silence_ms.swap(silence, Ordering::Relaxed) != silence {
        let _ = link.alarm.try_send(());
    }
}
