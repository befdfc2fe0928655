//! The ends of a body in pieces: a producer's thread that sends one, and a consumer's view of one.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::Link;
use super::streams::{Incoming, Key, Leave, Outbound};
use crate::event::{Body, Sink, Source};
use crate::wire::{
    CHUNK, HEADER_BYTES, WireError, encode_chunk_header, encode_credit, encode_end, encode_reset,
    encode_stop,
};

/// How often a producer that waits looks at what else may have happened.
const LOOK: Duration = Duration::from_millis(250);

/// How sending a body ended.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum PumpEnd {
    /// All of it is on its way.
    Whole,
    /// The receiver wants no more, or the asker gave up.
    Stopped,
    /// It could not be read to its end.
    Broken(String),
    /// The receiver took nothing for too long.
    Stalled,
}

/// Sends a body in pieces, on the producer's thread: reads as much as the receiver has granted, and
/// waits where that is nothing, for at most `stall` at a time.
pub(super) fn pump(
    link: &Link,
    outbound: &Arc<Outbound>,
    body: &mut Body,
    stall: Option<Duration>,
) -> PumpEnd {
    let end = send(link, outbound, body, stall);
    let Key { ours, id } = outbound.key;
    let side = outbound.key.side();
    if let Err(PumpEnd::Broken(why)) = &end
        && ours
    {
        // Before the peer hears of it: whatever it answers is no answer to the whole.
        link.fail(id, why.clone());
    }
    let last = match &end {
        Ok(total) => encode_end(side, id, *total),
        Err(PumpEnd::Broken(why)) => encode_reset(side, id, why),
        Err(PumpEnd::Stalled) => encode_reset(side, id, "it was not taken"),
        Err(_) => encode_reset(side, id, "it is not wanted any more"),
    };
    link.output.send_bulk(outbound, last, &link.tls);
    link.streams.sent(outbound.key);
    end.err().unwrap_or(PumpEnd::Whole)
}

fn send(
    link: &Link,
    outbound: &Arc<Outbound>,
    body: &mut Body,
    stall: Option<Duration>,
) -> Result<u64, PumpEnd> {
    let mut invited = body.waits_for_reader();
    let length = body.length();
    let mut total = 0;
    let mut moved = Instant::now();
    loop {
        let most = match outbound.wait(invited, LOOK) {
            Leave::Send(most) => most.min(CHUNK as u64) as usize,
            Leave::Stop(_) => return Err(PumpEnd::Stopped),
            Leave::Wait if stall.is_some_and(|stall| moved.elapsed() > stall) => {
                return Err(PumpEnd::Stalled);
            }
            Leave::Wait => continue,
        };
        invited = false;
        let mut frame = outbound.frame(HEADER_BYTES + most);
        let count = match body.read_within(&mut frame[HEADER_BYTES..], LOOK) {
            Ok(Some(0)) => break,
            Ok(Some(count)) => count,
            Ok(None) => {
                moved = Instant::now();
                continue;
            }
            Err(error) => return Err(PumpEnd::Broken(error.to_string())),
        };
        total += count as u64;
        if length.is_some_and(|length| total > length) {
            return Err(PumpEnd::Broken("it is longer than it was said to be".to_owned()));
        }
        frame.truncate(HEADER_BYTES + count);
        encode_chunk_header(outbound.key.side(), outbound.key.id, &mut frame);
        outbound.spend(count);
        link.output.send_bulk(outbound, frame, &link.tls);
        moved = Instant::now();
    }
    match length {
        Some(length) if total < length => {
            Err(PumpEnd::Broken(format!("it ended after {total} of {length} bytes")))
        }
        _ => Ok(total),
    }
}

/// A body that the peer sends in pieces, as its consumer sees it.
pub(super) struct Arriving {
    link: Arc<Link>,
    incoming: Arc<Incoming>,
    /// Bytes that are still to come, where the length was announced.
    left: Option<u64>,
    /// When bytes last came.
    heard: Instant,
    /// For how long none may come.
    stall: Option<Duration>,
}

impl Arriving {
    /// Begins the body of this key, which may not be silent for longer than `stall`.
    pub fn begin(
        link: &Arc<Link>,
        key: Key,
        length: Option<u64>,
        stall: Option<Duration>,
    ) -> Result<Body, WireError> {
        let incoming = link.streams.receive(key)?;
        let heard = Instant::now();
        let arriving = Self { link: Arc::clone(link), incoming, left: length, heard, stall };
        Ok(Body::from_source(arriving, length))
    }

    fn grant(&self, count: u32) {
        grant(&self.link, self.incoming.key, count);
    }
}

/// Grants the peer so many more bytes of a body.
pub(super) fn grant(link: &Link, key: Key, count: u32) {
    let credit = encode_credit(key.side(), key.id, count);
    link.output.send_small(credit, &link.tls);
}

impl Source for Arriving {
    fn pass_to(&mut self, sink: Arc<dyn Sink>) {
        // What is passed on is not counted here.
        if self.left.is_none() {
            self.incoming.pass_to(sink);
        }
    }

    fn read_within(&mut self, buffer: &mut [u8], timeout: Duration) -> io::Result<Option<usize>> {
        if buffer.is_empty() {
            return Ok(Some(0));
        }
        if let Some(count) = self.incoming.welcome() {
            self.grant(count);
        }
        let Some(taken) = self.incoming.take(buffer, timeout)? else {
            return match self.stall {
                Some(stall) if self.heard.elapsed() > stall => {
                    let error = format!("nothing more came for {} s", stall.as_secs());
                    Err(io::Error::new(io::ErrorKind::TimedOut, error))
                }
                Some(_) | None => Ok(None),
            };
        };
        self.heard = Instant::now();
        if let Some(count) = taken.grant {
            self.grant(count);
        }
        if let Some(left) = &mut self.left {
            let wrong = if taken.count == 0 { *left > 0 } else { taken.count as u64 > *left };
            if wrong {
                return Err(io::Error::new(
                    io::ErrorKind::UnexpectedEof,
                    "the body has not the length that was announced",
                ));
            }
            *left -= taken.count as u64;
        }
        Ok(Some(taken.count))
    }
}

/// What was not read is not wanted.
impl Drop for Arriving {
    fn drop(&mut self) {
        if self.link.streams.abandon(&self.incoming) {
            let Key { id, .. } = self.incoming.key;
            let stop = encode_stop(self.incoming.key.side(), id, "it is not wanted any more");
            self.link.output.send_small(stop, &self.link.tls);
        }
    }
}
