//! The status of a node on its local port: `/status`, `/metrics`, `/healthz`, `/readyz`, `/events`.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use restpipe::handler::Router;
use serde_json::{Value, json};

use crate::support::inside::Gate;
use crate::support::peer::Peer;
use crate::support::scene::wait_until;
use crate::support::tls::dialing;
use crate::support::{self, Identities, Node, PATIENCE, client, has_all, server};

/// A server and a connected client.
fn pair() -> (Identities, Node, Node) {
    let identities = Identities::new(&["web1"]);
    let server = server(&identities).start();
    let client = client(&identities, "web1", server.pipe())
        .set("RP_CLIENT_HEARTBEAT_INTERVAL_S", "0.2")
        .set("RP_CLIENT_HEARTBEAT_TIMEOUT_S", "1")
        .start();
    client.get_when_up("/server/time");
    (identities, server, client)
}

fn status(node: &Node) -> Value {
    let answer = node.get("/status");
    assert_eq!((answer.status, answer.header("Content-Type")), (200, Some("application/json")));
    assert_eq!(answer.header("Cache-Control"), Some("no-store"));
    answer.json()
}

/// Waits until the status of a node meets a condition.
fn status_when(node: &Node, what: &str, is_so: impl Fn(&Value) -> bool) -> Value {
    let mut last = Value::Null;
    wait_until(|| {
        last = status(node);
        (!is_so(&last)).then(|| format!("{what}: {last:#}"))
    });
    last
}

#[test]
fn both_sides_show_their_links_and_what_became_of_requests() {
    let (_identities, server, client) = pair();
    assert_eq!(client.get("/server/made-up").status, 404);
    assert_eq!(server.get("/client/web1/cat//a").status, 200);

    let on_server = status_when(&server, "counted", |s| s["totals"]["handled"]["unhandled"] == 1);
    assert_eq!((&on_server["role"], &on_server["handler"]), (&"server".into(), &"example".into()));
    assert_eq!(on_server["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(
        (&on_server["ready"], &on_server["not_ready_because"]),
        (&true.into(), &Value::Null)
    );
    assert_eq!(on_server["identity"]["name"], "localhost");
    assert!(on_server["identity"]["certificate"]["expires_s"].as_f64().unwrap() > 3600.0);
    assert!(on_server["handler_pool"]["threads"].as_u64().unwrap() >= 1);
    let links = on_server["links"].as_array().unwrap();
    assert_eq!(links.len(), 1);
    let link = &links[0];
    assert_eq!((&link["name"], &link["address"]), (&"web1".into(), &"127.0.0.1".into()));
    assert_eq!((&link["state"], &link["reconnects"]), (&"ready".into(), &0.into()));
    assert_eq!(link["target"], Value::Null);
    assert_eq!(link["extensions"], serde_json::json!(["extended", "streams", "leaving"]));
    assert_eq!(link["fingerprint"].as_str().unwrap().len(), 64);
    assert!(link["last_heard_s"].as_f64().unwrap() < 10.0);
    assert!(link["certificate"]["expires_s"].as_f64().unwrap() > 3600.0);
    assert_eq!((&link["asked"]["fine"], &link["handled"]["unhandled"]), (&1.into(), &1.into()));
    assert_eq!((&link["in_flight"], &link["handling"]), (&0.into(), &0.into()));
    for field in ["bytes_in", "bytes_out"] {
        let bytes = link[field].as_u64().unwrap();
        assert!((100..100_000).contains(&bytes), "{field}: {bytes}");
        assert!(on_server["totals"][field].as_u64().unwrap() >= bytes);
    }
    assert!(link["last_heartbeat_s"].as_f64().unwrap() < 10.0);

    // The client's heartbeats carry the round-trip time.
    let told = status_when(&server, "told", |s| s["links"][0]["round_trip_ms"].is_number());
    let told = told["links"][0]["round_trip_ms"].as_f64().unwrap();
    assert!(told > 0.0 && told < 5000.0, "{told}");
    let on_client =
        status_when(&client, "answered", |s| s["links"][0]["round_trip_ms"].is_number());
    assert_eq!((&on_client["role"], &on_client["ready"]), (&"client".into(), &true.into()));
    assert_eq!(on_client["links"][0]["target"], server.pipe().to_string());
    let round_trip = on_client["links"][0]["round_trip_ms"].as_f64().unwrap();
    assert!(round_trip > 0.0 && round_trip < 5000.0, "{round_trip}");
    assert_eq!(on_client["links"][0]["handled"]["fine"], 1);
    assert_eq!(on_client["links"][0]["asked"]["unhandled"], 1);
    // The link's last minutes, in steps.
    status_when(&server, "noted", |s| {
        let history = &s["links"][0]["history"];
        let steps = history["requests"].as_array().unwrap();
        assert_eq!(history["errors"], json!(vec![0; steps.len()]));
        steps.iter().filter_map(Value::as_u64).sum::<u64>() == 3
    });
}

#[test]
fn what_is_turned_away_is_seen_on_the_side_that_did() {
    let identities = Identities::new(&["web1"]);
    let (gate, door) = Gate::new();
    let handler = Router::new().on("get_slow", move |_, _| {
        door.pass();
        Ok("done")
    });
    let server = server(&identities).serve(handler);
    let mut peer = Peer::dial(server.pipe(), dialing(Some((&identities, "web1")))).unwrap();
    // Two more than the limit per peer.
    let events: Vec<u8> =
        (0..2050).flat_map(|id| support::message::event(id, "get", "slow", b"")).collect();
    peer.send(&events).unwrap();
    wait_until(|| {
        let shown = server.get("/status").json();
        let counts = [&shown["totals"]["handled"], &shown["links"][0]["handled"]];
        let busy = counts.map(|counts| counts["exception"].as_u64());
        (busy != [Some(2), Some(2)]).then(|| format!("{shown:#}"))
    });
    let metrics = server.get("/metrics");
    assert!(metrics.text().contains("restpipe_handled_total{outcome=\"exception\"} 2\n"));
    drop(gate);
}

#[test]
fn one_client_is_shown_and_its_link_closed() {
    let (_identities, server, client) = pair();
    let answer = server.get("/status/clients/WEB1");
    assert_eq!(answer.status, 200);
    assert_eq!(answer.json()["links"].as_array().unwrap().len(), 1);
    let closed = server.ask("DELETE", "/status/clients/web1", &[], b"");
    assert_eq!((closed.status, closed.json()["closed"].as_u64()), (200, Some(1)));
    server.wait_log(&["web1: lost", "closed on request"]);
    // It reconnects by itself.
    let back = status_when(&server, "back", |s| s["links"][0]["reconnects"] == 1);
    assert_eq!(back["totals"]["losses"], 1);
    for method in ["GET", "DELETE"] {
        let answer = server.ask(method, "/status/clients/no-such", &[], b"");
        assert_eq!((answer.status, answer.json()["error"].as_str()), (404, Some("not_connected")));
        // The server of a client is not a client.
        assert_eq!(client.ask(method, "/status/clients/localhost", &[], b"").status, 404);
    }
    // Never through the pipe.
    assert_eq!(server.get("/client/web1/status").status, 404);
    assert_eq!(client.get("/server/status").status, 404);
}

#[test]
fn readiness_follows_the_pipe() {
    let (_identities, server, client) = pair();
    for node in [&server, &client] {
        let answer = node.get("/healthz");
        assert_eq!((answer.status, answer.text()), (200, "ok\n"));
        wait_until(|| (node.get("/readyz").status != 200).then(|| "not ready".to_owned()));
    }
    // It still accepts the connection, but answers nothing.
    server.signal("STOP");
    wait_until(|| (client.get("/readyz").status != 503).then(|| "still ready".to_owned()));
    assert_eq!(client.get("/healthz").status, 200);
    let shown = status(&client);
    assert_eq!(shown["ready"], false);
    assert!(shown["not_ready_because"].is_string(), "{shown}");
    // With the reason.
    status_when(&client, "why", |s| {
        let why = s["not_ready_because"].as_str().unwrap();
        why.starts_with("the server is not connected: localhost: ")
            && why.contains("no bytes received")
    });
    server.signal("CONT");
    wait_until(|| (client.get("/readyz").status != 200).then(|| "not ready again".to_owned()));
}

#[test]
fn metrics_pass_promtool() {
    let (_identities, server, client) = pair();
    assert_eq!(client.get("/server/made-up").status, 404);
    status_when(&server, "counted", |s| s["totals"]["handled"]["unhandled"] == 1);
    for node in [&server, &client] {
        let answer = node.get("/metrics");
        assert_eq!(answer.status, 200);
        let media_type = answer.header("Content-Type").unwrap();
        assert!(media_type.starts_with("text/plain; version=0.0.4"), "{media_type}");
        let text = answer.text();
        for part in [
            "restpipe_requests_total{outcome=\"fine\"} ",
            "restpipe_request_seconds_bucket{le=\"+Inf\"} ",
            "restpipe_handler_threads ",
            "restpipe_certificate_expiry_seconds ",
            "restpipe_peer_certificate_expiry_seconds{peer=\"",
            "restpipe_links{role=\"",
        ] {
            assert!(text.lines().any(|line| line.starts_with(part)), "{part}: {text}");
        }
        check_metrics(text);
    }
    let text = server.get("/metrics");
    assert!(text.text().contains("restpipe_handled_total{outcome=\"unhandled\"} 1\n"));
}

/// Validates the text with Prometheus's own tool, if it is installed.
fn check_metrics(text: &str) {
    if !has_all(&[("promtool", "prometheus")]) {
        return;
    }
    let mut promtool = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    promtool.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    let output = promtool.wait_with_output().unwrap();
    assert!(output.status.success() && output.stderr.is_empty(), "{output:?}\n{text}");
}

/// Listens to the events of a node.
struct Listener(BufReader<TcpStream>);

impl Listener {
    fn new(node: &Node) -> Self {
        let mut socket = TcpStream::connect(node.http()).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        // HTTP/1.0 avoids chunks, so that lines stay whole.
        socket.write_all(b"GET /events HTTP/1.0\r\nHost: localhost\r\n\r\n").unwrap();
        let mut listener = Self(BufReader::new(socket));
        assert_eq!(listener.line(), "HTTP/1.1 200 OK");
        while listener.line() != ": listening" {}
        listener
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        assert!(self.0.read_line(&mut line).unwrap() > 0, "the stream has ended");
        line.trim_end().to_owned()
    }

    /// Waits for an event of this kind.
    fn wait(&mut self, kind: &str) -> Value {
        let wanted = format!("event: {kind}");
        while self.line() != wanted {}
        let data = self.line();
        serde_json::from_str(data.strip_prefix("data: ").unwrap()).unwrap()
    }
}

#[test]
fn events_tell_who_comes_and_goes_and_why() {
    let identities = Identities::new(&["web1"]);
    let mut server = server(&identities).start();
    let mut on_server = Listener::new(&server);
    let first = client(&identities, "web1", server.pipe()).start();
    let connect = on_server.wait("connect");
    assert_eq!((&connect["name"], &connect["address"]), (&"web1".into(), &"127.0.0.1".into()));
    first.get_when_up("/server/time");
    let mut on_client = Listener::new(&first);

    let second = client(&identities, "web1", server.pipe()).start();
    assert_eq!(on_server.wait("takeover")["name"], "web1");
    let loss = on_client.wait("loss");
    assert!(loss["reason"].as_str().unwrap().contains("newer connection"), "{loss}");
    drop(second);
    assert_eq!(on_server.wait("loss")["name"], "web1");

    // A peer without a certificate.
    let mut stranger = TcpStream::connect(server.pipe()).unwrap();
    stranger.write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
    let refusal = on_server.wait("refusal");
    assert!(refusal["reason"].as_str().unwrap().contains("refused"), "{refusal}");

    server.signal("HUP");
    assert_eq!(on_server.wait("reload")["reason"], "identity reloaded");

    // A listener does not delay a stop.
    let began = Instant::now();
    server.signal("TERM");
    assert!(server.wait_exit().success());
    assert!(began.elapsed() < Duration::from_secs(8), "{:?}", began.elapsed());
    on_server.0.read_to_end(&mut Vec::new()).unwrap();
}

#[test]
fn every_method_and_byte_is_answered() {
    let (_identities, server, _client) = pair();
    let paths =
        ["/", "/status", "/status/clients/web2", "/metrics", "/healthz", "/readyz", "/events"];
    for path in paths {
        for method in ["POST", "PUT", "PATCH", "OPTIONS", "DELETE", "TRACE", "CONNECT"] {
            let is_known = path.starts_with("/status/clients/") && method == "DELETE";
            let expected = if is_known { 404 } else { 405 };
            assert_eq!(server.ask(method, path, &[], b"").status, expected, "{method} {path}");
        }
        assert_eq!(server.ask("FOO", path, &[], b"").status, 501, "{path}");
        assert_eq!(server.ask("GET", path, &[], b"body").status, 400, "{path}");
        for (name, value) in [("Origin", "http://evil.example"), ("Sec-Fetch-Site", "cross-site")] {
            let answer = server.ask("GET", path, &[(name, value)], b"");
            assert_eq!(answer.status, 403, "{path} {name}");
        }
        if path != "/events" {
            let expected = if path.ends_with("web2") { 404 } else { 200 };
            let head = server.ask("HEAD", path, &[], b"");
            assert_eq!((head.status, head.body.len()), (expected, 0), "{path}");
        }
    }
    for byte in 0..=255u8 {
        for path in [&b"/status/clients/"[..], b"/status", b"/metrics"] {
            let mut socket = TcpStream::connect(server.http()).unwrap();
            socket.set_read_timeout(Some(PATIENCE)).unwrap();
            let end = b" HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
            socket.write_all(&[b"GET ", path, &[byte][..], end].concat()).unwrap();
            let mut answer = Vec::new();
            socket.read_to_end(&mut answer).unwrap();
            let head = String::from_utf8_lossy(&answer);
            let status: u16 = head.split(' ').nth(1).unwrap().parse().unwrap();
            assert!([200, 400, 404, 505].contains(&status), "{byte} {head}");
        }
    }
    assert_eq!(server.get("/healthz").status, 200);
}

#[test]
fn a_look_is_answered_while_a_thousand_links_come_and_go() {
    const THREADS: usize = 8;
    const EACH: usize = 125;
    let names: Vec<String> = (0..THREADS).map(|number| format!("web{number}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let identities = Identities::new(&names);
    let server = server(&identities).start();
    let at_work = AtomicUsize::new(THREADS);
    let mut looks = 0;
    thread::scope(|scope| {
        for name in &names {
            let (identities, server, at_work) = (&identities, &server, &at_work);
            scope.spawn(move || {
                let config = dialing(Some((identities, name)));
                for _ in 0..EACH {
                    let mut peer = Peer::dial(server.pipe(), Arc::clone(&config)).unwrap();
                    peer.send(&support::message::heartbeat(1)).unwrap();
                    // If it left before its first message it would not count as a link.
                    peer.frame();
                }
                at_work.fetch_sub(1, Ordering::Release);
            });
        }
        while at_work.load(Ordering::Acquire) > 0 {
            let shown = status(&server);
            let links = shown["links"].as_array().unwrap();
            assert!(links.iter().all(|link| names.contains(&link["name"].as_str().unwrap())));
            let metrics = server.get("/metrics");
            assert!(metrics.text().lines().all(|line| line.starts_with(['#', 'r'])), "{metrics:?}");
            assert_eq!(server.get("/").status, 200);
            looks += 1;
        }
    });
    assert!(looks > 5, "{looks}");
    let last = status_when(&server, "none is left", |s| {
        let ended = s["totals"]["connects"] == s["totals"]["losses"];
        s["links"] == serde_json::json!([]) && ended
    });
    assert_eq!(last["totals"]["links"], THREADS * EACH);
    check_metrics(server.get("/metrics").text());
}
