//! Durations and sizes as texts with units, both ways.

use std::time::Duration;

/// A number of bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Bytes(pub(crate) u64);

/// A factor such as `1.25`, in hundredths.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Factor(pub(crate) u32);

/// A number of hundredths as a factor.
pub(crate) fn factor_words(hundredths: u64) -> String {
    let text = format!("{}.{:02}", hundredths / 100, hundredths % 100);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// So many in a time: `100/s`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct RawRate {
    /// How many.
    pub(crate) count: u64,
    /// In how long.
    pub(crate) per: Duration,
}

/// Reads `100/s`, `30/m`, `5/h`. `None` for anything else.
pub(crate) fn parse_rate(text: &str) -> Option<RawRate> {
    let (number, unit) = text.split_once('/')?;
    let seconds = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3600,
        _ => return None,
    };
    let (count, rest) = split_number(number)?;
    rest.is_empty().then_some(RawRate { count, per: Duration::from_secs(seconds) })
}

/// Units of durations with their milliseconds, largest first.
const TIME: &[(&str, u64)] = &[("h", 3_600_000), ("m", 60_000), ("s", 1000), ("ms", 1)];

/// Units of sizes with their bytes.
const SIZE: &[(&str, u64)] = &[
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("GB", 1_000_000_000),
    ("MB", 1_000_000),
    ("KB", 1000),
    ("kB", 1000),
    ("B", 1),
];

/// Reads `500ms`, `5s`, `1m30s`; units once each, largest first. `None` for anything else, and on overflow.
pub(crate) fn parse_duration(text: &str) -> Option<Duration> {
    let mut rest = text;
    let mut total = 0_u64;
    let mut units = TIME.iter();
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let (number, tail) = split_number(rest)?;
        let unit_len = tail.bytes().take_while(u8::is_ascii_alphabetic).count();
        let (unit, tail) = tail.split_at_checked(unit_len)?;
        let (_, factor) = units.find(|(name, _)| *name == unit)?;
        total = total.checked_add(number.checked_mul(*factor)?)?;
        rest = tail;
    }
    Some(Duration::from_millis(total))
}

/// Reads `64KiB`, `8 KiB`, `10MB`, `512B`, `512`. `None` for anything else, and on overflow.
pub(crate) fn parse_size(text: &str) -> Option<u64> {
    let (number, unit) = split_number(text)?;
    let unit = unit.strip_prefix(' ').unwrap_or(unit);
    if unit.is_empty() {
        return Some(number);
    }
    let (_, factor) = SIZE.iter().find(|(name, _)| *name == unit)?;
    number.checked_mul(*factor)
}

fn split_number(text: &str) -> Option<(u64, &str)> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, rest) = text.split_at_checked(digits)?;
    Some((number.parse().ok()?, rest))
}

/// Milliseconds as people write them.
pub(crate) fn duration_words(ms: u64) -> String {
    words(ms, TIME, "0s")
}

/// Bytes as people write them.
pub(crate) fn size_words(bytes: u64) -> String {
    words(bytes, SIZE, "0B")
}

fn words(number: u64, units: &[(&str, u64)], zero: &str) -> String {
    if number == 0 {
        return zero.to_owned();
    }
    let fits = units.iter().find(|(_, factor)| number.is_multiple_of(*factor));
    fits.map_or_else(|| number.to_string(), |(unit, factor)| format!("{}{unit}", number / factor))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        for (text, ms) in [
            ("500ms", Some(500)),
            ("5s", Some(5000)),
            ("1m30s", Some(90_000)),
            ("2h", Some(7_200_000)),
            ("0s", Some(0)),
            ("1h1m1s1ms", Some(3_661_001)),
            ("", None),
            ("5", None),
            ("s", None),
            ("5 s", None),
            ("1s1m", None),
            ("1s1s", None),
            ("-1s", None),
            ("1.5s", None),
            ("5S", None),
            ("99999999999999999999s", None),
            ("9999999999999999h", None),
        ] {
            assert_eq!(parse_duration(text), ms.map(Duration::from_millis), "{text}");
        }
    }

    #[test]
    fn sizes() {
        for (text, bytes) in [
            ("64KiB", Some(65_536)),
            ("8 KiB", Some(8192)),
            ("10MB", Some(10_000_000)),
            ("512B", Some(512)),
            ("512", Some(512)),
            ("KiB", None),
            ("8  KiB", None),
            ("8kib", None),
            ("-8KiB", None),
            ("99999999999GiB", None),
        ] {
            assert_eq!(parse_size(text), bytes, "{text}");
        }
    }

    #[test]
    fn rates() {
        for (text, rate) in [
            ("100/s", Some((100, 1))),
            ("30/m", Some((30, 60))),
            ("5/h", Some((5, 3600))),
            ("0/s", Some((0, 1))),
            ("100", None),
            ("/s", None),
            ("100/", None),
            ("100/ms", None),
            ("1.5/s", None),
            ("-1/s", None),
            ("100 /s", None),
            ("99999999999999999999/s", None),
        ] {
            let want = rate.map(|(count, seconds)| RawRate { count, per: Duration::from_secs(seconds) });
            assert_eq!(parse_rate(text), want, "{text}");
        }
    }

    #[test]
    fn words_read_back() {
        for ms in [0, 1, 500, 1000, 90_000, 3_600_000, 61_000] {
            assert_eq!(parse_duration(&duration_words(ms)), Some(Duration::from_millis(ms)));
        }
        for bytes in [0, 1, 1000, 1024, 8192, 1 << 20, 12_345] {
            assert_eq!(parse_size(&size_words(bytes)), Some(bytes));
        }
    }
}
