//! Times as text (RFC 3339).

use time::{Date, Month, OffsetDateTime, format_description::well_known::Rfc3339};

/// Seconds since 1970 as text in UTC, such as `2026-10-11T00:00:00Z`.
#[must_use]
pub fn to_text(unix_s: u64) -> String {
    i64::try_from(unix_s)
        .ok()
        .and_then(|seconds| OffsetDateTime::from_unix_timestamp(seconds).ok())
        .and_then(|time| time.format(&Rfc3339).ok())
        .unwrap_or_else(|| unix_s.to_string())
}

/// Reads such a text, with `Z` or an offset such as `+00:00`, without fractions of a second;
/// `None` when it is none or before 1970.
#[must_use]
pub fn from_text(text: &str) -> Option<u64> {
    let (date_time, zone) = text.split_at_checked(19)?;
    let (date, time) = date_time.split_at_checked(10)?;
    let time = time.strip_prefix(['T', 't'])?;
    let [year, month, day] = numbers::<3>(date, '-', [4, 2, 2])?;
    let [hour, minute, second] = numbers::<3>(time, ':', [2, 2, 2])?;
    let month = Month::try_from(u8::try_from(month).ok()?).ok()?;
    let date =
        Date::from_calendar_date(i32::try_from(year).ok()?, month, u8::try_from(day).ok()?).ok()?;
    let [hour, minute, second] = [
        u8::try_from(hour).ok()?,
        u8::try_from(minute).ok()?,
        u8::try_from(second).ok()?,
    ];
    let utc = date.with_hms(hour, minute, second).ok()?.assume_utc();
    let offset_s = offset_s(zone)?;
    u64::try_from(utc.unix_timestamp().checked_sub(offset_s)?).ok()
}

/// How many seconds a zone such as `Z` or `-03:30` is ahead of UTC.
fn offset_s(zone: &str) -> Option<i64> {
    if zone.eq_ignore_ascii_case("z") {
        return Some(0);
    }
    let (sign, rest) = match zone.split_at_checked(1)? {
        ("+", rest) => (1, rest),
        ("-", rest) => (-1, rest),
        _ => return None,
    };
    let [hours, minutes] = numbers::<2>(rest, ':', [2, 2])?;
    (hours < 24 && minutes < 60).then(|| sign * (i64::from(hours) * 3600 + i64::from(minutes) * 60))
}

/// Exactly `N` numbers of these many digits.
fn numbers<const N: usize>(text: &str, separator: char, digits: [usize; N]) -> Option<[u32; N]> {
    let mut found = [0; N];
    let mut parts = text.split(separator);
    for (slot, digits) in found.iter_mut().zip(digits) {
        let part = parts.next()?;
        if part.len() != digits || !part.bytes().all(|octet| octet.is_ascii_digit()) {
            return None;
        }
        *slot = part.parse().ok()?;
    }
    parts.next().is_none().then_some(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_come_back() {
        for unix_s in [0, 1, 951_782_400, 1_800_000_000, 4_102_444_799] {
            assert_eq!(from_text(&to_text(unix_s)), Some(unix_s));
        }
        assert_eq!(to_text(1_791_676_800), "2026-10-11T00:00:00Z");
    }

    #[test]
    fn offsets_count_and_nonsense_does_not() {
        assert_eq!(from_text("1970-01-01T01:00:00+01:00"), Some(0));
        assert_eq!(from_text("1970-01-01T00:00:00-00:30"), Some(1800));
        for text in [
            "",
            "2026-10-11",
            "2026-10-11T00:00:00",
            "2026-13-11T00:00:00Z",
            "2026-02-30T00:00:00Z",
            "2026-10-11T24:00:00Z",
            "2026-10-11 00:00:00Z",
            "2026-10-11T00:00:00+1",
            "1969-12-31T23:59:59Z",
            "+026-10-11T00:00:00Z",
            "2026-10-11T00:00:0\u{e9}Z",
        ] {
            assert_eq!(from_text(text), None, "{text}");
        }
    }
}
