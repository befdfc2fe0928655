//! The log: one event, one line, on standard error.
//!
//! In scope: the format and the filter of lines. Not in scope: what is logged, and how it gets out
//! (`queue`).

mod queue;

use std::any::Any;
use std::backtrace::{Backtrace, BacktraceStatus};
use std::fmt::{self, Display, Write as _};
use std::io::{self, Write as _};
use std::sync::OnceLock;
use std::time::Duration;
use std::{panic, thread};

use env_logger::{Builder, Target};
use log::{Level, LevelFilter};
use serde_json::json;
use time::OffsetDateTime;

use crate::config::{Environment, LogFormat};
use crate::identity::text::is_invisible;
use queue::LogQueue;

/// How long an ending program waits for the reader of its log.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(2);

/// The log, once [`init`] has started it.
static LOG: OnceLock<Log> = OnceLock::new();

struct Log {
    format: LogFormat,
    queue: LogQueue,
}

/// Starts logging to standard error: `info` and up, with `debug` also debug lines; `RUST_LOG`
/// overrides both. A logger that is already installed stays. Panics are logged, too.
///
/// A thread of its own writes, so that whoever logs never waits for a reader. Where nobody reads, or
/// standard error cannot be written, lines are lost, and their number is logged later. Call
/// [`flush`] before the process ends; [`cli::main`](crate::run::cli::main) does.
pub fn init(env: &Environment, debug: bool, format: LogFormat) {
    init_with(env.log_filter(), debug, format);
}

/// As [`init`], with this filter in place of `RUST_LOG`.
pub fn init_with(filter: Option<&str>, debug: bool, format: LogFormat) {
    let mut builder = Builder::new();
    match filter {
        Some(filter) => builder.parse_filters(filter),
        None => builder.filter_level(if debug { LevelFilter::Debug } else { LevelFilter::Info }),
    };
    builder.format(move |out, record| out.write_all(&line(format, record.level(), record.args())));
    // Without a thread, which only a machine at its limit refuses, nothing can run anyway.
    let Ok(queue) = LogQueue::start(io::stderr(), move |lost| lost_lines(format, lost)) else {
        return;
    };
    builder.target(Target::Pipe(Box::new(queue.clone())));
    // The only error is that a logger is already installed.
    if builder.try_init().is_ok() {
        LOG.get_or_init(|| Log { format, queue: queue.clone() });
        panic::set_hook(Box::new(move |panic| {
            let thread = thread::current();
            let place = panic.location().map_or(String::new(), |place| format!(" at {place}"));
            let name = thread.name().unwrap_or("without a name");
            log::error!("thread {name} panicked{place}: {}", payload(panic.payload()));
            // Only if requested by `RUST_BACKTRACE`; then on several lines.
            let trace = Backtrace::capture();
            if format == LogFormat::Text && trace.status() == BacktraceStatus::Captured {
                queue.push(format!("{trace}\n").into_bytes());
            }
        }));
    }
}

/// Waits until the log is written, at most two seconds: where nobody reads it, the rest is lost.
pub fn flush() {
    if let Some(log) = LOG.get() {
        log.queue.flush(FLUSH_TIMEOUT);
    }
}

/// Writes why a program fails where the log goes, after everything before it: as a line of the log
/// if that is JSON, else as it is. Waits for a reader, as [`flush`] does. False if there is no log
/// yet, and the line must be printed.
pub fn log_failure(failure: &str) -> bool {
    let Some(Log { format, queue }) = LOG.get() else { return false };
    let is_object = *format == LogFormat::Json && log::log_enabled!(Level::Error);
    let text = match is_object {
        true => line(LogFormat::Json, Level::Error, failure),
        false => format!("{failure}\n").into_bytes(),
    };
    queue.push_and_flush(text, FLUSH_TIMEOUT);
    true
}

fn lost_lines(format: LogFormat, lost: u64) -> Vec<u8> {
    let words =
        "lines of the log are lost here: nobody read standard error, or it could not be written";
    line(format, Level::Warn, format_args!("{lost} {words}"))
}

/// A line of the log, of now.
fn line(format: LogFormat, level: Level, message: impl Display) -> Vec<u8> {
    let time = timestamp(OffsetDateTime::now_utc());
    match format {
        LogFormat::Text => text_line(&time, level, message),
        LogFormat::Json => json_line(&time, level, message),
    }
    .into_bytes()
}

/// As in RFC 3339: `2026-11-20T08:13:00.123Z`.
fn timestamp(at: OffsetDateTime) -> String {
    format!(
        "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}.{:03}Z",
        at.year(),
        u8::from(at.month()),
        at.day(),
        at.hour(),
        at.minute(),
        at.second(),
        at.millisecond()
    )
}

/// The message of a panic.
fn payload(payload: &(dyn Any + Send)) -> &str {
    let text = payload.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| payload.downcast_ref::<&str>().copied()).unwrap_or("no text")
}

/// `2026-11-20T08:13:00.123Z INFO  client-1: connected from 127.0.0.1`
fn text_line(time: &str, level: Level, message: impl Display) -> String {
    format!("{time} {level:<5} {}\n", one_line(message))
}

/// `{"time":"2026-11-20T08:13:00.123Z","level":"info","message":"..."}`
fn json_line(time: &str, level: Level, message: impl Display) -> String {
    let (level, message) = (level.as_str().to_ascii_lowercase(), one_line(message));
    format!("{}\n", json!({ "time": time, "level": level, "message": message }))
}

/// A text as one line that is safe on a terminal: whatever would break the line, move the cursor,
/// change the text direction or be invisible is escaped, and a long text is truncated.
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
            if is_invisible(c) {
                self.text.extend(c.escape_default());
            } else {
                self.text.push(c);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(level: Level, message: &str) -> String {
        text_line("2026-11-20T08:13:00.123Z", level, message)
    }

    #[test]
    fn a_moment_has_milliseconds() {
        let at = OffsetDateTime::from_unix_timestamp_nanos(1_795_158_476_007_999_999).unwrap();
        assert_eq!(timestamp(at), "2026-11-20T07:07:56.007Z");
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
            ("web\u{ad}1\u{e0062}", "web\\u{ad}1\\u{e0062}"),
        ] {
            assert_eq!(one_line(text), expected);
        }
        assert_eq!(line(Level::Warn, "a\nERROR b").lines().count(), 1);
    }

    #[test]
    fn a_line_of_json_is_one_object_whatever_is_in_it() {
        for text in ["web1: \"lost\" \\", "a\nb\u{1b}\u{2028}\u{202e}\u{0}", &"\n".repeat(1 << 16)]
        {
            let line = json_line("2026-11-20T08:13:00.123Z", Level::Warn, text);
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
