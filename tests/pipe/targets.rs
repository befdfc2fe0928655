//! Several servers: one after the other, or all at once.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use restpipe::handler::Router;

use crate::support::inside::{Gate, Inside};
use crate::support::port::free_port;
use crate::support::scene::wait_until;
use crate::support::{self, Identities, Setup, client, server};

/// Answers `who` with this name.
fn named(name: &'static str) -> Router {
    Router::new().on("get_who", move |_, _| Ok(name))
}

/// A client of these servers.
fn of(identities: &Identities, servers: &[SocketAddr], mode: &str) -> Setup {
    let list: Vec<String> = servers.iter().map(SocketAddr::to_string).collect();
    client(identities, "web1", servers[0])
        .set("RP_CLIENT_TARGET_PORT", 1)
        .set("RP_CLIENT_TARGET_HOSTNAME", list.join(","))
        .set("RP_CLIENT_TARGETS", mode)
}

fn who(client: &Inside) -> String {
    let answer = client.get("/server/who");
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.text().to_owned()
}

/// The client's view of its links: server and state.
fn shown(client: &Inside) -> Vec<(String, String)> {
    let status = client.get("/status").json();
    let text = |value: &serde_json::Value| value.as_str().unwrap().to_owned();
    let links = status["links"].as_array().unwrap().iter();
    let mut shown: Vec<_> =
        links.map(|link| (text(&link["target"]), text(&link["state"]))).collect();
    shown.sort();
    shown
}

/// Repeats the request until this server answers; none may fail meanwhile.
fn until(client: &Inside, name: &str, most: Duration) -> Duration {
    let began = Instant::now();
    while who(client) != name {
        assert!(began.elapsed() < most, "{name} is not asked");
        std::thread::sleep(Duration::from_millis(20));
    }
    began.elapsed()
}

#[test]
fn the_first_server_that_works_is_asked_and_an_earlier_one_when_it_is_well_again() {
    let identities = Identities::new(&["web1"]);
    let first = server(&identities).set("BIND_PORT", free_port()).serve(named("first"));
    let second = server(&identities).serve(named("second"));
    let (at, other) = (first.pipe(), second.pipe());
    let client = of(&identities, &[at, other], "failover").dial(named("client"));
    assert_eq!(who(&client), "first");
    assert_eq!(second.ask("GET", "/client/web1/who", &[("RP-Wait", "0")], b"").status, 503);

    drop(first);
    until(&client, "second", Duration::from_secs(5));
    assert_eq!(second.get("/client/web1/who").text(), "client");

    // It must be stable for a while.
    let began = Instant::now();
    let first = server(&identities).set("BIND_PORT", at.port()).serve(named("first"));
    let mut both =
        vec![(at.to_string(), "spare".to_owned()), (other.to_string(), "ready".to_owned())];
    both.sort();
    wait_until(|| (shown(&client) != both).then(|| format!("{:?}", shown(&client))));
    until(&client, "first", Duration::from_secs(30));
    let took = began.elapsed();
    println!("back after {took:?}");
    assert!(took > Duration::from_secs(10), "{took:?}");
    assert_eq!(first.get("/client/web1/who").text(), "client");
    // It leaves the other one.
    let until = Instant::now() + support::PATIENCE;
    while second.ask("GET", "/client/web1/who", &[("RP-Wait", "0")], b"").status == 200 {
        assert!(Instant::now() < until, "it stays with both");
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn a_server_that_stops_hands_its_clients_over_without_a_failed_or_repeated_request() {
    let identities = Identities::new(&["web1"]);
    let handled = Arc::new(Mutex::new(HashMap::new()));
    let counting = |name: &'static str| {
        let handled = Arc::clone(&handled);
        named(name).on("post_job", move |_, event| {
            let id = event.target.parameters()[0].clone();
            *handled.lock().unwrap().entry(id).or_insert(0) += 1;
            Ok(name)
        })
    };
    let first = server(&identities).serve(counting("first"));
    let second = server(&identities).serve(counting("second"));
    let client = of(&identities, &[first.pipe(), second.pipe()], "failover").dial(Router::new());
    assert_eq!(who(&client), "first");
    let mut first = Some(first);
    let mut seen = Vec::new();
    std::thread::scope(|scope| {
        for number in 0..100 {
            if number == 50 {
                let first = first.take().unwrap();
                scope.spawn(move || first.stop(Duration::from_secs(5)));
            }
            let answer = client.ask("POST", &format!("/server/job//{number}"), &[], b"");
            assert_eq!(answer.status, 200, "{number}: {answer:?}");
            seen.push(answer.text().to_owned());
        }
    });
    assert_eq!((seen[0].as_str(), seen[99].as_str()), ("first", "second"));
    let handled = handled.lock().unwrap();
    assert!(handled.len() == 100 && handled.values().all(|count| *count == 1), "{handled:?}");
}

#[test]
fn with_all_each_server_reaches_the_client_and_the_idlest_is_asked() {
    let identities = Identities::new(&["web1"]);
    let (gate, door) = Gate::new();
    let slow = |name: &'static str| {
        let door = door.clone();
        named(name).on("get_slow", move |_, _| {
            door.pass();
            Ok(name)
        })
    };
    let one = server(&identities).serve(slow("one"));
    let two = server(&identities).serve(slow("two"));
    let client = of(&identities, &[one.pipe(), two.pipe()], "all").dial(named("client"));
    for server in [&one, &two] {
        let answer = server.get("/client/localhost/who");
        assert_eq!((answer.status, answer.text()), (200, "client"));
    }
    let mut both = [&one, &two].map(|server| (server.pipe().to_string(), "ready".to_owned()));
    both.sort();
    assert_eq!(shown(&client), both);
    assert_eq!(client.get("/readyz").status, 200);
    // Their certificates have the same name, and neither reconnected.
    let metrics = client.get("/metrics");
    for server in [&one, &two] {
        let line = format!(
            "restpipe_peer_reconnects{{peer=\"localhost\",target=\"{}\"}} 0",
            server.pipe()
        );
        assert!(metrics.text().lines().any(|found| found == line), "{line}: {metrics:?}");
    }
    std::thread::scope(|scope| {
        let held: Vec<_> = (0..2)
            .map(|_| {
                let asking = scope.spawn(|| client.get("/server/slow").text().to_owned());
                gate.wait();
                asking
            })
            .collect();
        drop(gate);
        let mut answers: Vec<_> = held.into_iter().map(|asking| asking.join().unwrap()).collect();
        answers.sort();
        assert_eq!(answers, ["one", "two"], "the second went to the other");
    });
}

#[test]
fn with_all_the_next_request_after_a_loss_takes_the_other_server() {
    let identities = Identities::new(&["web1"]);
    let mut one = server(&identities).start();
    let mut two = server(&identities).start();
    let client = of(&identities, &[one.pipe(), two.pipe()], "all").dial(named("client"));
    for server in [&one, &two] {
        server.get_when_up("/client/localhost/who");
    }
    one.signal("KILL");
    one.wait_exit();
    let answer = client.get("/server/time");
    assert_eq!(answer.status, 200, "{answer:?}");
    let answer = client.ask("POST", "/server/echo", &[], b"x");
    assert_eq!((answer.status, answer.text()), (200, "x"));
    two.signal("TERM");
    assert_eq!(two.wait_exit().code(), Some(0));
    let answer = client.ask("GET", "/server/time", &[("RP-Wait", "0")], b"");
    assert_eq!(answer.status, 503);
}

/// Each pipe would displace the other, forever, with no visible reason.
#[test]
fn one_server_under_two_names_is_told_and_fails_no_request() {
    let identities = Identities::new(&["web1"]);
    let server = server(&identities).start();
    let port = server.pipe().port();
    let client = of(&identities, &[server.pipe()], "all")
        .set("RP_CLIENT_TARGET_HOSTNAME", format!("127.0.0.1:{port},localhost:{port}"))
        .start();
    client.wait_log(&["WARN", "shows the same certificate as ", "name it once"]);
    for _ in 0..5 {
        assert_eq!(client.get("/server/time").status, 200);
        assert_eq!(server.get("/client/web1/time").status, 200);
    }
}
