//! Connections to brokers: addresses, a proxy, TLS.
//!
//! In scope: from an address to a stream without a byte sent. Not in scope: WebRoute.

use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use socket2::TcpKeepalive;

use super::proxy::Proxies;
use super::stream::Stream;
use super::trust::{BrokerTrust, refusal};
use super::url::Url;
use crate::net::dial::{self, Resolver};

/// The operating system probes a silent connection after this long, to detect a peer that lost power.
const KEEPALIVE: Duration = Duration::from_secs(60);

/// How to reach brokers: trust and proxies. Shared by any number of connections.
#[derive(Debug)]
pub struct Outbound {
    trust: BrokerTrust,
    proxies: Proxies,
    resolver: Resolver,
    /// Whether TLS may end without a close_notify.
    original_peers: bool,
    /// Created on first use: without TLS no roots are needed.
    tls: OnceLock<Result<Arc<ClientConfig>, String>>,
}

impl Outbound {
    /// With this trust, and these proxies.
    pub fn new(trust: BrokerTrust, proxies: Proxies) -> Self {
        let (resolver, tls) = (Resolver::default(), OnceLock::new());
        Self { trust, proxies, resolver, original_peers: false, tls }
    }

    /// Whether the brokers, or the web servers before them, may end TLS without a close_notify. Such an end is
    /// an error otherwise, since anybody on the path can cause one.
    pub fn with_original_peers(mut self, original_peers: bool) -> Self {
        self.original_peers = original_peers;
        self
    }

    /// Checks that these addresses can be dialled: each has a key, and those with TLS have something to trust.
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

    /// Connects to this address's broker, including TLS.
    pub(super) fn dial(&self, url: &Url, deadline: Instant) -> Result<Stream, String> {
        let (host, port) = (url.host(), url.port());
        let socket = match self.proxies.to(host, port, url.is_tls()) {
            None => dial::connect(&self.resolver, host, port, deadline)?,
            Some(proxy) => proxy.connect(&self.resolver, host, port, deadline)?,
        };
        let socket = socket2::Socket::from(socket);
        // The connection also works without this option.
        let _ = socket.set_tcp_keepalive(&TcpKeepalive::new().with_time(KEEPALIVE));
        let stream = Stream::socket(socket).map_err(|error| error.to_string())?;
        self.secure(stream, url, deadline)
    }

    /// Adds TLS to a stream that leads to this address's broker, if the address requires it.
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
        let mut stream =
            Stream::tls_client(stream, config, name, deadline).map_err(|error| refusal(&error))?;
        if self.original_peers {
            stream.allow_missing_close_notify();
        }
        Ok(stream)
    }

    fn tls(&self) -> Result<Arc<ClientConfig>, String> {
        self.tls.get_or_init(|| self.trust.client_config()).clone()
    }
}

fn server_name(url: &Url) -> Result<ServerName<'static>, String> {
    ServerName::try_from(url.host().to_owned())
        .map_err(|_| format!("{:?} is no name a certificate can have", url.host()))
}
