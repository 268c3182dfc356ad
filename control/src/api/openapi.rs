//! This API as an OpenAPI document, made of the table of operations.

use serde_json::Value;

/// The document.
pub(super) fn document() -> Value {
    Value::Null
}
