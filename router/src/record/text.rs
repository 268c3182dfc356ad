//! Bytes of log values: numbers, times and escaped texts. Knows nothing of records.
//!
//! Every text a client can choose goes through [`push_json`] or [`push_logfmt`]; both write only visible ASCII and
//! well-formed UTF-8 outside the control ranges, so that no value can end a line, a field or a terminal's patience.

/// Appends a decimal number.
pub(super) fn push_number(out: &mut Vec<u8>, number: u64) {
    out.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
}

fn push_digits(out: &mut Vec<u8>, number: u64, digits: u32) {
    for place in (0..digits).rev() {
        out.push(b'0' + (number / 10u64.pow(place) % 10) as u8);
    }
}

/// Appends microseconds as milliseconds with three decimals.
pub(super) fn push_ms(out: &mut Vec<u8>, us: u64) {
    push_number(out, us / 1000);
    out.push(b'.');
    push_digits(out, us % 1000, 3);
}

/// Appends an RFC 3339 time in UTC with milliseconds. Years beyond 9999 are not expected and come out wrapped.
///
/// Days to a civil date by Howard Hinnant's `civil_from_days` (<https://howardhinnant.github.io/date_algorithms.html>).
pub(super) fn push_time(out: &mut Vec<u8>, unix_us: u64) {
    let unix_ms = unix_us / 1000;
    let (days, ms) = (unix_ms / 86_400_000, unix_ms % 86_400_000);
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    for (number, digits, after) in [
        (year, 4, b'-'),
        (month, 2, b'-'),
        (day, 2, b'T'),
        (ms / 3_600_000, 2, b':'),
        (ms / 60_000 % 60, 2, b':'),
        (ms / 1000 % 60, 2, b'.'),
        (ms % 1000, 3, b'Z'),
    ] {
        push_digits(out, number, digits);
        out.push(after);
    }
}

/// Whether every byte may stand in a quoted text as it is. Without a short cut inside, so that it vectorises.
fn is_plain(text: &str) -> bool {
    !text.bytes().fold(false, |odd, b| odd | !(b' '..0x7f).contains(&b) | (b == b'"') | (b == b'\\'))
}

fn push_escaped(out: &mut Vec<u8>, text: &str) {
    if is_plain(text) {
        return out.extend_from_slice(text.as_bytes());
    }
    for c in text.chars() {
        match c {
            '"' => out.extend_from_slice(b"\\\""),
            '\\' => out.extend_from_slice(b"\\\\"),
            '\n' => out.extend_from_slice(b"\\n"),
            '\r' => out.extend_from_slice(b"\\r"),
            '\t' => out.extend_from_slice(b"\\t"),
            // Control characters of both ranges, the line separators some readers honour, and the marks that turn
            // the direction of a terminal's text.
            '\0'..='\x1f' | '\x7f'..='\u{9f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => {
                out.extend_from_slice(b"\\u");
                for shift in [12, 8, 4, 0] {
                    let digit = (u32::from(c) >> shift & 15) as u8;
                    out.push(if digit < 10 { b'0' + digit } else { b'a' + digit - 10 });
                }
            }
            _ => out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }
}

/// Appends a JSON string with its quotes.
pub(super) fn push_json(out: &mut Vec<u8>, text: &str) {
    out.push(b'"');
    push_escaped(out, text);
    out.push(b'"');
}

/// Appends a logfmt value: bare when that is unambiguous, else as [`push_json`] does.
pub(super) fn push_logfmt(out: &mut Vec<u8>, text: &str) {
    if text.bytes().all(|b| b.is_ascii_graphic() && !matches!(b, b'"' | b'\\' | b'=')) {
        out.extend_from_slice(text.as_bytes());
    } else {
        push_json(out, text);
    }
}
