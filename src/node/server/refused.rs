//! Why a connection is refused before it is authenticated.

use std::io;

use crate::identity::{CertificateSummary, IdentityFault};
use crate::link::{Alert, HandshakeError};

/// A refusal: its cause, one of a fixed set for the budget of log lines, and the text for people.
pub(super) struct Refused {
    pub cause: &'static str,
    pub why: String,
}

impl Refused {
    /// Any refusal.
    pub fn new(cause: &'static str, why: impl Into<String>) -> Self {
        Self { cause, why: why.into() }
    }

    /// One that a flood causes thousands of times a second.
    pub fn of_many(cause: &'static str) -> Self {
        Self::new(cause, format!("refused: {cause}"))
    }

    /// The socket failed.
    pub fn broken(error: &io::Error) -> Self {
        Self::new("broken connection", error.to_string())
    }

    /// The TLS handshake failed. `seen` is the certificate that was presented, if any.
    pub fn by_handshake(error: HandshakeError, seen: Option<CertificateSummary>) -> Self {
        match (error, seen) {
            (HandshakeError::Certificate(_), Some(seen)) => {
                let cause = seen.fault.as_ref().map_or(CERTIFICATE, cause_of_fault);
                Self::new(cause, format!("refused: {seen}"))
            }
            (HandshakeError::Refused(alert), _) => Self::by_alert(alert),
            (error, _) => Self::new(cause_of_error(&error), format!("refused: {error}")),
        }
    }

    /// The client rejected us; only the client knows why.
    fn by_alert(alert: Alert) -> Self {
        if alert.is_about_certificate() {
            let why = format!(
                "the client there refused this server's certificate ({alert}): see the client's log"
            );
            Self::new("this server's certificate", why)
        } else {
            let why =
                format!("the client there ended the TLS handshake ({alert}): see the client's log");
            Self::new("ended by the client", why)
        }
    }
}

/// The cause of a certificate that is refused for a rare reason.
pub(super) const CERTIFICATE: &str = "certificate";

fn cause_of_fault(fault: &IdentityFault) -> &'static str {
    match fault {
        IdentityFault::NotSignedBy(_) => "unknown CA",
        IdentityFault::Expired(_) => "expired certificate",
        IdentityFault::NotYetValid(_) => "certificate not valid yet",
        IdentityFault::Revoked => "revoked certificate",
        IdentityFault::WrongUsage(_) => "certificate of another use",
        IdentityFault::Malformed(_) => "malformed certificate",
        _ => CERTIFICATE,
    }
}

fn cause_of_error(error: &HandshakeError) -> &'static str {
    match error {
        HandshakeError::TimedOut => "too slow",
        HandshakeError::Closed => "closed in the handshake",
        HandshakeError::NoCertificate => "no certificate",
        HandshakeError::Certificate(_) => CERTIFICATE,
        HandshakeError::NoTls13 => "old TLS",
        HandshakeError::PlainHttp => "plain HTTP",
        HandshakeError::Io(_) => "broken connection",
        HandshakeError::Tls(_)
        | HandshakeError::Refused(_)
        | HandshakeError::NoTrials
        | HandshakeError::HttpServer => "no TLS",
    }
}
