//! `grpc-timeout`: at most eight digits and a unit ("gRPC over HTTP2"). Does not know what time it is.

/// Most digits of a value.
const DIGITS: usize = 8;
/// The largest number of so many digits.
const NUMBER_MAX: u64 = 99_999_999;

/// Reads a value, in microseconds; what is below one is rounded up, so that a time above zero stays one. None when it is
/// malformed. Such a call must not go on: servers of gRPC end it with `INTERNAL`, and some of them then every later call of the
/// connection that has a deadline, whoever made it.
pub fn read(value: &[u8]) -> Option<u64> {
    let (unit, digits) = value.split_last()?;
    if digits.is_empty() || digits.len() > DIGITS || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let number = digits.iter().fold(0_u64, |number, digit| number * 10 + u64::from(digit - b'0'));
    Some(match unit {
        b'H' => number * 3_600_000_000,
        b'M' => number * 60_000_000,
        b'S' => number * 1_000_000,
        b'm' => number * 1_000,
        b'u' => number,
        b'n' => number.div_ceil(1_000),
        _ => return None,
    })
}

/// Writes a time in the finest unit that has room for it, never more than it is.
pub fn write(us: u64) -> String {
    let (mut number, mut unit) = (us, 'u');
    for (next, factor) in [('m', 1_000), ('S', 1_000), ('M', 60), ('H', 60)] {
        if number <= NUMBER_MAX {
            break;
        }
        number /= factor;
        unit = next;
    }
    format!("{}{unit}", number.min(NUMBER_MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values() {
        for (text, us) in [
            ("1S", Some(1_000_000)),
            ("99999999H", Some(359_999_996_400_000_000)),
            ("00000001M", Some(60_000_000)),
            ("250m", Some(250_000)),
            ("7u", Some(7)),
            ("1n", Some(1)),
            ("1001n", Some(2)),
            ("0n", Some(0)),
            ("0S", Some(0)),
            ("", None),
            ("S", None),
            ("1", None),
            ("1s", None),
            ("1h", None),
            ("100000000S", None),
            ("000000001S", None),
            ("-1S", None),
            ("+1S", None),
            ("1.5S", None),
            ("1 S", None),
            (" 1S", None),
            ("1S ", None),
            ("1SS", None),
        ] {
            assert_eq!(read(text.as_bytes()), us, "{text:?}");
        }
    }

    #[test]
    fn written_times_are_never_longer() {
        for (us, text) in [
            (0, "0u"),
            (1, "1u"),
            (99_999_999, "99999999u"),
            (100_000_000, "100000m"),
            (100_000_001_999, "100000S"),
            (99_999_999_999, "99999999m"),
            (u64::MAX, "99999999H"),
        ] {
            assert_eq!(write(us), text);
        }
    }

    proptest::proptest! {
        #[test]
        fn what_is_written_reads_as_no_more(us in 0_u64..350_000_000_000_000_000) {
            let text = write(us);
            let back = read(text.as_bytes()).unwrap();
            proptest::prop_assert!(text.len() <= 9 && back <= us);
            // The unit is the finest that has room.
            proptest::prop_assert!(us - back < 3_600_000_000 && (us > 99_999_999 || back == us));
        }
    }
}
