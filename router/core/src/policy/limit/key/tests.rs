//! Which requests have the same key: tables of pairs, and a property over templates.

use ekiden_config::model::{Group, KeyPart, MissingKey};
use proptest::prelude::*;

use super::super::Asked;
use super::Key;
use crate::policy::text::segment;
use crate::table::Fields;

struct Head(Vec<(&'static str, String)>);

impl Fields for Head {
    fn each(&self, name: &str, visit: &mut dyn FnMut(&[u8]) -> bool) {
        for (_, value) in self.0.iter().filter(|(known, _)| known.eq_ignore_ascii_case(name)) {
            if !visit(value.as_bytes()) {
                return;
            }
        }
    }
}

/// A request as `CLIENT TARGET` with header fields.
fn hash(key: &Key, text: &str, fields: &[(&'static str, &str)]) -> Option<u64> {
    let (client, target) = text.split_once(' ').unwrap();
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let head = Head(fields.iter().map(|(name, value)| (*name, (*value).to_owned())).collect());
    let asked = Asked {
        client: client.parse().ok(),
        host: "a",
        method: "GET",
        path,
        query,
        fields: &head,
        api_key: None,
        client_cert: None,
    };
    let found = key.hash(&asked);
    if key.is_of_client() {
        assert_eq!(
            key.hash_of_client(asked.client),
            found,
            "{text}: a limit may stop being plain with its next table"
        );
    }
    found
}

fn key(parts: &[KeyPart]) -> Key {
    Key::new(parts, MissingKey::Share, [1, 2])
}

#[test]
fn parts_tell_requests_apart() {
    let header = || KeyPart::Header("x-user".into());
    let groups = [("office", "10.0.0.0/8"), ("lab", "10.1.0.0/16")]
        .map(|(name, net)| Group { name: name.into(), nets: vec![net.parse().unwrap()] });
    let rows: &[(KeyPart, &str, &str, bool)] = &[
        (KeyPart::Client, "192.0.2.1 /", "192.0.2.1 /a", true),
        (KeyPart::Client, "192.0.2.1 /", "192.0.2.2 /", false),
        (KeyPart::Client, "::ffff:192.0.2.1 /", "192.0.2.1 /", true),
        (KeyPart::Client, "2001:db8::1 /", "2001:db8::ffff:ffff:ffff:ffff /", true),
        (KeyPart::Client, "2001:db8::1 /", "2001:db8:0:1::1 /", false),
        (KeyPart::Client, "unix /", "unix /a", true),
        (KeyPart::Client, "unix /", "0.0.0.0 /", false),
        (KeyPart::Group(groups.clone().into()), "10.0.0.1 /", "10.9.0.1 /", true),
        (KeyPart::Group(groups.clone().into()), "10.0.0.1 /", "10.1.0.1 /", false),
        (KeyPart::Group(groups.clone().into()), "192.0.2.1 /", "192.0.2.2 /", true),
        (KeyPart::Group(groups.into()), "10.0.0.1 /", "192.0.2.2 /", false),
        (KeyPart::Query("q".into()), "- /?q=a", "- /b?z=1&q=a", true),
        (KeyPart::Query("q".into()), "- /?q=a", "- /?q=b", false),
        (KeyPart::Query("q".into()), "- /?q=a%20b", "- /?q=a+b", true),
        (KeyPart::Query("q".into()), "- /?%71=a", "- /?q=a&q=b", true),
        (KeyPart::Query("q".into()), "- /?q=", "- /", false),
        (KeyPart::Path(2), "- /a/b/c", "- /z/b", true),
        (KeyPart::Path(2), "- /a/b", "- /a/c", false),
        (KeyPart::Path(2), "- /a", "- /b", true),
        (KeyPart::Path(2), "- /a/", "- /a", true),
        (KeyPart::Path(1), "- *", "- /", true),
    ];
    for (part, one, other, same) in rows {
        let key = key(std::slice::from_ref(part));
        assert_eq!(hash(&key, one, &[]) == hash(&key, other, &[]), *same, "{part:?}: {one} and {other}");
    }
    for (part, one, other, same) in [
        (header(), vec![("x-user", "a")], vec![("X-User", "a"), ("x-other", "b")], true),
        (header(), vec![("x-user", "a")], vec![("x-user", "b")], false),
        // The first value, as for splits.
        (header(), vec![("x-user", "a"), ("x-user", "b")], vec![("x-user", "a")], true),
        (header(), vec![("x-user", "")], vec![], false),
        (KeyPart::Cookie("s".into()), vec![("cookie", "a=1; s=x")], vec![("cookie", "s=x")], true),
        (
            KeyPart::Cookie("s".into()),
            vec![("cookie", "a=1"), ("cookie", "s=x")],
            vec![("cookie", "s=x")],
            true,
        ),
        (KeyPart::Cookie("s".into()), vec![("cookie", "S=x")], vec![], true),
    ] {
        let key = key(&[part]);
        assert_eq!(hash(&key, "- /", &one) == hash(&key, "- /", &other), same, "{one:?} and {other:?}");
    }
}

#[test]
fn a_request_without_the_key_shares_or_is_skipped() {
    let parts = [KeyPart::Client, KeyPart::Header("x-user".into())];
    let share = Key::new(&parts, MissingKey::Share, [1, 2]);
    let skip = Key::new(&parts, MissingKey::Skip, [1, 2]);
    assert_eq!(hash(&skip, "192.0.2.1 /", &[]), None);
    assert_eq!(hash(&skip, "- /", &[("x-user", "a")]), None);
    assert!(hash(&skip, "192.0.2.1 /", &[("x-user", "a")]).is_some());
    // The other parts go on counting.
    assert_eq!(hash(&share, "192.0.2.1 /", &[]), hash(&share, "192.0.2.1 /a", &[]));
    assert_ne!(hash(&share, "192.0.2.1 /", &[]), hash(&share, "192.0.2.2 /", &[]));
    let unkeyed = Key::new(&[], MissingKey::Skip, [1, 2]);
    assert!(hash(&unkeyed, "- /", &[]).is_some() && !unkeyed.asks_client());
}

#[test]
fn the_secret_decides() {
    let with = |seed| hash(&Key::new(&[KeyPart::Client], MissingKey::Share, seed), "192.0.2.1 /", &[]);
    assert_ne!(with([1, 2]), with([1, 3]));
    assert_ne!(with([1, 2]), with([2, 1]));
}

#[test]
fn segments() {
    for (path, number, want) in [
        ("/", 1, None),
        ("/a", 1, Some("a")),
        ("/a/b", 2, Some("b")),
        ("/a//b", 2, None),
        ("/a//b", 3, Some("b")),
        ("*", 1, None),
        ("/a", 0, None),
    ] {
        assert_eq!(segment(path, number), want, "{path} {number}");
    }
}

proptest! {
    /// Lists of texts differ in their hash unless they are the same lists, however the texts are cut.
    #[test]
    fn parts_do_not_run_into_each_other(
        one in prop::collection::vec("[ab]{0,3}", 3),
        other in prop::collection::vec("[ab]{0,3}", 3),
    ) {
        let names = ["x-a", "x-b", "x-c"];
        let key = key(&names.map(|name| KeyPart::Header(name.into())));
        let fields = |texts: &[String]| names.into_iter().zip(texts.to_vec()).collect::<Vec<_>>();
        let hashed = |texts: &[String]| {
            let head = Head(fields(texts));
            key.hash(&Asked { client: None, host: "a", method: "GET", path: "/", query: "", fields: &head, api_key: None, client_cert: None  })
        };
        prop_assert_eq!(hashed(&one) == hashed(&other), one == other);
    }
}
