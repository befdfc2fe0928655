//! `--check`: each step that can fail, with its advice, and a running client that is not disturbed.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::process::Command;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use restpipe::ca::{self, Order};
use restpipe::config::IdentityFiles;
use restpipe::handler::Role;
use restpipe::identity::Identity;
use restpipe::identity::TRIAL_ALPN;
use rustls::pki_types::UnixTime;

use crate::support::message::{event, heartbeat, heartbeat_reply};
use crate::support::peer::Peer;
use crate::support::port::free_port;
use crate::support::tls::{accepting, dialing};
use crate::support::{Identities, Setup, client, parse_answer, server, write_script};

/// The exit code and the lines.
fn check(setup: &Setup) -> (i32, Vec<String>) {
    run(setup.command())
}

fn run(mut command: Command) -> (i32, Vec<String>) {
    let output = command.arg("--check").output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
    let lines = String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect();
    (output.status.code().unwrap(), lines)
}

/// The command without the privilege to read any file. Root stays root but loses that capability:
/// another user may be unable to reach the program.
fn without_privileges(setup: &Setup) -> Command {
    let plain = setup.command();
    if !rustix::process::geteuid().is_root() {
        return plain;
    }
    let mut command = Command::new("/usr/bin/setpriv");
    command.arg("--bounding-set=-dac_override,-dac_read_search").arg(plain.get_program());
    command.env_clear();
    command.envs(plain.get_envs().filter_map(|(name, value)| Some((name, value?))));
    command
}

/// Asserts that the check fails at `step` with these words, and gives its advice right after, once.
#[track_caller]
fn assert_fails((code, lines): (i32, Vec<String>), step: &str, words: &str, advice: &str) {
    let failed = lines.iter().position(|line| line.starts_with("FAILED"));
    let failed = failed.unwrap_or_else(|| panic!("nothing failed: {lines:#?}"));
    assert_eq!(code, 1);
    assert!(lines[failed].starts_with(&format!("FAILED  {step}: ")), "{lines:#?}");
    assert!(lines[failed].contains(words), "{lines:#?}");
    let next = lines[failed + 1].strip_prefix("        what to do: ");
    assert!(next.is_some_and(|next| next.contains(advice)), "{lines:#?}");
    assert_eq!(lines.iter().filter(|line| line.contains("what to do")).count(), 1);
    let is_fine = |line: &String| line.starts_with("ok ") || line.starts_with("note ");
    assert!(lines[..failed].iter().all(is_fine), "{lines:#?}");
}

fn words(lines: &[String]) -> Vec<&str> {
    lines.iter().map(|line| line.split(": ").next().unwrap()).collect()
}

#[test]
fn a_client_that_could_connect_is_told_so_and_is_not_connected() {
    let identities = Identities::new(&["web1"]);
    let server = server(&identities).start();
    let (code, lines) = check(&client(&identities, "web1", server.pipe()));
    assert_eq!(code, 0, "{lines:#?}");
    assert_eq!(
        words(&lines),
        [
            "ok      configuration",
            "ok      files",
            "ok      key and certificate",
            "ok      clock",
            "ok      name",
            "ok      TCP",
            "ok      proxy",
            "ok      TLS",
            "ok      heartbeat",
            "ok      ports",
            "ok      descriptors",
        ]
    );
    assert!(lines[2].contains("web1 (sha256 "), "{lines:#?}");
    assert!(lines[7].contains("the server is localhost (sha256 "), "{lines:#?}");
    assert!(lines[8].contains("accepts this client, and answered in "), "{lines:#?}");
    server.wait_log(&["web1: trial connection from 127.0.0.1:"]);
    assert!(!server.log().iter().any(|line| line.contains("connected from")));
    assert_eq!(server.ask("GET", "/client/web1/time", &[("RP-Wait", "0")], b"").status, 503);
}

#[test]
fn each_of_several_servers_is_tried() {
    let identities = Identities::new(&["web1"]);
    let server = server(&identities).start();
    let nobody = free_port();
    let [first, second] = [server.pipe(), ([127, 0, 0, 1], nobody).into()];
    let several = client(&identities, "web1", first)
        .set("RP_CLIENT_TARGET_HOSTNAME", format!("{first},{second}"));
    let (code, lines) = check(&several);
    assert_eq!(code, 1, "{lines:#?}");
    assert_eq!(lines[0], format!("ok      configuration: a client of {first}, {second}"));
    let steps: Vec<_> = lines[4..].iter().filter(|line| !line.contains("what to do")).collect();
    for (line, step) in steps.iter().zip(["name", "TCP", "proxy", "TLS", "heartbeat"]) {
        assert!(line.starts_with(&format!("ok      {step} ({first}): ")), "{lines:#?}");
    }
    for (line, (word, step)) in steps[5..].iter().zip([
        ("ok     ", "name"),
        ("FAILED ", "TCP"),
        ("-      ", "proxy"),
        ("-      ", "TLS"),
        ("-      ", "heartbeat"),
    ]) {
        assert!(line.starts_with(&format!("{word} {step} ({second}): ")), "{lines:#?}");
    }
    assert!(steps[10].starts_with("ok      ports: "), "{lines:#?}");
}

#[test]
fn a_running_client_with_a_request_in_flight_is_not_disturbed() {
    let identities = Identities::new(&["web1"]);
    let server = server(&identities).start();
    let setup = client(&identities, "web1", server.pipe());
    let node = setup.start();
    server.get_when_up("/client/web1/time");

    let mut caller = TcpStream::connect(server.http()).unwrap();
    caller.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let head = "POST /client/web1/echo HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\
                Content-Length: 200000\r\n\r\n";
    caller.write_all(head.as_bytes()).unwrap();
    caller.write_all(&[b'x'; 100_000]).unwrap();
    let same = client(&identities, "web1", server.pipe()).set("RP_CLIENT_HTTP_BIND", node.http());
    for _ in 0..5 {
        let (code, lines) = check(&same);
        assert_eq!(code, 0, "{lines:#?}");
        assert!(lines[9].contains("a client runs here already, with 127.0.0.1:"), "{lines:#?}");
    }
    caller.write_all(&[b'x'; 100_000]).unwrap();
    let mut answer = Vec::new();
    caller.read_to_end(&mut answer).unwrap();
    let answer = parse_answer(&answer);
    assert_eq!((answer.status, answer.text().matches('x').count()), (200, 200_000));

    let count = |log: Vec<String>, words| log.iter().filter(|line| line.contains(words)).count();
    assert_eq!(count(server.log(), "connected from"), 1);
    assert_eq!(count(server.log(), "trial connection from"), 5);
    assert_eq!(count(server.log(), "lost"), 0);
    assert_eq!(count(node.log(), "connected to"), 1);
    assert_eq!(count(node.log(), "lost"), 0);
}

#[test]
fn a_server_is_checked_also_while_it_runs() {
    let identities = Identities::new(&["web1"]);
    let setup = server(&identities);
    let (code, lines) = check(&setup);
    assert_eq!(code, 0, "{lines:#?}");
    assert!(lines[4].ends_with("name: clients know this server as localhost"), "{lines:#?}");
    assert!(lines[5].starts_with("ok      ports: free: "), "{lines:#?}");

    let node = setup.start();
    let setup = setup.set("BIND_PORT", node.pipe().port()).set("RP_SERVER_HTTP_BIND", node.http());
    let (code, lines) = check(&setup);
    assert_eq!(code, 0, "{lines:#?}");
    assert!(lines[5].contains("a server runs here already, with "), "{lines:#?}");
    // With another HTTP port only its pipe port is in use.
    let other = setup.set("RP_SERVER_HTTP_BIND", "127.0.0.1:0");
    assert_fails(check(&other), "ports", "the pipe port, 127.0.0.1:", "choose another port");
}

#[test]
fn a_wrong_configuration_is_the_first_fault() {
    let identities = Identities::new(&["web1"]);
    let setup = client(&identities, "web1", ([127, 0, 0, 1], 1).into());
    let setup = setup.set("RP_CLIENT_PROXY", "https://me:SECRET@proxy");
    let wrong = check(&setup);
    assert!(!wrong.1.iter().any(|line| line.contains("SECRET")), "{wrong:?}");
    assert_fails(wrong, "configuration", "RP_CLIENT_PROXY is \"...\"", "correct that variable");
    let file = setup.set("RP_CLIENT_PROXY", "").set("RP_CLIENT_USER_CONFIG_MODULE", "/no/such.env");
    assert_fails(check(&file), "configuration", "/no/such.env", "sudo -u restpipe");
    let setup = server(&identities).set("RP_EVENT_HANDLER", "files:/no/such");
    assert_fails(check(&setup), "configuration", "files:/no/such", "--help");
}

#[test]
fn files_that_are_missing_or_open_to_all_are_named() {
    let identities = Identities::new(&["web1"]);
    let setup = || client(&identities, "web1", ([127, 0, 0, 1], 1).into());
    let missing = setup().set("RP_CLIENT_KEY_FILENAME", "none.pem");
    assert_fails(check(&missing), "files", "none.pem: No such file", "rp_client_set_identity");
    let key = identities.path("web1.key.pem");
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o644)).unwrap();
    assert_fails(check(&setup()), "files", "(mode 0644)", "chmod 600 ");
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o640)).unwrap();
    assert!(check(&setup()).1[1].starts_with("ok "));
}

#[test]
fn a_file_that_this_user_may_not_read_is_named() {
    let identities = Identities::new(&["web1"]);
    let key = identities.path("web1.key.pem");
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o000)).unwrap();
    let setup = client(&identities, "web1", ([127, 0, 0, 1], 1).into());
    assert_fails(
        run(without_privileges(&setup)),
        "files",
        "web1.key.pem: Permission denied",
        "(chown, chmod)",
    );
}

#[test]
fn a_key_of_another_certificate_is_named() {
    let identities = Identities::new(&["web1", "web2"]);
    let setup = client(&identities, "web1", ([127, 0, 0, 1], 1).into())
        .set("RP_CLIENT_KEY_FILENAME", "web2.key.pem");
    let words = "web2.key.pem: the private key does not belong to the certificate in ";
    assert_fails(check(&setup), "key and certificate", words, "rp_client_set_identity KEY CRT CA");
}

/// A client whose certificate starts this many days from now and is valid for two days.
fn made(days: i64) -> (tempfile::TempDir, Setup) {
    let dir = tempfile::tempdir().unwrap();
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let then = now.checked_add_signed(days * 86_400).unwrap();
    let then = UnixTime::since_unix_epoch(Duration::from_secs(then));
    ca::init(dir.path(), 100, then).unwrap();
    let order = Order {
        name: "web1".parse().unwrap(),
        role: Role::Client,
        alternatives: Vec::new(),
        days: 2,
    };
    ca::issue(dir.path(), &order, then).unwrap();
    let setup = client(&Identities::new(&[]), "web1", ([127, 0, 0, 1], 1).into())
        .set("RP_CLIENT_CERT_PATH", dir.path().display());
    (dir, setup)
}

#[test]
fn dates_are_the_certificates_fault_or_the_clocks() {
    let (_dir, setup) = made(-3);
    assert_fails(
        check(&setup),
        "key and certificate",
        "the certificate expired on ",
        "rp_ca renew",
    );
    let (_dir, setup) = made(3);
    let (code, lines) = check(&setup);
    assert!(lines[2].starts_with("ok      key and certificate"), "{lines:#?}");
    assert_fails((code, lines), "clock", "is not valid before ", "set the clock");
}

#[test]
fn a_certificate_that_ends_soon_and_an_open_key_are_told_everywhere() {
    // Two days, so that it ends within thirty.
    let (dir, setup) = made(0);
    let (_, lines) = check(&setup);
    let ends = lines.iter().find(|line| line.starts_with("note    key and certificate: "));
    assert!(ends.is_some_and(|line| line.ends_with(": renew it")), "{lines:#?}");

    let key = dir.path().join("web1.key.pem");
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o644)).unwrap();
    let open = "every user of this machine may use the private key (mode 0644)";
    let node = setup.start();
    node.wait_log(&["WARN", "web1.crt.pem: this node's certificate", ": renew it"]);
    node.wait_log(&["WARN", "web1.key.pem: ", open]);
    let mut install = Command::new(env!("CARGO_BIN_EXE_rp_client_set_identity"));
    let to = tempfile::tempdir().unwrap();
    install.env_clear().env("RP_CLIENT_CERT_PATH", to.path());
    let output =
        install.args(["web1.key.pem", "web1.crt.pem", "ca.crt.pem"].map(|f| dir.path().join(f)));
    let output = output.output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let warned = String::from_utf8(output.stderr).unwrap();
    for words in ["rp_client_set_identity: warning: the certificate (sha256 ", ": renew it", open] {
        assert!(warned.contains(words), "{warned}");
    }
}

#[test]
fn a_server_whose_certificate_has_expired_is_no_wrong_name() {
    let identities = Identities::none();
    let dir = identities.path("");
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let then = UnixTime::since_unix_epoch(now - Duration::from_secs(3 * 86_400));
    ca::init(&dir, 100, then).unwrap();
    let of = |name: &str, role| Order {
        name: name.parse().unwrap(),
        role,
        alternatives: Vec::new(),
        days: 2,
    };
    ca::issue(&dir, &of("127.0.0.1", Role::Server), then).unwrap();
    ca::issue(&dir, &of("web1", Role::Client), UnixTime::since_unix_epoch(now)).unwrap();
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = listener.local_addr().unwrap();
    let mut config = (*accepting(&identities, "127.0.0.1")).clone();
    config.alpn_protocols = vec![TRIAL_ALPN.to_vec()];
    let other =
        std::thread::spawn(move || Peer::accept(&listener, config.into()).map(drop).is_err());
    let checked = check(&client(&identities, "web1", address));
    assert!(other.join().unwrap(), "it was accepted");
    assert_fails(checked, "TLS", "the certificate expired on ", "nor expired (rp_ca renew");
}

#[test]
fn a_server_that_cannot_be_found_or_reached_is_named() {
    let identities = Identities::new(&["web1"]);
    let setup = || client(&identities, "web1", ([127, 0, 0, 1], free_port()).into());
    let wrong = setup().set("RP_CLIENT_TARGET_HOSTNAME", "no-such-name.invalid");
    assert_fails(check(&wrong), "name", "no-such-name.invalid does not resolve", "DNS");
    assert_fails(check(&setup()), "TCP", "onnection refused", "start the server");
    let nobody = free_port();
    let wrong = setup().set("RP_CLIENT_PROXY", format!("http://me:SECRET@127.0.0.1:{nobody}"));
    let (code, lines) = check(&wrong);
    assert!(!lines.iter().any(|line| line.contains("SECRET")), "{lines:#?}");
    let words = format!("the proxy http://127.0.0.1:{nobody}: ");
    assert_fails((code, lines), "TCP", &words, "RP_CLIENT_PROXY");
}

#[test]
fn a_wrong_name_in_the_servers_certificate_is_named() {
    let identities = Identities::new(&["web1"]);
    let server = server(&identities).start();
    let setup = client(&identities, "web1", server.pipe()).set("RP_CLIENT_SERVER_NAME", "hub");
    assert_fails(check(&setup), "TLS", "not for hub", "RP_CLIENT_SERVER_NAME");
}

#[test]
fn a_port_of_plain_http_and_one_through_a_lying_proxy_are_named() {
    let identities = Identities::new(&["web1"]);
    let server = server(&identities).start();
    let setup = client(&identities, "web1", server.http());
    assert_fails(check(&setup), "TLS", "it speaks plain HTTP", "not its local HTTP port");
    // That port is not a proxy either.
    let setup = client(&identities, "web1", server.pipe())
        .set("RP_CLIENT_PROXY", format!("http://me:SECRET@{}", server.http()));
    let (code, lines) = check(&setup);
    assert!(!lines.iter().any(|line| line.contains("SECRET")), "{lines:#?}");
    assert_fails((code, lines), "proxy", "the proxy refused: ", "RP_CLIENT_PROXY");
}

#[test]
fn a_client_of_another_ca_is_told_that_the_server_refuses_it() {
    let (ours, theirs) = (Identities::new(&["web1"]), Identities::new(&["web1"]));
    let server = server(&theirs).start();
    // It trusts both CAs, and so the server, which trusts only its own.
    let both = [&ours, &theirs].map(|of| std::fs::read(of.path("ca.crt.pem")).unwrap()).concat();
    std::fs::write(ours.path("both.pem"), both).unwrap();
    let setup = client(&ours, "web1", server.pipe()).set("RP_CA_CRT_FILENAME", "both.pem");
    let words = "refused this client's certificate (unknown ca)";
    let (code, lines) = check(&setup);
    assert!(lines[7].starts_with("ok      TLS"), "{lines:#?}");
    assert_fails((code, lines), "heartbeat", words, "server's log");
    server.wait_log(&["refused: ", "is not signed by a CA in "]);
}

#[test]
fn ports_that_others_hold_are_named() {
    let identities = Identities::new(&["web1"]);
    let pipe = server(&identities).start();
    let other = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let held = other.local_addr().unwrap();
    let setup = || client(&identities, "web1", pipe.pipe());
    let wrong = setup().set("RP_CLIENT_HTTP_BIND", held);
    let words = format!("the local HTTP port, {held}, is in use by another program");
    assert_fails(check(&wrong), "ports", &words, "choose another port");
    // A server is not a client.
    let wrong = setup().set("RP_CLIENT_HTTP_BIND", pipe.http());
    assert_fails(check(&wrong), "ports", "is in use by another program", "ss -l");
    let wrong = setup().set("RP_TCP_LISTEN", format!("{held}=server/db"));
    assert_fails(check(&wrong), "ports", "a port of RP_TCP_LISTEN, ", "choose another port");
    let wrong = setup().set("RP_CLIENT_HTTP_BIND", "unix:/no/such/directory/http");
    assert_fails(check(&wrong), "ports", "cannot be listened on", "a directory that is there");
    let path = identities.path("http");
    let fine = setup().set("RP_CLIENT_HTTP_BIND", format!("unix:{}", path.display()));
    assert_eq!(check(&fine).0, 0);
    assert!(!path.exists(), "the check left something behind");
}

#[test]
fn a_socket_file_that_this_user_may_not_use_is_no_free_port() {
    let identities = Identities::new(&["web1"]);
    let pipe = server(&identities).start();
    let path = identities.path("http");
    let _held = UnixListener::bind(&path).unwrap();
    let mut setup = client(&identities, "web1", pipe.pipe());
    setup = setup.set("RP_CLIENT_HTTP_BIND", format!("unix:{}", path.display()));
    let words = format!("the local HTTP port, unix:{}, is in use by another", path.display());
    assert_fails(check(&setup), "ports", &words, "choose another port");

    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o000)).unwrap();
    let words = "cannot be listened on: Permission denied";
    assert_fails(run(without_privileges(&setup)), "ports", words, "this user may use");
}

/// Runs the check with this script as `systemctl`.
fn check_with_systemctl(setup: &Setup, script: &str) -> (i32, Vec<String>) {
    let dir = tempfile::tempdir().unwrap();
    write_script(&dir.path().join("systemctl"), &format!("#!/bin/sh\n{script}"));
    let path = std::env::join_paths([dir.path(), "/bin".as_ref(), "/usr/bin".as_ref()]).unwrap();
    let mut command = setup.command();
    command.env("PATH", path);
    run(command)
}

#[test]
fn a_port_that_systemd_holds_for_a_service_that_sleeps_is_not_connected_to() {
    let identities = Identities::new(&[]);
    let pipe = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = pipe.local_addr().unwrap();
    let path = identities.path("http");
    let http = UnixListener::bind(&path).unwrap();
    pipe.set_nonblocking(true).unwrap();
    http.set_nonblocking(true).unwrap();
    let bind = format!("unix:{}", path.display());
    let setup =
        server(&identities).set("BIND_PORT", address.port()).set("RP_SERVER_HTTP_BIND", &bind);
    let script = |state: &str| {
        format!(
            "case $1 in\n\
             list-sockets) echo '[::]:22  ssh.socket  ssh.service'\n\
             echo '0.0.0.0:{}  rp-pipe.socket  rp.service'\n\
             echo '{}  rp-http.socket  rp.service' ;;\n\
             show) echo {state} ;;\n\
             esac",
            address.port(),
            path.display()
        )
    };
    let is_waiting =
        |error: std::io::Error| assert_eq!(error.kind(), std::io::ErrorKind::WouldBlock);

    let (code, lines) = check_with_systemctl(&setup, &script("inactive"));
    assert_eq!(code, 0, "{lines:#?}");
    let ports = lines.iter().find(|line| line.starts_with("ok      ports: ")).unwrap();
    let words =
        format!("ports: systemd holds {bind} for rp.service, {address} for rp.service, which");
    assert!(ports.contains(&words), "{ports}");
    is_waiting(pipe.accept().unwrap_err());
    is_waiting(http.accept().unwrap_err());

    // A running service is asked; without systemd, any owner of the port is reported.
    for script in [script("active"), "exit 1".to_owned(), "exec sleep 60".to_owned()] {
        let words = format!("the local HTTP port, {bind}, is in use by another program");
        assert_fails(check_with_systemctl(&setup, &script), "ports", &words, "choose another");
        assert!(http.accept().is_ok());
        while http.accept().is_ok() {}
    }
}

/// The check of this node where a shell has set its limits so.
fn check_with_limit(setup: &Setup, limit: &str) -> (i32, Vec<String>) {
    let started = setup.command_after(limit);
    let script = started.get_args().nth(1).unwrap().to_str().unwrap();
    let mut command = Command::new("sh");
    command.args(["-c", &format!("{script} --check")]).env_clear();
    command.envs(started.get_envs().filter_map(|(name, value)| Some((name, value?))));
    run(command)
}

#[test]
fn too_few_descriptors_are_named() {
    let identities = Identities::new(&["web1"]);
    let setup = server(&identities);
    let checked = check_with_limit(&setup, "ulimit -n 512");
    assert_fails(checked, "descriptors", "at most 512 files", "ulimit -n 4096");
    // The hard limit counts.
    let (code, lines) = check_with_limit(&setup, "ulimit -Sn 512 && ulimit -Hn 1024");
    assert_eq!(code, 0, "{lines:#?}");
    let enough = "ok      descriptors: at most 1024 files may be open, enough for 130 clients";
    assert!(lines.iter().any(|line| line == enough), "{lines:#?}");
    // TCP ports and targets count.
    let setup = setup.set("RP_TCP_TARGETS", "a=127.0.0.1:1,b=127.0.0.1:2");
    let checked = check_with_limit(&setup, "ulimit -n 1100");
    assert_fails(checked, "descriptors", "needs 1152 for what is configured", "ulimit -n 4096");
    // So do servers.
    let setup = client(&identities, "web1", "127.0.0.1:1".parse().unwrap());
    let setup = setup.set("RP_CLIENT_TARGET_HOSTNAME", "127.0.0.1,127.0.0.1:2,127.0.0.1:3");
    let (_, lines) = check_with_limit(&setup, "ulimit -n 260");
    let words = "at most 260 files may be open; this client needs 264";
    assert!(lines.iter().any(|line| line.contains(words)), "{lines:#?}");
}

#[test]
fn the_limit_of_a_unit_is_that_which_systemd_gives_it() {
    let identities = Identities::new(&["web1"]);
    let setup = server(&identities);
    let dir = tempfile::tempdir().unwrap();
    let settings = dir.path().join("server.env");
    let command = setup.command();
    let lines = command.get_envs().filter_map(|(name, value)| Some((name, value?)));
    let lines: Vec<String> =
        lines.map(|(name, value)| format!("{}={}\n", name.display(), value.display())).collect();
    std::fs::write(&settings, lines.concat()).unwrap();
    let script = format!(
        "#!/bin/sh\ncase \"$2\" in\n*LimitNOFILE*) echo 700 ;;\n\
         *) echo LoadState=loaded; echo 'EnvironmentFiles={} (ignore_errors=no)' ;;\nesac\n",
        settings.display()
    );
    write_script(&dir.path().join("systemctl"), &script);
    let mut command = Command::new(env!("CARGO_BIN_EXE_rp_server_start"));
    command.env_clear().env("PATH", dir.path()).args(["--unit", "restpipe-server"]);
    assert_fails(run(command), "descriptors", "at most 700 files may be open", "LimitNOFILE=");
}

/// A server without support for trials, like an original or an older one: it must not receive the
/// client's identity.
#[test]
fn a_server_that_knows_no_trials_is_not_told_who_is_here() {
    let identities = Identities::new(&["web1"]);
    let files = IdentityFiles::issued(identities.path(""), "localhost");
    let identity = Identity::load(&files, Role::Server).unwrap();
    let mut config = (*identity.server_config()).clone();
    config.alpn_protocols.clear();
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = listener.local_addr().unwrap();
    let other = std::thread::spawn(move || {
        let (mut socket, _) = listener.accept().unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        let mut connection = rustls::ServerConnection::new(config.into()).unwrap();
        let ended = connection.complete_io(&mut socket);
        (ended.is_err(), connection.is_handshaking(), connection.peer_certificates().is_none())
    });
    let (code, lines) = check(&client(&identities, "web1", address));
    assert_eq!(other.join().unwrap(), (true, true, true));
    assert_eq!(code, 0, "{lines:#?}");
    assert!(lines[7].contains("which was not told who is here"), "{lines:#?}");
    assert!(lines[8].contains("not tried"), "{lines:#?}");
}

/// A trial is always granted: none of its events is handled, and it leaves no state behind.
#[test]
fn a_trial_is_good_for_one_heartbeat_and_nothing_else() {
    let identities = Identities::new(&["web1"]);
    let server = server(&identities).start();
    let running = client(&identities, "web1", server.pipe()).start();
    running.get_when_up("/server/time");
    let mut config = (*dialing(Some((&identities, "web1")))).clone();
    config.alpn_protocols = vec![TRIAL_ALPN.to_vec()];
    let dial = || Peer::dial(server.pipe(), config.clone().into()).unwrap();

    for (sent, why) in [
        (event(1, "get", "time", b""), "another message than the heartbeat of a trial"),
        (vec![0xff; 10], "protocol error: message of unknown type 0xff"),
    ] {
        let skip = server.log().len();
        let mut peer = dial();
        peer.send(&sent).unwrap();
        server.wait_log_from(skip, &["a trial of web1 was not finished: ", why]);
    }
    let mut peer = dial();
    let both = [heartbeat(7), event(1_000_000_000, "post", "echo", b"")].concat();
    peer.send(&both).unwrap();
    server.wait_log(&["web1: trial connection from 127.0.0.1:"]);
    assert_eq!(server.get("/client/web1/time").status, 200);
    assert!(!server.log().iter().any(|line| line.contains("lost") || line.contains("in place")));
}

#[test]
fn a_server_that_answers_a_trial_wrongly_is_named() {
    let identities = Identities::new(&["web1"]);
    for (answer, why) in [
        (event(1, "get", "time", b""), "another message than the heartbeat of a trial"),
        (heartbeat_reply(1), "another message than the heartbeat of a trial"),
        (vec![0xff; 10], "protocol error: "),
    ] {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let mut config = (*accepting(&identities, "localhost")).clone();
        config.alpn_protocols = vec![TRIAL_ALPN.to_vec()];
        let other = std::thread::spawn(move || {
            let mut peer = Peer::accept(&listener, config.into()).unwrap();
            peer.send(&answer).unwrap();
            peer
        });
        let checked = check(&client(&identities, "web1", address));
        drop(other.join().unwrap());
        assert_fails(checked, "heartbeat", why, "the server took the connection");
    }
}
