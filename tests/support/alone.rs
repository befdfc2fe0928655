//! Tests that inspect or change their process: each runs in a process of its own.

use std::process::{Command, Stdio};

/// Names the test that the process was started for.
const ALONE: &str = "RESTPIPE_TEST_ALONE";

/// Enough for tests that open no more files than usual.
pub const USUAL_FILES: usize = 1024;

/// Returns true in a process that runs only this test, given by its path below the crate. Otherwise runs
/// the test in such a process, with this limit of open files, asserts that it passed there, and returns false.
#[track_caller]
pub fn alone(test: &str, files: usize) -> bool {
    if std::env::var(ALONE).is_ok_and(|only| only == test) {
        return true;
    }
    let script = format!("ulimit -n {files} && exec \"$0\" --exact \"$1\"");
    let child = Command::new("sh")
        .args(["-c", &script])
        .arg(std::env::current_exe().unwrap())
        .arg(test)
        .env(ALONE, test)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let output = child.wait_with_output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    let passed = output.status.success() && text.contains("test result: ok. 1 passed");
    assert!(passed, "{test} alone, with {files} files: {}\n{text}", output.status);
    false
}
