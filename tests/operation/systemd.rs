//! systemd accepts the units, they restrict the services, and a restart goes unnoticed.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use restpipe::config::{Environment, ServerConfig};

use crate::support;

const UNITS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/systemd");

/// The directory with the built programs.
fn programs() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_rp_server_start")).parent().unwrap()
}

/// Writes the units into `dir`, with their programs in `programs`.
fn write_units(dir: &Path, programs: &Path) -> Vec<PathBuf> {
    let programs = format!("{}/rp_", programs.display());
    let mut paths = Vec::new();
    for entry in fs::read_dir(UNITS).unwrap() {
        let unit = entry.unwrap().path();
        let text = fs::read_to_string(&unit).unwrap().replace("/usr/bin/rp_", &programs);
        let path = dir.join(unit.file_name().unwrap());
        fs::write(&path, text).unwrap();
        paths.push(path);
    }
    assert_eq!(paths.len(), 6, "{paths:?}");
    paths
}

/// The units with the built programs.
fn units() -> (tempfile::TempDir, Vec<PathBuf>) {
    let dir = tempfile::tempdir().unwrap();
    let paths = write_units(dir.path(), programs());
    (dir, paths)
}

/// Lines that systemd and we have to read alike.
const SETTINGS: [&str; 20] = [
    "RP_RULES_FILE=/a",
    "  RP_RULES_FILE = /a b  ",
    "RP_RULES_FILE=\t/a b\t",
    "RP_RULES_FILE=",
    "RP_RULES_FILE=\"\"",
    "RP_RULES_FILE=\"/a b \"  ",
    "RP_RULES_FILE='/a \"b\" \\ #'",
    "RP_RULES_FILE=/a#b;c",
    "RP_RULES_FILE=/a;b ; c",
    "RP_RULES_FILE=/$HOME/${HOME}/`x`/%h",
    "RP_RULES_FILE=/it's",
    "RP_RULES_FILE=/a\"b\"",
    "RP_RULES_FILE=/a\\ b\\#c\\\\d\\n",
    "RP_RULES_FILE=\"/\\$\\`\\\"\\\\ \\n \\' \\a\"",
    "RP_RULES_FILE='/\\$\\n'",
    "RP_RULES_FILE=/a=b=c",
    "RP_RULES_FILE==/a",
    "RP_RULES_FILE=/ä",
    "RP_RULES_FILE=/a\r",
    "#RP_RULES_FILE=/a",
];

const SYSTEMD: (&str, &str) = ("systemd-analyze", "systemd");

fn analyze(arguments: &[&str], units: &[&PathBuf]) -> Output {
    Command::new("systemd-analyze").args(arguments).args(units).output().unwrap()
}

fn said(output: &Output) -> String {
    let [said, complained] = [&output.stdout, &output.stderr].map(|b| String::from_utf8_lossy(b));
    format!("{said}{complained}")
}

#[test]
fn systemd_understands_every_line() {
    if !support::has_all(&[SYSTEMD]) {
        return;
    }
    let (_dir, paths) = units();
    let units: Vec<_> = paths.iter().collect();
    let output = analyze(&["verify", "--man=no"], &units);
    let text = said(&output);
    assert!(output.status.success(), "{text}");
    // The message of a systemd too old for the unit's preferred line; it uses the line before.
    let older = "Failed to parse service type, ignoring: notify-reload";
    let complaints: Vec<_> = text.lines().filter(|line| !line.ends_with(older)).collect();
    assert!(complaints.is_empty(), "{complaints:#?}");

    let broken = paths.iter().find(|path| path.ends_with("restpipe-server.service")).unwrap();
    let text = fs::read_to_string(broken).unwrap().replace("WatchdogSec=", "WatchdogSecs=");
    fs::write(broken, text).unwrap();
    let text = said(&analyze(&["verify", "--man=no"], &[broken]));
    assert!(text.contains("WatchdogSecs"), "a slip would not be noticed: {text}");
}

#[test]
fn the_services_are_hardened() {
    if !support::has_all(&[SYSTEMD]) {
        return;
    }
    let (_dir, paths) = units();
    let services = paths.iter().filter(|path| path.extension().unwrap() == "service");
    for service in services {
        // Exposure from 0 to 100.
        let output = analyze(&["security", "--offline=true", "--threshold=20"], &[service]);
        assert!(output.status.success(), "{}", said(&output));
        assert!(said(&output).contains("Overall exposure level"), "{}", said(&output));
    }
}

/// A real systemd, in its own namespaces: it passes the sockets, receives READY and reloads, and restarts
/// both nodes in their full sandbox under load.
#[test]
fn systemd_restarts_both_nodes_and_their_callers_notice_nothing() {
    if !support::has_all(&[SYSTEMD, ("unshare", "util-linux"), support::CURL]) {
        return;
    }
    let room = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let path = |name: &str| room.path().join(name);
    fs::create_dir(path("units")).unwrap();
    write_units(&path("units"), Path::new("/mnt/bin"));
    fs::create_dir(path("env")).unwrap();
    for (at, line) in SETTINGS.iter().enumerate() {
        let text = format!("; a comment\n{line}\n# another");
        fs::write(path("env").join(format!("{at}.env")), text).unwrap();
    }
    let boot = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/operation/systemd/boot.sh");
    let booted = Command::new(boot).arg(room.path()).arg(programs()).output().unwrap();
    if !path("booted").exists() {
        let why = "systemd starts only as root, with namespaces and control groups";
        support::say_skipped(&format!("{why}: {}", said(&booted)));
        return;
    }
    let read = |name: &str| fs::read_to_string(path(name)).unwrap_or_default();
    let story = || format!("{}\n{}\n{}", said(&booted), read("output"), read("journal"));
    assert!(path("finished").exists(), "{}", story());
    for callers in ["from_server", "from_client"] {
        let codes = read(callers);
        assert!(codes.lines().count() >= 60, "{callers}: {codes}");
        assert!(codes.lines().all(|code| code == "200"), "{callers}: {codes}\n{}", story());
    }
    let service = |active| format!("Result=success\nNRestarts=0\nActiveState={active}\n");
    let [before, after] = ["before", "after"].map(|name| read(name).replace("\n\n", "\n"));
    assert_eq!(before, service("active").repeat(2), "{}", story());
    assert_eq!(after, service("active") + &service("inactive"), "the check has started it");
    for (at, line) in SETTINGS.iter().enumerate() {
        let environment = read(&format!("env/{at}.read"));
        let by_systemd =
            environment.split('\0').find_map(|pair| pair.strip_prefix("RP_RULES_FILE="));
        let env = Environment::default().with_config(Some(path("env").join(format!("{at}.env"))));
        let (ours, _) = ServerConfig::from_environment(&env).unwrap();
        let ours = ours.node.rules.map(|path| path.to_str().unwrap().to_owned());
        assert_eq!(
            ours.as_deref(),
            by_systemd.filter(|text| !text.is_empty()),
            "{line}: {}",
            story()
        );
    }
    assert!(read("put").contains("the file system is read-only there"), "{}", read("put"));
    let words =
        ["files: /srv/a: not changed: the file system mounted at /", "ReadWritePaths=/srv makes"];
    let is_told = |line: &str| words.iter().all(|words| line.contains(words));
    assert!(read("journal").lines().any(is_told), "{}", story());
    assert!(read("without_ipv6").starts_with("ready pipe=0.0.0.0:"), "{}", story());
    assert!(!read("broker").is_empty(), "{}", story());
    let settings = read("unit_settings");
    for line in ["RP_DRAIN_S=7", "RP_TCP_TARGETS=\"a=unix:/x y\""] {
        assert!(settings.lines().any(|found| found == line), "{line}: {settings}");
    }
    let wrong = "EnvironmentFile=/etc/restpipe/client.env: line 1 has a remark behind its value";
    assert!(read("unit_wrong").contains(wrong), "{}", read("unit_wrong"));
    assert!(read("unit_check").contains("ok      files: "), "{}", read("unit_check"));
    let as_root = read("unit_check_root");
    assert!(as_root.contains("as the unit's own user: sudo -u restpipe ... --check"), "{as_root}");
    assert!(!read("unit_check").contains("sudo -u restpipe"), "{}", read("unit_check"));
    let check = read("check");
    assert!(check.contains("systemd holds 127.0.0.1:8082 for restpipe-client.service"), "{check}");
}
