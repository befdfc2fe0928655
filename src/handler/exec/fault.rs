//! How a run can fail, in words, codes and statuses.

use std::fmt;
use std::io;

use super::group::{Exit, Why};
use crate::event::{CODE_EXCEPTION, Reply, RequestId};
use crate::handler::Context;

/// The largest exit code that is passed on as the event's return code: those above have meanings of
/// their own there.
const MAX_CODE: i32 = 249;
/// Most characters of standard error in a log line.
const MAX_LINE: usize = 200;

/// Why a script has no whole answer.
#[derive(Debug)]
pub(super) enum Fault {
    /// It could not be started.
    Start(io::Error),
    /// It ended with another exit code than 0, or by a signal.
    Exit(Exit),
    /// It was ended, and whether it had itself ended well before.
    Ended(Why, Option<Exit>),
    /// The caller went away.
    Unwanted,
    /// Its headers cannot be used, and why.
    Head(String),
    /// It wrote more or less than its `Content-Length`.
    Length,
    /// A pipe to it failed.
    Pipe(io::Error),
}

impl Fault {
    /// The reply where none has begun; `said` is the end of the script's standard error.
    pub fn reply(&self, said: &str) -> Reply {
        let message = if said.is_empty() { self.to_string() } else { format!("{self}: {said}") };
        let (code, status) = match self {
            Self::Exit(Exit::Code(code @ 1..=MAX_CODE)) => (code.unsigned_abs(), 500),
            Self::Ended(Why::Timeout, _) => (CODE_EXCEPTION, 504),
            Self::Ended(Why::Stopping, _) => (CODE_EXCEPTION, 503),
            _ => (CODE_EXCEPTION, 500),
        };
        Reply::exception(self.class(), &message, "").with_code(code).with_status(status)
    }

    /// What a log says of it: a single line.
    pub fn log_line(&self, said: &str) -> String {
        let what = self.to_string();
        let what = what.escape_debug();
        if said.is_empty() { what.to_string() } else { format!("{what}: {}", last_line(said)) }
    }

    const fn class(&self) -> &'static str {
        match self {
            Self::Start(_) => "Start",
            Self::Exit(Exit::Code(_)) => "ExitCode",
            Self::Exit(Exit::Signal(_)) => "Signal",
            Self::Ended(Why::Timeout, _) => "Timeout",
            Self::Ended(Why::Upload(_), _) => "Body",
            Self::Ended(Why::Unwanted, _) | Self::Unwanted => "Unwanted",
            Self::Ended(Why::Stopping, _) => "Stopping",
            Self::Head(_) | Self::Length => "Head",
            Self::Pipe(_) => "Pipe",
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Start(error) => match error.raw_os_error() {
                Some(libc::ENOEXEC) => {
                    write!(f, "it cannot be run: it is no program, and has no #! line")
                }
                Some(libc::ENOENT) => {
                    write!(f, "it cannot be run: {error}; is the interpreter of its #! line there?")
                }
                _ => write!(f, "it cannot be run: {error}"),
            },
            Self::Exit(Exit::Code(code)) if *code > MAX_CODE => {
                write!(f, "exit code {code} (codes over {MAX_CODE} are not passed on)")
            }
            Self::Exit(Exit::Code(code)) => write!(f, "exit code {code}"),
            Self::Exit(Exit::Signal(signal)) => match signal_name(*signal) {
                Some(name) => write!(f, "ended by signal {signal} ({name})"),
                None => write!(f, "ended by signal {signal}"),
            },
            Self::Ended(Why::Timeout, Some(_)) => {
                write!(
                    f,
                    "it ended, but a process it left behind held its output until the timeout"
                )
            }
            Self::Ended(Why::Timeout, None) => write!(f, "it took too long and was ended"),
            Self::Ended(Why::Upload(error), _) => {
                write!(f, "its input was cut short, and it was ended: {error}")
            }
            Self::Ended(Why::Unwanted, _) | Self::Unwanted => {
                write!(f, "nobody waits for its answer any more, and it was ended")
            }
            Self::Ended(Why::Stopping, _) => write!(f, "the node stops, and it was ended"),
            Self::Head(why) => write!(f, "{why}"),
            Self::Length => write!(f, "it did not write as many bytes as its Content-Length says"),
            Self::Pipe(error) => write!(f, "a pipe to it failed: {error}"),
        }
    }
}

/// Whose run it is, as log lines begin.
pub(super) struct Origin {
    peer: String,
    script: String,
    request_id: RequestId,
}

impl Origin {
    /// A run of this script.
    pub fn new(context: &Context, script: &str) -> Self {
        let peer = context.peer.name.clone();
        Self { peer, script: script.to_owned(), request_id: context.request_id }
    }
}

/// The script's name is a safe one.
impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: script {} (request {})", self.peer, self.script, self.request_id)
    }
}

/// The last line of what a script said, escaped and not too long.
pub(super) fn last_line(said: &str) -> String {
    let line = said.lines().next_back().unwrap_or_default();
    line.escape_debug().take(MAX_LINE).collect()
}

/// The signals that end programs.
const fn signal_name(signal: i32) -> Option<&'static str> {
    Some(match signal {
        libc::SIGHUP => "SIGHUP",
        libc::SIGINT => "SIGINT",
        libc::SIGQUIT => "SIGQUIT",
        libc::SIGILL => "SIGILL",
        libc::SIGTRAP => "SIGTRAP",
        libc::SIGABRT => "SIGABRT",
        libc::SIGBUS => "SIGBUS",
        libc::SIGFPE => "SIGFPE",
        libc::SIGKILL => "SIGKILL",
        libc::SIGUSR1 => "SIGUSR1",
        libc::SIGSEGV => "SIGSEGV",
        libc::SIGUSR2 => "SIGUSR2",
        libc::SIGPIPE => "SIGPIPE",
        libc::SIGALRM => "SIGALRM",
        libc::SIGTERM => "SIGTERM",
        libc::SIGXCPU => "SIGXCPU",
        libc::SIGXFSZ => "SIGXFSZ",
        libc::SIGSYS => "SIGSYS",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(fault: &Fault) -> (u32, Option<u16>, String) {
        let reply = fault.reply("oh\nno");
        let body: serde_json::Value = serde_json::from_slice(reply.body.whole().unwrap()).unwrap();
        assert_eq!(body["error"], "exception");
        assert_eq!(body["exception"]["message"], body["message"]);
        (reply.code, reply.status, body["message"].as_str().unwrap().to_owned())
    }

    #[test]
    fn exit_codes_are_passed_on_where_they_mean_nothing_else() {
        for code in 1..=255_i32 {
            let expected = if code < 250 { code.unsigned_abs() } else { CODE_EXCEPTION };
            let (passed, status, message) = outcome(&Fault::Exit(Exit::Code(code)));
            assert_eq!((passed, status), (expected, Some(500)), "{code}");
            assert!(message.starts_with(&format!("exit code {code}")), "{message}");
            assert!(message.ends_with(": oh\nno"), "{message}");
        }
    }

    #[test]
    fn deaths_have_names() {
        let (code, status, message) = outcome(&Fault::Exit(Exit::Signal(libc::SIGSEGV)));
        assert_eq!((code, status), (CODE_EXCEPTION, Some(500)));
        assert_eq!(message, "ended by signal 11 (SIGSEGV): oh\nno");
        let (code, status, _) = outcome(&Fault::Ended(Why::Timeout, None));
        assert_eq!((code, status), (CODE_EXCEPTION, Some(504)));
    }

    #[test]
    fn a_log_line_is_one_line() {
        let fault = Fault::Ended(Why::Upload("a\nb".to_owned()), None);
        let said = format!("first\n\u{1b}[31m{}\r", "x".repeat(10_000));
        let line = fault.log_line(&said);
        assert!(line.len() < 400 && !line.contains(char::is_control), "{line}");
        assert!(line.contains("a\\nb") && line.contains("\\u{1b}[31mxxx"), "{line}");
    }
}
