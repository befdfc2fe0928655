//! How long to wait before dialling again.
//!
//! Each wait is random between zero and a bound that doubles with every failure, so that clients
//! that lost their server together do not come back together.

use std::time::Duration;

use crate::link::LinkEnd;
use crate::net::dial::Backoff;
use crate::wire::GoodbyeReason;

/// A pipe that lived this long was healthy: after its end the waits start over. Longer than any
/// wait.
const STABLE_AFTER: Duration = Duration::from_secs(60);
const _: () = assert!(STABLE_AFTER.as_secs() > crate::net::dial::MAX_WAIT.as_secs());
/// How long to wait if another machine uses this one's key, plus up to
/// [`DUPLICATE_IDENTITY_JITTER`].
const DUPLICATE_IDENTITY_WAIT: Duration = Duration::from_secs(30);
/// See [`DUPLICATE_IDENTITY_WAIT`].
const DUPLICATE_IDENTITY_JITTER: Duration = Duration::from_secs(10);

/// The waits of one dialling thread.
#[derive(Default)]
pub(super) struct Redial {
    backoff: Backoff,
}

/// A pipe that has ended, as far as the next wait depends on it.
#[derive(Clone, Copy, Debug)]
pub(super) struct EndedPipe {
    /// How long it lived.
    pub lived: Duration,
    /// Whether a heartbeat was answered on it.
    pub is_proved: bool,
    pub how: HowEnded,
}

/// How a pipe has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum HowEnded {
    /// The server had announced its stop.
    Announced,
    /// The server closed it properly.
    Closed,
    /// Another connection with this client's name replaced it. That is no good sign: dialling again
    /// replaces the other one.
    Replaced,
    /// The same, and the server noticed that two machines use the key.
    DuplicateIdentity,
    /// Without a word.
    Lost,
}

impl HowEnded {
    /// `is_announced`: the server had announced its stop.
    pub fn new(end: &LinkEnd, is_announced: bool) -> Self {
        match end {
            LinkEnd::Dismissed(goodbye) => match goodbye.reason {
                GoodbyeReason::DuplicateIdentity => Self::DuplicateIdentity,
                GoodbyeReason::Replaced => Self::Replaced,
                GoodbyeReason::Certificate | GoodbyeReason::Other(_) => Self::Closed,
            },
            _ if is_announced => Self::Announced,
            LinkEnd::ClosedByPeer => Self::Closed,
            _ => Self::Lost,
        }
    }
}

impl Redial {
    /// Takes the end of a pipe into account that had been ready.
    pub fn note_end(&mut self, ended: EndedPipe) {
        match ended.how {
            _ if ended.lived >= STABLE_AFTER => self.backoff.reset(),
            HowEnded::Announced => self.backoff.reset(),
            HowEnded::Closed => self.backoff.ease(),
            HowEnded::Lost if ended.is_proved => self.backoff.ease(),
            HowEnded::Lost | HowEnded::Replaced | HowEnded::DuplicateIdentity => {}
        }
    }

    /// The wait before the next attempt. `random` is from 0 to 1.
    pub fn next_wait(&mut self, random: f64) -> Duration {
        self.backoff.next_wait(random)
    }

    /// The wait if another machine uses this one's key.
    pub fn stay_away(random: f64) -> Duration {
        DUPLICATE_IDENTITY_WAIT + DUPLICATE_IDENTITY_JITTER.mul_f64(random)
    }
}

#[cfg(test)]
mod tests {
    use fastrand::Rng;

    use super::*;
    use crate::node::running::reconnect_spread;

    const CLIENTS: u32 = 2000;
    /// A server has to welcome this many clients in a tenth of a second at most.
    const MOST_AT_ONCE: usize = 300;

    fn secs(secs: f64) -> Duration {
        Duration::from_secs_f64(secs)
    }

    fn ended(how: HowEnded, lived: f64) -> EndedPipe {
        EndedPipe { lived: secs(lived), is_proved: true, how }
    }

    /// A client that has failed this often.
    fn failed(times: u32) -> Redial {
        let mut redial = Redial::default();
        for _ in 0..times {
            redial.next_wait(1.0);
        }
        redial
    }

    #[test]
    fn a_pipe_that_worked_or_was_closed_properly_is_dialled_again_soon_whatever_was_before() {
        for (how, most) in [
            (HowEnded::Announced, 0.1),
            (HowEnded::Closed, 0.8),
            (HowEnded::Lost, 0.8),
            (HowEnded::Replaced, 30.0),
        ] {
            let mut redial = failed(20);
            redial.note_end(ended(how, 0.01));
            assert_eq!(redial.next_wait(1.0), secs(most), "{how:?}");
            let mut redial = failed(20);
            redial.note_end(ended(how, 60.0));
            assert_eq!(redial.next_wait(1.0), secs(0.1), "{how:?} after a minute");
        }
        let mut redial = failed(20);
        redial.note_end(EndedPipe { is_proved: false, ..ended(HowEnded::Lost, 1.0) });
        assert_eq!(redial.next_wait(1.0), secs(30.0), "it never answered a heartbeat");
        let mut redial = Redial::default();
        redial.note_end(ended(HowEnded::Lost, 1.0));
        assert_eq!(redial.next_wait(1.0), secs(0.1), "it does not make the first wait longer");
    }

    #[test]
    fn the_end_of_a_pipe_is_understood() {
        use crate::wire::Goodbye;
        let said = |reason| LinkEnd::Dismissed(Goodbye { reason, text: String::new() });
        let broken = LinkEnd::Broken(String::new());
        for (end, is_announced, how) in [
            (LinkEnd::ClosedByPeer, true, HowEnded::Announced),
            (broken.clone(), true, HowEnded::Announced),
            (LinkEnd::ClosedByPeer, false, HowEnded::Closed),
            (broken, false, HowEnded::Lost),
            (said(GoodbyeReason::Certificate), false, HowEnded::Closed),
            (said(GoodbyeReason::Other(9)), false, HowEnded::Closed),
            (said(GoodbyeReason::Replaced), true, HowEnded::Replaced),
            (said(GoodbyeReason::DuplicateIdentity), false, HowEnded::DuplicateIdentity),
        ] {
            assert_eq!(HowEnded::new(&end, is_announced), how, "{end:?}");
        }
    }

    /// When each client has a pipe again whose server is away for `outage`, sorted.
    fn arrivals(how: HowEnded, lived: f64, outage: f64, failures: u32, seed: u64) -> Vec<Duration> {
        let mut random = Rng::with_seed(seed);
        let spread = reconnect_spread(CLIENTS);
        let mut times: Vec<Duration> = (0..CLIENTS)
            .map(|_| {
                let mut redial = failed(failures);
                redial.note_end(ended(how, lived));
                let mut due = match how {
                    HowEnded::Announced => {
                        let least = redial.next_wait(random.f64());
                        spread.mul_f64(random.f64()).max(least)
                    }
                    _ => redial.next_wait(random.f64()),
                };
                while due < secs(outage) {
                    due += redial.next_wait(random.f64());
                }
                due
            })
            .collect();
        times.sort();
        times
    }

    /// The most clients that arrive within a tenth of a second.
    fn peak(times: &[Duration]) -> usize {
        let window = secs(0.1);
        let arriving = |at: usize| times.partition_point(|time| *time < times[at] + window) - at;
        (0..times.len()).map(arriving).max().unwrap_or_default()
    }

    /// The clock and the randomness are the test's own.
    #[test]
    fn two_thousand_clients_of_a_restarted_server_come_back_spread_and_soon() {
        for seed in 0..5 {
            for failures in [0, 20] {
                for outage in [0.0, 0.3, 1.0, 3.0, 10.0] {
                    let times = arrivals(HowEnded::Announced, 5.0, outage, failures, seed);
                    let (peak, last) = (peak(&times), times[times.len() - 1]);
                    let case =
                        format!("away for {outage} s: at most {peak} in 0.1 s, all after {last:?}");
                    println!("{case}");
                    assert!(peak <= MOST_AT_ONCE, "{case}");
                    // Soon after the spread, or after as long again as the server was away; some
                    // have bad luck.
                    let most = times[times.len() * 99 / 100];
                    assert!(most <= secs(5.5 + 3.0 * outage), "{most:?}, {case}");
                    assert!(last <= secs(outage + 30.0), "{case}");
                }
            }
        }
    }

    #[test]
    fn two_thousand_clients_of_a_killed_server_come_back_spread() {
        for seed in 0..5 {
            for outage in [0.5, 1.0, 3.0, 10.0, 60.0] {
                for (lived, failures) in [(3600.0, 0), (5.0, 20)] {
                    let times = arrivals(HowEnded::Lost, lived, outage, failures, seed);
                    let (peak, last) = (peak(&times), times[times.len() - 1]);
                    let case =
                        format!("away for {outage} s: at most {peak} in 0.1 s, all after {last:?}");
                    println!("{case}");
                    assert!(peak <= 2 * MOST_AT_ONCE, "{case}");
                    assert!(last <= secs(outage + 30.0), "{case}");
                }
            }
        }
    }
}
