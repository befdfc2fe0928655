//! Whether enough files may be open for the role, its servers or clients, and its TCP ports.

use super::report::{CheckProblem, Report};
use super::steps::DESCRIPTORS;
use crate::config::NodeConfig;
use crate::handler::Role;

/// For the node itself, its local callers and its handlers.
const NODE: u64 = 252;
/// For connections to a server that have not authenticated yet.
const UNAUTHENTICATED: u64 = 512;
/// For each pipe.
const PIPE: u64 = 2;
/// A client has a second pipe to a server while it renews the first.
const PIPES_TO_SERVER: u64 = 2;
/// The fewest clients that a server should have room for.
const CLIENTS: u64 = 130;
/// For the connections of each TCP port and each TCP target.
const TCP: u64 = 64;

/// What a node needs, and how many clients that includes.
pub(super) struct Need {
    role: Role,
    files: u64,
    clients: u64,
}

impl Need {
    /// Of a node that dials this many servers; without a configuration the least of any.
    pub fn of(config: Option<&NodeConfig>, role: Role, servers: usize) -> Self {
        let tcp = config.map_or(0, |config| config.tcp_targets.len() + config.tcp_listen.len());
        let clients = if role == Role::Server { CLIENTS } else { 0 };
        let unauthenticated = if role == Role::Server { UNAUTHENTICATED } else { 0 };
        let pipes = clients + PIPES_TO_SERVER * servers as u64;
        Self { role, files: NODE + unauthenticated + PIPE * pipes + TCP * tcp as u64, clients }
    }

    /// Compares it with the limit.
    pub fn check(&self, limit: Option<u64>, report: &mut Report) {
        report.note(DESCRIPTORS, self.judge(limit));
    }

    fn judge(&self, limit: Option<u64>) -> Result<String, CheckProblem> {
        let Some(limit) = limit else { return Ok("any number of files may be open".to_owned()) };
        let Self { role, files, clients } = *self;
        if limit < files {
            let what = format!(
                "at most {limit} files may be open; this {} needs {files} for what is configured",
                role.as_str()
            );
            let advice = "raise the hard limit: `ulimit -n 4096` in a shell of root, LimitNOFILE= in \
                          a systemd unit";
            return Err(CheckProblem::new(what, advice));
        }
        let clients = clients + (limit - files) / PIPE;
        let room = match role {
            Role::Server => format!(", enough for {clients} clients"),
            Role::Client => String::new(),
        };
        Ok(format!("at most {limit} files may be open{room}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Address, IdentityFiles, ServerConfig};

    fn files(role: Role, servers: usize, targets: usize) -> u64 {
        let mut config = ServerConfig::new(IdentityFiles::issued("", "localhost")).node;
        for at in 0..targets {
            config.tcp_targets.insert(at.to_string(), Address::Tcp("h".to_owned(), 22));
        }
        Need::of(Some(&config), role, servers).files
    }

    #[test]
    fn servers_and_tcp_targets_count() {
        assert_eq!(files(Role::Server, 0, 0), 1024);
        assert_eq!(files(Role::Server, 0, 3), 1024 + 3 * TCP);
        assert_eq!(files(Role::Client, 1, 0), 256);
        assert_eq!(files(Role::Client, 5, 1), 272 + TCP);
        assert_eq!(Need::of(None, Role::Server, 0).files, 1024);
    }

    #[test]
    fn a_limit_that_is_enough_tells_for_how_many_clients() {
        let need = Need::of(None, Role::Server, 0);
        let judged = |limit| need.judge(limit).map_err(|_| ());
        assert_eq!(judged(Some(1023)), Err(()));
        assert!(judged(Some(1024)).unwrap().ends_with("enough for 130 clients"));
        assert!(judged(Some(65_536)).unwrap().ends_with("enough for 32386 clients"));
        assert_eq!(judged(None).unwrap(), "any number of files may be open");
    }
}
