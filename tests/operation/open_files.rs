//! The limit of open files: programs use what they may, and children get what the programs got.

use std::process::Command;

use crate::support::{self, Identities, Node, client, server};

/// The soft and the hard limit of a process.
fn limits(pid: u32) -> (String, String) {
    let text = std::fs::read_to_string(format!("/proc/{pid}/limits")).unwrap();
    let line = text.lines().find(|line| line.starts_with("Max open files")).unwrap();
    let words: Vec<&str> = line.split_whitespace().collect();
    (words[3].to_owned(), words[4].to_owned())
}

#[test]
fn every_program_that_keeps_running_has_the_hard_limit_and_its_scripts_the_soft_one() {
    let identities = Identities::new(&["web1"]);
    let scripts = tempfile::tempdir().unwrap();
    let script = "#!/bin/sh\nsleep 0.5\nulimit -Sn\nulimit -Hn\n";
    support::write_script(&scripts.path().join("get_limits"), script);
    let handler = format!("exec:{}", scripts.path().display());
    let low = "ulimit -Sn 300";
    let setup = server(&identities).set("RP_EVENT_HANDLER", handler);
    let server = Node::start(setup.command_after(low));
    let client = Node::start(client(&identities, "web1", server.pipe()).command_after(low));
    for node in [&server, &client] {
        let (soft, hard) = limits(node.pid());
        assert_eq!(soft, hard);
        assert_ne!(soft, "300");
    }
    let (_, hard) = limits(server.pid());
    assert_eq!(client.get_when_up("/server/limits").text(), format!("300\n{hard}\n"));

    let keys = scripts.path().join("keys.json");
    let mut make = Command::new(env!("CARGO_BIN_EXE_rp_remoted"));
    assert!(make.arg("keys").arg(&keys).output().unwrap().status.success());
    let mut broker = Command::new("sh");
    let script = format!("{low} && exec {} broker", env!("CARGO_BIN_EXE_rp_remoted"));
    broker.arg("-c").arg(script).env("RP_REMOTED_BIND", "127.0.0.1:0");
    broker.env("RP_REMOTED_CONFIG", keys);
    let broker = Node::start(broker);
    let (soft, hard) = limits(broker.pid());
    assert_eq!(soft, hard);
}
