//! `rp_server_start` and `rp_client_start` as programs: arguments, environment, exit codes, and
//! their output on each stream.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::os::unix::net::UnixStream;
use std::process::{Command, Output, Stdio};

use restpipe::config::{Reader, VARIABLES};

use crate::support::{self, Identities, Setup, client, parse_answer, server};

const PROGRAMS: [(&str, &str, Reader); 2] = [
    ("rp_server_start", env!("CARGO_BIN_EXE_rp_server_start"), Reader::ServerStart),
    ("rp_client_start", env!("CARGO_BIN_EXE_rp_client_start"), Reader::ClientStart),
];

fn run(program: &str, arguments: &[&str]) -> Output {
    Command::new(program).env_clear().args(arguments).output().unwrap()
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

/// Asserts that a program exits with this code and one line on standard error, and returns the line.
fn one_line(mut command: Command, code: i32) -> String {
    let output = command.stdin(Stdio::null()).output().unwrap();
    assert_eq!(output.status.code(), Some(code), "{output:?}");
    assert_eq!(text(&output.stdout), "", "{output:?}");
    let error = text(&output.stderr);
    assert_eq!(error.lines().count(), 1, "{error}");
    assert!(error.ends_with('\n'), "{error:?}");
    error.trim_end().to_owned()
}

/// A valid server, and a client of it.
fn setups(identities: &Identities) -> [Setup; 2] {
    [server(identities), client(identities, "client-1", ([127, 0, 0, 1], 1).into())]
}

#[test]
fn help_lists_every_variable_with_its_default() {
    for (name, program, reader) in PROGRAMS {
        for argument in ["--help", "-h"] {
            let output = run(program, &[argument]);
            assert_eq!(output.status.code(), Some(0));
            assert_eq!(text(&output.stderr), "");
            let help = text(&output.stdout);
            assert!(help.contains(&format!("Usage:\n  {name}\n")), "{help}");
            for variable in VARIABLES.iter().filter(|v| v.read_by.contains(&reader)) {
                let (last, others) = variable.names.split_last().unwrap();
                for other in others {
                    assert!(help.contains(&format!("  {other} or")), "{other} in {help}");
                }
                assert!(
                    help.contains(&format!("  {last} ")) || help.contains(&format!("  {last}\n"))
                );
                // The default is in the line of the first name, or below a very long one.
                let first = variable.names[0];
                let mut lines =
                    help.lines().skip_while(|line| line.split_whitespace().next() != Some(first));
                let row = lines.next().unwrap_or_else(|| panic!("{first} in {help}"));
                let row = if row.trim() == first { lines.next().unwrap() } else { row };
                let default = if variable.default.is_empty() { "-" } else { variable.default };
                assert!(row.split_whitespace().any(|word| word == default), "{row}");
            }
        }
        // The names in the documents and in the original.
        let help = run(program, &["--help"]);
        for known in ["RP_EVENT_HANDLER_FQ_CLASS", "RP_CA_CRT_FILENAME", "DEBUG"] {
            assert!(text(&help.stdout).contains(known), "{known}");
        }
    }
}

#[test]
fn the_version_is_the_packages() {
    for (name, program, _) in PROGRAMS {
        let output = run(program, &["--version"]);
        assert_eq!(output.status.code(), Some(0));
        assert_eq!(text(&output.stdout), format!("{name} {}\n", env!("CARGO_PKG_VERSION")));
        assert_eq!(text(&output.stderr), "");
    }
}

#[test]
fn wrong_arguments_and_values_are_exit_2() {
    let identities = Identities::new(&["client-1"]);
    for ((name, program, _), setup) in PROGRAMS.into_iter().zip(setups(&identities)) {
        for arguments in [&["--no-such"][..], &["start"], &["-p", "1"]] {
            let mut command = Command::new(program);
            command.env_clear().args(arguments);
            let line = one_line(command, 2);
            assert!(
                line.starts_with(&format!("{name}: unknown argument {:?}", arguments[0])),
                "{line}"
            );
            assert!(line.ends_with(&format!("see {name} --help")), "{line}");
        }
        let mut values = vec![
            ("RP_CONNECTION_WAIT_S", "soon"),
            ("RP_REPLY_TIMEOUT_S", "0"),
            ("RP_MAX_BODY_BYTES", "-1"),
            ("RP_MAX_BODY_BYTES", "16M"),
            ("RP_DRAIN_S", "1e400"),
            ("RUST_LOG", "loud"),
            ("RP_LOG_FORMAT", "maybe\nnot"),
            ("RP_EVENT_HANDLER", "no-such-handler"),
            ("RP_EVENT_HANDLER_FQ_CLASS", "my_project.events.Handler"),
        ];
        values.extend(match name {
            "rp_server_start" => vec![
                ("BIND_PORT", "65536"),
                ("BIND_IP", "localhost:1"),
                ("RP_SERVER_HTTP_BIND", "8081"),
                ("RP_SERVER_USER_CONFIG_MODULE", "/no/such/file"),
            ],
            _ => vec![
                ("RP_CLIENT_TARGET_PORT", "0x4d2"),
                ("RP_CLIENT_HEARTBEAT_INTERVAL_S", "0"),
                ("RP_CLIENT_HEARTBEAT_TIMEOUT_S", "nan"),
                ("RP_CLIENT_HTTP_BIND", "unix:"),
                ("RP_CLIENT_USER_CONFIG_MODULE", "/no/such/file"),
            ],
        });
        for (variable, value) in values {
            let mut command = setup.command();
            command.env(variable, value);
            let line = one_line(command, 2);
            assert!(line.starts_with(&format!("{name}: ")) && line.contains(variable), "{line}");
        }
        // Two spellings of one setting must agree.
        let mut command = setup.command();
        command.env("RP_EVENT_HANDLER", "example").env("RP_EVENT_HANDLER_FQ_CLASS", "other");
        let line = one_line(command, 2);
        assert!(line.contains("RP_EVENT_HANDLER") && line.contains("_FQ_CLASS"), "{line}");
    }
}

#[test]
fn a_missing_identity_is_exit_1_and_names_the_file() {
    let identities = Identities::new(&["client-1"]);
    for ((name, ..), setup) in PROGRAMS.into_iter().zip(setups(&identities)) {
        let role = if name.contains("server") { "SERVER" } else { "CLIENT" };
        for variable in [
            format!("RP_{role}_KEY_FILENAME"),
            format!("RP_{role}_CRT_FILENAME"),
            // No mode works without the CA: unverified peers are never accepted.
            "RP_CA_CRT_FILENAME".to_owned(),
        ] {
            let mut command = setup.command();
            command.env(&variable, "not-there.pem");
            let line = one_line(command, 1);
            assert!(line.starts_with(&format!("{name}: ")), "{line}");
            assert!(line.contains(identities.path("not-there.pem").to_str().unwrap()), "{line}");
        }
    }
    // With the defaults, on a machine without an installation.
    for (name, program, _) in PROGRAMS {
        let role = if name.contains("server") { "SERVER" } else { "CLIENT" };
        let empty = tempfile::tempdir().unwrap();
        let mut command = Command::new(program);
        command.env_clear().env(format!("RP_{role}_CERT_PATH"), empty.path());
        command.env("BIND_PORT", "0");
        command.env(format!("RP_{role}_HTTP_BIND"), "127.0.0.1:0");
        let line = one_line(command, 1);
        assert!(line.contains(empty.path().to_str().unwrap()), "{line}");
    }
}

#[test]
fn a_port_in_use_is_exit_1_and_names_the_address() {
    let identities = Identities::new(&["client-1"]);
    let taken = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let address = taken.local_addr().unwrap();
    for ((name, ..), setup) in PROGRAMS.into_iter().zip(setups(&identities)) {
        let mut cases = vec![];
        if name == "rp_server_start" {
            let mut command = setup.command();
            command.env("BIND_PORT", address.port().to_string());
            cases.push((command, "pipe port"));
            let mut command = setup.command();
            command.env("RP_SERVER_HTTP_BIND", address.to_string());
            cases.push((command, "HTTP port"));
        } else {
            let mut command = setup.command();
            command.env("RP_CLIENT_HTTP_BIND", address.to_string());
            cases.push((command, "HTTP port"));
        }
        for (command, which) in cases {
            let line = one_line(command, 1);
            assert!(line.starts_with(&format!("{name}: ")) && line.contains(which), "{line}");
            assert!(line.contains(&address.to_string()) && line.contains("in use"), "{line}");
        }
    }
}

#[test]
fn the_ready_line_is_the_only_one_on_standard_output() {
    let identities = Identities::new(&["client-1"]);
    let dir = tempfile::tempdir().unwrap();
    let bind = |name: &str| format!("unix:{}", dir.path().join(name).display());

    let (mut server, line) = Printed::start(server(&identities).set("DEBUG", 1).command());
    let pipe = line.strip_prefix("ready pipe=127.0.0.1:").unwrap();
    let (pipe, http) = pipe.split_once(" http=127.0.0.1:").unwrap();
    let [pipe, http] = [pipe, http].map(|port| port.parse::<u16>().unwrap());
    assert!(pipe != 0 && http != 0, "{line}");
    let client = client(&identities, "client-1", ([127, 0, 0, 1], pipe).into()).set("DEBUG", 1);
    let (mut at_tcp, line) = Printed::start(client.command());
    let port = line.strip_prefix("ready http=127.0.0.1:").unwrap();
    assert_ne!(port.parse::<u16>().unwrap(), 0, "{line}");
    at_tcp.end();
    let unix = client.set("RP_CLIENT_HTTP_BIND", bind("client"));
    let (mut at_unix, line) = Printed::start(unix.command());
    assert_eq!(line, format!("ready http={}", bind("client")));
    // Requests and verbose logging add nothing there.
    let answer =
        support::ask(([127, 0, 0, 1], http).into(), "GET", "/client/localhost/time", &[], b"");
    assert_eq!(answer.status, 200);
    let mut socket = UnixStream::connect(dir.path().join("client")).unwrap();
    socket.write_all(b"GET /server/time HTTP/1.0\r\n\r\n").unwrap();
    let mut answer = Vec::new();
    socket.read_to_end(&mut answer).unwrap();
    assert_eq!(parse_answer(&answer).status, 200);
    at_unix.end();
    server.end();
}

#[test]
fn a_server_prints_its_socket_and_its_pipe() {
    let identities = Identities::new(&[]);
    let bind = format!("unix:{}", identities.path("s").display());
    let setup = server(&identities).set("RP_SERVER_HTTP_BIND", &bind).set("BIND_IP", "0.0.0.0");
    let (mut server, line) = Printed::start(setup.command());
    let rest = line.strip_prefix("ready pipe=0.0.0.0:").unwrap();
    let (port, http) = rest.split_once(' ').unwrap();
    assert_ne!(port.parse::<u16>().unwrap(), 0);
    assert_eq!(http, format!("http={bind}"));
    server.end();
}

#[test]
fn a_file_of_settings_is_read_and_unknown_names_are_warned_about() {
    let identities = Identities::new(&[]);
    let file = identities.path("settings");
    std::fs::write(
        &file,
        "# ours\nRP_HTTP_ALLOWED_HOSTS=settings.example\nRP_CONNECTION_WAIT_S=0\n",
    )
    .unwrap();
    let server = server(&identities)
        .set("RP_SERVER_USER_CONFIG_MODULE", file.display())
        .set("RP_CONNECTION_WAIT_S", "0.1")
        .set("RP_NO_SUCH_THING", "1")
        .start();
    let line = server.wait_log(&["RP_NO_SUCH_THING"]);
    assert!(line.contains("WARN"), "{line}");
    let asked_under =
        |host| server.ask("GET", &format!("http://{host}/client/127.0.0.9/x"), &[], b"");
    assert_eq!(asked_under("settings.example").status, 503);
    assert_eq!(asked_under("rpserver.local").status, 421, "only what is set is served");
}

#[test]
fn no_key_is_in_the_log() {
    let identities = Identities::new(&["client-1"]);
    let server = server(&identities).set("RUST_LOG", "trace").start();
    let client = client(&identities, "client-1", server.pipe()).set("RUST_LOG", "trace").start();
    client.get_when_up("/server/time");
    assert_eq!(client.ask("POST", "/server/note", &[], b"a-secret-payload").status, 404);
    // Parameters and query are payload, like a body.
    assert_eq!(client.get("/server/cat//a-secret-payload?of=a-secret-payload").status, 200);
    assert_eq!(server.get("/client/client-1/cat//a-secret-payload").status, 200);
    for (node, name) in [(&server, "localhost"), (&client, "client-1")] {
        let key = std::fs::read_to_string(identities.path(&format!("{name}.key.pem"))).unwrap();
        let secret = key.lines().nth(1).unwrap();
        for line in node.log() {
            assert!(!line.contains(secret) && !line.contains("a-secret-payload"), "{line}");
            assert!(!line.contains("PRIVATE KEY"), "{line}");
        }
    }
}

/// A program whose whole standard output is captured.
struct Printed {
    child: std::process::Child,
    rest: Option<std::thread::JoinHandle<String>>,
}

impl Printed {
    /// Starts it and returns its first line.
    fn start(mut command: Command) -> (Self, String) {
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut stdout = child.stdout.take().unwrap();
        let mut line = Vec::new();
        let mut byte = [0];
        while stdout.read(&mut byte).unwrap() == 1 && byte != *b"\n" {
            line.push(byte[0]);
        }
        let rest = std::thread::spawn(move || {
            let mut rest = String::new();
            stdout.read_to_string(&mut rest).unwrap();
            rest
        });
        (Self { child, rest: Some(rest) }, String::from_utf8(line).unwrap())
    }

    /// Stops it like a service manager, and asserts that it has printed nothing more.
    fn end(&mut self) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
        assert_eq!(self.child.wait().unwrap().code(), Some(0));
        assert_eq!(self.rest.take().unwrap().join().unwrap(), "");
    }
}

impl Drop for Printed {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
