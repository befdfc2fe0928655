//! Limits the log lines that unauthenticated peers cause: one budget per minute for all of them.
//!
//! In scope: which lines are logged, and saying how many were left out. Not in scope: what they say.
//!
//! The first line of each cause in a minute is always logged, so that a flood of one kind hides no
//! other. A cause is one of this program's own words, never a peer's, so there are few.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, OnceLock, Weak};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, bounded};
use parking_lot::Mutex;

use super::deadline::time_left;
use super::threads;

/// The period of one budget.
const PERIOD: Duration = Duration::from_secs(60);
/// Maximum lines in a period, beside the first of each cause.
const MAX_LINES: usize = 20;
/// The shortest time between two lines of the same text from the same address.
const REPEAT_INTERVAL: Duration = Duration::from_secs(10);
/// Maximum characters of a line that a peer may have chosen.
const MAX_TEXT: usize = 1000;

/// Stack size of the thread that reports.
const REPORTER_STACK: usize = 128 * 1024;
/// Maximum budgets whose periods are waited for.
const MAX_REPORTS: usize = 256;

/// Takes the budgets that have left out lines, to report at the end of their periods: perhaps no
/// further line comes. One thread does that for the whole process; without it the next line of a
/// budget does.
static REPORTS: OnceLock<Option<Sender<Report>>> = OnceLock::new();

/// The end of a period, and its budget.
type Report = (Instant, Weak<LineBudget>);

/// The budget of one port.
pub(crate) struct LineBudget {
    /// Names the port in the line about those left out.
    port: String,
    /// Guards the counts. Never held while a line is logged.
    period: Mutex<Period>,
}

impl LineBudget {
    /// A budget for what this port logs.
    pub fn new(port: impl Into<String>) -> Arc<Self> {
        // Started now and not in a flood.
        reports();
        Arc::new(Self { port: port.into(), period: Mutex::default() })
    }

    /// Logs `WHO: WHY` as a warning, if the budget permits. Returns whether it did.
    pub fn warn(self: &Arc<Self>, cause: &'static str, who: &str, why: &str) -> bool {
        let why: String = why.chars().take(MAX_TEXT).collect();
        let (before, verdict) = {
            let mut period = self.period.lock();
            let now = Instant::now();
            (period.take_over(now), period.judge(cause, who, &why, now))
        };
        self.log_left_out(before);
        match verdict {
            Verdict::Log => log::warn!("{who}: {why}"),
            Verdict::LeaveOut => {}
            Verdict::LeaveOutFirst(end) => self.report_at(end),
        }
        verdict == Verdict::Log
    }

    /// Has what was left out reported once the period has ended.
    fn report_at(self: &Arc<Self>, end: Instant) {
        if let Some(reports) = reports() {
            // Full: the next line reports it.
            let _ = reports.try_send((end, Arc::downgrade(self)));
        }
    }

    /// Reports what was left out so far, and begins a new period.
    pub fn finish(&self) {
        let period = std::mem::take(&mut *self.period.lock());
        self.log_left_out(period.left_out());
    }

    fn log_left_out(&self, left_out: Option<String>) {
        if let Some(left_out) = left_out {
            log::warn!("{}: {left_out}", self.port);
        }
    }
}

impl Drop for LineBudget {
    fn drop(&mut self) {
        self.finish();
    }
}

fn reports() -> Option<&'static Sender<Report>> {
    let start = || {
        let (reports, due) = bounded(MAX_REPORTS);
        threads::spawn_with_stack("log-budget", REPORTER_STACK, move || report_all(&due))
            .map(|_| reports)
            .ok()
    };
    REPORTS.get_or_init(start).as_ref()
}

/// Reports each budget at the end of its period, as long as the process runs.
fn report_all(due: &Receiver<Report>) {
    // A budget that comes later may end its period earlier: it is reported up to a minute late.
    while let Ok((end, budget)) = due.recv() {
        std::thread::sleep(time_left(end));
        if let Some(budget) = budget.upgrade() {
            let left_out = budget.period.lock().take_over(Instant::now());
            budget.log_left_out(left_out);
        }
    }
}

/// What was logged and left out in the current period.
#[derive(Default)]
struct Period {
    end: Option<Instant>,
    /// Lines logged, beside the first of each cause.
    lines: usize,
    /// The lines of each cause that were left out.
    causes: BTreeMap<&'static str, u64>,
    /// When each text was last logged, by the address it is about. Bounded by the number of lines.
    logged: HashMap<(String, String), Instant>,
}

#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    Log,
    LeaveOut,
    /// It is the first one left out in a period that ends then.
    LeaveOutFirst(Instant),
}

impl Period {
    /// Begins a new period if this one has ended. Returns what to say about the old one.
    fn take_over(&mut self, now: Instant) -> Option<String> {
        if self.end.is_none_or(|end| now < end) {
            return None;
        }
        let left_out = self.left_out();
        *self = Self::default();
        left_out
    }

    fn judge(&mut self, cause: &'static str, who: &str, why: &str, now: Instant) -> Verdict {
        let end = *self.end.get_or_insert(now + PERIOD);
        let address = who.rsplit_once(':').map_or(who, |(address, _)| address);
        let text = (address.to_owned(), why.to_owned());
        let is_repeated = self
            .logged
            .get(&text)
            .is_some_and(|last| now.saturating_duration_since(*last) < REPEAT_INTERVAL);
        let is_first_of_cause = !self.causes.contains_key(cause);
        if is_first_of_cause || (!is_repeated && self.lines < MAX_LINES) {
            self.lines += usize::from(!is_first_of_cause);
            self.causes.entry(cause).or_default();
            self.logged.insert(text, now);
            return Verdict::Log;
        }
        let is_first = self.causes.values().all(|count| *count == 0);
        *self.causes.entry(cause).or_default() += 1;
        if is_first { Verdict::LeaveOutFirst(end) } else { Verdict::LeaveOut }
    }

    /// What to say about the lines left out, if there are any.
    fn left_out(&self) -> Option<String> {
        let counts = self.causes.iter().filter(|(_, count)| **count > 0);
        let total: u64 = counts.clone().map(|(_, count)| count).sum();
        let each: Vec<String> = counts.map(|(cause, count)| format!("{cause}: {count}")).collect();
        (total > 0).then(|| {
            format!(
                "{total} more lines of the last minute about unauthenticated connections were left \
                 out ({})",
                each.join(", ")
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A period and a clock.
    struct Scene {
        period: Period,
        now: Instant,
    }

    impl Scene {
        fn new() -> Self {
            Self { period: Period::default(), now: Instant::now() }
        }

        fn logs(&mut self, cause: &'static str, who: &str, why: &str) -> bool {
            self.period.judge(cause, who, why, self.now) == Verdict::Log
        }
    }

    #[test]
    fn a_flood_of_ever_new_texts_has_one_budget_and_hides_no_other_cause() {
        let mut scene = Scene::new();
        let logged = (0..10_000)
            .filter(|n| scene.logs("unknown CA", &format!("[2001:db8::{n:x}]:1"), &n.to_string()))
            .count();
        assert_eq!(logged, 1 + MAX_LINES);
        assert!(scene.logs("silent", "192.0.2.1:1", "said nothing"));
        assert!(!scene.logs("silent", "192.0.2.2:1", "said nothing"));
        assert!(scene.logs("expired", "192.0.2.1:1", "expired"));
        let left_out = 10_000 - 1 - MAX_LINES;
        let said = scene.period.left_out().unwrap();
        assert!(said.starts_with(&format!("{} more lines", left_out + 1)), "{said}");
        assert!(said.ends_with(&format!("(silent: 1, unknown CA: {left_out})")), "{said}");
    }

    #[test]
    fn one_that_repeats_itself_takes_no_line_from_others() {
        let mut scene = Scene::new();
        assert!(scene.logs("c", "192.0.2.1:1", "text"));
        for port in 0..1000 {
            assert!(!scene.logs("c", &format!("192.0.2.1:{port}"), "text"));
        }
        assert!(scene.logs("c", "192.0.2.2:1", "text"));
        assert!(scene.logs("c", "192.0.2.1:1", "another"));
        scene.now += REPEAT_INTERVAL;
        assert!(scene.logs("c", "192.0.2.1:2", "text"));
    }

    #[test]
    fn each_minute_has_a_new_budget_and_reports_the_last_once() {
        let mut scene = Scene::new();
        let began = scene.now;
        assert_eq!(scene.period.take_over(scene.now), None);
        assert!(scene.logs("c", "a:1", "text"));
        let end = Verdict::LeaveOutFirst(began + PERIOD);
        assert_eq!(scene.period.judge("c", "a:1", "text", scene.now), end);
        assert_eq!(scene.period.judge("c", "a:1", "text", scene.now), Verdict::LeaveOut);
        scene.now = began + PERIOD - Duration::from_nanos(1);
        assert_eq!(scene.period.take_over(scene.now), None);
        scene.now = began + PERIOD;
        let said = scene.period.take_over(scene.now).unwrap();
        assert!(said.starts_with("2 more lines"), "{said}");
        assert!(scene.logs("c", "a:1", "text"));
        assert_eq!(scene.period.take_over(scene.now + PERIOD), None, "nothing was left out");
    }

    #[test]
    fn what_is_kept_has_a_bound() {
        let mut scene = Scene::new();
        for n in 0..10_000 {
            scene.logs("c", "a:1", &n.to_string());
        }
        assert_eq!(scene.period.logged.len(), 1 + MAX_LINES);
    }
}
