//! Restarts under load: no request fails or is handled twice, and with inherited sockets no connection
//! is refused.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsFd;
use std::os::unix::net::UnixDatagram;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use restpipe::handler::Router;

use crate::support::alone::{USUAL_FILES, alone};
use crate::support::port::free_port;
use crate::support::{self, Identities, Node, PATIENCE, client, server};

/// Requests per second of all callers together; every second one is a POST.
const RATE: u32 = 200;
const CALLERS: u32 = 40;

/// How often each POST was handled, by its number.
#[derive(Clone, Default)]
struct Handled(Arc<Mutex<HashMap<String, u32>>>);

impl Handled {
    fn note(&self, id: &str) {
        *self.0.lock().unwrap().entry(id.to_owned()).or_default() += 1;
    }

    /// Answers `job` to both verbs.
    fn router(&self) -> Router {
        let handled = self.clone();
        Router::new().on("get_job", |_, _| Ok("here")).on("post_job", move |_, event| {
            handled.note(&event.target.parameters()[0]);
            Ok("done")
        })
    }

    /// The same over HTTP, for a node that is a restarted process. Each connection has its own thread,
    /// so that none waits for another: a stopping node would wait for it, too.
    fn service(&self) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let handled = self.clone();
        // They run until the test process ends.
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let handled = handled.clone();
                thread::spawn(move || handled.serve(stream));
            }
        });
        address
    }

    /// Answers requests without a body until the caller closes.
    fn serve(&self, mut stream: TcpStream) {
        let mut lines = BufReader::new(stream.try_clone().unwrap()).lines().map_while(Result::ok);
        while let Some(line) = lines.next() {
            let mut words = line.split(' ');
            let (verb, path) = (words.next().unwrap(), words.next().unwrap());
            let head: Vec<_> = lines.by_ref().take_while(|line| !line.is_empty()).collect();
            assert!(!head.iter().any(|line| line.starts_with("transfer-encoding")), "{head:?}");
            if verb == "POST" {
                self.note(path.rsplit('/').next().unwrap());
            }
            // The caller may have disconnected.
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ndone");
        }
    }
}

/// Requests `path` from `http` at a steady rate while `work` runs. No request may fail, and each POST
/// must be handled exactly once.
fn under_load(http: SocketAddr, path: &str, rate: u32, handled: &Handled, work: impl FnOnce()) {
    let running = AtomicBool::new(true);
    let asked = thread::scope(|scope| {
        let running = &running;
        let callers: Vec<_> = (0..CALLERS)
            .map(|caller| {
                scope.spawn(move || {
                    let start = Instant::now() + Duration::from_secs(1) * caller / rate;
                    let mut posts = Vec::new();
                    let mut turn = 0;
                    while running.load(Ordering::Relaxed) {
                        let due = start + Duration::from_secs(1) * CALLERS * turn / rate;
                        thread::sleep(due.saturating_duration_since(Instant::now()));
                        let verb = if turn % 2 == 0 { "GET" } else { "POST" };
                        let id = format!("{}-{caller}-{turn}", path.len());
                        let target = format!("{path}/job//{id}");
                        let answer = support::ask(http, verb, &target, &[], b"");
                        assert_eq!(answer.status, 200, "{verb} {target}: {answer:?}");
                        if verb == "POST" {
                            posts.push(id);
                        }
                        turn += 1;
                    }
                    posts
                })
            })
            .collect();
        struct Stop<'a>(&'a AtomicBool);
        impl Drop for Stop<'_> {
            fn drop(&mut self) {
                self.0.store(false, Ordering::Relaxed);
            }
        }
        let stop = Stop(running);
        work();
        drop(stop);
        callers.into_iter().flat_map(|caller| caller.join().unwrap()).collect::<Vec<_>>()
    });
    let handled = handled.0.lock().unwrap();
    let wrong: Vec<_> = asked.iter().filter(|id| handled.get(*id) != Some(&1)).collect();
    assert!(wrong.is_empty(), "not handled once: {wrong:?}");
    assert!(asked.len() > 20, "{} POSTs", asked.len());
    println!("{path}: {} POSTs, each handled once", asked.len());
}

/// Stops a node like a service manager, and returns how it exited.
fn terminate(node: &mut Node) {
    node.signal("TERM");
    assert_eq!(node.wait_exit().code(), Some(0), "log: {:#?}", node.log());
    let log = node.log();
    // Shown if the test fails: by then the node no longer exists.
    println!("log of an ended node: {log:#?}");
    assert!(!log.iter().any(|line| line.contains("cut off")), "{log:#?}");
}

/// A moment of regular service between two restarts.
fn serve_a_while(node: &Node, path: &str) {
    let until = Instant::now() + Duration::from_millis(300);
    while Instant::now() < until {
        assert_eq!(node.ask("GET", path, &[], b"").status, 200);
    }
}

#[test]
fn ten_restarts_of_a_server_are_noticed_by_nobody() {
    if !alone("restart::ten_restarts_of_a_server_are_noticed_by_nobody", USUAL_FILES) {
        return;
    }
    let identities = Identities::new(&["web1"]);
    let pipe = TcpListener::bind("127.0.0.1:0").unwrap();
    let http = TcpListener::bind("127.0.0.1:0").unwrap();
    let (at, asked_there) = (pipe.local_addr().unwrap(), http.local_addr().unwrap());
    let (by_server, by_client) = (Handled::default(), Handled::default());
    let setup =
        server(&identities).set("RP_EVENT_HANDLER", format!("http://{}", by_server.service()));
    let start = || {
        let sockets = [("pipe", pipe.as_fd()), ("http", http.as_fd())];
        let node = setup.command_with_sockets(&sockets).start();
        assert_eq!((node.pipe(), node.http()), (at, asked_there));
        node
    };
    let mut node = start();
    let client = client(&identities, "web1", at).dial(by_client.router());
    node.get_when_up("/client/web1/job");
    let began = Instant::now();
    // Local callers of the server, too.
    under_load(asked_there, "/client/web1", RATE / 4, &by_client, || {
        under_load(client.http(), "/server", RATE, &by_server, || {
            for _ in 0..10 {
                terminate(&mut node);
                node = start();
                serve_a_while(&node, "/client/web1/job");
            }
        });
    });
    println!("ten restarts in {:?}", began.elapsed());
}

#[test]
fn a_restart_without_handed_sockets_fails_no_request_of_a_client() {
    let identities = Identities::new(&["web1"]);
    let handled = Handled::default();
    let setup =
        server(&identities).set("RP_EVENT_HANDLER", format!("http://{}", handled.service()));
    let setup = setup.set("BIND_PORT", free_port());
    let mut node = setup.start();
    let client = client(&identities, "web1", node.pipe()).dial(Router::new());
    under_load(client.http(), "/server", RATE, &handled, || {
        for _ in 0..3 {
            terminate(&mut node);
            node = setup.start();
            node.get_when_up_or("/client/localhost/none", 404);
        }
    });
}

#[test]
fn a_restarting_client_fails_no_request_of_its_server() {
    let identities = Identities::new(&["web1"]);
    let server = server(&identities).serve(Router::new());
    let handled = Handled::default();
    let setup = client(&identities, "web1", server.pipe())
        .set("RP_EVENT_HANDLER", format!("http://{}", handled.service()));
    let mut node = setup.start();
    node.get_when_up_or("/server/none", 404);
    under_load(server.http(), "/client/web1", RATE, &handled, || {
        for _ in 0..3 {
            terminate(&mut node);
            node = setup.start();
            node.get_when_up_or("/server/none", 404);
        }
    });
}

#[test]
fn a_socket_of_the_wrong_kind_is_one_clear_line() {
    if !alone("restart::a_socket_of_the_wrong_kind_is_one_clear_line", USUAL_FILES) {
        return;
    }
    let identities = Identities::new(&[]);
    let dir = tempfile::tempdir().unwrap();
    let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
    let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
    let datagrams = UnixDatagram::bind(dir.path().join("d")).unwrap();
    let unix = std::os::unix::net::UnixListener::bind(dir.path().join("s")).unwrap();
    let file = std::fs::File::open("/dev/null").unwrap();
    let connected = std::net::TcpStream::connect(tcp.local_addr().unwrap()).unwrap();
    for (sockets, expected) in [
        (vec![("pipe", udp.as_fd())], "pipe: fd 3 is not a valid tcp socket"),
        (vec![("http", udp.as_fd())], "http: fd 3 is not a valid unix stream socket"),
        (vec![("http", datagrams.as_fd())], "http: fd 3 is not a valid unix stream socket"),
        (vec![("pipe", unix.as_fd())], "it has to be a TCP socket"),
        (vec![("pipe", file.as_fd())], "pipe: fd 3 is not a socket"),
        (vec![("pipe", connected.as_fd())], "pipe: it does not listen"),
        (vec![("other", tcp.as_fd())], "one is called \"other\"; FileDescriptorName= has to be"),
        (vec![("http", tcp.as_fd()), ("http", tcp.as_fd())], "two of them are called http"),
    ] {
        let mut handed = server(&identities).command_with_sockets(&sockets);
        let output = handed.command.output().unwrap();
        let text = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{expected}: {text}");
        assert!(text.contains(expected), "{expected}: {text}");
        assert_eq!(text.lines().count(), 1, "{text}");
    }
    let mut many = server(&identities).command_with_sockets(&[("http", tcp.as_fd())]);
    for count in ["17", "-1", "99999999999", "two"] {
        let output = many.command.env("LISTEN_FDS", count).output().unwrap();
        let text = String::from_utf8(output.stderr).unwrap();
        assert!(text.contains("their number has to be from 0 to 16"), "{count}: {text}");
    }
    // Sockets for another process are left alone.
    let other = server(&identities).set("LISTEN_FDS", 1).set("LISTEN_PID", 1);
    assert_ne!(other.start().http(), tcp.local_addr().unwrap());
}

/// A port set in addition to an inherited socket has no effect: a warning says why.
#[test]
fn a_port_that_is_set_beside_a_handed_socket_is_a_warning() {
    if !alone("restart::a_port_that_is_set_beside_a_handed_socket_is_a_warning", USUAL_FILES) {
        return;
    }
    let identities = Identities::new(&["web1"]);
    let [pipe, http] = [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
    let sockets = [("pipe", pipe.as_fd()), ("http", http.as_fd())];
    // An empty value counts as unset.
    let setup = server(&identities).set("BIND_PORT", 4321).set("RP_SERVER_HTTP_BIND", "");
    let node = setup.command_with_sockets(&sockets).start();
    assert_eq!(
        (node.pipe(), node.http()),
        (pipe.local_addr().unwrap(), http.local_addr().unwrap())
    );
    let socket = format!("is {}; ListenStream=", node.pipe());
    node.wait_log(&["WARN  the pipe port is set to 127.0.0.1:4321, which has no effect", &socket]);
    let client = client(&identities, "web1", node.pipe()).set("RP_CLIENT_HTTP_BIND", "127.0.0.1:1");
    let client = client.command_with_sockets(&sockets[1..]).start();
    client.wait_log(&["WARN  RP_CLIENT_HTTP_BIND is 127.0.0.1:1, which has no effect"]);
    assert!(node.log().iter().all(|line| !line.contains("HTTP_BIND")), "{:?}", node.log());
}

/// A unit's `ListenStream=` can open the pipe to the network like a setting, with the same warning.
#[test]
fn a_handed_http_socket_for_everybody_is_a_warning() {
    let identities = Identities::new(&["web1"]);
    let [pipe, http] =
        ["127.0.0.1:0", "0.0.0.0:0"].map(|address| TcpListener::bind(address).unwrap());
    let sockets = [("pipe", pipe.as_fd()), ("http", http.as_fd())];
    let server_node = server(&identities).command_with_sockets(&sockets).start();
    let warning =
        format!("WARN  the http socket that was handed over is {}", http.local_addr().unwrap());
    server_node.wait_log(&[&warning, "it asks for no password"]);
    let client = client(&identities, "web1", server_node.pipe());
    client.command_with_sockets(&sockets[1..]).start().wait_log(&[&warning]);
}

#[test]
fn a_service_manager_is_told_what_is_so() {
    let identities = Identities::new(&["web1"]);
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("notify");
    let manager = UnixDatagram::bind(&path).unwrap();
    manager.set_read_timeout(Some(PATIENCE)).unwrap();
    let next = || {
        let mut bytes = [0; 4096];
        let count = manager.recv(&mut bytes).unwrap();
        String::from_utf8(bytes[..count].to_vec()).unwrap()
    };
    let until = |expected: &str| loop {
        let text = next();
        if text.starts_with(expected) {
            return text;
        }
        assert!(text == "WATCHDOG=1" || text.starts_with("STATUS="), "{text} before {expected}");
    };
    let setup =
        server(&identities).set("NOTIFY_SOCKET", path.display()).set("WATCHDOG_USEC", 200_000);
    let mut node = setup.start();
    until("READY=1");
    let client = client(&identities, "web1", node.pipe()).dial(Router::new());
    assert_eq!(until("STATUS="), "STATUS=clients connected: 1");
    let began = Instant::now();
    for _ in 0..5 {
        until("WATCHDOG=1");
    }
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
    node.signal("HUP");
    let text = until("RELOADING=1");
    assert!(text.contains("\nMONOTONIC_USEC="), "{text}");
    until("READY=1");
    node.wait_log(&["identity reloaded"]);
    node.signal("TERM");
    until("STOPPING=1");
    assert_eq!(node.wait_exit().code(), Some(0));
    drop(client);
}
