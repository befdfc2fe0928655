//! The state and decisions of the dialling thread: when to dial, which link takes requests, and
//! when a superseded link has finished.

mod failover;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant, SystemTime};

use crossbeam_channel::{Receiver, RecvTimeoutError};

use super::redial::{EndedPipe, HowEnded, Redial};
use super::{Dialer, Dialled, News, Purpose, refused_by};
use crate::lifecycle::ConnectionEvent;
use crate::link::{Link, LinkEnd};
use crate::metrics::meter::Mark;
use crate::node::feed::Happening;
use crate::sync::throttle::Throttles;

/// Clients that lose a server at the same moment connect to the next one within this time.
const NEXT_SERVER_JITTER: Duration = Duration::from_millis(200);
/// A superseded link stays open at least this long, for requests that were about to use it.
const SUPERSEDED_MIN_TIME: Duration = Duration::from_secs(1);
/// How often a superseded link is checked for completion.
const SUPERSEDED_POLL_INTERVAL: Duration = Duration::from_millis(100);
/// How long an idle thread waits for messages.
const MAX_IDLE_WAIT: Duration = Duration::from_secs(3600);

/// One link and its state.
struct Pipe {
    link: Arc<Link>,
    /// The server's position in the list.
    target: usize,
    /// The route to the server, for messages.
    place: String,
    started: Instant,
    stage: Stage,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// The server has sent nothing yet and may still refuse this client.
    Coming,
    /// A link to an earlier server than the one in use: it has to last for a while.
    Probation,
    /// The link that takes requests.
    Current,
    /// Superseded by another link at this time.
    Superseded(Instant),
}

/// The state of the dialling thread.
struct DialLoop<'a> {
    dialer: &'a Arc<Dialer>,
    /// The server to dial next.
    aim: usize,
    /// Consecutive servers that could not be reached.
    missed: usize,
    /// When to try an earlier server, if at all.
    trial_due: Option<Instant>,
    /// An earlier server is being tried.
    trying: bool,
    pipes: Vec<Pipe>,
    redial: Redial,
    /// When to dial next, if at all.
    due: Option<Instant>,
    /// Counts attempts and promotions.
    number: u64,
    /// Attempts failed since the server was last connected.
    failed: u64,
    /// When that connection was lost.
    lost_at: Option<SystemTime>,
    /// The name of each server, once it was connected.
    names: Vec<Option<String>>,
    /// Limits log lines about failed attempts.
    failures: Throttles,
}

impl Dialer {
    /// Runs the thread. It exits after [`News::Stop`], once every link has ended.
    pub fn run(self: &Arc<Self>, news: &Receiver<News>) {
        let mut dial_loop = DialLoop {
            dialer: self,
            aim: 0,
            missed: 0,
            trial_due: None,
            trying: false,
            pipes: Vec::new(),
            redial: Redial::default(),
            due: Some(Instant::now()),
            number: 0,
            failed: 0,
            lost_at: None,
            names: vec![None; self.targets.len()],
            failures: Throttles::default(),
        };
        let mut stopped = false;
        while !(stopped && dial_loop.pipes.is_empty()) {
            dial_loop.dial_if_due();
            dial_loop.advance();
            dial_loop.try_earlier_if_due();
            match news.recv_timeout(dial_loop.wait()) {
                Ok(News::Ready) | Err(RecvTimeoutError::Timeout) => {}
                Ok(News::Ended(link, end)) => dial_loop.note_end(&link, &end),
                Ok(News::Tried(tried)) => dial_loop.note_tried(tried),
                Ok(News::NewCertificate) => dial_loop.due = Some(Instant::now()),
                Ok(News::Stop) => {
                    stopped = true;
                    dial_loop.pipes.iter().for_each(|pipe| pipe.link.close(LinkEnd::Stopping));
                }
                // Cannot happen before the last link has ended: the dialler itself holds a sender.
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }
}

impl DialLoop<'_> {
    fn dial_if_due(&mut self) {
        if self.dialer.stopping.load(Ordering::Acquire) {
            self.due = None;
        }
        if self.due.is_none_or(|due| due > Instant::now()) {
            return;
        }
        self.due = None;
        self.number += 1;
        self.dialer.core.requests.meter.mark(Mark::Dialling);
        let purpose = Purpose { number: Some(self.number), takes_over: self.has_pipe_to(self.aim) };
        match self.dialer.dial(self.aim, purpose) {
            Ok(dialled) => self.add(dialled, Stage::Coming),
            Err(reason) => {
                self.warn(self.aim, &format!("not connected: {reason}"));
                self.report_failure(self.aim, reason);
                self.dial_next(false);
            }
        }
    }

    fn add(&mut self, dialled: Dialled, stage: Stage) {
        let Dialled { target, link, place } = dialled;
        self.pipes.push(Pipe { link, target, place, started: Instant::now(), stage });
    }

    fn target(&self, at: usize) -> String {
        self.dialer.targets[at].address()
    }

    /// The name of a server in log lines: that in its certificate, once it is known.
    fn who(&self, at: usize) -> String {
        self.names[at].clone().unwrap_or_else(|| self.target(at))
    }

    /// Logs why the server at position `at` is not reached. The first attempts follow each other
    /// closely: the same reason is one line in ten seconds.
    fn warn(&self, at: usize, reason: &str) {
        if let Some(more) = self.failures.allow(&format!("{at} {reason}")) {
            log::warn!("{}: {reason}{more}", self.who(at));
        }
    }

    fn has_pipe_to(&self, target: usize) -> bool {
        self.pipes.iter().any(|pipe| pipe.target == target)
    }

    /// Dials the next server: soon, or after a backoff if no server could be reached.
    fn dial_next(&mut self, is_duplicate: bool) {
        self.aim = (self.aim + 1) % self.dialer.targets.len();
        self.missed += 1;
        if self.missed < self.dialer.targets.len() {
            self.due = Some(Instant::now() + NEXT_SERVER_JITTER.mul_f64(fastrand::f64()));
        } else {
            self.missed = 0;
            self.aim = 0;
            self.dial_later(is_duplicate);
        }
    }

    fn make_current(&mut self, newest: usize, now: Instant) {
        for (at, pipe) in self.pipes.iter_mut().enumerate() {
            if at == newest {
                pipe.stage = Stage::Current;
                self.names[pipe.target] = Some(pipe.link.peer().name.clone());
                self.failed = 0;
                self.missed = 0;
                self.aim = pipe.target;
            } else if pipe.stage == Stage::Current {
                pipe.stage = Stage::Superseded(now);
            }
        }
    }

    /// Promotes a link that became ready, and closes superseded ones.
    fn advance(&mut self) {
        let now = Instant::now();
        let ready = |pipe: &Pipe| pipe.stage == Stage::Coming && pipe.link.is_ready();
        if let Some(newest) = self.pipes.iter().rposition(ready) {
            self.make_current(newest, now);
        }
        self.settle_targets(now);
        for pipe in &self.pipes {
            if let Stage::Superseded(since) = pipe.stage {
                let age = now.duration_since(since);
                let has_finished = age >= SUPERSEDED_MIN_TIME && pipe.link.is_idle();
                if has_finished || age >= SUPERSEDED_MIN_TIME + self.dialer.core.reply_timeout {
                    pipe.link.close(LinkEnd::Superseded);
                }
            }
        }
    }

    fn wait(&self) -> Duration {
        let is_superseded = |pipe: &Pipe| matches!(pipe.stage, Stage::Superseded(_));
        let longest = if self.pipes.iter().any(is_superseded) {
            SUPERSEDED_POLL_INTERVAL
        } else {
            MAX_IDLE_WAIT
        };
        // An earlier server that is on probation, or due for a trial, limits the wait.
        let trial = self
            .pipes
            .iter()
            .any(|pipe| pipe.stage == Stage::Probation)
            .then_some(SUPERSEDED_POLL_INTERVAL);
        let tried = self.trial_due.map(|due| due.saturating_duration_since(Instant::now()));
        let longest = trial.into_iter().chain(tried).fold(longest, Duration::min);
        let due = self.due.map(|due| due.saturating_duration_since(Instant::now()));
        due.map_or(longest, |due| due.min(longest))
    }

    fn note_end(&mut self, link: &Arc<Link>, end: &LinkEnd) {
        let Some(at) = self.pipes.iter().position(|pipe| Arc::ptr_eq(&pipe.link, link)) else {
            return;
        };
        let pipe = self.pipes.remove(at);
        let was_superseded = matches!(pipe.stage, Stage::Superseded(_));
        let how = HowEnded::new(end, link.spread().is_some());
        if link.is_ready() {
            log::info!("{}: lost: {end}", self.who(pipe.target));
            self.warn_of_double(&pipe, end);
            if pipe.stage == Stage::Current && !matches!(end, LinkEnd::Stopping) {
                self.failed = 0;
                self.lost_at = Some(SystemTime::now());
                self.dialer.core.requests.meter.mark(Mark::Lost);
            }
            self.redial.note_end(EndedPipe {
                lived: pipe.started.elapsed(),
                is_proved: link.is_proved(),
                how,
            });
        } else {
            let reason = match end {
                LinkEnd::Stopping => None,
                // The server verifies our certificate after the handshake is complete on our side.
                LinkEnd::Refused(alert) => {
                    Some(format!("not connected: {}", refused_by(&pipe.place, *alert)))
                }
                LinkEnd::Protocol(_) | LinkEnd::Silent(_) | LinkEnd::Failed(_) => {
                    Some(format!("not connected: {end}"))
                }
                _ => Some(format!("the server did not accept this client: {end}")),
            };
            if let Some(reason) = reason {
                self.warn(pipe.target, &reason);
                self.report_failure(pipe.target, reason);
            }
        }
        if self.dialer.stopping.load(Ordering::Acquire) {
            return;
        }
        if pipe.stage == Stage::Probation {
            return;
        }
        let is_asked = |pipe: &Pipe| matches!(pipe.stage, Stage::Coming | Stage::Current);
        let is_needed = !self.pipes.iter().any(is_asked) && self.due.is_none();
        let was_refused = pipe.stage == Stage::Coming && !link.is_ready();
        if !was_superseded && (is_needed || was_refused) {
            let is_duplicate = how == HowEnded::DuplicateIdentity;
            match link.spread() {
                // The server announced its shutdown, and when to reconnect.
                Some(spread) => {
                    let least = self.redial.next_wait(fastrand::f64());
                    self.due = Some(Instant::now() + spread.mul_f64(fastrand::f64()).max(least));
                }
                None if was_refused || pipe.stage == Stage::Current => {
                    self.aim = pipe.target;
                    if pipe.stage == Stage::Current {
                        self.missed = 0;
                    }
                    self.dial_next(is_duplicate);
                }
                None => self.dial_later(is_duplicate),
            }
        }
    }

    /// Reports a failed attempt to connect to the server at position `at`. It is no event while
    /// another connection is up: the attempt was only to present a new certificate, and is
    /// repeated.
    fn report_failure(&mut self, at: usize, reason: String) {
        self.dialer.core.feed.publish_unauthenticated(
            Happening::Refusal,
            &self.target(at),
            &reason,
        );
        let is_connected =
            self.pipes.iter().any(|pipe| pipe.link.is_ready() && !pipe.link.is_closed());
        if !is_connected {
            self.failed += 1;
            let (attempts, lost_at) = (self.failed, self.lost_at);
            let event = ConnectionEvent::ConnectFail { attempts, lost_at, reason };
            self.dialer.core.events.report(event);
        }
    }

    /// Dials again after a random wait: a long one if another machine uses this one's key.
    fn dial_later(&mut self, is_duplicate: bool) {
        let wait = if is_duplicate {
            let wait = Redial::stay_away(fastrand::f64());
            log::warn!(
                "{}: another machine uses this client's key; staying away for {:.0} s",
                self.who(self.aim),
                wait.as_secs_f64()
            );
            wait
        } else {
            self.redial.next_wait(fastrand::f64())
        };
        log::debug!("{}: dialling again in {:.1} s", self.who(self.aim), wait.as_secs_f64());
        self.due = Some(Instant::now() + wait);
    }
}
