//! Who a node is: its key and certificate, the CA that its peers are checked against, and what a
//! peer's certificate says.
//!
//! In scope: PEM files in, rustls configurations out; installing those files, and reloading them
//! while a node runs. Not in scope: connections, and what a peer may do.

pub(crate) mod certificate;
mod chain;
pub(crate) mod check;
pub(crate) mod date;
pub(crate) mod error;
mod install;
pub mod pem;
pub(crate) mod provider;
pub(crate) mod reloadable;
mod reminders;
pub(crate) mod revocation;
pub(crate) mod signature;
pub(crate) mod text;
pub(crate) mod tls;
pub(crate) mod trust;
pub(crate) mod verify;

use std::fmt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::sign::CertifiedKey;
use rustls::{ClientConfig, DistinguishedName, ServerConfig};

pub use certificate::{MAX_NAME, PeerCertificate, fingerprint};
pub use chain::{ChainFault, MAX_CHAIN_BYTES, MAX_INTERMEDIATES, check_chain};
pub use date::Date;
pub use error::{IdentityError, IdentityFault};
pub use install::{GivenFiles, install};
pub use reloadable::{ReloadableIdentity, Reloaded};
pub use reminders::{ExpiryNotice, Reminders};
pub use tls::TRIAL_ALPN;
pub use verify::{CertificateSummary, PresentedCertificate};

use crate::config::{CrlFile, IdentityFiles};
use crate::event::peer::Role;
use crate::fs::is_missing;
use check::{Bytes, Checked};
use provider::provider;
use trust::TrustStore;
use verify::Verifier;

/// A node's checked identity, ready for pipes.
///
/// ```no_run
/// use restpipe::config::IdentityFiles;
/// use restpipe::identity::Identity;
/// use restpipe::event::peer::Role;
///
/// let files = IdentityFiles {
///     key: "server.key.pem".into(),
///     crt: "server.crt.pem".into(),
///     ca: "ca.crt.pem".into(),
/// };
/// let identity = Identity::load(&files, Role::Server)?;
/// let tls = rustls::ServerConnection::new(identity.server_config());
/// # Ok::<(), restpipe::identity::IdentityError>(())
/// ```
#[derive(Clone)]
pub struct Identity {
    own: PeerCertificate,
    /// Its own certificate first.
    chain: Vec<CertificateDer<'static>>,
    role: Role,
    crt: PathBuf,
    crl: Option<PathBuf>,
    /// The warning about the key's file, if others can read it.
    open_key: Option<String>,
    provider: Arc<CryptoProvider>,
    certified: Arc<CertifiedKey>,
    trust: Arc<TrustStore>,
    hints: Arc<[DistinguishedName]>,
    server: Arc<ServerConfig>,
    client: Arc<ClientConfig>,
}

impl Identity {
    /// Reads and checks the files for `role`, as of now, without revocation lists.
    pub fn load(files: &IdentityFiles, role: Role) -> Result<Self, IdentityError> {
        Self::load_at(files, role, UnixTime::now())
    }

    /// Reads and checks the files for `role`, as of `now`, without revocation lists. The resulting
    /// configurations check peers by the system's clock.
    pub fn load_at(
        files: &IdentityFiles,
        role: Role,
        now: UnixTime,
    ) -> Result<Self, IdentityError> {
        Self::load_set(files, None, role, now)
    }

    /// Reads and checks the files and the revocation lists for `role`, as of `now`.
    pub fn load_with_crl(
        files: &IdentityFiles,
        crl: &CrlFile,
        role: Role,
        now: UnixTime,
    ) -> Result<Self, IdentityError> {
        let is_wanted = crl.required || !is_missing(&crl.path);
        Self::load_set(files, is_wanted.then_some(&crl.path), role, now)
    }

    fn load_set(
        files: &IdentityFiles,
        crl: Option<&PathBuf>,
        role: Role,
        now: UnixTime,
    ) -> Result<Self, IdentityError> {
        let provider = provider();
        let bytes = Bytes::read(files)?;
        let checked = check::check(&bytes, files, role, now, &provider)?;
        let Checked { own, certified, mut trust, authorities } = checked;
        let chain = certified.cert.clone();
        if let Some(path) = crl {
            // A list may also be from an intermediate CA, which is in the node's own file.
            let mut issuers = authorities;
            issuers.extend(chain.iter().skip(1).cloned());
            let bytes = pem::read_file(path)?;
            trust.lists = revocation::read(&bytes, path, &issuers, &files.ca)?;
        }
        let trust = Arc::new(trust);
        let hints: Arc<[DistinguishedName]> = trust.roots.subjects().into();
        let verifier = || verifier(&trust, &hints, &PresentedCertificate::default());
        let refused = |why| IdentityError::new(&files.crt, IdentityFault::Refused(why));
        let server = tls::server_config(&provider, &certified, verifier()).map_err(refused)?;
        let client = tls::client_config(&provider, &certified, verifier()).map_err(refused)?;
        Ok(Self {
            own,
            chain,
            role,
            crt: files.crt.clone(),
            crl: crl.cloned(),
            open_key: open_key(&files.key),
            provider,
            certified,
            trust,
            hints,
            server: server.into(),
            client: client.into(),
        })
    }

    /// This node's own certificate, as peers read it.
    pub const fn own(&self) -> &PeerCertificate {
        &self.own
    }

    /// For a server: TLS 1.3, client certificates required, no session resumption.
    pub fn server_config(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.server)
    }

    /// For a client: TLS 1.3, the server's certificate and name checked, no session resumption.
    pub fn client_config(&self) -> Arc<ClientConfig> {
        Arc::clone(&self.client)
    }

    /// As [`Identity::server_config`], for one handshake, with the certificate that the client
    /// presents.
    pub fn server_handshake(&self) -> (Arc<ServerConfig>, PresentedCertificate) {
        let presented = PresentedCertificate::default();
        let verifier = verifier(&self.trust, &self.hints, &presented);
        let config = tls::server_config(&self.provider, &self.certified, verifier)
            .map_or_else(|_| Arc::clone(&self.server), Arc::new);
        (config, presented)
    }

    /// As [`Identity::client_config`], for one handshake, with the certificate that the server
    /// presents.
    pub fn client_handshake(&self) -> (Arc<ClientConfig>, PresentedCertificate) {
        let presented = PresentedCertificate::default();
        let mut config = (*self.client).clone();
        config.dangerous().set_certificate_verifier(verifier(&self.trust, &self.hints, &presented));
        (Arc::new(config), presented)
    }

    /// As [`Identity::client_handshake`], for a trial: see [`TRIAL_ALPN`].
    pub fn trial_handshake(&self) -> (Arc<ClientConfig>, PresentedCertificate) {
        let (config, presented) = self.client_handshake();
        let mut config = (*config).clone();
        config.alpn_protocols = vec![TRIAL_ALPN.to_vec()];
        (Arc::new(config), presented)
    }

    /// Checks a connected peer's certificate chain again, its own first. Fails if it is no longer
    /// accepted.
    pub fn judge(&self, chain: &[CertificateDer<'_>], now: UnixTime) -> Result<(), IdentityFault> {
        let peer = match self.role {
            Role::Server => Role::Client,
            Role::Client => Role::Server,
        };
        self.trust.judge(chain, peer, now).map(|_| ())
    }

    /// Whether the CA has revoked this node's own certificate, so that its peers refuse it.
    pub fn is_revoked(&self, now: UnixTime) -> bool {
        matches!(self.trust.judge(&self.chain, self.role, now), Err(IdentityFault::Revoked))
    }

    /// Whether two identities present the same certificates.
    pub fn has_same_certificates(&self, other: &Self) -> bool {
        self.chain == other.chain
    }

    /// The file of revocation lists in use, if any.
    pub fn crl(&self) -> Option<&Path> {
        self.crl.as_deref()
    }

    /// Notices about this node's own files: those that expire soon or have expired, and a private key
    /// that others can read.
    pub fn notices(&self, now: UnixTime) -> Vec<ExpiryNotice> {
        let mut notices = Vec::new();
        let own = ExpiryNotice::certificate("this node's certificate", &self.own, now);
        notices.extend(own.map(|own| own.in_file(&self.crt)));
        let open_key = self.open_key.clone();
        notices.extend(open_key.map(|text| ExpiryNotice { key: "open key".to_owned(), text }));
        if let Some(file) = &self.crl {
            for list in self.trust.lists.iter().filter(|list| list.is_due(CRL_WARNING_LEAD, now)) {
                let (file, issuer) = (text::shown(file), &list.issuer);
                let next = list.next_update;
                let text = if list.is_due(0, now) {
                    format!(
                        "{file}: the next revocation list of {issuer} was due by {next}; the old one \
                         still counts, but does not have what was revoked since: get the new one"
                    )
                } else {
                    format!("{file}: the next revocation list of {issuer} is due by {next}: get it")
                };
                notices.push(ExpiryNotice { key: format!("crl {issuer}"), text });
            }
        }
        notices
    }
}

/// The warning about a private key's file that every user of the machine can read or write.
pub fn open_key(file: &Path) -> Option<String> {
    const OTHERS: u32 = 0o006;
    let mode = std::fs::metadata(file).ok()?.permissions().mode();
    let file = text::shown(file);
    (mode & OTHERS != 0).then(|| {
        format!(
            "{file}: every user of this machine may use the private key (mode {:04o}): chmod 600 it, and \
             make another key if one may have read it",
            mode & 0o7777
        )
    })
}

/// How many seconds before a revocation list's next update to warn: seven days.
const CRL_WARNING_LEAD: u64 = 7 * 86_400;

fn verifier(
    trust: &Arc<TrustStore>,
    hints: &Arc<[DistinguishedName]>,
    presented: &PresentedCertificate,
) -> Arc<Verifier> {
    Arc::new(Verifier {
        trust: Arc::clone(trust),
        hints: Arc::clone(hints),
        presented: presented.clone(),
    })
}

/// When the first certificate of a chain expires; `None` if none can be read.
pub fn earliest_end(chain: &[CertificateDer<'_>]) -> Option<UnixTime> {
    certificate::earliest_end(chain)
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identity").field("own", &self.own).finish_non_exhaustive()
    }
}
