//! Golden vectors and properties of the split.

use std::sync::Arc;

use proptest::prelude::*;

use super::*;

fn sides(weights: &[u32]) -> Vec<Side> {
    let name = |index: usize| ClusterName::new(&format!("c{index}")).unwrap();
    weights.iter().enumerate().map(|(index, &weight)| Side::new(index as u32, weight, name(index))).collect()
}

fn slot(weights: &[u32], key: u64) -> Option<u32> {
    choose(&sides(weights), key).map(|side| side.slot)
}

#[test]
fn golden_hashes() {
    let table: [(&[u8], &[u8], u64); 4] = [
        (b"", b"", GOLDEN[0]),
        (b"salt", b"key", GOLDEN[1]),
        (b"saltk", b"ey", GOLDEN[2]),
        (b"route-1", &[192, 0, 2, 1], GOLDEN[3]),
    ];
    for (salt, key, expected) in table {
        assert_eq!(hash(salt, key), expected, "{:#x}", hash(salt, key));
    }
}

/// Computed apart from this code, by a script of the same definitions.
const GOLDEN: [u64; 4] =
    [0x4f2d_b50f_1240_40cd, 0xff7c_dea0_bc55_abd2, 0x3082_1b61_1181_17fa, 0xab01_0cc9_d5b1_819d];

#[test]
fn golden_sides() {
    let two = sides(&[7, 3]);
    let three = sides(&[1, 2, 3]);
    let picture = |sides: &[Side]| -> String {
        (0..32_u8).map(|key| choose(sides, hash(b"s", &[key])).unwrap().slot.to_string()).collect()
    };
    assert_eq!(picture(&two), GOLDEN_TWO);
    assert_eq!(picture(&three), GOLDEN_THREE);
}

const GOLDEN_TWO: &str = "00000000100100101001001010010000";
const GOLDEN_THREE: &str = "21201022122101101101201221112122";

#[test]
fn logarithm_is_exact_enough() {
    for random in [0, 1 << 12, u64::MAX, u64::MAX / 2, 1 << 63, 0x0123_4567_89ab_cdef, u64::MAX / 3] {
        let u = ((random >> 12) as f64 + 0.5) / (1_u64 << 52) as f64;
        let expected = -u.ln();
        assert!((minus_ln(random) - expected).abs() <= expected * 1e-14, "{random:#x}");
        assert!(minus_ln(random) > 0.0);
    }
}

#[test]
fn shares_follow_weights() {
    let sides = sides(&[90, 10, 0]);
    let mut counts = [0_u32; 3];
    for key in 0..100_000_u32 {
        counts[choose(&sides, hash(b"salt", &key.to_be_bytes())).unwrap().slot as usize] += 1;
    }
    assert!((9_500..10_500).contains(&counts[1]), "{counts:?}");
    assert_eq!(counts[2], 0);
}

#[test]
fn salts_split_independently() {
    let sides = sides(&[1, 1]);
    let both = (0..10_000_u32)
        .filter(|key| {
            let on = |salt: &[u8]| choose(&sides, hash(salt, &key.to_be_bytes())).unwrap().slot == 1;
            on(b"one") && on(b"two")
        })
        .count();
    assert!((2_200..2_800).contains(&both), "{both}");
}

#[test]
fn ramping_moves_nobody_back() {
    let mut before = vec![false; 20_000];
    for percent in 0..=100 {
        for (key, was_on) in before.iter_mut().enumerate() {
            let on = slot(&[100 - percent, percent], hash(b"s", &key.to_be_bytes())) == Some(1);
            assert!(on || !*was_on, "key {key} left at {percent} %");
            *was_on = on;
        }
    }
    assert!(before.iter().all(|on| *on));
}

#[test]
fn no_weight_no_side() {
    assert_eq!(slot(&[], 1), None);
    assert_eq!(slot(&[0], 1), None);
    assert_eq!(slot(&[0, 0], 1), None);
    assert_eq!(slot(&[0, 1], 1), Some(1));
    assert_eq!(slot(&[7], 1), Some(0));
}

struct Head(&'static [(&'static str, &'static str)]);

impl Fields for Head {
    fn each(&self, name: &str, visit: &mut dyn FnMut(&[u8]) -> bool) {
        for (_, value) in self.0.iter().filter(|(n, _)| *n == name) {
            if !visit(value.as_bytes()) {
                return;
            }
        }
    }
}

#[test]
fn keys_come_from_where_the_route_says() {
    let forward = |split| Forward {
        clusters: Vec::new(),
        split,
        salt: Arc::from("s"),
        prefix_rewrite: None,
        host_rewrite: None,
    };
    let head = Head(&[("cookie", "a=1"), ("cookie", "user=u; user=v"), ("x-user", "u"), ("x-user", "v")]);
    let client = Some("192.0.2.1".parse().unwrap());
    let by_client = hash(b"s", &[192, 0, 2, 1]);
    let table = [
        (SplitKey::Client, by_client),
        (SplitKey::Header(Arc::from("x-user")), hash(b"s", b"u")),
        (SplitKey::Cookie(Arc::from("user")), hash(b"s", b"u")),
        (SplitKey::Header(Arc::from("x-none")), by_client),
        (SplitKey::Cookie(Arc::from("none")), by_client),
    ];
    for (split, expected) in table {
        assert_eq!(key_hash(&forward(split.clone()), &head, client), expected, "{split:?}");
    }
    let mapped = Some("::ffff:192.0.2.1".parse().unwrap());
    assert_eq!(key_hash(&forward(SplitKey::Client), &head, mapped), by_client);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn keys_move_only_to_the_side_that_grew(
        before in prop::collection::vec(0_u32..100, 1..6),
        shrink in prop::collection::vec(0_u32..100, 6),
        grown in 0_usize..6,
        growth in 0_u32..1000,
        seed: u64,
    ) {
        let grown = grown % before.len();
        let mut after: Vec<u32> = before.iter().zip(&shrink).map(|(w, s)| w.saturating_sub(*s)).collect();
        after[grown] = before[grown] + growth;
        let mut only = before.clone();
        only[grown] = after[grown];
        for key in 0..64_u64 {
            let key = mix(seed ^ key);
            let (old, new) = (slot(&before, key), slot(&after, key));
            // Nobody leaves the side that grew, whatever the others lost.
            if old == Some(grown as u32) {
                prop_assert_eq!(new, old);
            }
            // When nothing else changed, nobody moves anywhere else.
            let one = slot(&only, key);
            prop_assert!(one == old || one == Some(grown as u32));
        }
    }
}
