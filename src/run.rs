//! Whole programs: environment in, exit code out.
//!
//! `rp_server_start`, `rp_client_start` and the two programs that install an identity only call
//! this module. A node with its own handlers needs one more line:
//!
//! ```no_run
//! use std::process::ExitCode;
//!
//! use restpipe::handler::Router;
//! use restpipe::run::{self, Handlers};
//! use serde_json::json;
//!
//! fn main() -> ExitCode {
//!     let jobs = Router::new()
//!         .on("get_job", |_, event| {
//!             let number: u32 = event.target.parameters().join("").parse()?;
//!             Ok(json!({ "job": number, "state": "done" }))
//!         })
//!         .on("post_job", |context, event| {
//!             let job = event.json()?;
//!             Ok(json!({ "accepted": job, "for": context.peer.name }))
//!         });
//!     run::client("job_runner", Handlers::new().with("jobs", jobs))
//! }
//! ```

mod check;
mod check_rule;
pub mod cli;
mod handlers;
mod holder;
pub mod logging;
mod set_identity;
pub mod signals;
mod sleeping;
mod systemctl;
mod systemd;
mod task;
mod tcp;
mod unit;

use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, never, select, tick};

use cli::{CliFailure, Program};
pub use handlers::Handlers;
pub use holder::bind_failure;
pub use set_identity::{client_set_identity, server_set_identity};
use signals::Signals;
use systemd::Notifier;
use task::Task;
pub use tcp::tcp;

use crate::config::{Bind, ClientConfig, Environment, NodeConfig, Reader, ServerConfig, Warning};
use crate::handler::Role;
use crate::lifecycle::ConnectionEvent;
use crate::node::{Client, Handed, Server, StartError};
use crate::process::orphans;

/// How long reloading the files may take, so that signals are received in time.
const RELOAD_TIMEOUT: Duration = Duration::from_secs(10);

/// Runs a server until SIGTERM or SIGINT: the complete `main` of a program with this name.
pub fn server(name: &'static str, handlers: Handlers) -> ExitCode {
    let program = Program {
        name,
        about: "Runs a RestPipe server in the foreground: clients dial it, and local programs ask \
                them\nby HTTP. SIGTERM or SIGINT finishes what is in flight and ends it;\n\
                SIGHUP reads the files of identity and rules anew.",
        usage: task::USAGE,
        arguments: task::ARGUMENTS,
        examples: "BIND_PORT=4000 {name}\n\
                   curl http://127.0.0.1:8081/client/CLIENT-NAME/time",
        reads: Some(Reader::ServerStart),
    };
    cli::main(
        &program,
        |arguments| Task::parse(arguments, Reader::ServerStart),
        |(task, source)| match (task, source.environment()?) {
            (Task::Check, env) => check::server(&handlers, &env, &source),
            (Task::CheckRule(asked), env) => {
                let (config, warnings) = ServerConfig::from_environment(&env)?;
                asked.answer(&program, &config.node, &warnings)
            }
            (Task::Run, env) => start_server(handlers, &env),
        },
    )
}

/// Runs a client until SIGTERM or SIGINT: the complete `main` of a program with this name.
pub fn client(name: &'static str, handlers: Handlers) -> ExitCode {
    let program = Program {
        name,
        about: "Runs a RestPipe client in the foreground: it keeps a pipe to its server, and local \
                programs\nask the server by HTTP. SIGTERM or SIGINT finishes what is in flight and \
                ends it;\n\
                SIGHUP reads the files of identity and rules anew.",
        usage: task::USAGE,
        arguments: task::ARGUMENTS,
        examples: "RP_CLIENT_TARGET_HOSTNAME=pipe.example.com {name}\n\
                   curl http://127.0.0.1:8082/server/time",
        reads: Some(Reader::ClientStart),
    };
    cli::main(
        &program,
        |arguments| Task::parse(arguments, Reader::ClientStart),
        |(task, source)| match (task, source.environment()?) {
            (Task::Check, env) => check::client(&handlers, &env, &source),
            (Task::CheckRule(asked), env) => {
                let (config, warnings) = ClientConfig::from_environment(&env)?;
                asked.answer(&program, &config.node, &warnings)
            }
            (Task::Run, env) => start_client(handlers, &env),
        },
    )
}

fn start_server(handlers: Handlers, env: &Environment) -> Result<(), CliFailure> {
    let (config, warnings) = ServerConfig::from_environment(env)?;
    let handler = handlers.choose(&config.node, Role::Server)?;
    begin_log(&config.node, &warnings);
    let sockets = handed_sockets(env, true)?;
    let (default, _) = ServerConfig::from_environment(&Environment::default())?;
    let [pipe, default_pipe] = [config.pipe_bind, default.pipe_bind].map(Bind::Tcp);
    let (http, default_http) = (&config.node.http_bind, &default.node.http_bind);
    warn_if_ignored(sockets.pipe_address(), "the pipe port is set to", &pipe, &default_pipe);
    warn_if_ignored(sockets.http_address(), "RP_SERVER_HTTP_BIND is", http, default_http);
    warn_if_public(sockets.http_address());
    let signals = Signals::new().map_err(CliFailure::failed)?;
    orphans::start_reaping().map_err(CliFailure::failed)?;
    let notifier = Arc::new(Notifier::new(env));
    let status = Arc::clone(&notifier);
    let server = Server::builder(config.clone())
        .shared_handler(handler)
        .handler_name(handlers.name(&config.node))
        .sockets(sockets)
        .on_event(move |event| {
            if let ConnectionEvent::ConnectionAdded { count, .. }
            | ConnectionEvent::ConnectionRemoved { count, .. } = event
            {
                status.status(&format!("clients connected: {count}"));
            }
        })
        .start()
        .map_err(|error| not_started(&error, Role::Server))?;
    let (pipe, http) = (server.pipe_address(), server.http_address());
    cli::announce(&format!("ready pipe={pipe} http={http}{}", tcp_fields(&server.tcp_addresses())));
    notifier.ready();
    let reload = || server.reload_within(RELOAD_TIMEOUT);
    wait_for(&signals, &notifier, config.node.drain, reload, || server.is_alive());
    server.stop(config.node.drain);
    log::info!("stopped");
    Ok(())
}

fn start_client(handlers: Handlers, env: &Environment) -> Result<(), CliFailure> {
    let (config, warnings) = ClientConfig::from_environment(env)?;
    let handler = handlers.choose(&config.node, Role::Client)?;
    begin_log(&config.node, &warnings);
    let sockets = handed_sockets(env, false)?;
    let (default, _) = ClientConfig::from_environment(&Environment::default())?;
    let (http, default_http) = (&config.node.http_bind, &default.node.http_bind);
    warn_if_ignored(sockets.http_address(), "RP_CLIENT_HTTP_BIND is", http, default_http);
    warn_if_public(sockets.http_address());
    let signals = Signals::new().map_err(CliFailure::failed)?;
    orphans::start_reaping().map_err(CliFailure::failed)?;
    let notifier = Arc::new(Notifier::new(env));
    let [connected, lost] = [Arc::clone(&notifier), Arc::clone(&notifier)];
    let client = Client::builder(config.clone())
        .shared_handler(handler)
        .handler_name(handlers.name(&config.node))
        .sockets(sockets)
        .on_start(move |peer| connected.status(&format!("connected to {}", peer.name)))
        .on_stop(move |peer, why| lost.status(&format!("{} lost: {why}", peer.name)))
        .start()
        .map_err(|error| not_started(&error, Role::Client))?;
    let tcp = tcp_fields(&client.tcp_addresses());
    cli::announce(&format!("ready http={}{tcp}", client.http_address()));
    notifier.ready();
    let reload = || client.reload_within(RELOAD_TIMEOUT);
    wait_for(&signals, &notifier, config.node.drain, reload, || client.is_alive());
    client.stop(config.node.drain);
    log::info!("stopped");
    Ok(())
}

/// Why a node does not start, with who holds a port that is in use.
fn not_started(error: &StartError, role: Role) -> CliFailure {
    let (what, error, variable) = match (error, role) {
        (StartError::Http(error), Role::Server) => {
            ("the local HTTP port", error, "RP_SERVER_HTTP_BIND")
        }
        (StartError::Http(error), Role::Client) => {
            ("the local HTTP port", error, "RP_CLIENT_HTTP_BIND")
        }
        (StartError::Pipe(error), _) => ("the pipe port", error, "BIND_PORT"),
        (StartError::Tcp(error), _) => ("a port of RP_TCP_LISTEN", error, "RP_TCP_LISTEN"),
        (other, _) => return CliFailure::failed(other),
    };
    CliFailure::failed(format!("{what}: {}", bind_failure(error, variable)))
}

/// The part of the ready line about the ports of `RP_TCP_LISTEN`.
fn tcp_fields(addresses: &[Bind]) -> String {
    addresses.iter().map(|address| format!(" tcp={address}")).collect()
}

fn begin_log(config: &NodeConfig, warnings: &[Warning]) {
    logging::init_with(config.log_filter.as_deref(), config.debug, config.log_format);
    for warning in warnings {
        log::warn!("{warning}");
    }
}

/// Warns if an HTTP socket from the service manager can be reached from other machines.
fn warn_if_public(socket: Option<&Bind>) {
    if let Some(warning) =
        socket.and_then(|bind| Warning::if_public("the http socket that was handed over", bind))
    {
        log::warn!("{warning}");
    }
}

/// Warns about a setting other than the default that is ignored because the service manager passed
/// a socket.
fn warn_if_ignored(socket: Option<&Bind>, what: &str, set: &Bind, default: &Bind) {
    if let Some(socket) = socket.filter(|socket| *socket != set && set != default) {
        log::warn!(
            "{what} {set}, which has no effect: the inherited socket is {socket}; \
             ListenStream= of its unit says where that is"
        );
    }
}

/// Waits for the signal to stop; a second one ends the process directly. SIGHUP reloads the
/// identity. Sends keep-alives only while the node is alive, so that a watchdog kills a stuck one.
fn wait_for(
    signals: &Signals,
    notifier: &Notifier,
    drain: Duration,
    reload: impl Fn(),
    is_alive: impl Fn() -> bool,
) {
    let watchdog: Receiver<Instant> = notifier.watchdog().map_or_else(never, tick);
    let mut unhealthy = false;
    notifier.alive();
    loop {
        select! {
            recv(signals.reloads()) -> hangup => match hangup {
                Ok(()) => {
                    notifier.reloading();
                    reload();
                    notifier.ready();
                }
                Err(_) => return,
            },
            recv(watchdog) -> _ => match is_alive() {
                true => notifier.alive(),
                false if std::mem::replace(&mut unhealthy, true) => {}
                false => log::error!(
                    "a thread that this node needs has ended, see above: it sends no more keep-alives, \
                     so that the watchdog ends it"
                ),
            },
            recv(signals.receiver()) -> signal => {
                if let Ok(signal) = signal {
                    let most = drain.as_secs();
                    notifier.stopping();
                    log::info!("stopping after {signal}: at most {most} s for what is in flight");
                }
                return;
            }
        }
    }
}

/// The sockets that a service manager passed to this process.
fn handed_sockets(env: &Environment, takes_pipe: bool) -> Result<Handed, CliFailure> {
    let (count, names) = (env.manager("LISTEN_FDS"), env.manager("LISTEN_FDNAMES"));
    Handed::take(count, names, takes_pipe).map_err(CliFailure::failed)
}
