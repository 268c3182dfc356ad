//! Lookups in the record. The rules of claiming are tested on whole files in `tests/ownership.rs`.

use super::*;

#[test]
fn own_record_first_then_the_longest_wildcard() {
    let app = |name: &str| AppName::new(name).unwrap();
    let mut hosts = HostOwners::default();
    for (host, owner) in [("*.com", "wide"), ("*.x.com", "near"), ("a.x.com", "own"), ("*@edge", "any")] {
        hosts.claim(host, &app(owner));
        hosts.claim(host, &app("late"));
    }
    for (host, owner) in [
        ("a.x.com", Some("own")),
        ("b.x.com", Some("near")),
        ("c.b.x.com", Some("near")),
        ("*.b.x.com", Some("near")),
        ("*.x.com", Some("near")),
        ("x.com", Some("wide")),
        ("com", None),
        ("x.org", None),
        ("*@edge", Some("any")),
        ("*@x.com", None),
    ] {
        assert_eq!(hosts.owner(host).map(AppName::as_str), owner, "{host}");
    }
    assert_eq!(hosts.len(), 4);
}
