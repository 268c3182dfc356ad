//! Session tickets: sealed with keys that are derived from a secret and from the trust setting they belong to, so that
//! no ticket crosses from one setting to another. Does not store sessions.
//!
//! A ticket is `name (16) | nonce (12) | sealed (8 bytes of time, the session) | tag (16)`, AES-256-GCM. The time makes a
//! ticket end though its key, from a shared file, may live on.

use std::fmt;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use arc_swap::ArcSwap;
use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use aws_lc_rs::{hkdf, rand};
use data_encoding::{BASE64, HEXLOWER_PERMISSIVE};
use rustls::server::ProducesTickets;

/// How long a ticket holds, seconds.
pub const LIFETIME_S: u32 = 12 * 3600;
/// How long the process makes tickets with one key of its own, seconds.
pub const ROTATE_S: i64 = 6 * 3600;
/// Keys of the process's own that are kept: the current one and those that tickets may still hold.
const KEPT: usize = 3;
/// Keys of a shared file at most.
const SHARED_MAX: usize = 16;
/// Bytes of a secret.
pub const SECRET: usize = 32;
const NAME: usize = 16;
const TIME: usize = 8;
const SALT: &[u8] = b"ekiden session tickets 1";

/// What keys are made of. Never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret([u8; SECRET]);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

impl Secret {
    /// A new one.
    ///
    /// # Errors
    /// The system gave no randomness.
    pub fn new() -> Result<Self, String> {
        let mut bytes = [0; SECRET];
        rand::fill(&mut bytes).map_err(|_| "the system gives no random bytes".to_owned())?;
        Ok(Self(bytes))
    }

    /// What it is made of.
    pub fn bytes(&self) -> &[u8; SECRET] {
        &self.0
    }
}

/// Reads the secrets of a shared file: one a line, base64 or hexadecimal; empty lines and lines with `#` are left out.
///
/// # Errors
/// A line that is no secret, none, or too many.
pub fn parse_secrets(text: &[u8]) -> Result<Vec<Secret>, String> {
    let text = std::str::from_utf8(text).map_err(|_| "it is not text".to_owned())?;
    let mut secrets = Vec::new();
    for (number, line) in (1..).zip(text.lines()) {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        // The line itself is a secret and is not shown.
        let wrong = || format!("line {number} is not {SECRET} bytes in base64 or hexadecimal");
        let hex = HEXLOWER_PERMISSIVE.decode(line.as_bytes());
        let bytes = hex.or_else(|_| BASE64.decode(line.as_bytes())).map_err(|_| wrong())?;
        secrets.push(Secret(bytes.try_into().map_err(|_| wrong())?));
        if secrets.len() > SHARED_MAX {
            return Err(format!("it holds more than {SHARED_MAX} keys"));
        }
    }
    if secrets.is_empty() { Err("it holds no key".to_owned()) } else { Ok(secrets) }
}

struct Key {
    name: [u8; NAME],
    aead: LessSafeKey,
}

struct Length(usize);

impl hkdf::KeyType for Length {
    fn len(&self) -> usize {
        self.0
    }
}

impl Key {
    fn new(secret: &Secret, trust: &[u8]) -> Option<Self> {
        let root = hkdf::Salt::new(hkdf::HKDF_SHA256, SALT).extract(&secret.0);
        let mut bytes = [0; NAME + 32];
        root.expand(&[trust], Length(bytes.len())).ok()?.fill(&mut bytes).ok()?;
        let (name, key) = bytes.split_first_chunk::<NAME>()?;
        Some(Self { name: *name, aead: LessSafeKey::new(UnboundKey::new(&AES_256_GCM, key).ok()?) })
    }
}

/// Makes and opens the tickets of one trust setting.
pub struct Tickets {
    trust: Box<[u8]>,
    keys: ArcSwap<Vec<Key>>,
    now: fn() -> i64,
}

impl fmt::Debug for Tickets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tickets(..)")
    }
}

impl Tickets {
    /// Tickets of a trust setting, which is a text that differs between any two settings that must not share sessions.
    pub fn new(trust: &str, secrets: &[Secret]) -> Arc<Self> {
        Self::with_clock(trust, secrets, unix_s)
    }

    pub(super) fn with_clock(trust: &str, secrets: &[Secret], now: fn() -> i64) -> Arc<Self> {
        let tickets = Self { trust: trust.as_bytes().into(), keys: ArcSwap::default(), now };
        tickets.set(secrets);
        Arc::new(tickets)
    }

    /// Uses these secrets from now on; the first one makes tickets.
    pub fn set(&self, secrets: &[Secret]) {
        self.keys
            .store(Arc::new(secrets.iter().filter_map(|secret| Key::new(secret, &self.trust)).collect()));
    }
}

impl ProducesTickets for Tickets {
    fn enabled(&self) -> bool {
        true
    }

    fn lifetime(&self) -> u32 {
        LIFETIME_S
    }

    fn encrypt(&self, plain: &[u8]) -> Option<Vec<u8>> {
        let keys = self.keys.load();
        let key = keys.first()?;
        let mut nonce = [0; NONCE_LEN];
        rand::fill(&mut nonce).ok()?;
        let mut sealed = Vec::with_capacity(TIME + plain.len() + AES_256_GCM.tag_len());
        sealed.extend_from_slice(&(self.now)().to_be_bytes());
        sealed.extend_from_slice(plain);
        let aad = Aad::from(key.name);
        key.aead.seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), aad, &mut sealed).ok()?;
        let mut ticket = Vec::with_capacity(NAME + NONCE_LEN + sealed.len());
        ticket.extend_from_slice(&key.name);
        ticket.extend_from_slice(&nonce);
        ticket.extend_from_slice(&sealed);
        Some(ticket)
    }

    fn decrypt(&self, cipher: &[u8]) -> Option<Vec<u8>> {
        let (name, rest) = cipher.split_first_chunk::<NAME>()?;
        let (nonce, sealed) = rest.split_first_chunk::<NONCE_LEN>()?;
        let keys = self.keys.load();
        let key = keys.iter().find(|key| key.name == *name)?;
        let mut opened = sealed.to_vec();
        let nonce = Nonce::assume_unique_for_key(*nonce);
        let plain = key.aead.open_in_place(nonce, Aad::from(*name), &mut opened).ok()?;
        let (made, plain) = plain.split_first_chunk::<TIME>()?;
        let age_s = (self.now)().saturating_sub(i64::from_be_bytes(*made));
        // A clock of another router may be a little ahead.
        (-300..i64::from(LIFETIME_S)).contains(&age_s).then(|| plain.to_vec())
    }
}

/// Secrets of the process's own, the newest first. Given to every listener that shares none from a file.
#[derive(Debug, Default)]
pub struct OwnSecrets {
    secrets: Vec<Secret>,
    made_s: i64,
}

impl OwnSecrets {
    /// The secrets now; a new one when the newest is [`ROTATE_S`] old. True when there is one.
    pub fn rotate(&mut self, now_s: i64) -> bool {
        if !self.secrets.is_empty() && now_s.saturating_sub(self.made_s) < ROTATE_S {
            return false;
        }
        let Ok(secret) = Secret::new() else { return false };
        self.secrets.insert(0, secret);
        self.secrets.truncate(KEPT);
        self.made_s = now_s;
        true
    }

    /// All of them.
    pub fn all(&self) -> &[Secret] {
        &self.secrets
    }
}

/// Seconds since the Unix epoch.
pub fn unix_s() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| i64::try_from(d.as_secs()).unwrap_or(i64::MAX))
}
