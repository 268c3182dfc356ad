//! Problems: why the API did not do what it was asked, as RFC 9457 documents. Codes are promises.

use serde_json::{Map, Value, json};

/// One refusal.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Problem {
    /// HTTP status.
    pub(crate) status: u16,
    /// Stable snake_case code.
    pub(crate) code: &'static str,
    /// What is wrong and what to do, for people.
    pub(crate) detail: String,
    /// JSON pointer into the body, when a member of it is wrong.
    pub(crate) pointer: Option<String>,
    /// `Allow`, with 405.
    pub(crate) allow: Option<String>,
    /// More members.
    pub(crate) more: Map<String, Value>,
}

impl Problem {
    /// A refusal without more members.
    pub(crate) fn new(status: u16, code: &'static str, detail: impl Into<String>) -> Self {
        Self { status, code, detail: detail.into(), pointer: None, allow: None, more: Map::new() }
    }

    /// As [`Problem::new`], pointing into the body.
    pub(crate) fn at(status: u16, code: &'static str, pointer: &str, detail: impl Into<String>) -> Self {
        Self { pointer: Some(pointer.to_owned()), ..Self::new(status, code, detail) }
    }

    /// The document.
    pub(crate) fn to_json(&self) -> Value {
        let mut body = json!({
            "type": format!("urn:ekiden:problem:{}", self.code),
            "title": title(self.status),
            "status": self.status,
            "code": self.code,
            "detail": self.detail,
        });
        if let Some(members) = body.as_object_mut() {
            members.extend(
                self.pointer.iter().map(|pointer| ("pointer".to_owned(), Value::from(pointer.as_str()))),
            );
            members.extend(self.more.clone());
        }
        body
    }
}

/// The reason phrase of a status the API uses.
fn title(status: u16) -> &'static str {
    match status {
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        408 => "Request Timeout",
        409 => "Conflict",
        410 => "Gone",
        412 => "Precondition Failed",
        413 => "Content Too Large",
        415 => "Unsupported Media Type",
        422 => "Unprocessable Content",
        429 => "Too Many Requests",
        500 => "Internal Server Error",
        503 => "Service Unavailable",
        507 => "Insufficient Storage",
        _ => "Error",
    }
}
