//! `rp_remoted broker`.

use crossbeam_channel::select;
use restpipe::config::{BrokerConfig, Environment, Reader};
use restpipe::remoted::broker::{Broker, BrokerError, BrokerSettings};
use restpipe::run::cli::{self, CliFailure, Command, Program};
use restpipe::run::signals::Signals;
use restpipe::run::{bind_failure, logging};

use crate::Job;

pub const COMMAND: Command<Job> = Command {
    page: Program {
        name: "rp_remoted broker",
        about: "Runs a broker in the foreground: servers register paths at it, and callers are \
                joined\nto them. SIGHUP reads keys and certificate anew; SIGTERM or SIGINT ends it, \
                and lets\njoined connections finish.",
        usage: "",
        arguments: &[],
        examples: "rp_remoted keys remoted.json\nRP_REMOTED_CONFIG=remoted.json {name}",
        reads: Some(Reader::RemotedBroker),
    },
    parse: |_| Ok(Box::new(run)),
};

fn run() -> Result<(), CliFailure> {
    let env = Environment::from_process();
    let (config, warnings) = BrokerConfig::from_environment(&env)?;
    logging::init(&env, config.debug, config.log_format);
    for warning in warnings {
        log::warn!("{warning}");
    }
    let signals = Signals::new().map_err(CliFailure::failed)?;
    let drain = config.drain;
    let broker = Broker::start(BrokerSettings::new(config)).map_err(|error| match &error {
        BrokerError::Bind(error) => CliFailure::failed(bind_failure(error, "RP_REMOTED_BIND")),
        _ => CliFailure::failed(error),
    })?;
    cli::announce(&format!("ready remoted={}", broker.address()));
    loop {
        select! {
            recv(signals.reloads()) -> _ => broker.reload(),
            recv(signals.receiver()) -> signal => {
                if let Ok(signal) = signal {
                    let most = drain.as_secs();
                    log::info!("stopping after {signal}: at most {most} s for what is joined");
                }
                break;
            }
        }
    }
    broker.stop(drain);
    log::info!("stopped");
    Ok(())
}
