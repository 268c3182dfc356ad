//! The question as a call of gRPC: `envoy.service.auth.v3.Authorization/Check`. What stands in the messages is core's
//! (`core::grpc::ext_authz`); the call goes the way of the question, as a POST with one message.

use ekiden_config::model::{Authorizer, CertField, Listener};
use ekiden_core::client_cert::ClientCert;
use ekiden_core::grpc::ext_authz::{self, Check, Verdict};

use super::body::Shown;
use super::{Asker, FIELDS_MAX, PARTIAL, authority, is_of_answer, is_own};
use crate::exchange::out::put_field;
use crate::exchange::request_out::client_address;
use crate::exchange::run::client_cert;
use crate::exchange::{Workspace, grpc};
use crate::wire::Version;
use crate::wire::body::Framing;
use crate::wire::request::Rules;

/// Writes the call into a workspace of its own; gives its body.
pub(super) fn put(
    inner: &mut Workspace,
    ws: &Workspace,
    listener: &Listener,
    (words, shown): (&Authorizer, Option<&Shown>),
) -> Option<Vec<u8>> {
    let body = message(ws, listener, words, shown);
    let request = &ws.request;
    let mut text = format!("POST {} HTTP/1.1\r\n", ext_authz::PATH).into_bytes();
    let host = authority(request);
    put_field(&mut text, b"Host", if host.is_empty() { b"authorizer" } else { host });
    put_field(&mut text, b"Content-Type", b"application/grpc");
    put_field(&mut text, b"TE", b"trailers");
    put_field(&mut text, b"Content-Length", body.len().to_string().as_bytes());
    // Judged on their way, as those of every request: a client that is not trusted says nothing by them.
    for (_, name, value) in request.head.iter().filter(|(id, ..)| id.is_forwarding()) {
        put_field(&mut text, name, value);
    }
    text.extend_from_slice(b"\r\n");
    inner.begin();
    inner.request.parse(&text, Rules { fields: FIELDS_MAX, allow_underscore: true }).ok()?;
    // Its client takes frames, as that of the other question.
    inner.request.version = Version::Http2;
    // To ask twice changes nothing.
    (inner.request.safe, inner.request.idempotent) = (true, true);
    inner.path.clear();
    inner.path.push_str(ext_authz::PATH);
    grpc::begin(inner, false);
    Some(body)
}

fn message(ws: &Workspace, listener: &Listener, words: &Authorizer, shown: Option<&Shown>) -> Vec<u8> {
    let request = &ws.request;
    let peer = ws.peer.map(|peer| peer.ip());
    let client = client_address(listener, &request.head, peer);
    let address = client.map(|client| client.to_string());
    // The port of a proxy in front is nobody's.
    let port = ws.peer.filter(|peer| Some(peer.ip()) == client).map_or(0, |peer| peer.port());
    let mut path = if request.raw_path() == "*" { "*".to_owned() } else { ws.path.clone() };
    if let Some(query) = request.query() {
        path.push('?');
        path.push_str(query);
    }
    let host = authority(request);
    let check = Check {
        source: address.as_deref().map(|address| (address, port)),
        principal: client_cert(ws.session.as_deref()).and_then(principal),
        id: &ws.trace.request_id,
        method: request.method(),
        path: &path,
        host: &String::from_utf8_lossy(host),
        scheme: if ws.session.is_some() { "https" } else { "http" },
        protocol: match request.version {
            Version::Http10 => "HTTP/1.0",
            Version::Http11 => "HTTP/1.1",
            Version::Http2 => "HTTP/2",
        },
        size: match request.framing {
            Framing::None => 0,
            Framing::Length(length) => i64::try_from(length).unwrap_or(i64::MAX),
            Framing::Chunked | Framing::Close => -1,
        },
        body: shown.map_or(&[], |shown| &shown.bytes),
    };
    let mut headers = headers(ws, words);
    if let Some(shown) = shown {
        headers.push((String::from_utf8_lossy(PARTIAL).into_owned(), shown.partial().into()));
    }
    ext_authz::request(&check, headers.iter().map(|(name, value)| (&**name, &**value)))
}

/// What a certificate calls its owner: its first URI, else its first DNS name, else its subject.
fn principal(certificate: &ClientCert) -> Option<&str> {
    [CertField::Uri, CertField::Dns, CertField::Subject]
        .into_iter()
        .find_map(|field| certificate.values(field).next())
}

/// The fields that go along, each once: in lower case, values joined.
fn headers(ws: &Workspace, words: &Authorizer) -> Vec<(String, Vec<u8>)> {
    let mut made: Vec<(String, Vec<u8>)> = Vec::new();
    for (id, name, value) in ws.request.head.iter() {
        let is_ours = is_own(name) || is_of_answer(name);
        let wanted = words
            .headers
            .as_ref()
            .is_none_or(|names| names.iter().any(|wanted| wanted.as_bytes().eq_ignore_ascii_case(name)));
        if !wanted || is_ours || id.is_forwarding() || id.is_hop_by_hop() {
            continue;
        }
        let name = String::from_utf8_lossy(name).to_ascii_lowercase();
        match made.iter_mut().find(|(known, _)| *known == name) {
            Some((_, values)) => {
                values.extend_from_slice(if name == "cookie" { b"; " } else { b"," });
                values.extend_from_slice(value);
            }
            None => made.push((name, value.to_vec())),
        }
    }
    made
}

/// What the service answered; none when it is no answer. What it tells a client stands in the asker then.
pub(super) fn verdict(answer: &mut Asker) -> Option<bool> {
    let status = answer.trailers.iter().chain(&answer.fields);
    let status = status.filter(|(name, _)| name.eq_ignore_ascii_case(b"grpc-status")).map(|(_, value)| value);
    let is_ok = status.clone().count() == 1 && status.clone().all(|value| value == b"0");
    if answer.status != 200 || !answer.is_whole || answer.overflowed || !is_ok {
        return None;
    }
    let (is_in, fields) = match ext_authz::answer(&answer.body)? {
        Verdict::Allowed(fields) => (true, fields),
        Verdict::Denied { status, fields, body } => {
            (answer.status, answer.body) = (status, body);
            (false, fields)
        }
    };
    // What cannot stand in a head is no field.
    let is_field = |name: &str, value: &[u8]| {
        http::HeaderName::from_bytes(name.as_bytes()).is_ok() && http::HeaderValue::from_bytes(value).is_ok()
    };
    let good = fields.into_iter().filter(|(name, value)| is_field(name, value));
    answer.fields = good.map(|(name, value)| (name.into_bytes(), value)).collect();
    Some(is_in)
}
