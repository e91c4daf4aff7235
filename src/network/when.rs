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
/// before `now`, as `1h30m`. Returns seconds since 1970.
#[must_use]
pub fn seconds(text: &str, now: Duration) -> Option<f64> {
    if let Some(ago) = duration(text) {
        return Some(now.as_secs_f64() - ago);
    }
    let unsigned = !text.starts_with(['+', '-']) && !text.contains(['e', 'E', 'n', 'N']);
    if let (true, Ok(seconds)) = (unsigned, text.parse::<f64>()) {
        return Some(seconds);
    }
    timestamp(text)
}

/// A duration as Go writes them: numbers with the units `h`, `m`, `s` and `ms`.
fn duration(text: &str) -> Option<f64> {
    let mut rest = text;
    let mut total = 0.0;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, unit) = rest.split_at(digits);
        let (factor, next) = [("ms", 0.001), ("h", 3600.0), ("m", 60.0), ("s", 1.0)]
            .into_iter()
            .find_map(|(name, factor)| Some((factor, unit.strip_prefix(name)?)))?;
        total += number.parse::<f64>().ok()? * factor;
        rest = next;
    }
    (!text.is_empty()).then_some(total)
}

/// `2026-11-21`, `2026-11-21T07:50:00`, with or without a fraction, `Z` or `+01:00`.
fn timestamp(text: &str) -> Option<f64> {
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
    let mut seconds = i32::try_from(days).ok().map(f64::from)? * f64::from(86_400);
    let Some(time) = time else { return Some(seconds) };
    let (clock, zone) = match time.find(['Z', '+', '-']) {
        Some(at) => time.split_at(at),
        None => (time, "Z"),
    };
    let mut parts = clock.split(':');
    seconds += f64::from(bounded(parts.next()?, 0, 23)?) * 3600.0;
    seconds += f64::from(bounded(parts.next()?, 0, 59)?) * 60.0;
    if let Some(second) = parts.next() {
        let in_form = second.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
        seconds += second.parse::<f64>().ok().filter(|second| in_form && *second < 61.0)?;
    }
    if parts.next().is_some() {
        return None;
    }
    if let Some((hours, minutes)) = zone.get(1..).and_then(|zone| zone.split_once(':')) {
        let east = bounded(hours, 0, 23)? * 60 + bounded(minutes, 0, 59)?;
        seconds += f64::from(east) * if zone.starts_with('+') { -60.0 } else { 60.0 };
    } else if zone != "Z" {
        return None;
    }
    Some(seconds)
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
            let expected = Duration::from_secs(seconds).as_secs_f64();
            assert_eq!(super::seconds(text, Duration::ZERO), Some(expected), "{text}");
        }
        assert_eq!(rfc3339(Duration::new(1, 7)), "1970-01-01T00:00:01.000000007Z");
    }

    // E13
    #[test]
    fn until_is_a_time_or_so_long_ago() {
        let now = Duration::from_secs(100_000);
        for (text, expected) in [
            ("10m", Some(99_400.0)),
            ("1h30m", Some(94_600.0)),
            ("1.5s", Some(99_998.5)),
            ("24h", Some(13_600.0)),
            ("500ms", Some(99_999.5)),
            ("86400", Some(86_400.0)),
            ("1970-01-02", Some(86_400.0)),
            ("1970-01-02T01:00", Some(90_000.0)),
            ("1970-01-02T01:00:00+01:00", Some(86_400.0)),
            ("1970-01-01T23:00:00.5-01:00", Some(86_400.5)),
            ("", None),
            ("yesterday", None),
            ("10", Some(10.0)),
            ("10x", None),
            ("-5", None),
            ("nan", None),
            ("1970-13-01", None),
            ("1970-01-02T25:00", None),
            ("1970-01-02T01", None),
        ] {
            assert_eq!(seconds(text, now), expected, "{text}");
        }
    }
}
