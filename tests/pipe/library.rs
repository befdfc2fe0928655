//! The library as a program uses it: nodes built from values, requests without HTTP, streams both
//! ways, connection events in order.

use std::io::{self, Read};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded, unbounded};
use restpipe::event::pipe::{Patient, Peer};
use restpipe::{
    Bind, Body, Client, ClientConfig, ConnectionEvent, Event, Failure, IdentityFiles,
    RemoteFailure, Reply, RequestError, Router, Server, ServerConfig, StartError, Verb,
    raise_for_exception,
};

use crate::support::inside::Gate;
use crate::support::port::free_address;
use crate::support::relay::Relay;
use crate::support::{Identities, PATIENCE, ask};

fn identity(identities: &Identities, name: &str) -> IdentityFiles {
    IdentityFiles::issued(identities.path(""), name)
}

fn server_config(identities: &Identities) -> ServerConfig {
    let mut config = ServerConfig::new(identity(identities, "localhost"));
    config.pipe_bind = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    config.node.http_bind = Bind::Tcp(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)));
    config.node.statsd = None;
    config
}

fn client_config(identities: &Identities, name: &str, pipe: SocketAddr) -> ClientConfig {
    let mut config = ClientConfig::new(identity(identities, name), &pipe.ip().to_string());
    config.target_port = pipe.port();
    config.node.http_bind = Bind::Tcp(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)));
    config.node.statsd = None;
    config
}

fn get(target: &str) -> Event {
    Event::new(Verb::Get, target).unwrap()
}

/// What a listener received, one line per event.
#[derive(Clone)]
struct Story {
    say: Sender<String>,
    heard: Receiver<String>,
}

impl Story {
    fn new() -> Self {
        let (say, heard) = unbounded();
        Self { say, heard }
    }

    fn next(&self) -> String {
        self.heard.recv_timeout(PATIENCE).expect("nothing more happens")
    }

    fn event(&self) -> impl FnMut(&ConnectionEvent) + Send + 'static {
        let say = self.say.clone();
        move |event| {
            let line = match event {
                ConnectionEvent::ConnectSuccess { peer } => peer.name.clone(),
                ConnectionEvent::ConnectFail { attempts, lost_at, reason } => {
                    assert!(!reason.is_empty() && !reason.contains('\n'), "{reason:?}");
                    format!("{attempts} {}", if lost_at.is_some() { "lost" } else { "never" })
                }
                ConnectionEvent::ConnectionAdded { peer, count }
                | ConnectionEvent::ConnectionRemoved { peer, count } => {
                    format!("{} {} {count}", peer.name, peer.address)
                }
                ConnectionEvent::Idle => String::new(),
            };
            let _ = say.send(format!("{} {line}", event.name()));
        }
    }
}

macro_rules! told {
    ($builder:expr, $story:expr) => {{
        let (start, stop) = ($story.say.clone(), $story.say.clone());
        $builder
            .on_start(move |peer| drop(start.send(format!("start {}", peer.name))))
            .on_stop(move |peer, why| {
                assert!(!why.is_empty() && !why.contains('\n'), "{why:?}");
                drop(stop.send(format!("stop {}", peer.name)));
            })
            .on_event($story.event())
    }};
}

#[test]
fn both_sides_ask_and_failures_are_errors() {
    let identities = Identities::new(&["web1"]);
    let router = || {
        Router::new()
            .on("get_name", |context, _| Ok(context.peer.name.clone()))
            .on("get_fail", |_, _| Err::<(), _>("x".parse::<u8>().unwrap_err().into()))
            .on("get_odd", |_, _| Ok(Reply::from("odd").with_code(7)))
    };
    let server = Server::builder(server_config(&identities)).handler(router()).start().unwrap();
    let client = client_config(&identities, "web1", server.pipe_address());
    let client = Client::builder(client).handler(router()).start().unwrap();

    let text = |reply: Reply| {
        let mut reply = reply.raise_for_exception().unwrap();
        String::from_utf8(reply.body.gather(100).unwrap().to_vec()).unwrap()
    };
    // The client is still connecting: the request waits for it.
    assert_eq!(text(client.request(&mut get("name")).unwrap()), "web1");
    assert_eq!(text(server.request("web1", &mut get("name")).unwrap()), "localhost");

    for reply in [server.request("web1", &mut get("fail")), client.request(&mut get("fail"))] {
        let failure = reply.unwrap().raise_for_exception().unwrap_err();
        assert_eq!(failure.to_string(), "ParseIntError: invalid digit found in string");
        let RemoteFailure::Exception { code: 251, .. } = failure else { panic!("{failure:?}") };
    }
    let odd = client.request(&mut get("odd")).unwrap().raise_for_exception().unwrap();
    assert_eq!(odd.code, 7);
    let none = client.request(&mut get("none")).unwrap().raise_for_exception().unwrap_err();
    assert!(matches!(none, RemoteFailure::Refused { code: Some(255), .. }), "{none:?}");
    // Soon after the start it may be a client's that has not come back yet.
    let unknown = Peer::Client("no.such.name.invalid");
    let unknown = server.pipe().request(unknown, &mut get("name"), Duration::ZERO, &Patient);
    assert!(matches!(unknown, Err(RequestError::Away { .. })), "{unknown:?}");

    // The same over HTTP, as another program sees it.
    let Bind::Tcp(http) = client.http_address().clone() else { panic!("no TCP") };
    let raised = |path: &str| {
        let answer = ask(http, "GET", path, &[], b"");
        let headers = answer.head.lines().filter_map(|line| line.split_once(": "));
        raise_for_exception(answer.status, headers, answer.body.clone())
    };
    assert_eq!(raised("/server/name").unwrap(), b"web1");
    assert_eq!(raised("/server/odd").unwrap(), b"odd");
    let failed = raised("/server/fail").unwrap_err();
    assert!(matches!(failed, RemoteFailure::Exception { code: 251, .. }), "{failed:?}");
    let none = raised("/server/none").unwrap_err();
    assert!(
        matches!(&none, RemoteFailure::Refused { status: 404, code: Some(255), error, .. } if error == "unhandled"),
        "{none:?}"
    );
    let face = raised("/nothing").unwrap_err();
    assert!(
        matches!(&face, RemoteFailure::Refused { status: 404, code: None, error, .. } if error == "unknown_path"),
        "{face:?}"
    );
}

/// A body that yields what is sent, as it is sent.
struct Fed {
    pieces: Receiver<Vec<u8>>,
    left: Vec<u8>,
}

impl Read for Fed {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.left.is_empty() {
            match self.pieces.recv_timeout(PATIENCE) {
                Ok(bytes) => self.left = bytes,
                Err(RecvTimeoutError::Disconnected) => return Ok(0),
                Err(RecvTimeoutError::Timeout) => return Err(io::ErrorKind::TimedOut.into()),
            }
        }
        let count = buffer.len().min(self.left.len());
        buffer[..count].copy_from_slice(&self.left[..count]);
        self.left.drain(..count);
        Ok(count)
    }
}

#[test]
fn bodies_stream_both_ways_at_once() {
    let identities = Identities::new(&["web1"]);
    let router = || {
        Router::new().on("post_echo", |_, event| {
            Ok(Reply::new("application/octet-stream", event.body.take_out()))
        })
    };
    let server = Server::builder(server_config(&identities)).handler(router()).start().unwrap();
    let client = client_config(&identities, "web1", server.pipe_address());
    let client = Client::builder(client).handler(router()).start().unwrap();
    for asks in ["client", "server"] {
        let (feed, pieces) = bounded(4);
        let mut event = Event::new(Verb::Post, "echo").unwrap();
        event.body = Body::stream(Fed { pieces, left: Vec::new() }, None);
        feed.send(b"first".to_vec()).unwrap();
        let reply = match asks {
            "client" => client.request(&mut event),
            _ => server.request("web1", &mut event),
        };
        let mut body = reply.unwrap().raise_for_exception().unwrap().body;
        // The first bytes come back before the rest is available.
        let mut first = [0; 5];
        body.read_exact(&mut first).unwrap();
        assert_eq!(&first, b"first");
        let pieces: Vec<Vec<u8>> = (0..500u32).map(|n| n.to_be_bytes().repeat(2000)).collect();
        let expected = pieces.concat();
        let mut rest = vec![0; expected.len()];
        std::thread::scope(|scope| {
            scope.spawn(move || pieces.into_iter().for_each(|piece| feed.send(piece).unwrap()));
            body.read_exact(&mut rest).unwrap();
        });
        assert!(rest == expected, "{asks}");
        assert_eq!(body.read(&mut [0]).unwrap(), 0);
    }
}

/// A body whose reader panics is truncated, in both directions.
#[test]
fn a_reader_that_panics_is_a_body_cut_short() {
    struct Panics;
    impl Read for Panics {
        fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
            panic!("on purpose")
        }
    }
    let identities = Identities::new(&["web1"]);
    let router = Router::new()
        .on("post_length", |_, event| Ok(event.body.gather(100)?.len().to_string()))
        .on("get_broken", |_, _| Ok(Reply::new("text/plain", Body::stream(Panics, None))))
        .on("get_short", |_, _| Ok(Reply::new("text/plain", Body::stream(Panics, Some(3)))))
        .on("get_whole", |_, _| Ok("whole"));
    let server = Server::builder(server_config(&identities)).handler(router).start().unwrap();
    let config = client_config(&identities, "web1", server.pipe_address());
    let client = Client::builder(config).start().unwrap();
    let asked = Instant::now();
    let mut event = Event::new(Verb::Post, "length").unwrap();
    event.body = Body::stream(Panics, None);
    let refused = client.request(&mut event);
    assert!(matches!(refused, Err(RequestError::Body(_))), "{refused:?}");
    let mut broken = client.request(&mut get("broken")).unwrap();
    assert!(broken.body.gather(100).is_err());
    let short = client.request(&mut get("short")).unwrap();
    assert_eq!(short.code, 251, "{short:?}");
    let mut whole = client.request(&mut get("whole")).unwrap();
    assert_eq!(whole.body.gather(100).unwrap(), b"whole");
    assert!(asked.elapsed() < PATIENCE, "{:?}", asked.elapsed());
}

#[test]
fn a_lost_link_is_told_in_order_on_both_sides() {
    let identities = Identities::new(&["web1"]);
    let (on_server, on_client) = (Story::new(), Story::new());
    let server = told!(Server::builder(server_config(&identities)), on_server).start().unwrap();
    let relay = Relay::to(server.pipe_address());
    let losses = Story::new();
    let tell = losses.say.clone();
    let client =
        told!(Client::builder(client_config(&identities, "web1", relay.address())), on_client)
            .on_event(move |event| {
                if let ConnectionEvent::ConnectFail { lost_at: Some(at), .. } = event {
                    let ago = SystemTime::now().duration_since(*at).unwrap_or_default();
                    let _ = tell.send(ago.as_secs().to_string());
                }
            })
            .start()
            .unwrap();

    assert_eq!(on_server.next(), "start web1");
    assert_eq!(on_server.next(), "connection_added web1 127.0.0.1 1");
    assert_eq!(on_client.next(), "start localhost");
    assert_eq!(on_client.next(), "connect_success localhost");

    relay.cut_and_stay_cut();
    assert_eq!(on_server.next(), "connection_removed web1 127.0.0.1 0");
    assert_eq!(on_server.next(), "stop web1");
    assert_eq!(on_client.next(), "stop localhost");
    assert_eq!(on_client.next(), "connect_fail 1 lost");
    assert_eq!(on_client.next(), "connect_fail 2 lost");
    assert!(losses.next().parse::<u64>().unwrap() < 10);

    relay.mend();
    let mut line = on_client.next();
    let mut attempts = 2;
    while line != "start localhost" {
        attempts += 1;
        assert_eq!(line, format!("connect_fail {attempts} lost"));
        line = on_client.next();
    }
    assert_eq!(on_client.next(), "connect_success localhost");
    assert_eq!(on_server.next(), "start web1");
    assert_eq!(on_server.next(), "connection_added web1 127.0.0.1 1");

    // The count of failures starts again.
    relay.cut_and_stay_cut();
    assert_eq!(on_client.next(), "stop localhost");
    assert_eq!(on_client.next(), "connect_fail 1 lost");
    client.stop(Duration::ZERO);
    assert_eq!(on_server.next(), "connection_removed web1 127.0.0.1 0");
    assert_eq!(on_server.next(), "stop web1");
}

#[test]
fn counts_are_those_of_the_moment_and_the_end_is_told() {
    let names = ["a", "b", "c"];
    let identities = Identities::new(&names);
    let story = Story::new();
    let server = told!(Server::builder(server_config(&identities)), story).start().unwrap();
    let mut clients = Vec::new();
    for (at, name) in names.iter().enumerate() {
        let config = client_config(&identities, name, server.pipe_address());
        clients.push(Client::builder(config).start().unwrap());
        assert_eq!(story.next(), format!("start {name}"));
        assert_eq!(story.next(), format!("connection_added {name} 127.0.0.1 {}", at + 1));
    }
    clients.remove(1).stop(Duration::ZERO);
    assert_eq!(story.next(), "connection_removed b 127.0.0.1 2");
    assert_eq!(story.next(), "stop b");
    // A stopping server reports every event before it has stopped.
    server.stop(Duration::ZERO);
    let mut rest: Vec<String> = story.heard.try_iter().collect();
    let counts: Vec<&str> = rest
        .iter()
        .filter(|line| line.starts_with("connection_removed"))
        .map(|line| line.rsplit(' ').next().unwrap())
        .collect();
    assert_eq!(counts, ["1", "0"]);
    rest.retain(|line| line.starts_with("stop"));
    rest.sort();
    assert_eq!(rest, ["stop a", "stop c"]);
}

#[test]
fn a_server_that_was_never_there_is_a_failure_each_time() {
    let identities = Identities::new(&["web1"]);
    // Nobody listens there.
    let free = free_address();
    let story = Story::new();
    let mut config = client_config(&identities, "web1", free);
    config.node.connection_wait = Duration::from_millis(100);
    let client = told!(Client::builder(config), story).start().unwrap();
    for attempt in 1..=3 {
        assert_eq!(story.next(), format!("connect_fail {attempt} never"));
    }
    let away = client.request(&mut get("time"));
    assert!(matches!(away, Err(RequestError::Away { .. })), "{away:?}");
}

/// A slow listener delays neither requests nor shutdown.
#[test]
fn a_listener_that_hangs_holds_up_nothing() {
    let identities = Identities::new(&["web1"]);
    let (entered, has_entered) = bounded(1);
    let (_hold, held) = bounded::<()>(0);
    let server = Server::builder(server_config(&identities))
        .handler(Router::new().on("get_name", |context, _| Ok(context.peer.name.clone())))
        .on_start(move |_| {
            let _ = entered.send(());
            let _ = held.recv();
        })
        .start()
        .unwrap();
    let config = client_config(&identities, "web1", server.pipe_address());
    let client = Client::builder(config).start().unwrap();
    has_entered.recv_timeout(PATIENCE).unwrap();
    let asked = Instant::now();
    for _ in 0..100 {
        client.request(&mut get("name")).unwrap().raise_for_exception().unwrap();
    }
    server.stop(Duration::ZERO);
    assert!(asked.elapsed() < PATIENCE, "{:?}", asked.elapsed());
}

#[test]
fn a_node_that_is_dropped_has_stopped() {
    let identities = Identities::new(&["web1"]);
    let server = Server::builder(server_config(&identities)).start().unwrap();
    let config = client_config(&identities, "web1", server.pipe_address());
    let story = Story::new();
    let client = told!(Client::builder(config), story).start().unwrap();
    assert_eq!(story.next(), "start localhost");
    assert_eq!(story.next(), "connect_success localhost");
    let (pipe, asks) = (client.pipe(), server.pipe());
    let address = server.pipe_address();
    drop(client);
    assert_eq!(story.next(), "stop localhost");
    drop(server);
    assert!(TcpStream::connect(address).is_err());
    for (pipe, peer) in [
        (pipe, restpipe::event::pipe::Peer::Server),
        (asks, restpipe::event::pipe::Peer::Client("web1")),
    ] {
        let patient = restpipe::event::pipe::Patient;
        // However long it would wait.
        let refused = pipe.request(peer, &mut get("time"), Duration::MAX, &patient);
        assert_eq!(refused, Err(RequestError::Stopping));
    }
}

#[test]
fn what_cannot_be_used_is_an_error_and_no_panic() {
    let identities = Identities::new(&["web1"]);
    let refused = |change: &dyn Fn(&mut ServerConfig)| {
        let mut config = server_config(&identities);
        change(&mut config);
        Server::builder(config).start().err().expect("it starts")
    };
    let error = refused(&|config| config.node.reply_timeout = Duration::ZERO);
    assert!(matches!(&error, StartError::Config(_)), "{error:?}");
    assert!(error.to_string().starts_with("RP_REPLY_TIMEOUT_S, set by the program, is"), "{error}");
    let error = refused(&|config| config.node.identity.key = PathBuf::from("/no/such/key"));
    assert!(matches!(&error, StartError::Identity(_)), "{error:?}");
    let hook = restpipe::config::Hook { path: PathBuf::from("/no/such/hook") };
    let error = refused(&|config| config.node.hook = Some(hook.clone()));
    assert_eq!(
        error.to_string(),
        "RP_SERVER_CONNECTION_STATE_CHANGE_EVENT_CLASS: exec:/no/such/hook: No such file or \
         directory (os error 2)"
    );
    let panics =
        Router::new().on("get_panic", |_, _| -> Result<(), Failure> { panic!("on purpose") });
    let server = Server::builder(server_config(&identities))
        .shared_handler(Arc::new(panics))
        .on_event(|_| panic!("on purpose"))
        .start()
        .unwrap();
    let config = client_config(&identities, "web1", server.pipe_address());
    let client = Client::builder(config).start().unwrap();
    let failed = client.request(&mut get("panic")).unwrap().raise_for_exception().unwrap_err();
    assert_eq!(failed.to_string(), "Panic: the handler panicked");
}

/// A body that is sent in pieces is not kept, so its request is not sent again: least of all without
/// its body.
#[test]
fn a_large_body_is_not_sent_again_as_nothing() {
    let identities = Identities::new(&["web1"]);
    let (gate, door) = Gate::new();
    let (seen, lengths) = unbounded();
    let store = Router::new().on("put_it", move |_, event| {
        seen.send(event.body.gather(1 << 20)?.len())?;
        door.pass();
        Ok(())
    });
    let server = Server::builder(server_config(&identities)).handler(store).start().unwrap();
    let relay = Relay::to(server.pipe_address());
    let client = client_config(&identities, "web1", relay.address());
    let client = Client::builder(client).start().unwrap();
    let put = |length| {
        let mut event = Event::new(Verb::Put, "it").unwrap();
        event.body = Body::from(vec![b'x'; length]);
        client.request(&mut event)
    };
    std::thread::scope(|scope| {
        let large = scope.spawn(|| put(100_000));
        gate.wait();
        relay.cut();
        let large = large.join().unwrap();
        assert!(matches!(large, Err(RequestError::OutcomeUnknown { .. })), "{large:?}");
        let small = scope.spawn(|| put(100));
        gate.wait();
        relay.cut();
        gate.wait();
        drop(gate);
        assert_eq!(small.join().unwrap().unwrap().code, 0);
    });
    assert_eq!(lengths.try_iter().collect::<Vec<_>>(), [100_000, 100, 100]);
}
