//! Where settings come from, and what a program says of them.

use std::fs;
use std::net::{Ipv6Addr, TcpListener};
use std::process::{Command, Output};

use crate::support::{self, Identities, client, server};

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

fn run(mut command: Command, arguments: &[&str]) -> Output {
    command.args(arguments).output().unwrap()
}

#[test]
fn a_file_of_the_command_line_is_read_by_every_task() {
    let identities = Identities::new(&["web1"]);
    let file = identities.path("settings.env");
    let rules = identities.path("rules");
    fs::write(&rules, "allow web1 get time\n").unwrap();
    let lines = format!("RP_EVENT_HANDLER=none\nRP_RULES_FILE='{}'\nDEBUG=yes\n", rules.display());
    fs::write(&file, lines).unwrap();
    let config = ["--config", file.to_str().unwrap()];
    let setup = server(&identities);

    let mut command = setup.command();
    command.args(config);
    let node = support::Node::start(command);
    let line = node.wait_log(&["WARN", "DEBUG in ", " is \"yes\", which is neither 0 nor 1"]);
    assert!(line.contains("settings.env"), "{line}");
    let client = client(&identities, "web1", node.pipe()).start();
    let answer = client.get_when_up_or("/server/time", 404);
    assert_eq!(answer.json()["error"], "unhandled", "{answer:?}");
    assert_eq!(client.get("/server/cat").status, 403, "the rules of the file decide");
    drop(client);

    let ruled =
        run(setup.command(), &[&config[..], &["--check-rule", "web1", "get", "cat"]].concat());
    assert_eq!(ruled.status.code(), Some(1), "{ruled:?}");
    let checked = run(setup.command(), &[&config[..], &["--check"]].concat());
    assert!(text(&checked.stdout).contains("note    configuration: DEBUG in "), "{checked:?}");
    let printed = run(setup.command(), &[&config[..], &["--print-settings"]].concat());
    assert_eq!(printed.status.code(), Some(0), "{printed:?}");
    let shown = format!("# from {}\nRP_EVENT_HANDLER=none\n", file.display());
    assert!(text(&printed.stdout).contains(&shown), "{printed:?}");
    assert!(text(&printed.stdout).contains("# from the environment\nBIND_PORT=0\n"), "{printed:?}");

    // The identity goes where the file says.
    let to = identities.path("installed");
    fs::create_dir(&to).unwrap();
    fs::write(&file, format!("RP_CLIENT_CERT_PATH={}\n", to.display())).unwrap();
    let mut install = Command::new(env!("CARGO_BIN_EXE_rp_client_set_identity"));
    install.env_clear().args(config);
    for file in ["web1.key.pem", "web1.crt.pem", "ca.crt.pem"] {
        install.arg(identities.path(file));
    }
    let installed = install.output().unwrap();
    assert!(installed.status.success(), "{installed:?}");
    assert!(to.join("restpipe.client.key.pem").exists());
}

#[test]
fn what_is_printed_is_a_file_that_sets_the_same() {
    let identities = Identities::new(&[]);
    let setup = server(&identities).set("RP_TCP_TARGETS", "a=unix:/run/a b,c=h:1");
    let first = run(setup.command(), &["--print-settings"]);
    let file = identities.path("printed.env");
    fs::write(&file, &first.stdout).unwrap();
    let mut again = Command::new(env!("CARGO_BIN_EXE_rp_server_start"));
    again.env_clear().arg("--config").arg(&file);
    let second = run(again, &["--print-settings"]);
    assert_eq!(text(&second.stderr), "");
    let from = format!("# from {}", file.display());
    assert_eq!(text(&second.stdout), text(&first.stdout).replace("# from the environment", &from));
    let wrong = run(setup.command(), &["--print-settings", "--config", "/no/such.env"]);
    assert_eq!(wrong.status.code(), Some(2), "{wrong:?}");
}

#[test]
fn the_broker_prints_its_settings_without_its_secrets() {
    let mut command = support::broker::remoted(&["publish", "--print-settings"]);
    command.env("RP_REMOTED_APIKEY", support::broker::KEY);
    let printed = run(command, &[]);
    assert!(!text(&printed.stdout).contains(support::broker::KEY), "{printed:?}");
    assert!(text(&printed.stdout).contains("\n#RP_REMOTED_APIKEY=\n"), "{printed:?}");
    let printed = run(support::broker::remoted(&["broker", "--print-settings"]), &[]);
    assert!(text(&printed.stdout).contains("\n#RP_REMOTED_BIND=127.0.0.1:37791\n"), "{printed:?}");
}

#[test]
fn an_unknown_name_is_told_with_the_one_that_was_meant() {
    let identities = Identities::new(&["web1"]);
    let setup = client(&identities, "web1", ([127, 0, 0, 1], 9).into());
    let node = setup.set("RP_CLIENT_TARGET_HOST", "hub.example.com").start();
    node.wait_log(&[
        "WARN",
        "RP_CLIENT_TARGET_HOST is not known and changes nothing; did you mean \
         RP_CLIENT_TARGET_HOSTNAME?",
    ]);
}

#[test]
fn a_filter_of_the_log_in_a_file_counts() {
    let identities = Identities::new(&[]);
    let file = identities.path("settings.env");
    fs::write(&file, "RUST_LOG=error\nRP_UNKNOWN=1\n").unwrap();
    let mut command = server(&identities).command();
    command.arg("--config").arg(&file);
    let mut node = support::Node::start(command);
    node.signal("TERM");
    assert!(node.wait_exit().success());
    assert_eq!(node.log(), [""; 0]);
}

#[test]
fn the_pipe_port_takes_both_families_by_default() {
    if TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).is_err() {
        return support::say_skipped("this machine has no IPv6");
    }
    let identities = Identities::new(&["four", "six"]);
    let node = server(&identities).set("BIND_IP", "").start();
    assert!(node.pipe().ip().is_unspecified() && node.pipe().is_ipv6(), "{}", node.pipe());
    for (name, host) in [("four", "127.0.0.1"), ("six", "::1")] {
        let setup = client(&identities, name, node.pipe()).set("RP_CLIENT_TARGET_HOSTNAME", host);
        let client = setup.start();
        client.get_when_up("/server/time");
        node.wait_log(&[&format!("{name}: connected from "), host]);
        let log = node.log();
        assert!(!log.iter().any(|line| line.contains("ffff")), "{log:#?}");
        // The port is known as its own, at whichever address it is asked.
        let setup = server(&identities)
            .set("BIND_IP", "")
            .set("BIND_PORT", node.pipe().port())
            .set("RP_SERVER_HTTP_BIND", node.http());
        let checked = run(setup.command(), &["--check"]);
        assert!(text(&checked.stdout).contains("a server runs here already, with "), "{checked:?}");
    }
}
