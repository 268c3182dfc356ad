//! A well-behaved origin: answers every request with a JSON object that says what it saw, and counts.
//!
//! Query words change the answer: `chunked` sends it chunked. Does not fail.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use serde_json::{Value, json};

use crate::{Conn, Origin, Received, hash};

/// The echo origin.
#[derive(Debug)]
pub struct Echo {
    /// Where it listens.
    pub address: SocketAddr,
    origin: Origin,
    requests: Arc<AtomicU64>,
}

/// What an echo said, read from a response body.
#[derive(Debug, Clone)]
pub struct Seen(pub Value);

impl Echo {
    /// Starts one. `name` stands in its answers.
    pub fn start(name: &str) -> Self {
        let requests = Arc::new(AtomicU64::new(0));
        let (counter, name) = (Arc::clone(&requests), name.to_owned());
        let origin = Origin::start(move |conn| {
            let mut turn = 0;
            while let Some(request) = conn.request() {
                turn += 1;
                counter.fetch_add(1, Ordering::SeqCst);
                answer(conn, &name, &request, turn);
            }
        });
        Self { address: origin.address, origin, requests }
    }

    /// Requests answered so far.
    pub fn requests(&self) -> u64 {
        self.requests.load(Ordering::SeqCst)
    }

    /// Connections taken so far.
    pub fn connections(&self) -> usize {
        self.origin.connections()
    }

    /// The origin below.
    pub fn origin(&self) -> &Origin {
        &self.origin
    }
}

fn answer(conn: &mut Conn, name: &str, request: &Received, turn: u64) {
    let body = json!({
        "origin": name, "line": request.line, "fields": request.fields, "trailers": request.trailers,
        "body_length": request.body.len(), "body_hash": hash(&request.body).to_string(),
        "body": String::from_utf8_lossy(request.body.get(..request.body.len().min(1024)).unwrap_or(&[])),
        "connection": conn.number, "turn": turn,
    })
    .to_string();
    let body_sent = if request.method() == "HEAD" { "" } else { body.as_str() };
    let text = if request.target().contains("chunked") && request.method() != "HEAD" {
        let (one, two) = body.split_at(body.len() / 2);
        format!(
            "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n\
             {:x}\r\n{one}\r\n{:x}\r\n{two}\r\n0\r\n\r\n",
            one.len(),
            two.len()
        )
    } else {
        let length = body.len();
        format!(
            "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body_sent}"
        )
    };
    conn.send(text);
}

impl Seen {
    /// A member as text.
    pub fn text(&self, key: &str) -> String {
        self.0[key].as_str().unwrap_or("").to_owned()
    }

    /// A member as a number.
    pub fn number(&self, key: &str) -> u64 {
        self.0[key].as_u64().unwrap_or(u64::MAX)
    }

    /// Every value of a request field.
    pub fn all(&self, name: &str) -> Vec<String> {
        self.pairs("fields")
            .into_iter()
            .filter(|(n, _)| n.eq_ignore_ascii_case(name))
            .map(|(_, v)| v)
            .collect()
    }

    /// The values of a request field, joined; none when it was not sent.
    pub fn field(&self, name: &str) -> Option<String> {
        let all = self.all(name);
        (!all.is_empty()).then(|| all.join(" | "))
    }

    /// Names and values of `fields` or `trailers`.
    pub fn pairs(&self, key: &str) -> Vec<(String, String)> {
        serde_json::from_value(self.0[key].clone()).unwrap_or_default()
    }
}

impl From<crate::Response> for Seen {
    fn from(response: crate::Response) -> Self {
        Seen(response.json())
    }
}
