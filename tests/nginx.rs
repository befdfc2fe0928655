//! The real nginx in front of both nodes, with the documents' two virtual hosts.

mod support;

use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use support::{Answer, Identities, NGINX, PATIENCE, client, has_all, parse_answer, server};

/// nginx as a process with everything it needs in one directory.
struct Nginx {
    child: Child,
    address: SocketAddr,
    dir: tempfile::TempDir,
}

impl Nginx {
    /// With these sites, given the address to listen at.
    fn start(sites: impl Fn(SocketAddr) -> String) -> Self {
        // nginx cannot say which port it took, so it is given one that was free a moment ago; where
        // somebody else was faster, another.
        for _ in 0..5 {
            let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
            let address = free.local_addr().unwrap();
            drop(free);
            let dir = tempfile::tempdir().unwrap();
            let text = configuration(&sites(address));
            std::fs::write(dir.path().join("nginx.conf"), text).unwrap();
            let child = Command::new("nginx")
                .env("PATH", path())
                .args(["-e", "error.log", "-c", "nginx.conf", "-p"])
                .arg(dir.path())
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()
                .unwrap();
            let mut nginx = Self { child, address, dir };
            if nginx.comes_up() {
                return nginx;
            }
            let log = nginx.log();
            assert!(log.contains("Address already in use"), "{log}");
        }
        panic!("no port for nginx");
    }

    fn comes_up(&mut self) -> bool {
        let until = Instant::now() + PATIENCE;
        while self.child.try_wait().unwrap().is_none() {
            if TcpStream::connect(self.address).is_ok() {
                return true;
            }
            assert!(Instant::now() < until, "nginx does not listen: {}", self.log());
            std::thread::sleep(Duration::from_millis(10));
        }
        false
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("error.log")).unwrap_or_default()
    }

    /// What a caller writes and reads, without the `Host` that other tests send.
    fn ask(&self, host: &str, method: &str, path: &str, body: &[u8]) -> Answer {
        let mut socket = TcpStream::connect(self.address).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        let length = body.len();
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\
             Content-Type: application/x-test\r\nContent-Length: {length}\r\n\r\n"
        );
        socket.write_all(head.as_bytes()).unwrap();
        socket.write_all(body).unwrap();
        let mut answer = Vec::new();
        std::io::Read::read_to_end(&mut socket, &mut answer).unwrap();
        parse_answer(&answer)
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("nginx: {}", self.log());
        }
    }
}

/// Debian keeps nginx where only root's search path leads.
fn path() -> String {
    format!("{}:/usr/sbin", std::env::var("PATH").unwrap_or_default())
}

fn configuration(sites: &str) -> String {
    format!(
        "daemon off;
        # One process, so that nothing is left when it is killed, and no other user.
        master_process off;
        pid nginx.pid;
        error_log error.log;
        events {{ }}
        http {{
            access_log off;
            client_body_temp_path body;
            proxy_temp_path proxy;
            fastcgi_temp_path fastcgi;
            uwsgi_temp_path uwsgi;
            scgi_temp_path scgi;
            {sites}
        }}
        "
    )
}

/// The sites of the documents, in front of these two Unix sockets.
fn documented(client_socket: &str, server_socket: &str) -> impl Fn(SocketAddr) -> String + use<> {
    let hosts = [
        ("rp_client", "rpclient.local", client_socket.to_owned()),
        ("rp_server", "rpserver.local", server_socket.to_owned()),
    ];
    let host = |address, (upstream, name, socket): &(&str, &str, String)| {
        format!(
            "upstream {upstream} {{
                server {socket} fail_timeout=0;
            }}
            server {{
                listen {address};
                server_name {name};
                keepalive_timeout 5;

                location /favicon.ico {{
                    return 404;
                }}

                location / {{
                    proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
                    proxy_set_header Host $http_host;
                    proxy_redirect off;

                    proxy_pass http://{upstream};
                }}
            }}
            "
        )
    };
    move |address| hosts.iter().map(|of| host(address, of)).collect()
}

/// The sites that a package brings, in front of these two addresses.
fn shipped(client: &str, server: &str) -> impl Fn(SocketAddr) -> String + use<> {
    let site = |file: &str, default: &str, node: &str| {
        let text = std::fs::read_to_string(format!("scripts/nginx/{file}")).unwrap();
        assert!(text.contains(default) && text.contains("listen 80;"), "{text}");
        text.replace(default, node)
    };
    let sites = site("rpclient.local", "127.0.0.1:8082", client)
        + &site("rpserver.local", "127.0.0.1:8081", server);
    move |address| sites.replace("listen 80;", &format!("listen {address};"))
}

#[test]
fn the_documents_requests_pass_through_nginx() {
    if !has_all(&[NGINX]) {
        return;
    }
    let identities = Identities::new(&["client-1"]);
    let bind = |name: &str| format!("unix:{}", identities.path(name).display());
    let server = server(&identities).set("RP_SERVER_HTTP_BIND", bind("server.sock")).start();
    let client = client(&identities, "client-1", server.pipe());
    let client = client.set("RP_CLIENT_HTTP_BIND", bind("client.sock")).start();
    let nginx = Nginx::start(documented(client.ready("http"), server.ready("http")));

    // The four of the documents; the first waits until the two nodes have met.
    let answer = nginx.ask("rpclient.local", "GET", "/server/time", b"");
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(answer.header("Content-Type"), Some("application/json"));
    assert_eq!(answer.header("X-Event-Return-Code"), Some("0"));
    assert!(answer.json()["time_from_server"].as_f64().unwrap() > 1.7e9);
    let answer = nginx.ask("rpserver.local", "GET", "/client/localhost/time", b"");
    assert!(answer.json()["time_from_client"].as_f64().unwrap() > 1.7e9, "{answer:?}");
    let answer = nginx.ask("rpclient.local", "GET", "/server/cat//hello%20/world", b"");
    assert_eq!(answer.text(), r#"{"result_from_server": "hello world"}"#);
    let answer = nginx.ask("rpserver.local", "GET", "/client/localhost/cat//hello%20/world", b"");
    assert_eq!(answer.text(), r#"{"result_from_client": "hello world"}"#);

    // What nginx must leave as it is: an encoded slash, a double one, a query.
    let answer = nginx.ask("rpclient.local", "GET", "/server/cat//a%2Fb/%25/c?d=e", b"");
    assert_eq!(answer.text(), r#"{"result_from_server": "a/b%c"}"#);

    // Answers that are not 200 come through with their headers and bodies.
    for (host, peer) in [("rpclient.local", "/server"), ("rpserver.local", "/client/client-1")] {
        let body = vec![0xff; 300_000];
        let answer = nginx.ask(host, "POST", &format!("{peer}/time"), &body);
        assert_eq!((answer.status, answer.header("Allow")), (405, Some("GET")), "{answer:?}");
        let answer = nginx.ask(host, "GET", &format!("{peer}/no/such"), b"");
        assert_eq!((answer.status, answer.header("X-Event-Return-Code")), (404, Some("255")));
        assert_eq!(answer.json()["error"], "unhandled");
        let answer = nginx.ask(host, "GET", "/favicon.ico", b"");
        assert_eq!(answer.status, 404);
        assert!(answer.text().contains("nginx"), "{answer:?}");
        // Ports belong to the name in Host, and both nodes know their names.
        let with_port = format!("{host}:{}", nginx.address.port());
        assert_eq!(nginx.ask(&with_port, "GET", &format!("{peer}/time"), b"").status, 200);
    }

    // nginx has no host of this name and takes its first; the node behind it looks again.
    let answer = nginx.ask("evil.example", "GET", "/server/time", b"");
    assert_eq!((answer.status, answer.json()["error"].as_str()), (421, Some("host_not_allowed")));
    // A host of its own is all that the other's paths are good for.
    let answer = nginx.ask("rpserver.local", "GET", "/server/time", b"");
    assert_eq!((answer.status, answer.json()["error"].as_str()), (404, Some("unknown_path")));
}

#[test]
fn a_body_passes_through_nginx_and_back() {
    if !has_all(&[NGINX]) {
        return;
    }
    use restpipe::event::Reply;
    use restpipe::handler::Router;

    let identities = Identities::new(&["client-1"]);
    let router = Router::new().on("post_echo", |_, event| {
        // Read whole before it is answered: nginx sends no more of a body once the answer begins.
        Ok(Reply::new(event.media_type.clone(), event.body.gather(1 << 20)?))
    });
    let server = server(&identities).serve(router);
    let bind = format!("unix:{}", identities.path("client.sock").display());
    let client = client(&identities, "client-1", server.pipe());
    let client = client.set("RP_CLIENT_HTTP_BIND", bind).start();
    let nginx = Nginx::start(documented(client.ready("http"), "127.0.0.1:1"));
    for length in [1, 256, 70_000, 1_000_000] {
        let body: Vec<u8> = (0..length).map(|i| (i % 251) as u8).collect();
        let answer = nginx.ask("rpclient.local", "POST", "/server/echo", &body);
        assert_eq!(answer.status, 200, "{length}");
        assert_eq!(answer.header("Content-Type"), Some("application/x-test"));
        assert!(answer.body == body, "{length} bytes came back changed");
    }
}

#[test]
fn the_shipped_sites_pass_on_requests_for_the_other_side_and_nothing_else() {
    if !has_all(&[NGINX]) {
        return;
    }
    let identities = Identities::new(&["client-1"]);
    let server = server(&identities).start();
    let client = client(&identities, "client-1", server.pipe()).start();
    let nginx = Nginx::start(shipped(client.ready("http"), server.ready("http")));

    for (host, peer) in [("rpclient.local", "/server"), ("rpserver.local", "/client/client-1")] {
        let answer = nginx.ask(host, "GET", &format!("{peer}/cat//a%2Fb/%25/c?d=e"), b"");
        assert!(answer.text().ends_with(r#": "a/b%c"}"#), "{answer:?}");
        let body: Vec<u8> = (0..3_000_000_u32).map(|i| (i % 251) as u8).collect();
        let answer = nginx.ask(host, "POST", &format!("{peer}/digest"), &body);
        assert_eq!((answer.status, answer.json()["bytes"].as_u64()), (200, Some(3_000_000)));
        let answer = nginx.ask(host, "GET", &format!("{peer}/bytes//3000000"), b"");
        assert_eq!((answer.status, answer.body.len()), (200, 3_000_000));
        // What a node says of itself is not for whoever reaches nginx.
        for path in ["/", "/status", "/favicon.ico", "/other/time"] {
            let answer = nginx.ask(host, "GET", path, b"");
            assert_eq!(answer.status, 404, "{path}");
            assert!(answer.text().contains("nginx"), "{path}: {answer:?}");
        }
    }
}
