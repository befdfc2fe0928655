//! The way out to brokers: addresses, a proxy, TLS.
//!
//! In scope: from an address to a stream on which nothing was said. Not in scope: WebRoute.

use std::io;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use socket2::TcpKeepalive;

use super::head::read_answer;
use super::proxy::{Proxies, Proxy};
use super::stream::Stream;
use super::trust::{Trust, refusal};
use super::url::Url;
use crate::dial::{self, Resolver};

/// A connection on which nothing moves is tried by the system after this long, so that a peer that
/// lost its power is noticed.
const KEEPALIVE: Duration = Duration::from_secs(60);

/// How brokers are reached: whom to trust, which proxy to pass. Shared by any number of connections.
#[derive(Debug)]
pub struct Outbound {
    trust: Trust,
    proxies: Proxies,
    resolver: Resolver,
    /// Made when it is first needed: without TLS a system needs no roots.
    tls: OnceLock<Result<Arc<ClientConfig>, String>>,
}

impl Outbound {
    /// With this trust, and these proxies.
    pub fn new(trust: Trust, proxies: Proxies) -> Self {
        Self { trust, proxies, resolver: Resolver::default(), tls: OnceLock::new() }
    }

    /// Whether these addresses can be dialled at all: each has a key, and those with TLS have
    /// something to trust.
    pub fn check<'a>(&self, urls: impl IntoIterator<Item = &'a Url>) -> Result<(), String> {
        for url in urls {
            if !url.has_key() {
                return Err(format!("{url}: there is no key for it"));
            }
            if url.is_tls() {
                self.tls()?;
                server_name(url)?;
            }
        }
        Ok(())
    }

    pub(super) fn resolver(&self) -> &Resolver {
        &self.resolver
    }

    /// A connection to this address's broker, up to and with TLS.
    pub(super) fn dial(&self, url: &Url, deadline: Instant) -> Result<Stream, String> {
        let proxy = self.proxies.to(url.host(), url.port(), url.is_tls());
        let stream = match proxy {
            None => self.connect(url.host(), url.port(), deadline)?,
            Some(proxy) => self.pass(proxy, url, deadline)?,
        };
        self.secure(stream, url, deadline)
    }

    /// TLS to this address's broker over a stream that leads to it, if the address has it.
    pub(super) fn secure(
        &self,
        stream: Stream,
        url: &Url,
        deadline: Instant,
    ) -> Result<Stream, String> {
        if !url.is_tls() {
            return Ok(stream);
        }
        let (config, name) = (self.tls()?, server_name(url)?);
        Stream::tls_client(stream, config, name, deadline).map_err(|error| refusal(&error))
    }

    fn connect(&self, host: &str, port: u16, deadline: Instant) -> Result<Stream, String> {
        let socket = socket2::Socket::from(dial::connect(&self.resolver, host, port, deadline)?);
        // Where the system has no such option the connection works all the same.
        let _ = socket.set_tcp_keepalive(&TcpKeepalive::new().with_time(KEEPALIVE));
        Stream::socket(socket).map_err(|error| error.to_string())
    }

    fn pass(&self, proxy: &Proxy, url: &Url, deadline: Instant) -> Result<Stream, String> {
        let fail = |why: String| format!("the proxy {proxy}: {why}");
        let mut stream = self.connect(&proxy.host, proxy.port, deadline).map_err(fail)?;
        let request = proxy.request(url.host(), url.port());
        stream
            .write_all_within(request.as_bytes(), deadline)
            .map_err(|error| fail(in_words(&error)))?;
        let answer = read_answer(&mut stream, deadline).map_err(|error| fail(error.to_string()))?;
        match answer.status {
            200..=299 => Ok(stream),
            // RFC 9110 has 407 for this, and tinyproxy 401.
            status @ (401 | 407) => {
                Err(fail(format!("it wants a user and a password, or others ({status})")))
            }
            status => Err(fail(format!("it does not connect to {} ({status})", url.host()))),
        }
    }

    fn tls(&self) -> Result<Arc<ClientConfig>, String> {
        self.tls.get_or_init(|| self.trust.client_config()).clone()
    }
}

fn server_name(url: &Url) -> Result<ServerName<'static>, String> {
    ServerName::try_from(url.host().to_owned())
        .map_err(|_| format!("{:?} is no name a certificate can have", url.host()))
}

fn in_words(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::TimedOut => "it takes nothing".to_owned(),
        _ => error.to_string(),
    }
}
