//! Headless Chromium, driven by its own protocol through two pipes.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::has_all;

/// A page of a node polls every two seconds, and a machine may be busy.
const PAGE_PATIENCE: Duration = Duration::from_secs(30);

/// A browser with one page.
pub struct Browser {
    child: Child,
    input: ChildStdin,
    answers: Receiver<Value>,
    session: String,
    id: u64,
    /// Errors that the page has reported.
    pub complaints: Vec<String>,
    _profile: tempfile::TempDir,
}

impl Browser {
    /// Opens a page; `None` without a browser, which is told.
    pub fn open(url: &str) -> Option<Self> {
        Self::open_with(url, "")
    }

    /// As [`Browser::open`], with names that lead to this machine, such as `MAP *.test 127.0.0.1`.
    pub fn open_with(url: &str, names: &str) -> Option<Self> {
        if !has_all(&[("chromium", "chromium")]) {
            return None;
        }
        let profile = tempfile::tempdir().unwrap();
        // It reads commands from descriptor 3 and writes answers to 4.
        let script = "exec chromium --headless --no-sandbox --disable-gpu --no-first-run \
                      --disable-dev-shm-usage --disable-extensions --disable-background-networking \
                      --disable-features=HttpsUpgrades --host-resolver-rules=\"$2\" \
                      --remote-debugging-pipe --user-data-dir=\"$1\" 3<&0 4>&1 1>/dev/null 2>&1";
        let mut child = Command::new("sh")
            .args(["-c", script, "sh"])
            .arg(profile.path())
            .arg(names)
            .env("HOME", profile.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let (input, output) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        let answers = answers(output);
        let mut browser = Self {
            child,
            input,
            answers,
            session: String::new(),
            id: 0,
            complaints: Vec::new(),
            _profile: profile,
        };
        let target = browser.call("Target.createTarget", json!({ "url": "about:blank" }));
        let attach = json!({ "targetId": target["targetId"], "flatten": true });
        let session = browser.call("Target.attachToTarget", attach);
        browser.session = session["sessionId"].as_str().unwrap().to_owned();
        for domain in ["Runtime", "Log", "Page"] {
            browser.call(&format!("{domain}.enable"), json!({}));
        }
        browser.call("Page.navigate", json!({ "url": url }));
        Some(browser)
    }

    /// Calls a method and waits for its result.
    pub fn call(&mut self, method: &str, params: Value) -> Value {
        self.id += 1;
        let mut message = json!({ "id": self.id, "method": method, "params": params });
        if !self.session.is_empty() {
            message["sessionId"] = json!(self.session);
        }
        self.input.write_all(format!("{message}\0").as_bytes()).unwrap();
        loop {
            let answer = self.answers.recv_timeout(PAGE_PATIENCE).expect(method);
            if answer["id"] == self.id {
                assert_eq!(answer["error"], Value::Null, "{method}");
                return answer["result"].clone();
            }
            match answer["method"].as_str() {
                Some("Runtime.exceptionThrown") => self.complaints.push(answer.to_string()),
                Some("Log.entryAdded") if answer["params"]["entry"]["source"] == "security" => {
                    self.complaints.push(answer.to_string());
                }
                _ => {}
            }
        }
    }

    /// The value of an expression on the page; null if it fails, for example before the page has loaded.
    pub fn value(&mut self, expression: &str) -> Value {
        let params = json!({ "expression": expression, "returnByValue": true });
        let result = self.call("Runtime.evaluate", params);
        if result["exceptionDetails"] != Value::Null {
            return Value::Null;
        }
        result["result"]["value"].clone()
    }

    /// Waits until an expression is true.
    pub fn wait(&mut self, expression: &str) {
        let until = Instant::now() + PAGE_PATIENCE;
        while self.value(expression) != true {
            let text = self.value("document.body.innerText");
            assert!(Instant::now() < until, "never {expression}: {text}");
            thread::sleep(Duration::from_millis(50));
        }
    }

    pub fn press(&mut self, key: &str, code: u32, text: &str) {
        for kind in ["keyDown", "keyUp"] {
            let params = json!({
                "type": kind, "key": key, "code": key, "windowsVirtualKeyCode": code, "text": text,
            });
            self.call("Input.dispatchKeyEvent", params);
        }
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The browser's messages, each terminated by a zero byte.
fn answers(output: ChildStdout) -> Receiver<Value> {
    let (sender, receiver) = channel();
    thread::Builder::new()
        .name("browser".to_owned())
        .spawn(move || {
            let mut output = BufReader::new(output);
            let mut message = Vec::new();
            while output.read_until(0, &mut message).is_ok_and(|count| count > 0) {
                message.pop();
                let Ok(value) = serde_json::from_slice(&message) else { return };
                if sender.send(value).is_err() {
                    return;
                }
                message.clear();
            }
        })
        .unwrap();
    receiver
}
