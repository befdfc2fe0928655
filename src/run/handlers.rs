//! From what `RP_EVENT_HANDLER` asks for to what answers events.

use std::sync::Arc;
use std::time::Duration;

use crate::config::{ConfigError, HandlerChoice, HandlerSpec, Mounting};
use crate::handler::{Exec, Files, Handler, Mounts, Role, Service, example};

/// The handler that is always there.
const EXAMPLE: &str = "example";

/// The handlers that `RP_EVENT_HANDLER` can name. `example` is always among them.
#[derive(Default)]
pub struct Handlers {
    registered: Vec<(String, Arc<dyn Handler>)>,
}

impl Handlers {
    /// `example` only.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds one. The first that is added answers where `RP_EVENT_HANDLER` is not set.
    pub fn with(mut self, name: &str, handler: impl Handler + 'static) -> Self {
        self.registered.push((name.to_owned(), Arc::new(handler)));
        self
    }

    /// What answers events on this side; scripts may run for `exec_timeout`.
    pub(super) fn choose(
        &self,
        asked: Option<&HandlerChoice>,
        exec_timeout: Duration,
        role: Role,
    ) -> Result<Arc<dyn Handler>, ConfigError> {
        let Some(choice) = asked else {
            let first = self.registered.first().map(|(_, handler)| Arc::clone(handler));
            return Ok(first.unwrap_or_else(|| Arc::new(example(role))));
        };
        match &choice.handlers {
            Mounting::One(spec) => self.build(choice, spec, exec_timeout, role),
            Mounting::Several(several) => {
                let mut mounts = Mounts::new();
                for mount in several {
                    let handler = self.build(choice, &mount.spec, exec_timeout, role)?;
                    mounts = match &mount.segment {
                        Some(segment) => mounts.at(segment, handler),
                        None => mounts.otherwise(handler),
                    };
                }
                Ok(Arc::new(mounts))
            }
        }
    }

    fn build(
        &self,
        choice: &HandlerChoice,
        spec: &HandlerSpec,
        exec_timeout: Duration,
        role: Role,
    ) -> Result<Arc<dyn Handler>, ConfigError> {
        let built: Result<Arc<dyn Handler>, String> = match spec {
            HandlerSpec::Named(name) => return self.named(choice, name, role),
            HandlerSpec::Files { dir, writable } => Files::new(dir, *writable).map(shared),
            HandlerSpec::Exec(dir) => Exec::new(dir, exec_timeout).map(shared),
            HandlerSpec::Service(address) => Service::new(address).map(shared),
        };
        built.map_err(|reason| choice.unusable(spec, reason))
    }

    fn named(
        &self,
        choice: &HandlerChoice,
        name: &str,
        role: Role,
    ) -> Result<Arc<dyn Handler>, ConfigError> {
        if let Some((_, handler)) = self.registered.iter().find(|(known, _)| known == name) {
            return Ok(Arc::clone(handler));
        }
        if name == EXAMPLE {
            return Ok(Arc::new(example(role)));
        }
        let names = self.registered.iter().map(|(name, _)| name.as_str());
        Err(choice.not_among(name, &names.chain([EXAMPLE]).collect::<Vec<_>>()))
    }
}

fn shared(handler: impl Handler + 'static) -> Arc<dyn Handler> {
    Arc::new(handler)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Mount, Origin};
    use crate::handler::Router;

    fn choose(handlers: Mounting) -> Result<Arc<dyn Handler>, ConfigError> {
        let asked = HandlerChoice {
            handlers,
            variable: "RP_EVENT_HANDLER".to_owned(),
            origin: Origin::Process,
        };
        both().choose(Some(&asked), Duration::from_secs(1), Role::Client)
    }

    fn both() -> Handlers {
        Handlers::new().with("a", Router::new()).with("b", Router::new())
    }

    fn named(name: &str) -> HandlerSpec {
        HandlerSpec::Named(name.to_owned())
    }

    #[test]
    fn a_handler_is_chosen_by_name_and_the_first_by_default() {
        for handlers in [both(), Handlers::new()] {
            assert!(handlers.choose(None, Duration::from_secs(1), Role::Client).is_ok());
        }
        for name in ["a", "b", "example"] {
            assert!(choose(Mounting::One(named(name))).is_ok(), "{name}");
        }
        let Err(error) = choose(Mounting::One(named("c"))) else { panic!("found a c") };
        let text = error.to_string();
        assert_eq!(text, "RP_EVENT_HANDLER is \"c\"; accepted is a, b, example");
    }

    #[test]
    fn named_handlers_are_mounted_too() {
        let mounts = |name| {
            let mount = |segment: Option<&str>, name| Mount {
                segment: segment.map(str::to_owned),
                spec: named(name),
            };
            Mounting::Several(vec![mount(Some("x"), "a"), mount(None, name)])
        };
        assert!(choose(mounts("example")).is_ok());
        assert!(choose(mounts("c")).is_err());
    }
}
