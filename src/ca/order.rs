//! One certificate for a node, from the order to the signed and checked certificate.
//!
//! In scope: its content. Not in scope: the key it is for, and where it is written.

use std::path::Path;
use std::time::Duration;

use rcgen::{
    CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, KeyUsagePurpose,
    PublicKeyData, SerialNumber,
};
use rustls::pki_types::UnixTime;

use super::authority::Authority;
use super::directory::Ca;
use super::error::CaError;
use super::layout::CA_CRT;
use super::name::Name;
use super::verify;
use crate::event::peer::Role;
use crate::identity::certificate::PeerCertificate;
use crate::identity::date::moment;
use crate::identity::error::IdentityFault;

/// The default validity of an identity, in days.
pub const DEFAULT_DAYS: u32 = 365;

/// The longest validity, in days: a hundred years.
pub const MAX_DAYS: u32 = 36_500;

/// How far a certificate's validity is backdated: a new one is used at once, also on a machine
/// whose clock is behind or an hour off because of a wrong time zone.
const CLOCK_SKEW_ALLOWANCE: Duration = Duration::from_secs(3600);

/// An identity to issue.
#[derive(Clone, Debug)]
pub struct Order {
    /// Its name, also of its files.
    pub name: Name,
    /// Its role.
    pub role: Role,
    /// Further DNS names and IP addresses.
    pub alternatives: Vec<Name>,
    /// Its validity in days, 1 to [`MAX_DAYS`]; at most until the CA expires.
    pub days: u32,
}

/// A signed certificate that has passed the checks of a node.
pub(super) struct Certified {
    pub pem: String,
    pub serial: [u8; 16],
    pub certificate: PeerCertificate,
    /// Whether it expires earlier than ordered because its CA does.
    pub cut_short: bool,
}

impl Ca<'_> {
    /// Signs a certificate for `key` as `order` says. `crt` is named in errors.
    pub(super) fn certify(
        &self,
        authority: &Authority,
        order: &Order,
        key: &impl PublicKeyData,
        crt: &Path,
        now: UnixTime,
    ) -> Result<Certified, CaError> {
        let at = |fault| CaError::new(crt, fault);
        let failed = |e: rcgen::Error| at(IdentityFault::Refused(e.to_string()));
        let serial = random_serial().map_err(at)?;
        let mut params = params(&order.name.to_string(), &serial, order.days, now);
        params.not_before = params.not_before.max(authority.not_before);
        let cut_short = params.not_after > authority.not_after;
        params.not_after = params.not_after.min(authority.not_after);
        params.is_ca = IsCa::ExplicitNoCa;
        params.use_authority_key_identifier_extension = true;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![match order.role {
            Role::Server => ExtendedKeyUsagePurpose::ServerAuth,
            Role::Client => ExtendedKeyUsagePurpose::ClientAuth,
        }];
        for name in std::iter::once(&order.name).chain(&order.alternatives) {
            let name = name.to_san().map_err(failed)?;
            if !params.subject_alt_names.contains(&name) {
                params.subject_alt_names.push(name);
            }
        }

        let signed = params.signed_by(key, &authority.issuer).map_err(failed)?;
        let ca = self.path(CA_CRT);
        authority.check_issuer_of(signed.der()).map_err(|e| CaError::new(&ca, e))?;
        let chain = [signed.der().clone()];
        let certificate =
            verify::judge(&chain, &authority.certificates, crt, &ca, order.role, now)?;
        Ok(Certified { pem: signed.pem(), serial, certificate, cut_short })
    }
}

/// The parameters of all certificates: name, serial number and dates.
pub(super) fn params(
    common_name: &str,
    serial: &[u8],
    days: u32,
    now: UnixTime,
) -> CertificateParams {
    let now = moment(now);
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, common_name);
    params.serial_number = Some(SerialNumber::from_slice(serial));
    params.not_before =
        now.checked_sub(CLOCK_SKEW_ALLOWANCE.try_into().unwrap_or_default()).unwrap_or(now);
    let days = time::Duration::days(days.clamp(1, MAX_DAYS).into());
    params.not_after = now.checked_add(days).unwrap_or(now);
    params
}

/// Sixteen random bytes, positive and without a leading zero (RFC 5280 section 4.1.2.2 allows
/// twenty).
pub(super) fn random_serial() -> Result<[u8; 16], IdentityFault> {
    let mut serial = [0; 16];
    aws_lc_rs::rand::fill(&mut serial)
        .map_err(|_| IdentityFault::Refused("the system gives no random numbers".to_owned()))?;
    serial[0] = serial[0] & 0x7f | 0x40;
    Ok(serial)
}
