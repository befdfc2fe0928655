//! Scripts as handlers: their input, the meaning of their output and exit, and that no process is left
//! over.

use std::fs;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use restpipe::handler::Exec;
use serde_json::json;
use tempfile::TempDir;

use crate::support::inside::{Pair, timed};
use crate::support::{Answer, Identities, Node, PATIENCE, client, server, write_script};

/// Longer than any test.
const LONG: Duration = Duration::from_secs(600);

/// A directory of scripts on both sides of a pipe.
struct Scene {
    running: Running,
    pair: Pair,
}

/// The directory, and the files that its scripts write there.
struct Running {
    dir: TempDir,
}

impl Scene {
    fn new(scripts: &[(&str, &str)], timeout: Duration) -> Self {
        let dir = tempfile::tempdir().unwrap();
        for (name, text) in scripts {
            put(dir.path(), name, text);
        }
        let exec = || Exec::new(dir.path(), timeout).unwrap();
        let pair = Pair::new(exec, |_, setup| setup);
        Self { running: Running { dir }, pair }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.running.dir.path().join(name)
    }

    fn get(&self, target: &str) -> Answer {
        unchunked(self.pair.client.get(&format!("/server/{target}")))
    }

    fn post(&self, target: &str, body: &[u8]) -> Answer {
        unchunked(self.pair.client.ask("POST", &format!("/server/{target}"), &[], body))
    }

    /// See [`Running::pids`].
    fn pids(&self, count: usize) -> Vec<u32> {
        self.running.pids(count)
    }

    fn all_gone(&self, pids: &[u32]) {
        for pid in pids {
            // A zombie of ours would still be there.
            eventually(&format!("the end of {pid}"), || {
                (!Path::new(&format!("/proc/{pid}")).exists()).then_some(())
            });
        }
    }
}

impl Running {
    /// The process ids in the file `pids`, one per line, once there are this many.
    fn pids(&self, count: usize) -> Vec<u32> {
        eventually("the process ids", || {
            let text = fs::read_to_string(self.dir.path().join("pids")).ok()?;
            // Only complete lines.
            let whole = text.rsplit_once('\n')?.0;
            let pids: Vec<u32> = whole.lines().map(|line| line.trim().parse().unwrap()).collect();
            (pids.len() >= count).then_some(pids)
        })
    }
}

/// Whether it is running, and not only waiting to be reaped.
fn runs(pid: u32) -> bool {
    fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| !stat.contains(") Z "))
}

fn put(dir: &Path, name: &str, text: &str) {
    write_script(&dir.join(name), text);
}

fn eventually<T>(what: &str, look: impl Fn() -> Option<T>) -> T {
    let until = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < until, "{what}: not within {PATIENCE:?}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Sends a request whose answer the test reads itself.
fn open(http: SocketAddr, head: &str) -> TcpStream {
    let mut socket = TcpStream::connect(http).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket.set_nodelay(true).unwrap();
    socket
        .write_all(format!("{head}\r\nHost: localhost\r\nConnection: close\r\n\r\n").as_bytes())
        .unwrap();
    socket
}

/// Reads until this text arrives, and returns everything so far.
fn read_until(socket: &mut TcpStream, text: &str) -> String {
    let mut seen = String::new();
    while !seen.contains(text) {
        let mut buffer = [0; 1000];
        let count = socket.read(&mut buffer).unwrap();
        assert_ne!(count, 0, "{seen}");
        seen.push_str(&String::from_utf8_lossy(&buffer[..count]));
    }
    seen
}

/// The rest of an answer, which must not look complete.
fn is_cut_short(socket: &mut TcpStream) {
    let mut rest = Vec::new();
    let _ = socket.read_to_end(&mut rest);
    assert!(!rest.ends_with(b"0\r\n\r\n"), "it looks complete: {}", String::from_utf8_lossy(&rest));
}

fn code(answer: &Answer) -> u32 {
    answer.header("X-Event-Return-Code").unwrap().parse().unwrap()
}

fn message(answer: &Answer) -> String {
    let json = answer.json();
    assert_eq!(json["error"], "exception", "{json}");
    json["message"].as_str().unwrap().to_owned()
}

const SHOW: &str = "#!/usr/bin/env python3
import json, os, sys
print(json.dumps([sys.argv[0], sys.argv[1:], os.getcwd(), sys.stdin.read()]))
";

#[test]
fn a_script_gets_parameters_body_and_a_clean_environment() {
    // The kernel runs it as `cat /proc/self/environ DIR/get_env_all`, so this is the initial
    // environment, untouched by any interpreter.
    let scene = Scene::new(
        &[("post_show_all", SHOW), ("get_env_all", "#!/bin/cat /proc/self/environ\n")],
        LONG,
    );
    let dir = scene.running.dir.path().to_str().unwrap();
    for (asker, peer) in scene.pair.both() {
        let target = format!("{peer}/show/all//a%2Fb/-c//%24(touch%20x)/*/%F0%9F%98%80");
        let shown = unchunked(asker.ask("POST", &target, &[], b"a body\n"));
        let arguments = ["a/b", "-c", "", "$(touch x)", "*", "\u{1F600}"];
        let path = format!("{dir}/post_show_all");
        assert_eq!(shown.json(), json!([path, arguments, dir, "a body\n"]), "{peer}");
        assert_eq!((shown.status, code(&shown)), (200, 0));

        let headers = [("X-Request-Id", "the-id"), ("Content-Type", "a/b; c=d")];
        let target = format!("{peer}/env/all?name=a+b&x-y=1&x.y=2&PATH=/evil&LD_PRELOAD=/evil");
        let answer = unchunked(asker.ask("GET", &target, &headers, b""));
        let environ = answer.text().split("#!").next().unwrap();
        let mut variables: Vec<&str> = environ.split_terminator('\0').collect();
        variables.sort_unstable();
        let (name, own) =
            if peer == "/server" { ("client-1", "client-1") } else { ("localhost", "localhost") };
        assert_eq!(own, name);
        let value = |variable: &str| {
            let found = variables.iter().find_map(|v| v.strip_prefix(&format!("{variable}=")));
            found.unwrap_or_else(|| panic!("no {variable} in {variables:?}")).to_owned()
        };
        for (variable, expected) in [
            ("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"),
            ("RP_VERB", "get"),
            ("RP_NOUN", "env/all"),
            ("RP_PEER_NAME", name),
            ("RP_REQUEST_ID", "the-id"),
            ("RP_CONTENT_TYPE", "a/b; c=d"),
            ("RP_CONTENT_LENGTH", "0"),
            ("RP_QUERY_name", "a b"),
            ("RP_QUERY_x_y", "1"),
            ("RP_QUERY_PATH", "/evil"),
            ("RP_QUERY_LD_PRELOAD", "/evil"),
        ] {
            assert_eq!(value(variable), expected);
        }
        assert_eq!(value("RP_PEER_FINGERPRINT").len(), 64);
        assert!(value("RP_BODY_END").starts_with("/dev/fd/"));
        assert_eq!(variables.len(), 1 + Exec::VARIABLES.len() + 4, "{variables:?}");
    }
    assert!(!scene.path("x").exists());
}

#[test]
fn every_byte_arrives_as_it_is_or_is_refused() {
    let scene = Scene::new(
        &[
            ("get_show", SHOW),
            ("get_q", "#!/bin/sh\nprintf %s \"[$RP_QUERY_q]\"\n"),
            ("get_x", "#!/bin/sh\ntouch reached\n"),
        ],
        LONG,
    );
    for byte in 0..=255_u8 {
        let (inside, query) =
            (scene.get(&format!("show//a%{byte:02x}b")), scene.get(&format!("q?q=a%{byte:02x}b")));
        match byte {
            0 => {
                for (answer, what) in [(&inside, "parameter 1"), (&query, "RP_QUERY_q")] {
                    assert_eq!(answer.status, 400, "{answer:?}");
                    assert_eq!(message(answer), format!("{what} contains a NUL character"));
                }
            }
            1..=127 => {
                let text = format!("a{}b", char::from(byte));
                assert_eq!(inside.json()[1], json!([text]), "{byte}");
                assert_eq!(query.text(), format!("[{text}]"), "{byte}");
            }
            // Not UTF-8.
            128.. => assert_eq!((inside.status, query.status), (400, 400), "{byte}"),
        }
        // In the noun it names another script; only a slash and an underscore name this one.
        let noun = scene.get(&format!("x%{byte:02x}"));
        assert!(matches!(noun.status, 400 | 404), "{byte}: {noun:?}");
        for answer in [inside, query, noun] {
            let head = answer.head.to_ascii_lowercase();
            let known = [
                "date:",
                "server:",
                "content-",
                "x-event-return-code:",
                "rp-request-id:",
                "connection:",
                "transfer-encoding:",
                "x-content-type-options:",
            ];
            let is_known = |line: &str| known.iter().any(|known| line.starts_with(known));
            assert!(head.lines().skip(1).all(is_known), "{byte}: {head}");
        }
    }
    assert!(!scene.path("reached").exists());
}

#[test]
fn nothing_outside_the_folder_is_run() {
    let outer = tempfile::tempdir().unwrap();
    put(outer.path(), "evil", "#!/bin/sh\ntouch \"$0.ran\"\n");
    let dir = outer.path().join("scripts");
    fs::create_dir_all(dir.join("get_")).unwrap();
    put(&dir, "get_inner", "#!/bin/sh\necho inner\n");
    std::os::unix::fs::symlink("../evil", dir.join("get_evil")).unwrap();
    std::os::unix::fs::symlink("get_inner", dir.join("get_alias")).unwrap();
    let exec = || Exec::new(&dir, LONG).unwrap();
    let pair = Pair::new(exec, |_, setup| setup);
    let get = |target: &str| unchunked(pair.client.get(&format!("/server/{target}")));
    assert_eq!(get("inner").text(), "inner\n");
    assert_eq!(get("alias").text(), "inner\n");
    for target in [
        "evil",
        "/evil",
        "../evil",
        "..%2Fevil",
        "%2e%2e%2fevil",
        "%2F..%2Fevil",
        "/../../evil",
        "inner%2f..%2f..%2fevil",
        "..",
        ".",
        "%2e",
        "%2Fbin%2Fsh",
        "inner%20",
        "inner%0a",
        "inner%00",
    ] {
        assert!(matches!(get(target).status, 400 | 404), "{target}: {:?}", get(target));
    }
    assert!(!outer.path().join("evil.ran").exists() && !dir.join("get_evil.ran").exists());
}

#[test]
fn what_is_missing_is_told_apart() {
    let scene = Scene::new(&[("get_a", "#!/bin/sh\n"), ("delete_a", "#!/bin/sh\n")], LONG);
    let none = scene.get("b");
    assert_eq!((none.status, code(&none)), (404, 255));
    let wrong = scene.post("a", b"x");
    assert_eq!((wrong.status, wrong.header("Allow")), (405, Some("GET, DELETE")));
    let empty = scene.get("a");
    assert_eq!((empty.status, empty.body.len(), empty.header("Content-Type")), (200, 0, None));
    assert_eq!(scene.pair.client.ask("HEAD", "/server/a", &[], b"").status, 200);
    // A new script is usable at once.
    put(scene.running.dir.path(), "get_b", "#!/bin/sh\necho new\n");
    assert_eq!(scene.get("b").text(), "new\n");
}

#[test]
fn headers_are_honoured_and_everything_else_is_body() {
    let print = |text: &str| format!("#!/bin/sh\nprintf '{text}'\n");
    let scripts = [
        ("get_plain", print("hello\\n")),
        ("get_json", print("{\"a\": 1}")),
        ("get_event", print("data: one\\n\\n")),
        ("get_cgi", print("X-First: 1\\nStatus: 404 Not There\\r\\nContent-Type: text/x\\n\\nnone")),
        ("get_moved", print("Location: /there\\n\\n")),
        ("get_evil", print("Content-Type: a/b\\nX-Evil: a\\rX-Injected: 1\\nDate: x\\nX-Fine: 1\\n\\nbody")),
        ("get_bad", print("Status: nine\\n\\n")),
        ("get_short", print("Status: 200\\nContent-Length: 9\\n\\nshort")),
        ("get_binary", "#!/usr/bin/env python3\nimport sys\nsys.stdout.buffer.write(bytes(range(256)) * 100)\n".to_owned()),
        ("get_slow", "#!/bin/sh\necho X-A: b\nsleep 0.2\necho Status: 201\nsleep 0.2\necho\n".to_owned()),
        ("get_failed", "#!/bin/sh\nprintf 'Status: 200\\n\\nfine'\nexit 1\n".to_owned()),
    ];
    let scripts: Vec<(&str, &str)> = scripts.iter().map(|(n, t)| (*n, t.as_str())).collect();
    let scene = Scene::new(&scripts, LONG);
    for (target, status, media_type, body) in [
        ("plain", 200, None, "hello\n"),
        ("json", 200, None, "{\"a\": 1}"),
        ("event", 200, None, "data: one\n\n"),
        ("cgi", 404, Some("text/x"), "none"),
        ("moved", 302, None, ""),
        ("evil", 200, Some("a/b"), "body"),
        ("slow", 201, None, ""),
    ] {
        let answer = scene.get(target);
        assert_eq!((answer.status, answer.text()), (status, body), "{target}");
        assert_eq!(answer.header("Content-Type"), media_type, "{target}");
        assert_eq!(code(&answer), 0);
    }
    assert_eq!(scene.get("cgi").header("X-First"), Some("1"));
    assert_eq!(scene.get("moved").header("Location"), Some("/there"));
    let evil = scene.get("evil");
    assert_eq!(evil.header("X-Fine"), Some("1"));
    assert!(!evil.head.contains("Injected") && !evil.head.contains("Date: x"), "{}", evil.head);
    let binary: Vec<u8> = (0..=255).cycle().take(25_600).collect();
    assert!(scene.get("binary").body == binary);
    for target in ["bad", "short", "failed"] {
        let answer = scene.get(target);
        assert_eq!(answer.status, 500, "{target}");
        message(&answer);
    }
}

#[test]
fn the_exit_code_is_the_return_code() {
    let scene = Scene::new(
        &[
            ("get_exit", "#!/bin/sh\necho output\necho so it is >&2\nexit $1\n"),
            ("get_kill", "#!/bin/sh\nkill -$1 $$\n"),
            (
                "get_loud",
                "#!/bin/sh\nhead -c 1000000 /dev/zero | tr '\\0' x >&2\necho the end >&2\nexit 3\n",
            ),
            ("get_garbage", "#!/bin/sh\nprintf '\\377\\033\\r\\n\\000end' >&2\nexit 3\n"),
            ("get_wordy", "#!/bin/sh\necho fine\necho warning >&2\n"),
            ("get_bare", "echo no interpreter\n"),
            ("get_lost", "#!/no/such/interpreter\n"),
        ],
        LONG,
    );
    assert_eq!(scene.get("exit//0").text(), "output\n");
    assert_eq!(scene.get("wordy").text(), "fine\n");
    for (exit, expected) in
        [(1, 1), (7, 7), (249, 249), (250, 251), (251, 251), (253, 251), (255, 251)]
    {
        let answer = scene.get(&format!("exit//{exit}"));
        assert_eq!((answer.status, code(&answer)), (500, expected), "{exit}");
        let message = message(&answer);
        assert!(message.starts_with(&format!("exit code {exit}")), "{message}");
        assert!(message.ends_with(": so it is"), "{message}");
        assert_eq!(answer.json()["exception"]["class"], "ExitCode");
    }
    for (signal, expected) in
        [("SEGV", "ended by signal 11 (SIGSEGV)"), ("KILL", "ended by signal 9 (SIGKILL)")]
    {
        let answer = scene.get(&format!("kill//{signal}"));
        assert_eq!((answer.status, code(&answer), message(&answer).as_str()), (500, 251, expected));
    }
    let loud = message(&scene.get("loud"));
    assert!(
        (4000..4200).contains(&loud.len())
            && loud.ends_with("x\u{0}the end") | loud.ends_with("xthe end"),
        "{}",
        loud.len()
    );
    assert!(message(&scene.get("garbage")).ends_with("\u{0}end"));
    assert!(message(&scene.get("bare")).contains("no #! line"));
    assert!(message(&scene.get("lost")).contains("is the interpreter of its #! line there?"));
}

#[test]
fn output_streams_and_a_late_failure_is_no_short_success() {
    let scene = Scene::new(
        &[
            ("get_lines", "#!/bin/sh\necho one\nread line <gate\necho two\nexit $1\n"),
            (
                "get_events",
                "#!/bin/sh\nprintf 'Content-Type: text/event-stream\\n\\n'\nread line <gate\necho 'data: x'\n",
            ),
            (
                "get_said",
                "#!/bin/sh\nprintf 'Status: 200\\nContent-Length: 100000\\n\\nten\\n'\nread line <gate\n",
            ),
        ],
        LONG,
    );
    let gate = scene.path("gate");
    assert!(Command::new("mkfifo").arg(&gate).status().unwrap().success());
    for (asker, peer) in scene.pair.both() {
        for exit in [0, 9] {
            let mut socket = open(asker.http(), &format!("GET {peer}/lines//{exit} HTTP/1.1"));
            let head = read_until(&mut socket, "one\n");
            assert!(head.starts_with("HTTP/1.1 200"), "{head}");
            fs::write(&gate, "go\n").unwrap();
            if exit == 0 {
                let mut rest = String::new();
                socket.read_to_string(&mut rest).unwrap();
                assert!(rest.contains("two\n") && rest.ends_with("0\r\n\r\n"), "{rest}");
            } else {
                is_cut_short(&mut socket);
            }
        }
    }
    // The head is sent before there is any body.
    let http = scene.pair.client.http();
    let mut socket = open(http, "GET /server/events HTTP/1.1");
    read_until(&mut socket, "text/event-stream");
    fs::write(&gate, "go\n").unwrap();
    read_until(&mut socket, "data: x\n");
    // An explicit length is kept.
    let mut socket = open(http, "GET /server/said HTTP/1.1");
    let head = read_until(&mut socket, "ten\n").to_ascii_lowercase();
    assert!(head.contains("content-length: 100000"), "{head}");
    fs::write(&gate, "go\n").unwrap();
    let mut rest = Vec::new();
    let _ = socket.read_to_end(&mut rest);
    assert!(rest.is_empty(), "{}", rest.len());
}

#[test]
fn bodies_of_any_size_stream_through_a_script() {
    let scene = Scene::new(
        &[
            ("post_cat", "#!/bin/cat\n"),
            ("post_copy", "#!/bin/sh\nexec cat\n"),
            ("post_deaf", "#!/bin/sh\nexec <&-\necho fine\n"),
            ("post_ignore", "#!/bin/sh\necho fine\n"),
            ("post_first", "#!/bin/sh\nhead -c 5\n"),
        ],
        LONG,
    );
    let mut rng = fastrand::Rng::with_seed(3);
    for size in [1, 4095, 16_384, 16_385, 70_000, 3_000_000] {
        let body: Vec<u8> = std::iter::repeat_with(|| rng.u8(..)).take(size).collect();
        let answer = scene.post("copy", &body);
        assert!(answer.status == 200 && answer.body == body, "{size}");
    }
    let large = vec![b'x'; 30_000_000];
    for (target, expected) in [("deaf", "fine\n"), ("ignore", "fine\n"), ("first", "xxxxx")] {
        for body in [&large[..10], &large[..16_000], &large[..]] {
            let (answer, took) = timed(|| scene.post(target, body));
            assert_eq!((answer.status, answer.text()), (200, expected), "{target}");
            assert!(took < Duration::from_secs(10), "{target}: {took:?}");
        }
    }
}

/// The answer without chunked coding, for a body that ended too late for a length.
fn unchunked(mut answer: Answer) -> Answer {
    if answer.header("Transfer-Encoding").is_none() {
        return answer;
    }
    let (mut rest, mut whole) = (&answer.body[..], Vec::new());
    loop {
        let end = rest.windows(2).position(|two| two == b"\r\n").expect("a chunk's size");
        let size = usize::from_str_radix(std::str::from_utf8(&rest[..end]).unwrap(), 16).unwrap();
        if size == 0 {
            answer.body = whole;
            return answer;
        }
        whole.extend_from_slice(&rest[end + 2..end + 2 + size]);
        rest = &rest[end + 2 + size + 2..];
    }
}

#[test]
fn an_upload_that_breaks_off_ends_the_script_before_it_takes_it_for_whole() {
    let scene = Scene::new(
        &[("post_store", "#!/bin/sh\ntrap '' TERM\necho $$ >>pids\ncat >part\necho >whole\n")],
        LONG,
    );
    let http = scene.pair.client.http();
    let mut socket = TcpStream::connect(http).unwrap();
    let head = "POST /server/store HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100000\r\n\r\n";
    socket.write_all(head.as_bytes()).unwrap();
    socket.write_all(&[b'x'; 50_000]).unwrap();
    let pids = scene.pids(1);
    socket.shutdown(Shutdown::Write).unwrap();
    scene.all_gone(&pids);
    assert!(!scene.path("whole").exists());
    assert_eq!(scene.post("store", &[b'x'; 100_000]).status, 200);
    assert!(scene.path("whole").exists());
}

/// Keeps its input as `whole` or as `half`, and notes the announced length.
const KEEP: &str = "#!/bin/sh
echo $$ >>pids
cat >part
if read -r end <\"$RP_BODY_END\" && [ \"$end\" = whole ]; then
    mv part whole
else
    mv part half
fi
printf '%s' \"[$RP_CONTENT_LENGTH]\" | tee length
";

#[test]
fn a_script_can_know_that_its_body_was_whole() {
    let scene = Scene::new(&[("post_keep", KEEP)], LONG);
    for size in [0, 5, 16_384, 16_385, 3_000_000] {
        let body = vec![b'x'; size];
        let kept = scene.post("keep", &body);
        assert_eq!((kept.status, kept.text()), (200, format!("[{size}]").as_str()));
        assert!(fs::read(scene.path("whole")).unwrap() == body, "{size}");
    }
    let mut socket =
        open(scene.pair.client.http(), "POST /server/keep HTTP/1.1\r\nTransfer-Encoding: chunked");
    socket.write_all(b"5\r\nfirst\r\n").unwrap();
    scene.pids(6);
    socket.write_all(b"6\r\n, last\r\n0\r\n\r\n").unwrap();
    read_until(&mut socket, "[]");
    assert_eq!(fs::read(scene.path("whole")).unwrap(), b"first, last");
    assert!(!scene.path("half").exists());
}

#[test]
fn a_script_whose_node_is_killed_knows_that_it_has_half_a_body() {
    let identities = Identities::new(&["client-1"]);
    for framing in ["Content-Length: 1000000", "Transfer-Encoding: chunked"] {
        let dir = tempfile::tempdir().unwrap();
        put(dir.path(), "post_keep", KEEP);
        put(dir.path(), "get_up", "#!/bin/sh\n");
        let server = server(&identities)
            .set("RP_EVENT_HANDLER", format!("exec:{}", dir.path().display()))
            .start();
        let client = client(&identities, "client-1", server.pipe()).start();
        client.get_when_up("/server/up");
        let mut socket = open(client.http(), &format!("POST /server/keep HTTP/1.1\r\n{framing}"));
        if framing.ends_with("chunked") {
            socket.write_all(b"f4240\r\n").unwrap();
        }
        socket.write_all(&[b'x'; 200_000]).unwrap();
        let part = dir.path().join("part");
        eventually("all that was sent", || {
            (fs::metadata(&part).ok()?.len() == 200_000).then_some(())
        });
        server.signal("KILL");
        eventually("half a body", || dir.path().join("half").exists().then_some(()));
        assert!(!dir.path().join("whole").exists(), "{framing}");
    }
}

/// Leaves a job behind as the guide says; it outlives whatever is killed with the script.
const JOB: &str = "#!/bin/sh
setsid sh -c \"sleep 2; echo >done-$1\" >/dev/null 2>&1 &
";

#[test]
fn a_job_that_leaves_the_group_lives_on() {
    const JOBS: usize = 20;
    let scene = Scene::new(&[("get_job", JOB)], LONG);
    for job in 0..JOBS {
        assert_eq!(scene.get(&format!("job//{job}")).status, 200);
    }
    for job in 0..JOBS {
        let done = scene.path(&format!("done-{job}"));
        eventually(&format!("job {job}"), || done.exists().then_some(()));
    }
}

/// A node that is the first process of a container, so that orphans become its children.
#[test]
fn process_1_reaps_what_its_scripts_leave_behind() {
    const UNSHARE: [&str; 5] = ["unshare", "--pid", "--fork", "--mount-proc", "--kill-child"];
    const JOBS: usize = 10;
    let allowed = Command::new(UNSHARE[0]).args(&UNSHARE[1..]).arg("true").status();
    if !allowed.is_ok_and(|status| status.success()) {
        return eprintln!("not tested: only root may create a PID namespace here");
    }
    let dir = tempfile::tempdir().unwrap();
    put(dir.path(), "get_up", "#!/bin/sh\n");
    put(
        dir.path(),
        "get_job",
        "#!/bin/sh\n(setsid sh -c 'echo >>ended' >/dev/null 2>&1 &)\nexit 3\n",
    );
    let identities = Identities::new(&["client-1"]);
    let setup =
        server(&identities).set("RP_EVENT_HANDLER", format!("exec:{}", dir.path().display()));
    let server = Node::start(setup.command_under(&UNSHARE));
    let client = client(&identities, "client-1", server.pipe()).start();
    client.get_when_up("/server/up");
    for _ in 0..JOBS {
        let answer = client.get("/server/job");
        assert_eq!((answer.status, code(&answer)), (500, 3), "its own children are not touched");
    }
    eventually("the end of the jobs", || {
        let ended = fs::read_to_string(dir.path().join("ended")).unwrap_or_default();
        (ended.lines().count() == JOBS).then_some(())
    });
    let process_1 = children(server.pid(), false)[0];
    eventually("no dead process", || children(process_1, true).is_empty().then_some(()));
}

/// The children of this process, or those of them that are dead and not reaped.
fn children(parent: u32, is_dead: bool) -> Vec<u32> {
    let processes = fs::read_dir("/proc").unwrap().flatten();
    let stats =
        processes.filter_map(|process| fs::read_to_string(process.path().join("stat")).ok());
    stats
        .filter_map(|stat| {
            let (id, rest) = (stat.split(' ').next()?.parse().ok()?, stat.rsplit_once(") ")?.1);
            let mut fields = rest.split(' ');
            let state = fields.next()?;
            let of_parent = fields.next()? == parent.to_string();
            (of_parent && (!is_dead || state == "Z")).then_some(id)
        })
        .collect()
}

const HANG: &str = "#!/bin/sh
sleep 1000 &
printf '%s\\n' $$ $! >>pids
[ -z \"$1\" ] || echo \"$1\"
wait
";
const STUBBORN: &str = "#!/bin/sh
trap '' TERM
sh -c 'trap \"\" TERM; echo $$ >>pids; while :; do sleep 0.1; done' &
echo $$ >>pids
while :; do sleep 0.1; done
";
const LEAVER: &str = "#!/bin/sh
sleep 1000 &
echo $! >>pids
echo left
";

#[test]
fn a_script_that_takes_too_long_is_ended_with_all_it_started() {
    let timeout = Duration::from_secs(1);
    let scripts = [("get_hang", HANG), ("get_stubborn", STUBBORN), ("get_leaver", LEAVER)];
    let scene = Scene::new(&scripts, timeout);
    std::thread::scope(|scope| {
        for target in ["hang", "stubborn"] {
            scope.spawn(|| {
                let (answer, took) = timed(|| scene.get(target));
                assert_eq!((answer.status, code(&answer)), (504, 251), "{answer:?}");
                assert_eq!(message(&answer), "it took too long and was ended");
                assert!(took >= timeout && took < timeout + Duration::from_secs(5), "{took:?}");
            });
        }
        // One whose answer has begun, and one that exited but left a child with its output.
        for (target, begun) in [("hang//begun", "begun\n"), ("leaver", "left\n")] {
            let http = scene.pair.client.http();
            scope.spawn(move || {
                let mut socket = open(http, &format!("GET /server/{target} HTTP/1.1"));
                read_until(&mut socket, begun);
                is_cut_short(&mut socket);
            });
        }
    });
    scene.all_gone(&scene.pids(2 + 2 + 2 + 1));
}

#[test]
fn what_a_script_leaves_behind_does_not_outlive_it() {
    let quiet = LEAVER.replace("sleep 1000 &", "sleep 1000 >/dev/null 2>&1 &");
    let loud = LEAVER.replace("sleep 1000 &", "sleep 1000 >/dev/null &");
    let failing = format!("{LEAVER}exit 4\n");
    let scene =
        Scene::new(&[("get_quiet", &quiet), ("get_loud", &loud), ("get_failing", &failing)], LONG);
    for (target, status) in [("quiet", 200), ("loud", 200), ("failing", 500)] {
        let (answer, took) = timed(|| scene.get(target));
        assert_eq!(answer.status, status, "{target}");
        assert!(took < PATIENCE, "{target}: {took:?}");
    }
    scene.all_gone(&scene.pids(3));
}

#[test]
fn a_caller_that_goes_away_ends_the_script() {
    let scene = Scene::new(
        &[
            ("get_hang", HANG),
            ("get_stubborn", STUBBORN),
            ("get_flood", "#!/bin/sh\necho $$ >>pids\nexec cat /dev/zero\n"),
            ("post_wait", "#!/bin/sh\necho $$ >>pids\ncat >/dev/null\n"),
        ],
        LONG,
    );
    let mut sockets = Vec::new();
    for (asker, peer) in scene.pair.both() {
        for request in ["GET hang", "GET hang//begun", "GET stubborn", "GET flood", "POST wait"] {
            let (verb, target) = request.split_once(' ').unwrap();
            let length = if verb == "POST" { "\r\nContent-Length: 100000" } else { "" };
            let mut socket =
                open(asker.http(), &format!("{verb} {peer}/{target} HTTP/1.1{length}"));
            if target.contains("begun") || target == "flood" {
                socket.read_exact(&mut [0; 12]).unwrap();
            }
            sockets.push(socket);
        }
    }
    let pids = scene.pids(2 * (2 + 2 + 2 + 1 + 1));
    drop(sockets);
    scene.all_gone(&pids);
}

#[test]
fn a_node_that_stops_leaves_no_script() {
    let scene = Scene::new(&[("get_hang", HANG), ("get_stubborn", STUBBORN)], LONG);
    let http = scene.pair.client.http();
    let _asking = [
        open(http, "GET /server/hang HTTP/1.1"),
        open(http, "GET /server/stubborn HTTP/1.1"),
        open(http, "GET /server/hang//begun HTTP/1.1"),
    ];
    let pids = scene.pids(6);
    let Scene { running: _running, pair } = scene;
    let ((), took) = timed(|| pair.server.stop(Duration::ZERO));
    for pid in pids {
        assert!(!runs(pid), "{pid} still runs");
    }
    assert!(took < Duration::from_secs(6), "{took:?}");
}

#[test]
fn only_so_many_scripts_run_at_once() {
    const MOST: usize = 64;
    let scene = Scene::new(&[("get_hang", HANG), ("get_quick", "#!/bin/sh\n")], LONG);
    let http = scene.pair.client.http();
    let asking: Vec<_> = (0..MOST).map(|_| open(http, "GET /server/hang HTTP/1.1")).collect();
    let pids = scene.pids(2 * MOST);
    let busy = scene.get("quick");
    assert_eq!((busy.status, code(&busy)), (503, 251));
    assert_eq!(message(&busy), "too many scripts are running");
    assert!(busy.header("Retry-After").is_some());
    drop(asking);
    scene.all_gone(&pids);
    assert_eq!(scene.get("quick").status, 200);
}

/// Both nodes as programs; the server has scripts beside the examples.
#[test]
fn a_gibibyte_costs_the_programs_no_memory_and_they_leave_nothing() {
    const LENGTH: u64 = 1 << 30;
    let dir = tempfile::tempdir().unwrap();
    put(dir.path(), "get_zeros", "#!/bin/sh\nexec head -c 1073741824 /dev/zero\n");
    put(dir.path(), "get_noise", "#!/bin/sh\nhead -c 1073741824 /dev/zero >&2\necho done\n");
    put(dir.path(), "get_fail", "#!/bin/sh\nprintf 'one\\ntwo\\033\\n' >&2\nexit 5\n");
    put(dir.path(), "get_hang", HANG);
    let identities = Identities::new(&["client-1"]);
    let handlers = format!("run=exec:{},*=example", dir.path().display());
    let mut server = server(&identities)
        .set("RP_EVENT_HANDLER", handlers)
        .set("RP_EXEC_TIMEOUT_S", 300)
        .set("RP_DRAIN_S", 0)
        .start();
    let client = client(&identities, "client-1", server.pipe()).start();
    client.get_when_up("/server/time");

    let mut socket = open(client.http(), "GET /server/run/zeros HTTP/1.1");
    let mut buffer = vec![0; 1 << 20];
    let mut total = 0;
    loop {
        let count = socket.read(&mut buffer).unwrap();
        if count == 0 {
            break;
        }
        total += count as u64;
    }
    assert!(total > LENGTH, "{total}");
    assert_eq!(unchunked(client.get("/server/run/noise")).text(), "done\n");
    for node in [&server, &client] {
        let peak = node.status_number("VmHWM");
        println!("peak {peak} kB");
        assert!(peak < 64 * 1024, "{peak} kB");
    }

    let answer = client.ask("GET", "/server/run/fail", &[("X-Request-Id", "it")], b"");
    assert_eq!((answer.status, code(&answer)), (500, 5));
    server.wait_log(&["WARN", "client-1: script get_fail (request it): exit code 5: two\\u{1b}"]);

    let _asking = open(client.http(), "GET /server/run/hang HTTP/1.1");
    let scene = Running { dir };
    let pids = scene.pids(2);
    server.signal("TERM");
    assert!(server.wait_exit().success());
    for pid in pids {
        assert!(!runs(pid), "{pid} still runs");
    }
}

#[test]
fn an_unusable_folder_ends_the_program_with_one_line() {
    let identities = Identities::new(&[]);
    for (dir, expected) in [
        ("/no/such/folder", "No such file or directory"),
        ("/etc/passwd", "is not a directory"),
        ("/tmp", "everybody may write to /tmp"),
    ] {
        let setup = server(&identities).set("RP_EVENT_HANDLER", format!("exec:{dir}"));
        let output = setup.command().output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{output:?}");
        let line = String::from_utf8(output.stderr).unwrap();
        assert!(line.contains(expected) && line.lines().count() == 1, "{line}");
    }
}
