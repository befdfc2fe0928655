//! Scripts that answer events: `GET time/utc` runs `DIR/get_time_utc`.
//!
//! In scope: which script handles an event, its inputs, and the reply made from its output and exit
//! code. Not in scope: access control; the rules are checked before.
//!
//! A run costs one process and, if the event's body is streamed, one thread. The requesting thread
//! does everything else: it polls the script's pipes and its exit.

mod body_proof;
mod error;
mod feed;
mod head;
mod opening;
mod output;
mod run;
mod scripts;
mod variables;

use std::path::Path;
use std::time::{Duration, Instant};

use super::{Context, Failure, Handler, verbs_where};
use crate::event::{Body, Event, Reply, errors};
use crate::process::supervisor::Supervisor;
use crate::sync::shares::{Places, Shares};
use error::{LogContext, ScriptError};
use opening::Opening;
use output::ScriptOutput;
use run::{Call, Run};
use scripts::Scripts;

/// Maximum number of concurrent scripts, including those being terminated.
const MAX_SCRIPTS: usize = 128;
/// Maximum number of those for one peer; fewer where peers share them.
const MAX_SCRIPTS_OF_PEER: usize = 64;

/// Runs the scripts of a folder. The guide's page about scripts describes their inputs and output
/// in full; in short:
///
/// - The script's name is the event's method name; it must be a regular executable file directly in
///   the folder.
/// - The parameters are its arguments, the body its standard input, and [`Exec::VARIABLES`] and the
///   query's fields its environment. `RP_BODY_END` names a file that proves that the body was whole.
/// - Its output is the reply's body, after optional CGI headers.
/// - Its exit code is the reply's: 0 is success, 1 to 249 give status 500 with the end of its
///   standard error; every other failure gives code 251.
pub struct Exec {
    scripts: Scripts,
    supervisor: Supervisor,
    timeout: Duration,
}

impl Exec {
    /// The variables in a script's environment besides `PATH` and the query's fields, which are
    /// named `RP_QUERY_` plus the field's name.
    pub const VARIABLES: [&str; 8] = variables::NAMES;

    /// Serves the scripts in `dir`, each of which may run for `timeout`.
    ///
    /// Fails with a one-line message unless `dir` is the absolute path of an existing directory
    /// that is not world-writable.
    pub fn new(dir: &Path, timeout: Duration) -> Result<Self, String> {
        let scripts = Scripts::open(dir)?;
        let supervisor = Supervisor::start(
            "exec-keeper",
            Shares::new(Places::new(MAX_SCRIPTS, MAX_SCRIPTS_OF_PEER)),
        )
        .map_err(|error| format!("cannot start the thread that ends scripts: {error}"))?;
        Ok(Self { scripts, supervisor, timeout })
    }

    fn run(&self, context: &Context, event: &mut Event, name: &str, path: &Path) -> Reply {
        let variables = match variables::of(context, event) {
            Ok(variables) => variables,
            Err(what) => return cannot_be_passed(&what),
        };
        let arguments = event.target.parameters();
        if let Some(at) = arguments.iter().position(|argument| argument.contains('\0')) {
            return cannot_be_passed(&format!("parameter {}", at + 1));
        }
        let Some(place) = self.supervisor.place(&context.peer.name) else {
            return Reply::busy("too many scripts are running");
        };
        let log_context = LogContext::new(context, name);
        let call = Call {
            path,
            dir: self.scripts.dir(),
            arguments,
            variables: &variables,
            deadline: Instant::now() + self.timeout,
        };
        let mut run = match Run::start(&call, event.body.take_out(), &self.supervisor, place) {
            Ok(run) => run,
            Err(error) => return failed(&log_context, context, &ScriptError::Start(error), ""),
        };
        match opening::open(&mut run, || context.is_cancelled()) {
            Ok(opening) => reply(opening, run, log_context),
            Err(error) => failed(&log_context, context, &error, &run.stderr_tail()),
        }
    }
}

impl Handler for Exec {
    fn handle(&self, context: &Context, event: &mut Event) -> Result<Reply, Failure> {
        let name = event.method_name();
        if let Some(path) = self.scripts.find(&name) {
            return Ok(self.run(context, event, &name, &path));
        }
        let allowed = verbs_where(|verb| self.scripts.find(&event.method_name_for(verb)).is_some());
        Err(if allowed.is_empty() { Failure::Unhandled } else { Failure::WrongVerb(allowed) })
    }

    fn stop(&self) {
        self.supervisor.stop();
    }
}

/// The reply for a script that has started to answer or has already finished.
fn reply(opening: Opening, run: Run, log_context: LogContext) -> Reply {
    let Opening { head, bytes, ended } = opening;
    let body = if ended {
        let stderr = run.stderr_tail();
        if !stderr.is_empty() {
            log::debug!("{log_context}: standard error: {}", error::last_line(&stderr));
        }
        Body::from(bytes)
    } else {
        let length = head.length;
        Body::from_source(ScriptOutput::new(bytes, run, length, log_context), length)
    };
    let mut reply = Reply::new(head.media_type, body);
    reply.status = head.status;
    reply.headers = head.headers;
    reply
}

/// Logs a script that failed before it started to answer, and builds the reply.
fn failed(log_context: &LogContext, context: &Context, error: &ScriptError, stderr: &str) -> Reply {
    // A failure is not worth a warning if the reply is no longer awaited.
    let level = if context.is_cancelled() { log::Level::Debug } else { log::Level::Warn };
    log::log!(level, "{log_context}: {}", error.log_line(stderr));
    error.reply(stderr)
}

/// No argument or variable can contain a NUL, so the request names something that does not exist.
fn cannot_be_passed(what: &str) -> Reply {
    Reply::exception("Request", &format!("{what} contains a NUL character"), "")
        .with_status(errors::NOT_PASSABLE.status)
}
