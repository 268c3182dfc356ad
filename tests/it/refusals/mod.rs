//! Refused, never guessed: every fault of a request as bytes, with the answer it must get.

mod bodies;
mod heads;
mod limits;

use ekiden_tests::{InProcess, Origin, Response, Served, Setup, web};

/// An origin that answers `/good` and otherwise reads on until the router closes.
fn origin() -> Origin {
    Origin::start(|conn| {
        while let Some(mut request) = conn.head() {
            if request.target() != "/good" {
                return conn.until_closed();
            }
            if conn.body(&mut request).is_none() {
                return;
            }
            conn.answer(&request, "good");
        }
    })
}

fn serve(origin: &Origin, listener: &str) -> InProcess {
    InProcess::start(Setup::new(web(&[origin.address], "", "")).listener(listener))
}

/// Status, code, and that the connection ends after the answer.
fn refused(router: &InProcess, bytes: &[u8], split: bool, what: &str) -> Response {
    let mut client = router.client();
    if split {
        client.send_split(bytes);
    } else {
        client.send(bytes);
    }
    let to_head = bytes.starts_with(b"HEAD ");
    let response = client.read(to_head).unwrap_or_else(|lost| panic!("{what}: {lost:?}"));
    assert!(response.says_close(), "{what}: no Connection: close in {response:?}");
    assert!(response.get("proxy-status").is_some(), "{what}: no Proxy-Status");
    client.finish();
    assert_eq!(client.rest(), b"", "{what}: something follows the refusal");
    response
}

/// The router still serves, and its request is the first the origin sees.
fn nothing_reached(origin: &Origin, router: &InProcess, what: &str) {
    let response = router.get("/good");
    assert_eq!((response.status, response.text().as_str()), (200, "good"), "{what}");
    assert_eq!(origin.connections(), 1, "{what}: a refused request opened an upstream connection");
    let sent = String::from_utf8_lossy(&origin.received(1)).into_owned();
    assert!(sent.starts_with("GET /good HTTP/1.1\r\n"), "{what}: the origin got {sent:?}");
    assert_eq!(sent.matches("HTTP/1.1").count(), 1, "{what}: the origin got {sent:?}");
}
