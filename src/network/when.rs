//! Points in time as people write them: RFC 3339, and `10m` or `24h` for "so long ago".
//!
//! PURE: the present is passed in. Times are in UTC, counted from 1970 without leap seconds.

use std::time::Duration;

/// Writes a time since 1970 as RFC 3339, with nanoseconds, as Docker does.
#[must_use]
pub fn rfc3339(since_epoch: Duration) -> String {
    let seconds = since_epoch.as_secs();
    let (days, second) = (seconds / DAY, seconds % DAY);
    let (year, month, day) = date(i64::try_from(days).unwrap_or(i64::MAX));
    format!(
        "{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}.{:09}Z",
        second / 3600,
        second / 60 % 60,
        second % 60,
        since_epoch.subsec_nanos()
    )
}

/// Reads what Docker's `until` takes: RFC 3339 or a part of it, seconds since 1970, or a duration
/// before `now`, as `1h30m`. Returns microseconds since 1970.
#[must_use]
pub fn micros(text: &str, now: Duration) -> Option<i64> {
    if let Some(ago) = duration(text) {
        return i64::try_from(now.as_micros()).ok()?.checked_sub(ago);
    }
    decimal(text).or_else(|| timestamp(text))
}

/// A duration as Go writes them, in microseconds: numbers with the units `h`, `m`, `s` and `ms`.
fn duration(text: &str) -> Option<i64> {
    let mut rest = text;
    let mut total = 0_i64;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, unit) = rest.split_at(digits);
        let (factor, next) = [("ms", 1), ("h", 3_600_000), ("m", 60_000), ("s", 1000)]
            .into_iter()
            .find_map(|(name, factor)| Some((factor, unit.strip_prefix(name)?)))?;
        total = total.checked_add(decimal(number)?.checked_mul(factor)? / 1000)?;
        rest = next;
    }
    (!text.is_empty()).then_some(total)
}

/// Millionths of a decimal number, `1.5` or `86400`: what is smaller is left out.
fn decimal(text: &str) -> Option<i64> {
    // Not by f64: its parser is 14 KiB of the program.
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if !digits(whole) || !digits(fraction) || whole.len() + fraction.len() == 0 {
        return None;
    }
    let mut millionths: String = fraction.chars().chain(std::iter::repeat('0')).take(6).collect();
    millionths.insert_str(0, whole);
    millionths.parse().ok()
}

/// `2026-11-21`, `2026-11-21T07:50:00`, with or without a fraction, `Z` or `+01:00`.
fn timestamp(text: &str) -> Option<i64> {
    let (day, time) = match text.split_once('T') {
        Some((day, time)) => (day, Some(time)),
        None => (text, None),
    };
    let mut parts = day.split('-');
    let (year, month, day) = (parts.next()?, parts.next()?, parts.next()?);
    if parts.next().is_some() || year.len() != 4 {
        return None;
    }
    let (month, day) = (bounded(month, 1, 12)?, bounded(day, 1, 31)?);
    let days = days(year.parse().ok()?, month, day);
    let mut minutes = days.checked_mul(24 * 60)?;
    let mut micros = 0;
    let in_micros = |minutes: i64| minutes.checked_mul(60 * 1_000_000);
    let Some(time) = time else { return in_micros(minutes) };
    let (clock, zone) = match time.find(['Z', '+', '-']) {
        Some(at) => time.split_at(at),
        None => (time, "Z"),
    };
    let mut parts = clock.split(':');
    minutes += i64::from(bounded(parts.next()?, 0, 23)? * 60 + bounded(parts.next()?, 0, 59)?);
    if let Some(second) = parts.next() {
        micros = decimal(second).filter(|micros| *micros < 61_000_000)?;
    }
    if parts.next().is_some() {
        return None;
    }
    if let Some((hours, rest)) = zone.get(1..).and_then(|zone| zone.split_once(':')) {
        let east = i64::from(bounded(hours, 0, 23)? * 60 + bounded(rest, 0, 59)?);
        minutes -= if zone.starts_with('+') { east } else { -east };
    } else if zone != "Z" {
        return None;
    }
    in_micros(minutes)?.checked_add(micros)
}

fn bounded(text: &str, min: i32, max: i32) -> Option<i32> {
    let in_form = text.len() == 2 && text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|number| in_form && (min..=max).contains(number))
}

/// Days from 1970 to a date of the Gregorian calendar: counted from March, so that the leap day
/// is a year's last.
fn days(year: i64, month: i32, day: i32) -> i64 {
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let day_of_year = i64::from((153 * month + 2) / 5 + day - 1);
    year * 365 + year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400) + day_of_year
        - DAYS_TO_1970
}

/// The date so many days after 1970.
fn date(days: i64) -> (i64, i32, i32) {
    // A guess that is at most one year too late, and then the month from March on.
    let mut year = (days + DAYS_TO_1970) * 400 / 146_097 + 1;
    while self::days(year, 3, 1) > days {
        year -= 1;
    }
    let day_of_year = i32::try_from(days - self::days(year, 3, 1)).unwrap_or_default();
    let month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month + 2) / 5 + 1;
    if month < 10 { (year, month + 3, day) } else { (year + 1, month - 9, day) }
}

/// Seconds of a day.
const DAY: u64 = 86_400;

/// Days from the first of March of the year 0 to 1970.
const DAYS_TO_1970: i64 = 719_468;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_written_and_read_alike() {
        for (seconds, text) in [
            (0, "1970-01-01T00:00:00.000000000Z"),
            (951_782_400, "2000-02-29T00:00:00.000000000Z"),
            (951_868_799, "2000-02-29T23:59:59.000000000Z"),
            (951_868_800, "2000-03-01T00:00:00.000000000Z"),
            (1_767_225_599, "2025-12-31T23:59:59.000000000Z"),
            (4_107_542_400, "2100-03-01T00:00:00.000000000Z"),
        ] {
            assert_eq!(rfc3339(Duration::from_secs(seconds)), text);
            let expected = i64::try_from(seconds).unwrap() * 1_000_000;
            assert_eq!(micros(text, Duration::ZERO), Some(expected), "{text}");
        }
        assert_eq!(rfc3339(Duration::new(1, 7)), "1970-01-01T00:00:01.000000007Z");
    }

    // E13
    #[test]
    fn until_is_a_time_or_so_long_ago() {
        let now = Duration::from_secs(100_000);
        for (text, expected) in [
            ("10m", Some(99_400_000_000)),
            ("1h30m", Some(94_600_000_000)),
            ("1.5s", Some(99_998_500_000)),
            ("24h", Some(13_600_000_000)),
            ("500ms", Some(99_999_500_000)),
            ("86400", Some(86_400_000_000)),
            ("1970-01-02", Some(86_400_000_000)),
            ("1970-01-02T01:00", Some(90_000_000_000)),
            ("1970-01-02T01:00:00+01:00", Some(86_400_000_000)),
            ("1970-01-01T23:00:00.5-01:00", Some(86_400_500_000)),
            ("", None),
            ("yesterday", None),
            ("10", Some(10_000_000)),
            (".5", Some(500_000)),
            ("7.", Some(7_000_000)),
            ("0.1234567", Some(123_456)),
            (".", None),
            ("1.2.3", None),
            ("99999999999999999999", None),
            ("99999999999h", None),
            ("10x", None),
            ("-5", None),
            ("nan", None),
            ("1970-13-01", None),
            ("1970-01-02T25:00", None),
            ("1970-01-02T01", None),
        ] {
            assert_eq!(micros(text, now), expected, "{text}");
        }
    }
}
