//! The session of a registered server, on its own thread: sends notices, receives signs of life.
//!
//! In scope: what is sent when. Not in scope: paths and callers, and the WebSocket itself
//! (`websocket`).
//!
//! A server sends only control frames; anything else closes the connection with the code that
//! RFC 6455 assigns.

use std::collections::VecDeque;
use std::fmt;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant, SystemTime};

use crossbeam_channel::Sender;
use tungstenite::protocol::frame::coding::CloseCode;
use tungstenite::protocol::{CloseFrame, Role};
use tungstenite::{Bytes, Message};

use super::registered_server::{EvictionReason, MAX_PINGS, RegisteredServer, SessionInbox};
use super::settings::Times;
use crate::remoted::stream::Stream;
use crate::remoted::websocket::{
    LivenessTimeouts, WebSocketEnd, WebSocketEndpoint, WebSocketSizes,
};

/// The largest accepted payload: that of a control frame (RFC 6455, section 5.5).
const MAX_PAYLOAD: usize = 125;
const READ_BUFFER_BYTES: usize = 1024;
/// The time for a server to read the close frame.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);

/// How a session ended.
pub(super) enum SessionEnd {
    /// The broker ended it.
    Broker(EvictionReason),
    /// The server ended it, or the connection failed.
    WebSocket(WebSocketEnd),
}

impl From<WebSocketEnd> for SessionEnd {
    fn from(end: WebSocketEnd) -> Self {
        Self::WebSocket(end)
    }
}

impl SessionEnd {
    /// The frame to send, unless the server ended the session itself.
    pub fn close_frame(&self) -> Option<CloseFrame> {
        let (code, reason) = match self {
            Self::Broker(why @ EvictionReason::Stopping) => (CloseCode::Away, why.text()),
            Self::Broker(why) => (CloseCode::Policy, why.text()),
            Self::WebSocket(WebSocketEnd::Violation(code, why)) => (*code, why.as_str()),
            Self::WebSocket(_) => return None,
        };
        Some(CloseFrame { code, reason: reason.to_owned().into() })
    }
}

impl fmt::Display for SessionEnd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Broker(why) => f.write_str(why.text()),
            Self::WebSocket(end) => end.fmt(f),
        }
    }
}

/// The session of one server.
pub(super) struct Session<'a> {
    socket: WebSocketEndpoint,
    server: &'a RegisteredServer,
    inbox: SessionInbox,
    /// Pings that others have asked for, with their payloads, oldest first.
    pings: VecDeque<(Bytes, Sender<()>)>,
    /// The number of these so far.
    ping_count: u64,
}

impl<'a> Session<'a> {
    pub fn new(
        stream: Stream,
        server: &'a RegisteredServer,
        inbox: SessionInbox,
        times: &Times,
    ) -> Self {
        let sizes = WebSocketSizes { read_buffer: READ_BUFFER_BYTES, max_message: MAX_PAYLOAD };
        let timeouts =
            LivenessTimeouts { ping_after: times.ping_after, pong_within: times.pong_within };
        let socket = WebSocketEndpoint::new(stream, Role::Server, sizes, timeouts);
        Self { socket, server, inbox, pings: VecDeque::new(), ping_count: 0 }
    }

    /// Serves until the session ends.
    pub fn run(&mut self) -> SessionEnd {
        loop {
            if let Err(end) = self.step() {
                return end;
            }
        }
    }

    /// Sends what it can and receives one message, or waits.
    fn step(&mut self) -> Result<(), SessionEnd> {
        if let Some(why) = self.server.ending() {
            return Err(SessionEnd::Broker(why));
        }
        self.send_queued()?;
        match self.socket.receive()? {
            Some(Message::Text(_) | Message::Binary(_)) => {
                let why = "a server sends nothing but control frames";
                Err(WebSocketEnd::Violation(CloseCode::Unsupported, why.to_owned()).into())
            }
            Some(Message::Pong(payload)) => {
                self.note_answer(&payload);
                Ok(())
            }
            Some(_) => Ok(()),
            None => {
                self.socket.wait(&self.server.waker, unix_time)?;
                Ok(())
            }
        }
    }

    /// Sends pings and notices, as far as the connection accepts them.
    fn send_queued(&mut self) -> Result<(), WebSocketEnd> {
        self.socket.flush()?;
        while let Ok(answer) = self.inbox.pings.try_recv() {
            // The oldest has timed out long ago.
            if self.pings.len() == MAX_PINGS {
                self.pings.pop_front();
            }
            self.ping_count += 1;
            let payload = Bytes::from(self.ping_count.to_string());
            self.pings.push_back((payload.clone(), answer));
            self.socket.send(Message::Ping(payload))?;
        }
        while !self.socket.is_blocked()
            && let Ok(notice) = self.inbox.notices.try_recv()
        {
            self.socket.send(Message::text(notice))?;
        }
        Ok(())
    }

    /// An answer counts for all earlier pings too (RFC 6455, section 5.5.3).
    fn note_answer(&mut self, payload: &Bytes) {
        self.server.is_mute.store(false, Ordering::Relaxed);
        if let Some(at) = self.pings.iter().position(|(sent, _)| sent == payload) {
            for (_, answer) in self.pings.drain(..=at) {
                let _ = answer.try_send(());
            }
        }
    }

    /// Sends the close frame and closes.
    pub fn close(self, why: &CloseFrame) {
        self.socket.close_within(why, Instant::now() + CLOSE_TIMEOUT);
    }
}

/// The payload of a ping, as in the original: the seconds since 1970.
fn unix_time() -> Bytes {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    now.as_secs().to_string().into()
}
