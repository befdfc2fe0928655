//! The log: one event, one line, on standard error.
//!
//! In scope: the format and the filter of lines. Not in scope: what is logged.

use std::any::Any;
use std::backtrace::{Backtrace, BacktraceStatus};
use std::fmt::{self, Display, Write as _};
use std::io::{self, Write as _};
use std::sync::OnceLock;
use std::{panic, thread};

use env_logger::{Builder, Target};
use log::{Level, LevelFilter};
use serde_json::json;

use crate::config::{Environment, LogFormat};

/// The format of the log, once [`init`] has set it.
static FORMAT: OnceLock<LogFormat> = OnceLock::new();

/// Starts logging to standard error: `info` and up, with `debug` also debug lines; `RUST_LOG`
/// overrides both. A logger that is already installed stays. Panics are logged, too.
///
/// If standard error is closed or full the line is lost; the process continues.
pub fn init(env: &Environment, debug: bool, format: LogFormat) {
    let mut builder = Builder::new();
    match env.log_filter() {
        Some(filter) => builder.parse_filters(filter),
        None => builder.filter_level(if debug { LevelFilter::Debug } else { LevelFilter::Info }),
    };
    builder.target(Target::Stderr).format(move |out, record| {
        let time = out.timestamp_millis();
        match format {
            LogFormat::Text => write_line(out, time, record.level(), record.args()),
            LogFormat::Json => write_json(out, time, record.level(), record.args()),
        }
    });
    // The only error is that a logger is already installed.
    if builder.try_init().is_ok() {
        FORMAT.get_or_init(|| format);
        panic::set_hook(Box::new(move |panic| {
            let thread = thread::current();
            let place = panic.location().map_or(String::new(), |place| format!(" at {place}"));
            let name = thread.name().unwrap_or("without a name");
            log::error!("thread {name} panicked{place}: {}", payload(panic.payload()));
            // Only if requested by `RUST_BACKTRACE`; then on several lines.
            let trace = Backtrace::capture();
            if format == LogFormat::Text && trace.status() == BacktraceStatus::Captured {
                let _ = writeln!(io::stderr().lock(), "{trace}");
            }
        }));
    }
}

/// Logs why a program fails, if the log is JSON. False if it is not, and the line must be printed.
pub fn log_failure(line: &str) -> bool {
    let is_read = FORMAT.get() == Some(&LogFormat::Json) && log::log_enabled!(Level::Error);
    if is_read {
        log::error!("{line}");
    }
    is_read
}

/// The message of a panic.
fn payload(payload: &(dyn Any + Send)) -> &str {
    let text = payload.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| payload.downcast_ref::<&str>().copied()).unwrap_or("no text")
}

/// Writes `2026-11-20T08:13:00.123Z INFO  client-1: connected from 127.0.0.1`.
fn write_line(
    out: &mut impl io::Write,
    time: impl Display,
    level: Level,
    message: impl Display,
) -> io::Result<()> {
    writeln!(out, "{time} {level:<5} {}", one_line(message))
}

/// Writes `{"time":"2026-11-20T08:13:00.123Z","level":"info","message":"..."}`.
fn write_json(
    out: &mut impl io::Write,
    time: impl Display,
    level: Level,
    message: impl Display,
) -> io::Result<()> {
    let level = level.as_str().to_ascii_lowercase();
    let (time, message) = (time.to_string(), one_line(message));
    writeln!(out, "{}", json!({ "time": time, "level": level, "message": message }))
}

/// A text as one line that is safe on a terminal: whatever would break the line, move the cursor or
/// change the text direction is escaped, and a long text is truncated.
pub fn one_line(text: impl Display) -> String {
    let mut line = OneLine { text: String::new(), is_cut: false };
    // An error is either our own, at the limit, or that of a `Display` implementation.
    let _ = write!(line, "{text}");
    if line.is_cut {
        line.text.push_str("... (cut)");
    }
    line.text
}

/// Takes text up to a limit, then fails the write.
struct OneLine {
    text: String,
    is_cut: bool,
}

impl OneLine {
    /// A page of a terminal; a message may contain unbounded text from a peer.
    const MAX_BYTES: usize = 4096;
}

impl fmt::Write for OneLine {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for c in text.chars() {
            if self.text.len() >= Self::MAX_BYTES {
                self.is_cut = true;
                return Err(fmt::Error);
            }
            if is_unsafe_to_show(c) {
                self.text.extend(c.escape_default());
            } else {
                self.text.push(c);
            }
        }
        Ok(())
    }
}

fn is_unsafe_to_show(c: char) -> bool {
    // Line and paragraph separator; marks, embeddings, overrides and isolates of direction (UAX 9).
    let breaks_or_turns = matches!(c, '\u{2028}' | '\u{2029}' | '\u{61c}' | '\u{200e}' | '\u{200f}'
        | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    c.is_control() || breaks_or_turns
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(level: Level, message: &str) -> String {
        let mut out = Vec::new();
        write_line(&mut out, "2026-11-20T08:13:00.123Z", level, message).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_line_has_time_level_and_message() {
        for (level, expected) in [
            (Level::Info, "2026-11-20T08:13:00.123Z INFO  client-1: connected from 127.0.0.1\n"),
            (Level::Error, "2026-11-20T08:13:00.123Z ERROR client-1: connected from 127.0.0.1\n"),
        ] {
            assert_eq!(line(level, "client-1: connected from 127.0.0.1"), expected);
        }
    }

    #[test]
    fn whatever_would_break_the_line_is_escaped() {
        for (text, expected) in [
            ("plain text, \"quotes\" and \\", "plain text, \"quotes\" and \\"),
            ("größer 日本 🚲", "größer 日本 🚲"),
            ("a\nb\r\n\tc", "a\\nb\\r\\n\\tc"),
            ("\u{1b}[2J\0\u{7f}\u{85}\u{9b}", "\\u{1b}[2J\\u{0}\\u{7f}\\u{85}\\u{9b}"),
            ("a\u{2028}b\u{2029}\u{202e}c", "a\\u{2028}b\\u{2029}\\u{202e}c"),
        ] {
            assert_eq!(one_line(text), expected);
        }
        assert_eq!(line(Level::Warn, "a\nERROR b").lines().count(), 1);
    }

    #[test]
    fn a_line_of_json_is_one_object_whatever_is_in_it() {
        for text in ["web1: \"lost\" \\", "a\nb\u{1b}\u{2028}\u{202e}\u{0}", &"\n".repeat(1 << 16)]
        {
            let mut out = Vec::new();
            write_json(&mut out, "2026-11-20T08:13:00.123Z", Level::Warn, text).unwrap();
            let line = String::from_utf8(out).unwrap();
            assert_eq!(line.lines().count(), 1);
            let value: serde_json::Value = serde_json::from_str(&line).unwrap();
            assert_eq!(value["time"], "2026-11-20T08:13:00.123Z");
            assert_eq!(
                (&value["level"], &value["message"]),
                (&"warn".into(), &one_line(text).into())
            );
        }
    }

    /// Set for the child process.
    const IS_CHILD: &str = "LOGGING_TEST_CHILD";

    #[test]
    fn a_panic_is_one_line_of_the_log() {
        let output = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "run::logging::tests::child_panics", "--ignored", "--nocapture"])
            .env(IS_CHILD, "1")
            .env_remove("RUST_LOG")
            .env("RUST_BACKTRACE", "1")
            .output()
            .unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        let lines: Vec<serde_json::Value> =
            said.lines().map(|line| serde_json::from_str(line).expect(line)).collect();
        assert_eq!(lines.len(), 2, "{said}");
        let message = lines[0]["message"].as_str().unwrap();
        assert!(message.starts_with("thread worker panicked at src/run/logging.rs:"), "{message}");
        assert!(message.ends_with(": a\\nERROR forged \\u{1b}[2J"), "{message}");
        assert_eq!((&lines[1]["level"], &lines[1]["message"]), (&"error".into(), &"x: no".into()));
    }

    #[test]
    #[ignore = "run in a process of its own"]
    fn child_panics() {
        if std::env::var_os(IS_CHILD).is_some() {
            assert!(!log_failure("too early"));
            init(&Environment::default(), false, LogFormat::Json);
            let worker = thread::Builder::new().name("worker".to_owned());
            let text = "a\nERROR forged \u{1b}[2J".to_owned();
            assert!(worker.spawn(move || panic!("{text}")).unwrap().join().is_err());
            assert!(log_failure("x: no"));
            std::process::exit(0);
        }
    }

    #[test]
    fn a_long_text_is_cut() {
        assert_eq!(one_line("x".repeat(4096)), "x".repeat(4096));
        let shown = one_line("\n".repeat(1 << 20));
        assert!(shown.len() < 4096 + 20 && shown.ends_with("\\n... (cut)"), "{}", shown.len());
    }

    #[test]
    fn a_text_that_cannot_be_written_out_is_no_panic() {
        struct Half;
        impl Display for Half {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("half")?;
                Err(fmt::Error)
            }
        }
        assert_eq!(one_line(Half), "half");
    }
}
