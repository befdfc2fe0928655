//! Configurations made by a program, with the documented defaults, and the check against the limits
//! of the environment.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::environment::Environment;
use super::error::{ConfigError, SettingOrigin};
use super::roles;
use super::value::{self, Expected};
use super::variables::{self as var, Variable};
use super::{ClientConfig, CrlFile, IdentityFiles, NodeConfig, ServerConfig};

impl ServerConfig {
    /// A server with this identity and the documented defaults; the environment is not read.
    ///
    /// ```
    /// use restpipe::{Bind, IdentityFiles, ServerConfig};
    ///
    /// let mut config = ServerConfig::new(IdentityFiles::issued("/etc/pki", "hub.example.com"));
    /// config.pipe_bind = ([0, 0, 0, 0], 4000).into();
    /// config.node.http_bind = Bind::Unix("/run/hub.sock".into());
    /// assert_eq!(config.node.reply_timeout.as_secs(), 60);
    /// ```
    pub fn new(identity: IdentityFiles) -> Self {
        let defaults = Self::from_environment(&Environment::default());
        let (mut config, _) = defaults.expect("the table's defaults are what the table accepts");
        config.node.set_identity(identity);
        config
    }

    /// Checks every value against the limits of the environment.
    pub fn check(&self) -> Result<(), ConfigError> {
        self.node.check()
    }
}

impl ClientConfig {
    /// A client with this identity and the documented defaults, for the server at `target`, a host
    /// name or an address, which is also the name to expect in the server's certificate. The
    /// environment is not read.
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// use restpipe::{ClientConfig, IdentityFiles};
    ///
    /// let identity = IdentityFiles::issued("/etc/pki", "web1");
    /// let mut config = ClientConfig::new(identity, "hub.example.com");
    /// assert_eq!((config.target_port, config.server_name.as_str()), (1234, "hub.example.com"));
    /// config.node.connection_wait = Duration::from_secs(2);
    /// ```
    pub fn new(identity: IdentityFiles, target: &str) -> Self {
        let defaults = Self::from_environment(&Environment::default());
        let (mut config, _) = defaults.expect("the table's defaults are what the table accepts");
        config.node.set_identity(identity);
        target.clone_into(&mut config.target_host);
        target.clone_into(&mut config.server_name);
        config
    }

    /// Checks every value against the limits of the environment.
    pub fn check(&self) -> Result<(), ConfigError> {
        self.node.check()?;
        accept(&var::TARGET_HOSTNAME, self.target_host.clone(), value::host)?;
        accept(&var::SERVER_NAME, self.server_name.clone(), value::host)?;
        accept(&var::TARGET_PORT, self.target_port.to_string(), value::target_port)?;
        for target in &self.further_targets {
            accept(&var::TARGET_HOSTNAME, target.host.clone(), value::host)?;
            accept(&var::SERVER_NAME, target.server_name.clone(), value::host)?;
            accept(&var::TARGET_PORT, target.port.to_string(), value::target_port)?;
        }
        let interval = self.heartbeat_interval;
        check(&var::HEARTBEAT_INTERVAL, interval, roles::heartbeat_interval)?;
        check(&var::HEARTBEAT_TIMEOUT, self.heartbeat_timeout, |text| {
            roles::heartbeat_timeout(text, interval)
        })
    }
}

impl NodeConfig {
    /// The file of revocation lists is beside the CA's certificate.
    fn set_identity(&mut self, identity: IdentityFiles) {
        let path = identity.ca.with_file_name(var::CRL.default);
        self.crl = CrlFile { path, required: false };
        self.identity = identity;
    }

    fn check(&self) -> Result<(), ConfigError> {
        check(&var::CONNECTION_WAIT, self.connection_wait, roles::connection_wait)?;
        check(&var::REPLY_TIMEOUT, self.reply_timeout, roles::reply_timeout)?;
        check(&var::EXEC_TIMEOUT, self.exec_timeout, roles::exec_timeout)?;
        check(&var::DRAIN, self.drain, roles::drain)?;
        accept(&var::MAX_BODY, self.max_body_bytes.to_string(), roles::max_body)
    }
}

impl IdentityFiles {
    /// The files of an identity as `rp_ca` writes them: `NAME.key.pem`, `NAME.crt.pem` and
    /// `ca.crt.pem` in one directory.
    pub fn issued(directory: impl AsRef<Path>, name: &str) -> Self {
        let in_directory = |file: String| -> PathBuf { directory.as_ref().join(file) };
        Self {
            key: in_directory(format!("{name}.key.pem")),
            crt: in_directory(format!("{name}.crt.pem")),
            ca: in_directory("ca.crt.pem".to_owned()),
        }
    }
}

fn check(
    variable: &Variable,
    time: Duration,
    read: impl FnOnce(&str) -> Result<Duration, Expected>,
) -> Result<(), ConfigError> {
    accept(variable, time.as_secs_f64().to_string(), read)
}

/// A program may set only what the environment accepts.
fn accept<T>(
    variable: &Variable,
    given: String,
    read: impl FnOnce(&str) -> Result<T, Expected>,
) -> Result<(), ConfigError> {
    let name = variable.names[0].to_owned();
    read(&given).map(drop).map_err(|expected| ConfigError::Value {
        name,
        origin: SettingOrigin::Program,
        given,
        accepted: expected,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity() -> IdentityFiles {
        IdentityFiles::issued("/pki", "web1")
    }

    #[test]
    fn all_but_the_identity_is_as_without_any_variable() {
        let server = ServerConfig::new(identity());
        assert_eq!(server.node.identity.key, Path::new("/pki/web1.key.pem"));
        assert_eq!(server.node.crl.path, Path::new("/pki/ca.crl.pem"));
        assert_eq!(server.check(), Ok(()));
        let (mut other, _) = ServerConfig::from_environment(&Environment::default()).unwrap();
        other.node.identity = server.node.identity.clone();
        other.node.crl = server.node.crl.clone();
        assert_eq!(format!("{server:?}"), format!("{other:?}"));

        let client = ClientConfig::new(identity(), "hub");
        assert_eq!((client.target_host.as_str(), client.server_name.as_str()), ("hub", "hub"));
        assert_eq!(client.target_port, 1234);
        assert_eq!(client.check(), Ok(()));
    }

    /// A CA file with the usual name of a revocation list is odd but must not panic.
    #[test]
    fn any_file_names_will_do() {
        let ca = PathBuf::from("/pki/ca.crl.pem");
        ServerConfig::new(IdentityFiles { ca: ca.clone(), ..identity() });
        ClientConfig::new(IdentityFiles { ca, ..identity() }, "");
    }

    #[test]
    fn what_the_environment_may_not_set_a_program_may_not() {
        let refused = |change: fn(&mut ClientConfig)| {
            let mut config = ClientConfig::new(identity(), "hub");
            change(&mut config);
            config.check().unwrap_err().to_string()
        };
        let text = refused(|c| c.node.reply_timeout = Duration::ZERO);
        assert_eq!(
            text,
            "RP_REPLY_TIMEOUT_S, set by the program, is \"0\"; accepted is a number of seconds from \
             0.1 to 86400, such as 2 or 0.5"
        );
        for (change, name) in [
            ((|c| c.node.connection_wait = Duration::MAX) as fn(&mut ClientConfig), "RP_CONN"),
            (|c| c.target_host.clear(), "RP_CLIENT_TARGET_HOSTNAME"),
            (|c| c.server_name.push(' '), "RP_CLIENT_SERVER_NAME"),
            (|c| c.target_port = 0, "RP_CLIENT_TARGET_PORT"),
            (|c| c.node.drain = Duration::MAX, "RP_DRAIN_S"),
            (|c| c.node.max_body_bytes = usize::MAX, "RP_MAX_BODY_BYTES"),
            (|c| c.heartbeat_interval = Duration::ZERO, "RP_CLIENT_HEARTBEAT_INTERVAL_S"),
            (|c| c.heartbeat_timeout = c.heartbeat_interval, "RP_CLIENT_HEARTBEAT_TIMEOUT_S"),
        ] {
            let text = refused(change);
            assert!(text.starts_with(name), "{text}");
        }
    }
}
