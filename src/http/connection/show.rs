//! Requests that are after this node itself.

use std::io;

use super::{After, Caller, Connection};
use crate::http::local::Local;
use crate::http::refusal::Refusal;
use crate::http1::framing::Framing;

impl Connection<'_> {
    /// Answers one.
    pub(super) fn show(
        &mut self,
        local: &Local,
        framing: Framing,
        caller: Caller,
    ) -> io::Result<After> {
        if framing != Framing::None {
            // It is not read, so the next request cannot be found.
            let refusal = Refusal::closing(400, "body_not_wanted", "a body says nothing here");
            return self.refuse(&refusal, Some(caller));
        }
        let Some(node) = &self.shared.inspect else {
            let refusal = Refusal::new(404, "unknown_path", "no node is shown here");
            return self.refuse(&refusal, Some(caller));
        };
        self.slot.set_listening(local.listens());
        let after = match local.answer(node.as_ref(), caller.head_only) {
            Ok(answer) if answer.body.whole().is_some() => self.send(answer, false, caller),
            Ok(answer) => self.stream(answer, caller).map(|(_, after)| after),
            Err(refusal) => self.refuse(&refusal, Some(caller)),
        };
        self.slot.set_listening(false);
        after
    }
}
