//! The units are what systemd takes, and leave a service little to break.

mod support;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

const UNITS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/systemd");

/// The units with the programs where they were built.
fn units() -> (tempfile::TempDir, Vec<PathBuf>) {
    let dir = tempfile::tempdir().unwrap();
    let programs = Path::new(env!("CARGO_BIN_EXE_rp_server_start")).parent().unwrap();
    let built = format!("{}/rp_", programs.display());
    let mut paths = Vec::new();
    for entry in fs::read_dir(UNITS).unwrap() {
        let unit = entry.unwrap().path();
        let text = fs::read_to_string(&unit).unwrap().replace("/usr/bin/rp_", &built);
        let path = dir.path().join(unit.file_name().unwrap());
        fs::write(&path, text).unwrap();
        paths.push(path);
    }
    assert_eq!(paths.len(), 5, "{paths:?}");
    (dir, paths)
}

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
    // What systemd says that is older than the unit's best line; the one before that counts then.
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
