//! Header fields of a peer's reply that do not pass, because they act on more than the reply: on
//! the web server in front of this port, or, in a browser, on everything behind its name.
//!
//! Fields that act on the one document or response stay: a page may have its own policy.

use std::sync::atomic::{AtomicU64, Ordering};

/// At most 64 names in lower case; those that end with a hyphen stand for all that begin so.
///
/// First those that a web server in front obeys: it sends one of its own files, asks another
/// server, includes what the reply names, or takes this port for broken. Then those that a browser
/// keeps for the whole origin or host.
const STEERING: [&str; 33] = [
    // nginx, and others that do the same: a file of its own, rates, buffering, caching.
    "x-accel-",
    // lighttpd, Apache with mod_xsendfile: a file.
    "x-sendfile",
    "x-sendfile2",
    "x-sendfile-",
    "x-lighttpd-",
    // Perlbal, H2O: a file, or the answer of any server.
    "x-reproxy-",
    // LiteSpeed and its load balancer: a file, and what its cache keeps and drops.
    "x-litespeed-",
    "x-lsadc-",
    // Envoy: health, retries.
    "x-envoy-",
    // WebLogic's plug-ins for web servers: the addresses of the servers.
    "x-weblogic-",
    // The front of App Engine: a stored file.
    "x-appengine-",
    // Varnish, Squid, Akamai and others: caching for all, and includes (ESI).
    "surrogate-",
    "edge-control",
    // A script of one directory for the whole origin.
    "service-worker-allowed",
    // Cookies, storage and caches of the origin are deleted.
    "clear-site-data",
    // The host, on all ports, is only asked by TLS, with these keys or logged certificates.
    "strict-transport-security",
    "public-key-pins",
    "public-key-pins-report-only",
    "expect-ct",
    // Requests go to another host and port.
    "alt-svc",
    "alternate-protocol",
    // Others are told of all requests to the origin.
    "nel",
    "report-to",
    // What the browser says about itself in all requests to the origin.
    "accept-ch",
    "accept-ch-lifetime",
    "critical-ch",
    // Whether documents of the origin share a process, and the user is logged in.
    "origin-agent-cluster",
    "set-login",
    // A session, bound to a key of the device, for the origin.
    "secure-session-registration",
    "secure-session-challenge",
    "sec-session-registration",
    "sec-session-challenge",
    // A dictionary for other responses of the origin.
    "use-as-dictionary",
];

/// Keeps these fields back.
#[derive(Default)]
pub(super) struct Steering {
    /// A bit for each name in the table that was told already.
    told: AtomicU64,
}

impl Steering {
    /// Whether a field of this peer's reply acts on more than the reply. The log says it once for
    /// each name: a service may send such a field with every reply.
    pub fn stops(&self, name: &str, peer: &str) -> bool {
        let Some(at) = position(name) else { return false };
        let bit = 1 << at;
        if self.told.fetch_or(bit, Ordering::Relaxed) & bit == 0 {
            log::warn!(
                "{}: its header {name} acts on more than the reply and is not passed on (said once)",
                peer.escape_debug()
            );
        }
        true
    }
}

fn position(name: &str) -> Option<usize> {
    STEERING.iter().position(|steering| match steering.strip_suffix('-') {
        Some(_) => {
            let start = name.as_bytes().get(..steering.len());
            start.is_some_and(|start| start.eq_ignore_ascii_case(steering.as_bytes()))
        }
        None => name.eq_ignore_ascii_case(steering),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_has_a_bit() {
        assert!(STEERING.len() <= 64);
    }

    #[test]
    fn what_acts_on_more_than_the_reply_is_told_from_what_does_not() {
        for name in STEERING {
            assert_eq!(name.to_ascii_lowercase(), name);
            assert!(position(&name.to_ascii_uppercase()).is_some(), "{name}");
        }
        for name in ["X-Accel-Redirect", "x-accel-charset", "X-Sendfile-Temporary", "X-REPROXY-URL"]
        {
            assert!(Steering::default().stops(name, "web"), "{name}");
        }
        for name in [
            "",
            "x",
            "X-Accelerated",
            "X-Send",
            "Alt-Svc-Not",
            "Set-Cookie",
            "Location",
            "Content-Security-Policy",
            "X-Frame-Options",
            "Link",
            "X-Request-Id",
        ] {
            assert!(!Steering::default().stops(name, "web"), "{name}");
        }
    }
}
