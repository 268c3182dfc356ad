//! Asks for the keys of issuers in the background, on a thread of its own: at the start, every ten minutes, and when a token names
//! a key that is not known. What cannot be had keeps the keys before it, and is loud. Follows no redirect.

use std::net::ToSocketAddrs;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use ekiden_config::model::{Address, ClusterTls, KeySource, Roots, Verify};
use ekiden_config::names::TrustName;
use http_body_util::{BodyExt, Empty, Limited};
use hyper::Request;
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper::header::{ACCEPT, CONNECTION, HOST, USER_AGENT};
use hyper_util::rt::TokioIo;
use rustls::RootCertStore;

use super::keyring::Keyring;
use super::tokens::{Issuer, KeySet};
use crate::tls::upstream::files::{authorities, web};
use crate::tls::upstream::{Secure, Trust, open};

/// Time between two questions.
const EVERY: Duration = Duration::from_secs(600);
/// Time between two questions after one that failed.
const AGAIN: Duration = Duration::from_secs(15);
/// Longest wait for an answer.
const PATIENCE: Duration = Duration::from_secs(10);
/// Largest answer, in bytes.
const ANSWER_MAX: usize = 1 << 20;
/// Questions that may wait.
pub const QUESTIONS_MAX: usize = 64;
const AGENT: &str = concat!("ekiden/", env!("CARGO_PKG_VERSION"));

/// Asks until nobody can have it ask any more. Called on a thread of its own.
pub fn run(keyring: &Weak<Keyring>, asked: &Receiver<TrustName>) {
    let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build() else {
        tracing::error!("keys of tokens cannot be asked for: no runtime");
        return;
    };
    let mut due: Vec<(TrustName, Arc<Issuer>, Instant)> = Vec::new();
    loop {
        let next = due.iter().map(|(_, _, at)| *at).min();
        let wait = next.map_or(EVERY, |at| at.saturating_duration_since(Instant::now()));
        let wanted = match asked.recv_timeout(wait) {
            Ok(name) => Some(name),
            Err(RecvTimeoutError::Timeout) => None,
            Err(RecvTimeoutError::Disconnected) => return,
        };
        let Some(keyring) = keyring.upgrade() else { return };
        let now = Instant::now();
        due = with_issuers(&keyring, &due, now);
        for (name, issuer, at) in &mut due {
            if *at > now && wanted.as_ref() != Some(name) {
                continue;
            }
            let got = runtime.block_on(async {
                match tokio::time::timeout(PATIENCE, fetch(&keyring, issuer)).await {
                    Ok(got) => got,
                    Err(_) => Err(format!("no answer within {} s", PATIENCE.as_secs())),
                }
            });
            *at = Instant::now() + if got.is_ok() { EVERY } else { AGAIN };
            match got {
                Ok(keys) => issuer.set_keys(keys),
                Err(reason) => {
                    let kept =
                        if issuer.has_keys() { "the keys before go on" } else { "its tokens are not taken" };
                    tracing::error!(issuer = %name, "keys of tokens cannot be had: {reason}; {kept}");
                }
            }
            issuer.set_asking(false);
        }
    }
}

/// The issuers whose keys are asked for, each with its time; a new one is due at once.
fn with_issuers(
    keyring: &Keyring,
    before: &[(TrustName, Arc<Issuer>, Instant)],
    now: Instant,
) -> Vec<(TrustName, Arc<Issuer>, Instant)> {
    let of = |(name, issuer): (TrustName, Arc<Issuer>)| {
        let known = before.iter().find(|(_, known, _)| Arc::ptr_eq(known, &issuer));
        let at = known.map_or(now, |(_, _, at)| *at);
        (name, issuer, at)
    };
    keyring.fetched_issuers().into_iter().map(of).collect()
}

async fn fetch(keyring: &Keyring, issuer: &Issuer) -> Result<KeySet, String> {
    let KeySource::Url { url, ca } = &issuer.words.keys else { return Err("they are in a file".to_owned()) };
    let uri: http::Uri = url.parse().map_err(|_| "the URL cannot be read".to_owned())?;
    let host = uri.host().unwrap_or("").trim_start_matches('[').trim_end_matches(']');
    let is_tls = uri.scheme_str() == Some("https");
    let port = uri.port_u16().unwrap_or(if is_tls { 443 } else { 80 });
    let trust = if is_tls { Some(trust(keyring, host, ca.as_ref())?) } else { None };
    // This thread may wait for names; nobody else does.
    let addresses = (host, port).to_socket_addrs().map_err(|error| format!("{host}: {error}"))?;
    let mut last = format!("{host} has no address");
    for address in addresses {
        let address = Address::Tcp(address);
        let secure = match &trust {
            None => None,
            Some(trust) => {
                let name =
                    trust.server_name(&address, Some(host)).ok_or("the host is no name that TLS knows")?;
                Some(Secure { trust: Arc::clone(trust), name })
            }
        };
        match ask(&uri, &address, secure.as_ref()).await {
            Ok(text) => return KeySet::read(&text, &issuer.words),
            Err(reason) => last = format!("{address}: {reason}"),
        }
    }
    Err(last)
}

fn trust(keyring: &Keyring, host: &str, ca: Option<&TrustName>) -> Result<Arc<Trust>, String> {
    let roots: RootCertStore = match ca {
        None => web()?,
        Some(name) => authorities(&keyring.authority(name).ok_or("its authority is not there")?)?.1,
    };
    let name = Some(Arc::from(host));
    let words = ClusterTls { verify: Verify::Full, roots: Roots::Web, name, san: Vec::new(), identity: None };
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    Trust::new(&words, Some(Arc::new(roots)), None, &[b"http/1.1"], &provider).map(Arc::new)
}

async fn ask(uri: &http::Uri, address: &Address, secure: Option<&Secure>) -> Result<Bytes, String> {
    let stream =
        open(address, secure, None, false).await.map_err(|error| crate::probe::open_words(&error))?;
    let (mut sender, connection) =
        http1::handshake(TokioIo::new(stream)).await.map_err(|error| error.to_string())?;
    let target = uri.path_and_query().map_or("/", http::uri::PathAndQuery::as_str);
    let request = Request::get(target)
        .header(HOST, uri.authority().map_or("", http::uri::Authority::as_str))
        .header(USER_AGENT, AGENT)
        .header(ACCEPT, "application/json")
        .header(CONNECTION, "close")
        .body(Empty::<Bytes>::new())
        .map_err(|error| error.to_string())?;
    let exchange = async {
        let response = sender.send_request(request).await.map_err(|error| error.to_string())?;
        if response.status() != http::StatusCode::OK {
            return Err(format!("it answered {}", response.status().as_u16()));
        }
        let body = Limited::new(response.into_body(), ANSWER_MAX).collect().await;
        Ok(body.map_err(|error| error.to_string())?.to_bytes())
    };
    let drive = async move {
        let _told_by_the_exchange = connection.await;
        std::future::pending::<std::convert::Infallible>().await
    };
    tokio::select! {
        answer = exchange => answer,
        never = drive => match never {},
    }
}
