//! OpenSSH: a private sshd on loopback with throw-away keys, and clients that reach it through a
//! `ProxyCommand`.

use std::fs;
use std::io::Write;
use std::net::{Ipv4Addr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use super::PATIENCE;
use super::port::free_port;

/// A running sshd. Dropping it stops the process.
pub struct Sshd {
    dir: tempfile::TempDir,
    port: u16,
    process: Child,
}

impl Sshd {
    pub fn start() -> Self {
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
        // As root, sshd requires this empty directory; it exists where sshd runs as a service.
        let _ = fs::create_dir("/run/sshd");
        let process = Command::new(if PathBuf::from("/usr/sbin/sshd").exists() {
            "/usr/sbin/sshd"
        } else {
            "/usr/bin/sshd"
        })
        .args(["-D", "-e", "-f", &at("sshd_config")])
        .stdin(Stdio::null())
        .stderr(fs::File::create(at("sshd.log")).unwrap())
        .spawn()
        .unwrap();
        let sshd = Self { dir, port, process };
        sshd.wait_listening();
        sshd
    }

    /// Its port on loopback.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// A directory for the test's own files.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// `ssh` or `scp`, ready but for its arguments; the host is called `home`.
    pub fn command(&self, program: &str, proxy_command: &str) -> Command {
        let at = |name: &str| self.dir.path().join(name).display().to_string();
        let mut command = Command::new(program);
        command.args(["-F", "none", "-i", &at("user")]);
        for option in [
            format!("ProxyCommand={proxy_command}"),
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

    /// An interactive session has a terminal and returns its exit code.
    pub fn assert_session(&self, proxy_command: &str) {
        let mut session = self
            .command("ssh", proxy_command)
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
    }

    /// Copies a file of 1 GiB to it.
    pub fn assert_gibibyte(&self, proxy_command: &str) {
        let (from, to) = (self.dir().join("from"), self.dir().join("to"));
        // Sparse except for its ends: it spares the disk, and reordered bytes would show.
        let mut file = fs::File::create(&from).unwrap();
        file.write_all(b"begin").unwrap();
        file.set_len((1 << 30) - 3).unwrap();
        drop(file);
        fs::OpenOptions::new().append(true).open(&from).unwrap().write_all(b"end").unwrap();
        let status = self
            .command("scp", proxy_command)
            .args(["-q", from.to_str().unwrap(), &format!("home:{}", to.display())])
            .status();
        assert!(status.unwrap().success());
        assert_eq!(fs::metadata(&to).unwrap().len(), 1 << 30);
        assert!(Command::new("cmp").args([&from, &to]).status().unwrap().success());
    }

    fn wait_listening(&self) {
        let until = Instant::now() + PATIENCE;
        while TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)).is_err() {
            assert!(Instant::now() < until, "sshd does not listen");
            thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for Sshd {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
