//! Short texts eight bytes at a time: names without regard to case, values without control characters.
//!
//! Both run for every field of every message. Plain Rust: no instruction set is asked for. Knows no names.

/// The bit that tells a lower-case letter of ASCII from its upper case.
const CASE: u64 = 0x2020_2020_2020_2020;
const ONES: u64 = 0x0101_0101_0101_0101;
const HIGH: u64 = 0x8080_8080_8080_8080;

/// Whether a name is `lower` in any case of letters. `lower` holds small letters, digits and `-` only, which all have the
/// bit of [`CASE`]; `name` is a token (RFC 9110 section 5.6.2). Called for the names the router knows.
pub fn is_name(name: &[u8], lower: &[u8]) -> bool {
    if name.len() != lower.len() {
        return false;
    }
    if let (Some(tail), Some(lower_tail)) = (name.last_chunk::<8>(), lower.last_chunk::<8>()) {
        // The last eight overlap what came before when the length is no multiple of eight.
        let pairs = name.as_chunks::<8>().0.iter().zip(lower.as_chunks::<8>().0);
        let differs = pairs.fold(0, |differs, (a, b)| differs | difference(a, b));
        return differs | difference(tail, lower_tail) == 0;
    }
    name.iter().zip(lower).all(|(a, b)| a | 0x20 == *b)
}

fn difference(name: &[u8; 8], lower: &[u8; 8]) -> u64 {
    (u64::from_le_bytes(*name) | CASE) ^ u64::from_le_bytes(*lower)
}

/// Whether a field value holds nothing but tab, space, visible characters and bytes above ASCII (RFC 9110 section 5.5).
pub fn is_value(value: &[u8]) -> bool {
    let plain = match value.last_chunk::<8>() {
        Some(tail) => {
            let all = value.as_chunks::<8>().0.iter();
            all.fold(controls(tail), |found, chunk| found | controls(chunk)) == 0
        }
        None => false,
    };
    plain || value.iter().copied().all(super::is_value_byte)
}

/// Not zero when one of eight bytes is below a space or is DEL. A word has a byte below N when this is not zero:
/// <https://graphics.stanford.edu/~seander/bithacks.html#HasLessInWord>.
fn controls(chunk: &[u8; 8]) -> u64 {
    let word = u64::from_le_bytes(*chunk);
    let delete = word ^ (0x7f * ONES);
    (word.wrapping_sub(0x20 * ONES) & !word | delete.wrapping_sub(ONES) & !delete) & HIGH
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_name_is_compared_as_byte_by_byte(name in "[-a-zA-Z0-9]{0,26}", other in "[-a-z0-9]{0,26}", at in 0usize..26) {
            let lower = name.to_ascii_lowercase();
            prop_assert!(is_name(name.as_bytes(), lower.as_bytes()));
            prop_assert_eq!(is_name(name.as_bytes(), other.as_bytes()), name.eq_ignore_ascii_case(&other));
            let mut changed = lower.clone().into_bytes();
            if let Some(byte) = changed.get_mut(at) {
                *byte = if *byte == b'a' { b'b' } else { b'a' };
                prop_assert!(!is_name(name.as_bytes(), &changed));
            }
        }

        #[test]
        fn a_value_is_judged_as_byte_by_byte(mut value in "[ -~\t\u{e9}]{0,40}".prop_map(String::into_bytes), byte: u8, at in 0usize..40) {
            prop_assert!(is_value(&value));
            if let Some(place) = value.get_mut(at) {
                *place = byte;
            }
            prop_assert_eq!(is_value(&value), value.iter().copied().all(super::super::is_value_byte));
        }
    }
}
