//! A body that the peer sends in pieces, as seen by its consumer.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::streams::{IncomingStream, StreamKey};
use super::transport::Transport;
use crate::event::{Body, Sink, Source};
use crate::wire::WireError;

/// The consumer's end of a body.
pub(super) struct IncomingBody {
    transport: Arc<Transport>,
    stream: Arc<IncomingStream>,
    /// When bytes last arrived.
    last_bytes: Instant,
    /// Maximum time without bytes.
    stall: Option<Duration>,
}

impl IncomingBody {
    /// Begins the body with this key; it fails when it stalls for longer than `stall`.
    pub fn begin(
        transport: &Arc<Transport>,
        key: StreamKey,
        length: Option<u64>,
        stall: Option<Duration>,
    ) -> Result<Body, WireError> {
        let stream = transport.streams.receive(key)?;
        let transport = Arc::clone(transport);
        Ok(Body::from_source(Self { transport, stream, last_bytes: Instant::now(), stall }, length))
    }
}

impl Source for IncomingBody {
    fn pass_to(&mut self, sink: Arc<dyn Sink>) {
        self.stream.pass_to(sink);
    }

    fn read_within(&mut self, buffer: &mut [u8], timeout: Duration) -> io::Result<Option<usize>> {
        if buffer.is_empty() {
            return Ok(Some(0));
        }
        if let Some(count) = self.stream.welcome() {
            self.transport.grant(self.stream.key, count);
        }
        let Some(received) = self.stream.take(buffer, timeout)? else {
            return match self.stall {
                Some(stall) if self.last_bytes.elapsed() > stall => {
                    let error = format!("nothing more came for {} s", stall.as_secs());
                    Err(io::Error::new(io::ErrorKind::TimedOut, error))
                }
                Some(_) | None => Ok(None),
            };
        };
        self.last_bytes = Instant::now();
        if let Some(count) = received.grant {
            self.transport.grant(self.stream.key, count);
        }
        Ok(Some(received.count))
    }
}

/// Stops a body that was not read to its end.
impl Drop for IncomingBody {
    fn drop(&mut self) {
        if self.transport.streams.abandon(&self.stream) {
            self.transport.stop(self.stream.key, "it is not wanted any more");
        }
    }
}
