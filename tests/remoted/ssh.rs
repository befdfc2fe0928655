//! OpenSSH through a broker, reached by `ProxyCommand`.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use crate::processes::Broker;
use crate::support::sshd::Sshd;
use crate::support::{Node, SSH, has_all};

struct Ssh {
    sshd: Sshd,
    proxy_command: String,
    broker: Broker,
    _publish: Node,
}

impl Ssh {
    fn new() -> Self {
        let sshd = Sshd::start();
        let broker = Broker::start(&[]);
        let publish = broker.publish("/ssh", &format!("127.0.0.1:{}", sshd.port()), &[]);
        let key = sshd.dir().join("caller.key");
        fs::write(&key, broker.callers()).unwrap();
        fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).unwrap();
        let proxy_command = format!(
            "{} connect --stdio --key-file {} rwr://{}/ssh",
            env!("CARGO_BIN_EXE_rp_remoted"),
            key.display(),
            broker.address()
        );
        Self { sshd, proxy_command, broker, _publish: publish }
    }
}

#[test]
fn a_session_is_interactive_and_its_exit_code_arrives() {
    if !has_all(&SSH) {
        return;
    }
    let ssh = Ssh::new();
    ssh.sshd.assert_session(&ssh.proxy_command);
    // Every user can see the command line of the ProxyCommand; it must not contain the key.
    assert!(!ssh.proxy_command.contains(ssh.broker.callers()));
}

#[test]
fn a_gibibyte_is_copied() {
    if !has_all(&SSH) {
        return;
    }
    let ssh = Ssh::new();
    ssh.sshd.assert_gibibyte(&ssh.proxy_command);
}
