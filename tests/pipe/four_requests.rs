//! The four requests of the documents, between the two built programs.

use crate::support::{Identities, client, server};

#[test]
fn both_sides_ask_and_are_answered() {
    let identities = Identities::new(&["client-1"]);
    let server = server(&identities).start();
    let client = client(&identities, "client-1", server.pipe()).start();

    let answer = client.get_when_up("/server/time");
    assert_eq!(answer.header("X-Event-Return-Code"), Some("0"));
    assert_eq!(answer.header("Content-Type"), Some("application/json"));
    assert!(answer.json()["time_from_server"].as_f64().unwrap() > 1.7e9);
    let answer = server.get("/client/localhost/time");
    assert!(answer.json()["time_from_client"].as_f64().unwrap() > 1.7e9);
    let answer = client.get("/server/cat//hello%20/world");
    assert_eq!(answer.text(), r#"{"result_from_server": "hello world"}"#);
    let answer = server.get("/client/client-1/cat//hello%20/world");
    assert_eq!(answer.text(), r#"{"result_from_client": "hello world"}"#);
}
