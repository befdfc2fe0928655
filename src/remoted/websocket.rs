//! One end of a non-blocking WebSocket (RFC 6455): messages, pings, and how it ended.
//!
//! In scope: what the broker's end and a server's end share. Not in scope: the handshake, and what the
//! messages mean.

use std::io;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags};
use tungstenite::error::{Error, ProtocolError};
use tungstenite::protocol::frame::coding::CloseCode;
use tungstenite::protocol::{CloseFrame, Role, WebSocket, WebSocketConfig};
use tungstenite::{Bytes, Message};

use super::stream::{ReadyEvent, Stream, wait_any};
use super::waker::Waker;

/// Bytes queued for a peer that does not read: one message, and pings and pongs.
const MAX_WRITE_BUFFER: usize = 16 * 1024;
/// The longest reason of a peer's close frame that is repeated, in characters.
const MAX_REASON: usize = 100;

/// When a silent peer is pinged, and when it is given up.
#[derive(Clone, Copy, Debug)]
pub(super) struct LivenessTimeouts {
    /// A peer is pinged after this much silence.
    pub ping_after: Duration,
    /// And given up if nothing arrives within this time.
    pub pong_within: Duration,
}

impl LivenessTimeouts {
    /// The times of the original's broker.
    pub const DEFAULT: Self =
        Self { ping_after: Duration::from_secs(30), pong_within: Duration::from_secs(30) };
}

/// Sizes in bytes.
#[derive(Clone, Copy)]
pub(super) struct WebSocketSizes {
    pub read_buffer: usize,
    /// The largest accepted message.
    pub max_message: usize,
}

/// How a WebSocket ended.
#[derive(Debug, thiserror::Error)]
pub(super) enum WebSocketEnd {
    /// With a close frame; its reason may be empty.
    #[error("the peer closed the connection{}", after_colon(.0))]
    Closed(String),
    /// Without a close frame.
    #[error("the peer closed the connection without a close frame")]
    Cut,
    #[error("the peer was silent for {:.0} s", .0.as_secs_f64())]
    Silent(Duration),
    /// With the close code for the peer's violation.
    #[error("the peer broke the protocol: {1} (code {0})")]
    Violation(CloseCode, String),
    #[error("the connection failed: {0}")]
    Failed(#[from] io::Error),
}

impl From<Error> for WebSocketEnd {
    fn from(error: Error) -> Self {
        match error {
            Error::ConnectionClosed | Error::AlreadyClosed => Self::Closed(String::new()),
            Error::Protocol(ProtocolError::ResetWithoutClosingHandshake) => Self::Cut,
            Error::Io(error) => Self::Failed(error),
            Error::Capacity(why) => Self::Violation(CloseCode::Size, why.to_string()),
            Error::Utf8(why) => Self::Violation(CloseCode::Invalid, why.to_string()),
            why => Self::Violation(CloseCode::Protocol, why.to_string()),
        }
    }
}

/// One end of a WebSocket.
pub(super) struct WebSocketEndpoint {
    socket: WebSocket<Stream>,
    timeouts: LivenessTimeouts,
    /// Bytes wait until the connection accepts them.
    is_blocked: bool,
    last_received: Instant,
    /// When the peer was pinged, if nothing has arrived since.
    pinged_at: Option<Instant>,
}

impl WebSocketEndpoint {
    /// On a stream after the handshake.
    pub fn new(
        mut stream: Stream,
        role: Role,
        sizes: WebSocketSizes,
        timeouts: LivenessTimeouts,
    ) -> Self {
        let config = WebSocketConfig::default()
            .read_buffer_size(sizes.read_buffer)
            .write_buffer_size(0)
            .max_write_buffer_size(MAX_WRITE_BUFFER)
            .max_message_size(Some(sizes.max_message))
            .max_frame_size(Some(sizes.max_message));
        let early = stream.take_early();
        let socket = WebSocket::from_partially_read(stream, early, role, Some(config));
        let last_received = Instant::now();
        Self { socket, timeouts, is_blocked: false, last_received, pinged_at: None }
    }

    /// The next message, if one has arrived. Answers pings and close frames itself.
    pub fn receive(&mut self) -> Result<Option<Message>, WebSocketEnd> {
        match self.socket.read() {
            Ok(Message::Close(frame)) => {
                let _ = self.socket.flush();
                let reason = frame.map(|frame| printable(&frame.reason));
                Err(WebSocketEnd::Closed(reason.unwrap_or_default()))
            }
            Ok(message) => {
                self.last_received = Instant::now();
                self.pinged_at = None;
                Ok(Some(message))
            }
            Err(Error::Io(error)) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Sends a message, as far as the connection accepts it; [`Self::flush`] sends the rest. While it
    /// [is blocked](Self::is_blocked) only pings are sent, and those beyond the bound are dropped.
    pub fn send(&mut self, message: Message) -> Result<(), WebSocketEnd> {
        let result = self.socket.send(message);
        self.unless_blocked(result)
    }

    /// Sends queued bytes, as far as the connection accepts them.
    pub fn flush(&mut self) -> Result<(), WebSocketEnd> {
        let result = self.socket.flush();
        self.unless_blocked(result)
    }

    /// Whether bytes were still queued after the last call.
    pub fn is_blocked(&self) -> bool {
        self.is_blocked
    }

    fn unless_blocked(&mut self, result: tungstenite::Result<()>) -> Result<(), WebSocketEnd> {
        self.is_blocked = false;
        match result {
            Ok(()) => Ok(()),
            Err(Error::Io(error)) if error.kind() == io::ErrorKind::WouldBlock => {
                self.is_blocked = true;
                Ok(())
            }
            Err(Error::WriteBufferFull(_)) => {
                self.is_blocked = true;
                Ok(())
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Waits until something can be received or sent, or `waker` is woken, which returns true. Pings a
    /// silent peer with this payload.
    pub fn wait(
        &mut self,
        waker: &Waker,
        payload: impl FnOnce() -> Bytes,
    ) -> Result<bool, WebSocketEnd> {
        // A pong may be queued since the last message.
        self.flush()?;
        let deadline = match self.pinged_at {
            None => self.last_received + self.timeouts.ping_after,
            Some(at) => at + self.timeouts.pong_within,
        };
        if deadline <= Instant::now() {
            if self.pinged_at.is_some() {
                return Err(WebSocketEnd::Silent(self.last_received.elapsed()));
            }
            self.pinged_at = Some(Instant::now());
            self.send(Message::Ping(payload()))?;
            return Ok(false);
        }
        let stream = self.socket.get_ref();
        if stream.holds_input() {
            return Ok(false);
        }
        let writes = self.is_blocked || stream.holds_output();
        let output = if writes { PollFlags::OUT } else { PollFlags::empty() };
        let mut polled = [
            PollFd::from_borrowed_fd(stream.input(), PollFlags::IN | output),
            PollFd::new(waker, PollFlags::IN),
        ];
        wait_any(&mut polled, Some(deadline))?;
        let is_woken = !polled[1].revents().is_empty();
        if is_woken {
            waker.clear();
        }
        Ok(is_woken)
    }

    /// Sends a close frame without waiting.
    pub fn close(mut self) {
        let _ = self.socket.close(None);
    }

    /// Sends this close frame and closes so that it arrives, until `deadline`.
    pub fn close_within(mut self, frame: &CloseFrame, deadline: Instant) {
        while let Err(Error::Io(error)) = self.socket.close(Some(frame.clone()))
            && error.kind() == io::ErrorKind::WouldBlock
            && self.socket.get_ref().wait(ReadyEvent::Writable, deadline).is_ok()
        {}
        self.socket.get_mut().finish_within(deadline);
    }
}

fn printable(reason: &str) -> String {
    reason.chars().filter(|c| !c.is_control()).take(MAX_REASON).collect()
}

/// A reason that may be empty, as the end of a sentence.
fn after_colon(reason: &str) -> String {
    if reason.is_empty() { String::new() } else { format!(": {reason}") }
}
