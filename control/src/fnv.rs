//! FNV-1a, 64 bits: the fixed hash behind run directory names and the `source_hash` of the status.
//!
//! Chosen because it never changes between builds (a run directory must be found again after an upgrade). Not for
//! secrets and not for tables filled by strangers.
//! Source: Fowler, Noll, Vo, <http://www.isthe.com/chongo/tech/comp/fnv/>.

/// The hash of no bytes.
const OFFSET: u64 = 0xcbf2_9ce4_8422_2325;
/// The prime of the 64-bit variant.
const PRIME: u64 = 0x0000_0100_0000_01b3;

/// A hash being fed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Fnv(u64);

impl Fnv {
    /// The hash of nothing.
    pub(crate) fn new() -> Self {
        Self(OFFSET)
    }

    /// Feeds bytes and a separator, so that ("ab", "c") and ("a", "bc") differ.
    pub(crate) fn feed(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(PRIME);
        }
        self.0 = (self.0 ^ 0xff).wrapping_mul(PRIME);
    }

    /// The hash as 16 hexadecimal digits.
    pub(crate) fn hex(self) -> String {
        format!("{:016x}", self.0)
    }
}

/// Hash of one text, as 16 hexadecimal digits.
pub(crate) fn hex_of(bytes: &[u8]) -> String {
    let mut hash = Fnv::new();
    hash.feed(bytes);
    hash.hex()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_fixed_and_separates_its_inputs() {
        assert_eq!(hex_of(b"/etc/ekiden/ekiden.toml"), hex_of(b"/etc/ekiden/ekiden.toml"));
        // A promise: run directories are found again by this name after an upgrade.
        assert_eq!(hex_of(b""), "af64724c8602eb6e");
        let (mut a, mut b) = (Fnv::new(), Fnv::new());
        a.feed(b"ab");
        a.feed(b"c");
        b.feed(b"a");
        b.feed(b"bc");
        assert_ne!(a.hex(), b.hex());
    }
}
