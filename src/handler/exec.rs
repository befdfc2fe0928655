//! Scripts that answer events: `GET time/utc` runs `DIR/get_time_utc`.
//!
//! In scope: which script an event runs, what it is given, and the reply that its output and exit
//! code make. Not in scope: who may ask; the rules decide that before.
//!
//! A run costs one process and, where the event's body arrives as a stream, one thread. All else
//! happens on the thread that asks: it polls the script's pipes, and its end.

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
use error::{LogContext, ScriptError};
use opening::Opening;
use output::ScriptOutput;
use run::{Call, Run};
use scripts::Scripts;

/// Most scripts at once, with those that are being ended.
const MAX_SCRIPTS: usize = 64;

/// Runs the scripts of a folder. The guide's page about scripts says all that they get and may answer;
/// in short:
///
/// - The event's method name is the script's: a regular executable file directly in the folder.
/// - The parameters are its arguments, the body its standard input, and [`Exec::VARIABLES`] and the
///   fields of the query its environment.
/// - What it writes is the reply's body, after CGI headers where it begins with some.
/// - Its exit code is the reply's: 0 is fine, 1 to 249 are 500 with the end of its standard error;
///   everything else is code 251.
pub struct Exec {
    scripts: Scripts,
    supervisor: Supervisor,
    timeout: Duration,
}

impl Exec {
    /// What a script finds in its environment beside `PATH`, and beside the fields of the query, which
    /// are called `RP_QUERY_` and their name.
    pub const VARIABLES: [&str; 6] = variables::NAMES;

    /// The scripts of this folder, each of which may run for `timeout`.
    ///
    /// The error is one line. The folder has to be the absolute path of a directory that is there, and
    /// that not everybody may write to.
    pub fn new(dir: &Path, timeout: Duration) -> Result<Self, String> {
        let scripts = Scripts::open(dir)?;
        let supervisor = Supervisor::start("exec-keeper", MAX_SCRIPTS)
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
        let Some(permit) = self.supervisor.permit() else {
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
        let mut run = match Run::start(&call, event.body.take_out(), &self.supervisor, permit) {
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

/// The reply of a script that has begun to answer, or is done already.
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

/// The reply for a script that failed before it had begun to answer; one log line says it too.
fn failed(log_context: &LogContext, context: &Context, error: &ScriptError, stderr: &str) -> Reply {
    // The end of a script that nobody waits for is no news.
    let level = if context.is_cancelled() { log::Level::Debug } else { log::Level::Warn };
    log::log!(level, "{log_context}: {}", error.log_line(stderr));
    error.reply(stderr)
}

/// No argument and no variable can hold a NUL: the caller asks for something that does not exist.
fn cannot_be_passed(what: &str) -> Reply {
    Reply::exception("Request", &format!("{what} contains a NUL character"), "")
        .with_status(errors::NOT_PASSABLE.status)
}
