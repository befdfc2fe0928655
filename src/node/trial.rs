//! A client's trial of its server: a TLS handshake verified by both sides and one heartbeat,
//! without replacing a running client of the same name.
//!
//! In scope: what `--check` does on a connected socket. Not in scope: connecting the socket.

use std::net::TcpStream;
use std::time::{Duration, Instant};

use rustls::pki_types::ServerName;

use super::dialer::{not_shaken, refused_by, server_certificate};
use crate::identity::{Identity, PeerCertificate};
use crate::link::{HandshakeError, LinkEnd, LinkTls, trial};

/// A server whose identity is verified.
pub(crate) struct Trial {
    socket: TcpStream,
    /// Absent if the server does not support trials; it did not learn who connected.
    tls: Option<LinkTls>,
    place: String,
    server: Option<PeerCertificate>,
}

/// Why a trial failed, and what to do about it.
pub(crate) struct TrialFailure {
    /// What happened, in one line.
    pub what: String,
    /// What the operator should do.
    pub advice: &'static str,
}

const ASK_THE_SERVER: &str = "look into the server's log, which says why; a certificate has to come \
    from a CA that the server's CA file has, be for a client, and be neither expired nor revoked";
const WRONG_SERVER: &str = "dial the server by a name that its certificate has, or set \
    RP_CLIENT_SERVER_NAME to one; its certificate has to come from a CA in this client's CA file, and \
    be neither revoked nor expired (rp_ca renew, where this machine's clock is right)";
const WRONG_PORT: &str = "RP_CLIENT_TARGET_PORT has to be the server's pipe port (BIND_PORT there, \
    1234 unless set), not its local HTTP port or another program's; and what stands between must \
    pass TLS on as it is";
const NOT_WELL: &str = "the server took the connection and then did not answer: look into its log";

impl Trial {
    /// Performs the handshake on a connected socket. `place` is the route to the server, for
    /// messages.
    pub fn shake_hands(
        identity: &Identity,
        socket: TcpStream,
        place: String,
        server_name: &str,
        deadline: Instant,
    ) -> Result<Self, TrialFailure> {
        let name = ServerName::try_from(server_name.to_owned()).map_err(|_| TrialFailure {
            what: format!("{server_name:?} is no name a certificate can have"),
            advice: WRONG_SERVER,
        })?;
        let (config, presented) = identity.trial_handshake();
        match LinkTls::connect(config, name, &socket, deadline) {
            Ok((tls, chain)) => {
                let server = server_certificate(&place, &chain)
                    .map_err(|what| TrialFailure { what, advice: WRONG_SERVER })?;
                Ok(Self { socket, tls: Some(tls), place, server: Some(server) })
            }
            Err(HandshakeError::NoTrials) => Ok(Self { socket, tls: None, place, server: None }),
            Err(error) => {
                let advice = match error {
                    HandshakeError::Certificate(_) => WRONG_SERVER,
                    HandshakeError::Refused(alert) if alert.is_about_certificate() => {
                        ASK_THE_SERVER
                    }
                    _ => WRONG_PORT,
                };
                Err(TrialFailure { what: not_shaken(&place, error, &presented), advice })
            }
        }
    }

    /// The server's certificate; absent if it does not support trials, so that the handshake was
    /// not completed.
    pub fn server(&self) -> Option<&PeerCertificate> {
        self.server.as_ref()
    }

    /// Returns the heartbeat's round-trip time. By then the server has verified this client too.
    /// `None` if the server does not support trials.
    pub fn beat(self, deadline: Instant) -> Result<Option<Duration>, TrialFailure> {
        let Some(tls) = self.tls else { return Ok(None) };
        trial::ask(tls, &self.socket, deadline).map(Some).map_err(|end| match end {
            LinkEnd::Refused(alert) => {
                TrialFailure { what: refused_by(&self.place, alert), advice: ASK_THE_SERVER }
            }
            end => TrialFailure { what: format!("{}: {end}", self.place), advice: NOT_WELL },
        })
    }
}
