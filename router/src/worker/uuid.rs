//! A UUID of version 4 (RFC 9562 section 5.4) as text. Makes no randomness.

const NIBBLES: u64 = 0x0f0f_0f0f_0f0f_0f0f;
const ONES: u64 = 0x0101_0101_0101_0101;

/// Lower-case hexadecimal digits, eight at once: this runs for every request without an id of its own.
fn hexadecimal(number: u32) -> [u8; 8] {
    let mut spread = u64::from(number);
    spread = (spread | spread << 16) & 0x0000_ffff_0000_ffff;
    spread = (spread | spread << 8) & 0x00ff_00ff_00ff_00ff;
    spread = (spread | spread << 4) & NIBBLES;
    // One in each byte whose digit is a letter; letters stand 39 behind where the digits would go on.
    let letters = (spread + 6 * ONES) >> 4 & ONES;
    (spread + u64::from(b'0') * ONES + letters * 39).to_be_bytes()
}

/// The text of the UUID made of these random bits.
pub(super) fn text(random: u128) -> [u8; 36] {
    let bits = (random & !(0xf << 76) & !(0b11 << 62)) | (4 << 76) | (0b10 << 62);
    let part = |shift: u32| hexadecimal((bits >> shift) as u32);
    let [a0, a1, a2, a3, a4, a5, a6, a7] = part(96);
    let [b0, b1, b2, b3, b4, b5, b6, b7] = part(64);
    let [c0, c1, c2, c3, c4, c5, c6, c7] = part(32);
    let [d0, d1, d2, d3, d4, d5, d6, d7] = part(0);
    [
        a0, a1, a2, a3, a4, a5, a6, a7, b'-', b0, b1, b2, b3, b'-', b4, b5, b6, b7, b'-', c0, c1, c2, c3,
        b'-', c4, c5, c6, c7, d0, d1, d2, d3, d4, d5, d6, d7,
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn it_is_the_bits_in_hexadecimal_with_version_and_variant(random in any::<u128>()) {
            let bits = (random & !(0xf << 76) & !(0b11 << 62)) | (4 << 76) | (0b10 << 62);
            let plain = format!("{bits:032x}");
            let parts = [&plain[..8], &plain[8..12], &plain[12..16], &plain[16..20], &plain[20..]].join("-");
            let text = text(random);
            prop_assert_eq!(text.as_slice(), parts.as_bytes());
        }
    }
}
