//! The body of a service's reply: whole where it is small and there, else read while it comes.
//!
//! In scope: where it ends, and that one which was cut short is an error. Not in scope: the head.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::connection::{Connection, TURN, Watch};
use super::fault::Fault;
use super::idle::Idle;
use super::response::Framing;
use super::upload::Upload;
use crate::event::{Body, Source};
use crate::http1::chunked::Decoder;

/// Bodies up to this size, in bytes, cross in one message.
const SMALL: u64 = 16 * 1024;

/// A connection on which a reply is being read, and the upload that may still be going on. Dropped,
/// both end at once.
pub(super) struct Exchange {
    pub connection: Connection,
    pub upload: Option<Upload>,
    pub idle: Arc<Idle>,
    /// Whether the service takes another request here.
    pub keep_alive: bool,
}

impl Exchange {
    /// The reply was read to its end.
    pub fn end(self) {
        // Bytes behind it would be taken for the next reply.
        if !self.keep_alive || !self.connection.buffered().is_empty() {
            return;
        }
        match self.upload {
            Some(upload) => upload.end(self.connection, &self.idle),
            None => self.idle.give(self.connection),
        }
    }
}

/// The body that follows the head on this connection.
pub(super) fn body(
    mut exchange: Exchange,
    framing: Framing,
    watch: &mut Watch<'_>,
) -> Result<Body, Fault> {
    match framing {
        Framing::Length(length) if length <= SMALL => {
            // At most `SMALL`, so it fits.
            let whole = gather(&mut exchange.connection, length as usize, watch)?;
            exchange.end();
            Ok(whole.into())
        }
        Framing::Length(length) => Ok(arriving(exchange, Rest::Length(length), Some(length))),
        Framing::Chunked => {
            let ready = exchange.connection.buffered();
            let mut whole = vec![0; ready.len()];
            let mut decoder = Decoder::new();
            let decoded = decoder.feed(ready, &mut whole);
            let (used, count) = decoded.map_err(|broken| Fault::BadAnswer(broken.to_string()))?;
            if decoder.is_done() {
                exchange.connection.consume(used);
                exchange.end();
                whole.truncate(count);
                return Ok(whole.into());
            }
            Ok(arriving(exchange, Rest::Chunked(Decoder::new()), None))
        }
        Framing::Close => {
            exchange.keep_alive = false;
            Ok(arriving(exchange, Rest::Close, None))
        }
    }
}

fn gather(
    connection: &mut Connection,
    length: usize,
    watch: &mut Watch<'_>,
) -> Result<Vec<u8>, Fault> {
    let mut whole = vec![0; length];
    let mut count = 0;
    while count < length {
        match connection.read(&mut whole[count..], TURN) {
            Ok(Some(0)) => return Err(Fault::BadAnswer(cut(Ok(()), count as u64))),
            Ok(Some(more)) => {
                count += more;
                watch.moved();
            }
            Ok(None) => {}
            Err(error) => return Err(Fault::BadAnswer(cut(Err(error), count as u64))),
        }
        watch.look("send its reply")?;
    }
    Ok(whole)
}

fn cut(end: io::Result<()>, count: u64) -> String {
    format!("it was cut short after {count} bytes: {}", Fault::ended(end))
}

fn arriving(exchange: Exchange, rest: Rest, length: Option<u64>) -> Body {
    Body::from_source(Arriving { exchange: Some(exchange), rest, count: 0 }, length)
}

/// A body that is read while it comes. It may be silent for as long as it likes: events come when they
/// come.
struct Arriving {
    /// `None` behind the end.
    exchange: Option<Exchange>,
    rest: Rest,
    /// Bytes so far.
    count: u64,
}

enum Rest {
    /// So many bytes.
    Length(u64),
    Chunked(Decoder),
    /// What comes until the connection ends.
    Close,
}

impl Rest {
    /// Reads once: some bytes of the body, 0 at its end; `None` where none came in time.
    fn read(
        &mut self,
        connection: &mut Connection,
        into: &mut [u8],
        timeout: Duration,
    ) -> io::Result<Option<usize>> {
        match self {
            Self::Length(0) => Ok(Some(0)),
            Self::Length(left) => {
                let most = usize::try_from(*left).unwrap_or(usize::MAX).min(into.len());
                let read = before_end(connection.read(&mut into[..most], timeout)?)?;
                *left -= read.unwrap_or(0) as u64;
                Ok(read)
            }
            Self::Chunked(decoder) => read_chunked(decoder, connection, into, timeout),
            Self::Close => connection.read(into, timeout),
        }
    }

    fn is_done(&self) -> bool {
        match self {
            Self::Length(left) => *left == 0,
            Self::Chunked(decoder) => decoder.is_done(),
            Self::Close => false,
        }
    }
}

fn read_chunked(
    decoder: &mut Decoder,
    connection: &mut Connection,
    into: &mut [u8],
    timeout: Duration,
) -> io::Result<Option<usize>> {
    let started = Instant::now();
    loop {
        let fed = decoder.feed(connection.buffered(), into);
        let invalid = |broken| io::Error::new(io::ErrorKind::InvalidData, format!("{broken}"));
        let (used, count) = fed.map_err(invalid)?;
        connection.consume(used);
        if count > 0 || decoder.is_done() {
            return Ok(Some(count));
        }
        let left = timeout.saturating_sub(started.elapsed());
        let ahead = decoder.data_ahead();
        let read = if ahead > 0 {
            // Past the buffer, which is empty and small.
            let most = usize::try_from(ahead).unwrap_or(usize::MAX).min(into.len());
            let read = before_end(connection.read(&mut into[..most], left)?)?;
            decoder.skip_data(read.unwrap_or(0));
            return Ok(read);
        } else {
            before_end(connection.fill(left)?)?
        };
        if read.is_none() || (left.is_zero() && connection.buffered().is_empty()) {
            return Ok(None);
        }
    }
}

/// The end of the connection is none of such a body.
fn before_end(read: Option<usize>) -> io::Result<Option<usize>> {
    if read == Some(0) { Err(io::ErrorKind::UnexpectedEof.into()) } else { Ok(read) }
}

impl Source for Arriving {
    fn read_within(&mut self, buffer: &mut [u8], timeout: Duration) -> io::Result<Option<usize>> {
        let Some(exchange) = &mut self.exchange else { return Ok(Some(0)) };
        if buffer.is_empty() {
            return Ok(Some(0));
        }
        let read = self.rest.read(&mut exchange.connection, buffer, timeout);
        match read {
            Ok(Some(count)) => self.count += count as u64,
            Ok(None) => return Ok(None),
            Err(error) => {
                // It says the same if it is read again.
                let kind = error.kind();
                let end = if kind == io::ErrorKind::UnexpectedEof { Ok(()) } else { Err(error) };
                let broken = exchange.upload.as_ref().and_then(Upload::broken);
                let why = match broken {
                    Some(why) => format!("the request's body was not complete: {why}"),
                    None => format!("the service's reply: {}", cut(end, self.count)),
                };
                return Err(io::Error::new(kind, why));
            }
        }
        // At once, so that the next request finds the connection.
        if (self.rest.is_done() || matches!(read, Ok(Some(0))))
            && let Some(exchange) = self.exchange.take()
        {
            exchange.end();
        }
        read
    }
}
