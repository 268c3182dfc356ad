//! The token of a request, before its route is known: verified once by each issuer that routes with conditions on claims name, where its
//! gate lets it. Judges no request: the route that is chosen asks for credentials as every route does (see `exchange::entrance`).

use std::borrow::Cow;
use std::cell::{Cell, OnceCell, RefCell};
use std::sync::Arc;

use data_encoding::BASE64URL_NOPAD;
use ekiden_config::model::{CLAIM_ISSUERS_MAX, may_use};
use ekiden_config::names::TrustName;
use ekiden_core::claims::{Claim, Claims, Looker};
use ekiden_core::stats::Counter;
use ekiden_core::table::RouteEntry;
use serde::Deserialize;
use serde_json::Value;
use smallvec::SmallVec;

use super::basic::of_scheme;
use super::keyring::Keyring;
use super::tokens::{self, Fault, Issuer, TOKEN_MAX};
use crate::head::Head;

/// What the issuers make of it so far: the claims, where they signed it.
type Known = SmallVec<[(Arc<Issuer>, Option<Arc<Value>>); 1]>;

/// What a token has to pass before its signature is looked at for a rule.
pub trait Gate {
    /// What is paid to pass.
    type Paid;

    /// Whether it may be looked at. Once it may not, it may not for any other rule.
    fn passes(&self, entry: &Arc<RouteEntry>) -> bool;

    /// What was paid.
    fn end(self) -> Self::Paid;
}

/// No gate.
impl Gate for () {
    type Paid = ();

    fn passes(&self, _: &Arc<RouteEntry>) -> bool {
        true
    }

    fn end(self) {}
}

/// The token of one request.
pub struct ShownToken<'a, G> {
    keyring: &'a Keyring,
    head: &'a Head,
    gate: G,
    verified: &'a Counter,
    /// Keys that are not known may be asked for.
    may_ask: bool,
    /// A signature was looked at for nothing.
    is_bad: Cell<bool>,
    known: RefCell<Known>,
    /// Who is being asked for a key that may be this token's.
    asked: RefCell<Option<Arc<Issuer>>>,
    /// Who signed the token, as it says itself.
    says: OnceCell<Option<String>>,
}

/// What was found out of a token while a route was looked for.
pub struct Looked<P> {
    /// An issuer that is being asked for keys: what it answers may change which conditions hold.
    pub asked: Option<Arc<Issuer>>,
    /// Signatures were looked at, and none was good.
    pub is_bad: bool,
    /// What was paid for it.
    pub paid: P,
}

impl<'a, G: Gate> ShownToken<'a, G> {
    /// The token in a head. Nothing is looked at before it is asked about; `verified` counts the signatures that are.
    pub fn new(keyring: &'a Keyring, head: &'a Head, gate: G, verified: &'a Counter) -> Self {
        Self {
            keyring,
            head,
            gate,
            verified,
            may_ask: false,
            is_bad: Cell::new(false),
            known: RefCell::default(),
            asked: RefCell::default(),
            says: OnceCell::new(),
        }
    }

    /// The same, for which keys that are not known may be asked for.
    pub fn asking(mut self, may_ask: bool) -> Self {
        self.may_ask = may_ask;
        self
    }

    /// What was found out.
    pub fn end(self) -> Looked<G::Paid> {
        let is_good = self.known.take().iter().any(|(_, claims)| claims.is_some());
        Looked { asked: self.asked.take(), is_bad: self.is_bad.get() && !is_good, paid: self.gate.end() }
    }

    /// The one token of the request.
    fn token(&self) -> Option<&'a [u8]> {
        let mut fields = self.head.get_all(b"authorization");
        match (fields.next(), fields.next()) {
            (Some(value), None) => of_scheme(value, "Bearer"),
            // Which of two counts is not guessed.
            (Some(_), Some(_)) | (None, _) => None,
        }
    }

    fn claims(&self, looker: &Looker<'_>, issuer: Arc<Issuer>) -> Option<Arc<Value>> {
        if let Some((_, claims)) = self.known.borrow().iter().find(|(known, _)| Arc::ptr_eq(known, &issuer)) {
            return claims.clone();
        }
        // No signature is worth a look, and no keys are asked for, where the token says that it is another's.
        if self.says.get_or_init(|| issuer_in(self.token()?)).as_deref() != Some(&*issuer.words.issuer) {
            return None;
        }
        // A signature is some 100 microseconds, and a bad one is not remembered beyond this request.
        if self.known.borrow().len() >= CLAIM_ISSUERS_MAX {
            return None;
        }
        let token = self.token()?;
        let claims = match issuer.recall(token) {
            Some(claims) => Some(claims),
            None if looker.entry.is_some_and(|entry| !self.gate.passes(entry)) => return None,
            None => self.verify(looker.issuer, &issuer, token),
        };
        self.known.borrow_mut().push((issuer, claims.clone()));
        claims
    }

    fn verify(&self, name: &TrustName, issuer: &Arc<Issuer>, token: &[u8]) -> Option<Arc<Value>> {
        let verdict = issuer.verify(token, self.verified);
        match verdict {
            Err(Fault::UnknownKey | Fault::NoKeys) => {
                if self.may_ask && self.keyring.ask_again(name, issuer) {
                    self.asked.replace(Some(Arc::clone(issuer)));
                }
            }
            Err(Fault::Refused | Fault::Expired) => self.is_bad.set(true),
            Ok(_) => {}
        }
        verdict.ok()
    }
}

/// Whom a token names as its issuer, without a look at its signature.
fn issuer_in(token: &[u8]) -> Option<String> {
    if token.len() > TOKEN_MAX {
        return None;
    }
    let mut parts = token.split(|byte| *byte == b'.');
    let payload = BASE64URL_NOPAD.decode(parts.nth(1)?).ok()?;
    serde_json::from_slice::<Says<'_>>(&payload).ok().map(|says| says.iss.into_owned())
}

/// What is read of a token that nobody has paid for: the rest is passed over and not kept.
#[derive(Deserialize)]
struct Says<'a> {
    #[serde(borrow)]
    iss: Cow<'a, str>,
}

impl<G: Gate> Claims for ShownToken<'_, G> {
    fn look(&self, looker: &Looker<'_>, claim: &str, visit: &mut dyn FnMut(&str) -> bool) -> Claim {
        let issuer =
            self.keyring.issuer(looker.issuer).filter(|found| may_use(looker.app, &found.words.apps));
        let Some(claims) = issuer.and_then(|issuer| self.claims(looker, issuer)) else {
            return Claim::NoToken;
        };
        match tokens::claim(&claims, claim) {
            None | Some(Value::Null) => Claim::Absent,
            Some(value) => {
                tokens::each_text(value, visit);
                Claim::There
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(payload: &str) -> Vec<u8> {
        format!("e30.{}.c2ln", BASE64URL_NOPAD.encode(payload.as_bytes())).into_bytes()
    }

    #[test]
    fn the_issuer_is_read_and_nothing_else() {
        for (payload, want) in [
            (r#"{"iss":"https://a.test","sub":"ann"}"#, Some("https://a.test")),
            (r#"{"sub":[{"iss":"x"},1.5e3],"iss":"https:\/\/a.t\u0065st"}"#, Some("https://a.test")),
            // What no text could hold is passed over.
            (r#"{"sub":"\ud800","iss":"a"}"#, Some("a")),
            (r#"{"iss":7}"#, None),
            (r#"{"iss":null}"#, None),
            (r#"{"sub":"ann"}"#, None),
            (r#"{"iss":"a""#, None),
            ("7", None),
        ] {
            assert_eq!(issuer_in(&token(payload)).as_deref(), want, "{payload}");
        }
        assert_eq!(issuer_in(b"e30"), None);
        assert_eq!(issuer_in(b"e30.?.c2ln"), None);
    }

    #[test]
    fn a_token_that_is_too_long_is_not_read() {
        let of = |long: usize| token(&format!(r#"{{"iss":"a","x":"{}"}}"#, "x".repeat(long)));
        let most = (0..TOKEN_MAX).rev().map(of).find(|token| token.len() <= TOKEN_MAX).unwrap();
        assert_eq!(issuer_in(&most).as_deref(), Some("a"));
        assert_eq!(issuer_in(&of(TOKEN_MAX)), None);
    }
}
