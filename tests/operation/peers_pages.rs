//! Web pages in a real browser: those of peers, and those of others that ask peers.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use restpipe::event::Reply;
use restpipe::handler::Router;
use serde_json::{Value, json};

use crate::support::browser::Browser;
use crate::support::inside::Inside;
use crate::support::{Identities, Setup, client, server};

/// Tries to use the port in the ways that a page has. Each try ends, and says how.
const TRIES: &str = r#"
    const tries = {};
    const fetched = (path, options) => fetch(path, options).then(
        answer => answer.type === 'opaque' ? 'opaque' : answer.text());
    const loaded = (tag, name, path) => new Promise(done => {
        const element = document.createElementNS('http://www.w3.org/1999/xhtml', tag);
        if (tag === 'link') element.rel = 'stylesheet';
        element.onload = element.onerror = event => done(event.type);
        element[name] = path;
        document.documentElement.append(element);
    });
    const victim = '/client/victim/who';
    tries.read = () => fetched(victim);
    tries.post = () => fetched(victim, { method: 'POST', mode: 'no-cors', body: 'x' });
    tries.blind = () => fetched(victim, { mode: 'no-cors' });
    tries.head = () => fetched(victim, { method: 'HEAD', mode: 'no-cors' });
    tries.header = () => fetched(victim, { headers: { 'User-Agent': 'curl', 'X-Mine': 'y' } });
    tries.status = () => fetched('/status');
    tries.unlink = () => fetched('/status/clients/victim', { method: 'DELETE' });
    tries.image = () => loaded('img', 'src', victim);
    tries.script = () => loaded('script', 'src', victim);
    tries.style = () => loaded('link', 'href', victim);
    tries.frame = () => loaded('iframe', 'src', victim);
    tries.events = () => new Promise(done => {
        new EventSource(victim).onerror = () => done('error');
    });
    tries.socket = () => new Promise(done => {
        new WebSocket('ws://' + location.host + victim).onerror = () => done('error');
    });
    tries.beacon = async () => navigator.sendBeacon(victim, 'x');
    tries.worker = () => navigator.serviceWorker.register('/client/evil/worker', { scope: '/' })
        .then(() => 'registered');
    tries.cookie = async () => document.cookie = 'a=b';
    tries.storage = async () => localStorage.setItem('a', 'b');
    window.ends = {};
    const end = name => Promise.resolve().then(tries[name]).then(
        end => ends[name] = String(end), error => ends[name] = error.name,
    );
    // Last: where it closes the victim's link, requests on it are lost.
    const others = Object.keys(tries).filter(name => name !== 'unlink');
    Promise.all(others.map(end)).then(() => end('unlink')).then(() => window.done = true);
"#;

/// A server, the client `victim`, which counts, and the client `evil`, whose pages try.
struct Scene {
    server: Inside,
    asked: Arc<AtomicUsize>,
    _clients: [Inside; 2],
    _identities: Identities,
}

impl Scene {
    fn new(change: impl Fn(Setup) -> Setup) -> Self {
        let identities = Identities::new(&["victim", "evil"]);
        let server = change(server(&identities)).serve(Router::new());
        let asked = Arc::new(AtomicUsize::new(0));
        let count = |asked: &Arc<AtomicUsize>| {
            let asked = Arc::clone(asked);
            move || {
                asked.fetch_add(1, Ordering::SeqCst);
                Ok("victim")
            }
        };
        let (get, post) = (count(&asked), count(&asked));
        let victim = Router::new()
            .on("get_hello", |_, _| Ok("hello"))
            .on("get_who", move |_, _| get())
            .on("post_who", move |_, _| post());
        let page = |media_type: &'static str, before: &str, after: &str| {
            let text = format!("{before}{TRIES}{after}");
            move || {
                Ok(Reply::new(media_type, text.clone()).with_header("Service-Worker-Allowed", "/"))
            }
        };
        let html = page("text/html", "<!doctype html><title>evil</title><script>", "</script>");
        let sniffed = page("", "<!doctype html><title>evil</title><script>", "</script>");
        let svg = page(
            "image/svg+xml",
            "<svg xmlns='http://www.w3.org/2000/svg'><title>evil</title><script><![CDATA[",
            "]]></script></svg>",
        );
        let xml = page(
            "application/xml",
            "<html xmlns='http://www.w3.org/1999/xhtml'><title>evil</title><script><![CDATA[",
            "]]></script></html>",
        );
        let evil = Router::new()
            .on("get_html", move |_, _| html())
            .on("get_sniffed", move |_, _| sniffed())
            .on("get_svg", move |_, _| svg())
            .on("get_xml", move |_, _| xml())
            .on("get_worker", |_, _| {
                let reply = Reply::new("text/javascript", "onfetch = () => {};");
                Ok(reply.with_header("Service-Worker-Allowed", "/"))
            });
        let dial = |name, handler| client(&identities, name, server.pipe()).dial(handler);
        let clients = [dial("victim", victim), dial("evil", evil)];
        for path in ["victim/hello", "evil/html"] {
            assert_eq!(server.get(&format!("/client/{path}")).status, 200);
        }
        Self { server, asked, _clients: clients, _identities: identities }
    }

    /// How the tries on a page of `evil` end.
    fn tries(&self, page: &str) -> Option<Value> {
        let url = format!("http://localhost:{}/client/evil/{page}", self.server.http().port());
        let mut browser = Browser::open(&url)?;
        browser.wait("window.done === true");
        Some(browser.value("window.ends"))
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }
}

#[test]
fn a_peers_page_can_neither_ask_others_nor_change_anything() {
    let scene = Scene::new(|setup| setup);
    for page in ["html", "svg", "xml"] {
        let Some(ends) = scene.tries(page) else { return };
        for (name, expected) in [
            ("read", "TypeError"),
            ("post", "opaque"),
            ("blind", "opaque"),
            ("head", "opaque"),
            ("header", "TypeError"),
            ("status", "TypeError"),
            ("unlink", "TypeError"),
            ("image", "error"),
            ("script", "error"),
            ("style", "error"),
            ("events", "error"),
            ("socket", "error"),
            ("worker", "SecurityError"),
            ("cookie", "SecurityError"),
            ("storage", "SecurityError"),
        ] {
            assert_eq!(ends[name], expected, "{page} {name}: {ends}");
        }
        assert_eq!(scene.asked(), 0, "{page}: {ends}");
    }
    // A reply without a media type is no document, whatever it looks like.
    let url = format!("http://localhost:{}/client/evil/sniffed", scene.server.http().port());
    let Some(mut browser) = Browser::open(&url) else { return };
    browser.wait("document.contentType === 'text/plain'");
    browser.wait("document.body.innerText.includes('tries.read')");
    assert_eq!(browser.value("typeof window.ends"), "undefined");
    // The link is still there.
    assert_eq!(scene.server.get("/status/clients/victim").status, 200);
}

#[test]
fn the_operator_may_give_a_peers_pages_the_rights_of_the_port() {
    let scene = Scene::new(|setup| setup.set("RP_HTTP_TRUSTED_PAGES", "other,evil"));
    let Some(ends) = scene.tries("html") else { return };
    for (name, expected) in [("read", "victim"), ("post", "victim"), ("image", "error")] {
        assert_eq!(ends[name], expected, "{ends}");
    }
    assert!(scene.asked() >= 5, "{ends}");
    // But not over all that is below the port's name.
    assert_eq!(ends["worker"], "SecurityError", "{ends}");
    // Others are not trusted with it.
    let answer = scene.server.get("/client/victim/hello");
    assert!(answer.header("Content-Security-Policy").unwrap().starts_with("sandbox "));
    assert_eq!(scene.server.get("/client/evil/html").header("Content-Security-Policy"), None);
}

#[test]
fn files_of_a_peer_are_shown_in_a_sandbox_whatever_they_are() {
    let identities = Identities::new(&["files"]);
    let dir = tempfile::tempdir().unwrap();
    let names = ["a.html", "a.svg", "a.xml", "a.xhtml", "a.pdf", "a.txt", "a.unknown", "a"];
    for name in names {
        std::fs::write(dir.path().join(name), "<script>alert(1)</script>").unwrap();
    }
    let handler = format!("files:{}", dir.path().display());
    let server = server(&identities).set("RP_EVENT_HANDLER", &handler).start();
    let client = client(&identities, "files", server.pipe())
        .set("RP_EVENT_HANDLER", &handler)
        .set("RP_HTTP_TRUSTED_PAGES", "server")
        .start();
    server.get_when_up("/client/files/list//");
    for name in names {
        let answer = server.get(&format!("/client/files/file//{name}"));
        let policy = answer.header("Content-Security-Policy").unwrap();
        assert!(policy.starts_with("sandbox ") && !policy.contains("same-origin"), "{answer:?}");
        assert_eq!(answer.header("X-Content-Type-Options"), Some("nosniff"), "{name}");
        let answer = client.get(&format!("/server/file//{name}"));
        assert_eq!((answer.status, answer.header("Content-Security-Policy")), (200, None));
    }
}

/// Serves one page, under any name and path.
fn serve(page: String) -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for mut socket in listener.incoming().map_while(Result::ok) {
            let mut head = Vec::new();
            let mut byte = [0];
            while !head.ends_with(b"\r\n\r\n") && socket.read(&mut byte).is_ok_and(|n| n == 1) {
                head.push(byte[0]);
            }
            let answer = format!(
                "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nConnection: close\r\n\
                 Content-Length: {}\r\n\r\n{page}",
                page.len()
            );
            let _ = socket.write_all(answer.as_bytes());
        }
    });
    address
}

#[test]
fn a_foreign_page_asks_nobody_where_browsers_say_nothing_about_it() {
    const NAMES: &str = "MAP evil.test 127.0.0.1, MAP rpserver.local 127.0.0.1";
    for (lax, expected) in [("0", 0), ("1", 3)] {
        let scene = Scene::new(|setup| {
            setup
                .set("RP_HTTP_ALLOWED_HOSTS", "rpserver.local")
                .set("RP_HTTP_UNPROVEN_BROWSERS", lax)
        });
        let node = format!("http://rpserver.local:{}", scene.server.http().port());
        let who = format!("{node}/client/victim/who");
        let foreign = serve(format!(
            "<!doctype html><body><script>
            let left = 3;
            const end = () => {{ if (--left === 0) window.done = true; }};
            for (const policy of ['unsafe-url', 'no-referrer']) {{
                const image = document.createElement('img');
                image.referrerPolicy = policy;
                image.onerror = image.onload = end;
                image.src = '{who}?' + policy;
            }}
            fetch('{who}', {{ mode: 'no-cors' }}).then(end, end);
            </script>"
        ));
        let url = format!("http://evil.test:{}/", foreign.port());
        let Some(mut browser) = Browser::open_with(&url, NAMES) else { return };
        browser.wait("window.done === true");
        assert_eq!(scene.asked(), expected, "RP_HTTP_UNPROVEN_BROWSERS={lax}");

        // A user who opens the name is told what to do.
        browser.call("Page.navigate", json!({ "url": who }));
        let told = if lax == "1" { "victim" } else { "RP_HTTP_UNPROVEN_BROWSERS=1" };
        browser.wait(&format!("document.body.innerText.includes('{told}')"));
        // Under localhost the browser says that a user asks, and the answer is shown.
        let local = format!("http://localhost:{}/client/victim/hello", scene.server.http().port());
        browser.call("Page.navigate", json!({ "url": local }));
        browser.wait("document.body.innerText.includes('hello')");
    }
}
