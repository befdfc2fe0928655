//! A server's WebSocket to its broker: the path is ours while it is open.
//!
//! In scope: the handshake, notices of callers. Not in scope: pings (`websocket`), and what follows its end
//! (`registrar`).

use std::time::Instant;

use tungstenite::protocol::Role;
use tungstenite::{Bytes, Message};

use super::connect::CONNECT_TIMEOUT;
use super::head::{Upgrade, read_answer, websocket_accept, websocket_request};
use super::notice::{CallerNotice, NoticeError};
use super::outbound::Outbound;
use super::random;
use super::url::Url;
use super::waker::Waker;
use super::webroute::{Cause, broken, refused, unanswered};
use super::websocket::{LivenessTimeouts, WebSocketEnd, WebSocketEndpoint, WebSocketSizes};

/// The largest message, in bytes. A notice has a few hundred; a caller may choose a long id, which must not
/// end the registration for all callers.
const MAX_MESSAGE: usize = 128 * 1024;
const READ_BUFFER_BYTES: usize = 4096;

/// A registered path.
pub(super) struct Registration {
    socket: WebSocketEndpoint,
}

/// How a registration ended.
#[derive(Debug, thiserror::Error)]
pub(super) enum RegistrationEnd {
    #[error(transparent)]
    WebSocket(#[from] WebSocketEnd),
    /// The broker sent what no broker sends.
    #[error("the broker sent {0}")]
    NoNotice(&'static str),
    /// It was woken to stop.
    #[error("it was withdrawn")]
    Woken,
}

impl Registration {
    /// Registers the path.
    pub fn open(url: &Url, outbound: &Outbound, timeouts: LivenessTimeouts) -> Result<Self, Cause> {
        let key = url.key().ok_or(Cause::NoKey)?;
        let deadline = Instant::now() + CONNECT_TIMEOUT;
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
        let sizes = WebSocketSizes { read_buffer: READ_BUFFER_BYTES, max_message: MAX_MESSAGE };
        Ok(Self { socket: WebSocketEndpoint::new(stream, Role::Client, sizes, timeouts) })
    }

    /// Waits for the next caller. A caller whose id cannot be sent back is a separate error, after which
    /// the registration goes on. Returns when woken.
    pub fn next(
        &mut self,
        waker: &Waker,
    ) -> Result<Result<CallerNotice, NoticeError>, RegistrationEnd> {
        loop {
            match self.socket.receive()? {
                Some(Message::Text(text)) => {
                    return match CallerNotice::parse(&text) {
                        Err(NoticeError::Malformed(what)) => Err(RegistrationEnd::NoNotice(what)),
                        notice => Ok(notice),
                    };
                }
                Some(Message::Binary(_)) => {
                    return Err(RegistrationEnd::NoNotice("a binary message"));
                }
                Some(_) => {}
                None => {
                    if self.socket.wait(waker, Bytes::new)? {
                        return Err(RegistrationEnd::Woken);
                    }
                }
            }
        }
    }

    /// Sends a close frame, without waiting for an answer.
    pub fn close(self) {
        self.socket.close();
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::{Ipv4Addr, TcpListener, TcpStream};
    use std::thread;
    use std::time::Duration;

    use super::*;
    use crate::remoted::{Proxies, Trust};

    const TIMEOUTS: LivenessTimeouts = LivenessTimeouts {
        ping_after: Duration::from_millis(100),
        pong_within: Duration::from_millis(100),
    };

    /// A registration and the broker's side of it.
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
        let registration = Registration::open(&url, &outbound, TIMEOUTS).ok().unwrap();
        (registration, broker.join().unwrap())
    }

    #[test]
    fn a_silent_broker_is_pinged_and_then_given_up() {
        let (mut registration, mut broker) = registered();
        let waker = Waker::new().unwrap();
        let end = registration.next(&waker).err().unwrap();
        let least = TIMEOUTS.ping_after + TIMEOUTS.pong_within;
        assert!(
            matches!(end, RegistrationEnd::WebSocket(WebSocketEnd::Silent(time)) if time >= least),
            "{end}"
        );
        // A masked ping without a payload.
        let mut ping = [0; 6];
        broker.read_exact(&mut ping).unwrap();
        assert_eq!(ping[..2], [0x89, 0x80]);
        drop(registration);
        assert_eq!(broker.read(&mut ping).unwrap(), 0, "it was pinged once");
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
            // Only after the other side has read it.
            let _ = broker.read(&mut [0; 1]);
        });
        let start = Instant::now();
        let notice = registration.next(&waker).ok().unwrap().ok().unwrap();
        assert_eq!(notice.id, "x");
        assert!(start.elapsed() >= TIMEOUTS.ping_after * 4);
    }

    #[test]
    fn a_wake_ends_the_wait() {
        let (mut registration, _broker) = registered();
        let waker = Waker::new().unwrap();
        waker.wake();
        assert!(matches!(registration.next(&waker), Err(RegistrationEnd::Woken)));
    }
}
