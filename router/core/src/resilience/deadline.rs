//! The time that a request has: that of its route, and what the peer says is left (`X-Request-Deadline`, whole milliseconds).
//!
//! What is left, not a time of day, so that hops need no common clock. A peer that is not trusted can only make it shorter.

use std::time::Duration;

/// Digits of the longest value: 115 days.
const DIGITS_MAX: usize = 10;

/// The time that a peer says is left: the shortest of the values that can be read.
pub fn asked<'v>(values: impl Iterator<Item = &'v [u8]>) -> Option<Duration> {
    values.filter_map(milliseconds).min().map(Duration::from_millis)
}

fn milliseconds(value: &[u8]) -> Option<u64> {
    let digits = !value.is_empty() && value.len() <= DIGITS_MAX && value.iter().all(u8::is_ascii_digit);
    if digits { std::str::from_utf8(value).ok()?.parse().ok() } else { None }
}

/// The time of the whole request and whether it is the peer's word; none without a bound.
pub fn total(route: Option<Duration>, asked: Option<Duration>, trusted: bool) -> Option<(Duration, bool)> {
    match (route, asked) {
        (Some(route), Some(asked)) if asked < route || trusted => Some((asked, true)),
        (Some(route), _) => Some((route, false)),
        (None, asked) => asked.map(|asked| (asked, true)),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn only_plain_milliseconds_are_read() {
        let read =
            |values: &[&str]| asked(values.iter().map(|value| value.as_bytes())).map(|time| time.as_millis());
        assert_eq!(read(&["1500"]), Some(1500));
        assert_eq!(read(&["0"]), Some(0));
        assert_eq!(read(&["9999999999"]), Some(9_999_999_999));
        assert_eq!(read(&["1500", "x", "20"]), Some(20));
        for bad in ["", "-1", "+1", "1.5", "1s", "0x10", " 1", "99999999999", "1,2", "\u{661}"] {
            assert_eq!(read(&[bad]), None, "{bad:?}");
        }
    }

    proptest! {
        #[test]
        fn an_untrusted_peer_never_gains_time(route in proptest::option::of(0u64..10_000), ask in 0u64..20_000) {
            let (route, ask) = (route.map(Duration::from_millis), Duration::from_millis(ask));
            let (time, by_peer) = total(route, Some(ask), false).unwrap();
            prop_assert!(route.is_none_or(|route| time <= route) && time <= ask.max(route.unwrap_or(ask)));
            prop_assert_eq!(by_peer, route.is_none_or(|route| ask < route));
            prop_assert_eq!(total(route, Some(ask), true), Some((ask, true)));
            prop_assert_eq!(total(route, None, true), route.map(|route| (route, false)));
        }
    }
}
