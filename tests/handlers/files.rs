//! `files:DIR` and `files+rw:DIR`: a directory on the other side, in both directions, and nothing
//! outside of it.

use std::collections::BTreeSet;
use std::ffi::{CString, OsStr, OsString};
use std::fs;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::{self, Answer, Identities, Node, PATIENCE, client, server};

/// The contents of every file outside the directory.
const CANARY: &str = "the canary sings";

/// Both nodes, each serving the same directory, and a file beside it.
struct Nodes {
    server: Node,
    client: Node,
    root: TempDir,
    _identities: Identities,
}

impl Nodes {
    fn start(kind: &str) -> Self {
        Self::with(|share| format!("{kind}:{share}"))
    }

    fn with(handler: impl Fn(&str) -> String) -> Self {
        let root = tempfile::tempdir().unwrap();
        let share = root.path().join("share");
        fs::create_dir(&share).unwrap();
        fs::write(root.path().join("canary"), CANARY).unwrap();
        let identities = Identities::new(&["fileserver"]);
        let handler = handler(share.to_str().unwrap());
        let server = server(&identities).set("RP_EVENT_HANDLER", &handler).start();
        let client =
            client(&identities, "fileserver", server.pipe()).set("RP_EVENT_HANDLER", &handler);
        let client = client.start();
        client.wait_log(&["connected to"]);
        server.wait_log(&["fileserver: connected from"]);
        Self { server, client, root, _identities: identities }
    }

    fn share(&self) -> PathBuf {
        self.root.path().join("share")
    }

    /// Each node's local port, and the path prefix of its peer.
    fn both(&self) -> [(SocketAddr, &'static str); 2] {
        [(self.server.http(), "/client/fileserver"), (self.client.http(), "/server")]
    }

    /// Sends a request for the client's files to the server's port.
    fn ask(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
        self.server.ask(method, &format!("/client/fileserver/{path}"), headers, body)
    }

    fn get(&self, path: &str) -> Answer {
        self.ask("GET", path, &[], b"")
    }

    fn put(&self, path: &str, body: &[u8]) -> Answer {
        self.ask("PUT", path, &[], body)
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}/client/fileserver/{path}", self.server.http())
    }

    /// The names in the directory.
    fn names(&self) -> BTreeSet<OsString> {
        fs::read_dir(self.share()).unwrap().map(|entry| entry.unwrap().file_name()).collect()
    }
}

fn curl(arguments: &[&str]) -> Output {
    let mut command = Command::new("curl");
    command.args(["-sS", "--max-time", "30"]).args(arguments);
    command.stdin(Stdio::null()).output().unwrap()
}

fn random(length: usize, seed: u64) -> Vec<u8> {
    let mut rng = fastrand::Rng::with_seed(seed);
    std::iter::repeat_with(|| rng.u8(..)).take(length).collect()
}

fn assert_error(answer: &Answer, status: u16, error: &str) {
    assert_eq!(answer.status, status, "{answer:?}");
    assert_eq!(answer.header("Content-Type"), Some("application/json"), "{answer:?}");
    assert_eq!(answer.json()["error"], error, "{answer:?}");
    assert!(answer.json()["message"].is_string(), "{answer:?}");
}

#[test]
fn the_documents_use_case_is_one_command() {
    let nodes = Nodes::start("files");
    fs::create_dir(nodes.share().join("docs")).unwrap();
    let text = "f\u{fc}r alle\n";
    fs::write(nodes.share().join("docs/hello w\u{f6}rld.html"), text).unwrap();
    let path = "docs/hello%20w%C3%B6rld.html";
    for (http, peer) in nodes.both() {
        let url = format!("http://{http}{peer}/file//{path}");
        assert_eq!(curl(&[&url]).stdout, text.as_bytes());
        let answer = support::ask(http, "GET", &format!("{peer}/file//{path}"), &[], b"");
        assert_eq!((answer.status, answer.text()), (200, text));
        assert_eq!(answer.header("Content-Type"), Some("text/html"));
        assert_eq!(answer.header("X-Event-Return-Code"), Some("0"));
        assert_eq!(answer.header("Accept-Ranges"), Some("bytes"));
        assert!(answer.header("ETag").unwrap().starts_with('"'));
        assert!(answer.header("Last-Modified").unwrap().ends_with(" GMT"));
        let head = support::ask(http, "HEAD", &format!("{peer}/file//{path}"), &[], b"");
        assert_eq!((head.status, head.body.len()), (200, 0));
        assert_eq!(head.header("Content-Length"), Some(text.len().to_string().as_str()));
        let headers = [("Range", "bytes=1-2")];
        let ranged = support::ask(http, "HEAD", &format!("{peer}/file//{path}"), &headers, b"");
        assert_eq!((ranged.status, ranged.header("Content-Range")), (200, None));
        for name in ["ETag", "Last-Modified", "Content-Type", "Accept-Ranges"] {
            assert_eq!(head.header(name), answer.header(name));
        }

        let list = support::ask(http, "GET", &format!("{peer}/list"), &[], b"").json();
        assert_eq!(list["entries"][0]["name"], "docs");
        assert_eq!(list["entries"][0]["kind"], "directory");
        let list = support::ask(http, "GET", &format!("{peer}/list//docs"), &[], b"").json();
        assert_eq!(list["entries"][0]["size"], text.len());

        let none = support::ask(http, "GET", &format!("{peer}/file//docs/none"), &[], b"");
        assert_error(&none, 404, "not_found");
        assert_eq!(none.header("X-Event-Return-Code"), Some("404"));
        let directory = support::ask(http, "GET", &format!("{peer}/file//docs"), &[], b"");
        assert_error(&directory, 409, "is_directory");
        let list = support::ask(http, "GET", &format!("{peer}/list//docs/none/x"), &[], b"");
        assert_error(&list, 404, "not_found");
        for path in ["file", "file//"] {
            let nameless = support::ask(http, "GET", &format!("{peer}/{path}"), &[], b"");
            assert_error(&nameless, 400, "bad_path");
        }
        let other = support::ask(http, "GET", &format!("{peer}/time"), &[], b"");
        assert_error(&other, 404, "unhandled");
        for method in ["PUT", "DELETE", "POST", "PATCH"] {
            let answer = support::ask(http, method, &format!("{peer}/file//docs/x"), &[], b"");
            assert_error(&answer, 405, "wrong_verb");
            assert_eq!(answer.header("Allow"), Some("GET"), "{method}");
        }
    }
}

#[test]
fn ranges_give_the_bytes_that_were_asked_for() {
    let nodes = Nodes::start("files");
    let content = random(300_000, 1);
    fs::write(nodes.share().join("data.bin"), &content).unwrap();
    let get = |headers: &[(&str, &str)]| nodes.ask("GET", "file//data.bin", headers, b"");
    let whole = get(&[]);
    assert!(whole.body == content);
    assert_eq!(whole.header("Content-Type"), Some("application/octet-stream"));
    for (range, from, to) in [
        ("bytes=0-0", 0, 1),
        ("bytes=1000-250999", 1000, 251_000),
        ("bytes=299999-", 299_999, 300_000),
        ("bytes=-500", 299_500, 300_000),
        ("bytes=10-99999999999999999999999", 10, 300_000),
    ] {
        let part = get(&[("Range", range)]);
        assert_eq!(part.status, 206, "{range}");
        assert!(part.body == content[from..to], "{range}");
        let expected = format!("bytes {from}-{}/300000", to - 1);
        assert_eq!(part.header("Content-Range"), Some(expected.as_str()));
        assert_eq!(part.header("ETag"), whole.header("ETag"));
    }
    let beyond = get(&[("Range", "bytes=300000-")]);
    assert_error(&beyond, 416, "range_not_satisfiable");
    assert_eq!(beyond.header("Content-Range"), Some("bytes */300000"));
    for ignored in ["bytes=0-1,5-6", "lines=1-2", "bytes=5-2", "bytes"] {
        let answer = get(&[("Range", ignored)]);
        assert_eq!((answer.status, answer.body.len()), (200, 300_000), "{ignored}");
    }

    let etag = whole.header("ETag").unwrap();
    let range = ("Range", "bytes=5-9");
    assert_eq!(get(&[range, ("If-Range", etag)]).status, 206);
    assert_eq!(get(&[range, ("If-Range", "\"other\"")]).body.len(), 300_000);

    // An interrupted download is resumed at the byte where it broke off.
    let saved = nodes.root.path().join("saved");
    fs::write(&saved, &content[..123_456]).unwrap();
    let output = curl(&["-C", "-", "-o", saved.to_str().unwrap(), &nodes.url("file//data.bin")]);
    assert!(output.status.success(), "{output:?}");
    assert!(fs::read(&saved).unwrap() == content);
}

#[test]
fn what_the_caller_has_is_not_sent_again() {
    let nodes = Nodes::start("files");
    let file = nodes.share().join("a.txt");
    fs::write(&file, "one").unwrap();
    // Old enough that the date alone identifies the version.
    set_modified(&file, UNIX_EPOCH + Duration::from_secs(1_000_000_000));
    let get = |headers: &[(&str, &str)]| nodes.ask("GET", "file//a.txt", headers, b"");
    let first = get(&[]);
    let etag = first.header("ETag").unwrap();
    assert_eq!(first.header("Last-Modified"), Some("Sun, 09 Sep 2001 01:46:40 GMT"));
    for (name, value, status) in [
        ("If-None-Match", etag, 304),
        ("If-None-Match", "*", 304),
        ("If-None-Match", "\"x\"", 200),
        ("If-Modified-Since", "Sun, 09 Sep 2001 01:46:40 GMT", 304),
        ("If-Modified-Since", "Sun, 09 Sep 2001 01:46:39 GMT", 200),
        ("If-Match", etag, 200),
        ("If-Match", "\"x\"", 412),
        ("If-Unmodified-Since", "Sun, 09 Sep 2001 01:46:39 GMT", 412),
    ] {
        let answer = get(&[(name, value)]);
        assert_eq!(answer.status, status, "{name}: {value}");
        match status {
            304 => {
                assert_eq!(answer.body, b"");
                assert_eq!(answer.header("ETag"), Some(etag));
                assert_eq!(answer.header("Content-Type"), None);
            }
            412 => assert_error(&answer, 412, "precondition_failed"),
            _ => assert_eq!(answer.text(), "one"),
        }
    }
    let date = ("If-Range", "Sun, 09 Sep 2001 01:46:40 GMT");
    assert_eq!(get(&[("Range", "bytes=1-"), date]).text(), "ne");

    // Of the same size and time, but another file.
    let other = nodes.share().join("b.txt");
    fs::write(&other, "two").unwrap();
    set_modified(&other, UNIX_EPOCH + Duration::from_secs(1_000_000_000));
    fs::rename(&other, &file).unwrap();
    assert_eq!(get(&[("If-None-Match", etag)]).text(), "two");

    // Times outside the range of HTTP dates.
    for time in [UNIX_EPOCH - Duration::from_secs(9), SystemTime::now() + PATIENCE * 1000] {
        set_modified(&file, time);
        let answer = get(&[("If-Modified-Since", "Sun, 09 Sep 2001 01:46:40 GMT")]);
        assert_eq!((answer.status, answer.header("Last-Modified")), (200, None));
    }
}

fn set_modified(file: &Path, time: SystemTime) {
    fs::File::options().write(true).open(file).unwrap().set_modified(time).unwrap();
}

/// Known spellings of path traversal.
fn ways_out(root: &str) -> Vec<String> {
    let mut ways = [
        "../canary",
        "..%2Fcanary",
        "%2e%2e/canary",
        "%2E%2E%2Fcanary",
        ".%2e/canary",
        "a/../../canary",
        "sub/../../canary",
        "./../canary",
        "..//canary",
        "%2e%2e//canary",
        "....//canary",
        "..%5Ccanary",
        "..%c0%afcanary",
        "%c0%ae%c0%ae/canary",
        "%252e%252e/canary",
        "..%00/canary",
        "..;/canary",
        "sub/..%2f..%2fcanary",
        "../share/../canary",
        "out",
        "out/",
        "out_dir",
        "out_dir/canary",
        "out_absolute",
        "out_absolute_dir",
        "out_absolute_dir/canary",
        "sub/up",
        "sub/up/canary",
        "sub/up/up/canary",
        "chain",
        "chain_dir/canary",
        "proc_root/canary",
        "file/../../canary",
        "%2e%2e%00canary",
    ]
    .map(str::to_owned)
    .to_vec();
    ways.push(format!("{root}/canary"));
    ways.push(format!("/{root}/canary"));
    ways.push(format!("{}%2Fcanary", root.replace('/', "%2F")));
    ways.push(format!("sub/{root}/canary"));
    ways
}

/// Paths with this byte, in several places.
fn ways_with(byte: u8, root: &str) -> [String; 7] {
    [
        format!("..%{byte:02x}canary"),
        format!("%{byte:02x}../canary"),
        format!("..%{byte:02x}/canary"),
        format!("../canary%{byte:02x}"),
        format!("%{byte:02x}{root}/canary"),
        format!("%{byte:02x}"),
        format!("sub/%{byte:02x}/../../canary"),
    ]
}

#[test]
fn no_spelling_leads_out_of_the_directory() {
    let nodes = Nodes::start("files+rw");
    let share = nodes.share();
    let root = nodes.root.path().to_str().unwrap().to_owned();
    fs::create_dir(share.join("sub")).unwrap();
    symlink("../canary", share.join("out")).unwrap();
    symlink("..", share.join("out_dir")).unwrap();
    symlink(format!("{root}/canary"), share.join("out_absolute")).unwrap();
    symlink(&root, share.join("out_absolute_dir")).unwrap();
    symlink("../..", share.join("sub/up")).unwrap();
    symlink("out", share.join("chain")).unwrap();
    symlink("out_dir", share.join("chain_dir")).unwrap();
    symlink(format!("/proc/self/root{root}"), share.join("proc_root")).unwrap();
    let before = tree(nodes.root.path());
    let peers = nodes.both();
    let refused = |at: usize, method: &str, noun: &str, way: &str| {
        let (http, peer) = peers[at % 2];
        let (headers, body): (&[_], &[u8]) =
            if method == "PUT" { (&[("If-Match", "*")], b"overwritten") } else { (&[], b"") };
        let answer = support::ask(http, method, &format!("{peer}/{noun}//{way}"), headers, body);
        let text = String::from_utf8_lossy(&answer.body);
        assert!((400..500).contains(&answer.status), "{method} {noun} {way}: {answer:?}");
        assert!(!text.contains(CANARY), "{method} {noun} {way}: {answer:?}");
    };
    let ways = [("GET", "file"), ("PUT", "file"), ("DELETE", "file"), ("GET", "list")];
    for (at, way) in ways_out(&root).iter().enumerate() {
        ways.iter().for_each(|(method, noun)| refused(at, method, noun, way));
    }
    for byte in 0..=255_u8 {
        for (at, way) in ways_with(byte, &root).iter().enumerate() {
            refused(at, "GET", "file", way);
            let (method, noun) = ways[1 + (usize::from(byte) + at) % 3];
            refused(at, method, noun, way);
        }
    }
    assert_eq!(tree(nodes.root.path()), before, "something was changed");
    for node in [&nodes.server, &nodes.client] {
        let log = node.log();
        assert!(!log.iter().any(|line| line.contains("panicked")), "{log:#?}");
    }
    // Without a condition a name of any byte is a file that may be created, inside.
    for byte in 0..=255_u8 {
        nodes.put(&format!("file//sub/..%{byte:02x}canary"), b"x");
    }
    let outside: BTreeSet<_> =
        fs::read_dir(&root).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(outside, BTreeSet::from(["canary".into(), "share".into()]));
    assert_eq!(fs::read_to_string(nodes.root.path().join("canary")).unwrap(), CANARY);
}

/// Every path below, with its type or contents.
fn tree(root: &Path) -> BTreeSet<(PathBuf, Vec<u8>)> {
    let mut found = BTreeSet::new();
    for entry in fs::read_dir(root).unwrap() {
        let path = entry.unwrap().path();
        let kind = fs::symlink_metadata(&path).unwrap();
        if kind.is_dir() {
            found.extend(tree(&path));
        }
        let content = if kind.is_file() { fs::read(&path).unwrap() } else { Vec::new() };
        found.insert((path, content));
    }
    found
}

#[test]
fn links_within_the_directory_are_followed() {
    let nodes = Nodes::start("files");
    let share = nodes.share();
    fs::create_dir(share.join("v2")).unwrap();
    fs::write(share.join("v2/a"), "second").unwrap();
    symlink("v2", share.join("current")).unwrap();
    symlink("../v2/a", share.join("v2/again")).unwrap();
    symlink("circle", share.join("circle")).unwrap();
    assert_eq!(nodes.get("file//current/a").text(), "second");
    assert_eq!(nodes.get("file//v2/again").text(), "second");
    assert_error(&nodes.get("file//circle"), 403, "forbidden");
    let list = nodes.get("list//").json();
    let kinds: Vec<_> =
        list["entries"].as_array().unwrap().iter().map(|e| (&e["name"], &e["kind"])).collect();
    assert_eq!(format!("{kinds:?}").matches("link").count(), 2, "{kinds:?}");
}

/// Set on drop, so that a failed test stops the threads that wait for it.
struct Raised<'a>(&'a AtomicBool);

impl Drop for Raised<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// A name that leads inside and outside by turns, swapped as fast as the system can.
#[test]
fn a_link_that_is_swapped_while_it_is_opened_leads_nowhere_else() {
    let nodes = Nodes::start("files+rw");
    let share = nodes.share();
    for dir in ["in", "in/deep"] {
        fs::create_dir(share.join(dir)).unwrap();
    }
    fs::write(share.join("in/canary"), "harmless").unwrap();
    fs::write(share.join("inner"), "harmless").unwrap();
    let stop = AtomicBool::new(false);
    let (mut fine, mut refused) = (0, 0);
    thread::scope(|scope| {
        let _stopped = Raised(&stop);
        scope.spawn(|| {
            let swap = |to: &str, name: &str| {
                let other = share.join("other");
                symlink(to, &other).unwrap();
                fs::rename(&other, share.join(name)).unwrap();
            };
            while !stop.load(Ordering::Relaxed) {
                swap("..", "dir");
                swap("../canary", "file");
                swap("in", "dir");
                swap("inner", "file");
            }
        });
        let until = Instant::now() + Duration::from_secs(3);
        let mut at = 0;
        while Instant::now() < until || fine == 0 || refused == 0 {
            let paths = ["file//dir/canary", "file//file"];
            at += 1;
            let answer = if at % 8 == 0 {
                nodes.ask("PUT", "file//dir/canary", &[("If-Match", "*")], b"harmless")
            } else {
                nodes.get(paths[at % 2])
            };
            match answer.status {
                200 => {
                    assert_eq!(answer.text(), "harmless");
                    fine += 1;
                }
                // The link was missing for a moment, or led outside.
                403 | 404 | 409 | 412 => refused += 1,
                204 => {}
                // The system gave up on a path that kept changing.
                status => assert_eq!((status, answer.text().contains("exception")), (500, true)),
            }
            assert!(Instant::now() < until + PATIENCE, "{fine} fine, {refused} refused");
        }
    });
    assert_eq!(fs::read_to_string(nodes.root.path().join("canary")).unwrap(), CANARY);
}

#[test]
fn what_is_no_file_is_refused_at_once() {
    let nodes = Nodes::start("files+rw");
    let share = nodes.share();
    let fifo = share.join("fifo");
    assert!(Command::new("mkfifo").arg(&fifo).status().unwrap().success());
    let _socket = UnixListener::bind(share.join("socket")).unwrap();
    let mut special = vec!["fifo", "socket"];
    // Only a user who may create devices can test them.
    let mknod = Command::new("mknod").arg(share.join("zero")).args(["c", "1", "5"]).output();
    if mknod.is_ok_and(|output| output.status.success()) {
        special.push("zero");
    }
    for name in special {
        let asked = Instant::now();
        let got = nodes.get(&format!("file//{name}"));
        assert_eq!(got.status, 403, "{name}: {got:?}");
        assert_error(&nodes.put(&format!("file//{name}"), b"x"), 403, "not_a_file");
        assert_error(&nodes.ask("DELETE", &format!("file//{name}"), &[], b""), 403, "not_a_file");
        assert!(asked.elapsed() < Duration::from_secs(5), "{name}");
    }
    let list = nodes.get("list//").json();
    assert_eq!(list["entries"][0]["kind"], "other");
    assert_eq!(list["entries"][0]["size"], Value::Null);
}

#[test]
fn a_file_that_shrinks_while_it_is_sent_is_never_whole() {
    const LENGTH: u64 = 64 << 20;
    let nodes = Nodes::start("files");
    let path = nodes.share().join("large");
    for (http, peer) in nodes.both() {
        let file = fs::File::create(&path).unwrap();
        file.set_len(LENGTH).unwrap();
        let mut socket = TcpStream::connect(http).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        let request = format!("GET {peer}/file//large HTTP/1.1\r\nHost: localhost\r\n\r\n");
        socket.write_all(request.as_bytes()).unwrap();
        let mut begin = [0; 64 * 1024];
        socket.read_exact(&mut begin).unwrap();
        file.set_len(LENGTH / 2).unwrap();
        let mut count = begin.len() as u64;
        let mut buffer = vec![0; 1 << 16];
        // The connection closes before the announced length has arrived.
        while let Ok(read @ 1..) = socket.read(&mut buffer) {
            count += read as u64;
        }
        assert!(count < LENGTH, "{count}");
    }
}

#[test]
fn a_large_file_needs_no_memory() {
    const LENGTH: u64 = 200 << 20;
    let nodes = Nodes::start("files+rw");
    fs::File::create(nodes.share().join("large")).unwrap().set_len(LENGTH).unwrap();
    nodes.get("list//");
    let memory = |node: &Node| node.status_number("VmHWM");
    let before = [memory(&nodes.server), memory(&nodes.client)];
    let copy = nodes.root.path().join("copy");
    let copy = copy.to_str().unwrap();
    assert!(curl(&["-o", copy, &nodes.url("file//large")]).status.success());
    assert_eq!(fs::metadata(copy).unwrap().len(), LENGTH);
    let back = curl(&["-T", copy, "-w", "%{http_code}", &nodes.url("file//back")]);
    assert_eq!(back.stdout, b"201", "{back:?}");
    assert_eq!(fs::metadata(nodes.share().join("back")).unwrap().len(), LENGTH);
    for (node, before) in [&nodes.server, &nodes.client].into_iter().zip(before) {
        let grown = memory(node) - before;
        assert!(grown < 24 * 1024, "{grown} kB more");
    }
}

#[test]
fn a_file_is_stored_whole_and_removed() {
    let nodes = Nodes::start("files+rw");
    let file = nodes.share().join("a.txt");
    for (http, peer) in nodes.both() {
        let ask = |method, headers: &[(&str, &str)], body: &[u8]| {
            support::ask(http, method, &format!("{peer}/file//a.txt"), headers, body)
        };
        let made = ask("PUT", &[], b"one");
        assert_eq!((made.status, made.body.len()), (201, 0));
        assert_eq!(fs::read(&file).unwrap(), b"one");
        let first = ask("GET", &[], b"");
        assert_eq!(first.header("ETag"), made.header("ETag"));
        let etag = made.header("ETag").unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o640)).unwrap();

        assert_error(&ask("PUT", &[("If-None-Match", "*")], b"x"), 412, "precondition_failed");
        assert_error(&ask("PUT", &[("If-Match", "\"x\"")], b"x"), 412, "precondition_failed");
        assert_eq!(ask("PUT", &[("If-Match", etag)], b"two").status, 204);
        assert_error(&ask("PUT", &[("If-Match", etag)], b"x"), 412, "precondition_failed");
        assert_error(&ask("DELETE", &[("If-Match", etag)], b""), 412, "precondition_failed");
        assert_error(&ask("PUT", &[("Content-Range", "bytes 0-0/3")], b"x"), 400, "partial_put");
        assert_eq!(fs::read(&file).unwrap(), b"two");
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o640);
        assert_eq!(ask("PUT", &[], b"").status, 204);
        assert_eq!(fs::read(&file).unwrap(), b"");

        assert_eq!(ask("DELETE", &[], b"").status, 204);
        assert_error(&ask("DELETE", &[], b""), 404, "not_found");
        assert_error(&ask("PUT", &[("If-Match", "*")], b"x"), 412, "precondition_failed");
        assert!(nodes.names().is_empty());
    }
    // A client with `Expect: 100-continue` gets the refusal before it has sent the body.
    let (large, sent) = (nodes.root.path().join("large"), "%{http_code} %{size_upload}");
    fs::File::create(&large).unwrap().set_len(10 << 20).unwrap();
    let conditions = ["-H", "If-Match: \"x\"", "-H", "Expect: 100-continue", "-o", "/dev/null"];
    let url = nodes.url("file//a.txt");
    let upload = ["-T", large.to_str().unwrap(), "--expect100-timeout", "20", "-w", sent, &url];
    assert_eq!(curl(&[&conditions[..], &upload].concat()).stdout, b"412 0");

    fs::create_dir(nodes.share().join("dir")).unwrap();
    for method in ["PUT", "DELETE"] {
        assert_error(&nodes.ask(method, "file//dir", &[], b""), 409, "is_directory");
    }
    for path in ["file//none/a", "file//none/none/a"] {
        assert_error(&nodes.put(path, b"x"), 409, "no_directory");
    }
    assert_eq!(nodes.put("file//dir/b", b"x").status, 201);
    assert_error(&nodes.put("file//dir/b/c", b"x"), 409, "no_directory");
    let long = "n".repeat(300);
    assert_error(&nodes.put(&format!("file//{long}"), b"x"), 400, "bad_path");
    assert_error(&nodes.ask("PUT", "list//dir", &[], b"x"), 405, "wrong_verb");
}

#[test]
fn a_link_stands_for_its_file() {
    let nodes = Nodes::start("files+rw");
    let share = nodes.share();
    fs::create_dir_all(share.join("v2/deep")).unwrap();
    fs::write(share.join("v2/a"), "old").unwrap();
    fs::set_permissions(share.join("v2/a"), fs::Permissions::from_mode(0o640)).unwrap();
    symlink("v2", share.join("current")).unwrap();
    symlink("current/a", share.join("link")).unwrap();
    symlink("../../link", share.join("v2/deep/chain")).unwrap();
    symlink("v2/new", share.join("dangling")).unwrap();
    symlink("none/new", share.join("nowhere")).unwrap();
    symlink("none/", share.join("no_file")).unwrap();
    symlink("no_file", share.join("chain")).unwrap();
    symlink("../outside", share.join("out")).unwrap();
    symlink(share.join("v2/a"), share.join("absolute")).unwrap();
    symlink("circle", share.join("circle")).unwrap();
    let is_link = |name: &str| fs::symlink_metadata(share.join(name)).unwrap().is_symlink();

    for (name, content) in [("link", "one"), ("v2/deep/chain", "two"), ("current/a", "three")] {
        let path = format!("file//{name}");
        let tag = nodes.get(&path).header("ETag").unwrap().to_owned();
        let stored = nodes.ask("PUT", &path, &[("If-Match", &tag)], content.as_bytes());
        assert_eq!(stored.status, 204, "{name}: {stored:?}");
        // The file, by each of its names, is the one that was stored.
        for other in ["link", "v2/deep/chain", "current/a", "v2/a"] {
            let answer = nodes.get(&format!("file//{other}"));
            assert_eq!(answer.text(), content, "{name} {other}");
            assert_eq!(answer.header("ETag"), stored.header("ETag"), "{name} {other}");
        }
        let stale = nodes.ask("PUT", "file//v2/a", &[("If-Match", &tag)], b"x");
        assert_error(&stale, 412, "precondition_failed");
    }
    assert!(is_link("link") && is_link("v2/deep/chain") && is_link("current"));
    let mode = fs::metadata(share.join("v2/a")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o640, "those of the file");

    // A file that does not exist yet is created where the link leads.
    assert_error(&nodes.get("file//dangling"), 404, "not_found");
    let only_new = [("If-None-Match", "*")];
    assert_eq!(nodes.ask("PUT", "file//dangling", &only_new, b"new").status, 201);
    assert_error(
        &nodes.ask("PUT", "file//dangling", &only_new, b"newer"),
        412,
        "precondition_failed",
    );
    assert!(is_link("dangling"));
    assert_eq!(fs::read(share.join("v2/new")).unwrap(), b"new");
    assert_error(&nodes.put("file//nowhere", b"x"), 409, "no_directory");
    for name in ["no_file", "chain"] {
        assert_error(&nodes.put(&format!("file//{name}"), b"x"), 409, "is_directory");
    }
    assert!(!share.join("none").exists(), "GET would not find it by the link");
    for name in ["out", "absolute", "circle"] {
        assert_error(&nodes.put(&format!("file//{name}"), b"x"), 403, "forbidden");
        assert!(is_link(name));
    }
    assert!(!nodes.root.path().join("outside").exists());

    // As many links, one after the other, as the kernel follows, and one more.
    fs::create_dir(share.join("chain_of")).unwrap();
    symlink("0", share.join("chain_of/1")).unwrap();
    for at in 2..=41 {
        symlink((at - 1).to_string(), share.join(format!("chain_of/{at}"))).unwrap();
    }
    for (body, status) in [("new", 201), ("newer", 204)] {
        assert_eq!(nodes.put("file//chain_of/40", body.as_bytes()).status, status);
        assert_eq!(nodes.get("file//chain_of/40").text(), body);
        assert_error(&nodes.put("file//chain_of/41", b"x"), 403, "forbidden");
        assert_error(&nodes.get("file//chain_of/41"), 403, "forbidden");
    }

    // The name is removed, not the file; the condition is about the file.
    let wrong = nodes.ask("DELETE", "file//link", &[("If-Match", "\"x\"")], b"");
    assert_error(&wrong, 412, "precondition_failed");
    let tag = nodes.get("file//v2/a").header("ETag").unwrap().to_owned();
    assert_eq!(nodes.ask("DELETE", "file//link", &[("If-Match", &tag)], b"").status, 204);
    assert!(fs::symlink_metadata(share.join("link")).is_err());
    assert_eq!(fs::read(share.join("v2/a")).unwrap(), b"three");
}

#[test]
fn a_put_that_is_cut_leaves_nothing() {
    const LENGTH: usize = 200_000;
    let nodes = Nodes::start("files+rw");
    fs::write(nodes.share().join("old"), "as it was").unwrap();
    let body = random(LENGTH, 3);
    for (at, (http, peer)) in (0..24).zip(nodes.both().into_iter().cycle()) {
        let cut = [0, 1, 100, 16_384, 65_536, 70_000, 199_999, 131_072][at % 8];
        let name = if at % 3 == 0 { "old" } else { "new" };
        let mut socket = TcpStream::connect(http).unwrap();
        let head = format!(
            "PUT {peer}/file//{name} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {LENGTH}\r\n\r\n"
        );
        socket.write_all(head.as_bytes()).unwrap();
        socket.write_all(&body[..cut]).unwrap();
        socket.shutdown(Shutdown::Write).unwrap();
        let mut answer = Vec::new();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        let _ = socket.read_to_end(&mut answer);
        let text = String::from_utf8_lossy(&answer);
        assert!(!text.starts_with("HTTP/1.1 2"), "{cut}: {text}");
    }
    support::scene::wait_until(|| {
        let names = nodes.names();
        (names != BTreeSet::from(["old".into()])).then(|| format!("left: {names:?}"))
    });
    assert_eq!(fs::read(nodes.share().join("old")).unwrap(), b"as it was");
}

#[test]
fn of_many_that_store_at_once_each_is_whole() {
    let nodes = Nodes::start("files+rw");
    let bodies: Vec<Vec<u8>> = (0..8).map(|n| random(150_000 + n, n as u64)).collect();
    let statuses = |headers: &[(&str, &str)]| -> Vec<u16> {
        thread::scope(|scope| {
            let puts: Vec<_> = bodies
                .iter()
                .map(|body| scope.spawn(|| nodes.ask("PUT", "file//shared", headers, body).status))
                .collect();
            // Concurrent readers get one of them.
            for _ in 0..10 {
                let seen = nodes.get("file//shared");
                assert!(seen.status == 404 || bodies.contains(&seen.body), "{}", seen.body.len());
            }
            puts.into_iter().map(|put| put.join().unwrap()).collect()
        })
    };
    // Only one may create it, and only one may replace a version.
    let first = statuses(&[("If-None-Match", "*")]);
    assert_eq!(first.iter().filter(|status| **status == 201).count(), 1, "{first:?}");
    assert!(first.iter().all(|status| [201, 412].contains(status)), "{first:?}");
    let seen = nodes.get("file//shared");
    let second = statuses(&[("If-Match", seen.header("ETag").unwrap())]);
    assert_eq!(second.iter().filter(|status| **status == 204).count(), 1, "{second:?}");
    let third = statuses(&[]);
    assert!(third.iter().all(|status| *status == 204), "{third:?}");
    assert!(bodies.contains(&fs::read(nodes.share().join("shared")).unwrap()));
    assert_eq!(nodes.names(), BTreeSet::from(["shared".into()]));
}

#[test]
fn a_list_tells_odd_names_as_they_are() {
    let nodes = Nodes::start("files");
    let share = nodes.share();
    let names: [&[u8]; 7] = [
        b"a b",
        b"line\nbreak",
        b"quote\"",
        b".hidden",
        b"%41",
        "\u{e4}".as_bytes(),
        b"latin-\xe4",
    ];
    for name in names {
        fs::write(share.join(OsStr::from_bytes(name)), name).unwrap();
        set_modified(
            &share.join(OsStr::from_bytes(name)),
            UNIX_EPOCH + Duration::from_secs(86_399),
        );
    }
    fs::write(share.join(".restpipe-put-0123456789abcdef"), "unfinished").unwrap();
    let list = nodes.get("list").json();
    let entries = list["entries"].as_array().unwrap();
    assert_eq!(entries.len(), names.len(), "{list}");
    assert_eq!(list.get("next"), None);
    for entry in entries {
        assert_eq!(
            (&entry["kind"], &entry["modified"]),
            (&json!("file"), &json!("1970-01-01T23:59:59Z"))
        );
        let name = entry["name"].as_str().unwrap();
        if entry["not_utf8"].is_null() {
            assert_eq!(entry["size"], name.len());
            let path: String = name.bytes().map(|byte| format!("%{byte:02X}")).collect();
            assert_eq!(nodes.get(&format!("file//{path}")).text(), name);
        } else {
            assert_eq!((name, &entry["not_utf8"]), ("latin-\u{fffd}", &json!("latin-%E4")));
        }
    }
    let get = nodes.get("file//.restpipe-put-0123456789abcdef");
    assert_error(&get, 400, "bad_path");
    assert_error(&nodes.get("file//latin-%E4"), 400, "bad_path");
}

#[test]
fn a_long_list_is_told_in_parts() {
    const COUNT: usize = 20_007;
    let nodes = Nodes::start("files");
    let share = nodes.share();
    for n in 0..COUNT {
        let name = CString::new(format!("{:05}\u{e4}%", n)).unwrap();
        let mut name = name.into_bytes();
        // The last name of a part may contain any byte.
        if n == 9_999 {
            name.extend_from_slice(b"\xff&?");
        }
        fs::File::create(share.join(OsString::from_vec(name))).unwrap();
    }
    let mut seen = Vec::new();
    let mut path = "list//".to_owned();
    let mut parts = 0;
    loop {
        let list = nodes.get(&path).json();
        let entries = list["entries"].as_array().unwrap();
        seen.extend(entries.iter().map(|entry| entry["name"].as_str().unwrap()[..5].to_owned()));
        parts += 1;
        let Some(next) = list.get("next") else { break };
        assert_eq!(entries.len(), 10_000);
        path = format!("list//?after={}", next.as_str().unwrap().replace('%', "%25"));
    }
    assert_eq!((seen.len(), parts), (COUNT, 3));
    assert!(seen.is_sorted());
    assert_eq!(seen.iter().collect::<BTreeSet<_>>().len(), COUNT);
}

#[test]
fn a_value_that_cannot_be_used_is_one_line_at_start() {
    let root = tempfile::tempdir().unwrap();
    let file = root.path().join("file");
    fs::write(&file, "").unwrap();
    let identities = Identities::new(&["c"]);
    let no_dir = format!("files:{}", root.path().join("none").display());
    let no_file = format!("files+rw:{}", file.display());
    for (value, expected) in [
        (no_dir.as_str(), "cannot be used: the directory cannot be opened: No such file"),
        (no_file.as_str(), "cannot be used: the directory cannot be opened: Not a directory"),
        ("a=example,b=files:/no/such", "\"files:/no/such\" cannot be used"),
        ("files:share", "an absolute path"),
        ("a=example,a=example", "a= stands there twice"),
        ("https://127.0.0.1:1/", "http://HOST:PORT/PREFIX"),
        ("http://me:secret@127.0.0.1:1/", "without a user and password"),
        ("http://127.0.0.1:1/?a=b", "without a query"),
        ("a=nothing,*=example", "is \"nothing\"; accepted is example"),
    ] {
        for setup in [server(&identities), client(&identities, "c", ([127, 0, 0, 1], 1).into())] {
            let output = setup.set("RP_EVENT_HANDLER", value).command().output().unwrap();
            let error = String::from_utf8(output.stderr).unwrap();
            assert_eq!(output.status.code(), Some(2), "{value}: {error}");
            assert_eq!(error.lines().count(), 1, "{error}");
            assert!(error.contains("RP_EVENT_HANDLER") && error.contains(expected), "{error}");
            assert!(!error.contains("secret"), "{error}");
        }
    }
}

#[test]
fn several_handlers_share_the_nouns() {
    let rules = tempfile::NamedTempFile::new().unwrap();
    // Rules match the whole noun.
    fs::write(rules.path(), "allow * get share/file\nallow * get ex/*\nallow * get cat\n").unwrap();
    let share = tempfile::tempdir().unwrap();
    fs::write(share.path().join("a.txt"), "shared").unwrap();
    let identities = Identities::new(&["c"]);
    let value = format!("share=files:{},ex=example,*=example", share.path().display());
    let server = server(&identities).start();
    let client = client(&identities, "c", server.pipe())
        .set("RP_EVENT_HANDLER", value)
        .set("RP_RULES_FILE", rules.path().display())
        .start();
    server.get_when_up("/client/c/cat//a");
    assert_eq!(server.get("/client/c/share/file//a.txt").text(), "shared");
    assert_eq!(server.get("/client/c/ex/cat//a/b").json(), json!({"result_from_client": "ab"}));
    for path in ["share/list//", "file//a.txt", "time"] {
        assert_error(&server.get(&format!("/client/c/{path}")), 403, "refused");
    }
    // An encoded slash is no separator, neither for a rule nor for a handler.
    for path in ["share%2Ffile//a.txt", "ex%2Fcat//a"] {
        assert_error(&server.get(&format!("/client/c/{path}")), 404, "unhandled");
    }
    client.wait_log(&["refused"]);
}
