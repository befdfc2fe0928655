//! Programs that are run for connection events, beside real nodes.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use std::thread;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::support::relay::Relay;
use crate::support::{Identities, PATIENCE, client, server, write_script};

const ON_SERVER: &str = "RP_SERVER_CONNECTION_STATE_CHANGE_EVENT_CLASS";
const ON_CLIENT: &str = "RP_CLIENT_CONNECTION_STATE_CHANGE_EVENT_CLASS";

/// A shell script in its own directory, with the file `out` beside it for its output.
struct Hook {
    dir: TempDir,
}

impl Hook {
    fn new(text: &str) -> Self {
        let hook = Self { dir: tempfile::tempdir().unwrap() };
        let script = format!("#!/bin/sh\ncd '{}' || exit 1\n{text}\n", hook.dir.path().display());
        write_script(&hook.script(), &script);
        hook
    }

    fn script(&self) -> PathBuf {
        self.dir.path().join("hook")
    }

    fn value(&self) -> String {
        format!("exec:{}", self.script().display())
    }

    fn said(&self) -> Vec<String> {
        let text = fs::read_to_string(self.dir.path().join("out")).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }

    /// Waits until it has written this many lines.
    fn wait_said(&self, lines: usize) -> Vec<String> {
        let until = Instant::now() + PATIENCE;
        loop {
            let said = self.said();
            if said.len() >= lines {
                return said;
            }
            assert!(Instant::now() < until, "it said only {said:?}");
            thread::sleep(Duration::from_millis(10));
        }
    }
}

/// Prints its input, and detects whether it runs twice concurrently.
const TELL: &str = "mkdir lock || echo overlap >>out
sleep 0.1
echo \"$* | $RP_EVENT $RP_PEER_NAME $RP_CONNECTION_COUNT\" >>out
rmdir lock";

#[test]
fn a_server_tells_who_comes_and_goes_in_order_and_one_at_a_time() {
    let names = ["a", "b", "c"];
    let identities = Identities::new(&names);
    let hook = Hook::new(TELL);
    let server = server(&identities).set(ON_SERVER, hook.value()).start();
    let mut clients: Vec<_> =
        names.iter().map(|name| client(&identities, name, server.pipe()).start()).collect();
    let said = hook.wait_said(3);
    for (at, line) in said.iter().enumerate() {
        let count = at + 1;
        let name = line.split(' ').nth(1).unwrap();
        let expected =
            format!("connection_added {name} 127.0.0.1 {count} | connection_added {name} {count}");
        assert_eq!(*line, expected, "{said:?}");
    }
    for client in &mut clients {
        client.signal("TERM");
    }
    let said = hook.wait_said(6);
    for (line, count) in said[3..].iter().zip([2, 1, 0]) {
        assert!(line.starts_with("connection_removed "), "{said:?}");
        assert!(line.contains(&format!(" 127.0.0.1 {count} | ")), "{said:?}");
    }
    assert!(!server.log().iter().any(|line| line.contains(" WARN ")), "{:#?}", server.log());
}

#[test]
fn a_client_tells_that_it_is_connected_and_that_it_is_not() {
    let identities = Identities::new(&["web1"]);
    let server = server(&identities).start();
    let relay = Relay::to(server.pipe());
    let hook = Hook::new(
        "echo \"$1 $2 $3\" >>out; env | sed -n 's/^RP_/ RP_/p' | cut -d= -f1 | sort >new; mv new names",
    );
    let began = now();
    let client = client(&identities, "web1", relay.address()).set(ON_CLIENT, hook.value()).start();
    assert_eq!(hook.wait_said(1), ["connect_success localhost 127.0.0.1"]);
    relay.cut_and_stay_cut();
    let said = hook.wait_said(3);
    for (line, attempts) in said[1..].iter().zip(1..) {
        let words: Vec<&str> = line.split(' ').collect();
        assert_eq!(words[..2], ["connect_fail", &attempts.to_string()], "{said:?}");
        let lost_at: u64 = words[2].parse().unwrap();
        assert!((began..=now()).contains(&lost_at), "{said:?}");
    }
    let names = fs::read_to_string(hook.dir.path().join("names")).unwrap();
    let names: Vec<&str> = names.split_whitespace().collect();
    assert_eq!(names, ["RP_ATTEMPTS", "RP_EVENT", "RP_LOST_AT", "RP_REASON"]);
    relay.mend();
    let until = Instant::now() + PATIENCE;
    while hook.said().last().is_none_or(|line| !line.starts_with("connect_success")) {
        assert!(Instant::now() < until, "{:?}", hook.said());
        thread::sleep(Duration::from_millis(10));
    }
    drop(client);
}

fn now() -> u64 {
    std::time::UNIX_EPOCH.elapsed().unwrap().as_secs()
}

#[test]
fn one_that_hangs_is_killed_and_holds_up_nothing() {
    let identities = Identities::new(&["a", "b"]);
    // The first hangs, with a child that hangs too.
    let hook = Hook::new(
        "test -e pid || { sleep 1000 & echo $! >pid.new; mv pid.new pid; wait; }; echo \"$*\" >>out",
    );
    let server = server(&identities).set(ON_SERVER, hook.value()).start();
    let first = client(&identities, "a", server.pipe()).start();
    let began = Instant::now();
    let pid = loop {
        match fs::read_to_string(hook.dir.path().join("pid")) {
            Ok(pid) => break pid.trim().to_owned(),
            Err(_) => thread::sleep(Duration::from_millis(5)),
        }
        assert!(began.elapsed() < PATIENCE);
    };
    // Meanwhile everything works: another client connects, both sides send requests, one disconnects.
    let second = client(&identities, "b", server.pipe()).start();
    assert_eq!(second.get_when_up("/server/time").status, 200);
    assert_eq!(server.get_when_up("/client/b/time").status, 200);
    assert_eq!(first.get("/server/time").status, 200);
    drop(second);
    assert_eq!(hook.said(), [""; 0]);
    assert!(began.elapsed() < Duration::from_secs(9), "{:?}", began.elapsed());

    server.wait_log(&["WARN", "/hook connection_added: killed after 10 s"]);
    assert!(began.elapsed() >= Duration::from_secs(9), "{:?}", began.elapsed());
    assert_eq!(
        hook.wait_said(2),
        ["connection_added b 127.0.0.1 2", "connection_removed b 127.0.0.1 1"]
    );
    wait_gone(&pid);
}

/// Waits until a process has ended, reaped or not.
fn wait_gone(pid: &str) {
    let state = || fs::read_to_string(Path::new("/proc").join(pid).join("stat"));
    let until = Instant::now() + PATIENCE;
    while state().is_ok_and(|state| !state.contains(") Z ")) {
        assert!(Instant::now() < until, "{pid} lives on");
        thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn one_that_hangs_does_not_hold_up_the_end() {
    let identities = Identities::new(&["a"]);
    let hook = Hook::new("echo $$ >pid.new; mv pid.new pid; exec sleep 1000");
    let mut server = server(&identities).set(ON_SERVER, hook.value()).start();
    let _client = client(&identities, "a", server.pipe()).start();
    let until = Instant::now() + PATIENCE;
    let pid = hook.dir.path().join("pid");
    while !pid.exists() {
        assert!(Instant::now() < until);
        thread::sleep(Duration::from_millis(5));
    }
    let asked = Instant::now();
    server.signal("TERM");
    assert!(server.wait_exit().success());
    assert!(asked.elapsed() < Duration::from_secs(8), "{:?}", asked.elapsed());
    wait_gone(fs::read_to_string(pid).unwrap().trim());
    server.wait_log(&["WARN", "connection_added: killed, for the node has stopped"]);
}

#[test]
fn failures_are_one_line_each() {
    let identities = Identities::new(&["a"]);
    let hook = Hook::new("echo first >&2; printf 'no\\033way' >&2; exit 7");
    let server = server(&identities).set(ON_SERVER, hook.value()).start();
    let client = client(&identities, "a", server.pipe()).start();
    server.wait_log(&["WARN", "/hook connection_added: exit status: 7: no\\u{1b}way"]);
    // The script may be missing at the next event.
    fs::remove_file(hook.script()).unwrap();
    drop(client);
    server.wait_log(&["WARN", "/hook connection_removed: cannot be started: No such file"]);
}

#[test]
fn an_unusable_value_is_one_line_at_start() {
    let identities = Identities::new(&["a"]);
    let hook = Hook::new("exit 0");
    fs::set_permissions(hook.script(), fs::Permissions::from_mode(0o644)).unwrap();
    let not_executable = hook.value();
    let form =
        "accepted is exec: and the absolute path of a program, such as exec:/etc/restpipe/changed";
    let cases = [
        ("rpipe.state_change_event.ClientStateChangeEvent", form, 2),
        ("exec:", form, 2),
        ("exec:hook", form, 2),
        ("exec:/no/such/hook", "exec:/no/such/hook: No such file or directory", 1),
        ("exec:/tmp", "exec:/tmp: not a file", 1),
        (&not_executable, ": not executable (chmod +x)", 1),
    ];
    let free = "127.0.0.1:1".parse().unwrap();
    for (setup, name) in
        [(server(&identities), ON_SERVER), (client(&identities, "a", free), ON_CLIENT)]
    {
        let mut setup = setup;
        for (value, expected, code) in cases {
            setup = setup.set(name, value);
            let output = setup.command().output().unwrap();
            assert_eq!(output.status.code(), Some(code), "{value}: {output:?}");
            let said = String::from_utf8(output.stderr).unwrap();
            let lines: Vec<&str> = said.lines().collect();
            assert_eq!(lines.len(), 1, "{said}");
            assert!(lines[0].contains(name) && lines[0].contains(expected), "{said}");
        }
    }
}
