//! Whether a peer's certificate is trusted.
//!
//! In scope: the one check for handshakes, live links and a node's own certificate. Not in scope:
//! where CAs and revocation lists come from (`check`, `revocation`).

use std::path::{Path, PathBuf};

use rustls::RootCertStore;
use rustls::crypto::WebPkiSupportedAlgorithms;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use webpki::{EndEntityCert, KeyUsage, VerifiedPath};

use super::certificate::{self, PeerCertificate};
use super::chain;
use super::date::Date;
use super::error::IdentityFault;
use super::revocation::{self, RevocationList};
use crate::event::peer::Role;

/// The trusted CAs, and what they have revoked.
#[derive(Debug)]
pub(crate) struct TrustStore {
    /// The file of the CAs, for messages.
    pub ca: PathBuf,
    pub roots: RootCertStore,
    pub lists: Vec<RevocationList>,
    pub algorithms: WebPkiSupportedAlgorithms,
}

impl TrustStore {
    /// Checks the certificate chain of a peer that has `role`, its own certificate first.
    pub fn judge(
        &self,
        chain: &[CertificateDer<'_>],
        role: Role,
        now: UnixTime,
    ) -> Result<PeerCertificate, IdentityFault> {
        let Some((leaf, intermediates)) = chain.split_first() else {
            return Err(IdentityFault::Malformed("there is none".to_owned()));
        };
        self.judge_peer(leaf, intermediates, role, now)
    }

    /// As [`TrustStore::judge`], for a peer's own certificate and the intermediate ones it sent.
    pub fn judge_peer(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        role: Role,
        now: UnixTime,
    ) -> Result<PeerCertificate, IdentityFault> {
        // First, because the input of the rest is untrusted.
        chain::check_chain(leaf, intermediates)
            .map_err(|fault| IdentityFault::Other(fault.to_string()))?;
        // Simple faults first; the rest of the check reports them less precisely.
        let parsed = certificate::parse(leaf)?;
        certificate::check_algorithms(&parsed)?;
        if parsed.is_ca() {
            return Err(IdentityFault::CaAsLeaf);
        }
        certificate::check_dates(&parsed, now)?;
        if role == Role::Server && !certificate::has_server_name(&parsed) {
            return Err(IdentityFault::NoSubjectAltName);
        }
        self.check_path(leaf, intermediates, role, now)?;
        PeerCertificate::read(leaf, role)
    }

    fn check_path(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        role: Role,
        now: UnixTime,
    ) -> Result<(), IdentityFault> {
        let usage = match role {
            Role::Server => KeyUsage::server_auth(),
            Role::Client => KeyUsage::client_auth(),
        };
        // `webpki` would look for a list by the CA's name alone.
        let is_unrevoked = |path: &VerifiedPath<'_>| revocation::check_path(&self.lists, path);
        let fault = |error| chain_fault(error, &self.ca, role);
        EndEntityCert::try_from(leaf)
            .map_err(fault)?
            .verify_for_usage(
                self.algorithms.all,
                &self.roots.roots,
                intermediates,
                now,
                usage,
                None,
                Some(&is_unrevoked),
            )
            .map_err(fault)?;
        Ok(())
    }
}

/// Whether a server's certificate covers the expected name.
pub(crate) fn check_host(
    leaf: &CertificateDer<'_>,
    name: &ServerName<'_>,
) -> Result<(), IdentityFault> {
    let certificate =
        EndEntityCert::try_from(leaf).map_err(|e| IdentityFault::Malformed(e.to_string()))?;
    certificate.verify_is_valid_for_subject_name(name).map_err(|_| {
        let expected = name.to_str().into_owned();
        let names = certificate::parse(leaf).map(|c| certificate::server_names(&c));
        let names = names.unwrap_or_default();
        // As an address it would have passed.
        let is_dns_name = matches!(name, ServerName::IpAddress(_)) && names.contains(&expected);
        IdentityFault::WrongHost { expected, names, is_dns_name }
    })
}

fn chain_fault(error: webpki::Error, ca: &Path, role: Role) -> IdentityFault {
    use webpki::Error as E;
    match error {
        E::CertExpired { not_after, .. } => IdentityFault::Expired(Date::from(not_after)),
        E::CertNotValidYet { not_before, .. } => IdentityFault::NotYetValid(Date::from(not_before)),
        E::RequiredEkuNotFoundContext(_) | E::EmptyEkuExtension => IdentityFault::WrongUsage(role),
        // The second: a CA with the same name and another key.
        E::UnknownIssuer | E::InvalidSignatureForPublicKey => {
            IdentityFault::NotSignedBy(ca.to_owned())
        }
        E::CertRevoked => IdentityFault::Revoked,
        E::CaUsedAsEndEntity => IdentityFault::CaAsLeaf,
        E::EndEntityUsedAsCa => {
            IdentityFault::Refused("it is signed by a certificate that is not a CA's".to_owned())
        }
        E::UnsupportedCertVersion => IdentityFault::OldVersion(1),
        E::UnsupportedSignatureAlgorithmContext(_)
        | E::UnsupportedSignatureAlgorithmForPublicKeyContext(_) => IdentityFault::Refused(
            "it is signed by an algorithm that is not in use with TLS 1.3".to_owned(),
        ),
        E::PathLenConstraintViolated => {
            IdentityFault::Refused("there are more CAs in its chain than its CA allows".to_owned())
        }
        E::NameConstraintViolation => {
            IdentityFault::Refused("its CA may not sign for these names".to_owned())
        }
        E::UnsupportedCriticalExtension => {
            IdentityFault::Refused("it has a critical extension that is not known".to_owned())
        }
        E::BadDer | E::BadDerTime | E::TrailingData(_) | E::MalformedExtensions => {
            IdentityFault::Malformed(error.to_string())
        }
        other => IdentityFault::Refused(other.to_string()),
    }
}
