//! The real nginx in front of both nodes, with the two virtual hosts of the documents and the shipped
//! sites.

use std::io::Write;
use std::net::{SocketAddr, TcpStream};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use restpipe::event::Reply;
use restpipe::handler::Router;

use crate::support::inside::Inside;
use crate::support::nginx::{Nginx, path};
use crate::support::{
    Answer, CURL, Identities, NGINX, PATIENCE, Setup, client, has_all, parse_answer, server,
};

/// Sends a request to nginx without the `Host` of the other tests.
fn ask(nginx: &Nginx, host: &str, method: &str, path: &str, body: &[u8]) -> Answer {
    ask_at(nginx.address, host, method, path, body)
}

fn ask_at(address: SocketAddr, host: &str, method: &str, path: &str, body: &[u8]) -> Answer {
    let mut socket = TcpStream::connect(address).unwrap();
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

/// The sites from the documents, in front of these two Unix sockets.
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

/// The sites in the package, in front of these two addresses.
fn shipped(client: &str, server: &str) -> impl Fn(SocketAddr) -> String + use<> {
    let site =
        |file: &str, default: &str, node: &str| adapted(file, &[(default, node), (LOOPBACK, PORT)]);
    let sites = site("rpclient.local", "127.0.0.1:8082", client)
        + &site("rpserver.local", "127.0.0.1:8081", server);
    move |address| with_port(&sites, address)
}

/// The `listen` line of the sites for this machine.
const LOOPBACK: &str = "listen 127.0.0.1:80;";

/// The same with a port to be filled in; the address stays the shipped one.
const PORT: &str = "listen 127.0.0.1:PORT;";

/// A shipped site with these parts replaced; each must occur.
fn adapted(file: &str, parts: &[(&str, &str)]) -> String {
    let text = std::fs::read_to_string(format!("scripts/nginx/{file}")).unwrap();
    parts.iter().fold(text, |text, (shipped, ours)| {
        assert!(text.contains(shipped), "{file} has no {shipped}");
        text.replace(shipped, ours)
    })
}

fn with_port(sites: &str, address: SocketAddr) -> String {
    sites.replace("PORT", &address.port().to_string())
}

/// The authenticated site in front of this address, with its files in the directory of `identities`.
fn public(identities: &Identities, server: SocketAddr) -> String {
    let path = |file: &str| identities.path(file).display().to_string();
    let letsencrypt = "/etc/letsencrypt/live/hub.example.com";
    adapted(
        "rpserver.public",
        &[
            ("127.0.0.1:8081", &server.to_string()),
            ("listen 443 ssl;", "listen PORT ssl;"),
            (&format!("{letsencrypt}/fullchain.pem"), &path(&format!("{HUB}.crt.pem"))),
            (&format!("{letsencrypt}/privkey.pem"), &path(&format!("{HUB}.key.pem"))),
            ("/etc/nginx/restpipe.htpasswd", &path("htpasswd")),
            ("/etc/nginx/callers.crt.pem", &path("callers/ca.crt.pem")),
        ],
    )
}

/// The name of the authenticated site.
const HUB: &str = "hub.example.com";

#[test]
fn the_documents_requests_pass_through_nginx() {
    if !has_all(&[NGINX]) {
        return;
    }
    let identities = Identities::new(&["client-1"]);
    let bind = |name: &str| format!("unix:{}", identities.path(name).display());
    // The documents' sites pass the name on, so both nodes have to accept it.
    let allowed =
        |setup: Setup| setup.set("RP_HTTP_ALLOWED_HOSTS", "rpclient.local,rpserver.local");
    let server = server(&identities).set("RP_SERVER_HTTP_BIND", bind("server.sock"));
    let server = allowed(server).start();
    let client = client(&identities, "client-1", server.pipe());
    let client = allowed(client.set("RP_CLIENT_HTTP_BIND", bind("client.sock"))).start();
    let nginx = Nginx::start(documented(client.ready("http"), server.ready("http")));

    // The four requests of the documents; the first waits until the two nodes are connected.
    let answer = ask(&nginx, "rpclient.local", "GET", "/server/time", b"");
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(answer.header("Content-Type"), Some("application/json"));
    assert_eq!(answer.header("X-Event-Return-Code"), Some("0"));
    assert!(answer.json()["time_from_server"].as_f64().unwrap() > 1.7e9);
    let answer = ask(&nginx, "rpserver.local", "GET", "/client/localhost/time", b"");
    assert!(answer.json()["time_from_client"].as_f64().unwrap() > 1.7e9, "{answer:?}");
    let answer = ask(&nginx, "rpclient.local", "GET", "/server/cat//hello%20/world", b"");
    assert_eq!(answer.text(), r#"{"result_from_server": "hello world"}"#);
    let answer = ask(&nginx, "rpserver.local", "GET", "/client/localhost/cat//hello%20/world", b"");
    assert_eq!(answer.text(), r#"{"result_from_client": "hello world"}"#);

    // nginx must not change an encoded slash, a double slash, or a query.
    let answer = ask(&nginx, "rpclient.local", "GET", "/server/cat//a%2Fb/%25/c?d=e", b"");
    assert_eq!(answer.text(), r#"{"result_from_server": "a/b%c"}"#);

    // Answers other than 200 pass through with their headers and bodies.
    for (host, peer) in [("rpclient.local", "/server"), ("rpserver.local", "/client/client-1")] {
        let body = vec![0xff; 300_000];
        let answer = ask(&nginx, host, "POST", &format!("{peer}/time"), &body);
        assert_eq!((answer.status, answer.header("Allow")), (405, Some("GET")), "{answer:?}");
        let answer = ask(&nginx, host, "GET", &format!("{peer}/no/such"), b"");
        assert_eq!((answer.status, answer.header("X-Event-Return-Code")), (404, Some("255")));
        assert_eq!(answer.json()["error"], "unhandled");
        let answer = ask(&nginx, host, "GET", "/favicon.ico", b"");
        assert_eq!(answer.status, 404);
        assert!(answer.text().contains("nginx"), "{answer:?}");
        // Ports belong to the name in Host, and both nodes know their names.
        let with_port = format!("{host}:{}", nginx.address.port());
        assert_eq!(ask(&nginx, &with_port, "GET", &format!("{peer}/time"), b"").status, 200);
    }

    // nginx has no host of this name and uses its first; the node behind it checks again.
    let answer = ask(&nginx, "evil.example", "GET", "/server/time", b"");
    assert_eq!((answer.status, answer.json()["error"].as_str()), (421, Some("host_not_allowed")));
    // Each host serves only its own paths.
    let answer = ask(&nginx, "rpserver.local", "GET", "/server/time", b"");
    assert_eq!((answer.status, answer.json()["error"].as_str()), (404, Some("unknown_path")));
}

#[test]
fn no_path_leads_past_an_access_rule_of_nginx() {
    if !has_all(&[NGINX]) {
        return;
    }
    let identities = Identities::new(&["victim", "other"]);
    let server = server(&identities).start();
    let asked = Arc::new(AtomicUsize::new(0));
    let router = |name: &'static str, asked: &Arc<AtomicUsize>| {
        let asked = Arc::clone(asked);
        Router::new().on("get_who", move |_, event| {
            asked.fetch_add(1, Ordering::SeqCst);
            Ok(format!("{name} {:?}", event.target.parameters()))
        })
    };
    let dial = |name, router| client(&identities, name, server.pipe()).dial(router);
    let _victim = dial("victim", router("victim", &asked));
    let _other = dial("other", router("other", &Arc::default()));
    for name in ["victim", "other"] {
        server.get_when_up(&format!("/client/{name}/who"));
    }
    let node = server.http();
    let nginx = Nginx::start(|address| {
        format!(
            "server {{
                listen {address};
                location /client/victim/ {{ deny all; }}
                location /client/other/ {{ proxy_pass http://{node}; }}
                location / {{ return 404; }}
            }}"
        )
    });
    let before = asked.load(Ordering::SeqCst);
    let get = |path: &str| ask(&nginx, "localhost", "GET", path, b"");
    assert_eq!(get("/client/victim/who").status, 403);
    assert_eq!(get("/client/other/who").text(), "other []");
    for path in [
        "/client/victim/who//../../../client/other/x",
        "/client/victim/who//..//..//..//client/other/x",
        "/client/victim/who//%2e%2e/%2e%2e/%2e%2e/client/other/x",
        "/client/victim/who//.%2e/%2E./../client/other/x",
        "/client/victim/who//..%2f..%2F..%2fclient/other/x",
        "/client/victim/../other/who",
        "/client/victim%2f../other/who",
        "/client/victim%2f%2e%2e%2fother/who",
        "/client/./other/who",
        "/client/%2e/other/who",
        "/client/other/who//./x",
        "/client/other%2Fwho/x",
        "//client/other/who",
        "/client//other/who",
        "/x/../client/other/who",
    ] {
        let answer = get(path);
        assert_eq!(
            (answer.status, answer.json()["error"].as_str()),
            (400, Some("bad_path")),
            "{path}"
        );
    }
    assert_eq!(asked.load(Ordering::SeqCst), before, "the victim was asked");
    // What nginx and the node read alike passes as it was sent.
    let answer = get("/client/other/who//a%2Fb//c.d/..e?x=/../");
    assert_eq!(answer.text(), r#"other ["a/b", "", "c.d", "..e"]"#);
}

#[test]
fn a_reply_makes_nginx_send_nothing_of_its_own() {
    if !has_all(&[NGINX]) {
        return;
    }
    let identities = Identities::new(&["client-1"]);
    let server = server(&identities).start();
    let router = Router::new().on("get_page", |_, _| {
        Ok(Reply::from("the reply").with_header("X-Accel-Redirect", "/internal/secret"))
    });
    let _client = client(&identities, "client-1", server.pipe()).dial(router);
    let node = server.http();
    let nginx = Nginx::start(|address| {
        format!(
            "server {{
                listen {address};
                location /client/ {{ proxy_pass http://{node}; }}
                location /internal/ {{ internal; return 200 secret; }}
            }}"
        )
    });
    server.get_when_up("/client/client-1/page");
    for _ in 0..3 {
        let answer = ask(&nginx, "localhost", "GET", "/client/client-1/page", b"");
        assert_eq!((answer.status, answer.text()), (200, "the reply"));
    }
    let told = "client-1: its header X-Accel-Redirect acts on more than the reply";
    server.wait_log(&["WARN", told]);
    assert_eq!(server.log().iter().filter(|line| line.contains(told)).count(), 1, "told once");
}

#[test]
fn a_body_passes_through_nginx_and_back() {
    if !has_all(&[NGINX]) {
        return;
    }
    let identities = Identities::new(&["client-1"]);
    let router = Router::new().on("post_echo", |_, event| {
        // Read whole before it is answered: nginx sends no more of a body once the answer begins.
        Ok(Reply::new(event.media_type.clone(), event.body.gather(1 << 20)?))
    });
    let server = server(&identities).serve(router);
    let bind = format!("unix:{}", identities.path("client.sock").display());
    let client = client(&identities, "client-1", server.pipe());
    let client = client.set("RP_CLIENT_HTTP_BIND", bind);
    let client = client.set("RP_HTTP_ALLOWED_HOSTS", "rpclient.local").start();
    let nginx = Nginx::start(documented(client.ready("http"), "127.0.0.1:1"));
    for length in [1, 256, 70_000, 1_000_000] {
        let body: Vec<u8> = (0..length).map(|i| (i % 251) as u8).collect();
        let answer = ask(&nginx, "rpclient.local", "POST", "/server/echo", &body);
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

    // The requests of the documents, with settings as they are.
    let get = |host: &str, path: &str| ask(&nginx, host, "GET", path, b"");
    let answer = get("rpclient.local", "/server/time");
    assert!(answer.json()["time_from_server"].as_f64().unwrap() > 1.7e9, "{answer:?}");
    let answer = get("rpserver.local", "/client/localhost/time");
    assert!(answer.json()["time_from_client"].as_f64().unwrap() > 1.7e9, "{answer:?}");
    let answer = get("rpclient.local", "/server/cat//hello%20/world");
    assert_eq!(answer.text(), r#"{"result_from_server": "hello world"}"#);
    let answer = get("rpserver.local", "/client/localhost/cat//hello%20/world");
    assert_eq!(answer.text(), r#"{"result_from_client": "hello world"}"#);

    // A name that leads here, as an attacker's may, is not served, whatever site is the first.
    let mut caller = TcpStream::connect(nginx.address).unwrap();
    caller.set_read_timeout(Some(PATIENCE)).unwrap();
    caller.write_all(b"GET /server/time HTTP/1.1\r\nHost: evil.example\r\n\r\n").unwrap();
    assert_eq!(std::io::Read::read(&mut caller, &mut [0; 9]).unwrap(), 0, "it was answered");

    for (host, peer) in [("rpclient.local", "/server"), ("rpserver.local", "/client/client-1")] {
        let answer = ask(&nginx, host, "GET", &format!("{peer}/cat//a%2Fb/%25/c?d=e"), b"");
        assert!(answer.text().ends_with(r#": "a/b%c"}"#), "{answer:?}");
        let body: Vec<u8> = (0..3_000_000_u32).map(|i| (i % 251) as u8).collect();
        let answer = ask(&nginx, host, "POST", &format!("{peer}/digest"), &body);
        assert_eq!((answer.status, answer.json()["bytes"].as_u64()), (200, Some(3_000_000)));
        let answer = ask(&nginx, host, "GET", &format!("{peer}/bytes//3000000"), b"");
        assert_eq!((answer.status, answer.body.len()), (200, 3_000_000));
        // A node's status is not for everyone who can reach nginx.
        for path in ["/", "/status", "/favicon.ico", "/other/time"] {
            let answer = ask(&nginx, host, "GET", path, b"");
            assert_eq!(answer.status, 404, "{path}");
            assert!(answer.text().contains("nginx"), "{path}: {answer:?}");
        }
    }
}

#[test]
fn the_shipped_sites_are_not_there_for_other_machines() {
    if !has_all(&[NGINX]) {
        return;
    }
    // All of 127.0.0.0/8 is local, so 127.0.0.2 stands for the machine's address on a network: a server
    // that listens on every address is reachable there.
    let elsewhere = |nginx: &Nginx| SocketAddr::from(([127, 0, 0, 2], nginx.address.port()));
    let sites = shipped("127.0.0.1:1", "127.0.0.1:1");
    let nginx = Nginx::start(&sites);
    let error = TcpStream::connect(elsewhere(&nginx)).expect_err("nginx listens everywhere");
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionRefused);

    // Debian's default site makes nginx listen everywhere, but does not know these names.
    let nginx = Nginx::start(|address| {
        let port = address.port();
        let default = format!("server {{ listen {port} default_server; return 418; }}");
        default + &sites(address)
    });
    for (host, path) in [("rpclient.local", "/server/time"), ("rpserver.local", "/client/a/time")] {
        assert_eq!(ask(&nginx, host, "GET", path, b"").status, 502, "no node is behind it here");
        let answer = ask_at(elsewhere(&nginx), host, "GET", path, b"");
        assert_eq!(answer.status, 418, "{host}: {answer:?}");
    }
}

#[test]
fn a_shipped_site_asks_for_a_password_or_listens_on_loopback() {
    for entry in std::fs::read_dir("scripts/nginx").unwrap() {
        let file = entry.unwrap().path();
        let text = std::fs::read_to_string(&file).unwrap();
        let mut listens = text.lines().filter_map(|line| line.trim().strip_prefix("listen "));
        let guarded = text.contains("\n    auth_basic_user_file ");
        assert!(guarded || listens.all(|at| at.starts_with("127.0.0.1:")), "{}", file.display());
    }
}

/// The status and body that curl gets from the authenticated site. Status 0: no HTTP answer.
fn curl(nginx: &Nginx, identities: &Identities, url: &str, more: &[&str]) -> (u16, String) {
    let port = nginx.address.port();
    let url = url.replacen(HUB, &format!("{HUB}:{port}"), 1);
    let output = Command::new("curl")
        .env_clear()
        .env("PATH", path())
        .args([
            "--disable",
            "--silent",
            "--path-as-is",
            "--max-time",
            "20",
            "--write-out",
            "\n%{http_code}",
        ])
        .args(["--resolve", &format!("{HUB}:{port}:127.0.0.1"), "--cacert"])
        .arg(identities.path("ca.crt.pem"))
        .args(more)
        .arg(url)
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let (body, status) = text.rsplit_once('\n').unwrap();
    (status.parse().unwrap(), body.to_owned())
}

/// A client that answers with the headers it receives, and a server for [`public`], which they outlive.
fn behind_public() -> (Identities, Inside, Inside) {
    let identities = Identities::new(&["client-1"]);
    identities.ca(&["issue", HUB, "--server"]);
    let server = server(&identities).set("RP_HTTP_ALLOWED_HOSTS", HUB).serve(Router::new());
    let router = Router::new().on("get_headers", |_, event| {
        Ok(Reply::new("text/plain".to_owned(), format!("{:?}", event.headers).into_bytes()))
    });
    let client = client(&identities, "client-1", server.pipe()).dial(router);
    (identities, server, client)
}

#[test]
fn the_public_site_serves_who_has_the_password_and_keeps_it_to_itself() {
    if !has_all(&[NGINX, CURL, ("openssl", "openssl")]) {
        return;
    }
    let (identities, server, _client) = behind_public();
    let nginx = Nginx::start(|address| {
        // All three may be enabled together; on one port, the two without TLS need another address here.
        let local = shipped("127.0.0.1:1", "127.0.0.1:1")(address);
        let local = local.replace("listen 127.0.0.1:", "listen 127.0.0.3:");
        with_port(&public(&identities, server.http()), address) + &local
    });
    let headers = "https://hub.example.com/client/client-1/headers";
    let get = |url: &str, more: &[&str]| curl(&nginx, &identities, url, more);

    // Without the file nobody has access.
    assert_eq!(get(headers, &["--user", "alice:right"]).0, 403);
    let hash = Command::new("openssl").args(["passwd", "-6", "right"]).output().unwrap();
    let line = format!("alice:{}", String::from_utf8(hash.stdout).unwrap());
    std::fs::write(identities.path("htpasswd"), line).unwrap();

    // Each refusal takes a while, so they run concurrently.
    let refused: [(&str, &[&str]); 9] = [
        (headers, &[]),
        (headers, &["--user", "alice:wrong"]),
        (headers, &["--user", "alice:"]),
        (headers, &["--user", "bob:right"]),
        (headers, &["--header", "Authorization: Bearer right"]),
        (headers, &["--request", "OPTIONS"]),
        ("https://hub.example.com/client/client-1/digest", &["--data", "body"]),
        ("https://hub.example.com/", &[]),
        ("https://hub.example.com/status", &[]),
    ];
    std::thread::scope(|scope| {
        for (url, more) in refused {
            scope.spawn(move || assert_eq!(get(url, more).0, 401, "{url} {more:?}"));
        }
    });

    let with_password = ["--user", "alice:right", "--header", "X-Kept: yes"];
    let (status, seen) = get(headers, &with_password);
    assert_eq!(status, 200, "{seen}");
    assert!(seen.contains(r#"("X-Kept", "yes")"#), "{seen}");
    assert!(seen.contains(&format!(r#"("X-Forwarded-Host", "{HUB}")"#)), "{seen}");
    assert!(!seen.to_ascii_lowercase().contains("authorization"), "{seen}");
    // A node's status is not for callers, on any path.
    for path in ["/", "/status", "/metrics", "/client/../status", "/client/%2e%2e/status"] {
        let (status, body) = get(&format!("https://{HUB}{path}"), &with_password);
        assert!(status == 404 && body.contains("nginx"), "{path}: {status} {body}");
    }
    // nginx passes a path on unchanged; the node refuses one that nginx took for another.
    let dotted = format!("https://{HUB}/status/clients/client-1/../../../client/x");
    let delete = [&with_password[..], &["--request", "DELETE"]].concat();
    assert_eq!(get(&dotted, &delete).0, 400);
    // A page of another origin, in a browser that has the password.
    let forged = ["--user", "alice:right", "--header", "Origin: https://evil.example"];
    assert_eq!(get(headers, &forged).0, 403);
    let own = ["--user", "alice:right", "--header", "Origin: https://hub.example.com"];
    assert_eq!(get(headers, &own).0, 200);

    // Other names: the site is the only one at this address, but not a default.
    for host in ["evil.example", "rpserver.local", "localhost", "127.0.0.1"] {
        let host = format!("Host: {host}");
        assert_eq!(get(headers, &["--user", "alice:right", "--header", &host]).0, 0, "{host}");
    }
    // Without TLS nothing is served.
    let answer = ask(&nginx, HUB, "GET", "/client/client-1/headers", b"");
    assert_eq!(answer.status, 400, "{answer:?}");
}

#[test]
fn the_public_site_may_ask_for_certificates_instead() {
    if !has_all(&[NGINX, CURL]) {
        return;
    }
    let (identities, server, _client) = behind_public();
    let callers = identities.path("callers").display().to_string();
    // The callers' own CA, separate from the pipe's.
    let callers_ca = |arguments: &[&str]| {
        let mut rp_ca = Command::new(env!("CARGO_BIN_EXE_rp_ca"));
        assert!(rp_ca.args(arguments).args(["--dir", &callers]).output().unwrap().status.success());
    };
    callers_ca(&["init"]);
    callers_ca(&["issue", "alice", "--client"]);
    let site = public(&identities, server.http());
    let site: String = site
        .lines()
        .filter(|line| !line.trim_start().starts_with("auth_"))
        .map(|line| line.replace("# ssl_", "ssl_") + "\n")
        .collect();
    let nginx = Nginx::start(|address| with_port(&site, address));

    let headers = "https://hub.example.com/client/client-1/headers";
    let with = |crt: String, key: String| {
        curl(&nginx, &identities, headers, &["--cert", &crt, "--key", &key]).0
    };
    let path = |file: &str| identities.path(file).display().to_string();
    assert_eq!(curl(&nginx, &identities, headers, &[]).0, 400);
    assert_eq!(with(path("client-1.crt.pem"), path("client-1.key.pem")), 400, "a node's");
    assert_eq!(with(path("callers/alice.crt.pem"), path("callers/alice.key.pem")), 200);
}
