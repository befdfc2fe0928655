//! The format of single values. Each function returns the checked value or a description of what is
//! expected.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use log::LevelFilter;
use rustls::pki_types::ServerName;

use super::{Hook, LogFormat};

/// What is expected, for the message.
pub(super) type Expected = String;

/// An IPv4 or IPv6 address without brackets.
pub(super) fn ip(text: &str) -> Result<IpAddr, Expected> {
    text.parse().map_err(|_| "an IPv4 or IPv6 address, such as 0.0.0.0 or ::1".to_owned())
}

/// A port to bind; 0 takes any free one.
pub(super) fn bind_port(text: &str) -> Result<u16, Expected> {
    whole(text, 0, u16::MAX.into())
        .and_then(|port| u16::try_from(port).ok())
        .ok_or_else(|| "a port from 1 to 65535, or 0 for any free one".to_owned())
}

/// A port to connect to.
pub(super) fn target_port(text: &str) -> Result<u16, Expected> {
    whole(text, 1, u16::MAX.into())
        .and_then(|port| u16::try_from(port).ok())
        .ok_or_else(|| "a port from 1 to 65535".to_owned())
}

/// A number of bytes.
pub(super) fn bytes(text: &str, max: u32) -> Result<usize, Expected> {
    whole(text, 0, max.into())
        .and_then(|bytes| usize::try_from(bytes).ok())
        .ok_or_else(|| format!("a whole number from 0 to {max}"))
}

/// Seconds as a decimal number.
pub(super) fn seconds(text: &str, min: f64, max: f64) -> Result<Duration, Expected> {
    // `f64` would also read signs, exponents, `inf` and `nan`.
    let plain = text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    text.parse()
        .ok()
        .filter(|seconds| plain && (min..=max).contains(seconds))
        .and_then(|seconds| Duration::try_from_secs_f64(seconds).ok())
        .ok_or_else(|| format!("a number of seconds from {min} to {max}, such as 2 or 0.5"))
}

/// Off or on.
pub(super) fn switch(text: &str) -> Result<bool, Expected> {
    match text {
        "0" | "false" => Ok(false),
        "1" | "true" => Ok(true),
        _ => Err("0 or 1".to_owned()),
    }
}

/// A host name or an IP address, as TLS can check it.
pub(super) fn host(text: &str) -> Result<String, Expected> {
    ServerName::try_from(text)
        .map(|_| text.to_owned())
        .map_err(|_| "a host name or an IP address without port and brackets".to_owned())
}

/// Host names in lower case, each once. A single comma is the empty list.
pub(super) fn hosts(text: &str) -> Result<Vec<String>, Expected> {
    const MAX_HOSTS: usize = 64;
    let expected = || format!("up to {MAX_HOSTS} host names without ports, separated by commas");
    let mut hosts: Vec<String> = Vec::new();
    for item in text.split(',').map(str::trim).filter(|item| !item.is_empty()) {
        let name = host(item).map_err(|_| expected())?.to_ascii_lowercase();
        if hosts.contains(&name) {
            continue;
        }
        if hosts.len() == MAX_HOSTS {
            return Err(expected());
        }
        hosts.push(name);
    }
    Ok(hosts)
}

/// Names of peers as in paths, or `*`.
pub(super) fn peers(text: &str) -> Result<Vec<String>, Expected> {
    const MAX_PEERS: usize = 64;
    let names: Vec<String> =
        text.split(',').map(str::trim).filter(|name| !name.is_empty()).map(str::to_owned).collect();
    if names.len() > MAX_PEERS || has_control(text) {
        return Err(format!("up to {MAX_PEERS} names of peers, separated by commas, or *"));
    }
    Ok(names)
}

/// `text` or `json`.
pub(super) fn log_format(text: &str) -> Result<LogFormat, Expected> {
    match text {
        "text" => Ok(LogFormat::Text),
        "json" => Ok(LogFormat::Json),
        _ => Err("text or json".to_owned()),
    }
}

/// A log filter as `env_logger` reads it, each part with a level: `LEVEL` or `TARGET=LEVEL`,
/// separated by commas, then optionally `/` and a text to search for. `restpipe` and what is below it
/// may stand alone, for all levels; of another word, `env_logger` would make a filter that nothing
/// passes.
pub(super) fn log_filter(text: &str) -> Result<String, Expected> {
    let (directives, searched) = text.split_once('/').unwrap_or((text, ""));
    let is_level = |text: &str| text.parse::<LevelFilter>().is_ok();
    let is_target = |text: &str| {
        let is_clean = |byte: u8| byte.is_ascii_alphanumeric() || b"_-.:".contains(&byte);
        !text.is_empty() && text.bytes().all(is_clean)
    };
    let is_ours = |text: &str| {
        text.strip_prefix("restpipe")
            .is_some_and(|rest| rest.is_empty() || rest.starts_with("::") && is_target(rest))
    };
    let is_filter = |directive: &str| match directive.split_once('=') {
        None => is_level(directive) || is_ours(directive),
        Some((target, level)) => is_target(target) && is_level(level.trim()),
    };
    let mut directives =
        directives.split(',').map(str::trim).filter(|directive| !directive.is_empty()).peekable();
    let has_some = directives.peek().is_some();
    if has_some && directives.all(is_filter) && !searched.contains('/') && !has_control(text) {
        Ok(text.to_owned())
    } else {
        let levels = "off, error, warn, info, debug or trace";
        Err(format!("a log filter, such as warn or info,restpipe::link=debug; a level is {levels}"))
    }
}

/// `exec:PATH` with an absolute path, as the working directory of a node varies.
pub(super) fn hook(text: &str) -> Result<Hook, Expected> {
    match text.strip_prefix("exec:").map(path) {
        Some(Ok(path)) if path.is_absolute() => Ok(Hook { path }),
        _ => {
            let expected = "exec: and the absolute path of a program, such as \
                            exec:/etc/restpipe/changed";
            Err(expected.to_owned())
        }
    }
}

/// A directory or a file.
pub(super) fn path(text: &str) -> Result<PathBuf, Expected> {
    if has_control(text) {
        Err("a path without control characters".to_owned())
    } else {
        Ok(PathBuf::from(text))
    }
}

/// The name of a file inside a directory.
pub(super) fn file_name(text: &str) -> Result<String, Expected> {
    /// The limit of common file systems (`NAME_MAX` of Linux).
    const MAX_BYTES: usize = 255;
    let fits = (1..=MAX_BYTES).contains(&text.len());
    if !fits || text == "." || text == ".." || text.contains('/') || has_control(text) {
        Err("the name of a file, without a directory".to_owned())
    } else {
        Ok(text.to_owned())
    }
}

/// A number of digits only, without a sign.
fn whole(text: &str, min: u64, max: u64) -> Option<u64> {
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|number| digits && (min..=max).contains(number))
}

fn has_control(text: &str) -> bool {
    text.chars().any(char::is_control)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::Bind;

    /// Checks that the valid ones are read as given and the invalid ones refused.
    fn check<T: std::fmt::Debug + PartialEq>(
        read: impl Fn(&str) -> Result<T, Expected>,
        good: &[(&str, T)],
        bad: &[&str],
    ) {
        for (text, expected) in good {
            assert_eq!(read(text).as_ref(), Ok(expected), "{text:?}");
        }
        for text in bad {
            assert!(read(text).is_err(), "{text:?} was read as {:?}", read(text));
        }
    }

    #[test]
    fn addresses_and_ports() {
        check(
            ip,
            &[("0.0.0.0", [0, 0, 0, 0].into()), ("::1", IpAddr::from([0, 0, 0, 0, 0, 0, 0, 1]))],
            &["", "localhost", "[::1]", "1.2.3", "1.2.3.4:5", " 1.2.3.4", "01.2.3.4"],
        );
        let bad = ["", "65536", "-1", "+1", "1.0", " 1", "1 ", "0x10", "99999999999999999999"];
        check(bind_port, &[("0", 0), ("1234", 1234), ("65535", 65535)], &bad);
        check(target_port, &[("1", 1), ("65535", 65535)], &bad);
        check(target_port, &[], &["0", "00"]);
    }

    #[test]
    fn numbers() {
        check(|text| bytes(text, 1 << 30), &[("0", 0), ("1073741824", 1 << 30)], &["1073741825"]);
        check(|text| bytes(text, 10), &[("010", 10)], &["", "11", "+1", "1e1", "1_0", "10k"]);
        check(
            |text| seconds(text, 0.1, 3600.0),
            &[
                ("0.1", Duration::from_millis(100)),
                ("5", Duration::from_secs(5)),
                ("3600", Duration::from_secs(3600)),
            ],
            &[
                "", ".", "0", "0.09", "3600.1", "-1", "+1", "1e1", "inf", "NaN", "1s", "1,5",
                "1.2.3",
            ],
        );
        check(
            switch,
            &[("0", false), ("1", true), ("false", false), ("true", true)],
            &["", "2", "yes", "TRUE", "*", " 1"],
        );
    }

    #[test]
    fn binds() {
        let path = "p".repeat(107);
        check(
            str::parse::<Bind>,
            &[
                ("127.0.0.1:8081", Bind::Tcp(([127, 0, 0, 1], 8081).into())),
                ("0.0.0.0:0", Bind::Tcp(([0, 0, 0, 0], 0).into())),
                ("[::1]:8081", Bind::Tcp(([0, 0, 0, 0, 0, 0, 0, 1], 8081).into())),
                ("unix:/run/rp.sock", Bind::Unix("/run/rp.sock".into())),
                ("unix:rp.sock", Bind::Unix("rp.sock".into())),
                (&format!("unix:{path}"), Bind::Unix(PathBuf::from(&path))),
            ],
            &[
                "",
                "8081",
                "127.0.0.1",
                "localhost:8081",
                "::1:8081:",
                "127.0.0.1:65536",
                "unix:",
                "unix:a\nb",
                "unix:a\0b",
                &format!("unix:{path}p"),
            ],
        );
    }

    #[test]
    fn names() {
        check(
            host,
            &[("Localhost", "Localhost".to_owned()), ("::1", "::1".to_owned())],
            &["", "a b", "a:80", "[::1]", "a/b", "a..b", "*.example.org", "-", &"a".repeat(300)],
        );
        check(
            hosts,
            &[
                ("A.local, b.local,,a.LOCAL", vec!["a.local".to_owned(), "b.local".to_owned()]),
                (",", vec![]),
            ],
            &["a.local:80", "a b", "a;b", "http://a"],
        );
        let many = |count: usize| (0..count).map(|n| format!("h{n},")).collect::<String>();
        assert_eq!(hosts(&many(64)).map(|hosts| hosts.len()), Ok(64));
        assert!(hosts(&many(65)).is_err());
    }

    #[test]
    fn log_filters() {
        let good = [
            "warn",
            "WARN",
            "restpipe=debug",
            "off, restpipe::link= trace",
            "info,restpipe::link",
            "restpipe",
            "my_program=debug,",
            "info/text",
        ];
        check(
            log_filter,
            &good.map(|text| (text, text.to_owned())),
            &[
                "loud",
                "inof",
                "1",
                "true",
                ",",
                "a=b",
                "a=b=c",
                "a=",
                "=debug",
                "a =debug",
                "a b=debug",
                "info/a/b",
                "a=debug/\n",
                "info loud",
                "restpipes",
                "restpipe::a b",
            ],
        );
    }

    #[test]
    fn hooks() {
        check(
            hook,
            &[("exec:/a b", Hook { path: "/a b".into() })],
            &[
                "",
                "exec:",
                "exec:a",
                "/a",
                "rpipe.state_change_event.ClientStateChangeEvent",
                "exec:a\nb",
            ],
        );
    }

    #[test]
    fn paths() {
        check(path, &[("/a b", "/a b".into()), ("x", "x".into())], &["a\nb", "a\0"]);
        check(
            file_name,
            &[("ca.crt.pem", "ca.crt.pem".to_owned()), ("..a", "..a".to_owned())],
            &["", ".", "..", "a/b", "/a", "a\n", &"a".repeat(256)],
        );
    }
}
