//! Dates of certificates, as people and programs read them.

use std::fmt;
use std::time::Duration;

use rustls::pki_types::UnixTime;
use time::OffsetDateTime;

/// The type that certificates are read and made with. Its maximum, the end of 9999, is also that of
/// a certificate.
pub(crate) fn moment(time: UnixTime) -> OffsetDateTime {
    let seconds = i64::try_from(time.as_secs()).unwrap_or(i64::MAX);
    OffsetDateTime::from_unix_timestamp(seconds)
        .unwrap_or(time::PrimitiveDateTime::MAX.assume_utc())
}

/// A moment as people read it: `2026-11-20 08:30:00 UTC`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Date(OffsetDateTime);

impl Date {
    /// As programs read it (RFC 3339): `2026-11-20T08:30:00Z`.
    pub fn rfc3339(self) -> String {
        self.to_string().replacen(' ', "T", 1).replace(" UTC", "Z")
    }

    /// As seconds since 1970; a moment before that is 1970.
    pub fn to_unix(self) -> UnixTime {
        let seconds = u64::try_from(self.0.unix_timestamp()).unwrap_or(0);
        UnixTime::since_unix_epoch(Duration::from_secs(seconds))
    }
}

impl From<OffsetDateTime> for Date {
    fn from(time: OffsetDateTime) -> Self {
        Self(time)
    }
}

impl From<UnixTime> for Date {
    fn from(time: UnixTime) -> Self {
        Self(moment(time))
    }
}

impl fmt::Display for Date {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let time = self.0;
        write!(
            f,
            "{:04}-{:02}-{:02} {:02}:{:02}:{:02} UTC",
            time.year(),
            u8::from(time.month()),
            time.day(),
            time.hour(),
            time.minute(),
            time.second()
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_readable_up_to_the_last_one() {
        let date = |seconds| Date::from(UnixTime::since_unix_epoch(Duration::from_secs(seconds)));
        assert_eq!(date(0).to_string(), "1970-01-01 00:00:00 UTC");
        assert_eq!(date(1_795_158_476).to_string(), "2026-11-20 07:07:56 UTC");
        assert_eq!(date(u64::MAX).to_string(), "9999-12-31 23:59:59 UTC");
    }
}
