//! A program run for each connection event.
//!
//! In scope: its input and its termination. Not in scope: when events occur, and running only one
//! program at a time (`lifecycle`).
//!
//! The program receives the event's name and values as arguments and as environment variables;
//! apart from these the environment holds only a `PATH`. Standard input and output are `/dev/null`.
//! After ten seconds, or when the node has stopped, the program is killed with all its descendants.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::event::peer::PeerIdentity;
use crate::lifecycle::{ConnectionEvent, Ending};
use crate::process::program::{PATH, is_executable, is_world_writable};
use crate::process::run::{RunEnd, run};

/// Maximum bytes of standard error kept, from its end.
const MAX_STDERR: usize = 1024;
/// Maximum characters of standard error in a log line.
const MAX_LOGGED: usize = 160;
/// Maximum run time.
const TIME_LIMIT: Duration = Duration::from_secs(10);

/// The variables in the program's environment besides `PATH`; a variable is set only if the event
/// has a value for it.
pub const VARIABLES: [&str; 8] =
    [EVENT, NAME, ADDRESS, FINGERPRINT, COUNT, ATTEMPTS, LOST_AT, REASON];
const EVENT: &str = "RP_EVENT";
const NAME: &str = "RP_PEER_NAME";
const ADDRESS: &str = "RP_PEER_ADDRESS";
const FINGERPRINT: &str = "RP_PEER_FINGERPRINT";
const COUNT: &str = "RP_CONNECTION_COUNT";
const ATTEMPTS: &str = "RP_ATTEMPTS";
const LOST_AT: &str = "RP_LOST_AT";
const REASON: &str = "RP_REASON";

/// An executable hook program.
pub struct HookProgram {
    path: PathBuf,
    time_limit: Duration,
    ending: Arc<Ending>,
}

/// Why a program cannot be used as a hook.
#[derive(Debug, thiserror::Error)]
#[error("exec:{}: {why}", .path.display().to_string().escape_debug())]
pub struct Unusable {
    path: PathBuf,
    why: String,
}

impl HookProgram {
    /// The program at this absolute path. `ending` shortens its run time when the node stops.
    pub fn new(path: &Path, ending: Arc<Ending>) -> Result<Self, Unusable> {
        let unusable = |why: String| Unusable { path: path.to_owned(), why };
        if !path.is_absolute() {
            return Err(unusable("not an absolute path".to_owned()));
        }
        let metadata = fs::metadata(path).map_err(|error| unusable(error.to_string()))?;
        if !metadata.is_file() {
            return Err(unusable("not a file".to_owned()));
        }
        if !is_executable(&metadata) {
            return Err(unusable("not executable (chmod +x)".to_owned()));
        }
        if is_world_writable(&metadata) {
            let why = "everybody may write to it, and so decide what is run (chmod o-w)";
            return Err(unusable(why.to_owned()));
        }
        Ok(Self { path: path.to_owned(), time_limit: TIME_LIMIT, ending })
    }

    /// Runs the program for this event and waits for it to exit. A failure is logged in one line.
    pub fn run(&self, event: &ConnectionEvent) {
        if let Err(why) = self.try_run(event) {
            let path = self.path.display().to_string();
            log::warn!("{} {}: {why}", path.escape_debug(), event.name());
        }
    }

    fn try_run(&self, event: &ConnectionEvent) -> Result<(), String> {
        let values = Values::of(event);
        let mut command = Command::new(&self.path);
        command.arg(event.name()).args(&values.arguments);
        command.env_clear().env("PATH", PATH).env(EVENT, event.name()).envs(values.variables);
        let own = Instant::now() + self.time_limit;
        let deadline = || self.ending.deadline().map_or(own, |end| end.min(own));
        let (end, stderr) =
            run(&mut command, MAX_STDERR, deadline).map_err(|error| error.to_string())?;
        match end {
            RunEnd::Exited(status) if status.success() => Ok(()),
            RunEnd::Exited(status) => Err(format!("{status}{}", last_line(&stderr))),
            RunEnd::Killed if self.ending.deadline().is_some() => {
                Err("killed, for the node has stopped".to_owned())
            }
            RunEnd::Killed => Err(format!("killed after {} s", self.time_limit.as_secs_f64())),
        }
    }
}

/// The last line of standard error, formatted as the end of a log line.
fn last_line(stderr: &str) -> String {
    stderr.lines().next_back().map_or_else(String::new, |line| {
        let shown: String = line.trim().chars().take(MAX_LOGGED).collect();
        format!(": {}", shown.escape_debug())
    })
}

/// The values of one event.
#[derive(Default)]
struct Values {
    arguments: Vec<String>,
    variables: Vec<(&'static str, String)>,
}

impl Values {
    fn of(event: &ConnectionEvent) -> Self {
        let mut values = Self::default();
        match event {
            ConnectionEvent::ConnectSuccess { peer } => values.peer(peer),
            ConnectionEvent::ConnectFail { attempts, lost_at, reason } => {
                values.add(ATTEMPTS, attempts.to_string());
                values.add(LOST_AT, lost_at.map_or_else(String::new, unix_seconds));
                values.add(REASON, reason.replace('\0', ""));
            }
            ConnectionEvent::ConnectionAdded { peer, count }
            | ConnectionEvent::ConnectionRemoved { peer, count } => {
                values.peer(peer);
                values.add(COUNT, count.to_string());
            }
            ConnectionEvent::Idle => {}
        }
        values
    }

    /// Adds an argument that is also a variable.
    fn add(&mut self, name: &'static str, value: String) {
        self.arguments.push(value.clone());
        self.variables.push((name, value));
    }

    fn peer(&mut self, peer: &PeerIdentity) {
        self.add(NAME, peer.name.clone());
        self.add(ADDRESS, peer.address.to_string());
        self.variables.push((FINGERPRINT, peer.fingerprint.clone()));
    }
}

fn unix_seconds(time: SystemTime) -> String {
    time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs()).to_string()
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::net::Ipv4Addr;
    use std::os::unix::fs::PermissionsExt;
    use std::process::Stdio;

    use super::*;

    fn script(dir: &Path, text: &str, mode: u32) -> PathBuf {
        let path = dir.join("hook");
        // Written by another process: a file that is open for writing in any child of this process,
        // however briefly, cannot be executed.
        let mut cp = Command::new("cp").arg("/dev/stdin").arg(&path).stdin(Stdio::piped()).spawn();
        let cp = cp.as_mut().unwrap();
        write!(cp.stdin.take().unwrap(), "#!/bin/sh\n{text}\n").unwrap();
        assert!(cp.wait().unwrap().success());
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        path
    }

    fn event() -> ConnectionEvent {
        let address = Ipv4Addr::LOCALHOST.into();
        let peer = PeerIdentity { name: "web1".into(), fingerprint: "ab".into(), address };
        ConnectionEvent::ConnectionAdded { peer: Arc::new(peer), count: 3 }
    }

    #[test]
    fn it_gets_name_and_values_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let out = dir.path().join("out");
        let text = format!("echo \"$@\" >'{0}'; env | grep -v PWD | sort >>'{0}'", out.display());
        let program = HookProgram::new(&script(dir.path(), &text, 0o755), Arc::default()).unwrap();
        assert_eq!(program.try_run(&event()), Ok(()));
        let said = fs::read_to_string(&out).unwrap();
        let mut lines: Vec<&str> = said.lines().collect();
        // Set by the shell itself.
        lines.retain(|line| !line.starts_with("_=") && !line.starts_with("SHLVL="));
        assert_eq!(
            lines,
            [
                "connection_added web1 127.0.0.1 3",
                &format!("PATH={PATH}"),
                "RP_CONNECTION_COUNT=3",
                "RP_EVENT=connection_added",
                "RP_PEER_ADDRESS=127.0.0.1",
                "RP_PEER_FINGERPRINT=ab",
                "RP_PEER_NAME=web1",
            ]
        );
        let lost_at = Some(UNIX_EPOCH + Duration::from_millis(7500));
        let fail =
            ConnectionEvent::ConnectFail { attempts: 2, lost_at, reason: "no\0 route".into() };
        assert_eq!(program.try_run(&fail), Ok(()));
        let said = fs::read_to_string(&out).unwrap();
        assert_eq!(said.lines().next(), Some("connect_fail 2 7 no route"));
    }

    #[test]
    fn a_failure_is_one_line_with_its_last_words() {
        let dir = tempfile::tempdir().unwrap();
        for (text, expected) in [
            ("exit 3", "exit status: 3"),
            ("echo one >&2; echo 'not \x1bso' >&2; exit 1", "exit status: 1: not \\u{1b}so"),
            ("kill -9 $$", "signal: 9 (SIGKILL)"),
            ("yes 12345678 | head -n 40000 >&2; exit 1", "exit status: 1: 12345678"),
        ] {
            let path = script(dir.path(), text, 0o755);
            let program = HookProgram::new(&path, Arc::default()).unwrap();
            assert_eq!(program.try_run(&event()), Err(expected.to_owned()), "{text}");
        }
    }

    #[test]
    fn one_that_hangs_is_killed_with_what_it_has_started() {
        let dir = tempfile::tempdir().unwrap();
        let pid = dir.path().join("pid");
        let text = format!("sleep 1000 & echo $! >'{}'; wait", pid.display());
        let mut program =
            HookProgram::new(&script(dir.path(), &text, 0o755), Arc::default()).unwrap();
        program.time_limit = Duration::from_millis(500);
        assert_eq!(program.try_run(&event()), Err("killed after 0.5 s".to_owned()));
        let pid = fs::read_to_string(pid).unwrap();
        let until = Instant::now() + Duration::from_secs(10);
        let state = || fs::read_to_string(format!("/proc/{}/stat", pid.trim()));
        // The process may not have been reaped yet.
        while state().is_ok_and(|state| !state.contains(") Z ")) {
            assert!(Instant::now() < until, "its child lives on");
            std::thread::yield_now();
        }
    }

    #[test]
    fn what_cannot_be_run_is_said_at_once() {
        let dir = tempfile::tempdir().unwrap();
        let refused =
            |path: &Path| HookProgram::new(path, Arc::default()).err().unwrap().to_string();
        assert_eq!(
            refused(Path::new("/no/such\nfile")),
            "exec:/no/such\\nfile: No such file or directory (os error 2)"
        );
        assert!(refused(Path::new("hook")).ends_with("hook: not an absolute path"));
        assert!(refused(dir.path()).ends_with(": not a file"));
        assert!(refused(&script(dir.path(), "", 0o644)).ends_with("not executable (chmod +x)"));
        assert!(refused(&script(dir.path(), "", 0o777)).contains("everybody may write"));
    }
}
