//! Marks that clients carry so that they come back to the endpoint that served them: made, signed and read here. Knows no cookies and
//! no requests (see `exchange::affinity`).
//!
//! A mark is `nonce (8) | end (4) | hidden (8) | signature (16)` in base64url. `hidden` is the number of the endpoint under a pad
//! that the key makes of the nonce, so that a mark tells nobody which endpoint it means, and two marks of one endpoint do not look
//! alike. The signature is over all of it and the cluster: a mark of one cluster is none of another. Both are HMAC-SHA256, cut.

use std::fmt;

use aws_lc_rs::{constant_time, hmac};
use data_encoding::BASE64URL_NOPAD;
use ekiden_config::names::{AppName, ClusterName};

use crate::tls::tickets::{Secret, parse_secrets};

const NONCE: usize = 8;
const END: usize = 4;
const HIDDEN: usize = 8;
const SIGNATURE: usize = 16;
const SIGNED: usize = NONCE + END + HIDDEN;
const BYTES: usize = SIGNED + SIGNATURE;
/// Octets of a mark as text.
pub const MARK_TEXT: usize = 48;

/// Keys of marks: the first one signs, all verify.
pub struct Keys {
    keys: Vec<hmac::Key>,
    apps: Vec<AppName>,
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Keys(..)")
    }
}

/// What a mark says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mark {
    /// The number of its endpoint.
    pub endpoint: u64,
    /// From when on it says nothing, seconds since the Unix epoch; 0 means never.
    pub end_s: u32,
}

/// A mark that was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Opened {
    /// What it says.
    pub mark: Mark,
    /// The key that signs now has signed it.
    pub is_current: bool,
}

/// Which cluster a mark is of.
pub type Place<'a> = (&'a AppName, &'a ClusterName);

impl Keys {
    /// Reads a file of keys, as those of session tickets are written.
    ///
    /// # Errors
    /// A line that is no key, none, or too many; without the line itself.
    pub fn read(text: &[u8], apps: Vec<AppName>) -> Result<Self, String> {
        Ok(Self::new(&parse_secrets(text)?, apps))
    }

    /// A key of the process's own, which ends with it.
    ///
    /// # Errors
    /// The system gave no randomness.
    pub fn own() -> Result<Self, String> {
        Ok(Self::new(&[Secret::new()?], Vec::new()))
    }

    fn new(secrets: &[Secret], apps: Vec<AppName>) -> Self {
        let keys = secrets.iter().map(|secret| hmac::Key::new(hmac::HMAC_SHA256, secret.bytes())).collect();
        Self { keys, apps }
    }

    /// The apps that may use them.
    pub fn apps(&self) -> &[AppName] {
        &self.apps
    }

    /// The text of a mark; `nonce` is random.
    pub fn seal(&self, place: Place<'_>, mark: Mark, nonce: u64) -> Option<String> {
        let key = self.keys.first()?;
        let nonce = nonce.to_be_bytes();
        let hidden = (mark.endpoint ^ pad(key, place, nonce)).to_be_bytes();
        let mut bytes = Vec::with_capacity(BYTES);
        bytes.extend_from_slice(&nonce);
        bytes.extend_from_slice(&mark.end_s.to_be_bytes());
        bytes.extend_from_slice(&hidden);
        let tag = tag(key, b"sign", place, &bytes);
        bytes.extend_from_slice(tag.as_ref().get(..SIGNATURE)?);
        Some(BASE64URL_NOPAD.encode(&bytes))
    }

    /// What a text says, if one of the keys signed it for this cluster and its time is not over.
    pub fn open(&self, place: Place<'_>, text: &[u8], now_s: u64) -> Option<Opened> {
        if text.len() != MARK_TEXT {
            return None;
        }
        let mut bytes = [0; BYTES];
        let length = BASE64URL_NOPAD.decode_mut(text, &mut bytes).ok()?;
        let (signed, signature) = bytes.get(..length)?.split_at_checked(SIGNED)?;
        let (at, key) = self.keys.iter().enumerate().find(|(_, key)| {
            let tag = tag(key, b"sign", place, signed);
            let expected = tag.as_ref().get(..SIGNATURE).unwrap_or_default();
            constant_time::verify_slices_are_equal(expected, signature).is_ok()
        })?;
        let (nonce, rest) = signed.split_first_chunk::<NONCE>()?;
        let (end, hidden) = rest.split_first_chunk::<END>()?;
        let end_s = u32::from_be_bytes(*end);
        if end_s != 0 && u64::from(end_s) <= now_s {
            return None;
        }
        let hidden = u64::from_be_bytes(hidden.try_into().ok()?);
        let mark = Mark { endpoint: hidden ^ pad(key, place, *nonce), end_s };
        Some(Opened { mark, is_current: at == 0 })
    }
}

fn pad(key: &hmac::Key, place: Place<'_>, nonce: [u8; NONCE]) -> u64 {
    let tag = tag(key, b"hide", place, &nonce);
    tag.as_ref().first_chunk::<HIDDEN>().map_or(0, |bytes| u64::from_be_bytes(*bytes))
}

/// Names hold no zero octet, so that no two places give the same octets.
fn tag(key: &hmac::Key, purpose: &[u8], (app, cluster): Place<'_>, data: &[u8]) -> hmac::Tag {
    let mut context = hmac::Context::with_key(key);
    for part in [
        b"ekiden affinity 1 ",
        purpose,
        b"\0",
        app.as_str().as_bytes(),
        b"\0",
        cluster.as_str().as_bytes(),
        b"\0",
    ] {
        context.update(part);
    }
    context.update(data);
    context.sign()
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEX: &str = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f";
    const OTHER: &str = "100102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f";

    fn keys(lines: &[&str]) -> Keys {
        Keys::read(lines.join("\n").as_bytes(), Vec::new()).unwrap()
    }

    fn place(cluster: &str) -> (AppName, ClusterName) {
        (AppName::default_app(), ClusterName::new(cluster).unwrap())
    }

    #[test]
    fn a_mark_is_read_by_those_who_have_its_key_only() {
        let (app, web) = place("web");
        let (_, api) = place("api");
        let keys_one = keys(&[HEX]);
        let mark = Mark { endpoint: 0x1122_3344_5566_7788, end_s: 100 };
        let text = keys_one.seal((&app, &web), mark, 7).unwrap();
        assert_eq!(text.len(), MARK_TEXT);
        let opened = |is_current| Some(Opened { mark, is_current });
        assert_eq!(keys_one.open((&app, &web), text.as_bytes(), 99), opened(true));
        assert_eq!(keys_one.open((&app, &web), text.as_bytes(), 100), None, "its time is over");
        assert_eq!(keys_one.open((&app, &api), text.as_bytes(), 99), None, "another cluster");
        assert_eq!(keys(&[OTHER]).open((&app, &web), text.as_bytes(), 99), None, "another key");
        let older = keys(&[OTHER, HEX]).open((&app, &web), text.as_bytes(), 99);
        assert_eq!(older, opened(false), "an older key");
        // Every bit counts.
        for at in 0..text.len() {
            let mut bytes = text.clone().into_bytes();
            bytes[at] = if bytes[at] == b'A' { b'B' } else { b'A' };
            assert_eq!(keys_one.open((&app, &web), &bytes, 99), None, "octet {at}");
        }
        for bad in ["", "x", &text[1..], &format!("{text}A"), &"=".repeat(MARK_TEXT)] {
            assert_eq!(keys_one.open((&app, &web), bad.as_bytes(), 99), None, "{bad:?}");
        }
        let again = keys_one.seal((&app, &web), mark, 8).unwrap();
        assert_ne!(text, again);
    }

    #[test]
    fn the_form_is_a_promise_and_hides_the_endpoint() {
        let (app, web) = place("web");
        let mark = Mark { endpoint: 0x1122_3344_5566_7788, end_s: 0 };
        let text = keys(&[HEX]).seal((&app, &web), mark, 7).unwrap();
        let bytes = BASE64URL_NOPAD.decode(text.as_bytes()).unwrap();
        assert!(!bytes.windows(8).any(|window| window == mark.endpoint.to_be_bytes()));
        assert_eq!(text, "AAAAAAAAAAcAAAAAsyo3WLkDbn6NPVTFer9gLKkXsK1if8PB");
    }
}
