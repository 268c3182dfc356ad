//! The token of a request, before its route is known: verified once by each issuer that routes with conditions on claims name. Judges no
//! request: the route that is chosen asks for credentials as every route does (see `exchange::entrance`).

use std::cell::{OnceCell, RefCell};
use std::sync::Arc;

use data_encoding::BASE64URL_NOPAD;
use ekiden_config::model::{CLAIM_ISSUERS_MAX, may_use};
use ekiden_config::names::{AppName, TrustName};
use ekiden_core::claims::{Claim, Claims};
use serde_json::Value;
use smallvec::SmallVec;

use super::basic::of_scheme;
use super::keyring::Keyring;
use super::tokens::{self, Fault, Issuer};
use crate::head::Head;

/// What the issuers make of it so far: the claims, where they signed it.
type Known = SmallVec<[(Arc<Issuer>, Option<Arc<Value>>); 1]>;

/// The token of one request.
pub struct ShownToken<'a> {
    keyring: &'a Keyring,
    head: &'a Head,
    /// Keys that are not known may be asked for.
    may_ask: bool,
    known: RefCell<Known>,
    /// Who is being asked for a key that may be this token's.
    asked: RefCell<Option<Arc<Issuer>>>,
    /// Who signed the token, as it says itself.
    says: OnceCell<Option<String>>,
}

impl<'a> ShownToken<'a> {
    /// The token in a head. Nothing is looked at before it is asked about.
    pub fn new(keyring: &'a Keyring, head: &'a Head, may_ask: bool) -> Self {
        Self {
            keyring,
            head,
            may_ask,
            known: RefCell::default(),
            asked: RefCell::default(),
            says: OnceCell::new(),
        }
    }

    /// An issuer that is being asked for keys: what it answers may change which conditions hold.
    pub fn take_asked(&self) -> Option<Arc<Issuer>> {
        self.asked.take()
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

    fn verified(&self, name: &TrustName, issuer: Arc<Issuer>) -> Option<Arc<Value>> {
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
        let verdict = issuer.verify(self.token()?);
        if let Err(Fault::UnknownKey | Fault::NoKeys) = verdict
            && self.may_ask
            && self.keyring.ask_again(name, &issuer)
        {
            self.asked.replace(Some(Arc::clone(&issuer)));
        }
        let claims = verdict.ok();
        self.known.borrow_mut().push((issuer, claims.clone()));
        claims
    }
}

/// Whom a token names as its issuer, without a look at its signature.
fn issuer_in(token: &[u8]) -> Option<String> {
    let mut parts = token.split(|byte| *byte == b'.');
    let payload = BASE64URL_NOPAD.decode(parts.nth(1)?).ok()?;
    match serde_json::from_slice::<Value>(&payload).ok()?.get_mut("iss")?.take() {
        Value::String(issuer) => Some(issuer),
        _ => None,
    }
}

impl Claims for ShownToken<'_> {
    fn look(
        &self,
        app: &AppName,
        issuer: &TrustName,
        claim: &str,
        visit: &mut dyn FnMut(&str) -> bool,
    ) -> Claim {
        let issuer_of = self.keyring.issuer(issuer).filter(|found| may_use(app, &found.words.apps));
        let Some(claims) = issuer_of.and_then(|found| self.verified(issuer, found)) else {
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
