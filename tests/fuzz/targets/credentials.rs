//! `Authorization` as clients send it, and files of credentials: reading never panics; a name has no control characters; what is
//! no token of the issuer is refused. Also certificates of clients, and claims as texts of fields.
#![no_main]

use std::sync::LazyLock;

use ekiden_config::model::{KeySource, TokenAlgorithm, TokenIssuer};
use ekiden_core::stats::Counter;
use ekiden_router::entrance::basic::{PASSWORD_MAX, login, of_scheme};
use ekiden_router::entrance::keys::Keys;
use ekiden_router::entrance::tokens::{Issuer, KeySet, claim, text};
use ekiden_router::entrance::users::Users;
use ekiden_router::tls::clients::Identity;
use ekiden_router::wire::is_value_byte;
use libfuzzer_sys::fuzz_target;

/// The example of RFC 7515 appendix A.1: a shared secret, so that nothing has to be random.
const KEYS: &[u8] = br#"{"keys":[{"kty":"oct","kid":"a","k":"AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75aKtMN3Yj0iPS4hcgUuTwjAzZr1Z9CAow"}]}"#;

static ISSUER: LazyLock<Issuer> = LazyLock::new(|| {
    let words = TokenIssuer {
        keys: KeySource::File("k".into()),
        issuer: "joe".into(),
        audience: None,
        algorithms: vec![TokenAlgorithm::Hs256],
        leeway: std::time::Duration::ZERO,
        apps: Vec::new(),
    };
    let issuer = Issuer::new(words);
    issuer.set_keys(KeySet::read(KEYS, &issuer.words).unwrap());
    issuer
});

fuzz_target!(|data: &[u8]| {
    if let Some(login) = of_scheme(data, "Basic").and_then(login) {
        assert!(!login.name().is_empty() && !login.name().chars().any(char::is_control));
        assert!(login.password().len() <= PASSWORD_MAX);
        assert_eq!(login.whole().len(), login.name().len() + 1 + login.password().len());
    }
    let token = of_scheme(data, "Bearer").unwrap_or(data);
    // The tokens of the appendix ended in 2011.
    assert!(ISSUER.verify(token, &Counter::new()).is_err());
    let _refused = KeySet::read(data, &ISSUER.words);
    let _refused = Users::read(data, Vec::new());
    let _refused = Keys::read(data, Vec::new());
    claims(data);
    certificate(data);
});

/// What a claim becomes can stand in a field.
fn claims(data: &[u8]) {
    let Ok(claims) = serde_json::from_slice(data) else { return };
    for name in ["sub", "a.b", "a"] {
        let told = claim(&claims, name).and_then(text);
        assert!(told.is_none_or(|told| !told.is_empty() && told.bytes().all(is_value_byte)));
    }
}

/// What endpoints are told of a certificate can stand in a field, and its texts are within their bounds.
fn certificate(data: &[u8]) {
    let Some(identity) = Identity::of(&data.into()) else { return };
    for field in [&identity.client_cert, &identity.forwarded] {
        assert!(field.bytes().all(is_value_byte), "{field:?}");
    }
    let names = identity.cert.uris.iter().chain(&identity.cert.dns);
    assert!(names.map(|name| name.len()).sum::<usize>() <= 4 << 10);
}
