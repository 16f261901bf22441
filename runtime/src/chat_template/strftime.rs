//! Dates in words, as templates ask for them with `strftime_now`: UTC, in English.

use std::fmt::Write as _;
use std::time::{SystemTime, UNIX_EPOCH};

const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];
/// 1 January 1970 was a Thursday.
const DAYS: [&str; 7] = ["Thursday", "Friday", "Saturday", "Sunday", "Monday", "Tuesday", "Wednesday"];

/// The time in C's format; `Err` has the part of the format that is not known.
pub(super) fn strftime(time: SystemTime, format: &str) -> Result<String, String> {
    let seconds = time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let (days, of_day) = (seconds / 86400, seconds % 86400);
    let (year, of_year, month, day) = date(days);
    let (hour, minute, second) = (of_day / 3600, of_day / 60 % 60, of_day % 60);
    let twelve = (hour + 11) % 12 + 1;
    let (month_name, day_name) = (MONTHS[month as usize - 1], DAYS[(days % 7) as usize]);
    let mut text = String::new();
    let mut rest = format.chars();
    while let Some(c) = rest.next() {
        if c != '%' {
            text.push(c);
            continue;
        }
        let mut directive = rest.next();
        // glibc's `-`: without leading zeros.
        let bare = directive == Some('-');
        if bare {
            directive = rest.next();
        }
        let mut number = |value: u64, width: usize| {
            let width = if bare { 0 } else { width };
            // Writing to a string does not fail.
            let _ = write!(text, "{value:0width$}");
        };
        match directive {
            Some('Y') => number(year, 4),
            Some('y') => number(year % 100, 2),
            Some('m') => number(month, 2),
            Some('d') => number(day, 2),
            Some('H') => number(hour, 2),
            Some('I') => number(twelve, 2),
            Some('M') => number(minute, 2),
            Some('S') => number(second, 2),
            Some('j') => number(of_year, 3),
            Some('e') if bare => number(day, 0),
            Some('e') => text.extend([format!("{day:2}")]),
            Some('B') => text.push_str(month_name),
            Some('b' | 'h') => text.push_str(&month_name[..3]),
            Some('A') => text.push_str(day_name),
            Some('a') => text.push_str(&day_name[..3]),
            Some('p') => text.push_str(if hour < 12 { "AM" } else { "PM" }),
            Some('F') => text.extend([format!("{year:04}-{month:02}-{day:02}")]),
            Some('T') => text.extend([format!("{hour:02}:{minute:02}:{second:02}")]),
            Some('Z') => text.push_str("UTC"),
            Some('z') => text.push_str("+0000"),
            Some('%') => text.push('%'),
            Some(other) => return Err(format!("%{other}")),
            None => return Err("%".to_owned()),
        }
    }
    Ok(text)
}

/// Year, day of the year, month and day of so many days after 1 January 1970; all but the year count from 1.
fn date(mut days: u64) -> (u64, u64, u64, u64) {
    // The calendar repeats itself every 400 years.
    let mut year = 1970 + days / 146_097 * 400;
    days %= 146_097;
    let leap = |year: u64| year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    while days >= 365 + u64::from(leap(year)) {
        days -= 365 + u64::from(leap(year));
        year += 1;
    }
    let of_year = days + 1;
    let lengths = [31, 28 + u64::from(leap(year)), 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    let mut month = 0;
    while days >= lengths[month] {
        days -= lengths[month];
        month += 1;
    }
    (year, of_year, month as u64 + 1, days + 1)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn at(seconds: u64, format: &str) -> String {
        strftime(UNIX_EPOCH + Duration::from_secs(seconds), format).unwrap()
    }

    /// The expected texts are GNU date's: `LC_ALL=C date -u -d @SECONDS +FORMAT`.
    #[test]
    fn dates_are_those_of_gnu_date() {
        let format = "%Y %y %m %d %e %H %I %M %S %j %B %b %A %a %p %F %T %-d %-m %Z %z %%";
        for (seconds, expected) in EXPECTED {
            assert_eq!(at(seconds, format), expected);
        }
    }

    const EXPECTED: [(u64, &str); 10] = [
        (
            0,
            "1970 70 01 01  1 00 12 00 00 001 January Jan Thursday Thu AM 1970-01-01 00:00:00 1 1 UTC +0000 %",
        ),
        (
            951782399,
            "2000 00 02 28 28 23 11 59 59 059 February Feb Monday Mon PM 2000-02-28 23:59:59 28 2 UTC +0000 %",
        ),
        (
            951782400,
            "2000 00 02 29 29 00 12 00 00 060 February Feb Tuesday Tue AM 2000-02-29 00:00:00 29 2 UTC +0000 %",
        ),
        (
            1735689599,
            "2024 24 12 31 31 23 11 59 59 366 December Dec Tuesday Tue PM 2024-12-31 23:59:59 31 12 UTC +0000 %",
        ),
        (
            1735689600,
            "2025 25 01 01  1 00 12 00 00 001 January Jan Wednesday Wed AM 2025-01-01 00:00:00 1 1 UTC +0000 %",
        ),
        (
            4107542399,
            "2100 00 02 28 28 23 11 59 59 059 February Feb Sunday Sun PM 2100-02-28 23:59:59 28 2 UTC +0000 %",
        ),
        (
            4107542400,
            "2100 00 03 01  1 00 12 00 00 060 March Mar Monday Mon AM 2100-03-01 00:00:00 1 3 UTC +0000 %",
        ),
        (
            16725225600,
            "2500 00 01 01  1 00 12 00 00 001 January Jan Friday Fri AM 2500-01-01 00:00:00 1 1 UTC +0000 %",
        ),
        (
            1764036383,
            "2025 25 11 25 25 02 02 06 23 329 November Nov Tuesday Tue AM 2025-11-25 02:06:23 25 11 UTC +0000 %",
        ),
        (
            13574563200,
            "2400 00 02 29 29 00 12 00 00 060 February Feb Tuesday Tue AM 2400-02-29 00:00:00 29 2 UTC +0000 %",
        ),
    ];

    #[test]
    fn what_is_not_known_is_named() {
        for (format, part) in [("%Q", "%Q"), ("a%", "%"), ("%-", "%"), ("%-Q", "%Q")] {
            assert_eq!(strftime(UNIX_EPOCH, format), Err(part.to_owned()));
        }
    }
}
