//! A caller that waits at the broker, from its notice.
//!
//! In scope: joining it, and turning it away. Not in scope: serving it (`publisher`, `publication`).

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use super::connect::{BrokeredConnection, CONNECT_TIMEOUT};
use super::notice::CallerNotice;
use super::outbound::Outbound;
use super::url::Url;
use super::webroute::{Cause, join};

/// A caller of one of our paths. `Display` gives the beginning of a log line.
pub(super) struct IncomingCall {
    pub url: Arc<Url>,
    pub outbound: Arc<Outbound>,
    pub notice: CallerNotice,
}

impl IncomingCall {
    /// The caller's address.
    pub fn address(&self) -> Option<SocketAddr> {
        self.notice.address
    }

    /// Connects to the broker and is joined with the caller. From here on the caller's bytes flow.
    pub fn join(&self) -> Result<BrokeredConnection, Cause> {
        let Self { url, outbound, notice } = self;
        let deadline = Instant::now() + CONNECT_TIMEOUT;
        let mut stream = outbound.dial(url, deadline).map_err(Cause::Unreachable)?;
        // The caller already waits, so the broker answers at once.
        join(&mut stream, url, &notice.id, notice.timeout_s, deadline).map_err(
            |cause| match cause {
                Cause::Refused(400, _) => Cause::Broken("the caller did not wait (400)".to_owned()),
                cause => cause,
            },
        )?;
        Ok(BrokeredConnection::new(stream, url, notice.address))
    }

    /// Joins it and resets the connection: the only way to end a caller before its broker's time limit.
    pub fn turn_away(&self) {
        if let Ok(connection) = self.join() {
            connection.reset();
        }
    }
}

impl fmt::Display for IncomingCall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} for {}", self.notice.shown, self.url)
    }
}
