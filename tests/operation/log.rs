//! The log of a program: its formats, and an unwritable destination.

use crate::support::scene::wait_until;
use crate::support::{self, Identities, Node, client, server};

#[test]
fn json_is_one_object_a_line() {
    let identities = Identities::new(&[]);
    // A name that a private CA may well issue.
    let name = "\"}{\\ <web1>";
    support::tls::issue(&identities, "odd", |params| {
        params.distinguished_name.push(rcgen::DnType::CommonName, name);
    });
    let server = server(&identities).set("RP_LOG_FORMAT", "json").start();
    let client = client(&identities, "odd", server.pipe()).start();
    client.get_when_up("/server/time");
    drop(client);
    server.wait_log(&["lost"]);
    let lines: Vec<serde_json::Value> =
        server.log().iter().map(|line| serde_json::from_str(line).expect(line)).collect();
    for line in &lines {
        assert_eq!(line.as_object().unwrap().len(), 3, "{line}");
        assert!(line["time"].as_str().unwrap().ends_with('Z'), "{line}");
        assert_eq!(line["level"], "info", "{line}");
    }
    let starts = format!("{name}: connected from 127.0.0.1:");
    assert!(lines[0]["message"].as_str().unwrap().starts_with(&starts), "{lines:#?}");
}

#[test]
fn another_form_is_an_error_before_anything_starts() {
    let identities = Identities::new(&[]);
    let output = server(&identities).set("RP_LOG_FORMAT", "xml").command().output().unwrap();
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("RP_LOG_FORMAT") && said.contains("text or json"), "{said}");
}

/// Writing there fails as on a full disk.
#[test]
fn a_full_disk_under_the_log_costs_lines_and_nothing_else() {
    let identities = Identities::new(&["web1"]);
    for format in ["text", "json"] {
        let setup = server(&identities).set("RP_LOG_FORMAT", format);
        let mut server = Node::start(setup.command_after("exec 2>/dev/full"));
        let client = client(&identities, "web1", server.pipe()).start();
        client.get_when_up("/server/time");
        for _ in 0..20 {
            assert_eq!(client.get("/server/time").status, 200);
            assert_eq!(server.get("/no-such-path").status, 404);
        }
        drop(client);
        wait_until(|| {
            let links = server.get("/status").json()["links"].as_array().map(Vec::len);
            (links != Some(0)).then(|| format!("{links:?}"))
        });
        assert!(server.runs());
        server.signal("TERM");
        assert!(server.wait_exit().success());
    }
}
