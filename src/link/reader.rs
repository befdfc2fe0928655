//! The reader: socket to TLS to frames to whoever they are for. It waits for its socket and for
//! nothing else.

use std::io::{self, Read};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::output::SendError;
use super::{Alert, End, Link, lock, millis};
use crate::wire::{Decoder, Frame, Heartbeat, Incoming, Terms, decode, encode_heartbeat_reply};

/// What is read from the socket at once.
const CHUNK: usize = 64 * 1024;
/// What a peer may ask its silence limit to be, in milliseconds.
const SILENCE_MS: std::ops::RangeInclusive<u64> = 100..=86_400_000;

/// Reads until the link ends. Returns why.
pub(super) fn run(link: &Arc<Link>) -> End {
    let mut cipher = vec![0; CHUNK];
    let mut decoder = Decoder::new(link.limits);
    // What came along with the end of the handshake is in TLS already.
    let mut count = 0;
    loop {
        let opened = match link.tls.open(&cipher[..count], decoder.buffer()) {
            Ok(opened) => opened,
            Err(error) => {
                link.output.request_flush();
                return match Alert::received(&error) {
                    Some(alert) => End::Refused(alert),
                    None => End::Tls(error.to_string()),
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
                End::Broken("closed in the middle of a message".to_owned())
            } else {
                End::ClosedByPeer
            };
        }
        count = match read(link, &mut cipher) {
            Ok(count) => count,
            Err(end) => return end,
        };
        link.heard_ms.store(link.since_start_ms(), Ordering::Relaxed);
    }
}

fn read(link: &Link, cipher: &mut [u8]) -> Result<usize, End> {
    loop {
        match (&link.socket).read(cipher) {
            Ok(0) => return Err(End::Broken("ended without TLS's close".to_owned())),
            Ok(count) => return Ok(count),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(End::Broken(error.to_string())),
        }
    }
}

fn take_frames(link: &Arc<Link>, decoder: &mut Decoder) -> Result<(), End> {
    while let Some(frame) = decoder.next_frame().map_err(End::Protocol)? {
        take(link, &frame)?;
        if !link.is_ready() {
            link.set_ready();
        }
    }
    Ok(())
}

fn take(link: &Arc<Link>, frame: &Frame<'_>) -> Result<(), End> {
    match decode(frame).map_err(End::Protocol)? {
        Incoming::Heartbeat(heartbeat) => {
            note(link, heartbeat);
            let max_data = u32::try_from(link.limits.max_data).unwrap_or(u32::MAX);
            let reply = encode_heartbeat_reply(frame.id, max_data);
            if link.output.send_control(reply) == Err(SendError::Full) {
                return Err(End::Flood);
            }
        }
        Incoming::Goodbye(goodbye) => return Err(End::Dismissed(goodbye)),
        Incoming::HeartbeatReply { extensions, max_data } => {
            *lock(&link.terms) = Terms::announced(extensions, max_data, link.limits.max_data);
        }
        Incoming::Event(event) => {
            if link.begin(frame.id, event.body.len()).map_err(End::Protocol)? {
                link.service.submit(link, frame.id, event);
            } else {
                link.service.refuse(link, frame.id, "too many requests of this peer at once");
            }
        }
        Incoming::BadEvent(reply) => link.send_reply(frame.id, &reply, false),
        Incoming::Reply(reply) => {
            let waiter = lock(&link.pending).take(frame.id);
            match waiter {
                // An asker that has given up at this moment is gone.
                Some((waiter, _)) => drop(waiter.try_send(Ok(reply))),
                None => log::debug!("{}: a reply nobody waits for (any more)", link.peer.name),
            }
        }
    }
    Ok(())
}

/// Takes over what a heartbeat announces.
fn note(link: &Link, heartbeat: Heartbeat) {
    if heartbeat.takes_over {
        link.takes_over.store(true, Ordering::Relaxed);
    }
    *lock(&link.terms) =
        Terms::announced(heartbeat.extensions, heartbeat.max_data, link.limits.max_data);
    let silence = heartbeat.silence_ms.map_or_else(
        || millis(link.pulse.silence()),
        |ms| u64::from(ms).clamp(*SILENCE_MS.start(), *SILENCE_MS.end()),
    );
    if link.silence_ms.swap(silence, Ordering::Relaxed) != silence {
        let _ = link.alarm.try_send(());
    }
}
