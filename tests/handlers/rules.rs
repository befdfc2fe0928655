//! What peers may request, by the rules of the handling side, on both sides of the pipe.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Output;
use std::time::{Duration, Instant};

use rcgen::DnType;
use serde_json::json;
use tempfile::TempDir;

use crate::support::message::event;
use crate::support::peer::Peer;
use crate::support::tls::{dialing, issue};
use crate::support::{Answer, Identities, Setup, client, server};

/// A rules file in a directory of its own.
struct RulesFile {
    dir: TempDir,
}

impl RulesFile {
    fn new(content: impl AsRef<[u8]>) -> Self {
        let file = Self { dir: tempfile::tempdir().unwrap() };
        fs::write(file.path(), content).unwrap();
        file
    }

    fn path(&self) -> PathBuf {
        self.dir.path().join("rules")
    }
}

fn ruled(setup: Setup, file: &RulesFile) -> Setup {
    setup.set("RP_RULES_FILE", file.path().display())
}

fn assert_refused(answer: &Answer) {
    assert_eq!((answer.status, answer.header("X-Event-Return-Code")), (403, Some("253")));
    assert_eq!(answer.header("Content-Type"), Some("application/json"));
    assert_eq!(answer.json()["error"], "refused");
    assert!(answer.json()["message"].is_string(), "{answer:?}");
}

#[test]
fn a_server_answers_only_what_its_rules_allow() {
    let file = RulesFile::new("# who may ask the time\nallow ALPHA get time\nallow b* GET cat\n");
    let identities = Identities::new(&["alpha", "beta"]);
    let server = ruled(server(&identities), &file).start();
    server.wait_log(&["rules: 2 lines of ", "limit what peers may request"]);
    let alpha = client(&identities, "alpha", server.pipe()).start();
    let beta = client(&identities, "beta", server.pipe()).start();
    alpha.get_when_up("/server/time");
    beta.get_when_up("/server/cat//x");

    assert_eq!(alpha.ask("HEAD", "/server/time", &[], b"").status, 200);
    assert_eq!(beta.get("/server/cat//a%2Fb/c?q=1").json(), json!({"result_from_server": "a/bc"}));
    for (asker, method, path) in [
        (&alpha, "GET", "/server/cat//x"),
        (&alpha, "POST", "/server/time"),
        (&alpha, "GET", "/server/Time"),
        (&alpha, "GET", "/server/time/"),
        // Without permission, a noun without a handler looks like any other.
        (&alpha, "GET", "/server/nothing"),
        (&beta, "GET", "/server/time"),
    ] {
        assert_refused(&asker.ask(method, path, &[], b""));
    }
    let head = alpha.ask("HEAD", "/server/cat", &[], b"");
    assert_eq!((head.status, head.body.len()), (403, 0));
    // The client has no rules, so its server may request anything.
    assert_eq!(server.get("/client/alpha/cat//x").status, 200);
    assert_eq!(server.get("/client/alpha/nothing").status, 404);
}

#[test]
fn a_client_answers_only_what_its_rules_allow_to_the_servers_name() {
    let identities = Identities::new(&["gamma"]);
    let server = server(&identities).start();
    let file = RulesFile::new("allow localhost get t*\n");
    let client = ruled(client(&identities, "gamma", server.pipe()), &file).start();
    client.get_when_up("/server/time");
    assert_eq!(server.get("/client/gamma/time").status, 200);
    assert_eq!(server.get("/client/gamma/time/nothing").status, 404);
    assert_refused(&server.get("/client/gamma/cat//x"));
    let message = server.get("/client/gamma/cat//x").json()["message"].clone();
    assert_eq!(message, "the client's rules do not allow this request of localhost");
}

#[test]
fn an_empty_file_allows_nothing_and_the_log_says_so_once() {
    let file = RulesFile::new("# nothing yet\n");
    let identities = Identities::new(&["delta"]);
    let server = ruled(server(&identities), &file).start();
    server.wait_log(&["WARN", "allows nothing: every request from a peer is refused"]);
    let client = client(&identities, "delta", server.pipe()).start();
    let skip = server.log().len();
    for _ in 0..100 {
        assert_refused(&client.ask("PUT", "/server/a%0Ab", &[("X-Request-Id", "my-id")], b"body"));
    }
    let line = server.wait_log_from(skip, &["WARN", "delta: refused request my-id: "]);
    assert!(line.contains(": put a\\nb"), "{line}");
    assert!(line.contains(file.path().to_str().unwrap()), "{line}");
    let lines = server.log().split_off(skip);
    let refusals = lines.iter().filter(|line| line.contains("refused"));
    assert_eq!(refusals.count(), 1, "{lines:#?}");
}

#[test]
fn new_rules_are_taken_in_and_broken_ones_change_nothing() {
    let file = RulesFile::new("allow eta get time\n");
    let identities = Identities::new(&["eta"]);
    let server = ruled(server(&identities), &file).start();
    let client = client(&identities, "eta", server.pipe()).start();
    client.get_when_up("/server/time");
    assert_refused(&client.get("/server/cat//x"));

    let rewrite = |content: &str| {
        // As careful programs write: complete, beside the old file, then renamed.
        let new = file.dir.path().join("new");
        fs::write(&new, content).unwrap();
        fs::rename(&new, file.path()).unwrap();
        server.log().len()
    };
    let skip = rewrite("allow eta get cat\n# nothing else\n");
    server.signal("HUP");
    server.wait_log_from(
        skip,
        &["INFO", "rules reloaded: 1 line of ", "limits what peers may request"],
    );
    assert_refused(&client.get("/server/time"));
    assert_eq!(client.get("/server/cat//x").status, 200);

    let skip = rewrite("allow eta get *\nallow * * \u{202e}\nallow\0\n");
    server.signal("HUP");
    let line = server.wait_log_from(skip, &["ERROR", "rules not reloaded, the old ones stay: "]);
    assert!(line.ends_with("/rules: line 3: the character U+0000; write it as %XX"), "{line}");
    assert_refused(&client.get("/server/time"));
    assert_eq!(client.get("/server/cat//x").status, 200);

    // Also by itself; a fault is logged once.
    let skip = rewrite("");
    let changed = Instant::now();
    server.wait_log_from(skip, &["WARN", "rules reloaded: ", "allows nothing"]);
    assert!(changed.elapsed() < Duration::from_secs(10), "{:?}", changed.elapsed());
    assert_refused(&client.get("/server/cat//x"));
    let skip = server.log().len();
    fs::remove_file(file.path()).unwrap();
    server.wait_log_from(skip, &["ERROR", "the old ones stay", "/rules: No such file"]);
    assert_refused(&client.get("/server/cat//x"));
    let skip = rewrite("allow * * *\n");
    server.wait_log_from(skip, &["INFO", "rules reloaded: 1 line of "]);
    assert_eq!(client.get("/server/cat//x").status, 200);
    let faults = server.log().iter().filter(|line| line.contains("rules not reloaded")).count();
    assert_eq!(faults, 2, "{:#?}", server.log());
}

#[test]
fn an_original_peer_is_refused_with_the_code() {
    let file = RulesFile::new("allow epsilon get time\n");
    let identities = Identities::new(&["epsilon"]);
    let server = ruled(server(&identities), &file).start();
    let mut peer = Peer::dial(server.pipe(), dialing(Some((&identities, "epsilon")))).unwrap();
    peer.send(&event(1_000_000_007, "get", "cat//x", b"")).unwrap();
    let reply = peer.frame();
    assert_eq!((reply.kind, reply.id), (0x81, 1_000_000_007));
    let body = String::from_utf8_lossy(&reply.body).into_owned();
    // Field 3, the code, is 253; no extension follows the body.
    assert!(reply.body.windows(3).any(|bytes| bytes == [0x18, 0xfd, 0x01]), "{body}");
    assert!(body.ends_with("do not allow this request of epsilon\"}"), "{body}");
}

#[test]
fn odd_names_are_compared_as_they_are_and_logged_on_one_line() {
    let rules = "allow größe%20日本 get time\nallow web-* get *\nallow %2A.example get cat\n";
    let file = RulesFile::new(rules);
    let identities = Identities::new(&[]);
    let server = ruled(server(&identities), &file).start();
    let long = "x".repeat(250);
    let hostile_noun = "a\nERROR b\u{1b}[2J\u{2028}\u{202e}c*";
    let cases = [
        ("größe 日本", "time", 0),
        ("größe 日本", hostile_noun, 253),
        ("größe", "time", 253),
        // As a name an asterisk matches only itself.
        ("*", "time", 253),
        ("*.example", "cat", 0),
        ("a.example", "cat", 253),
        ("web-", "time", 0),
        (&long, &"*".repeat(256), 253),
        (&long, hostile_noun, 253),
    ];
    for (number, (name, noun, code)) in cases.into_iter().enumerate() {
        let files = format!("odd-{number}");
        issue(&identities, &files, |params| {
            params.distinguished_name.push(DnType::CommonName, name)
        });
        let mut peer = Peer::dial(server.pipe(), dialing(Some((&identities, &files)))).unwrap();
        peer.send(&event(1_000_000_007, "get", noun, b"")).unwrap();
        let reply = peer.frame_of(0x81).body;
        let is_refused = reply.windows(3).any(|bytes| bytes == [0x18, 0xfd, 0x01]);
        assert_eq!(is_refused, code == 253, "{name} {noun:?}: {reply:?}");
        if is_refused {
            server.wait_log(&["WARN", &format!(" {name}: refused request ")]);
        }
    }
    for line in server.log() {
        assert!(line.contains("Z INFO ") || line.contains("Z WARN "), "{line:?}");
        assert!(!line.contains(['\u{1b}', '\u{2028}', '\u{202e}']), "{line:?}");
    }
}

#[test]
fn a_file_that_cannot_be_used_keeps_the_node_from_starting() {
    let identities = Identities::new(&["zeta"]);
    let long = format!("allow zeta get {}\n", "x".repeat(1024));
    let cases: [(&[u8], &str); 6] = [
        (b"allow zeta get time\nalow zeta get cat\n", "line 2: begins with \"alow\""),
        (b"allow zeta get\n", "line 1: 2 words after allow; a line is: allow PEER VERB NOUN"),
        (b"\n\nallow zeta \xff\xfe time\n", "line 3: not UTF-8 text"),
        (b"allow zeta\x1b[2J get time\n", "line 1: the character U+001B"),
        (long.as_bytes(), "line 1: longer than 1024 bytes"),
        (&[b'\n'; 10_001], "line 10001 is beyond the limit"),
    ];
    for (content, expected) in cases {
        let file = RulesFile::new(content);
        let pipe = "127.0.0.1:1".parse().unwrap();
        for setup in [server(&identities), client(&identities, "zeta", pipe)] {
            let output = ruled(setup, &file).command().output().unwrap();
            assert_eq!(output.status.code(), Some(1), "{output:?}");
            assert_eq!(output.stdout, b"");
            let error = one_line(&output.stderr);
            let begin = format!("rules file {}: {expected}", file.path().display());
            assert!(error.contains(&begin), "{error}");
        }
    }
    let missing = server(&identities).set("RP_RULES_FILE", "/nowhere/rules").command();
    let output = { missing }.output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(one_line(&output.stderr).contains("rules file /nowhere/rules: No such file"));
}

#[test]
fn a_rule_can_be_asked_for_without_starting_anything() {
    let file =
        RulesFile::new("# all\nallow backup-* get time/*  # hourly\nallow gr%C3%B6%C3%9Fe * *\n");
    let path = file.path();
    let identities = Identities::new(&[]);
    let pipe = "127.0.0.1:1".parse().unwrap();
    for setup in [server(&identities), client(&identities, "none", pipe)] {
        let check = |path: &Path, arguments: &[&str]| {
            let mut command = setup.command();
            command.env("RP_RULES_FILE", path).arg("--check-rule").args(arguments);
            command.output().unwrap()
        };
        let shown = path.display();
        let by_line_2 =
            format!("allowed by {shown}, line 2: allow backup-* get time/*  # hourly\n");
        let refused = format!("refused: no line of {shown} allows it\n");
        for (arguments, code, said) in [
            (["BACKUP-7", "GET", "time/utc//parameter?query"], 0, &by_line_2),
            (["backup-7", "head", "time/"], 0, &by_line_2),
            (["backup-7", "get", "time"], 1, &refused),
            (["backup-7", "put", "time/utc"], 1, &refused),
            (["*", "get", "time/utc"], 1, &refused),
            (["x\ny\u{1b}", "get", &"x".repeat(256)], 1, &refused),
        ] {
            let output = check(&path, &arguments);
            assert_eq!(output.status.code(), Some(code), "{arguments:?}: {output:?}");
            assert_eq!((text(&output), output.stderr.as_slice()), (said.as_str(), &b""[..]));
        }
        assert!(text(&check(&path, &["größe", "patch", "any/thing"])).contains(", line 3: "));

        for (arguments, expected) in [
            (&["a", "get"][..], "NOUN is missing"),
            (&["a", "read", "b"], "VERB \"read\" is no method that can be asked"),
            (&["a", "get", "%ff"], "the path is not UTF-8 once decoded"),
            (&["a", "get", "b", "c"], "unknown argument \"c\""),
        ] {
            let output = check(&path, arguments);
            assert_eq!(output.status.code(), Some(2), "{output:?}");
            assert!(one_line(&output.stderr).contains(expected), "{output:?}");
        }
        // Unusable rules mean neither yes nor no.
        let output = check(Path::new("/nowhere/rules"), &["a", "get", "b"]);
        assert_eq!((output.status.code(), text(&output)), (Some(2), ""));
        assert!(one_line(&output.stderr).contains("rules file /nowhere/rules: No such file"));

        let mut command = setup.command();
        let output = command.args(["--check-rule", "a", "get", "b"]).output().unwrap();
        assert_eq!(output.status.code(), Some(0));
        assert!(text(&output).starts_with("allowed: RP_RULES_FILE is not set"), "{output:?}");
    }
}

fn text(output: &Output) -> &str {
    std::str::from_utf8(&output.stdout).unwrap()
}

/// The single line of an error.
fn one_line(bytes: &[u8]) -> &str {
    let text = std::str::from_utf8(bytes).unwrap();
    assert_eq!(text.lines().count(), 1, "{text}");
    assert!(!text.trim_end().chars().any(char::is_control), "{text:?}");
    text
}
