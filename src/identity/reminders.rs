//! Expiry warnings, once a day.

use std::collections::HashMap;
use std::path::Path;

use rustls::pki_types::UnixTime;

use super::certificate::PeerCertificate;
use super::text::shown;

/// A day in seconds.
const DAY: u64 = 86_400;
/// How many seconds before a certificate expires to warn: thirty days.
const CERTIFICATE_WARNING_LEAD: u64 = 30 * DAY;
/// Most subjects that are remembered; beyond that, new warnings are dropped until the next day.
const MAX_REMEMBERED: usize = 65_536;

/// Something to warn about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExpiryNotice {
    /// The subject, the same from day to day.
    pub key: String,
    /// The line for the log.
    pub text: String,
}

impl ExpiryNotice {
    /// The warning about a certificate that expires soon; `whose` begins the line.
    pub fn certificate(whose: &str, certificate: &PeerCertificate, now: UnixTime) -> Option<Self> {
        let end = certificate.expires.to_unix().as_secs();
        if end > now.as_secs().saturating_add(CERTIFICATE_WARNING_LEAD) {
            return None;
        }
        let when = match end.checked_sub(now.as_secs()) {
            None => "it has expired".to_owned(),
            Some(left) if left < DAY => "in less than a day".to_owned(),
            Some(left) if left < 2 * DAY => "in 1 day".to_owned(),
            Some(left) => format!("in {} days", left / DAY),
        };
        Some(Self {
            key: format!("certificate {}", certificate.fingerprint),
            text: format!(
                "{whose} (sha256 {}) expires on {}, {when}: renew it",
                certificate.fingerprint, certificate.expires
            ),
        })
    }

    /// Prefixes the text with the file.
    pub(super) fn in_file(self, file: &Path) -> Self {
        Self { text: format!("{}: {}", shown(file), self.text), ..self }
    }
}

/// Remembers what was logged today.
#[derive(Debug, Default)]
pub struct Reminders {
    /// When each subject was last logged, in seconds since 1970.
    said: HashMap<String, u64>,
}

impl Reminders {
    /// Whether this is to be logged now; if so, it is recorded as logged.
    pub fn is_due(&mut self, key: &str, now: UnixTime) -> bool {
        let now = now.as_secs();
        let is_recent = |at: u64| now.checked_sub(at).is_some_and(|age| age < DAY);
        if self.said.get(key).is_some_and(|at| is_recent(*at)) {
            return false;
        }
        if self.said.len() >= MAX_REMEMBERED {
            self.said.retain(|_, at| is_recent(*at));
            if self.said.len() >= MAX_REMEMBERED {
                return false;
            }
        }
        self.said.insert(key.to_owned(), now);
        true
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::identity::Date;

    fn at(seconds: u64) -> UnixTime {
        UnixTime::since_unix_epoch(Duration::from_secs(seconds))
    }

    #[test]
    fn a_matter_is_spoken_of_once_a_day() {
        let mut reminders = Reminders::default();
        let start = 1_795_158_476;
        let said: Vec<u64> =
            (0..72).filter(|hour| reminders.is_due("a", at(start + hour * 3600))).collect();
        assert_eq!(said, [0, 24, 48]);
        assert!(reminders.is_due("b", at(start)));
        assert!(reminders.is_due("b", at(start - 2 * DAY)), "a clock that was set back");
    }

    #[test]
    fn an_end_is_announced_from_thirty_days_before() {
        let end = 1_795_158_476;
        let certificate = PeerCertificate {
            name: "web1".to_owned(),
            fingerprint: "ab".to_owned(),
            expires: Date::from(at(end)),
        };
        let text = |now| ExpiryNotice::certificate("web1: its certificate", &certificate, at(now));
        assert_eq!(text(end - 30 * DAY - 1), None);
        for (before, words) in
            [(30 * DAY, "in 30 days"), (DAY, "in 1 day"), (3600, "in less than a day")]
        {
            let line = text(end - before).unwrap().text;
            let expected = format!(
                "web1: its certificate (sha256 ab) expires on 2026-11-20 07:07:56 UTC, {words}: \
                 renew it"
            );
            assert_eq!(line, expected);
        }
        assert!(text(end + 1).unwrap().text.contains("it has expired"));
    }
}
