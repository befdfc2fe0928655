//! The life of a registration, on its own thread: frames out and in, pings, the end.
//!
//! In scope: the WebSocket (RFC 6455). Not in scope: paths and callers.
//!
//! The server says nothing but control frames; whatever else comes closes the connection with the
//! code that the RFC has for that.

use std::fmt;
use std::io;
use std::time::{Duration, Instant, SystemTime};

use crossbeam_channel::{Receiver, Sender};
use rustix::event::{PollFd, PollFlags};
use tungstenite::error::{Error, ProtocolError};
use tungstenite::protocol::frame::coding::CloseCode;
use tungstenite::protocol::{CloseFrame, Role, WebSocketConfig};
use tungstenite::{Message, WebSocket};

use super::{End, MAX_PROBES, Registration};
use crate::remoted::broker::limits::Times;
use crate::remoted::stream::{Stream, wait_any};

/// The largest payload that is taken: that of a control frame (RFC 6455, section 5.5).
const MAX_PAYLOAD: usize = 125;
/// How long a server gets to take in why its connection is closed.
const LINGER: Duration = Duration::from_secs(1);

/// How a session ended.
pub(super) enum Left {
    Ended(End),
    Goodbye,
    Closed,
    Silent(Duration),
    Broke(CloseCode, String),
    Failed(io::Error),
}

impl Left {
    /// What the server is told, unless it left by itself.
    pub fn word(&self) -> Option<CloseFrame> {
        let (code, reason) = match self {
            Self::Ended(End::Stopping) => (CloseCode::Away, "the broker is stopping"),
            Self::Ended(End::KeyGone) => (CloseCode::Policy, "the key is gone"),
            Self::Ended(End::Replaced) => (CloseCode::Policy, "returned on another connection"),
            Self::Broke(code, why) => (*code, why.as_str()),
            Self::Goodbye | Self::Closed | Self::Silent(_) | Self::Failed(_) => return None,
        };
        Some(CloseFrame { code, reason: reason.to_owned().into() })
    }
}

impl fmt::Display for Left {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ended(End::Stopping) => f.write_str("the broker is stopping"),
            Self::Ended(End::KeyGone) => f.write_str("its key is gone"),
            Self::Ended(End::Replaced) => f.write_str("it returned on another connection"),
            Self::Goodbye => f.write_str("it said goodbye"),
            Self::Closed => f.write_str("it closed the connection"),
            Self::Silent(time) => write!(f, "it was silent for {time:?}"),
            Self::Broke(code, why) => write!(f, "closed with code {code}: {why}"),
            Self::Failed(error) => write!(f, "{error}"),
        }
    }
}

/// The life of a registration, on one thread.
pub(super) struct Session<'a> {
    socket: WebSocket<Stream>,
    registration: &'a Registration,
    notices: Receiver<String>,
    probes: Receiver<Sender<()>>,
    times: &'a Times,
    /// Those who want to know whether it lives.
    asking: Vec<Sender<()>>,
    /// Bytes wait for the socket.
    is_blocked: bool,
    /// The last sign of life.
    heard: Instant,
    /// When it was asked for one.
    pinged: Option<Instant>,
}

impl<'a> Session<'a> {
    pub fn new(
        mut stream: Stream,
        registration: &'a Registration,
        notices: Receiver<String>,
        probes: Receiver<Sender<()>>,
        times: &'a Times,
    ) -> Self {
        let config = WebSocketConfig::default()
            .read_buffer_size(1024)
            .write_buffer_size(0)
            .max_message_size(Some(MAX_PAYLOAD))
            .max_frame_size(Some(MAX_PAYLOAD));
        let early = stream.take_early();
        let socket = WebSocket::from_partially_read(stream, early, Role::Server, Some(config));
        Self {
            socket,
            registration,
            notices,
            probes,
            times,
            asking: Vec::new(),
            is_blocked: false,
            heard: Instant::now(),
            pinged: None,
        }
    }

    /// Serves until the end.
    pub fn run(&mut self) -> Left {
        loop {
            if let Err(left) = self.turn() {
                return left;
            }
        }
    }

    fn turn(&mut self) -> Result<(), Left> {
        if let Some(end) = self.registration.ending() {
            return Err(Left::Ended(end));
        }
        self.send()?;
        self.receive()?;
        // What was received may want an answer.
        self.flush()?;
        let due = match self.pinged {
            None => self.heard + self.times.ping_after,
            Some(at) => at + self.times.gone_after,
        };
        if due > Instant::now() {
            return self.wait(due).map_err(Left::Failed);
        }
        if self.pinged.is_some() {
            return Err(Left::Silent(self.heard.elapsed()));
        }
        self.pinged = Some(Instant::now());
        self.ping()
    }

    fn wait(&self, until: Instant) -> io::Result<()> {
        let stream = self.socket.get_ref();
        let writes = self.is_blocked || stream.holds_output();
        let output = if writes { PollFlags::OUT } else { PollFlags::empty() };
        let mut polled = [
            PollFd::from_borrowed_fd(stream.input(), PollFlags::IN | output),
            PollFd::new(&self.registration.waker, PollFlags::IN),
        ];
        wait_any(&mut polled, Some(until))?;
        if !polled[1].revents().is_empty() {
            self.registration.waker.clear();
        }
        Ok(())
    }

    fn ping(&mut self) -> Result<(), Left> {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        self.write(Message::Ping(now.as_secs().to_string().into()))
    }

    /// Sends what there is to be told, as far as the socket takes it.
    fn send(&mut self) -> Result<(), Left> {
        self.flush()?;
        while let Ok(asking) = self.probes.try_recv() {
            // The oldest has given up long ago.
            if self.asking.len() == MAX_PROBES {
                self.asking.remove(0);
            }
            self.asking.push(asking);
            self.ping()?;
        }
        while !self.is_blocked
            && let Ok(notice) = self.notices.try_recv()
        {
            self.write(Message::text(notice))?;
        }
        Ok(())
    }

    fn write(&mut self, message: Message) -> Result<(), Left> {
        let result = self.socket.write(message);
        self.unless_blocked(result)?;
        self.flush()
    }

    fn flush(&mut self) -> Result<(), Left> {
        let result = self.socket.flush();
        self.unless_blocked(result)
    }

    fn unless_blocked(&mut self, result: tungstenite::Result<()>) -> Result<(), Left> {
        self.is_blocked = false;
        match result {
            Ok(()) => Ok(()),
            Err(Error::Io(e)) if e.kind() == io::ErrorKind::WouldBlock => {
                self.is_blocked = true;
                Ok(())
            }
            Err(error) => Err(left(error)),
        }
    }

    /// Takes in all that came.
    fn receive(&mut self) -> Result<(), Left> {
        loop {
            match self.socket.read() {
                Err(Error::Io(e)) if e.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(left(error)),
                Ok(Message::Text(_) | Message::Binary(_)) => {
                    let why = "a server sends nothing but control frames";
                    return Err(Left::Broke(CloseCode::Unsupported, why.to_owned()));
                }
                Ok(Message::Close(_)) => {
                    let _ = self.socket.flush();
                    return Err(Left::Goodbye);
                }
                Ok(_) => {
                    self.heard = Instant::now();
                    self.pinged = None;
                    for asking in self.asking.drain(..) {
                        let _ = asking.try_send(());
                    }
                }
            }
        }
    }

    /// Says why and closes, so that it arrives.
    pub fn close(mut self, why: &CloseFrame) {
        let deadline = Instant::now() + LINGER;
        while let Err(Error::Io(e)) = self.socket.close(Some(why.clone()))
            && e.kind() == io::ErrorKind::WouldBlock
            && self.wait(deadline).is_ok()
            && Instant::now() < deadline
        {
            self.is_blocked = true;
        }
        let stream = self.socket.get_mut();
        let _ = stream.close_writing_within(deadline);
        // Closing with bytes unread would send a reset, which may overtake the frame.
        let mut buffer = [0; 1024];
        while Instant::now() < deadline
            && stream.read_within(&mut buffer, deadline).is_ok_and(|count| count > 0)
        {}
    }
}

fn left(error: Error) -> Left {
    let broke = |code, why: &dyn fmt::Display| Left::Broke(code, why.to_string());
    match error {
        Error::ConnectionClosed | Error::AlreadyClosed => Left::Goodbye,
        Error::Protocol(ProtocolError::ResetWithoutClosingHandshake) => Left::Closed,
        Error::Io(error) => Left::Failed(error),
        Error::Capacity(why) => broke(CloseCode::Size, &why),
        Error::Utf8(why) => broke(CloseCode::Invalid, &why),
        why => broke(CloseCode::Protocol, &why),
    }
}
