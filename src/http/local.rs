//! The paths that show this node itself: `/`, `/status`, `/metrics`, `/healthz`, `/readyz` and
//! `/events`.
//!
//! In scope: the endpoints, their methods and response formats. Not in scope: the data (`inspect`)
//! and the page's text (`local/page.html`).

use percent_encoding::percent_decode_str;
use serde_json::json;

use crate::event::errors;
use crate::event::inspect::Inspect;
use crate::event::{Body, Verb};
use crate::http::refusal::Refusal;
use crate::http::response::HttpResponse;

/// The whole page, including its style and script.
const PAGE: &str = include_str!("local/page.html");
/// The page may run its own script, use its own style, and send requests to this port. The hashes
/// are those of the embedded texts; a test compares them.
const POLICY: &str = "default-src 'none'; \
    script-src 'sha256-9NM3+Bc06v33Aue6QIIG9BXwGhseaXOIWbl+HJfpi1E='; \
    style-src 'sha256-HGcxeqPtnqywiy1CPSEN4WDgfyK9ni7anM5S1GEMCxs='; \
    connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";
/// The media type of a metrics page.
const METRICS: &str = "text/plain; version=0.0.4; charset=utf-8";
/// Maximum length of a client's name in a path, in bytes after decoding.
const MAX_NAME: usize = 255;

/// What the request asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum LocalEndpoint {
    /// The HTML page.
    Page,
    /// The whole status, as JSON.
    Status,
    /// The links of one client.
    Client(String),
    /// Metrics for Prometheus.
    Metrics,
    /// Liveness: whether this process works.
    Health,
    /// Readiness: whether requests would reach a peer.
    Ready,
    /// Events from now on, as a stream.
    Events,
}

/// A request for an endpoint.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct LocalRequest {
    endpoint: LocalEndpoint,
    /// Whether to close the link.
    closes: bool,
}

impl LocalEndpoint {
    /// The endpoint for a path, if it is one of these. The query is ignored.
    pub fn of(path: &str) -> Result<Option<Self>, Refusal> {
        let path = path.split_once('?').map_or(path, |(path, _)| path);
        Ok(Some(match path {
            "/" => Self::Page,
            "/status" => Self::Status,
            "/metrics" => Self::Metrics,
            "/healthz" => Self::Health,
            "/readyz" => Self::Ready,
            "/events" => Self::Events,
            _ => match path.strip_prefix("/status/clients/") {
                Some(name) => Self::Client(decode(name)?),
                None => return Ok(None),
            },
        }))
    }
}

impl LocalRequest {
    /// Creates a request that reads an endpoint, or closes the link it names.
    pub fn new(endpoint: LocalEndpoint, verb: Verb) -> Result<Self, Refusal> {
        let closes = verb == Verb::Delete && matches!(endpoint, LocalEndpoint::Client(_));
        if closes || verb == Verb::Get {
            return Ok(Self { endpoint, closes });
        }
        let allowed = match endpoint {
            LocalEndpoint::Client(_) => "GET, HEAD, DELETE",
            _ => "GET, HEAD",
        };
        let message =
            format!("{} is not possible here; {allowed} are", verb.as_str().to_uppercase());
        Err(Refusal::new(errors::METHOD_NOT_ALLOWED, message).with_header("Allow", allowed))
    }

    /// Whether the response streams for as long as the node runs.
    pub fn listens(&self) -> bool {
        self.endpoint == LocalEndpoint::Events
    }

    /// Builds the response.
    pub fn answer(&self, node: &dyn Inspect, head_only: bool) -> Result<HttpResponse, Refusal> {
        Ok(match &self.endpoint {
            LocalEndpoint::Page => {
                HttpResponse::of_node(200, "text/html; charset=utf-8", PAGE.into())
                    .with_header("Content-Security-Policy", POLICY)
                    .with_header("Referrer-Policy", "no-referrer")
            }
            LocalEndpoint::Status => json_answer(node.status()),
            LocalEndpoint::Client(name) if self.closes => match node.close_client(name) {
                0 => return Err(not_connected(name)),
                count => json_answer(Body::json(&json!({ "closed": count }))),
            },
            LocalEndpoint::Client(name) => {
                json_answer(node.client(name).ok_or_else(|| not_connected(name))?)
            }
            LocalEndpoint::Metrics => HttpResponse::of_node(200, METRICS, node.metrics().into()),
            LocalEndpoint::Health => text(200, "ok\n"),
            LocalEndpoint::Ready => match node.ready() {
                Ok(()) => text(200, "ready\n"),
                Err(why) => text(503, &format!("{}\n", why.escape_debug())),
            },
            LocalEndpoint::Events => {
                let body = match head_only {
                    true => Body::left_out(None),
                    false => node.events().ok_or_else(|| {
                        Refusal::new(
                            errors::FULL,
                            "too many listen already, or the node is stopping",
                        )
                        .with_header("Retry-After", "1")
                    })?,
                };
                HttpResponse::of_node(200, "text/event-stream", body)
            }
        })
    }
}

fn json_answer(body: Body) -> HttpResponse {
    HttpResponse::of_node(200, "application/json", body)
}

fn text(status: u16, text: &str) -> HttpResponse {
    HttpResponse::of_node(status, "text/plain; charset=utf-8", text.into())
}

fn not_connected(name: &str) -> Refusal {
    let message = format!("no client {} is connected here", name.escape_debug());
    Refusal::new(errors::NOT_CONNECTED, message)
}

fn decode(name: &str) -> Result<String, Refusal> {
    let bad = |message| Refusal::new(errors::BAD_PATH, message);
    let name = percent_decode_str(name)
        .decode_utf8()
        .map_err(|_| bad("the client's name is not UTF-8 once decoded"))?;
    if name.is_empty() || name.len() > MAX_NAME || name.chars().any(char::is_control) {
        return Err(bad("the client's name must have 1 to 255 bytes, and no control character"));
    }
    Ok(name.into_owned())
}

#[cfg(test)]
mod tests {
    use aws_lc_rs::digest;

    use super::*;

    #[test]
    fn the_policy_allows_the_pages_own_script_and_style_and_nothing_else() {
        for (directive, tag) in [("script-src", "script"), ("style-src", "style")] {
            let (start, end) = (format!("<{tag}>"), format!("</{tag}>"));
            assert_eq!((PAGE.matches(&start).count(), PAGE.matches(&end).count()), (1, 1));
            let from = PAGE.find(&start).unwrap() + start.len();
            let text = &PAGE[from..PAGE.find(&end).unwrap()];
            let hash = base64(digest::digest(&digest::SHA256, text.as_bytes()).as_ref());
            let expected = format!("{directive} 'sha256-{hash}';");
            assert!(POLICY.contains(&expected), "{expected} is not in {POLICY}");
        }
        for never in ["innerHTML", "document.write", "eval(", " style=", "http://", "https://"] {
            assert!(!PAGE.contains(never), "{never}");
        }
    }

    /// RFC 4648, section 4.
    fn base64(bytes: &[u8]) -> String {
        const SIGNS: &[u8; 64] =
            b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
        let sign = |three: &[u8], at: usize| {
            let number =
                (0..3).fold(0, |sum, i| (sum << 8) | u32::from(*three.get(i).unwrap_or(&0)));
            match at <= three.len() {
                true => char::from(SIGNS[(number >> (18 - 6 * at)) as usize & 63]),
                false => '=',
            }
        };
        bytes.chunks(3).flat_map(|three| (0..4).map(move |at| sign(three, at))).collect()
    }

    #[test]
    fn every_path_and_method_is_shown_or_refused() {
        let verbs = [Verb::Get, Verb::Post, Verb::Put, Verb::Delete, Verb::Patch, Verb::Options];
        for path in ["/", "/status?x=/y", "/metrics", "/healthz", "/readyz", "/events"] {
            for verb in verbs {
                let endpoint = LocalEndpoint::of(path).unwrap().unwrap();
                let status = LocalRequest::new(endpoint, verb)
                    .map_or_else(|refusal| refusal.status, |_| 200);
                assert_eq!(status, if verb == Verb::Get { 200 } else { 405 }, "{path} {verb:?}");
            }
        }
        let client = LocalEndpoint::of("/status/clients/a%2Fb%20%3Cc").unwrap().unwrap();
        assert_eq!(client, LocalEndpoint::Client("a/b <c".to_owned()));
        assert!(LocalRequest::new(client.clone(), Verb::Delete).unwrap().closes);
        assert!(!LocalRequest::new(client.clone(), Verb::Get).unwrap().closes);
        assert_eq!(LocalRequest::new(client, Verb::Post).unwrap_err().status, 405);
        for path in ["/status/", "/status/clients", "/Status", "/healthz/", "//", "/client/a/b", ""]
        {
            assert_eq!(LocalEndpoint::of(path).unwrap(), None, "{path}");
        }
        let long = format!("/status/clients/{}", "x".repeat(256));
        for path in ["/status/clients/", "/status/clients/%ff", "/status/clients/a%0Ab", &long] {
            assert_eq!(LocalEndpoint::of(path).unwrap_err().status, 400, "{path}");
        }
    }
}
