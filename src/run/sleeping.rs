//! Whether systemd listens on a port for a service that is not running: connecting would start it,
//! but a check must change nothing.
//!
//! In scope: which service that is. Not in scope: the result of a check. Without systemd, or
//! without an answer in time, no port counts as held.

use std::net::SocketAddr;
use std::path::Path;

use super::systemctl::systemctl;
use crate::config::Bind;

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
pub(super) fn overlap(one: SocketAddr, other: SocketAddr) -> bool {
    let [here, there] = [one, other].map(|address| address.ip().to_canonical());
    one.port() == other.port() && (here == there || here.is_unspecified() || there.is_unspecified())
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
