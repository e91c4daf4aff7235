//! Durations and sizes as Docker writes them.

/// A duration in words: `5 minutes`, `About an hour` (Docker's go-units).
pub(super) fn duration(seconds: u64) -> String {
    let minutes = seconds / 60;
    // Rounded as there.
    let hours = (seconds + 1800) / 3600;
    match seconds {
        0 => "Less than a second".to_owned(),
        1 => "1 second".to_owned(),
        2..60 => format!("{seconds} seconds"),
        _ if minutes == 1 => "About a minute".to_owned(),
        _ if minutes < 60 => format!("{minutes} minutes"),
        _ if hours == 1 => "About an hour".to_owned(),
        _ if hours < 48 => format!("{hours} hours"),
        _ if hours < 24 * 7 * 2 => format!("{} days", hours / 24),
        _ if hours < 24 * 30 * 2 => format!("{} weeks", hours / 24 / 7),
        _ if hours < 24 * 365 * 2 => format!("{} months", hours / 24 / 30),
        _ => format!("{} years", hours / 24 / 365),
    }
}

/// A duration in a column: `3s`, `2m5s`, `1h12m`.
pub(super) fn age(millis: u64) -> String {
    let seconds = millis / 1000;
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3600 => format!("{}m{}s", seconds / 60, seconds % 60),
        3600..86400 => format!("{}h{}m", seconds / 3600, seconds / 60 % 60),
        _ => format!("{}d{}h", seconds / 86400, seconds / 3600 % 24),
    }
}

/// A size in decimal units with at most four digits: `1.45kB`.
pub(super) fn size(bytes: u64) -> String {
    const UNITS: [&str; 7] = ["B", "kB", "MB", "GB", "TB", "PB", "EB"];
    let mut unit = 0;
    let mut power = 1_u64;
    while bytes / power >= 1000 && unit + 1 < UNITS.len() {
        power *= 1000;
        unit += 1;
    }
    let name = UNITS.get(unit).copied().unwrap_or_default();
    // In thousandths of the unit, rounded to what is shown.
    let thousandths = u128::from(bytes) * 1000 / u128::from(power);
    let (whole, part) = (thousandths / 1000, thousandths % 1000);
    let part = match whole {
        0..10 => format!("{part:03}"),
        10..100 => format!("{:02}", part / 10),
        _ => format!("{:01}", part / 100),
    };
    let part = part.trim_end_matches('0');
    let dot = if part.is_empty() { "" } else { "." };
    format!("{whole}{dot}{part}{name}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_dockers() {
        for (seconds, expected) in [
            (0, "Less than a second"),
            (1, "1 second"),
            (59, "59 seconds"),
            (60, "About a minute"),
            (150, "2 minutes"),
            (3600, "About an hour"),
            (3 * 3600, "3 hours"),
            (3 * 86400, "3 days"),
            (30 * 86400, "4 weeks"),
            (100 * 86400, "3 months"),
            (800 * 86400, "2 years"),
        ] {
            assert_eq!(duration(seconds), expected, "{seconds}");
        }
        assert_eq!([age(999), age(125_000), age(4_320_000)], ["0s", "2m5s", "1h12m"]);
    }

    #[test]
    fn sizes_have_four_digits_at_most() {
        for (bytes, expected) in [
            (0, "0B"),
            (999, "999B"),
            (1000, "1kB"),
            (1450, "1.45kB"),
            (1_234_567, "1.234MB"),
            (98_765_432, "98.76MB"),
            (u64::MAX, "18.44EB"),
        ] {
            assert_eq!(size(bytes), expected);
        }
    }
}
