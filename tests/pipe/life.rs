//! Nodes that are killed, frozen, restarted and replaced.

use std::time::{Duration, Instant};

use restpipe::handler::Router;

use crate::support::inside::timed;
use crate::support::port::{free_address, free_port};
use crate::support::relay::Relay;
use crate::support::{Identities, Node, PATIENCE, client, server};

/// The promise is one second; a busy machine gets two more.
const KILLED: Duration = Duration::from_secs(3);
/// Heartbeats every half second: silence is detected within twice that plus a second, plus slack.
const FROZEN: Duration = Duration::from_secs(2 + 1);
const INTERVAL: &str = "RP_CLIENT_HEARTBEAT_INTERVAL_S";

/// Waits for this loss in the log and checks how long it took.
fn assert_lost(who: &Node, parts: &[&str], most: Duration, what: &str) {
    let (line, took) = timed(|| who.wait_log(parts));
    println!("{what}: noticed after {took:?}: {line}");
    assert!(took < most, "{what}: {took:?}: {line}");
}

#[test]
fn a_killed_client_is_noticed_within_a_second_and_comes_back() {
    let identities = Identities::new(&["client-1"]);
    let server = server(&identities).start();
    let setup = client(&identities, "client-1", server.pipe());
    let first = setup.start();
    server.get_when_up("/client/localhost/time");
    first.signal("KILL");
    assert_lost(&server, &["client-1: lost"], KILLED, "killed client");
    let answer = server.ask("GET", "/client/client-1/time", &[("RP-Wait", "0")], b"");
    assert_eq!(answer.status, 503);
    let _second = setup.start();
    server.get_when_up("/client/client-1/time");
}

#[test]
fn a_killed_server_is_noticed_within_a_second_and_dialled_until_it_is_back() {
    let identities = Identities::new(&["client-1"]);
    let setup = server(&identities).set("BIND_PORT", free_port());
    let mut first = setup.start();
    let client = client(&identities, "client-1", first.pipe()).start();
    client.get_when_up("/server/time");
    first.signal("KILL");
    assert_lost(&client, &["lost:"], KILLED, "killed server");
    let answer = client.ask("GET", "/server/time", &[("RP-Wait", "0")], b"");
    assert_eq!(answer.status, 503);
    first.wait_exit();
    client.wait_log(&["not connected", "refused"]);
    // On the same port, again and again.
    for _ in 0..2 {
        let mut again = setup.start();
        client.get_when_up("/server/time");
        again.get_when_up("/client/client-1/time");
        again.signal("KILL");
        again.wait_exit();
    }
}

#[test]
fn a_frozen_client_is_noticed_by_its_silence() {
    let identities = Identities::new(&["client-1"]);
    let server = server(&identities).start();
    let client = client(&identities, "client-1", server.pipe()).set(INTERVAL, "0.5").start();
    server.get_when_up("/client/client-1/time");
    client.signal("STOP");
    assert_lost(&server, &["client-1: lost", "no bytes received"], FROZEN, "frozen client");
    client.signal("CONT");
    server.get_when_up("/client/client-1/time");
}

#[test]
fn a_frozen_server_is_noticed_by_its_silence() {
    let identities = Identities::new(&["client-1"]);
    let server = server(&identities).start();
    let client = client(&identities, "client-1", server.pipe()).set(INTERVAL, "0.5").start();
    client.get_when_up("/server/time");
    server.signal("STOP");
    assert_lost(&client, &["lost:", "no bytes received"], FROZEN, "frozen server");
    server.signal("CONT");
    client.get_when_up("/server/time");
}

#[test]
fn an_idle_link_stays() {
    let identities = Identities::new(&["client-1"]);
    let server = server(&identities).start();
    let client = client(&identities, "client-1", server.pipe());
    let client = client.set(INTERVAL, "0.5").set("RP_CLIENT_HEARTBEAT_TIMEOUT_S", 3).start();
    client.get_when_up("/server/time");
    let seen = client.log().len();
    // Twice the silence that either side would tolerate; there is no event to wait for.
    std::thread::sleep(Duration::from_millis(6500));
    for line in client.log().iter().skip(seen).chain(&server.log()) {
        assert!(!line.contains("lost"), "{line}");
    }
    server.get_when_up("/client/client-1/time");
}

#[test]
fn a_client_that_starts_first_finds_its_server() {
    let identities = Identities::new(&["client-1"]);
    let pipe = free_address();
    let client = client(&identities, "client-1", pipe).start();
    client.wait_log(&["not connected"]);
    let server = server(&identities).set("BIND_PORT", pipe.port()).start();
    client.get_when_up("/server/time");
    server.get_when_up("/client/localhost/time");
}

#[test]
fn a_new_connection_of_a_name_takes_over_from_a_frozen_one_at_once() {
    let identities = Identities::new(&["client-1"]);
    let server = server(&identities).start();
    let setup = client(&identities, "client-1", server.pipe());
    let old = setup.start();
    server.get_when_up("/client/client-1/time");
    old.signal("STOP");
    // The heartbeat interval is five seconds and the silence limit ten: nothing waits for those.
    let (_new, took) = timed(|| {
        let new = setup.start();
        server.wait_log(&["client-1: connected from", "in place of an older connection"]);
        new
    });
    println!("start to takeover: {took:?}");
    assert!(took < KILLED, "{took:?}");
    let (answer, took) = timed(|| server.get("/client/client-1/time"));
    assert_eq!(answer.status, 200, "{answer:?}");
    assert!(took < KILLED, "{took:?}");
    server.wait_log(&["client-1: lost", "replaced by a newer connection"]);
}

#[test]
fn two_live_clients_of_one_name_are_noticed_and_every_request_is_answered() {
    let identities = Identities::new(&["client-1"]);
    let server = server(&identities).start();
    let name = |name: &'static str| Router::new().on("get_name", move |_, _| Ok(name));
    let setup = client(&identities, "client-1", server.pipe());
    let _a = setup.dial(name("a"));
    assert_eq!(server.get_when_up("/client/client-1/name").text(), "a");
    let _b = setup.dial(name("b"));
    // They take the name from each other, less and less often.
    let until = Instant::now() + PATIENCE;
    loop {
        let answer = server.get("/client/client-1/name");
        assert_eq!(answer.status, 200, "{answer:?}");
        if answer.text() == "b" {
            break;
        }
        assert!(Instant::now() < until, "the newer one is never asked");
    }
    let taken = server.wait_log(&["client-1: connected from", "in place of an older connection"]);
    assert!(taken.contains("127.0.0.1:"), "{taken}");
    server.wait_log(&["client-1: lost", "replaced by a newer connection from 127.0.0.1:"]);
    let said = server.wait_log(&["client-1: ", "WARN", "more than one machine"]);
    assert_eq!(server.get("/client/client-1/name").status, 200, "{said}");
}

#[test]
fn two_machines_with_one_key_behind_one_address_do_not_go_on_replacing_each_other() {
    let identities = Identities::new(&["client-1"]);
    let server = server(&identities).start();
    let setup = client(&identities, "client-1", server.pipe());
    let machines = [setup.start(), setup.start()];
    let staying_away = |machine: &Node| {
        let log = machine.log();
        let line =
            log.iter().find(|line| line.contains("another machine uses this client's key"))?;
        let seconds = line.rsplit("for ").next()?.trim_end_matches(" s").parse::<u64>();
        Some(seconds.unwrap())
    };
    let until = Instant::now() + PATIENCE;
    let seconds = loop {
        match machines.iter().find_map(staying_away) {
            Some(seconds) => break seconds,
            None => assert!(Instant::now() < until, "log: {:#?}", server.log()),
        }
        std::thread::sleep(Duration::from_millis(10));
    };
    assert!((30..=40).contains(&seconds), "{seconds} s");
    let takeovers = || {
        let log = server.log();
        log.iter().filter(|line| line.contains("in place of an older connection")).count()
    };
    let taken = takeovers();
    assert!(taken <= 5, "{taken} takeovers before anybody is told");
    // Before, there were ten in this time.
    std::thread::sleep(Duration::from_millis(2500));
    assert_eq!(takeovers(), taken);
    assert_eq!(server.get("/client/client-1/time").status, 200);
    server.wait_log(&["client-1: two machines use the key of this name", "more than one machine"]);
}

#[test]
fn a_link_that_is_closed_or_lost_again_and_again_is_dialled_soon_each_time() {
    let identities = Identities::new(&["client-1"]);
    let server = server(&identities).start();
    let relay = Relay::to(server.pipe());
    let _client = client(&identities, "client-1", relay.address()).start();
    let returns = |what: &str| {
        let (answer, took) = timed(|| server.get_when_up("/client/client-1/time"));
        println!("{what}: answered after {took:?}: {answer:?}");
        assert!(took < KILLED, "{what}: {took:?}");
    };
    returns("started");
    // Each lives for moments only. If the waits grew, they would be seconds by now.
    for _ in 0..8 {
        let skip = server.log().len();
        relay.cut();
        server.wait_log_from(skip, &["client-1: lost"]);
        returns("lost");
    }
    for _ in 0..8 {
        let closed = server.ask("DELETE", "/status/clients/client-1", &[], b"");
        assert!(closed.status < 300, "{closed:?}");
        returns("closed by the operator");
    }
}
