//! A hash and a logarithm that are the same on every platform and in every release: what places keys and users.
//!
//! Not a defence against clients who choose their keys.

/// The hash of a key under a salt: FNV-1a (64 bits, <http://www.isthe.com/chongo/tech/comp/fnv/>) over the salt, one
/// 0xFF byte and the key, then the finaliser of splitmix64. Fixed for ever: a change would move every user.
pub(crate) fn hash(salt: &[u8], key: &[u8]) -> u64 {
    const BASIS: u64 = 0xcbf2_9ce4_8422_2325;
    const PRIME: u64 = 0x0000_0100_0000_01b3;
    let bytes = salt.iter().chain(&[0xff]).chain(key);
    mix(bytes.fold(BASIS, |state, &byte| (state ^ u64::from(byte)).wrapping_mul(PRIME)))
}

/// The finaliser of splitmix64 (Steele, Lea, Flood 2014, with Stafford's variant 13).
pub(crate) fn mix(mut x: u64) -> u64 {
    x = (x ^ x >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ x >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ x >> 31
}

/// `-ln(u)` for `u = (top 52 bits + 1/2) / 2^52`, which lies in (0, 1). Only IEEE addition, multiplication and division, so
/// the result is the same bit for bit on every platform, which `f64::ln` does not promise.
pub(crate) fn minus_ln(random: u64) -> f64 {
    const FRACTION: u64 = (1 << 52) - 1;
    const TWO_TO_52: f64 = 4_503_599_627_370_496.0;
    // Exact: 53 significant bits.
    let u = ((random >> 12) as f64 + 0.5) / TWO_TO_52;
    let bits = u.to_bits();
    let mut exponent = (bits >> 52) as f64 - 1023.0;
    let mut mantissa = f64::from_bits(bits & FRACTION | 1.0_f64.to_bits());
    if mantissa > std::f64::consts::SQRT_2 {
        mantissa *= 0.5;
        exponent += 1.0;
    }
    // ln(m) = 2 artanh(s) = 2 (s + s^3/3 + s^5/5 + ...), |s| <= 0.172.
    let s = (mantissa - 1.0) / (mantissa + 1.0);
    let square = s * s;
    let mut series = 0.0;
    let mut odd = 21.0;
    while odd >= 1.0 {
        series = series * square + 1.0 / odd;
        odd -= 2.0;
    }
    -(exponent * std::f64::consts::LN_2 + 2.0 * s * series)
}
