//! The path from a client to each of its servers.

use std::net::TcpStream;
use std::time::{Duration, Instant};

use super::report::{CheckProblem, Report};
use super::steps::TO_SERVER;
use crate::config::ServerTarget;
use crate::identity::Identity;
use crate::net::dial::{self, Resolver};
use crate::node::Trial;

/// The time for each step.
const STEP_TIMEOUT: Duration = Duration::from_secs(10);

/// Checks each server, from its name to an answered heartbeat. If there are several, each step
/// names its server.
pub(super) fn servers(targets: &[ServerTarget], identity: &Identity, report: &mut Report) {
    for target in targets {
        let mut steps = TO_SERVER.iter().map(|step| match targets {
            [_] => (*step).to_owned(),
            _ => format!("{step} ({})", target.address()),
        });
        let mut note = |result: Result<String, CheckProblem>| {
            steps.next().is_some_and(|step| report.note(&step, result))
        };
        walk(target, identity, &mut note);
        steps.for_each(|step| report.skip(&step));
    }
}

/// Reports each step, up to the first that fails.
fn walk(
    target: &ServerTarget,
    identity: &Identity,
    note: &mut dyn FnMut(Result<String, CheckProblem>) -> bool,
) -> Option<()> {
    let ServerTarget { host, port, server_name, proxy } = target;
    let resolver = Resolver::default();
    let deadline = || Instant::now() + STEP_TIMEOUT;

    let looked_up = proxy.as_ref().map_or(host.as_str(), |proxy| proxy.host());
    take(note, name(&resolver, looked_up), String::clone)?;

    let connected = match proxy {
        Some(proxy) => proxy.reach(&resolver, deadline()).map_err(|why| {
            CheckProblem::new(
                why,
                "RP_CLIENT_PROXY, or else HTTPS_PROXY, has to say where the proxy is",
            )
        }),
        None => dial::connect(&resolver, host, *port, deadline()).map_err(|why| {
            CheckProblem::new(
                why,
                "start the server, and let its pipe port through the firewalls; \
                 RP_CLIENT_TARGET_HOSTNAME and RP_CLIENT_TARGET_PORT say where it is; where only a \
                 proxy leads out, set RP_CLIENT_PROXY",
            )
        }),
    };
    let socket = take(note, connected, connected_to)?;

    let place = target.to_string();
    let tunnelled = match proxy {
        None => Ok("none is set for this server".to_owned()),
        Some(proxy) => {
            proxy.tunnel(&socket, host, *port, deadline()).map(|()| place.clone()).map_err(|why| {
                CheckProblem::new(
                    format!("{proxy}: {why}"),
                    "the proxy has to allow connections to this host and port, with the user and \
                     password in RP_CLIENT_PROXY where it asks for them; NO_PROXY names hosts that \
                     need no proxy",
                )
            })
        }
    };
    take(note, tunnelled, String::clone)?;

    let trial = Trial::shake_hands(identity, socket, place, server_name, deadline());
    let trial = trial.map_err(|ended| CheckProblem::new(ended.what, ended.advice));
    let trial = take(note, trial, |trial| match trial.server() {
        Some(server) => format!(
            "the server is {} (sha256 {}), until {}",
            server.name, server.fingerprint, server.expires
        ),
        None => {
            "the server is the right one; it is an older or an original RestPipe, which was not \
                 told who is here"
                .to_owned()
        }
    })?;

    let beat = trial.beat(deadline()).map_err(|ended| CheckProblem::new(ended.what, ended.advice));
    take(note, beat, |took| match took {
        Some(took) => format!(
            "the server accepts this client, and answered in {:.1} ms",
            took.as_secs_f64() * 1000.0
        ),
        None => {
            "not tried: with this server it would take the place of a client that runs".to_owned()
        }
    })?;
    Some(())
}

/// Reports a result, and returns its value.
fn take<T>(
    note: &mut dyn FnMut(Result<String, CheckProblem>) -> bool,
    result: Result<T, CheckProblem>,
    words: impl FnOnce(&T) -> String,
) -> Option<T> {
    match result {
        Ok(made) => note(Ok(words(&made))).then_some(made),
        Err(problem) => {
            note(Err(problem));
            None
        }
    }
}

fn name(resolver: &Resolver, host: &str) -> Result<String, CheckProblem> {
    let addresses = resolver.resolve(host, STEP_TIMEOUT).map_err(|error| {
        CheckProblem::new(
            format!("{host} does not resolve: {error}"),
            "correct RP_CLIENT_TARGET_HOSTNAME (or the proxy's name), or this machine's DNS \
             (getent hosts NAME asks it)",
        )
    })?;
    let addresses: Vec<String> = addresses.iter().map(ToString::to_string).collect();
    Ok(format!("{host} is {}", addresses.join(", ")))
}

fn connected_to(socket: &TcpStream) -> String {
    socket.peer_addr().map_or_else(|_| "connected".to_owned(), |to| format!("connected to {to}"))
}
