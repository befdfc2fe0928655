//! The page of a node in a real browser, with nodes that connect, fail and return.
//!
//! If the browser is not installed, the tests are skipped with a message.

use std::time::Instant;

use serde_json::json;

use crate::support::browser::Browser;
use crate::support::{self, Identities, Node, PATIENCE, client, server};

fn url(node: &Node) -> String {
    format!("http://{}/", node.http())
}

const ROWS: &str = "[...document.querySelectorAll('#links tr')].map(r => r.innerText).join('|')";

#[test]
fn the_page_follows_clients_that_connect_fail_and_return() {
    let identities = Identities::new(&["web1", "web2"]);
    let server_node = server(&identities).start();
    let Some(mut browser) = Browser::open(&url(&server_node)) else { return };
    browser.wait("document.getElementById('state').textContent === 'ready'");
    browser.wait("!document.getElementById('none').hidden");
    assert_eq!(browser.value("document.title"), "RestPipe server localhost");

    let web1 = client(&identities, "web1", server_node.pipe()).start();
    let web2 = client(&identities, "web2", server_node.pipe()).start();
    web1.get_when_up("/server/time");
    web2.get_when_up("/server/time");
    browser.wait(&format!("{ROWS}.includes('web1') && {ROWS}.includes('web2')"));
    browser.wait("document.querySelectorAll('#events li').length >= 2");
    // The remaining validity of its certificate has a colour.
    browser.wait("document.querySelector('#links [data-head=Certificate]').className === 'good'");
    // Requests appear in the graph within two of its steps.
    browser.wait("document.querySelectorAll('#graph .requests').length > 0");
    // Also in the link's own graph, whose steps are longer.
    browser.wait("document.querySelectorAll('#links .requests').length > 0");
    // A selection survives updates of the page.
    browser.value("getSelection().selectAllChildren(document.querySelector('#links bdi'))");
    let age = browser.value("document.querySelector('#links [data-head=Heard]').textContent");
    browser
        .wait(&format!("document.querySelector('#links [data-head=Heard]').textContent !== {age}"));
    assert_eq!(browser.value("getSelection().toString()"), "web1");

    drop(web1);
    browser.wait(&format!("!{ROWS}.includes('web1') && {ROWS}.includes('web2')"));
    browser.wait("document.getElementById('events').innerText.includes('loss')");
    let _web1 = client(&identities, "web1", server_node.pipe()).start();
    browser.wait(&format!("{ROWS}.includes('web1') && {ROWS}.includes('web2')"));

    // By keyboard: a name filters the list, and the first header reached reverses the order.
    assert!(browser.value(ROWS).as_str().unwrap().starts_with("web1"));
    browser.value("getSelection().removeAllRanges()");
    browser.press("Tab", 9, "");
    assert_eq!(browser.value("document.activeElement.id"), "filter");
    browser.call("Input.insertText", json!({ "text": "WEB2" }));
    browser.wait("document.querySelectorAll('#links tr').length === 1");
    browser.value("document.activeElement.select()");
    browser.press("Delete", 46, "");
    browser.wait("document.querySelectorAll('#links tr').length === 2");
    browser.press("Tab", 9, "");
    assert_eq!(browser.value("document.activeElement.tagName"), "DIV", "the table scrolls");
    browser.press("Tab", 9, "");
    assert_eq!(browser.value("document.activeElement.textContent"), "Name");
    browser.press("Enter", 13, "\r");
    browser.wait(&format!("{ROWS}.startsWith('web2')"));

    // Nothing is wider than the screen, down to a phone: the newest value of each graph is at its right end.
    for width in [1280, 1030, 700, 360] {
        let screen =
            json!({ "width": width, "height": 740, "deviceScaleFactor": 2, "mobile": true });
        browser.call("Emulation.setDeviceMetricsOverride", screen);
        browser.wait(&format!("document.documentElement.scrollWidth <= {width}"));
        let wide = "document.querySelector('.wide')";
        browser.wait(&format!("{wide}.scrollWidth <= {wide}.clientWidth"));
    }
    assert!(browser.value("document.activeElement.offsetWidth").as_u64().unwrap() > 10, "seen");
    // In dark mode, light text on a dark background.
    let light = browser.value("getComputedStyle(document.body).backgroundColor");
    let dark = json!({ "features": [{ "name": "prefers-color-scheme", "value": "dark" }] });
    browser.call("Emulation.setEmulatedMedia", dark);
    assert_ne!(browser.value("getComputedStyle(document.body).backgroundColor"), light);

    // The node itself fails: the page reports it, and resumes when it is back.
    let (http, pipe) = (server_node.http(), server_node.pipe());
    drop(server_node);
    browser.wait("document.getElementById('state').className.includes('bad')");
    browser.wait("document.getElementById('main').className === 'old'");
    browser.value("document.getElementById('events').replaceChildren()");
    let server_node =
        server(&identities).set("BIND_PORT", pipe.port()).set("RP_SERVER_HTTP_BIND", http).start();
    browser.wait("document.getElementById('state').textContent === 'ready'");
    browser.wait(&format!("{ROWS}.includes('web1') && {ROWS}.includes('web2')"));
    browser.wait("document.getElementById('main').className === ''");
    // Its events, too.
    drop(web2);
    browser.wait("document.getElementById('events').innerText.includes('web2')");
    drop(server_node);
    assert_eq!(browser.complaints, [""; 0]);
}

#[test]
fn names_that_are_markup_stay_text() {
    let name = "<img src=x onerror=hacked=1><script>hacked=1</script>&amp;'\"";
    let identities = Identities::new(&[]);
    support::tls::issue(&identities, "odd", |params| {
        params.distinguished_name.push(rcgen::DnType::CommonName, name);
    });
    let server_node = server(&identities).start();
    let odd = client(&identities, "odd", server_node.pipe()).start();
    odd.get_when_up("/server/time");
    let shown = server_node.get("/status").json();
    assert_eq!(shown["links"][0]["name"], name);
    assert_eq!(server_node.get("/status").text().lines().count(), 1);
    let metrics = server_node.get("/metrics");
    assert!(metrics.text().lines().all(|line| line.starts_with(['#', 'r'])), "{metrics:?}");
    assert!(metrics.text().contains(&name.replace('"', "\\\"")), "{metrics:?}");
    let Some(mut browser) = Browser::open(&url(&server_node)) else { return };
    browser.wait("document.querySelectorAll('#links tr').length === 1");
    assert_eq!(browser.value("document.querySelector('#links td bdi').textContent"), name);
    assert_eq!(browser.value("document.images.length"), 0);
    assert_eq!(browser.value("document.scripts.length"), 1);
    assert_eq!(browser.value("typeof hacked"), "undefined");
    // Not even a script injected into the page would run.
    let script = "{ const s = document.createElement('script'); s.textContent = 'hacked = 1'; \
                  document.body.append(s); typeof hacked }";
    assert_eq!(browser.value(script), "undefined");
    let until = Instant::now() + PATIENCE;
    while browser.complaints.is_empty() && Instant::now() < until {
        browser.value("1");
    }
    assert!(browser.complaints[0].contains("Content Security Policy"), "{:?}", browser.complaints);
}
