//! What a listener adds around TLS: sends plain requests to `https`, and tells browsers to stay there. Does not judge
//! authorities (see `tls::authority`).

use ekiden_config::model::Listener;
use ekiden_core::outcome::Cause;

use crate::exchange::answer::Answer;
use crate::exchange::downstream::Downstream;
use crate::exchange::run::{Decision, end_answered, may_keep, send_answer};
use crate::exchange::{After, Workspace};
use crate::head::Head;
use crate::wire::request::{RequestHead, TargetForm};
use crate::worker::connection::Connection;
use crate::worker::{ListenerRef, Worker};

/// Port that is not written in a URL of `https`.
const HTTPS: u16 = 443;
/// What an ACME server asks for over plain HTTP (RFC 8555 section 8.3).
const ACME: &str = "/.well-known/acme-challenge/";
/// The field of RFC 6797.
const HSTS: &str = "Strict-Transport-Security";

/// What becomes of a request on a plain listener that sends its clients to `https`; none for one that goes to the
/// routes all the same.
pub fn decide(request: &RequestHead, port: u16) -> Option<Decision> {
    if request.raw_path().starts_with(ACME) {
        return None;
    }
    if request.is_connect {
        return Some(Decision::Refuse(Cause::MethodRefused, None));
    }
    // Without a host there is nowhere to send it.
    Some(if request.host.is_empty() {
        Decision::Refuse(Cause::HostMissing, None)
    } else {
        Decision::Secure(port)
    })
}

/// Answers 308, which keeps method and body (RFC 9110 section 15.4.9).
pub async fn redirect<D: Downstream>(connection: &mut Connection<D>, ws: &mut Workspace, port: u16) -> After {
    let worker = std::rc::Rc::clone(&connection.worker);
    let keep = may_keep(&worker, ws);
    let location = location(&ws.request, port);
    let body = format!("See {location}\n");
    let fields = [("Location", location.as_str())];
    let content_type = "text/plain; charset=utf-8";
    let answer = Answer { status: 308, fields: &fields, content_type, body: &body };
    let cause = send_answer(connection, ws, &answer, keep).await;
    end_answered(&worker, ws, cause, keep)
}

fn location(request: &RequestHead, port: u16) -> String {
    let mut location = format!("https://{}", request.host);
    if port != HTTPS {
        location.push(':');
        location.push_str(&port.to_string());
    }
    match request.form {
        TargetForm::Asterisk => location.push('/'),
        TargetForm::Origin => {
            location.push_str(request.raw_path());
            if let Some(query) = request.query() {
                location.push('?');
                location.push_str(query);
            }
        }
    }
    location
}

/// Gives `field` `Strict-Transport-Security` for the head of an endpoint's response where the listener asks for it and the
/// endpoint has none of its own.
#[inline]
pub fn hsts(listener: &Listener, head: &Head, mut field: impl FnMut(&[u8], &[u8])) {
    if let Some(hsts) = listener.tls.as_ref().and_then(|tls| tls.hsts.as_ref())
        && head.get(HSTS.as_bytes()).is_none()
    {
        field(HSTS.as_bytes(), hsts.as_bytes());
    }
}

/// The same for a response of the router's own.
pub fn own_hsts(
    worker: &Worker,
    secure: bool,
    listener: Option<&ListenerRef>,
    mut field: impl FnMut(&[u8], &[u8]),
) {
    let Some(listener) = listener.filter(|_| secure) else { return };
    let settings = worker.with_table(|table| listener.settings(table));
    let tls = settings.as_ref().and_then(|settings| settings.listener.tls.as_ref());
    if let Some(hsts) = tls.and_then(|tls| tls.hsts.as_ref()) {
        field(HSTS.as_bytes(), hsts.as_bytes());
    }
}
