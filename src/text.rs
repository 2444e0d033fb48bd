//! Numbers and times as text for people.

use std::time::{SystemTime, UNIX_EPOCH};

/// Seconds as text: `9s`, `3m 07s`, `2h 05m`, `3d 04h`.
pub(crate) fn clock(seconds: f64) -> String {
    // A negative number or NaN becomes 0, infinity the largest number.
    let seconds = seconds.round() as u64;
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3600 => format!("{}m {:02}s", seconds / 60, seconds % 60),
        3600..86_400 => format!("{}h {:02}m", seconds / 3600, seconds / 60 % 60),
        _ => format!("{}d {:02}h", seconds / 86_400, seconds / 3600 % 24),
    }
}

/// A whole number with a comma before every three digits: `229,963,712`.
pub fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A measured number with four digits: `0.04321`, `82.15`, `12,345`, `1.5e-5`; `–` if it is not finite.
pub(crate) fn figure(number: f64) -> String {
    let sign = if number < 0.0 { "−" } else { "" };
    let text = match number.abs() {
        size if !size.is_finite() => return "–".to_owned(),
        0.0 => "0".to_owned(),
        size @ 1e15.. => format!("{size:.2e}"),
        size @ 1000.0.. => thousands(size.round() as u64),
        size if size < 1e-3 => {
            let text = format!("{size:.3e}");
            let (mantissa, exponent) = text.split_once('e').unwrap_or((&text, "0"));
            format!("{}e{exponent}", mantissa.trim_end_matches('0').trim_end_matches('.'))
        }
        size => format!("{size:.*}", (3 - size.log10().floor() as i32).max(0) as usize),
    };
    format!("{sign}{text}")
}

/// Seconds since 1970 (UTC) now.
pub(crate) fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |passed| passed.as_secs())
}

/// Seconds since 1970 as `2026-11-28 21:40 UTC`.
pub(crate) fn minute(seconds: u64) -> String {
    let [year, month, day, hour, minute, _] = calendar(seconds);
    format!("{year}-{month:02}-{day:02} {hour:02}:{minute:02} UTC")
}

/// Year, month, day, hour, minute and second of the seconds since 1970, by the proleptic Gregorian calendar.
pub(crate) fn calendar(seconds: u64) -> [u64; 6] {
    // Days since 1 March of year 0: a leap day is then the last day of its year (H. Hinnant, "chrono-compatible low-level
    // date algorithms"). An era has 400 years.
    let days = seconds / 86_400 + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    [year, month, day, seconds / 3600 % 24, seconds / 60 % 60, seconds % 60]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_read_well() {
        for (seconds, expected) in [
            (8.6, "9s"),
            (187.0, "3m 07s"),
            (7500.0, "2h 05m"),
            (273_600.0, "3d 04h"),
            (f64::NAN, "0s"),
            (-1.0, "0s"),
        ] {
            assert_eq!(clock(seconds), expected);
        }
    }

    #[test]
    fn thousands_are_set_apart() {
        for (number, expected) in
            [(0, "0"), (999, "999"), (1000, "1,000"), (u64::MAX, "18,446,744,073,709,551,615")]
        {
            assert_eq!(thousands(number), expected);
        }
    }

    #[test]
    fn figures_have_four_digits() {
        for (number, expected) in [
            (0.0, "0"),
            (0.043_214, "0.04321"),
            (82.147, "82.15"),
            (143.96, "144.0"),
            (1.0, "1.000"),
            (-12_345.4, "−12,345"),
            (-0.1, "−0.1000"),
            (1.5e-5, "1.5e-5"),
            (2e-4, "2e-4"),
            (3.25e20, "3.25e20"),
            (f64::NAN, "–"),
            (f64::INFINITY, "–"),
        ] {
            assert_eq!(figure(number), expected);
        }
    }

    #[test]
    fn dates_agree_with_the_calendar() {
        for (seconds, expected) in [
            (0, [1970, 1, 1, 0, 0, 0]),
            (951_782_400, [2000, 2, 29, 0, 0, 0]),
            (1_709_251_199, [2024, 2, 29, 23, 59, 59]),
            (1_735_689_600, [2025, 1, 1, 0, 0, 0]),
            (1_798_761_599, [2026, 12, 31, 23, 59, 59]),
        ] {
            assert_eq!(calendar(seconds), expected);
        }
        assert_eq!(minute(1_709_251_199), "2024-02-29 23:59 UTC");
        // Any number is a date.
        assert!(calendar(u64::MAX)[0] > 1_000_000);
    }
}
