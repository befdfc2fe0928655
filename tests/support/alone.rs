//! Tests that look at, or change, the process in which they run: each gets one of its own.

use std::process::{Command, Stdio};

/// Names the test for which a process was started.
const ALONE: &str = "RESTPIPE_TEST_ALONE";

/// Room for tests that open no more than usual.
pub const USUAL_FILES: usize = 1024;

/// Whether nothing but this test, known by its path below the crate, runs in this process. If not, the test
/// has now run in a process of its own that may have this many files open, and has passed there.
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
