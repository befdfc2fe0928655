//! `rp_ca` as a process.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

/// Runs `rp_ca` in `dir`.
pub fn rp_ca(dir: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_rp_ca")).args(arguments).current_dir(dir).output().unwrap()
}

/// Standard output of a run that must succeed.
#[track_caller]
pub fn made(dir: &Path, arguments: &[&str]) -> String {
    let output = rp_ca(dir, arguments);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(output.stderr.is_empty());
    String::from_utf8(output.stdout).unwrap()
}

/// The one line on standard error of a run that must fail with `code`.
#[track_caller]
pub fn refused(dir: &Path, code: i32, arguments: &[&str]) -> String {
    let output = rp_ca(dir, arguments);
    let line = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(code), "{arguments:?}: {line}");
    assert!(line.starts_with("rp_ca: ") && line.lines().count() == 1, "{line}");
    assert!(output.stdout.is_empty());
    line
}

/// All files of a directory with their content.
pub fn content(dir: &Path) -> Vec<(String, Vec<u8>)> {
    let mut content: Vec<_> = fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.is_file() && !path.ends_with(".lock"))
        .map(|path| (path.display().to_string(), fs::read(&path).unwrap()))
        .collect();
    content.sort();
    content
}
