//! nginx and Python's http.server as services, curl as the caller.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use crate::support::nginx::Nginx;
use crate::support::{CURL, Identities, NGINX, Node, PYTHON, client, has_all, server};

/// A program that is killed at the end of its test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// nginx serving the files of `dir`, on a free port and on `app.sock` there.
fn nginx(dir: &Path) -> Nginx {
    let at = dir.display();
    let echo = "$request_method $request_uri host=$host:$server_port peer=$http_rp_peer_name \
                id=$http_rp_request_id query=$args";
    Nginx::start(|address| {
        // Of an attempt whose port was taken.
        let _ = std::fs::remove_file(dir.join("app.sock"));
        format!(
            "default_type application/x-test; client_max_body_size 0;
            server {{
                listen unix:{at}/app.sock; listen {address};
                location /api/echo {{ return 200 '{echo}'; }}
                location /api/moved {{ return 301 http://127.0.0.1:1/elsewhere; }}
                location /api/files/ {{ alias {at}/files/; dav_methods PUT DELETE; }}
                location /echo {{ return 200 '{echo}'; }}
            }}"
        )
    })
}

/// Both nodes; the client has this handler.
struct Nodes {
    server: Node,
    _client: Node,
    _identities: Identities,
}

impl Nodes {
    fn start(handler: &str) -> Self {
        let identities = Identities::new(&["client-1"]);
        let server = server(&identities).start();
        let client = client(&identities, "client-1", server.pipe());
        let client = client.set("RP_EVENT_HANDLER", handler).start();
        client.get_when_up("/server/time");
        Self { server, _client: client, _identities: identities }
    }

    /// The output of curl, and its exit code.
    fn curl(&self, path: &str, arguments: &[&str]) -> (String, i32) {
        let url = format!("http://{}/client/client-1/{path}", self.server.http());
        let output = Command::new("curl")
            .args(["-sS", "--max-time", "30", "--path-as-is"])
            .args(arguments)
            .arg(url)
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        (text, output.status.code().unwrap())
    }
}

fn files(dir: &Path) -> Vec<u8> {
    let large: Vec<u8> = (0..3_000_000u32).map(|i| (i % 251) as u8).collect();
    std::fs::create_dir(dir.join("files")).unwrap();
    std::fs::write(dir.join("files/large"), &large).unwrap();
    std::fs::write(dir.join("files/a b.txt"), "hello").unwrap();
    std::fs::write(dir.join("files/index.html"), "<p>front page").unwrap();
    std::fs::write(dir.join("secret"), "secret").unwrap();
    large
}

#[test]
fn nginx_answers_curl_through_the_pipe() {
    if !has_all(&[NGINX, CURL]) {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let large = files(dir.path());
    let nginx = nginx(dir.path());
    let nodes = Nodes::start(&format!("http://{}/api", nginx.address));

    let (text, code) = nodes.curl("echo//x%2Fy?q=%20&r", &["-H", "X-Request-Id: my-id"]);
    let expected = format!(
        "GET /api/echo//x%2Fy?q=%20&r host={} peer=localhost id=my-id query=q=%20&r",
        nginx.address
    );
    assert_eq!((text, code), (expected, 0));

    let target = dir.path().join("down");
    let down = target.to_str().unwrap();
    assert_eq!(nodes.curl("files/large", &["-o", down]).1, 0);
    assert!(std::fs::read(&target).unwrap() == large);
    let (text, _) = nodes.curl("files/a%20b.txt", &["-i", "-r", "1-3"]);
    assert!(text.starts_with("HTTP/1.1 206") && text.ends_with("\r\n\r\nell"), "{text}");
    assert!(text.contains("Content-Range: bytes 1-3/5"), "{text}");

    let (text, _) = nodes.curl("files/large", &["-I"]);
    assert!(text.contains("Content-Length: 3000000") && text.contains("ETag: "), "{text}");
    let etag = text.lines().find_map(|line| line.strip_prefix("ETag: ")).unwrap();
    let condition = format!("If-None-Match: {etag}");
    let (text, _) = nodes.curl("files/large", &["-i", "-H", &condition]);
    assert!(text.starts_with("HTTP/1.1 304") && text.ends_with("\r\n\r\n"), "{text}");

    let (text, code) = nodes.curl("moved", &["-i"]);
    assert!(text.starts_with("HTTP/1.1 301"), "{text}");
    assert!(text.contains("Location: http://127.0.0.1:1/elsewhere"), "{text} {code}");
    let (text, _) = nodes.curl("files/none", &["-i"]);
    assert!(text.starts_with("HTTP/1.1 404") && text.contains("nginx"), "{text}");
    assert!(text.contains("X-Event-Return-Code: 0"), "{text}");

    // Upload: with a length, and of unknown length from a pipe.
    let source = dir.path().join("up");
    std::fs::write(&source, &large).unwrap();
    let up = source.to_str().unwrap();
    let (text, _) = nodes.curl("files/one", &["-i", "-T", up]);
    assert!(text.contains("HTTP/1.1 201"), "{text}");
    assert!(std::fs::read(dir.path().join("files/one")).unwrap() == large);
    let (text, _) = nodes.curl("files/two", &["-i", "-T", up, "-H", "Transfer-Encoding: chunked"]);
    assert!(text.contains("HTTP/1.1 201"), "{text}");
    assert!(std::fs::read(dir.path().join("files/two")).unwrap() == large);
    let (text, _) = nodes.curl("files/two", &["-i", "-X", "DELETE"]);
    assert!(text.starts_with("HTTP/1.1 204"), "{text}");
    assert!(!dir.path().join("files/two").exists());

    for path in ["files/../../secret", "%2e%2e/secret", "files/..%2f..%2f..%2fsecret"] {
        let (text, _) = nodes.curl(path, &["-i"]);
        assert!(text.starts_with("HTTP/1.1 400") && !text.ends_with("secret"), "{path}: {text}");
    }
}

#[test]
fn nginx_answers_on_a_unix_socket_beside_other_handlers() {
    if !has_all(&[NGINX, CURL]) {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    files(dir.path());
    let nginx = nginx(dir.path());
    let unix = dir.path().join("app.sock");
    let nodes = Nodes::start(&format!(
        "web=http+unix:{},api=http://{}/api,*=example",
        unix.display(),
        nginx.address
    ));
    let (text, _) = nodes.curl("web/echo/v1//x?y", &[]);
    assert!(text.starts_with("GET /echo/v1//x?y host=localhost:"), "{text}");
    let (text, _) = nodes.curl("api/echo//x", &[]);
    assert!(text.starts_with("GET /api/echo//x host="), "{text}");
    assert_eq!(nodes.curl("api/files//", &[]).0, "<p>front page");
    assert!(nodes.curl("time", &[]).0.contains("time_from_client"));
    let (text, _) = nodes.curl("api/../secret", &["-i"]);
    assert!(text.starts_with("HTTP/1.1 400"), "{text}");
}

#[test]
fn pythons_server_answers_curl_through_the_pipe() {
    if !has_all(&[PYTHON, CURL]) {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let large = files(dir.path());
    let mut child = Command::new("python3")
        .args(["-u", "-m", "http.server", "0", "--bind", "127.0.0.1", "--directory"])
        .arg(dir.path().join("files"))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let _python = Running(child);
    let port: u16 = line.split("port ").nth(1).unwrap().split(' ').next().unwrap().parse().unwrap();
    let nodes = Nodes::start(&format!("http://localhost:{port}"));
    assert_eq!(nodes.curl("", &[]).0, "<p>front page");
    let (text, _) = nodes.curl("a%20b.txt", &["-i"]);
    assert!(text.starts_with("HTTP/1.1 200") && text.ends_with("\r\n\r\nhello"), "{text}");
    assert!(text.contains("Content-Type: text/plain"), "{text}");
    let target = dir.path().join("down");
    assert_eq!(nodes.curl("large", &["-o", target.to_str().unwrap()]).1, 0);
    assert!(std::fs::read(&target).unwrap() == large);
    let (text, _) = nodes.curl("large", &["-I"]);
    assert!(text.starts_with("HTTP/1.1 200") && text.contains("Content-Length: 3000000"), "{text}");
    // It does not support the method, refuses it, and closes.
    let body = dir.path().join("files/large");
    let (text, _) = nodes.curl("x", &["-i", "-T", body.to_str().unwrap()]);
    assert!(text.contains("HTTP/1.1 501"), "{text}");
    let (text, _) = nodes.curl("../secret", &["-i"]);
    assert!(text.starts_with("HTTP/1.1 400"), "{text}");
}
