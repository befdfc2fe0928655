//! `CONNECT` (RFC 9110, section 9.3.6) with basic authentication (RFC 7617).

use base64ct::{Base64, Encoding};
use zeroize::Zeroizing;

use super::credentials::Credentials;
use super::error::ProxyError;
use super::exchange::ProxyExchange;
use crate::http1::head::{self, InvalidHead, Profile};
use crate::net::dial::bracketed;

/// Longest head of a response, in bytes.
const MAX_HEAD: usize = 8 * 1024;
/// Most characters that are shown of a proxy's reason.
const MAX_REASON: usize = 80;

/// Requests a connection to this host, and reads the response.
pub(super) fn tunnel(
    exchange: &mut ProxyExchange<'_>,
    credentials: Option<&Credentials>,
    host: &str,
    port: u16,
) -> Result<(), ProxyError> {
    exchange.send(request(credentials, host, port).as_bytes())?;
    match final_status(exchange)? {
        (200..=299, _) => Ok(()),
        // 401 is not for proxies, but tinyproxy sends it for a wrong password.
        (407 | 401, _) => Err(ProxyError::credentials(credentials.is_some())),
        (code, reason) => Err(ProxyError::Refused(format!("{code} {reason}").trim().to_owned())),
    }
}

fn request(credentials: Option<&Credentials>, host: &str, port: u16) -> Zeroizing<String> {
    let target = format!("{}:{port}", bracketed(host));
    let mut head = Zeroizing::new(format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n"));
    if let Some(Credentials { user, password }) = credentials {
        let pair = Zeroizing::new([user, &b":"[..], password].concat());
        let encoded = Zeroizing::new(Base64::encode_string(&pair));
        head.push_str("Proxy-Authorization: Basic ");
        head.push_str(&encoded);
        head.push_str("\r\n");
    }
    head.push_str("\r\n");
    head
}

/// The status that follows all interim ones (RFC 9110, section 15.2), within the time of the exchange.
fn final_status(exchange: &mut ProxyExchange<'_>) -> Result<(u16, String), ProxyError> {
    loop {
        match status(&head(exchange)?)? {
            // A proxy that changes the protocol does not say to which.
            (101, _) => return Err(ProxyError::Malformed("it changes the protocol (101)")),
            (100..=199, _) => {}
            answer => return Ok(answer),
        }
    }
}

/// The response's head. Read byte by byte, since what follows is the host's.
fn head(exchange: &mut ProxyExchange<'_>) -> Result<Vec<u8>, ProxyError> {
    let mut head = Vec::new();
    let mut byte = [0];
    loop {
        exchange.receive(&mut byte)?;
        let seen = head.len();
        head.push(byte[0]);
        match head::find_end(&head, seen, Profile::ProxyAnswer, MAX_HEAD) {
            Ok(Some(_)) => return Ok(head),
            Ok(None) => {}
            Err(InvalidHead::TooLong(_)) => {
                return Err(ProxyError::Malformed("its head has no end"));
            }
            // Do not wait for the rest.
            Err(_) => return Err(ProxyError::Malformed("it is not HTTP")),
        }
    }
}

/// Status and reason (RFC 9112, section 4).
fn status(head: &[u8]) -> Result<(u16, String), ProxyError> {
    let line = head.split(|byte| *byte == b'\n').next().unwrap_or_default();
    let line = String::from_utf8_lossy(line.strip_suffix(b"\r").unwrap_or(line));
    let mut words = line.splitn(3, ' ').skip(1);
    let code = words.next().filter(|code| code.len() == 3).and_then(|code| code.parse().ok());
    let code: u16 = code
        .filter(|code| (100..=599).contains(code))
        .ok_or(ProxyError::Malformed("it has no status"))?;
    let reason = words.next().unwrap_or_default().chars().take(MAX_REASON);
    Ok((code, reason.flat_map(char::escape_debug).collect()))
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::super::tests::meet;

    const CONNECT: &str = "CONNECT pipe.example:1234 HTTP/1.1\r\nHost: pipe.example:1234\r\n\r\n";
    /// More than any head may have.
    const MAX_ANSWER: usize = 9000;

    #[test]
    fn connect_takes_the_head_and_not_a_byte_more() {
        let answer = b"HTTP/1.0 200 Connection established\r\nVia: x\r\n\r\nhost's own".to_vec();
        let steps = vec![(CONNECT.len(), answer)];
        let (result, heard, mut socket) = meet("http://p:1", "pipe.example", steps);
        assert_eq!(result, Ok(()));
        assert_eq!(heard, CONNECT.as_bytes());
        assert_eq!((socket.read_timeout().unwrap(), socket.write_timeout().unwrap()), (None, None));
        let mut rest = String::new();
        socket.read_to_string(&mut rest).unwrap();
        assert_eq!(rest, "host's own");

        let asked = "CONNECT [::1]:1234 HTTP/1.1\r\nHost: [::1]:1234\r\n\
                     Proxy-Authorization: Basic dXNAZXI6cGE6c3M=\r\n\r\n";
        let steps = vec![(asked.len(), b"HTTP/1.1 200 \n\n".to_vec())];
        let (result, heard, _) = meet("http://us%40er:pa%3ass@p:1", "::1", steps);
        assert_eq!((result, String::from_utf8(heard).unwrap().as_str()), (Ok(()), asked));
    }

    #[test]
    fn any_number_of_interim_answers_comes_before_the_final_one() {
        let interim = "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 102 Processing\r\nX: y\r\n\r\n";
        for (last, expected) in [("200 OK", Ok(())), ("502 No", Err("the proxy refused: 502 No"))] {
            let answer = format!("{}HTTP/1.1 {last}\r\n\r\nhost's own", interim.repeat(300));
            let steps = vec![(CONNECT.len(), answer.into_bytes())];
            let (result, _, mut socket) = meet("http://p:1", "pipe.example", steps);
            assert_eq!(result, expected.map_err(str::to_owned));
            let mut rest = String::new();
            socket.read_to_string(&mut rest).unwrap();
            assert_eq!(rest, "host's own");
        }
    }

    #[test]
    fn an_http_proxy_that_refuses_or_lies_is_named() {
        let long = [b"HTTP/1.1 200 OK\r\n".to_vec(), vec![b'x'; MAX_ANSWER]].concat();
        for (answer, expected) in [
            (&b"HTTP/1.1 403 No\x1b[2J way\r\n\r\n"[..], "the proxy refused: 403 No\\u{1b}[2J way"),
            (b"HTTP/1.1 502\r\n\r\n", "the proxy refused: 502"),
            (
                b"HTTP/1.1 407 Who\r\n\r\n",
                "the proxy asks for a user and a password, and none is set",
            ),
            (b"SSH-2.0-x\r\n", "the proxy's answer cannot be understood: it is not HTTP"),
            (b"\0", "the proxy's answer cannot be understood: it is not HTTP"),
            (b"HTTP/1.1 ok\r\n\r\n", "the proxy's answer cannot be understood: it has no status"),
            (
                b"HTTP/1.1 101 S\r\n\r\n",
                "the proxy's answer cannot be understood: it changes the protocol (101)",
            ),
            (
                b"HTTP/1.1 099 C\r\n\r\n",
                "the proxy's answer cannot be understood: it has no status",
            ),
            (
                b"HTTP/1.1 +20 C\r\n\r\n",
                "the proxy's answer cannot be understood: it has no status",
            ),
            (&long, "the proxy's answer cannot be understood: its head has no end"),
            (b"END", "the proxy closed the connection instead of answering"),
        ] {
            let steps = vec![(CONNECT.len(), answer.to_vec())];
            let (result, _, _) = meet("http://p:1", "pipe.example", steps);
            assert_eq!(result.unwrap_err(), expected);
        }
    }
}
