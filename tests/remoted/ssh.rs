//! OpenSSH through a broker: an sshd of the test's own, reached by `ProxyCommand`.

use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use super::support::Node;
use super::whole::{Broker, Killed, free_port, wait_listening};

struct Ssh {
    dir: tempfile::TempDir,
    proxy_command: String,
    broker: Broker,
    _publish: Node,
    _sshd: Killed,
}

impl Ssh {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name).display().to_string();
        for name in ["host", "user"] {
            let made = Command::new("ssh-keygen")
                .args(["-q", "-t", "ed25519", "-N", "", "-f", &at(name)])
                .status();
            assert!(made.unwrap().success());
        }
        let port = free_port();
        let host = fs::read_to_string(at("host.pub")).unwrap();
        fs::write(at("known_hosts"), format!("home {host}")).unwrap();
        fs::copy(at("user.pub"), at("authorized_keys")).unwrap();
        fs::write(
            at("sshd_config"),
            format!(
                "Port {port}\nListenAddress 127.0.0.1\nHostKey {}\nPidFile none\n\
                 AuthorizedKeysFile {}\nStrictModes no\nUsePAM no\nPasswordAuthentication no\n\
                 PermitRootLogin prohibit-password\nSubsystem sftp internal-sftp\n",
                at("host"),
                at("authorized_keys")
            ),
        )
        .unwrap();
        // Run by root, sshd insists on this empty directory; it exists where sshd is a service.
        let _ = fs::create_dir("/run/sshd");
        let sshd = Command::new(if PathBuf::from("/usr/sbin/sshd").exists() {
            "/usr/sbin/sshd"
        } else {
            "/usr/bin/sshd"
        })
        .args(["-D", "-e", "-f", &at("sshd_config")])
        .stdin(Stdio::null())
        .stderr(fs::File::create(at("sshd.log")).unwrap())
        .spawn()
        .unwrap();
        let sshd = Killed(sshd);
        wait_listening(port);
        let broker = Broker::start(&[]);
        let publish = broker.publish("/ssh", &format!("127.0.0.1:{port}"), &[]);
        let key = at("caller.key");
        fs::write(&key, broker.callers()).unwrap();
        fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).unwrap();
        let proxy_command = format!(
            "{} connect --stdio --key-file {key} rwr://{}/ssh",
            env!("CARGO_BIN_EXE_rp_remoted"),
            broker.address()
        );
        Self { dir, proxy_command, broker, _publish: publish, _sshd: sshd }
    }

    /// `ssh` or `scp` with everything but what to do.
    fn command(&self, program: &str) -> Command {
        let at = |name: &str| self.dir.path().join(name).display().to_string();
        let mut command = Command::new(program);
        command.args(["-F", "none", "-i", &at("user")]);
        for option in [
            format!("ProxyCommand={}", self.proxy_command),
            format!("UserKnownHostsFile={}", at("known_hosts")),
            "GlobalKnownHostsFile=none".to_owned(),
            "StrictHostKeyChecking=yes".to_owned(),
            "BatchMode=yes".to_owned(),
            "IdentitiesOnly=yes".to_owned(),
        ] {
            command.args(["-o", &option]);
        }
        command
    }
}

#[test]
fn a_session_is_interactive_and_its_exit_code_arrives() {
    let ssh = Ssh::new();
    let mut command = ssh.command("ssh");
    let mut session = command
        .args(["-tt", "home", "sh"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = session.stdin.take().unwrap();
    input.write_all(b"tty; echo $((6 * 7)) is the answer; exit 3\n").unwrap();
    let output = session.wait_with_output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(text.contains("/dev/pts/") && text.contains("42 is the answer"), "{output:?}");
    assert_eq!(output.status.code(), Some(3), "{output:?}");
    // The command line of the ProxyCommand is there for everybody to see; the key is not.
    assert!(!ssh.proxy_command.contains(ssh.broker.callers()));
}

#[test]
fn a_gibibyte_is_copied() {
    let ssh = Ssh::new();
    let (from, to) = (ssh.dir.path().join("from"), ssh.dir.path().join("to"));
    // Sparse but for its ends, so that the disk is spared and an exchange of bytes would be seen.
    let mut file = fs::File::create(&from).unwrap();
    file.write_all(b"begin").unwrap();
    file.set_len((1 << 30) - 3).unwrap();
    drop(file);
    fs::OpenOptions::new().append(true).open(&from).unwrap().write_all(b"end").unwrap();
    let status = ssh
        .command("scp")
        .args(["-q", from.to_str().unwrap(), &format!("home:{}", to.display())])
        .status();
    assert!(status.unwrap().success());
    assert_eq!(fs::metadata(&to).unwrap().len(), 1 << 30);
    assert!(Command::new("cmp").args([&from, &to]).status().unwrap().success());
}
