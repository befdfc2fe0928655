//! Requests for this node itself.

use std::io;

use super::{After, Connection, RequestInfo};
use crate::event::errors;
use crate::http::local::LocalRequest;
use crate::http::refusal::Refusal;
use crate::http1::framing::Framing;

impl Connection<'_> {
    pub(super) fn answer_locally(
        &mut self,
        local: &LocalRequest,
        framing: Framing,
        info: RequestInfo,
    ) -> io::Result<After> {
        if framing != Framing::None {
            // The body stays unread, so the start of the next request is unknown.
            let refusal = Refusal::closing(errors::BODY_NOT_WANTED, "a body says nothing here");
            return self.refuse(&refusal, Some(info));
        }
        let Some(node) = &self.shared.inspect else {
            let refusal = Refusal::new(errors::UNKNOWN_PATH, "no node is shown here");
            return self.refuse(&refusal, Some(info));
        };
        self.slot.set_listening(local.listens());
        let after = match local.answer(node.as_ref(), info.head_only) {
            Ok(answer) if answer.body.whole().is_some() => self.send(answer, false, info),
            Ok(answer) => self.stream(answer, info).map(|(_, after)| after),
            Err(refusal) => self.refuse(&refusal, Some(info)),
        };
        self.slot.set_listening(false);
        after
    }
}
