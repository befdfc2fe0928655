//! A trial connection: one heartbeat and its reply, and nothing else. It is no link: it takes no
//! slot, handles no event and triggers no notification.
//!
//! The client requests it through ALPN (RFC 7301), so that both sides know before the client sends
//! its certificate: a server without trial support never learns who connected.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use super::end::LinkEnd;
use super::tls::{Alert, LinkTls};
use crate::wire::{
    EXTENSIONS, FrameDecoder, FrameLimits, Heartbeat, Message, WireError, decode, encode_heartbeat,
    encode_heartbeat_reply,
};

/// Maximum size of one socket read.
const READ_SIZE: usize = 4096;
/// Trial messages carry no data.
const LIMITS: FrameLimits = FrameLimits { max_data: 0 };

/// The client side. Returns the heartbeat's round-trip time.
pub fn ask(mut tls: LinkTls, socket: &TcpStream, deadline: Instant) -> Result<Duration, LinkEnd> {
    let heartbeat = Heartbeat {
        extensions: EXTENSIONS,
        silence_ms: None,
        max_data: Some(0),
        takes_over: false,
        round_trip_us: None,
    };
    let began = Instant::now();
    let id = fastrand::u32(..);
    send(&mut tls, socket, &encode_heartbeat(id, heartbeat), deadline)?;
    match receive(&mut tls, socket, deadline)? {
        (answered, Message::HeartbeatReply { .. }) if answered == id => {}
        _ => return Err(unexpected()),
    }
    let took = began.elapsed();
    close(&mut tls, socket, deadline);
    Ok(took)
}

/// The server side: answers the heartbeat. `max_data` is the value announced to any client.
pub fn answer(
    mut tls: LinkTls,
    socket: &TcpStream,
    max_data: usize,
    deadline: Instant,
) -> Result<(), LinkEnd> {
    let (id, Message::Heartbeat(_)) = receive(&mut tls, socket, deadline)? else {
        return Err(unexpected());
    };
    let max_data = u32::try_from(max_data).unwrap_or(u32::MAX);
    send(&mut tls, socket, &encode_heartbeat_reply(id, max_data), deadline)?;
    close(&mut tls, socket, deadline);
    Ok(())
}

fn unexpected() -> LinkEnd {
    LinkEnd::Protocol(WireError::Malformed("another message than the heartbeat of a trial"))
}

fn send(
    tls: &mut LinkTls,
    socket: &TcpStream,
    plain: &[u8],
    deadline: Instant,
) -> Result<(), LinkEnd> {
    let mut cipher = Vec::new();
    tls.seal(plain, &mut cipher).map_err(|error| LinkEnd::Tls(error.to_string()))?;
    write(socket, &cipher, deadline).map_err(|error| LinkEnd::NotTaking(error.to_string()))
}

/// The next message and its id.
fn receive(
    tls: &mut LinkTls,
    mut socket: &TcpStream,
    deadline: Instant,
) -> Result<(u32, Message), LinkEnd> {
    let began = Instant::now();
    let mut decoder = FrameDecoder::new(LIMITS);
    let mut cipher = [0; READ_SIZE];
    // Bytes that arrived with the end of the handshake are already in TLS.
    let mut count = 0;
    loop {
        let opened =
            tls.open(&cipher[..count], decoder.buffer()).map_err(|error| match Alert::received(
                &error,
            ) {
                Some(alert) => LinkEnd::Refused(alert),
                None => LinkEnd::Tls(error.to_string()),
            })?;
        if let Some(frame) = decoder.next_frame().map_err(LinkEnd::Protocol)? {
            let id = frame.id;
            return match decode(&frame).map_err(LinkEnd::Protocol)? {
                Message::Goodbye(goodbye) => Err(LinkEnd::Dismissed(goodbye)),
                message => Ok((id, message)),
            };
        }
        if opened.peer_closed {
            return Err(LinkEnd::ClosedByPeer);
        }
        let silent = || LinkEnd::Silent(began.elapsed());
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(silent());
        }
        let broken = |error: io::Error| LinkEnd::Broken(error.to_string());
        socket.set_read_timeout(Some(left)).map_err(broken)?;
        count = match socket.read(&mut cipher) {
            Ok(0) => return Err(LinkEnd::Broken("ended without TLS's close".to_owned())),
            Ok(count) => count,
            Err(error) => match error.kind() {
                io::ErrorKind::Interrupted => 0,
                io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => return Err(silent()),
                _ => return Err(broken(error)),
            },
        };
    }
}

/// Closes TLS cleanly. Errors are ignored: the other side may have closed already.
fn close(tls: &mut LinkTls, socket: &TcpStream, deadline: Instant) {
    let mut cipher = Vec::new();
    if tls.close(&mut cipher).is_ok() {
        let _ = write(socket, &cipher, deadline);
    }
}

fn write(mut socket: &TcpStream, bytes: &[u8], deadline: Instant) -> io::Result<()> {
    let left = deadline.saturating_duration_since(Instant::now());
    // A timeout of zero would mean no limit.
    socket.set_write_timeout(Some(left.max(Duration::from_millis(1))))?;
    socket.write_all(bytes)
}
