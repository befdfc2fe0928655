//! SOCKS5 (RFC 1928) without authentication or with user and password (RFC 1929). The host's name is
//! resolved by the proxy.

use std::net::IpAddr;

use zeroize::Zeroizing;

use super::credentials::Credentials;
use super::error::ProxyError;
use super::exchange::ProxyExchange;

const VERSION: u8 = 5;
/// Methods of authentication (RFC 1928, section 3).
const NOTHING: u8 = 0;
const USER_AND_PASSWORD: u8 = 2;
const NONE_ACCEPTABLE: u8 = 0xff;
/// The version of the exchange of user and password (RFC 1929, section 2).
const PASSWORD_VERSION: u8 = 1;
const CONNECT: u8 = 1;
/// Types of address (RFC 1928, section 5).
const IPV4: u8 = 1;
const NAME: u8 = 3;
const IPV6: u8 = 4;

/// Authenticates, requests a connection to this host, and reads the reply.
pub(super) fn tunnel(
    exchange: &mut ProxyExchange<'_>,
    credentials: Option<&Credentials>,
    host: &str,
    port: u16,
) -> Result<(), ProxyError> {
    let request = request(host, port)?;
    match credentials {
        None => exchange.send(&[VERSION, 1, NOTHING])?,
        Some(_) => exchange.send(&[VERSION, 2, NOTHING, USER_AND_PASSWORD])?,
    }
    let mut chosen = [0; 2];
    exchange.receive(&mut chosen)?;
    match (chosen, credentials) {
        ([VERSION, NOTHING], _) => {}
        ([VERSION, USER_AND_PASSWORD], Some(credentials)) => authenticate(exchange, credentials)?,
        ([VERSION, NONE_ACCEPTABLE], _) => {
            return Err(ProxyError::credentials(credentials.is_some()));
        }
        ([VERSION, _], _) => {
            return Err(ProxyError::Malformed("it chose an authentication that was not offered"));
        }
        _ => return Err(ProxyError::Malformed("it is not SOCKS5")),
    }
    exchange.send(&request)?;
    take_reply(exchange)
}

fn authenticate(
    exchange: &mut ProxyExchange<'_>,
    credentials: &Credentials,
) -> Result<(), ProxyError> {
    let Credentials { user, password } = credentials;
    let mut message = Zeroizing::new(vec![PASSWORD_VERSION]);
    for part in [user, password] {
        let length = u8::try_from(part.len())
            .map_err(|_| ProxyError::Host("the user or password for the proxy is too long"))?;
        message.push(length);
        message.extend_from_slice(part);
    }
    exchange.send(&message)?;
    let mut verdict = [0; 2];
    exchange.receive(&mut verdict)?;
    match verdict {
        [PASSWORD_VERSION, 0] => Ok(()),
        [PASSWORD_VERSION, _] => Err(ProxyError::WrongCredentials),
        _ => Err(ProxyError::Malformed("it is no answer to a password")),
    }
}

fn request(host: &str, port: u16) -> Result<Vec<u8>, ProxyError> {
    let mut request = vec![VERSION, CONNECT, 0];
    match host.parse() {
        Ok(IpAddr::V4(address)) => {
            request.push(IPV4);
            request.extend(address.octets());
        }
        Ok(IpAddr::V6(address)) => {
            request.push(IPV6);
            request.extend(address.octets());
        }
        Err(_) => {
            let length = u8::try_from(host.len()).ok().filter(|length| *length > 0);
            let length = length.ok_or(ProxyError::Host("no host has a name of this length"))?;
            request.extend([NAME, length]);
            request.extend(host.bytes());
        }
    }
    request.extend(port.to_be_bytes());
    Ok(request)
}

/// Reads the reply, including the proxy's bound address, which is unused.
fn take_reply(exchange: &mut ProxyExchange<'_>) -> Result<(), ProxyError> {
    let mut head = [0; 4];
    exchange.receive(&mut head)?;
    let [version, verdict, _, kind] = head;
    if version != VERSION {
        return Err(ProxyError::Malformed("it is not SOCKS5"));
    }
    if verdict != 0 {
        return Err(ProxyError::Refused(refusal(verdict)));
    }
    let length = match kind {
        IPV4 => 4,
        IPV6 => 16,
        NAME => {
            let mut length = [0];
            exchange.receive(&mut length)?;
            usize::from(length[0])
        }
        _ => return Err(ProxyError::Malformed("it has an address of an unknown kind")),
    };
    exchange.receive(&mut vec![0; length + 2])
}

/// RFC 1928, section 6.
fn refusal(verdict: u8) -> String {
    let words = match verdict {
        1 => "general failure",
        2 => "not allowed by its rules",
        3 => "the network is not reachable from it",
        4 => "the host is not reachable from it, or its name does not resolve there",
        5 => "the host refused the connection",
        6 => "no answer from the host in time",
        7 => "it does not make connections",
        8 => "it does not know this kind of address",
        other => return format!("for an unknown reason ({other})"),
    };
    words.to_owned()
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::super::tests::meet;

    #[test]
    fn socks5_asks_by_name_or_address_and_takes_not_a_byte_more() {
        let by_name = [&b"\x05\x01\0\x03\x0cpipe.example"[..], &1234_u16.to_be_bytes()].concat();
        let steps = vec![
            (3, b"\x05\0".to_vec()),
            (by_name.len(), b"\x05\0\0\x03\x01xPPhost's own".to_vec()),
        ];
        let (result, heard, mut socket) = meet("socks5://p:1", "pipe.example", steps);
        assert_eq!(result, Ok(()));
        assert_eq!(heard, [&b"\x05\x01\0"[..], &by_name].concat());
        let mut rest = String::new();
        socket.read_to_string(&mut rest).unwrap();
        assert_eq!(rest, "host's own");

        // With user and password, to an address of each kind.
        for (host, asked) in [
            ("10.1.2.3", b"\x05\x01\0\x01\x0a\x01\x02\x03\x04\xd2".to_vec()),
            ("::1", [&b"\x05\x01\0\x04"[..], &[0; 15], b"\x01\x04\xd2"].concat()),
        ] {
            let steps = vec![
                (4, b"\x05\x02".to_vec()),
                (7, b"\x01\0".to_vec()),
                (asked.len(), [&b"\x05\0\0\x04"[..], &[0; 18]].concat()),
            ];
            let (result, heard, _) = meet("socks5://me:pw@p:1", host, steps);
            assert_eq!(result, Ok(()));
            assert_eq!(heard, [&b"\x05\x02\0\x02\x01\x02me\x02pw"[..], &asked].concat());
        }
    }

    #[test]
    fn a_socks_proxy_that_refuses_or_lies_is_named() {
        let garbage = |what| format!("the proxy's answer cannot be understood: {what}");
        for (answers, expected) in [
            (vec![&b"HT"[..]], garbage("it is not SOCKS5")),
            (
                vec![b"\x05\xff"],
                "the proxy asks for a user and a password, and none is set".to_owned(),
            ),
            (vec![b"\x05\x02"], garbage("it chose an authentication that was not offered")),
            (vec![b"END"], "the proxy closed the connection instead of answering".to_owned()),
            (vec![b"\x05\0", b"\x04\0\0\x01"], garbage("it is not SOCKS5")),
            (vec![b"\x05\0", b"\x05\0\0\x09"], garbage("it has an address of an unknown kind")),
            (
                vec![b"\x05\0", b"\x05\x05\0\x01"],
                "the proxy refused: the host refused the connection".to_owned(),
            ),
            (
                vec![b"\x05\0", b"\x05\xc8\0\x01"],
                "the proxy refused: for an unknown reason (200)".to_owned(),
            ),
        ] {
            let counts = [3, 19];
            let steps = counts.into_iter().zip(answers.iter().map(|answer| answer.to_vec()));
            let (result, _, _) = meet("socks5://p:1", "pipe.example", steps.collect());
            assert_eq!(result.unwrap_err(), expected, "{answers:?}");
        }
        let steps = vec![(4, b"\x05\x02".to_vec()), (7, b"\x01\x01".to_vec())];
        let (result, _, _) = meet("socks5://me:pw@p:1", "pipe.example", steps);
        let expected = "the proxy does not accept the user and password that are set";
        assert_eq!(result.unwrap_err(), expected);
    }
}
