//! Keys of programs of one file, by their SHA-256. Keys are random and long, so that a plain hash gives none of them away, and a
//! lookup by the hash tells nothing by its time. Cheap enough for workers.

use std::collections::HashMap;
use std::sync::Arc;

use aws_lc_rs::digest;
use data_encoding::HEXLOWER_PERMISSIVE;
use ekiden_config::names::AppName;

use super::keyring::each_line;

/// Keys of one file at most.
const KEYS_MAX: usize = 1_000_000;
/// Longest id, in bytes.
const ID_MAX: usize = 128;
/// Longest key that is looked at, in bytes.
pub const KEY_MAX: usize = 512;

/// The keys of a file.
#[derive(Debug)]
pub struct Keys {
    /// The apps that may use it, beside `default`.
    pub apps: Vec<AppName>,
    by_digest: HashMap<[u8; 32], Arc<str>>,
}

impl Keys {
    /// Reads `id:sha256` lines. One id may have several keys, so that one can take over from another.
    ///
    /// # Errors
    /// The line that is wrong, and why.
    pub fn read(text: &[u8], apps: Vec<AppName>) -> Result<Self, String> {
        let mut by_digest = HashMap::new();
        each_line(text, |id, hash| {
            let is_good = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.' | b'@');
            if id.len() > ID_MAX || !id.bytes().all(is_good) {
                return Err(format!("an id is 1 to {ID_MAX} letters, digits, - _ . @"));
            }
            let bytes = HEXLOWER_PERMISSIVE.decode(hash.as_bytes()).ok();
            let Some(digest) = bytes.and_then(|bytes| <[u8; 32]>::try_from(bytes).ok()) else {
                return Err("the hash is not the SHA-256 of a key in hexadecimal (64 digits)".to_owned());
            };
            if by_digest.len() >= KEYS_MAX {
                return Err(format!("more than {KEYS_MAX} keys"));
            }
            match by_digest.insert(digest, Arc::from(id)) {
                None => Ok(()),
                Some(_) => Err("the key stands twice".to_owned()),
            }
        })?;
        Ok(Self { apps, by_digest })
    }

    /// The id of a key.
    pub fn find(&self, key: &[u8]) -> Option<&Arc<str>> {
        if key.is_empty() || key.len() > KEY_MAX {
            return None;
        }
        let digest = digest::digest(&digest::SHA256, key);
        self.by_digest.get(digest.as_ref())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_found_by_their_hash() {
        let hash = data_encoding::HEXLOWER.encode(digest::digest(&digest::SHA256, b"key").as_ref());
        let other = data_encoding::HEXUPPER.encode(digest::digest(&digest::SHA256, b"next").as_ref());
        let keys = Keys::read(format!("ci:{hash}\nci:{other}").as_bytes(), vec![]).unwrap();
        assert_eq!(keys.find(b"key").map(|id| &**id), Some("ci"));
        assert_eq!(keys.find(b"next").map(|id| &**id), Some("ci"));
        for wrong in [&b""[..], b"kez", hash.as_bytes()] {
            assert_eq!(keys.find(wrong), None);
        }
        for bad in
            [format!("ci:{hash}\nother:{hash}"), format!("a b:{hash}"), "ci:key".to_owned(), "ci".to_owned()]
        {
            assert!(Keys::read(bad.as_bytes(), vec![]).unwrap_err().starts_with("line "), "{bad}");
        }
    }
}
