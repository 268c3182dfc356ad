//! Paths: bringing one into normal form never panics, a normal form is its own, and a loose form holds nothing that can be read in
//! two ways.
//!
//! Input: a path.
#![no_main]

use ekiden_core::path::{has_many_readings, loose, normalize};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Ok(text) = std::str::from_utf8(data) else { return };
    for merge_slashes in [false, true] {
        judge(text, merge_slashes);
    }
});

fn judge(text: &str, merge_slashes: bool) {
    let (mut scratch, mut second) = (String::new(), String::new());
    let Ok(normal) = normalize(text, merge_slashes, &mut scratch) else { return };
    assert!(normal.starts_with('/') && normal.len() <= text.len());
    assert!(!normal.split('/').any(|segment| segment == "." || segment == ".."), "{normal:?}");
    assert!(!normal.contains("%00") && !normal.contains('\\'), "{normal:?}");
    assert!(!merge_slashes || !normal.contains("//"), "{normal:?}");
    let bytes = normal.as_bytes();
    for (at, _) in normal.match_indices('%') {
        let digits = &bytes[at + 1..at + 3];
        assert!(digits.iter().all(|b| b.is_ascii_digit() || (b'A'..=b'F').contains(b)), "{normal:?}");
    }
    assert_eq!(normalize(normal, merge_slashes, &mut second), Ok(normal));
    let mut third = String::new();
    let Some(found) = loose(normal, &mut third) else {
        assert!(!["//", "%2F", "%5C", ";"].iter().any(|odd| normal.contains(odd)), "{normal:?}");
        return;
    };
    let _many = has_many_readings(normal);
    assert!(found.starts_with('/') && found.len() <= normal.len(), "{found:?}");
    assert!(!["//", "%2F", "%5C", ";"].iter().any(|odd| found.contains(odd)), "{found:?}");
    assert!(!found.split('/').any(|segment| segment == "." || segment == ".."), "{found:?}");
    assert_eq!(loose(found, &mut second), None);
}
