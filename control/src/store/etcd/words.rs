//! What is said to etcd and heard from it: the JSON of its gateway, in which numbers of 64 bits are texts and bytes are base64.
//!
//! Pure. Field names are etcd's (`rpc.proto`); absent members have the value zero.

use std::fmt;

use data_encoding::BASE64;
use serde::de::{Deserializer, Visitor};
use serde::{Deserialize, de};
use serde_json::{Value, json};

use crate::store::Write;

/// Operations of one level of a transaction: etcd bounds what stands on all levels together to 128.
const FAN: usize = 40;
/// Levels.
const LEVELS: u32 = 3;
/// Operations of one transaction.
pub(super) const WRITES_MAX: usize = FAN.pow(LEVELS) - 1;

/// A number of 64 bits.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Num(pub(super) u64);

impl<'de> Deserialize<'de> for Num {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reads;
        impl Visitor<'_> for Reads {
            type Value = Num;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number or its text")
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Num, E> {
                // A negative one is none that is asked for.
                Ok(Num(text.parse::<u64>().unwrap_or(0)))
            }
            fn visit_u64<E: de::Error>(self, number: u64) -> Result<Num, E> {
                Ok(Num(number))
            }
            fn visit_i64<E: de::Error>(self, number: i64) -> Result<Num, E> {
                Ok(Num(u64::try_from(number).unwrap_or(0)))
            }
        }
        deserializer.deserialize_any(Reads)
    }
}

/// Bytes. All that is written here is text; of what others wrote, bytes that are none stand as `\xHH`, so that two keys stay two.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Text(pub(super) String, Option<Vec<u8>>);

impl Text {
    fn of(bytes: Vec<u8>) -> Self {
        match String::from_utf8(bytes) {
            Ok(text) => Self(text, None),
            Err(wrong) => Self(escaped(wrong.as_bytes()), Some(wrong.into_bytes())),
        }
    }

    /// As they were written.
    pub(super) fn bytes(&self) -> &[u8] {
        self.1.as_deref().unwrap_or(self.0.as_bytes())
    }
}

fn escaped(bytes: &[u8]) -> String {
    let mut text = String::new();
    for chunk in bytes.utf8_chunks() {
        text.push_str(chunk.valid());
        text.extend(chunk.invalid().iter().map(|byte| format!("\\x{byte:02x}")));
    }
    text
}

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<str>::deserialize(deserializer)?;
        let bytes = BASE64.decode(text.as_bytes()).map_err(de::Error::custom)?;
        Ok(Self::of(bytes))
    }
}

#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(default)]
pub(super) struct Header {
    pub(super) revision: Num,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct Kv {
    pub(super) key: Text,
    pub(super) value: Text,
    pub(super) create_revision: Num,
    pub(super) mod_revision: Num,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct Range {
    pub(super) header: Header,
    pub(super) kvs: Vec<Kv>,
    pub(super) more: bool,
    /// Keys in the range, whatever the limit.
    pub(super) count: Num,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct OpAnswer {
    pub(super) response_range: Option<Range>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct TxnAnswer {
    pub(super) header: Header,
    pub(super) succeeded: bool,
    pub(super) responses: Vec<OpAnswer>,
}

impl TxnAnswer {
    /// What the so-manieth operation read; none when there is nothing.
    pub(super) fn read(&self, at: usize) -> Option<&Kv> {
        self.responses.get(at)?.response_range.as_ref()?.kvs.first()
    }
}

#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(default)]
pub(super) struct Lease {
    #[serde(rename = "ID")]
    pub(super) id: Num,
    /// Seconds; 0 when it is over.
    #[serde(rename = "TTL")]
    pub(super) ttl: Num,
}

#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(default)]
pub(super) struct Kept {
    pub(super) result: Lease,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct Token {
    pub(super) token: String,
}

/// Nothing in it is looked at.
#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(default)]
pub(super) struct Nothing {}

/// An answer that is none.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct Failed {
    pub(super) message: String,
    pub(super) error: String,
    /// Of gRPC.
    pub(super) code: u32,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct WatchLine {
    pub(super) result: Option<Watched>,
    pub(super) error: Option<Value>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct Watched {
    pub(super) canceled: bool,
    /// What is asked for is not there any more: changes from this revision on are.
    pub(super) compact_revision: Num,
    pub(super) cancel_reason: String,
    pub(super) events: Vec<Happened>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct Happened {
    /// `DELETE`; absent for a put.
    #[serde(rename = "type")]
    pub(super) kind: String,
    pub(super) kv: Kv,
}

/// Bytes as the gateway takes them.
pub(super) fn b64(bytes: impl AsRef<[u8]>) -> String {
    BASE64.encode(bytes.as_ref())
}

/// The key behind all that begin so. Prefixes are ASCII and end with `/`.
pub(super) fn end_of(prefix: &str) -> String {
    let mut end = prefix.to_owned();
    if let Some(last) = end.pop() {
        end.push(char::from_u32(u32::from(last) + 1).unwrap_or(last));
    }
    end
}

/// A comparison of a key: what of it, and the number it must be.
pub(super) fn is(key: &str, what: Compared, number: u64) -> Value {
    let (target, member) = match what {
        Compared::Created => ("CREATE", "create_revision"),
        Compared::Modified => ("MOD", "mod_revision"),
    };
    json!({ "key": b64(key), "target": target, "result": "EQUAL", member: number.to_string() })
}

/// What of a key is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Compared {
    /// The revision that made it; 0: it is not there.
    Created,
    /// The revision that changed it last.
    Modified,
}

pub(super) fn put(key: &str, value: &str) -> Value {
    json!({ "request_put": { "key": b64(key), "value": b64(value) } })
}

pub(super) fn read(key: &str) -> Value {
    json!({ "request_range": { "key": b64(key) } })
}

/// An operation for a write of the store, under this prefix.
pub(super) fn operation(prefix: &str, write: &Write) -> Value {
    let key = format!("{prefix}{}", write.key);
    match &write.value {
        Some(value) => put(&key, value),
        None => json!({ "request_delete_range": { "key": b64(&key) } }),
    }
}

/// Many operations as one level of operations: those beyond etcd's bound stand in transactions of their own inside, without a
/// condition. All of them happen together, in one revision.
pub(super) fn nested(mut operations: Vec<Value>) -> Vec<Value> {
    while operations.len() > FAN {
        let mut rest = operations.into_iter().peekable();
        let mut level = Vec::new();
        while rest.peek().is_some() {
            let some: Vec<Value> = rest.by_ref().take(FAN).collect();
            level.push(json!({ "request_txn": { "success": some } }));
        }
        operations = level;
    }
    operations
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_etcd_says_is_read() {
        let text = r#"{"result":{"header":{"revision":"12"},"events":[{"kv":{"key":"L2E=","value":"e30=","create_revision":"3","mod_revision":"12"}},
            {"type":"DELETE","kv":{"key":"L2I=","mod_revision":"12"}}]}}"#;
        let line: WatchLine = serde_json::from_str(text).unwrap();
        let events = line.result.unwrap().events;
        assert_eq!((events[0].kv.key.0.as_str(), events[0].kv.value.0.as_str()), ("/a", "{}"));
        assert_eq!((events[0].kv.create_revision, events[1].kv.mod_revision), (Num(3), Num(12)));
        assert_eq!(events[1].kind, "DELETE");
        let gone: Kept = serde_json::from_str(r#"{"result":{"header":{},"ID":"5"}}"#).unwrap();
        assert_eq!((gone.result.id, gone.result.ttl), (Num(5), Num(0)));
        assert!(serde_json::from_str::<Kv>(r#"{"key":"?"}"#).is_err());
        // Keys that are no text stay two, and are named.
        let keys = [b"/a\xff".as_slice(), b"/a\xfe\xffb"].map(|key| {
            let kv: Kv = serde_json::from_value(json!({ "key": BASE64.encode(key) })).unwrap();
            kv.key
        });
        assert_eq!([&*keys[0].0, &*keys[1].0], [r"/a\xff", r"/a\xfe\xffb"]);
        assert_eq!(keys[1].bytes(), b"/a\xfe\xffb");
        assert!(ekiden_config::names::EndpointId::new(&keys[0].0).is_err(), "it is refused by name");
    }

    #[test]
    fn no_level_of_a_transaction_is_beyond_the_bound() {
        fn deepest(operations: &[Value], above: usize, found: &mut usize) -> usize {
            let here = above + operations.len();
            operations
                .iter()
                .map(|one| match one.pointer("/request_txn/success").and_then(Value::as_array) {
                    Some(inside) => deepest(inside, here, found),
                    None => {
                        *found += 1;
                        here
                    }
                })
                .max()
                .unwrap_or(here)
        }
        for count in [1, FAN, FAN + 1, 1_000, WRITES_MAX] {
            let mut found = 0;
            let all = nested((0..count).map(|_| put("k", "v")).collect());
            assert!(deepest(&all, 0, &mut found) <= 128, "{count}");
            assert_eq!(found, count);
        }
        assert_eq!(end_of("/ekiden/"), "/ekiden0");
    }
}
