//! Query strings as conditions see them: parameters in order, compared after decoding `+` and `%XX`.
//!
//! Never changes a query; it is forwarded as it came.

use smallvec::SmallVec;

/// Parameters looked at in one query; later ones are as if they were not there. The request line's own bound
/// (8 KiB by default) allows no more than this many non-empty ones that have a name and a value.
pub const PARAMETERS_MAX: usize = 4096;

/// Decoded bytes of a value, on the stack up to 256 of them.
pub type Decoded = SmallVec<[u8; 256]>;

/// The parameters of a query (without its `?`), raw and in order: split at `&`, then at the first `=`. Empty pieces
/// are skipped; a piece without `=` has an empty value. At most [`PARAMETERS_MAX`].
pub fn parameters(query: &str) -> impl Iterator<Item = (&str, &str)> {
    query
        .split('&')
        .filter(|piece| !piece.is_empty())
        .map(|piece| piece.split_once('=').unwrap_or((piece, "")))
        .take(PARAMETERS_MAX)
}

/// Whether the raw text, decoded, is `text`. Compares while decoding; copies nothing.
pub fn is_text(raw: &str, text: &str) -> bool {
    octets(raw).eq(text.bytes())
}

/// Decodes a raw name or value when that changes it. `None` when the raw text is what it means.
pub fn decoded(raw: &str) -> Option<Decoded> {
    raw.bytes().any(|byte| matches!(byte, b'+' | b'%')).then(|| octets(raw).collect())
}

/// Shows the decoded octets in runs: the whole text when decoding does not change it. Copies at most 64 bytes at a time.
pub fn each_octet_run(raw: &str, visit: &mut dyn FnMut(&[u8])) {
    if !raw.bytes().any(|byte| matches!(byte, b'+' | b'%')) {
        return visit(raw.as_bytes());
    }
    let mut octets = octets(raw);
    loop {
        let run: SmallVec<[u8; 64]> = octets.by_ref().take(64).collect();
        if run.is_empty() {
            return;
        }
        visit(&run);
    }
}

/// The decoded octets: `+` is a space, `%XX` an octet; a `%` without two hexadecimal digits stands for itself.
fn octets(raw: &str) -> impl Iterator<Item = u8> {
    let mut bytes = raw.bytes();
    std::iter::from_fn(move || match bytes.next()? {
        b'+' => Some(b' '),
        b'%' => {
            let mut ahead = bytes.clone();
            let octet =
                ahead.next().zip(ahead.next()).and_then(|(high, low)| Some(hex(high)? << 4 | hex(low)?));
            if octet.is_some() {
                bytes = ahead;
            }
            octet.or(Some(b'%'))
        }
        byte => Some(byte),
    })
}

fn hex(byte: u8) -> Option<u8> {
    char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_in_order() {
        let pairs = |query| parameters(query).collect::<Vec<_>>();
        assert_eq!(pairs(""), []);
        assert_eq!(pairs("a=1&b=2&a=3"), [("a", "1"), ("b", "2"), ("a", "3")]);
        assert_eq!(pairs("a&=x&&b==&c=%26"), [("a", ""), ("", "x"), ("b", "="), ("c", "%26")]);
        assert_eq!(pairs("a;b=1"), [("a;b", "1")]);
        assert_eq!(pairs(&"a&".repeat(5000)).len(), PARAMETERS_MAX);
    }

    #[test]
    fn comparison_decodes() {
        for (raw, text) in [
            ("", ""),
            ("a", "a"),
            ("a+b", "a b"),
            ("a%20b", "a b"),
            ("%C3%A4", "\u{e4}"),
            ("%c3%a4", "\u{e4}"),
            ("100%", "100%"),
            ("%4", "%4"),
            ("%zz", "%zz"),
            ("%%41", "%A"),
            ("%2B", "+"),
        ] {
            assert!(is_text(raw, text), "{raw}");
            let copied = decoded(raw).map_or_else(|| raw.as_bytes().to_vec(), |value| value.to_vec());
            assert_eq!(copied, text.as_bytes(), "{raw}");
        }
        assert!(!is_text("a%20", "a"));
        assert!(!is_text("a", "a "));
        assert_eq!(decoded("plain"), None);
    }
}
