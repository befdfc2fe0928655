//! Whether a certificate is valid, by the checks of a node.
//!
//! In scope: one certificate without its key, at a given time. Not in scope: live connections.

use std::path::Path;

use rustls::pki_types::{CertificateDer, UnixTime};

use super::authority;
use super::crl::Crl;
use super::directory::Ca;
use super::error::{CaError, CaFault};
use super::layout::CA_CRT;
use crate::event::peer::Role;
use crate::identity::certificate::{self, PeerCertificate};
use crate::identity::date::Date;
use crate::identity::error::IdentityFault;
use crate::identity::provider::provider;
use crate::identity::trust::TrustStore;
use crate::identity::{check, pem};

/// The result for a valid certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// What the certificate says.
    pub certificate: PeerCertificate,
    /// The roles it is valid for, at least one.
    pub roles: Vec<Role>,
    /// When the next revocation list was due, if that is past. The list still applies.
    pub list_overdue: Option<Date>,
}

impl Ca<'_> {
    /// Checks the certificate in `crt`, followed by its intermediate ones, for `role` as of `now`;
    /// without a role, for those that its usages allow, at least one. It must be issued by this CA
    /// and not be revoked.
    pub fn verify(
        &self,
        crt: &Path,
        role: Option<Role>,
        now: UnixTime,
    ) -> Result<Verdict, CaError> {
        let ca = self.path(CA_CRT);
        let chain = pem::certificates(&pem::read_guarded(crt)?, crt)?;
        let authorities = authority::certificates(self.dir)?;
        let judge = |role| judge(&chain, &authorities, crt, &ca, role, now);
        let (certificate, roles) = match role {
            Some(role) => (judge(role)?, vec![role]),
            None => match (judge(Role::Server), judge(Role::Client)) {
                (Ok(server), Ok(_)) => (server, vec![Role::Server, Role::Client]),
                (Ok(server), Err(_)) => (server, vec![Role::Server]),
                (Err(_), Ok(client)) => (client, vec![Role::Client]),
                // Report a fault other than the usage.
                (Err(server), Err(client)) => {
                    let is_usage =
                        matches!(client.fault, CaFault::Identity(IdentityFault::WrongUsage(_)));
                    return Err(if is_usage { server } else { client });
                }
            },
        };
        let mut list_overdue = None;
        if let Some(list) = Crl::read(self.dir, &authorities)? {
            let parsed = chain.first().map(certificate::parse).transpose();
            let parsed = parsed.map_err(|fault| CaError::new(crt, fault))?;
            if let Some(revoked) = parsed.and_then(|parsed| list.find(parsed.raw_serial())) {
                let why = format!("the certificate was {revoked}");
                return Err(CaError::new(crt, CaFault::Other(why)));
            }
            list_overdue = list.next_update().filter(|next| *next < Date::from(now));
        }
        Ok(Verdict { certificate, roles, list_overdue })
    }
}

/// The checks that a node makes of its own certificate before it uses it, except for the key.
pub(super) fn judge(
    chain: &[CertificateDer<'static>],
    authorities: &[CertificateDer<'static>],
    crt: &Path,
    ca: &Path,
    role: Role,
    now: UnixTime,
) -> Result<PeerCertificate, CaError> {
    let at_crt = |fault| CaError::new(crt, fault);
    let own = check::own_certificate(chain, role, now).map_err(at_crt)?;
    let roots = check::roots(authorities, now).map_err(|e| CaError::new(ca, e))?;
    let algorithms = provider().signature_verification_algorithms;
    let trust = TrustStore { ca: ca.to_owned(), roots, lists: Vec::new(), algorithms };
    trust.judge(chain, role, now).map_err(at_crt)?;
    Ok(own)
}
