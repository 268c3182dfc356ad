//! What a request takes from a limit: by a header within bounds, by method, else a fixed number.

use ekiden_config::model::Cost;

use super::Asked;

/// Longest number that is read; a longer one is no number.
const DIGITS_MAX: usize = 10;

/// The cost of a request, 0 when it is not counted.
pub(super) fn of(cost: &Cost, asked: &Asked<'_>) -> u32 {
    let written = cost.header.as_ref().and_then(|name| {
        let mut found = None;
        asked.fields.each(name, &mut |value| {
            found = number(value);
            false
        });
        found
    });
    match written {
        Some(number) => u32::try_from(number).unwrap_or(u32::MAX).clamp(cost.least, cost.most),
        None => by_method(cost, asked.method).unwrap_or(cost.otherwise),
    }
}

/// A HEAD costs what a GET does where it is not named itself (RFC 9110 section 9.3.2).
fn by_method(cost: &Cost, method: &str) -> Option<u32> {
    if cost.methods.is_empty() {
        return None;
    }
    let named = |name: &str| cost.methods.iter().find(|(known, _)| **known == *name).map(|(_, cost)| *cost);
    named(method).or_else(|| if method == "HEAD" { named("GET") } else { None })
}

/// Digits only.
pub(super) fn number(value: &[u8]) -> Option<u64> {
    if value.is_empty() || value.len() > DIGITS_MAX || !value.iter().all(u8::is_ascii_digit) {
        return None;
    }
    Some(value.iter().fold(0, |sum, digit| sum * 10 + u64::from(digit - b'0')))
}
