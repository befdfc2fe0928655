//! The body of a service's reply: buffered if it is small and available, streamed otherwise.
//!
//! In scope: finding its end, and reporting a truncated body as an error. Not in scope: the head.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use super::connection::{POLL_INTERVAL, ProgressWatch, ServiceConnection};
use super::fault::ServiceFault;
use super::idle::IdleConnections;
use super::upload::ProxyUpload;
use crate::event::{Body, Source};
use crate::http1::body::BodyDecoder;
use crate::http1::framing::Framing;
use crate::http1::input::BodyError;

/// Bodies up to this size, in bytes, are sent in one message.
const SMALL: u64 = 16 * 1024;

/// A connection on which a reply is being read, and the upload that may still be in progress.
/// Dropping it ends both at once.
pub(super) struct Exchange {
    pub connection: ServiceConnection,
    pub upload: Option<ProxyUpload>,
    pub idle: Arc<IdleConnections>,
    /// Whether the service accepts another request on this connection.
    pub keep_alive: bool,
}

impl Exchange {
    /// Ends the exchange after the whole reply was read.
    pub fn end(self) {
        // Bytes after it would be mistaken for the next reply.
        if !self.keep_alive || !self.connection.input.buffered().is_empty() {
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
    watch: &mut ProgressWatch<'_>,
) -> Result<Body, ServiceFault> {
    let length = match framing {
        Framing::None => Some(0),
        Framing::Length(length) => Some(length),
        Framing::Chunked => None,
        Framing::Close => {
            exchange.keep_alive = false;
            None
        }
    };
    let mut decoder = BodyDecoder::new(framing);
    if let Some(length) = length.filter(|length| *length <= SMALL) {
        // At most `SMALL`, so it fits.
        let whole = gather(&mut exchange.connection, &mut decoder, length as usize, watch)?;
        exchange.end();
        return Ok(whole.into());
    }
    if framing == Framing::Chunked {
        let ready = exchange.connection.input.buffered();
        let mut whole = vec![0; ready.len()];
        let decoded = decoder.feed(ready, &mut whole);
        let (used, count) = decoded.map_err(|error| ServiceFault::BadAnswer(error.to_string()))?;
        if decoder.is_done() {
            exchange.connection.input.consume(used);
            exchange.end();
            whole.truncate(count);
            return Ok(whole.into());
        }
        // Not complete: decode it again as a stream.
        decoder = BodyDecoder::new(framing);
    }
    let body = ServiceReplyBody { exchange: Some(exchange), decoder, count: 0 };
    Ok(Body::from_source(body, length))
}

fn gather(
    connection: &mut ServiceConnection,
    decoder: &mut BodyDecoder,
    length: usize,
    watch: &mut ProgressWatch<'_>,
) -> Result<Vec<u8>, ServiceFault> {
    let mut whole = vec![0; length];
    let mut count = 0;
    while count < length {
        match connection.input.read_body(decoder, &mut whole[count..], POLL_INTERVAL) {
            Ok(Some(more)) => {
                count += more;
                watch.moved();
            }
            Ok(None) => {}
            Err(error) => return Err(ServiceFault::BadAnswer(cut(&error, count as u64))),
        }
        watch.check("send its reply")?;
    }
    Ok(whole)
}

fn cut(error: &BodyError, count: u64) -> String {
    format!("it was cut short after {count} bytes: {error}")
}

/// A streamed body. There is no limit on how long it may stay silent: it may be a stream of events.
struct ServiceReplyBody {
    /// `None` after the end.
    exchange: Option<Exchange>,
    decoder: BodyDecoder,
    /// The number of bytes so far.
    count: u64,
}

impl Source for ServiceReplyBody {
    fn read_within(&mut self, buffer: &mut [u8], timeout: Duration) -> io::Result<Option<usize>> {
        let Some(exchange) = &mut self.exchange else { return Ok(Some(0)) };
        if buffer.is_empty() {
            return Ok(Some(0));
        }
        // With a timeout of zero the socket would not be polled.
        let timeout = timeout.clamp(Duration::from_millis(1), POLL_INTERVAL);
        let read = exchange.connection.input.read_body(&mut self.decoder, buffer, timeout);
        let count = match read {
            Ok(Some(count)) => count,
            Ok(None) => return Ok(None),
            Err(error) => {
                // Reading again returns the same error.
                let why = match exchange.upload.as_ref().and_then(ProxyUpload::broken) {
                    Some(why) => format!("the request's body was not complete: {why}"),
                    None => format!("the service's reply: {}", cut(&error, self.count)),
                };
                return Err(io::Error::new(error.kind(), why));
            }
        };
        self.count += count as u64;
        // Immediately, so that the next request can reuse the connection.
        if self.decoder.is_done()
            && let Some(exchange) = self.exchange.take()
        {
            exchange.end();
        }
        Ok(Some(count))
    }
}
