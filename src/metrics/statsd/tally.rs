//! The counts since the last packets, and their lines.

use std::collections::HashMap;
use std::time::Duration;

use crate::event::{CODE_REFUSED, CODE_UNHANDLED};
use crate::metrics::meter::{HandledMethod, Mark};

/// Most values of one timing per interval.
pub(super) const MAX_SAMPLES: usize = 32;
/// Most known methods that are counted by name.
const MAX_METHODS: usize = 256;
/// Most methods that are passed on and counted by name: their names are whatever peers make up and a
/// service answers, and take no room from the others.
const MAX_PASSED_ON: usize = 128;
/// Most bytes of a method's name.
const MAX_NAME: usize = 64;

/// The name for methods beyond [`MAX_METHODS`]. No method has this name: they begin with a verb.
const OTHER: &str = "other";
/// For unhandled events, whose names the peer makes up.
const UNHANDLED: &str = "unhandled";
/// For events that the rules refuse, likewise.
const REFUSED: &str = "refused";

// The original's names.
const NEW: &str = "client.connect.new.tick";
const CONNECTED: &str = "client.connect.connected.tick";
const BROKEN: &str = "client.connect.broken.tick";
const BEAT: &str = "client.connect.heartbeat.success.tick";
const NO_BEAT: &str = "client.connect.heartbeat.fail.tick";
const SEND: &str = "message.send.tick";
const RECEIVE: &str = "message.receive.tick";
const ATTEMPT_TIME: &str = "client.connect.new.attempt.timing";
const BEAT_TIME: &str = "client.connect.heartbeat.timing";
const SEND_TIME: &str = "message.send.timing";
const HANDLE_TIME: &str = "message.receive.handle.timing";

/// Counts and names of methods.
#[derive(Default)]
pub(super) struct Tally {
    sums: Sums,
    methods: Methods,
}

/// The numbers of one interval.
#[derive(Default)]
pub(super) struct Sums {
    new: u64,
    connected: u64,
    broken: u64,
    beat: u64,
    no_beat: u64,
    send: u64,
    receive: u64,
    attempt_time: Samples,
    beat_time: Samples,
    send_time: Samples,
    handle_time: Samples,
    /// Indexed by the number of the method.
    methods: Vec<Samples>,
}

/// The numbers of the methods seen so far.
#[derive(Default)]
struct Methods {
    numbers: HashMap<String, usize>,
    /// Indexed by number: the name as sent to statsd.
    names: Vec<String>,
    /// How many of them are known methods, [`OTHER`] included.
    known: usize,
}

impl Tally {
    /// Counts one mark.
    pub fn add(&mut self, mark: Mark<'_>) {
        let sums = &mut self.sums;
        match mark {
            Mark::Dialling => sums.new += 1,
            Mark::Connected { took } => {
                sums.connected += 1;
                sums.attempt_time.add(took);
            }
            Mark::Lost => sums.broken += 1,
            Mark::HeartbeatAnswered { took } => {
                sums.beat += 1;
                sums.beat_time.add(took);
            }
            Mark::HeartbeatMissed => sums.no_beat += 1,
            Mark::Asking => sums.send += 1,
            Mark::Replied { took, .. } => sums.send_time.add(took),
            // The original counts neither.
            Mark::Unanswered { .. } | Mark::NotAsked | Mark::TurnedAway => {}
            Mark::Asked => sums.receive += 1,
            Mark::Handled { method, code, took } => {
                sums.handle_time.add(took);
                let number = self.methods.number(match (code, method) {
                    (CODE_UNHANDLED, _) | (_, HandledMethod::Unknown) => {
                        HandledMethod::Known(UNHANDLED)
                    }
                    (CODE_REFUSED, _) => HandledMethod::Known(REFUSED),
                    _ => method,
                });
                if sums.methods.len() <= number {
                    sums.methods.resize_with(number + 1, Samples::default);
                }
                sums.methods[number].add(took);
            }
        }
    }

    /// Takes the numbers out. Appends to `names` the methods' names that are missing there.
    pub fn take(&mut self, names: &mut Vec<String>) -> Sums {
        names.extend_from_slice(self.methods.names.get(names.len()..).unwrap_or_default());
        std::mem::take(&mut self.sums)
    }
}

impl Methods {
    fn number(&mut self, method: HandledMethod<'_>) -> usize {
        let (name, has_room) = match method {
            HandledMethod::Known(name) => (name, self.known < MAX_METHODS - 1),
            HandledMethod::PassedOn(name) => (name, self.names.len() - self.known < MAX_PASSED_ON),
            HandledMethod::Unknown => (UNHANDLED, false),
        };
        if let Some(number) = self.numbers.get(name) {
            return *number;
        }
        if !has_room && name != OTHER {
            return self.number(HandledMethod::Known(OTHER));
        }
        let number = self.names.len();
        self.names.push(safe(name));
        self.numbers.insert(name.to_owned(), number);
        self.known += usize::from(matches!(method, HandledMethod::Known(_)));
        number
    }
}

/// A name with only the characters that have no meaning in statsd.
fn safe(method: &str) -> String {
    let clean = |c: char| if c.is_ascii_alphanumeric() || "_.-".contains(c) { c } else { '_' };
    method.chars().map(clean).take(MAX_NAME).collect()
}

impl Sums {
    /// The lines without line ends. Zero counts are omitted.
    pub fn lines(&self, methods: &[String], mut line: impl FnMut(&str)) {
        let counts = [
            (NEW, self.new),
            (CONNECTED, self.connected),
            (BROKEN, self.broken),
            (BEAT, self.beat),
            (NO_BEAT, self.no_beat),
            (SEND, self.send),
            (RECEIVE, self.receive),
        ];
        for (name, count) in counts.into_iter().filter(|(_, count)| *count > 0) {
            line(&format!("{name}:{count}|c"));
        }
        self.attempt_time.lines(ATTEMPT_TIME, &mut line);
        self.beat_time.lines(BEAT_TIME, &mut line);
        self.send_time.lines(SEND_TIME, &mut line);
        self.handle_time.lines(HANDLE_TIME, &mut line);
        for (samples, method) in self.methods.iter().zip(methods).filter(|(s, _)| s.count > 0) {
            line(&format!("message.received.handle.{method}.tick:{}|c", samples.count));
            samples.lines(&format!("message.received.handle.{method}.timing"), &mut line);
        }
    }
}

/// The values of one timing: all of them, or a random sample.
#[derive(Default)]
struct Samples {
    count: u64,
    /// In milliseconds.
    kept: Vec<f64>,
}

impl Samples {
    /// Each value so far is kept with the same probability (Vitter's algorithm R).
    fn add(&mut self, took: Duration) {
        let value = took.as_secs_f64() * 1000.0;
        self.count += 1;
        if self.kept.len() < MAX_SAMPLES {
            self.kept.push(value);
        } else if let Some(place) = usize::try_from(fastrand::u64(..self.count))
            .ok()
            .and_then(|place| self.kept.get_mut(place))
        {
            *place = value;
        }
    }

    fn lines(&self, name: &str, line: &mut impl FnMut(&str)) {
        let rate = self.kept.len() as f64 / self.count.max(1) as f64;
        for value in &self.kept {
            if rate < 1.0 {
                line(&format!("{name}:{value:.3}|ms|@{rate:.6}"));
            } else {
                line(&format!("{name}:{value:.3}|ms"));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::meter::RequestOutcome;

    fn handled(method: &str, code: u32) -> Mark<'_> {
        handled_as(HandledMethod::Known(method), code)
    }

    fn handled_as(method: HandledMethod<'_>, code: u32) -> Mark<'_> {
        Mark::Handled { method, code, took: Duration::from_micros(1500) }
    }

    fn lines(tally: &mut Tally, names: &mut Vec<String>) -> Vec<String> {
        let mut lines = Vec::new();
        tally.take(names).lines(names, |line| lines.push(line.to_owned()));
        lines
    }

    #[test]
    fn every_mark_has_its_lines_once() {
        let took = Duration::from_millis(2);
        let mut tally = Tally::default();
        for mark in [
            Mark::Dialling,
            Mark::Dialling,
            Mark::Connected { took },
            Mark::Lost,
            Mark::HeartbeatAnswered { took },
            Mark::HeartbeatMissed,
            Mark::Asking,
            Mark::Replied { outcome: RequestOutcome::Fine, took },
            Mark::Asked,
            handled("get_time", 0),
        ] {
            tally.add(mark);
        }
        let names = &mut Vec::new();
        assert_eq!(
            lines(&mut tally, names),
            [
                "client.connect.new.tick:2|c",
                "client.connect.connected.tick:1|c",
                "client.connect.broken.tick:1|c",
                "client.connect.heartbeat.success.tick:1|c",
                "client.connect.heartbeat.fail.tick:1|c",
                "message.send.tick:1|c",
                "message.receive.tick:1|c",
                "client.connect.new.attempt.timing:2.000|ms",
                "client.connect.heartbeat.timing:2.000|ms",
                "message.send.timing:2.000|ms",
                "message.receive.handle.timing:1.500|ms",
                "message.received.handle.get_time.tick:1|c",
                "message.received.handle.get_time.timing:1.500|ms",
            ]
        );
        assert_eq!(lines(&mut tally, names), [""; 0]);
        tally.add(handled("get_cat", 0));
        assert!(lines(&mut tally, names)[1].contains(".get_cat.tick:1|c"));
    }

    #[test]
    fn a_crowd_is_sampled_and_its_rate_is_sent() {
        let mut tally = Tally::default();
        for _ in 0..10 * MAX_SAMPLES {
            tally.add(Mark::Replied {
                outcome: RequestOutcome::Fine,
                took: Duration::from_millis(7),
            });
        }
        let lines = lines(&mut tally, &mut Vec::new());
        assert_eq!(lines.len(), MAX_SAMPLES);
        assert_eq!(lines[0], "message.send.timing:7.000|ms|@0.100000");
    }

    /// Late values are kept as often as early ones.
    #[test]
    fn what_is_kept_is_chosen_by_chance() {
        let mut late = 0;
        for _ in 0..100 {
            let mut samples = Samples::default();
            for number in 0..2 * MAX_SAMPLES as u64 {
                samples.add(Duration::from_millis(number));
            }
            late += samples.kept.iter().filter(|value| **value >= MAX_SAMPLES as f64).count();
        }
        let all = 100 * MAX_SAMPLES;
        assert!((all / 3..=2 * all / 3).contains(&late), "{late} of {all}");
    }

    #[test]
    fn nobody_makes_up_names_without_end() {
        let mut tally = Tally::default();
        for number in 0..10_000 {
            tally.add(handled(&format!("get_{number}"), CODE_UNHANDLED));
            tally.add(handled(&format!("put_{number}"), CODE_REFUSED));
        }
        assert_eq!(tally.methods.names, [UNHANDLED, REFUSED]);
        for number in 0..10_000 {
            tally.add(handled(&format!("get_{number}"), 0));
        }
        assert_eq!(tally.methods.names.len(), MAX_METHODS);
        assert_eq!(tally.methods.names.last().map(String::as_str), Some(OTHER));
        assert_eq!(tally.methods.numbers.len(), MAX_METHODS);
    }

    #[test]
    fn what_is_passed_on_or_unknown_hides_no_method() {
        let mut tally = Tally::default();
        for number in 0..10_000 {
            tally.add(handled_as(HandledMethod::PassedOn(&format!("get_{number}")), 0));
            tally.add(handled_as(HandledMethod::Unknown, 251));
        }
        assert_eq!(tally.methods.names.len(), MAX_PASSED_ON + 2, "and unhandled, and other");
        let lines = &mut Vec::new();
        tally.add(handled("get_time", 0));
        tally.take(&mut Vec::new()).lines(&tally.methods.names, |line| lines.push(line.to_owned()));
        assert!(lines.iter().any(|line| line.contains(".get_time.tick:1|c")));
        assert!(lines.iter().any(|line| line.contains(".unhandled.tick:10000|c")));
        assert!(lines.iter().any(|line| line.contains(".other.tick:9872|c")));
    }

    #[test]
    fn names_are_made_safe() {
        for (method, name) in [
            ("get_time", "get_time"),
            ("get_a-b.c", "get_a-b.c"),
            ("get_a:1|c\nb#@ä", "get_a_1_c_b___"),
        ] {
            assert_eq!(safe(method), name);
        }
        assert_eq!(safe(&"ä".repeat(1000)).len(), MAX_NAME);
    }
}
