//! Signed tokens: which are good, what endpoints are told of them, keys that change, issuers that cannot be asked.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use data_encoding::BASE64URL_NOPAD;
use ekiden_tests::{Client, Echo, Origin, Seen, Served, until_true};
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256, PublicKeyData};
use serde_json::{Value, json};

use super::{ask, rulings, serve_with};

/// A key for ES256: its name, its private half and its public half.
pub(super) struct Signer {
    kid: &'static str,
    key: EncodingKey,
    jwk: Value,
}

impl Signer {
    pub(super) fn new(kid: &'static str) -> Self {
        let pair = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
        // An uncompressed point: 4, x, y.
        let point = pair.der_bytes();
        let half = |from: usize| BASE64URL_NOPAD.encode(&point[from..from + 32]);
        let jwk = json!({ "kty": "EC", "crv": "P-256", "kid": kid, "use": "sig", "alg": "ES256", "x": half(1), "y": half(33) });
        Self { kid, key: EncodingKey::from_ec_der(&pair.serialize_der()), jwk }
    }

    /// A field line with a token that says this.
    pub(super) fn token(&self, claims: &Value) -> String {
        let header = Header { kid: Some(self.kid.to_owned()), ..Header::new(Algorithm::ES256) };
        bearer(&encode(&header, claims, &self.key).unwrap())
    }
}

fn bearer(token: &str) -> String {
    format!("Authorization: Bearer {token}\r\n")
}

pub(super) fn set(keys: &[&Signer]) -> String {
    let unknown = json!({ "kty": "new", "kid": "unknown kinds are passed over" });
    let keys: Vec<Value> = keys.iter().map(|signer| signer.jwk.clone()).chain([unknown]).collect();
    json!({ "keys": keys }).to_string()
}

pub(super) fn now_s() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

/// Good claims with these members in place of others; null takes one away.
pub(super) fn claims(changes: Value) -> Value {
    let mut claims = json!({
        "iss": "https://login.example", "aud": "shop", "exp": now_s() + 3600, "sub": "ann", "realm": { "roles": ["buyer", "admin"] }
    });
    for (name, value) in changes.as_object().unwrap() {
        if value.is_null() {
            claims.as_object_mut().unwrap().remove(name);
        } else {
            claims[name] = value.clone();
        }
    }
    claims
}

pub(super) const WORDS: &str =
    "issuer = \"https://login.example\", audience = [\"shop\"], algorithms = [\"ES256\"], leeway = \"1m\"";
const ROUTE: &str =
    "auth = { jwt = \"corp\", claims = { X-User = \"sub\", X-Roles = \"realm.roles\", X-Team = \"team\" } }";

pub(super) fn from_file() -> String {
    format!("jwt.corp = {{ jwks_file = \"keys.json\", {WORDS} }}")
}

#[test]
fn good_tokens_and_what_endpoints_are_told() {
    let (echo, signer) = (Echo::start("one"), Signer::new("one"));
    let router = serve_with(&echo, ROUTE, &from_file(), &[("keys.json", &set(&[&signer]))]);
    let mut client = router.client();
    let response = ask(&mut client, "GET /", "");
    assert_eq!((response.status, response.code()), (401, "credentials_missing"));
    assert_eq!(response.all("www-authenticate"), ["Bearer realm=\"restricted\""]);
    let forged = "X-User: root\r\nX-Team: root\r\nx-roles: root\r\n";
    let token = signer.token(&claims(json!({})));
    for _ in 0..2 {
        let seen = Seen::from(ask(&mut client, "GET /", &(token.clone() + forged)));
        assert_eq!(
            (seen.all("x-user"), seen.all("x-roles")),
            (vec!["ann".to_owned()], vec!["buyer,admin".to_owned()])
        );
        assert_eq!(seen.field("x-team"), None, "also where the token does not say it");
    }
    for changes in [
        json!({ "aud": ["other", "shop"] }),
        json!({ "nbf": now_s() + 20 }),
        json!({ "exp": now_s() - 20 }),
        json!({ "exp": (now_s() + 100) as f64 + 0.5 }),
        json!({ "team": 7 }),
    ] {
        assert_eq!(
            ask(&mut client, "GET /", &signer.token(&claims(changes.clone()))).status,
            200,
            "{changes}"
        );
    }
    until_true("the counts", || rulings(&router, "token") == [7.0, 0.0, 0.0]);
    let log = router.log_lines(8).join("\n") + &router.errors();
    assert!(!log.contains(token.split('.').nth(1).unwrap()));
}

/// The name of a key is optional in a set of keys (RFC 7517 section 4.5).
#[test]
fn keys_without_a_name_are_tried() {
    let (echo, mut signer) = (Echo::start("one"), Signer::new("one"));
    signer.jwk.as_object_mut().unwrap().remove("kid");
    let router = serve_with(&echo, ROUTE, &from_file(), &[("keys.json", &set(&[&signer]))]);
    let mut client = router.client();
    assert_eq!(ask(&mut client, "GET /", &signer.token(&claims(json!({})))).status, 200);
    let stranger = Signer::new("one");
    assert_eq!(ask(&mut client, "GET /", &stranger.token(&claims(json!({})))).status, 401);
}

#[test]
#[expect(clippy::too_many_lines, reason = "one row for each fault")]
fn bad_tokens() {
    let (echo, signer, other) = (Echo::start("one"), Signer::new("one"), Signer::new("one"));
    let route = ROUTE
        .replace(" }\n", " }")
        .replace("claims = ", "require = { \"realm.roles\" = \"admin\" }, claims = ");
    let router = serve_with(&echo, &route, &from_file(), &[("keys.json", &set(&[&signer]))]);
    let mut client = router.client();
    let good = signer.token(&claims(json!({})));
    assert_eq!(ask(&mut client, "GET /", &good).status, 200);
    let text = good.trim_start_matches("Authorization: Bearer ").trim_end();
    let [head, body, signature] = text.split('.').collect::<Vec<_>>()[..] else { panic!("{text}") };
    let headed = |header: Value| {
        bearer(&format!("{}.{body}.{signature}", BASE64URL_NOPAD.encode(header.to_string().as_bytes())))
    };
    let none = format!("{}.{body}.", BASE64URL_NOPAD.encode(br#"{"alg":"none"}"#));
    // A public key taken for a shared secret.
    let shared = EncodingKey::from_secret(signer.jwk["x"].as_str().unwrap().as_bytes());
    let confused = encode(
        &Header { kid: Some("one".to_owned()), ..Header::new(Algorithm::HS256) },
        &claims(json!({})),
        &shared,
    );
    let mut critical = Header { kid: Some("one".to_owned()), ..Header::new(Algorithm::ES256) };
    critical.crit = Some(vec!["b64".to_owned()]);
    let critical = encode(&critical, &claims(json!({})), &signer.key).unwrap();
    let stranger = Signer { kid: "two", ..Signer::new("two") };
    for (name, fields, status, code) in [
        ("another key", other.token(&claims(json!({}))), 401, "credentials_refused"),
        ("an unknown key", stranger.token(&claims(json!({}))), 401, "credentials_refused"),
        ("no algorithm", bearer(&none), 401, "credentials_refused"),
        ("shared secret", bearer(&confused.unwrap()), 401, "credentials_refused"),
        ("extension", bearer(&critical), 401, "credentials_refused"),
        ("other algorithm", headed(json!({ "alg": "ES384", "kid": "one" })), 401, "credentials_refused"),
        ("changed head", headed(json!({ "alg": "ES256" })), 401, "credentials_refused"),
        (
            "changed body",
            bearer(&format!(
                "{head}.{}.{signature}",
                BASE64URL_NOPAD.encode(claims(json!({"sub": "root"})).to_string().as_bytes())
            )),
            401,
            "credentials_refused",
        ),
        ("no signature", bearer(&format!("{head}.{body}.")), 401, "credentials_refused"),
        ("cut", bearer(&format!("{head}.{body}")), 401, "credentials_refused"),
        ("nothing", bearer(""), 401, "credentials_missing"),
        ("garbage", bearer("a.b.c"), 401, "credentials_refused"),
        ("twice", good.clone() + &good, 401, "credentials_refused"),
        ("expired", signer.token(&claims(json!({ "exp": now_s() - 600 }))), 401, "token_expired"),
        ("not yet", signer.token(&claims(json!({ "nbf": now_s() + 6000 }))), 401, "token_expired"),
        ("no end", signer.token(&claims(json!({ "exp": null }))), 401, "credentials_refused"),
        ("end in words", signer.token(&claims(json!({ "exp": "tomorrow" }))), 401, "credentials_refused"),
        ("begin in words", signer.token(&claims(json!({ "nbf": "never" }))), 401, "credentials_refused"),
        (
            "another issuer",
            signer.token(&claims(json!({ "iss": "https://evil.example" }))),
            401,
            "credentials_refused",
        ),
        (
            "several issuers",
            signer.token(&claims(json!({ "iss": ["https://login.example", "x"] }))),
            401,
            "credentials_refused",
        ),
        ("no issuer", signer.token(&claims(json!({ "iss": null }))), 401, "credentials_refused"),
        ("for others", signer.token(&claims(json!({ "aud": "mail" }))), 401, "credentials_refused"),
        ("for nobody", signer.token(&claims(json!({ "aud": null }))), 401, "credentials_refused"),
        (
            "without the claim",
            signer.token(&claims(json!({ "realm": { "roles": ["buyer"] } }))),
            403,
            "claim_refused",
        ),
        ("without any claim", signer.token(&claims(json!({ "realm": null }))), 403, "claim_refused"),
    ] {
        let response = ask(&mut client, "GET /", &fields);
        assert_eq!((response.status, response.code()), (status, code), "{name}");
        let told = response.get("www-authenticate").map(|text| text.contains("invalid_token"));
        assert_eq!(told, (status == 401).then_some(!matches!(name, "nothing" | "twice")), "{name}");
    }
    assert_eq!(echo.requests(), 1);
}

#[test]
fn a_file_of_keys_is_watched() {
    let (echo, one, two) = (Echo::start("one"), Signer::new("one"), Signer::new("two"));
    let router = serve_with(&echo, ROUTE, &from_file(), &[("keys.json", &set(&[&one]))]);
    let (mut client, file) = (router.client(), router.setup().dir().join("keys.json"));
    let status =
        |client: &mut Client, signer: &Signer| ask(client, "GET /", &signer.token(&claims(json!({})))).status;
    let old = one.token(&claims(json!({})));
    assert_eq!((ask(&mut client, "GET /", &old).status, status(&mut client, &two)), (200, 401));
    router.rename_over(&file, &set(&[&two]));
    until_true("the new keys", || status(&mut client, &two) == 200);
    assert_eq!(ask(&mut client, "GET /", &old).status, 401, "what was good with old keys is not now");
    router.rename_over(&file, "{\"keys\": []}");
    router.wait_error("the keys before go on");
    assert_eq!(status(&mut client, &two), 200);
}

#[test]
fn keys_are_asked_for_and_unknown_ones_bring_a_question_at_a_capped_rate() {
    let (echo, one, two) = (Echo::start("one"), Signer::new("one"), Signer::new("two"));
    let (keys, asked) = (Arc::new(Mutex::new(set(&[&one]))), Arc::new(AtomicU64::new(0)));
    let broken = Arc::new(AtomicBool::new(false));
    let (served, counter, fails) = (Arc::clone(&keys), Arc::clone(&asked), Arc::clone(&broken));
    let issuer = Origin::start(move |conn| {
        while let Some(request) = conn.request() {
            counter.fetch_add(1, Ordering::SeqCst);
            assert_eq!(request.target(), "/jwks?x=1");
            if fails.load(Ordering::SeqCst) {
                conn.send("HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n");
                continue;
            }
            let keys = served.lock().unwrap().clone();
            conn.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{keys}", keys.len()));
        }
    });
    let top = format!("jwt.corp = {{ jwks_url = \"http://{}/jwks?x=1\", {WORDS} }}", issuer.address);
    let router = serve_with(&echo, ROUTE, &top, &[]);
    let mut client = router.client();
    let get =
        |client: &mut Client, signer: &Signer| ask(client, "GET /", &signer.token(&claims(json!({})))).status;
    until_true("the first keys", || get(&mut client, &one) == 200);
    // A new key is found at once; what waits for it is served.
    *keys.lock().unwrap() = set(&[&one, &two]);
    let before = asked.load(Ordering::SeqCst);
    // The first question, at the start, may have been brought by a token; then the next is not due yet.
    let brought = get(&mut client, &two);
    let after = asked.load(Ordering::SeqCst);
    assert!(
        (brought == 200 && after == before + 1) || (brought == 401 && after == before),
        "{brought} {before} {after}"
    );
    // A flood of unknown keys brings no flood of questions.
    let began = Instant::now();
    broken.store(true, Ordering::SeqCst);
    let stranger = Signer::new("three");
    for _ in 0..50 {
        assert_eq!(get(&mut client, &stranger), 401);
    }
    // One in 30 s, and one in 15 s after one that failed.
    assert!(asked.load(Ordering::SeqCst) <= before + 2 + began.elapsed().as_secs() / 10);
    assert_eq!(get(&mut client, &one), 200);
}

#[test]
fn an_issuer_that_cannot_be_asked_lets_nobody_in() {
    let (echo, one) = (Echo::start("one"), Signer::new("one"));
    let top =
        format!("jwt.corp = {{ jwks_url = \"http://127.0.0.1:{}/\", {WORDS} }}", ekiden_tests::free_port());
    let router = serve_with(&echo, ROUTE, &top, &[]);
    router.wait_error("keys of tokens cannot be had");
    let response = ask(&mut router.client(), "GET /", &one.token(&claims(json!({}))));
    assert_eq!((response.status, response.code()), (503, "credentials_unavailable"));
}

#[test]
fn shared_secrets_from_a_file() {
    let echo = Echo::start("one");
    let secret = b"a secret of more than thirty-two bytes";
    let keys = json!({ "keys": [{ "kty": "oct", "kid": "s", "alg": "HS256", "k": BASE64URL_NOPAD.encode(secret) }] });
    let top = from_file().replace("ES256", "HS256");
    let router = serve_with(&echo, ROUTE, &top, &[("keys.json", &keys.to_string())]);
    let token = |secret: &[u8]| {
        let header = Header::new(Algorithm::HS256);
        bearer(&encode(&header, &claims(json!({})), &EncodingKey::from_secret(secret)).unwrap())
    };
    let mut client = router.client();
    assert_eq!(ask(&mut client, "GET /", &token(secret)).status, 200);
    assert_eq!(ask(&mut client, "GET /", &token(b"another secret of more than thirty-two")).status, 401);
}
