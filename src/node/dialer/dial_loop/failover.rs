//! Several servers: which one takes requests, and when to switch.
//!
//! In scope: the choice between existing and possible links. Not in scope: backoff after failures
//! (`dial_loop`).

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::{DialLoop, Pipe, Stage};
use crate::link::LinkEnd;
use crate::node::dialer::{Dialled, News, Purpose};
use crate::sync::threads;
use crate::wire::GoodbyeReason;

/// How often an earlier server is tried while a later one is in use.
const RETRY_EARLIER_INTERVAL: Duration = Duration::from_secs(5);
/// An earlier server that has kept a link for this long is healthy again.
const PROBATION_TIME: Duration = Duration::from_secs(10);

impl DialLoop<'_> {
    /// Tries the servers before the one in use, on a separate thread, because an unreachable server
    /// may take long to time out.
    pub fn try_earlier_if_due(&mut self) {
        let Some(current) = self.pipes.iter().find(|pipe| pipe.stage == Stage::Current) else {
            return;
        };
        let is_busy = self.trying || self.pipes.iter().any(|pipe| pipe.stage == Stage::Probation);
        if current.target == 0 || is_busy || self.dialer.stopping.load(Ordering::Acquire) {
            self.trial_due = None;
            return;
        }
        let due = *self.trial_due.get_or_insert_with(|| Instant::now() + RETRY_EARLIER_INTERVAL);
        if due > Instant::now() {
            return;
        }
        self.trial_due = None;
        let earlier = current.target;
        let taken: Vec<bool> = (0..earlier).map(|at| self.has_pipe_to(at)).collect();
        let dialer = Arc::clone(self.dialer);
        let spawned = threads::spawn("dial-earlier", move || {
            let mut tried = Err(String::new());
            for (at, takes_over) in taken.into_iter().enumerate() {
                tried = dialer
                    .dial(at, Purpose { number: None, takes_over })
                    .map_err(|reason| format!("{}: {reason}", dialer.targets[at].address()));
                if tried.is_ok() {
                    break;
                }
            }
            let link = tried.as_ref().ok().map(|dialled| Arc::clone(&dialled.link));
            let is_told = dialer.news.send(News::Tried(tried)).is_ok();
            if let Some(link) = link
                && (!is_told || dialer.stopping.load(Ordering::Acquire))
            {
                link.close(LinkEnd::Stopping);
            }
        });
        self.trying = spawned.is_ok();
    }

    pub fn note_tried(&mut self, tried: Result<Dialled, String>) {
        self.trying = false;
        match tried {
            // The end of this link was handled before.
            Ok(dialled) if dialled.link.is_closed() => {}
            Ok(dialled) => self.add(dialled, Stage::Probation),
            Err(reason) => log::debug!("an earlier server is still away: {reason}"),
        }
    }

    /// Warns about one server listed under two names: it takes two pipes for one reconnecting
    /// client, and closes the older.
    pub fn warn_of_double(&self, pipe: &Pipe, end: &LinkEnd) {
        let is_takeover =
            |reason| matches!(reason, GoodbyeReason::Replaced | GoodbyeReason::DuplicateIdentity);
        let is_replaced = matches!(end, LinkEnd::Dismissed(goodbye) if is_takeover(goodbye.reason));
        if !is_replaced {
            return;
        }
        let own = self.dialer.targets[pipe.target].to_string();
        let fingerprint = &pipe.link.peer().fingerprint;
        let double = self.dialer.core.registry.entries().into_iter().find(|entry| {
            entry.certificate.fingerprint == *fingerprint
                && entry.target.as_ref().is_some_and(|target| *target != own)
        });
        if let Some(target) = double.and_then(|entry| entry.target.clone()) {
            log::warn!(
                "{own}: shows the same certificate as {target}, and took another pipe of this client \
                 for its return: if they are one server, name it once in RP_CLIENT_TARGET_HOSTNAME"
            );
        }
    }

    /// Switches back to an earlier server that has kept its link long enough; looks for another
    /// server when the one in use is stopping.
    pub fn settle_targets(&mut self, now: Instant) {
        // Without an alternative there is nothing to wait for.
        let is_asked = |pipe: &Pipe| pipe.stage == Stage::Current && pipe.link.is_open();
        let is_needed = !self.pipes.iter().any(is_asked);
        let is_well = |pipe: &Pipe| {
            pipe.stage == Stage::Probation
                && pipe.link.is_ready()
                && pipe.link.is_open()
                && (is_needed || now.duration_since(pipe.started) >= PROBATION_TIME)
        };
        if let Some(at) = self.pipes.iter().position(is_well) {
            self.number += 1;
            self.dialer.place(&self.pipes[at].link, self.number);
            log::info!(
                "{}: is reachable again; using it from now on",
                self.who(self.pipes[at].target)
            );
            self.make_current(at, now);
            self.due = None;
        }
        let leaving =
            self.pipes.iter().find(|pipe| pipe.stage == Stage::Current && !pipe.link.is_open());
        let is_coming = self.pipes.iter().any(|pipe| pipe.stage == Stage::Coming);
        if let Some(leaving) = leaving
            && !is_coming
            && self.due.is_none()
            && self.dialer.targets.len() > 1
            && !self.dialer.stopping.load(Ordering::Acquire)
        {
            self.aim = (leaving.target + 1) % self.dialer.targets.len();
            self.missed = 1;
            let spread = leaving.link.spread().unwrap_or_default();
            self.due = Some(now + spread.mul_f64(fastrand::f64()));
        }
    }
}
