//! Whether systemd listens on a port for a service that is not running: connecting would start it,
//! but a check must change nothing.
//!
//! In scope: the output of `systemctl`. Not in scope: the result of the check. Without systemd, or
//! without an answer in time, no port counts as held.

use std::io::Read;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{ChildStdout, Command, Stdio};
use std::time::Duration;

use crossbeam_channel::bounded;

use crate::config::Bind;
use crate::sync::threads;

/// How long `systemctl` may take.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(2);
/// Most bytes of an answer: thousands of sockets.
const MAX_ANSWER: u64 = 1 << 20;

/// The service that a connection to this address would start.
pub(super) fn sleeping_service(bind: &Bind) -> Option<String> {
    let sockets = systemctl(&["list-sockets", "--no-legend", "--no-pager", "--plain", "--full"])?;
    let service = sockets.lines().find_map(|line| activated_by(line, bind))?;
    let state = systemctl(&["show", "--property=ActiveState", "--value", "--", &service])?;
    // A reloading service is running, too.
    (!matches!(state.trim(), "active" | "reloading" | "refreshing")).then_some(service)
}

/// The service of a line `LISTEN UNIT.socket SERVICE`, if `LISTEN` is this address.
fn activated_by(line: &str, bind: &Bind) -> Option<String> {
    let words: Vec<&str> = line.split_whitespace().collect();
    let unit = words.iter().position(|word| word.ends_with(".socket"))?;
    let (listens, service) = (words[..unit].join(" "), words.get(unit + 1)?);
    let is_it = match bind {
        Bind::Tcp(address) => listens.parse().is_ok_and(|there| overlap(*address, there)),
        Bind::Unix(path) => path.as_path() == Path::new(&listens),
    };
    is_it.then(|| service.trim_end_matches(',').to_owned())
}

/// Whether a connection to one may reach the other.
fn overlap(one: SocketAddr, other: SocketAddr) -> bool {
    let [here, there] = [one, other].map(|address| address.ip().to_canonical());
    one.port() == other.port() && (here == there || here.is_unspecified() || there.is_unspecified())
}

/// The output; `None` if it cannot be run.
fn systemctl(arguments: &[&str]) -> Option<String> {
    let mut command = Command::new("systemctl");
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = command.spawn().ok()?;
    let answer = child.stdout.take().and_then(read);
    // It has exited or timed out.
    let _ = child.kill();
    let _ = child.wait();
    answer
}

fn read(output: ChildStdout) -> Option<String> {
    let (sender, receiver) = bounded(1);
    threads::spawn("systemctl", move || {
        let mut text = String::new();
        let read = output.take(MAX_ANSWER).read_to_string(&mut text);
        // Disconnected: it timed out.
        let _ = sender.send(read.map(|_| text));
    })
    .ok()?;
    receiver.recv_timeout(ANSWER_TIMEOUT).ok()?.ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_systemctl_is_read() {
        let found = |line, text: &str| {
            let bind = match text.strip_prefix("unix:") {
                Some(path) => Bind::Unix(path.into()),
                None => Bind::Tcp(text.parse().unwrap()),
            };
            activated_by(line, &bind)
        };
        let http = "127.0.0.1:8082  restpipe-client-http.socket  restpipe-client.service";
        let service = Some("restpipe-client.service".to_owned());
        assert_eq!(found(http, "127.0.0.1:8082"), service);
        assert_eq!(found(http, "0.0.0.0:8082"), service);
        assert_eq!(found(http, "127.0.0.2:8082"), None);
        assert_eq!(found(http, "127.0.0.1:8081"), None);
        assert_eq!(found(http, "unix:/run/x"), None);
        for any in ["[::]:1234 p.socket s.service", "0.0.0.0:1234 p.socket s.service, t.service"] {
            assert_eq!(found(any, "192.0.2.7:1234"), Some("s.service".to_owned()));
        }
        let unix = "/run/a b/http.sock x.socket s.service";
        assert_eq!(found(unix, "unix:/run/a b/http.sock"), Some("s.service".to_owned()));
        assert_eq!(found(unix, "unix:/run/a"), None);
        for wrong in
            ["", "x.socket", "127.0.0.1:8082 x.socket", "kobject-uevent 1 u.socket u.service"]
        {
            assert_eq!(found(wrong, "127.0.0.1:8082"), None, "{wrong}");
        }
    }
}
