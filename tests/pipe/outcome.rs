//! The outcome of a request: late replies, lost links, and how often a handler ran.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use restpipe::handler::Router;
use serde_json::json;

use crate::support::inside::{Door, Gate, Inside, Pair, timed};
use crate::support::relay::Relay;
use crate::support::{self, Answer, Identities, Setup, client, server};

/// Slack for "at once" on a busy machine.
const SOON: Duration = Duration::from_secs(3);

/// The number of handler runs.
type Count = Arc<AtomicUsize>;

/// `job` counts its runs; the first one waits at the door, later ones pass. `count` returns the number.
fn jobs(count: &Count, door: &Door) -> Router {
    let mut router = Router::new();
    for verb in ["get", "post", "put", "patch", "delete"] {
        let (count, door) = (Arc::clone(count), door.clone());
        router = router.on(&format!("{verb}_job"), move |_, _| {
            let number = count.fetch_add(1, Ordering::SeqCst) + 1;
            if number == 1 {
                door.pass();
            }
            Ok(json!({ "run": number }))
        });
    }
    let count = Arc::clone(count);
    router.on("get_count", move |_, _| Ok(json!(count.load(Ordering::SeqCst))))
}

/// Asker and handling side, connected through a relay.
struct Broken {
    asker: Inside,
    _handler: Inside,
    path: &'static str,
    relay: Relay,
    gate: Gate,
    count: Count,
}

const DIRECTIONS: [&str; 2] = ["/server", "/client/client-1"];

fn broken(path: &'static str, wait: &str) -> Broken {
    let identities = Identities::new(&["client-1"]);
    let (gate, door) = Gate::new();
    let count = Count::default();
    let set = |setup: Setup| setup.set("RP_CONNECTION_WAIT_S", wait);
    let from_client = path == "/server";
    let router = |handles| if handles { jobs(&count, &door) } else { Router::new() };
    let server = set(server(&identities)).serve(router(from_client));
    let relay = Relay::to(server.pipe());
    let client = client(&identities, "client-1", relay.address());
    let client = set(client).dial(router(!from_client));
    let (asker, _handler) = if from_client { (client, server) } else { (server, client) };
    let broken = Broken { asker, _handler, path, relay, gate, count };
    // Until they are connected, the server knows no client of this name.
    let other =
        if from_client { ("/server", &broken.asker) } else { ("/server", &broken._handler) };
    let met = other.1.ask("GET", &format!("{}/count", other.0), &[], b"");
    assert_ne!(met.status, 503, "{met:?}");
    assert_eq!(broken.count(), 0);
    broken
}

impl Broken {
    fn ask(&self, method: &str) -> support::Answer {
        self.asker.ask(method, &format!("{}/job", self.path), &[], b"")
    }

    fn count(&self) -> usize {
        let answer = self.asker.get(&format!("{}/count", self.path));
        assert_eq!(answer.status, 200, "{answer:?}");
        let count = answer.json().as_u64().unwrap() as usize;
        assert_eq!(count, self.count.load(Ordering::SeqCst));
        count
    }

    /// Cuts the link while the handler runs. Returns the answer, and how long it took from then on.
    fn ask_and_cut(&self, method: &str) -> (Answer, Duration) {
        std::thread::scope(|scope| {
            let asking = scope.spawn(|| self.ask(method));
            self.gate.wait();
            timed(|| {
                self.relay.cut();
                asking.join().unwrap()
            })
        })
    }
}

#[test]
fn a_lost_link_is_502_at_once_where_doing_it_again_would_matter() {
    for path in DIRECTIONS {
        for method in ["POST", "PATCH"] {
            let broken = broken(path, "20");
            let (answer, took) = broken.ask_and_cut(method);
            println!("{path} {method}: 502 {took:?} after the loss");
            assert_eq!(answer.status, 502, "{answer:?}");
            assert_eq!(answer.json()["error"], "outcome_unknown");
            assert!(took < SOON, "{took:?}");
            // The handler's late answer is discarded, and it does not run again.
            assert_eq!(broken.count(), 1);
            assert_eq!(broken.ask("GET").json(), json!({ "run": 2 }));
            assert_eq!(broken.count(), 2);
        }
    }
}

#[test]
fn an_idempotent_request_is_sent_again_on_the_next_connection() {
    for path in DIRECTIONS {
        for method in ["GET", "PUT", "DELETE"] {
            let broken = broken(path, "20");
            let (answer, took) = broken.ask_and_cut(method);
            println!("{path} {method}: answered {took:?} after the loss");
            assert_eq!((answer.status, answer.json()), (200, json!({ "run": 2 })), "{method}");
            assert_eq!(broken.count(), 2);
        }
    }
}

#[test]
fn an_idempotent_request_is_502_when_the_peer_does_not_come_back() {
    for path in DIRECTIONS {
        let broken = broken(path, "0.5");
        let answer = std::thread::scope(|scope| {
            let asking = scope.spawn(|| broken.ask("GET"));
            broken.gate.wait();
            broken.relay.cut_and_stay_cut();
            asking.join().unwrap()
        });
        assert_eq!(answer.status, 502, "{answer:?}");
        assert_eq!(answer.json()["error"], "outcome_unknown");
        assert_eq!(broken.count.load(Ordering::SeqCst), 1);
    }
}

#[test]
fn a_request_for_a_peer_that_is_away_is_delivered_once() {
    for path in DIRECTIONS {
        let broken = broken(path, "20");
        broken.relay.cut_and_stay_cut();
        drop(broken.gate);
        // Both sides detect the end of the connection before, or because of, the next request.
        let wait = [("RP-Wait", "0")];
        let away = broken.asker.ask("GET", &format!("{path}/count"), &wait, b"");
        assert!([502, 503].contains(&away.status), "{away:?}");
        std::thread::scope(|scope| {
            let asking =
                scope.spawn(|| broken.asker.ask("POST", &format!("{path}/job"), &[], b"x"));
            // It sends a request, and waits, while this connection is refused.
            broken.relay.mend();
            let answer = asking.join().unwrap();
            assert_eq!((answer.status, answer.json()), (200, json!({ "run": 1 })));
        });
        assert_eq!(broken.count.load(Ordering::SeqCst), 1);
    }
}

#[test]
fn no_reply_in_time_is_504_and_a_late_one_is_dropped() {
    let (gate, door) = Gate::new();
    let router = || {
        let door = door.clone();
        Router::new()
            .on("get_slow", move |_, event| {
                door.pass();
                Ok(json!({ "late": event.target.parameters() }))
            })
            .on("get_echo", |_, event| Ok(json!(event.target.parameters())))
    };
    let pair = Pair::new(router, |_, setup| setup.set("RP_REPLY_TIMEOUT_S", 1));
    for (asker, peer) in pair.both() {
        let (answer, took) = timed(|| asker.get(&format!("{peer}/slow//1")));
        println!("{peer}: 504 after {took:?}, asked for 1 s");
        assert_eq!((answer.status, answer.json()["error"].as_str()), (504, Some("no_reply")));
        assert!(took >= Duration::from_millis(990) && took < SOON, "{took:?}");
        gate.wait();
    }
    // The late replies arrive now, between others on the same link.
    let before = pair.client.get("/server/echo//before").json();
    assert_eq!(before, json!(["before"]));
    drop(gate);
    for number in 0..200 {
        for (asker, peer) in pair.both() {
            let answer = asker.get(&format!("{peer}/echo//{number}"));
            assert_eq!((answer.status, answer.json()), (200, json!([number.to_string()])));
        }
    }
}

#[test]
fn a_slow_handler_delays_no_other_request_and_no_heartbeat() {
    let (gate, door) = Gate::new();
    let count = Count::default();
    let router = || {
        let (door, count) = (door.clone(), Arc::clone(&count));
        Router::new()
            .on("get_slow", move |_, _| {
                count.fetch_add(1, Ordering::SeqCst);
                door.pass();
                Ok("slow")
            })
            .on("get_quick", |_, _| Ok("quick"))
    };
    // More than two seconds of silence would end the link.
    let pair = Pair::new(router, |role, setup| match role {
        "client" => setup
            .set("RP_CLIENT_HEARTBEAT_INTERVAL_S", "0.5")
            .set("RP_CLIENT_HEARTBEAT_TIMEOUT_S", 2),
        _ => setup,
    });
    let pair = &pair;
    std::thread::scope(|scope| {
        let slow: Vec<_> = (0..10)
            .flat_map(|_| pair.both())
            .map(|(asker, peer)| scope.spawn(move || asker.get(&format!("{peer}/slow"))))
            .collect();
        for _ in &slow {
            gate.wait();
        }
        let until = std::time::Instant::now() + Duration::from_millis(2500);
        while std::time::Instant::now() < until {
            for (asker, peer) in pair.both() {
                assert_eq!(asker.get(&format!("{peer}/quick")).text(), "quick");
            }
        }
        drop(gate);
        for asked in slow {
            assert_eq!(asked.join().unwrap().text(), "slow");
        }
    });
    // After a loss of the link each would have been sent again.
    assert_eq!(count.load(Ordering::SeqCst), 20);
}
