//! A node reloads its files while it runs: requests go on, and a pipe whose certificate is no
//! longer valid is closed with the reason in both logs.

use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rcgen::{CertificateParams, ExtendedKeyUsagePurpose, Issuer, KeyPair};
use restpipe::config::IdentityFiles;
use restpipe::event::peer::Role;
use restpipe::identity::Identity;
use rustls::pki_types::ServerName;
use rustls::{ClientConnection, StreamOwned};
use socket2::{Domain, Socket, Type};

use crate::openssl::Lab;
use crate::support::{self, Identities, Node, Setup, ask, client, server};

/// The longest time until a pipe with an invalid certificate is closed.
const CLOSED_WITHIN: Duration = Duration::from_secs(5);
/// The longest time until changed files are detected and applied.
const NOTICED_WITHIN: Duration = Duration::from_secs(10 + 5);

/// A CA of `rp_ca`, a directory for each node, and `openssl` to revoke with.
struct Scene {
    identities: Identities,
    lab: Lab,
}

impl Scene {
    fn new() -> Self {
        let scene = Self { identities: Identities::new(&["web1"]), lab: Lab::new() };
        for (node, name) in [("server", "localhost"), ("client", "web1")] {
            fs::create_dir(scene.lab.path(node)).unwrap();
            scene.install(&scene.identities, name, node);
            scene.trust(node, &[&scene.identities]);
        }
        scene
    }

    /// Copies an identity of this CA to a node's directory.
    fn install(&self, from: &Identities, name: &str, node: &str) {
        for kind in ["key", "crt"] {
            let content = fs::read(from.path(&format!("{name}.{kind}.pem"))).unwrap();
            replace(&self.file(node, &format!("node.{kind}.pem")), &content);
        }
    }

    /// Makes a node trust these CAs.
    fn trust(&self, node: &str, cas: &[&Identities]) {
        let all: Vec<u8> =
            cas.iter().flat_map(|of| fs::read(of.path("ca.crt.pem")).unwrap()).collect();
        replace(&self.file(node, "ca.crt.pem"), &all);
    }

    /// Creates a list with `openssl` that revokes this certificate, and returns its contents.
    fn revoke(&self, crt: &Path) -> Vec<u8> {
        let [ca_crt, ca_key] = ["ca.crt.pem", "ca.key.pem"].map(|file| self.identities.path(file));
        self.lab.revoke(crt, &ca_crt, &ca_key, "crl.pem");
        self.lab.read("crl.pem")
    }

    fn file(&self, node: &str, file: &str) -> PathBuf {
        self.lab.path(node).join(file)
    }

    fn server(&self) -> Setup {
        self.at(server(&self.identities), "SERVER", "server")
    }

    fn client(&self, pipe: SocketAddr) -> Setup {
        self.at(client(&self.identities, "web1", pipe), "CLIENT", "client")
    }

    fn at(&self, setup: Setup, role: &str, node: &str) -> Setup {
        setup
            .set(&format!("RP_{role}_CERT_PATH"), self.lab.path(node).display())
            .set(&format!("RP_{role}_KEY_FILENAME"), "node.key.pem")
            .set(&format!("RP_{role}_CRT_FILENAME"), "node.crt.pem")
    }

    fn pair(&self) -> (Node, Node) {
        let server = self.server().start();
        let client = self.client(server.pipe()).start();
        client.get_when_up("/server/time");
        (server, client)
    }
}

/// As careful administrators do it: written beside the file, then renamed.
fn replace(file: &Path, content: &[u8]) {
    let new = file.with_extension("new");
    fs::write(&new, content).unwrap();
    fs::rename(new, file).unwrap();
}

/// An identity for `localhost` that expires in `seconds`, or one for a client.
fn short_lived(
    ca: &Identities,
    name: &str,
    usage: ExtendedKeyUsagePurpose,
    seconds: i64,
) -> [String; 2] {
    let text = |file| fs::read_to_string(ca.path(file)).unwrap();
    let key = KeyPair::from_pem(&text("ca.key.pem")).unwrap();
    let issuer = Issuer::from_ca_cert_pem(&text("ca.crt.pem"), key).unwrap();
    let mut params = CertificateParams::new([name.to_owned(), "127.0.0.1".to_owned()]).unwrap();
    let now = time::OffsetDateTime::now_utc();
    (params.not_before, params.not_after) =
        (now - time::Duration::minutes(1), now + time::Duration::seconds(seconds));
    params.extended_key_usages = vec![usage];
    let key = KeyPair::generate().unwrap();
    [key.serialize_pem(), params.signed_by(&key, &issuer).unwrap().pem()]
}

const REVOKED: &str = ": the certificate is revoked";
const AT_SERVER: &str = "its certificate is accepted no longer: certificate CN=web1 (sha256 ";
const AT_CLIENT: &str =
    "the peer accepts this node's certificate no longer: certificate CN=web1 (sha256 ";

#[test]
fn a_live_pipe_is_closed_when_its_client_is_revoked() {
    let scene = Scene::new();
    let (server, client) = scene.pair();
    scene.identities.ca(&["revoke", "web1"]);
    let list = fs::read(scene.identities.path("ca.crl.pem")).unwrap();
    replace(&scene.file("server", "ca.crl.pem"), &list);
    let start = Instant::now();
    server.signal("HUP");
    server.wait_log(&["web1: lost", AT_SERVER, REVOKED]);
    client.wait_log(&["lost: ", AT_CLIENT, REVOKED]);
    println!("revoked, SIGHUP: closed after {:?}", start.elapsed());
    assert!(start.elapsed() < CLOSED_WITHIN);
    server.wait_log(&["refused: certificate CN=web1 (sha256 ", REVOKED]);
    client.wait_log(&[
        "refused this client's certificate (certificate revoked): see the server's log",
    ]);
}

#[test]
fn a_live_pipe_is_closed_when_its_server_is_revoked_without_a_signal() {
    let scene = Scene::new();
    let (server, client) = scene.pair();
    let list = scene.revoke(&scene.identities.path("localhost.crt.pem"));
    let start = Instant::now();
    // A directory that is replaced through a symbolic link, as some systems deliver secrets.
    fs::write(scene.file("client", "list.1"), list).unwrap();
    std::os::unix::fs::symlink("list.1", scene.file("client", "ca.crl.pem")).unwrap();
    client.wait_log(&[
        "lost: its certificate is accepted no longer: certificate CN=localhost",
        REVOKED,
    ]);
    server.wait_log(&["web1: lost", "accepts this node's certificate no longer: ", REVOKED]);
    println!("revoked, noticed by itself: closed after {:?}", start.elapsed());
    assert!(start.elapsed() < NOTICED_WITHIN);
    server.wait_log(&[
        "refused this server's certificate (certificate revoked): see the client's log",
    ]);
}

#[test]
fn a_live_pipe_is_closed_when_a_certificate_ends_and_when_its_ca_is_trusted_no_more() {
    let scene = Scene::new();
    let [key, crt] = short_lived(&scene.identities, "web1", ExtendedKeyUsagePurpose::ClientAuth, 8);
    let end = Instant::now() + Duration::from_secs(8);
    replace(&scene.file("client", "node.key.pem"), key.as_bytes());
    replace(&scene.file("client", "node.crt.pem"), crt.as_bytes());
    let (server, client) = scene.pair();
    server.wait_log(&["web1: lost", "its certificate is accepted no longer", "expired on "]);
    client.wait_log(&["lost: ", "accepts this node's certificate no longer", "expired on "]);
    assert!(Instant::now() < end + CLOSED_WITHIN);
    println!("expired: closed {:?} after its end", Instant::now().saturating_duration_since(end));

    // It reconnects with a valid one at once, and is dropped when the CA is removed.
    let skip = server.log().len();
    scene.install(&scene.identities, "web1", "client");
    client.signal("HUP");
    server.wait_log_from(skip, &["web1: connected"]);
    let other = Identities::new(&["web1"]);
    scene.install(&other, "localhost", "server");
    scene.trust("server", &[&other]);
    let start = Instant::now();
    server.signal("HUP");
    server.wait_log_from(skip, &["web1: lost", "is not signed by a CA in "]);
    client.wait_log(&["accepts this node's certificate no longer", "is not signed by a CA in "]);
    assert!(start.elapsed() < CLOSED_WITHIN);
}

#[test]
fn a_broken_set_leaves_the_old_one_at_work_and_says_why_once() {
    let scene = Scene::new();
    let (server, client) = scene.pair();
    let at = |node: &str, file| scene.file(node, file);
    let said = |node: &Node| {
        node.log()
            .iter()
            .filter(|line| line.contains("identity not reloaded, the old one stays: "))
            .count()
    };
    let key = fs::read(at("client", "node.key.pem")).unwrap();
    let other = Identities::new(&["web1"]);
    for (content, words) in [
        (b"garbage".to_vec(), "node.key.pem: is not PEM"),
        (key[..key.len() / 2].to_vec(), "node.key.pem: is not PEM"),
        (
            fs::read(other.path("web1.key.pem")).unwrap(),
            "the private key does not belong to the certificate",
        ),
    ] {
        let (skip, before) = (client.log().len(), said(&client));
        replace(&at("client", "node.key.pem"), &content);
        client.signal("HUP");
        client.wait_log_from(skip, &["identity not reloaded, the old one stays: ", words]);
        assert_eq!(said(&client), before + 1);
    }
    // An inconsistent set, detected without a signal; then a missing file.
    replace(&at("server", "ca.crl.pem"), b"garbage");
    server.wait_log(&["identity not reloaded, the old one stays: ", "ca.crl.pem: is not PEM"]);
    fs::remove_file(at("server", "ca.crl.pem")).unwrap();
    server.wait_log(&["identity reloaded: the same certificate localhost"]);
    fs::remove_file(at("server", "node.crt.pem")).unwrap();
    fs::create_dir(at("server", "node.crt.pem")).unwrap();
    server
        .wait_log(&["identity not reloaded, the old one stays: ", "node.crt.pem: cannot be read"]);
    assert_eq!(said(&server), 2, "{:#?}", server.log());
    assert_eq!(client.get("/server/time").status, 200);

    // The old one is still in use, also for a client that connects anew.
    let again = scene.identities.path("web1.key.pem");
    replace(&at("client", "node.key.pem"), &fs::read(again).unwrap());
    drop(client);
    scene.client(server.pipe()).start().get_when_up("/server/time");
}

#[test]
fn a_list_that_vanishes_still_counts() {
    let scene = Scene::new();
    let gone = scene.revoke(&scene.identities.path("localhost.crt.pem"));
    replace(&scene.file("server", "ca.crl.pem"), &gone);
    let server = scene.server().start();
    server
        .wait_log(&["this node's own certificate (sha256 ", ") is revoked; peers will refuse it"]);
    fs::remove_file(scene.file("server", "ca.crl.pem")).unwrap();
    server.signal("HUP");
    server.wait_log(&["the old one stays: ", "ca.crl.pem: is gone; what it revoked stays revoked"]);
}

/// Two lists without a line break between them: the second one revokes the client.
#[test]
fn joined_lists_are_refused_with_their_line_at_the_start_and_while_it_runs() {
    let scene = Scene::new();
    let file = scene.file("server", "ca.crl.pem");
    // The server's own certificate, which matters only to its clients.
    let first = scene.revoke(&scene.identities.path("localhost.crt.pem"));
    replace(&file, &first);
    let (server, client) = scene.pair();
    let second = scene.revoke(&scene.identities.path("web1.crt.pem"));
    let first = String::from_utf8(first).unwrap();
    let line = first.lines().count();
    let joined = [first.trim_end().as_bytes(), &second].concat();
    let words = format!(
        "ca.crl.pem: is not PEM: line {line}: two lines have run together; put a line break before"
    );

    let skip = server.log().len();
    replace(&file, &joined);
    server.signal("HUP");
    server.wait_log_from(skip, &["identity not reloaded, the old one stays: ", &words]);
    assert_eq!(client.get("/server/time").status, 200);

    let output = scene.server().command().output().unwrap();
    assert!(!output.status.success());
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains(&words), "{said}");
    let key = scene.file("server", "node.key.pem");
    fs::set_permissions(key, fs::Permissions::from_mode(0o600)).unwrap();
    let check = scene.server().command().arg("--check").output().unwrap();
    assert_eq!(check.status.code(), Some(1));
    let said = String::from_utf8([check.stdout, check.stderr].concat()).unwrap();
    assert!(said.contains(&words), "{said}");

    // With the line break it is used: the newest list of a CA, or the first of equally new ones.
    replace(&file, &[&second, first.as_bytes()].concat());
    server.signal("HUP");
    server.wait_log(&["web1: lost", "revoked"]);
}

/// Sends about 200 requests per second and counts failures. Half of them may not be repeated.
struct Load {
    stop: Arc<AtomicBool>,
    asked: Arc<AtomicU64>,
    threads: Vec<thread::JoinHandle<Vec<String>>>,
}

impl Load {
    fn start(server: SocketAddr, client: SocketAddr) -> Self {
        const PACE: Duration = Duration::from_millis(20);
        let (stop, asked) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let requests = [
            (client, "GET", "/server/time", 200),
            (client, "POST", "/server/time", 405),
            (server, "GET", "/client/web1/time", 200),
            (server, "POST", "/client/web1/time", 405),
        ];
        let threads = requests.map(|(address, method, path, status)| {
            let (stop, asked) = (Arc::clone(&stop), Arc::clone(&asked));
            let (never, pace) = crossbeam_channel::bounded::<()>(0);
            thread::spawn(move || {
                let _never = never;
                let mut failed = Vec::new();
                let mut next = Instant::now();
                while !stop.load(Ordering::Relaxed) {
                    let answer = ask(address, method, path, &[("RP-Wait", "0")], b"x");
                    asked.fetch_add(1, Ordering::Relaxed);
                    if answer.status != status {
                        failed.push(format!("{method} {path}: {answer:?}"));
                    }
                    next += PACE;
                    let _ = pace.recv_deadline(next);
                }
                failed
            })
        });
        Self { stop, asked, threads: threads.into() }
    }

    /// Waits until this many more requests were sent.
    fn go_on(&self, count: u64) {
        let until = Instant::now() + support::PATIENCE;
        let goal = self.asked.load(Ordering::Relaxed) + count;
        while self.asked.load(Ordering::Relaxed) < goal {
            assert!(Instant::now() < until, "the load stands still");
            thread::sleep(Duration::from_millis(10));
        }
    }

    fn end(self) -> (u64, Vec<String>) {
        self.stop.store(true, Ordering::Relaxed);
        let failed = self.threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect();
        (self.asked.load(Ordering::Relaxed), failed)
    }
}

#[test]
fn a_rotation_of_certificate_key_and_ca_under_load_fails_no_request() {
    let scene = Scene::new();
    let (server, client) = scene.pair();
    server.get_when_up("/client/web1/time");
    let next = Identities::new(&["web1"]);
    let reload = |node: &Node| {
        let skip = node.log().len();
        node.signal("HUP");
        node.wait_log_from(skip, &["identity reloaded"]);
        skip
    };
    let start = Instant::now();
    let load = Load::start(server.http(), client.http());
    load.go_on(100);
    for (node, name) in [(&server, "server"), (&client, "client")] {
        scene.trust(name, &[&scene.identities, &next]);
        reload(node);
    }
    load.go_on(50);
    scene.install(&next, "localhost", "server");
    reload(&server);
    load.go_on(50);
    scene.install(&next, "web1", "client");
    let skip = reload(&client);
    client.wait_log_from(skip, &["localhost: connected to "]);
    client.wait_log_from(skip, &["lost: a newer connection of this node has taken over"]);
    server
        .wait_log(&["web1: connected from ", ", beside an older connection that its client ends"]);
    load.go_on(50);
    for (node, name) in [(&client, "client"), (&server, "server")] {
        scene.trust(name, &[&next]);
        reload(node);
    }
    load.go_on(200);
    let seconds = start.elapsed().as_secs_f64();
    let (asked, failed) = load.end();
    println!("rotation: {asked} requests in {seconds:.1} s, {} failed", failed.len());
    assert!(failed.is_empty(), "{failed:#?}\n{:#?}\n{:#?}", client.log(), server.log());
    let changes = client.log().iter().filter(|line| line.contains("connected to")).count();
    assert_eq!(changes, 2, "{:#?}", client.log());
}

/// A client's pipe with only TLS and one heartbeat.
fn bare_pipe(
    identity: &Identity,
    from: Ipv4Addr,
    pipe: SocketAddr,
) -> StreamOwned<ClientConnection, TcpStream> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::from((from, 0)).into()).unwrap();
    socket.connect(&pipe.into()).unwrap();
    // Otherwise the heartbeat waits for the answer to the end of the handshake.
    socket.set_tcp_nodelay(true).unwrap();
    socket.set_read_timeout(Some(support::PATIENCE)).unwrap();
    let name = ServerName::try_from("localhost").unwrap();
    let tls = ClientConnection::new(identity.client_config(), name).unwrap();
    let mut stream = StreamOwned::new(tls, socket.into());
    // Announces extension 1, so that the server sends the reason when it closes.
    stream.write_all(&[1, 0, 0, 0, 0, 5, 0, 0, 0, 7, 8, 1, 0x80, 1, 1]).unwrap();
    let mut header = [0; 10];
    stream.read_exact(&mut header).unwrap();
    assert_eq!((header[0], header[9]), (0x80, 7));
    let mut body = vec![0; header[5].into()];
    stream.read_exact(&mut body).unwrap();
    stream
}

fn identity_of(scene: &Scene) -> Identity {
    let files = IdentityFiles {
        key: scene.file("client", "node.key.pem"),
        crt: scene.file("client", "node.crt.pem"),
        ca: scene.file("client", "ca.crt.pem"),
    };
    Identity::load(&files, Role::Client).unwrap()
}

#[test]
fn a_thousand_takeovers_leave_nothing_behind() {
    let scene = Scene::new();
    let server = scene.server().start();
    let identity = identity_of(&scene);
    let counts = || {
        let open = fs::read_dir(format!("/proc/{}/fd", server.pid())).unwrap().count();
        (server.status_number("Threads"), open)
    };
    let pipe = || bare_pipe(&identity, Ipv4Addr::LOCALHOST, server.pipe());
    let mut last = pipe();
    let before = counts();
    for _ in 0..1000 {
        // The previous one is dropped, and so closed, only after this one is up.
        last = pipe();
    }
    let until = Instant::now() + support::PATIENCE;
    while counts() != before {
        assert!(Instant::now() < until, "{:?} after, {before:?} before", counts());
        thread::sleep(Duration::from_millis(20));
    }
    println!("1000 takeovers: threads and descriptors are {before:?} before and after");
    drop(last);
}

#[test]
fn two_machines_with_one_key_are_noticed_and_the_replaced_one_stays_away() {
    let scene = Scene::new();
    let (server, client) = scene.pair();
    let identity = identity_of(&scene);
    let both = "two machines use the key of this name, ";
    let mut skip = 0;
    for _ in 0..4 {
        server.wait_log_from(skip, &["web1: connected from 127.0.0.1"]);
        skip = server.log().len();
        let _rival = bare_pipe(&identity, Ipv4Addr::new(127, 0, 0, 2), server.pipe());
        server.wait_log_from(skip, &["web1: connected from 127.0.0.2", ", in place of an older"]);
        if client.log().iter().any(|line| line.contains("staying away")) {
            break;
        }
    }
    let line = server.wait_log(&[both, "127.0.0.1", "127.0.0.2", "such takeovers so far"]);
    println!("{line}");
    client.wait_log(&["lost: closed by the peer: replaced by a newer connection from 127.0.0.2"]);
    let line = client.wait_log(&["another machine uses this client's key; staying away for "]);
    let seconds = line.rsplit("for ").next().unwrap().trim_end_matches(" s");
    assert!((30..=40).contains(&seconds.parse().unwrap()), "{line}");
}
