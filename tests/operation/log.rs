//! The log of a program: its formats, and a destination that is full or that nobody reads.

use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::Command;
use std::time::Instant;

use crate::support::scene::wait_until;
use crate::support::{self, Identities, Node, PATIENCE, client, server};

#[test]
fn json_is_one_object_a_line() {
    let identities = Identities::new(&[]);
    // A name that a private CA may well issue.
    let name = "\"}{\\ <web1>";
    support::tls::issue(&identities, "odd", |params| {
        params.distinguished_name.push(rcgen::DnType::CommonName, name);
    });
    let server = server(&identities).set("RP_LOG_FORMAT", "json").start();
    let client = client(&identities, "odd", server.pipe()).start();
    client.get_when_up("/server/time");
    drop(client);
    server.wait_log(&["lost"]);
    let lines: Vec<serde_json::Value> =
        server.log().iter().map(|line| serde_json::from_str(line).expect(line)).collect();
    for line in &lines {
        assert_eq!(line.as_object().unwrap().len(), 3, "{line}");
        assert!(line["time"].as_str().unwrap().ends_with('Z'), "{line}");
        assert_eq!(line["level"], "info", "{line}");
    }
    let starts = format!("{name}: connected from 127.0.0.1:");
    assert!(lines[0]["message"].as_str().unwrap().starts_with(&starts), "{lines:#?}");
}

#[test]
fn another_form_is_an_error_before_anything_starts() {
    let identities = Identities::new(&[]);
    let output = server(&identities).set("RP_LOG_FORMAT", "xml").command().output().unwrap();
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("RP_LOG_FORMAT") && said.contains("text or json"), "{said}");
}

/// Writing there fails as on a full disk.
#[test]
fn a_full_disk_under_the_log_costs_lines_and_nothing_else() {
    let identities = Identities::new(&["web1"]);
    for format in ["text", "json"] {
        let setup = server(&identities).set("RP_LOG_FORMAT", format);
        let mut server = Node::start(setup.command_after("exec 2>/dev/full"));
        let client = client(&identities, "web1", server.pipe()).start();
        client.get_when_up("/server/time");
        for _ in 0..20 {
            assert_eq!(client.get("/server/time").status, 200);
            assert_eq!(server.get("/no-such-path").status, 404);
        }
        drop(client);
        wait_until(|| {
            let links = server.get("/status").json()["links"].as_array().map(Vec::len);
            (links != Some(0)).then(|| format!("{links:?}"))
        });
        assert!(server.runs());
        server.signal("TERM");
        assert!(server.wait_exit().success());
    }
}

/// A pipe that is full, and that nobody reads.
struct Stalled {
    dir: tempfile::TempDir,
    reader: File,
}

impl Stalled {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("stderr");
        assert!(Command::new("mkfifo").arg(&path).status().unwrap().success());
        // Both ends, so that opening does not wait.
        let mut reader = File::options().read(true).write(true).open(&path).unwrap();
        let size = rustix::pipe::fcntl_setpipe_size(&reader, 4096).unwrap();
        reader.write_all(&vec![b'\n'; size]).unwrap();
        Self { dir, reader }
    }

    fn path(&self) -> PathBuf {
        self.dir.path().join("stderr")
    }

    /// The command with this as its standard error, whose value is of interest only here.
    fn behind(&self, command: &Command) -> Command {
        let mut shell = Command::new("sh");
        let script = format!("exec \"$@\" 2>{}", self.path().display());
        shell.args(["-c", &script, "sh"]).arg(command.get_program()).args(command.get_args());
        shell.env_clear().env("PATH", std::env::var_os("PATH").unwrap());
        shell.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
        shell
    }

    /// Reads until a line has these words.
    fn read_until(self, words: &str) -> String {
        let lines = BufReader::new(self.reader).lines().map(Result::unwrap);
        lines.into_iter().find(|line| line.contains(words)).unwrap()
    }
}

/// SIGTERM ends it, with this code.
fn assert_ends(mut node: Node) {
    let began = Instant::now();
    node.signal("TERM");
    assert_eq!(node.wait_exit().code(), Some(0));
    assert!(began.elapsed() < PATIENCE / 2, "{:?}", began.elapsed());
}

#[test]
fn where_nobody_reads_the_log_requests_are_answered_and_lost_lines_are_counted() {
    let identities = Identities::new(&["web1"]);
    let [stalled, other] = [Stalled::new(), Stalled::new()];
    let setup = server(&identities).set("RUST_LOG", "trace");
    let server = Node::start(stalled.behind(&setup.command()));
    let setup = client(&identities, "web1", server.pipe()).set("RUST_LOG", "trace");
    let client = Node::start(other.behind(&setup.command()));
    client.get_when_up("/server/time");
    // Each is a line at least, and together more than the queue has.
    for _ in 0..1200 {
        assert_eq!(server.get("/client/web1/time").status, 200);
    }
    assert_eq!(client.get("/readyz").status, 200);
    let line = stalled.read_until("lines of the log are lost here: nobody read standard error");
    assert!(line.contains(" WARN  "), "{line}");
    // It goes on where somebody reads.
    assert_eq!(server.get("/client/web1/time").status, 200);
    assert_ends(client);
    assert_ends(server);
}

#[test]
fn where_nobody_reads_the_log_a_signal_ends_every_program() {
    let identities = Identities::new(&["web1"]);
    let stalled = Stalled::new();
    let start = |command: &Command| Node::launch(stalled.behind(command));
    let server = start(&server(&identities).set("DEBUG", "1").command());
    assert!(server.next_line().starts_with("ready "));
    assert_ends(server);

    let keys = identities.path("keys.json");
    let remoted = support::broker::remoted;
    assert!(remoted(&["keys", keys.to_str().unwrap()]).status().unwrap().success());
    let mut broker = remoted(&["broker"]);
    broker.env("RP_REMOTED_CONFIG", keys).env("RP_REMOTED_BIND", "127.0.0.1:0").env("DEBUG", "1");
    let broker = start(&broker);
    let line = broker.next_line();
    let address = line.strip_prefix("ready remoted=").unwrap();
    // A wrong key, so that it logs; and it never says that it is ready.
    let url = format!("rws://KEY@{address}/x");
    let mut publish = remoted(&["publish", &url, "--to", "127.0.0.1:9"]);
    let publish = start(publish.env("RUST_LOG", "trace"));
    wait_until(|| {
        let is_asleep = publish.status_number("Threads") > 3;
        (!is_asleep).then(|| "its threads have not started".to_owned())
    });
    assert_ends(publish);
    let url = format!("rwr://KEY@{address}/x");
    let mut connect = remoted(&["connect", &url, "--listen", "127.0.0.1:0"]);
    let connect = start(connect.env("RUST_LOG", "trace"));
    assert!(connect.next_line().starts_with("ready listen="));
    assert_ends(connect);
    assert_ends(broker);
}

#[test]
fn what_is_fatal_gets_out_or_is_given_up_but_ends_the_program() {
    let identities = Identities::new(&["web1"]);
    let held = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let setup = server(&identities).set("RP_SERVER_HTTP_BIND", held.local_addr().unwrap());
    for format in ["text", "json"] {
        let stalled = Stalled::new();
        let mut command = setup.command();
        command.env("RP_LOG_FORMAT", format);
        let mut node = Node::launch(stalled.behind(&command));
        let line = stalled.read_until("in use");
        assert!(line.contains("rp_server_start: "), "{line}");
        assert_eq!(node.wait_exit().code(), Some(1));

        let stalled = Stalled::new();
        let mut node = Node::launch(stalled.behind(&command));
        assert_eq!(node.wait_exit().code(), Some(1), "nobody reads, and it has to end");
    }
}

#[test]
fn the_last_lines_are_written_before_a_program_ends() {
    let identities = Identities::new(&["web1"]);
    for _ in 0..20 {
        let mut server = server(&identities).start();
        server.signal("TERM");
        assert!(server.wait_exit().success());
        server.wait_log(&["INFO  stopped"]);
    }
}
