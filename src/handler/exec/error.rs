//! How a run can fail, and the messages, codes and statuses for it.

use std::fmt;
use std::io;

use crate::event::{CODE_EXCEPTION, Reply, RequestId, errors};
use crate::handler::Context;
use crate::process::group::Exit;
use crate::process::supervisor::EndReason;

/// The largest exit code that is passed on as the event's return code; larger ones have special
/// meanings there.
const MAX_CODE: i32 = 249;
/// Maximum number of characters of standard error in a log line.
const MAX_LOGGED: usize = 200;

/// Why a script has no complete reply.
#[derive(Debug, thiserror::Error)]
pub(super) enum ScriptError {
    /// It could not be started.
    #[error("it cannot be run: {}", why_not_started(.0))]
    Start(io::Error),
    /// It exited with a code other than 0.
    #[error("exit code {0}{note}", note = note_of_code(.0))]
    ExitCode(i32),
    /// It was killed by a signal.
    #[error("ended by signal {0}{name}", name = signal_name(.0))]
    Signal(i32),
    /// Its deadline passed.
    #[error("it took too long and was ended")]
    Timeout,
    /// It exited successfully, but its deadline passed.
    #[error("it ended, but a process it left behind held its output until the timeout")]
    LeftBehind,
    /// The event's body was cut short, for this reason.
    #[error("its input was cut short, and it was ended: {0}")]
    Input(String),
    /// The caller disconnected.
    #[error("nobody waits for its answer, and it was ended")]
    Unwanted,
    /// The node is stopping.
    #[error("the node stops, and it was ended")]
    Stopping,
    /// Its headers are invalid, for this reason.
    #[error("{0}")]
    Head(String),
    /// It wrote more or less than its `Content-Length`.
    #[error("it did not write as many bytes as its Content-Length says")]
    Length,
    /// I/O on one of its pipes failed.
    #[error("a pipe to it failed: {0}")]
    Pipe(io::Error),
}

impl ScriptError {
    /// It exited unsuccessfully on its own.
    pub fn exited(exit: Exit) -> Self {
        match exit {
            Exit::Code(code) => Self::ExitCode(code),
            Exit::Signal(signal) => Self::Signal(signal),
        }
    }

    /// It was terminated; `exit` is how it had exited before, if it had.
    pub fn ended(reason: EndReason, exit: Option<Exit>) -> Self {
        match reason {
            EndReason::Timeout if exit.is_some() => Self::LeftBehind,
            EndReason::Timeout => Self::Timeout,
            EndReason::InputFailed(why) => Self::Input(why),
            EndReason::Unwanted => Self::Unwanted,
            EndReason::Stopping => Self::Stopping,
        }
    }

    /// The reply, if none has been started; `stderr` is the end of the script's standard error.
    pub fn reply(&self, stderr: &str) -> Reply {
        let message =
            if stderr.is_empty() { self.to_string() } else { format!("{self}: {stderr}") };
        let (code, status) = match self {
            Self::ExitCode(code @ 1..=MAX_CODE) => (code.unsigned_abs(), errors::EXCEPTION.status),
            Self::Timeout | Self::LeftBehind => (CODE_EXCEPTION, errors::SCRIPT_TIMEOUT.status),
            Self::Stopping => (CODE_EXCEPTION, errors::BUSY.status),
            _ => (CODE_EXCEPTION, errors::EXCEPTION.status),
        };
        Reply::exception(self.class(), &message, "").with_code(code).with_status(status)
    }

    /// The message for the log: a single line.
    pub fn log_line(&self, stderr: &str) -> String {
        let what = self.to_string();
        let what = what.escape_debug();
        if stderr.is_empty() { what.to_string() } else { format!("{what}: {}", last_line(stderr)) }
    }

    const fn class(&self) -> &'static str {
        match self {
            Self::Start(_) => "Start",
            Self::ExitCode(_) => "ExitCode",
            Self::Signal(_) => "Signal",
            Self::Timeout | Self::LeftBehind => "Timeout",
            Self::Input(_) => "Body",
            Self::Unwanted => "Unwanted",
            Self::Stopping => "Stopping",
            Self::Head(_) | Self::Length => "Head",
            Self::Pipe(_) => "Pipe",
        }
    }
}

fn why_not_started(error: &io::Error) -> String {
    match error.raw_os_error() {
        Some(libc::ENOEXEC) => "it is no program, and has no #! line".to_owned(),
        Some(libc::ENOENT) => format!("{error}; is the interpreter of its #! line there?"),
        _ => error.to_string(),
    }
}

fn note_of_code(code: &i32) -> String {
    match *code {
        ..=MAX_CODE => String::new(),
        _ => format!(" (codes over {MAX_CODE} are not passed on)"),
    }
}

/// Identifies a run of a script at the start of log lines.
pub(super) struct LogContext {
    peer: String,
    script: String,
    request_id: RequestId,
}

impl LogContext {
    pub fn new(context: &Context, script: &str) -> Self {
        let peer = context.peer.name.clone();
        Self { peer, script: script.to_owned(), request_id: context.request_id }
    }
}

/// The script's name needs no escaping.
impl fmt::Display for LogContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: script {} (request {})", self.peer, self.script, self.request_id)
    }
}

/// The last line of a script's standard error, escaped and truncated.
pub(super) fn last_line(stderr: &str) -> String {
    let line = stderr.lines().next_back().unwrap_or_default();
    line.escape_debug().take(MAX_LOGGED).collect()
}

/// The name in parentheses, for signals that terminate programs.
const fn signal_name(signal: &i32) -> &'static str {
    match *signal {
        libc::SIGHUP => " (SIGHUP)",
        libc::SIGINT => " (SIGINT)",
        libc::SIGQUIT => " (SIGQUIT)",
        libc::SIGILL => " (SIGILL)",
        libc::SIGTRAP => " (SIGTRAP)",
        libc::SIGABRT => " (SIGABRT)",
        libc::SIGBUS => " (SIGBUS)",
        libc::SIGFPE => " (SIGFPE)",
        libc::SIGKILL => " (SIGKILL)",
        libc::SIGUSR1 => " (SIGUSR1)",
        libc::SIGSEGV => " (SIGSEGV)",
        libc::SIGUSR2 => " (SIGUSR2)",
        libc::SIGPIPE => " (SIGPIPE)",
        libc::SIGALRM => " (SIGALRM)",
        libc::SIGTERM => " (SIGTERM)",
        libc::SIGXCPU => " (SIGXCPU)",
        libc::SIGXFSZ => " (SIGXFSZ)",
        libc::SIGSYS => " (SIGSYS)",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(error: &ScriptError) -> (u32, Option<u16>, String) {
        let reply = error.reply("oh\nno");
        let body: serde_json::Value = serde_json::from_slice(reply.body.whole().unwrap()).unwrap();
        assert_eq!(body["error"], "exception");
        assert_eq!(body["exception"]["message"], body["message"]);
        (reply.code, reply.status, body["message"].as_str().unwrap().to_owned())
    }

    #[test]
    fn exit_codes_are_passed_on_where_they_mean_nothing_else() {
        for code in 1..=255_i32 {
            let expected = if code < 250 { code.unsigned_abs() } else { CODE_EXCEPTION };
            let (passed, status, message) = outcome(&ScriptError::exited(Exit::Code(code)));
            assert_eq!((passed, status), (expected, Some(500)), "{code}");
            assert!(message.starts_with(&format!("exit code {code}")), "{message}");
            assert!(message.ends_with(": oh\nno"), "{message}");
        }
    }

    #[test]
    fn deaths_have_names() {
        let (code, status, message) = outcome(&ScriptError::exited(Exit::Signal(libc::SIGSEGV)));
        assert_eq!((code, status), (CODE_EXCEPTION, Some(500)));
        assert_eq!(message, "ended by signal 11 (SIGSEGV): oh\nno");
        let (code, status, _) = outcome(&ScriptError::ended(EndReason::Timeout, None));
        assert_eq!((code, status), (CODE_EXCEPTION, Some(504)));
    }

    #[test]
    fn a_log_line_is_one_line() {
        let error = ScriptError::Input("a\nb".to_owned());
        let stderr = format!("first\n\u{1b}[31m{}\r", "x".repeat(10_000));
        let line = error.log_line(&stderr);
        assert!(line.len() < 400 && !line.contains(char::is_control), "{line}");
        assert!(line.contains("a\\nb") && line.contains("\\u{1b}[31mxxx"), "{line}");
    }
}
