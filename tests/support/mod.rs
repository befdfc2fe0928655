//! Shared by the process tests: throw-away identities, the built programs as processes, and a plain HTTP
//! client.
#![allow(dead_code, reason = "every test file uses its own part")]

pub mod alone;
pub mod broker;
pub mod browser;
pub mod inside;
pub mod message;
pub mod nginx;
pub mod peer;
pub mod port;
pub mod relay;
pub mod scene;
pub mod sshd;
pub mod tls;

use std::collections::HashMap;
use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// The longest wait in a test, unless it sets another.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// A CA and identities in a directory of their own.
pub struct Identities {
    dir: TempDir,
}

impl Identities {
    /// A CA, a server identity for `localhost`, and one for each client.
    pub fn new(clients: &[&str]) -> Self {
        let identities = Self { dir: tempfile::tempdir().unwrap() };
        identities.ca(&["init"]);
        identities.ca(&["issue", "localhost", "--server", "--san", "127.0.0.1", "--san", "::1"]);
        for client in clients {
            identities.ca(&["issue", client, "--client"]);
        }
        identities
    }

    /// An empty directory, for tests that make their own identities.
    pub fn none() -> Self {
        Self { dir: tempfile::tempdir().unwrap() }
    }

    pub fn ca(&self, arguments: &[&str]) {
        let output = Command::new(env!("CARGO_BIN_EXE_rp_ca"))
            .args(arguments)
            .arg("--dir")
            .arg(self.dir.path())
            .output()
            .unwrap();
        assert!(output.status.success(), "rp_ca {arguments:?}: {output:?}");
    }

    pub fn path(&self, file: &str) -> PathBuf {
        self.dir.path().join(file)
    }
}

/// A node to be started: environment variables on top of working defaults.
pub struct Setup {
    program: PathBuf,
    env: HashMap<String, String>,
}

/// A server on free ports, with `localhost`'s identity.
pub fn server(identities: &Identities) -> Setup {
    let mut setup = Setup::new(env!("CARGO_BIN_EXE_rp_server_start"));
    setup.identity("SERVER", identities, "localhost");
    setup
        .set("BIND_IP", "127.0.0.1")
        .set("BIND_PORT", "0")
        .set("RP_SERVER_HTTP_BIND", "127.0.0.1:0")
}

/// A client of the server at this address, with the identity of this name.
pub fn client(identities: &Identities, name: &str, pipe: SocketAddr) -> Setup {
    let mut setup = Setup::new(env!("CARGO_BIN_EXE_rp_client_start"));
    setup.identity("CLIENT", identities, name);
    setup
        .set("RP_CLIENT_TARGET_HOSTNAME", pipe.ip())
        .set("RP_CLIENT_TARGET_PORT", pipe.port())
        .set("RP_CLIENT_HTTP_BIND", "127.0.0.1:0")
}

impl Setup {
    fn new(program: &'static str) -> Self {
        Self { program: program.into(), env: HashMap::new() }
    }

    fn identity(&mut self, role: &str, identities: &Identities, name: &str) {
        let dir = identities.dir.path().to_str().unwrap().to_owned();
        self.env.insert(format!("RP_{role}_CERT_PATH"), dir);
        self.env.insert(format!("RP_{role}_KEY_FILENAME"), format!("{name}.key.pem"));
        self.env.insert(format!("RP_{role}_CRT_FILENAME"), format!("{name}.crt.pem"));
    }

    /// Sets a variable of the node's environment.
    pub fn set(mut self, name: &str, value: impl ToString) -> Self {
        self.env.insert(name.to_owned(), value.to_string());
        self
    }

    /// Runs another program instead of ours.
    pub fn program(mut self, program: impl Into<PathBuf>) -> Self {
        self.program = program.into();
        self
    }

    /// The command with its whole environment, for tests that start it themselves.
    pub fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        command.env_clear().envs(&self.env);
        command
    }

    /// As [`Setup::command`], run by a shell after `before`, for example `ulimit -n 64`.
    pub fn command_after(&self, before: &str) -> Command {
        let mut command = Command::new("sh");
        command.arg("-c").arg(format!("{before} && exec {}", self.program.display()));
        command.env_clear().envs(&self.env).env("PATH", std::env::var_os("PATH").unwrap());
        command
    }

    /// As [`Setup::command`], run by another program, for example `unshare`.
    pub fn command_under(&self, words: &[&str]) -> Command {
        let mut command = Command::new(words[0]);
        command.args(&words[1..]).arg(&self.program);
        command.env_clear().envs(&self.env).env("PATH", std::env::var_os("PATH").unwrap());
        command
    }

    /// The command with sockets passed as systemd does it: numbered from 3, with these names. Other processes
    /// started meanwhile inherit them, so such a test runs in [`alone::alone`].
    pub fn command_with_sockets(&self, sockets: &[(&str, BorrowedFd<'_>)]) -> HandedOver {
        const FIRST: i32 = 50;
        let mut script = String::new();
        let mut passed = Vec::new();
        for (at, (_, socket)) in sockets.iter().enumerate() {
            // Above the numbers that they will get, and not closed on `exec`.
            let socket = rustix::io::fcntl_dupfd_cloexec(socket, FIRST).unwrap();
            rustix::io::fcntl_setfd(&socket, rustix::io::FdFlags::empty()).unwrap();
            let number = socket.as_raw_fd();
            script.push_str(&format!("exec {}<&{number} {number}<&-\n", 3 + at));
            passed.push(socket);
        }
        script.push_str("LISTEN_PID=$$ exec \"$0\"");
        let names: Vec<&str> = sockets.iter().map(|(name, _)| *name).collect();
        let mut command = Command::new("bash");
        command.arg("-c").arg(script).arg(&self.program).env_clear().envs(&self.env);
        command.env("LISTEN_FDS", sockets.len().to_string()).env("LISTEN_FDNAMES", names.join(":"));
        HandedOver { command, _passed: passed }
    }

    /// Starts the node and waits for its ready line.
    pub fn start(&self) -> Node {
        Node::start(self.command())
    }
}

/// A command and its sockets, which stay open as long as this lives.
pub struct HandedOver {
    pub command: Command,
    _passed: Vec<OwnedFd>,
}

impl HandedOver {
    /// Starts the node and waits for its ready line.
    pub fn start(self) -> Node {
        Node::start(self.command)
    }
}

/// A running node. It is killed when dropped.
pub struct Node {
    child: Child,
    log: Arc<Log>,
    lines: crossbeam_channel::Receiver<String>,
    ready: Vec<(String, String)>,
}

#[derive(Default)]
struct Log {
    lines: Mutex<Vec<String>>,
    more: Condvar,
}

impl Node {
    /// Starts this command and waits for its ready line.
    pub fn start(command: Command) -> Self {
        let mut node = Self::launch(command);
        let line = node.next_line();
        let words = line.strip_prefix("ready ").unwrap_or_else(|| panic!("first line: {line}"));
        for word in words.split(' ') {
            let (name, value) = word.split_once('=').unwrap();
            node.ready.push((name.to_owned(), value.to_owned()));
        }
        node
    }

    /// Starts this command without waiting.
    pub fn launch(mut command: Command) -> Self {
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let log = Arc::new(Log::default());
        let stderr = BufReader::new(child.stderr.take().unwrap());
        let collected = Arc::clone(&log);
        thread::spawn(move || {
            for line in stderr.lines().map_while(Result::ok) {
                collected.lines.lock().unwrap().push(line);
                collected.more.notify_all();
            }
        });
        let (said, heard) = crossbeam_channel::unbounded();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        thread::spawn(move || {
            for line in stdout.lines().map_while(Result::ok) {
                let _ = said.send(line);
            }
        });
        Self { child, log, lines: heard, ready: Vec::new() }
    }

    /// The next line on its standard output.
    pub fn next_line(&self) -> String {
        self.lines.recv_timeout(PATIENCE).unwrap_or_else(|_| {
            panic!("no further line; the log is {:#?}", self.log());
        })
    }

    /// The first value of this name in the ready line, as printed.
    pub fn ready(&self, name: &str) -> &str {
        let all = self.ready_all(name);
        all.first().unwrap_or_else(|| panic!("no {name}= in {:?}", self.ready))
    }

    /// All values of this name in the ready line.
    pub fn ready_all(&self, name: &str) -> Vec<&str> {
        let named = self.ready.iter().filter(|(known, _)| known == name);
        named.map(|(_, value)| value.as_str()).collect()
    }

    /// The local HTTP port.
    pub fn http(&self) -> SocketAddr {
        self.ready("http").parse().unwrap()
    }

    /// The pipe port (server only).
    pub fn pipe(&self) -> SocketAddr {
        self.ready("pipe").parse().unwrap()
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// `GET` on the local port.
    pub fn get(&self, path: &str) -> Answer {
        self.ask("GET", path, &[], b"")
    }

    /// Sends any request to the local port, on a connection of its own.
    pub fn ask(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
        ask(self.http(), method, path, headers, body)
    }

    /// Repeats the request until the answer is 200, for a peer that is still connecting.
    pub fn get_when_up(&self, path: &str) -> Answer {
        self.get_when_up_or(path, 200)
    }

    /// As [`Node::get_when_up`], until the answer has this status.
    pub fn get_when_up_or(&self, path: &str, status: u16) -> Answer {
        let until = Instant::now() + PATIENCE;
        loop {
            let answer = self.ask("GET", path, &[("RP-Wait", "5")], b"");
            if answer.status == status {
                return answer;
            }
            assert!(Instant::now() < until, "{path} stays {answer:?}; log: {:#?}", self.log());
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// The log so far.
    pub fn log(&self) -> Vec<String> {
        // A failed wait has poisoned the lock; its test still needs the log.
        self.log.lines.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Waits for a log line that contains all of these, and returns it.
    pub fn wait_log(&self, parts: &[&str]) -> String {
        self.wait_log_from(0, parts)
    }

    /// As [`Node::wait_log`], without the first `skip` lines of the log.
    pub fn wait_log_from(&self, skip: usize, parts: &[&str]) -> String {
        let until = Instant::now() + PATIENCE;
        let mut lines = self.log.lines.lock().unwrap();
        loop {
            let found = lines.iter().skip(skip).find(|line| parts.iter().all(|p| line.contains(p)));
            if let Some(line) = found {
                return line.clone();
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                // Dropping the node shows the log again.
                let seen = lines.clone();
                drop(lines);
                panic!("no log line with {parts:?} in {seen:#?}");
            }
            lines = self.log.more.wait_timeout(lines, left).unwrap().0;
        }
    }

    /// Sends a signal by name: `TERM`, `INT`, `KILL`, `STOP`, `CONT`.
    pub fn signal(&self, name: &str) {
        let status = Command::new("kill")
            .arg(format!("-{name}"))
            .arg(self.child.id().to_string())
            .status()
            .unwrap();
        assert!(status.success());
    }

    /// Waits for the process to end.
    pub fn wait_exit(&mut self) -> ExitStatus {
        let until = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(Instant::now() < until, "it does not end; log: {:#?}", self.log());
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// Whether the process is still running.
    pub fn runs(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// The CPU time of all its threads.
    pub fn cpu_time(&self) -> Duration {
        let text = std::fs::read_to_string(format!("/proc/{}/stat", self.pid())).unwrap();
        // Fields 14 and 15, in hundredths of a second; field 2 is the name, in parentheses.
        let (_, fields) = text.rsplit_once(')').unwrap();
        let ticks = fields.split_whitespace().skip(11).take(2);
        Duration::from_millis(10 * ticks.map(|count| count.parse::<u64>().unwrap()).sum::<u64>())
    }

    /// A line of `/proc/PID/status`, such as `VmRSS` in kB or `Threads`.
    pub fn status_number(&self, field: &str) -> u64 {
        let text = std::fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap();
        let line = text.lines().find(|line| line.starts_with(field)).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if thread::panicking() {
            eprintln!("log of {}: {:#?}", self.child.id(), self.log());
        }
    }
}

/// Writes an executable script, through another process: a script that is open for writing cannot be executed,
/// and a child just forked by another test may have inherited our descriptor.
pub fn write_script(path: &Path, text: &str) {
    let mut install = Command::new("install");
    install.args(["-m755", "/dev/stdin"]).arg(path).stdin(Stdio::piped());
    let mut install = install.spawn().unwrap();
    install.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    assert!(install.wait().unwrap().success(), "{}", path.display());
}

/// An HTTP answer.
#[derive(Clone, Debug)]
pub struct Answer {
    pub status: u16,
    pub head: String,
    pub body: Vec<u8>,
}

impl Answer {
    /// The value of a header, if present.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().skip(1).find_map(|line| {
            let (found, value) = line.split_once(':')?;
            found.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }

    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|e| panic!("{e}: {self:?}"))
    }
}

/// Sends one request on a connection of its own.
pub fn ask(
    address: SocketAddr,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &[u8],
) -> Answer {
    let mut socket = TcpStream::connect(address).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    let mut request =
        format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n");
    for (name, value) in headers {
        request.push_str(&format!("{name}: {value}\r\n"));
    }
    if !body.is_empty() {
        request.push_str(&format!("Content-Length: {}\r\n", body.len()));
    }
    request.push_str("\r\n");
    let mut bytes = request.into_bytes();
    bytes.extend_from_slice(body);
    let mut writer = socket.try_clone().unwrap();
    let mut answer = Vec::new();
    thread::scope(|scope| {
        let mut write = || {
            // The node may refuse and close before it has read the body.
            let _ = writer.write_all(&bytes);
        };
        // The answer to a long body may start, and must be read, before the body ends.
        if bytes.len() > 65_536 {
            scope.spawn(write);
        } else {
            write();
        }
        let _ = socket.read_to_end(&mut answer);
    });
    parse_answer(&answer)
}

/// Parses one whole answer. Its `Content-Length` must match the body.
pub fn parse_answer(bytes: &[u8]) -> Answer {
    let end = bytes.windows(4).position(|four| four == b"\r\n\r\n");
    let end = end.unwrap_or_else(|| panic!("no answer: {:?}", String::from_utf8_lossy(bytes)));
    // Bytes above 127 become the characters of the same number.
    let head: String = bytes[..end].iter().map(|byte| char::from(*byte)).collect();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    Answer { status, head, body: bytes[end + 4..].to_vec() }
}

/// Whether these Debian packages are installed, each checked by one of its programs. If one is missing, prints
/// to the terminal, past the harness, what was skipped; with CI set, it panics.
pub fn has_all(packages: &[(&str, &str)]) -> bool {
    let missing: Vec<&str> = packages
        .iter()
        .filter(|(program, _)| !has_program(program))
        .map(|(_, package)| *package)
        .collect();
    missing.is_empty() || skip(&missing.join(" "))
}

/// Reports that a test was skipped because these packages are missing.
pub fn skip(packages: &str) -> bool {
    let line = format!("not installed: {packages}");
    assert!(std::env::var_os("CI").is_none(), "{line}, and where CI is set it has to be");
    say_skipped(&format!("{line} (Debian: apt-get install {packages})"));
    false
}

/// Reports past the harness that this test was skipped, and why.
pub fn say_skipped(why: &str) {
    let test = thread::current().name().unwrap_or("a test").to_owned();
    let mut stderr = std::io::stderr();
    writeln!(stderr, "\nSKIPPED: {test}: {why}").unwrap();
}

fn has_program(name: impl AsRef<OsStr>) -> bool {
    let dirs = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&dirs)
        .chain([PathBuf::from("/usr/sbin")])
        .any(|dir| Path::new(&dir).join(name.as_ref()).is_file())
}

/// A Debian package needed by tests, for [`has_all`].
pub const NGINX: (&str, &str) = ("nginx", "nginx-light");
pub const CURL: (&str, &str) = ("curl", "curl");
pub const PYTHON: (&str, &str) = ("python3", "python3");
pub const REDIS: (&str, &str) = ("redis-server", "redis-server");
pub const TINYPROXY: (&str, &str) = ("tinyproxy", "tinyproxy");
pub const SSH: [(&str, &str); 2] = [("ssh", "openssh-client"), ("sshd", "openssh-server")];
