//! Who a node is: its key and certificate, the CA that its peers are checked against, and what a
//! peer's certificate says.
//!
//! In scope: PEM files in, rustls configurations out; installing those files; a small CA. Not in
//! scope: connections, and what a peer may do.

pub mod ca;
mod certificate;
mod check;
mod error;
mod install;
pub mod pem;
mod tls;

use std::fmt;
use std::sync::Arc;

use rustls::pki_types::UnixTime;
use rustls::{ClientConfig, ServerConfig};

pub use certificate::{MAX_NAME, PeerCertificate, fingerprint};
pub use error::{Date, Fault, IdentityError, NameFault};
pub use install::{GivenFiles, install};

use crate::config::IdentityFiles;
use crate::peer::Role;
use check::{Bytes, Checked};

/// A node's checked identity, ready for pipes.
///
/// ```no_run
/// use restpipe::config::IdentityFiles;
/// use restpipe::identity::Identity;
/// use restpipe::peer::Role;
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
    server: Arc<ServerConfig>,
    client: Arc<ClientConfig>,
}

impl Identity {
    /// Reads and checks the files for `role`, as of now.
    pub fn load(files: &IdentityFiles, role: Role) -> Result<Self, IdentityError> {
        Self::load_at(files, role, UnixTime::now())
    }

    /// Reads and checks the files for `role`, as of `now`. The configurations that come of it
    /// check peers by the system's clock.
    pub fn load_at(
        files: &IdentityFiles,
        role: Role,
        now: UnixTime,
    ) -> Result<Self, IdentityError> {
        let provider = tls::provider();
        let bytes = Bytes::read(files)?;
        let Checked { own, certified, roots } = check::check(&bytes, files, role, now, &provider)?;
        let refused = |why| IdentityError::new(&files.crt, Fault::Refused(why));
        Ok(Self {
            own,
            server: tls::server_config(&provider, &certified, &roots).map_err(refused)?.into(),
            client: tls::client_config(&provider, &certified, &roots).map_err(refused)?.into(),
        })
    }

    /// What this node's own certificate says, as its peers will read it.
    pub const fn own(&self) -> &PeerCertificate {
        &self.own
    }

    /// How a server meets its clients: TLS 1.3, a certificate demanded, no session resumed.
    pub fn server_config(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.server)
    }

    /// How a client meets its server: TLS 1.3, the server's certificate and name checked, no
    /// session resumed.
    pub fn client_config(&self) -> Arc<ClientConfig> {
        Arc::clone(&self.client)
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identity").field("own", &self.own).finish_non_exhaustive()
    }
}
