//! A server's WebSocket to its broker: the path is ours for as long as it stands.
//!
//! In scope: the handshake, callers' notices, pings both ways. Not in scope: what comes after its
//! end (`registrar`).

use std::fmt;
use std::io;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags};
use tungstenite::protocol::{Role, WebSocket, WebSocketConfig};
use tungstenite::{Bytes, Error, Message};

use super::connect::REACH;
use super::head::{Upgrade, read_answer, websocket_accept, websocket_request};
use super::notice::{Notice, NoticeError};
use super::outbound::Outbound;
use super::random;
use super::stream::{Stream, wait_any};
use super::url::Url;
use super::waker::Waker;
use super::webroute::{Cause, broken, refused, unanswered};

/// Largest message, in bytes. A notice has some hundred; a caller may choose a long id, and must not
/// be able to end everybody's registration with it.
const MAX_MESSAGE: usize = 128 * 1024;
/// What is read at once.
const PIECE: usize = 4096;
/// Pongs that may wait for a broker which reads nothing, in bytes.
const MAX_UNSENT: usize = 16 * 1024;

/// How life is judged.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pulse {
    /// After this long without a word the broker is asked for one.
    pub silence: Duration,
    /// And after this long without an answer it is given up.
    pub grace: Duration,
}

impl Pulse {
    /// As the original's broker judges its servers.
    pub const USUAL: Self =
        Self { silence: Duration::from_secs(30), grace: Duration::from_secs(30) };
}

/// A path that is registered.
pub(super) struct Registration {
    socket: WebSocket<Stream>,
    pulse: Pulse,
    /// When the broker last said anything.
    heard: Instant,
    /// It was asked for a word since then.
    is_asked: bool,
}

/// How a registration ended.
#[derive(Debug)]
pub(super) enum Ended {
    /// The broker, or something before it, closed it.
    Closed(String),
    /// It did not answer.
    Silent(Duration),
    /// It did what no broker does.
    Protocol(String),
    /// The connection failed.
    Failed(io::Error),
    /// It was woken: it is to end.
    Woken,
}

impl fmt::Display for Ended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Closed(why) if why.is_empty() => f.write_str("the broker closed it"),
            Self::Closed(why) => write!(f, "the broker closed it: {why}"),
            Self::Silent(time) => {
                write!(f, "the broker was silent for {:.0} s", time.as_secs_f64())
            }
            Self::Protocol(what) => write!(f, "the broker sent {what}"),
            Self::Failed(error) => write!(f, "the connection broke: {error}"),
            Self::Woken => f.write_str("it was taken back"),
        }
    }
}

impl Registration {
    /// Registers the path.
    pub fn open(url: &Url, outbound: &Outbound, pulse: Pulse) -> Result<Self, Cause> {
        let key = url.key().ok_or(Cause::NoKey)?;
        let deadline = Instant::now() + REACH;
        let mut stream = outbound.dial(url, deadline).map_err(Cause::Unreachable)?;
        let nonce = random::nonce();
        let to = Upgrade { host: &url.authority(), path: url.path(), key: key.reveal() };
        let request = zeroize::Zeroizing::new(websocket_request(&to, &url.origin(), &nonce));
        stream.write_all_within(&request, deadline).map_err(|error| broken(&error))?;
        let answer = read_answer(&mut stream, deadline).map_err(|error| {
            match unanswered(&error, deadline) {
                Cause::NeverCame => Cause::Broken("the broker does not answer".to_owned()),
                cause => cause,
            }
        })?;
        if answer.status != 101 {
            return Err(refused(&mut stream, &answer, url.side()));
        }
        let is_websocket = answer.fields.has_token("Upgrade", "websocket");
        let accept = answer.fields.find("Sec-WebSocket-Accept");
        if !is_websocket || accept != Some(websocket_accept(&nonce).as_str()) {
            return Err(Cause::Broken(
                "what answers is no broker: its Sec-WebSocket-Accept is not that of our key"
                    .to_owned(),
            ));
        }
        let config = WebSocketConfig::default()
            .read_buffer_size(PIECE)
            .write_buffer_size(0)
            .max_write_buffer_size(MAX_UNSENT)
            .max_message_size(Some(MAX_MESSAGE))
            .max_frame_size(Some(MAX_MESSAGE));
        let socket = WebSocket::from_raw_socket(stream, Role::Client, Some(config));
        Ok(Self { socket, pulse, heard: Instant::now(), is_asked: false })
    }

    /// Waits for the next caller. A caller whose id cannot be sent on is an error of its own, after
    /// which the registration goes on. It ends when it is woken.
    pub fn next(&mut self, waker: &Waker) -> Result<Result<Notice, NoticeError>, Ended> {
        loop {
            match self.socket.read() {
                Ok(message) => {
                    self.heard = Instant::now();
                    self.is_asked = false;
                    if let Some(notice) = understand(message)? {
                        return Ok(notice);
                    }
                }
                Err(Error::Io(error)) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.wait(waker)?;
                }
                Err(error) => return Err(ended(error)),
            }
        }
    }

    /// Says goodbye, without waiting for an answer.
    pub fn close(mut self) {
        let _ = self.socket.close(None);
    }

    /// Waits until something may be read, and keeps the pulse.
    fn wait(&mut self, waker: &Waker) -> Result<(), Ended> {
        let silent = self.heard.elapsed();
        let Pulse { silence, grace } = self.pulse;
        if silent >= silence + grace {
            return Err(Ended::Silent(silent));
        }
        if silent >= silence && !self.is_asked {
            self.is_asked = true;
            match self.socket.send(Message::Ping(Bytes::new())) {
                // It stands in the buffer, and a broker that reads nothing says nothing.
                Err(Error::Io(error)) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(Error::WriteBufferFull(_)) => {}
                result => result.map_err(ended)?,
            }
        }
        let due = if self.is_asked { silence + grace } else { silence };
        let stream = self.socket.get_ref();
        if stream.holds_input() {
            return Ok(());
        }
        let mut polled = vec![
            PollFd::new(waker, PollFlags::IN),
            PollFd::from_borrowed_fd(stream.input(), PollFlags::IN),
        ];
        if stream.holds_output() {
            polled.push(PollFd::from_borrowed_fd(stream.output(), PollFlags::OUT));
        }
        wait_any(&mut polled, Some(self.heard + due)).map_err(Ended::Failed)?;
        if polled[0].revents().is_empty() { Ok(()) } else { Err(Ended::Woken) }
    }
}

/// The notice in a message, if there is one; pings are answered by the WebSocket itself.
fn understand(message: Message) -> Result<Option<Result<Notice, NoticeError>>, Ended> {
    match message {
        Message::Text(text) => match Notice::parse(&text) {
            Err(NoticeError::Nonsense(what)) => Err(Ended::Protocol(what.to_owned())),
            notice => Ok(Some(notice)),
        },
        Message::Binary(_) => Err(Ended::Protocol("a binary message".to_owned())),
        Message::Close(frame) => {
            let why = frame.map(|frame| frame.reason.chars().take(100).collect());
            Err(Ended::Closed(why.unwrap_or_default()))
        }
        Message::Ping(_) | Message::Pong(_) | Message::Frame(_) => Ok(None),
    }
}

fn ended(error: Error) -> Ended {
    use tungstenite::error::ProtocolError;
    match error {
        Error::ConnectionClosed | Error::AlreadyClosed => Ended::Closed(String::new()),
        Error::Protocol(ProtocolError::ResetWithoutClosingHandshake) => {
            Ended::Closed("without a goodbye".to_owned())
        }
        Error::Io(error) => Ended::Failed(error),
        Error::Capacity(_) => {
            Ended::Protocol(format!("a message of more than {} KiB", MAX_MESSAGE / 1024))
        }
        Error::Utf8(_) => Ended::Protocol("a text that is not UTF-8".to_owned()),
        error => Ended::Protocol(format!("what is no WebSocket: {error}")),
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::{Ipv4Addr, TcpListener, TcpStream};
    use std::thread;

    use super::*;
    use crate::remoted::{Proxies, Trust};

    const PULSE: Pulse =
        Pulse { silence: Duration::from_millis(100), grace: Duration::from_millis(100) };

    /// A registration, and the broker's side of it.
    fn registered() -> (Registration, TcpStream) {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let url = format!("rws://k@{}/p", listener.local_addr().unwrap()).parse().unwrap();
        let broker = thread::spawn(move || {
            let (mut broker, _) = listener.accept().unwrap();
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                let mut byte = [0];
                broker.read_exact(&mut byte).unwrap();
                head.push(byte[0]);
            }
            let head = String::from_utf8(head).unwrap();
            let key = head.split_once("Sec-WebSocket-Key: ").unwrap().1.lines().next().unwrap();
            broker.write_all(&crate::remoted::head::websocket_accepted(key)).unwrap();
            broker
        });
        let outbound = Outbound::new(Trust::System, Proxies::default());
        let registration = Registration::open(&url, &outbound, PULSE).ok().unwrap();
        (registration, broker.join().unwrap())
    }

    #[test]
    fn a_silent_broker_is_asked_and_then_given_up() {
        let (mut registration, mut broker) = registered();
        let waker = Waker::new().unwrap();
        let end = registration.next(&waker).err().unwrap();
        assert!(matches!(end, Ended::Silent(time) if time >= PULSE.silence + PULSE.grace), "{end}");
        // A ping without a payload, and its mask.
        let mut ping = [0; 6];
        broker.read_exact(&mut ping).unwrap();
        assert_eq!(ping[..2], [0x89, 0x80]);
        drop(registration);
        assert_eq!(broker.read(&mut ping).unwrap(), 0, "it was asked once");
    }

    #[test]
    fn a_broker_that_answers_is_kept() {
        let (mut registration, mut broker) = registered();
        let waker = Waker::new().unwrap();
        thread::spawn(move || {
            for _ in 0..4 {
                broker.read_exact(&mut [0; 6]).unwrap();
                broker.write_all(&[0x8a, 0]).unwrap();
            }
            broker.write_all(b"\x81\x0a{\"id\":\"x\"}").unwrap();
            // Not before the other side has read it.
            let _ = broker.read(&mut [0; 1]);
        });
        let start = Instant::now();
        let notice = registration.next(&waker).ok().unwrap().ok().unwrap();
        assert_eq!(notice.id, "x");
        assert!(start.elapsed() >= PULSE.silence * 4);
    }

    #[test]
    fn a_wake_ends_the_wait() {
        let (mut registration, _broker) = registered();
        let waker = Waker::new().unwrap();
        waker.wake();
        assert!(matches!(registration.next(&waker), Err(Ended::Woken)));
    }
}
