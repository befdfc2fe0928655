//! Building the handler that `RP_EVENT_HANDLER` selects.

use std::sync::Arc;

use crate::config::{ConfigError, HandlerChoice, HandlerSpec, Mounting, NodeConfig};
use crate::handler::{Exec, Files, Handler, Mounts, Role, Router, Service, example};

/// The built-in handler.
const EXAMPLE: &str = "example";
/// In place of a handler: nothing is handled.
const NONE: &str = "none";

/// The handlers that `RP_EVENT_HANDLER` can name. `example` and `none` are always among them.
#[derive(Default)]
pub struct Handlers {
    registered: Vec<(String, Arc<dyn Handler>)>,
}

impl Handlers {
    /// `example` and `none` only.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds one. The first one added is the default if `RP_EVENT_HANDLER` is not set.
    pub fn with(mut self, name: &str, handler: impl Handler + 'static) -> Self {
        self.registered.push((name.to_owned(), Arc::new(handler)));
        self
    }

    /// Builds the handler of this side.
    pub(super) fn choose(
        &self,
        node: &NodeConfig,
        role: Role,
    ) -> Result<Arc<dyn Handler>, ConfigError> {
        let Some(choice) = &node.handler else {
            let first = self.registered.first().map(|(_, handler)| Arc::clone(handler));
            return Ok(first.unwrap_or_else(|| Arc::new(example(role))));
        };
        match &choice.handlers {
            // Among several it would say what is so without it.
            Mounting::One(HandlerSpec::Named(name)) if name == NONE && !self.knows(name) => {
                Ok(Arc::new(Router::new()))
            }
            Mounting::One(spec) => self.build(choice, spec, node, role),
            Mounting::Several(several) => {
                let mut mounts = Mounts::new();
                for mount in several {
                    let handler = self.build(choice, &mount.spec, node, role)?;
                    mounts = match &mount.segment {
                        Some(segment) => mounts.at(segment, handler),
                        None => mounts.otherwise(handler),
                    };
                }
                Ok(Arc::new(mounts))
            }
        }
    }

    fn knows(&self, name: &str) -> bool {
        self.registered.iter().any(|(known, _)| known == name)
    }

    /// The name of that handler, as in `RP_EVENT_HANDLER`.
    pub(super) fn name(&self, node: &NodeConfig) -> String {
        let first = || self.registered.first().map_or(EXAMPLE, |(name, _)| name).to_owned();
        node.handler.as_ref().map_or_else(first, ToString::to_string)
    }

    fn build(
        &self,
        choice: &HandlerChoice,
        spec: &HandlerSpec,
        node: &NodeConfig,
        role: Role,
    ) -> Result<Arc<dyn Handler>, ConfigError> {
        let built: Result<Arc<dyn Handler>, String> = match spec {
            HandlerSpec::Named(name) => return self.named(choice, name, role),
            HandlerSpec::Files { dir, writable } => Files::new(dir, *writable).map(shared),
            HandlerSpec::Exec(dir) => Exec::new(dir, node.exec_timeout).map(shared),
            HandlerSpec::Service(address) => Service::new(address)
                .map(|service| shared(service.with_reply_timeout(node.reply_timeout))),
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
    use crate::config::{ClientConfig, Environment};

    fn choose(handlers: &Handlers, asked: &str) -> Result<Arc<dyn Handler>, ConfigError> {
        let set = (!asked.is_empty()).then_some(("RP_EVENT_HANDLER", asked));
        let (config, _) = ClientConfig::from_environment(&Environment::from_pairs(set))?;
        handlers.choose(&config.node, Role::Client)
    }

    fn both() -> Handlers {
        Handlers::new().with("a", Router::new()).with("b", Router::new())
    }

    fn error(asked: &str) -> String {
        match choose(&both(), asked) {
            Ok(_) => panic!("{asked} can be used"),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn a_handler_is_chosen_by_name_and_the_first_by_default() {
        assert!(choose(&Handlers::new(), "").is_ok());
        for name in ["", "a", "b", "example", "none"] {
            assert!(choose(&both(), name).is_ok(), "{name}");
        }
        let (config, _) = ClientConfig::from_environment(&Environment::default()).unwrap();
        let name = |handlers: Handlers| handlers.name(&config.node);
        assert_eq!((name(both()), name(Handlers::new())), ("a".to_owned(), "example".to_owned()));
        assert_eq!(error("c"), "RP_EVENT_HANDLER is \"c\"; accepted is a, b, example");
    }

    #[test]
    fn handlers_of_every_kind_are_mounted() {
        assert!(choose(&both(), "x=a,y=http://127.0.0.1:9000/v1,*=example").is_ok());
        assert!(choose(&both(), "http+unix:/run/app.sock").is_ok());
        assert_eq!(error("x=a,*=c"), "RP_EVENT_HANDLER is \"c\"; accepted is a, b, example");
        assert!(error("x=a,*=files:/no/such/directory").contains("files:/no/such/directory"));
    }
}
