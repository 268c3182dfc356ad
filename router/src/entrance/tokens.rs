//! Verifies signed tokens (RFC 7519) by the keys of one issuer, on the worker: a signature takes some 30 to 100 microseconds, a token
//! that was seen a moment ago one hash.
//!
//! Algorithms are those of the configuration, each with keys of its own kind: a public key is never taken for a shared secret, and
//! `none` is no algorithm. Does not fetch keys (see `fetch`).

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use arc_swap::ArcSwap;
use aws_lc_rs::digest;
use ekiden_config::model::{TokenAlgorithm, TokenIssuer};
use ekiden_core::stats::Counter;
use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::jwk::{Jwk, PublicKeyUse};
use jsonwebtoken::{Algorithm, DecodingKey, Validation, decode, decode_header};
use serde_json::Value;
use tokio::sync::Notify;

use super::keyring::new_id;
use super::verdicts::Verdicts;

/// Longest token that is looked at, in bytes.
pub const TOKEN_MAX: usize = 8 << 10;
/// Keys of one set at most.
const KEYS_MAX: usize = 256;
/// Keys that one token without `kid` is tried with.
const TRIES_MAX: usize = 4;
/// How long a token that was good is not verified again, in milliseconds; never longer than it lives.
const KEPT_MS: u64 = 60_000;
/// Tokens kept.
const KEPT: usize = 8192;
/// Least time between two questions for keys because of an unknown `kid`, in milliseconds.
pub const ASK_EVERY_MS: u64 = 30_000;

/// Who signs tokens.
pub struct Issuer {
    /// What tokens must say.
    pub words: TokenIssuer,
    keys: ArcSwap<KeySet>,
    good: Verdicts<Arc<Value>>,
    started: Instant,
    /// When keys were last asked for because of an unknown one, in milliseconds since the start and one more; 0 before.
    asked_ms: AtomicU64,
    /// Somebody waits for the answer.
    asking: AtomicBool,
    /// Told when the keys were asked for, whatever came of it.
    pub fetched: Notify,
}

impl std::fmt::Debug for Issuer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Issuer").field("issuer", &self.words.issuer).finish_non_exhaustive()
    }
}

/// Keys of one reading.
#[derive(Default)]
pub struct KeySet {
    id: u64,
    keys: Vec<Key>,
}

struct Key {
    kid: Option<String>,
    algorithm: Option<Algorithm>,
    key: DecodingKey,
}

/// Why a token is not good.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Malformed, signed by nobody who is known, or made for another purpose.
    Refused,
    /// No longer good, or not yet.
    Expired,
    /// Signed with a key that is not known, and may be known later.
    UnknownKey,
    /// There are no keys.
    NoKeys,
}

impl KeySet {
    /// Reads a set (RFC 7517). Keys of kinds that are not taken are passed over, as the standard asks.
    ///
    /// # Errors
    /// It is no set, or no key in it can be used; never what stands in it.
    pub fn read(text: &[u8], words: &TokenIssuer) -> Result<Self, String> {
        let set: Value = serde_json::from_slice(text).map_err(|_| "it is not JSON".to_owned())?;
        let Some(all) = set.get("keys").and_then(Value::as_array) else {
            return Err("it is no set of keys: `{\"keys\": [...]}`".to_owned());
        };
        if all.len() > KEYS_MAX {
            return Err(format!("it has more than {KEYS_MAX} keys"));
        }
        let keys: Vec<Key> = all.iter().filter_map(|value| key(value, words)).collect();
        if keys.is_empty() {
            return Err("it has no key for the algorithms of the issuer".to_owned());
        }
        Ok(Self { id: new_id(), keys })
    }
}

/// A key that can be used with one of the algorithms.
fn key(value: &Value, words: &TokenIssuer) -> Option<Key> {
    let jwk: Jwk = serde_json::from_value(value.clone()).ok()?;
    let signs = jwk.common.public_key_use.as_ref().is_none_or(|purpose| *purpose == PublicKeyUse::Signature);
    let algorithm = match jwk.common.key_algorithm {
        None => None,
        Some(written) => Some(written.to_string().parse::<Algorithm>().ok()?),
    };
    let key = DecodingKey::from_jwk(&jwk).ok()?;
    let fits = words.algorithms.iter().map(|taken| algorithm_of(*taken)).any(|taken| {
        key.family().algorithms().contains(&taken) && algorithm.is_none_or(|algorithm| algorithm == taken)
    });
    (signs && fits).then_some(Key { kid: jwk.common.key_id, algorithm, key })
}

fn algorithm_of(algorithm: TokenAlgorithm) -> Algorithm {
    match algorithm {
        TokenAlgorithm::Rs256 => Algorithm::RS256,
        TokenAlgorithm::Rs384 => Algorithm::RS384,
        TokenAlgorithm::Rs512 => Algorithm::RS512,
        TokenAlgorithm::Ps256 => Algorithm::PS256,
        TokenAlgorithm::Ps384 => Algorithm::PS384,
        TokenAlgorithm::Ps512 => Algorithm::PS512,
        TokenAlgorithm::Es256 => Algorithm::ES256,
        TokenAlgorithm::Es384 => Algorithm::ES384,
        TokenAlgorithm::EdDsa => Algorithm::EdDSA,
        TokenAlgorithm::Hs256 => Algorithm::HS256,
        TokenAlgorithm::Hs384 => Algorithm::HS384,
        TokenAlgorithm::Hs512 => Algorithm::HS512,
    }
}

impl Issuer {
    /// Without keys yet.
    pub fn new(words: TokenIssuer) -> Self {
        Self {
            words,
            keys: ArcSwap::default(),
            good: Verdicts::new(KEPT),
            started: Instant::now(),
            asked_ms: AtomicU64::new(0),
            asking: AtomicBool::new(false),
            fetched: Notify::new(),
        }
    }

    /// Takes new keys; what was verified with older ones is verified again.
    pub fn set_keys(&self, keys: KeySet) {
        self.keys.store(Arc::new(keys));
    }

    /// Whether there are keys.
    pub fn has_keys(&self) -> bool {
        !self.keys.load().keys.is_empty()
    }

    /// Whether keys may be asked for now because one is unknown; if so, not again for a while.
    pub fn may_ask(&self) -> bool {
        let now_ms = self.now_ms() + 1;
        let last_ms = self.asked_ms.load(Ordering::Relaxed);
        (last_ms == 0 || now_ms - last_ms.min(now_ms) >= ASK_EVERY_MS)
            && self.asked_ms.compare_exchange(last_ms, now_ms, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }

    /// Whether an answer is on its way that may bring an unknown key.
    pub fn is_asking(&self) -> bool {
        self.asking.load(Ordering::Acquire)
    }

    /// Notes whether an answer is on its way; wakes those who wait when it is there.
    pub fn set_asking(&self, asking: bool) {
        self.asking.store(asking, Ordering::Release);
        if !asking {
            self.fetched.notify_waiters();
        }
    }

    fn now_ms(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// What a token says that was good a moment ago.
    pub fn recall(&self, token: &[u8]) -> Option<Arc<Value>> {
        if token.len() > TOKEN_MAX {
            return None;
        }
        self.good.get(&mark(self.keys.load().id, token), self.now_ms())
    }

    /// What a token says, if it is good. `verified` counts the signatures that are looked at.
    ///
    /// # Errors
    /// Why it is not.
    pub fn verify(&self, token: &[u8], verified: &Counter) -> Result<Arc<Value>, Fault> {
        let keys = self.keys.load();
        if keys.keys.is_empty() {
            return Err(Fault::NoKeys);
        }
        if token.len() > TOKEN_MAX {
            return Err(Fault::Refused);
        }
        let now_ms = self.now_ms();
        let mark = mark(keys.id, token);
        if let Some(claims) = self.good.get(&mark, now_ms) {
            return Ok(claims);
        }
        let verdict = self.verify_with(&keys, token);
        verified.add(u64::from(!matches!(verdict, Err(Fault::UnknownKey | Fault::NoKeys))));
        let claims = Arc::new(verdict?);
        let left_ms = claims
            .get("exp")
            .and_then(Value::as_f64)
            .map_or(0.0, |exp| (exp + self.words.leeway.as_secs_f64() - unix_s()).max(0.0) * 1_000.0);
        // A saturating cast: what lives longer is kept no longer than others.
        self.good.put(mark, Arc::clone(&claims), now_ms + (left_ms as u64).min(KEPT_MS));
        Ok(claims)
    }

    fn verify_with(&self, keys: &KeySet, token: &[u8]) -> Result<Value, Fault> {
        let header = decode_header(token).map_err(|_| Fault::Refused)?;
        let is_taken = self.words.algorithms.iter().any(|taken| algorithm_of(*taken) == header.alg);
        // Extensions that must be understood (RFC 7515 section 4.1.11), and tokens that are encrypted or packed: none is known here.
        if !is_taken || header.crit.is_some() || header.enc.is_some() || header.zip.is_some() {
            return Err(Fault::Refused);
        }
        let fits = |key: &&Key| {
            key.key.family().algorithms().contains(&header.alg)
                && key.algorithm.is_none_or(|algorithm| algorithm == header.alg)
                && (header.kid.is_none() || key.kid.is_none() || header.kid == key.kid)
        };
        let validation = self.validation(header.alg);
        let mut last = Fault::UnknownKey;
        for key in keys.keys.iter().filter(fits).take(TRIES_MAX) {
            match decode::<Value>(token, &key.key, &validation) {
                Ok(found) => return sound(found.claims, &self.words.issuer),
                Err(error) => last = fault_of(error.kind()),
            }
            if last == Fault::Expired {
                break;
            }
        }
        Err(last)
    }

    fn validation(&self, algorithm: Algorithm) -> Validation {
        let mut validation = Validation::new(algorithm);
        validation.leeway = self.words.leeway.as_secs();
        validation.validate_nbf = true;
        validation.set_issuer(&[&*self.words.issuer]);
        let mut required = vec!["exp", "iss"];
        match &self.words.audience {
            Some(audience) => {
                validation.set_audience(audience);
                required.push("aud");
            }
            None => validation.validate_aud = false,
        }
        validation.set_required_spec_claims(&required);
        validation
    }
}

/// Times that are no numbers are not passed over, and a token has one issuer.
fn sound(claims: Value, issuer: &str) -> Result<Value, Fault> {
    let is_time = |name: &str| claims.get(name).is_none_or(|value| value.as_f64().is_some());
    let is_whole = claims.get("iss").and_then(Value::as_str) == Some(issuer);
    if is_whole && is_time("nbf") && is_time("exp") { Ok(claims) } else { Err(Fault::Refused) }
}

fn fault_of(kind: &ErrorKind) -> Fault {
    match kind {
        ErrorKind::ExpiredSignature | ErrorKind::ImmatureSignature => Fault::Expired,
        _ => Fault::Refused,
    }
}

fn mark(keys: u64, token: &[u8]) -> [u8; 32] {
    let mut context = digest::Context::new(&digest::SHA256);
    context.update(&keys.to_le_bytes());
    context.update(token);
    let mut mark = [0; 32];
    mark.iter_mut().zip(context.finish().as_ref()).for_each(|(to, from)| *to = *from);
    mark
}

fn unix_s() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |time| time.as_secs_f64())
}

/// A claim by its name, or by names with `.` between them.
pub fn claim<'c>(claims: &'c Value, name: &str) -> Option<&'c Value> {
    claims.get(name).or_else(|| name.split('.').try_fold(claims, |value, part| value.get(part)))
}

/// A claim as the text of a field: texts, numbers, flags, and lists of them with commas between. None for anything else, and for
/// what cannot stand in a field.
pub fn text(value: &Value) -> Option<String> {
    let text = match value {
        Value::String(text) => text.clone(),
        Value::Number(number) => number.to_string(),
        Value::Bool(flag) => flag.to_string(),
        Value::Array(all) => {
            let single = |value: &Value| if value.is_array() { None } else { text(value) };
            all.iter().map(single).collect::<Option<Vec<_>>>()?.join(",")
        }
        Value::Null | Value::Object(_) => return None,
    };
    let is_plain = !text.is_empty() && text.trim() == text && !text.chars().any(char::is_control);
    is_plain.then_some(text)
}

/// Shows the texts of a claim, as conditions compare them, until `visit` returns false: a text as it is, numbers and flags as they are
/// written, those of a list one by one. Nothing of what is none of these.
pub fn each_text(value: &Value, visit: &mut dyn FnMut(&str) -> bool) {
    let mut one = |value: &Value| match value {
        Value::String(text) => visit(text),
        Value::Number(number) => visit(&number.to_string()),
        Value::Bool(flag) => visit(if *flag { "true" } else { "false" }),
        Value::Null | Value::Array(_) | Value::Object(_) => true,
    };
    match value {
        Value::Array(all) => {
            let _all_or_some = all.iter().all(&mut one);
        }
        other => {
            let _one = one(other);
        }
    }
}

/// Whether a claim is one of the values, or holds one.
pub fn holds(value: &Value, values: &[Arc<str>]) -> bool {
    match value {
        Value::Array(all) => all.iter().any(|value| !value.is_array() && holds(value, values)),
        other => text(other).is_some_and(|text| values.iter().any(|wanted| **wanted == *text)),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn claims_as_texts() {
        let claims = json!({
            "sub": "ann", "n": 7, "ok": true, "roles": ["a", "b"], "deep": { "roles": ["c"], "x.y": 1 },
            "https://e.example/r": "d", "bad": "a\r\nb", "list": [["a"]], "none": null, "empty": ""
        });
        let told = |name: &str| claim(&claims, name).and_then(text);
        for (name, want) in [
            ("sub", Some("ann")),
            ("n", Some("7")),
            ("ok", Some("true")),
            ("roles", Some("a,b")),
            ("deep.roles", Some("c")),
            ("https://e.example/r", Some("d")),
            ("deep", None),
            ("deep.x.y", None),
            ("bad", None),
            ("list", None),
            ("none", None),
            ("empty", None),
            ("missing", None),
        ] {
            assert_eq!(told(name).as_deref(), want, "{name}");
        }
        let held = |name: &str, wanted: &str| {
            claim(&claims, name).is_some_and(|value| holds(value, &[wanted.into()]))
        };
        assert!(held("roles", "a") && held("deep.roles", "c") && held("n", "7"));
        assert!(!held("roles", "a,b") && !held("sub", "an") && !held("list", "a") && !held("missing", ""));
    }
}
