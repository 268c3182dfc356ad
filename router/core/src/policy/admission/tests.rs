//! Tables of what passes and what does not, and a property: the set of networks equals the plain list.

use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;

use ekiden_config::model::{Admission, DeniedHeaders, FieldPattern, HostMatch, MediaRange};
use proptest::prelude::*;

use super::{AdmissionSteps, Applicant, NetSet};
use crate::outcome::Cause;
use crate::table::Fields;

struct Head(Vec<(&'static str, &'static str)>);

impl Fields for Head {
    fn each(&self, name: &str, visit: &mut dyn FnMut(&[u8]) -> bool) {
        for (_, value) in self.0.iter().filter(|(known, _)| known.eq_ignore_ascii_case(name)) {
            if !visit(value.as_bytes()) {
                return;
            }
        }
    }
}

static NONE: Head = Head(Vec::new());

fn request(fields: &Head) -> Applicant<'_> {
    let client = Some(IpAddr::from([192, 0, 2, 7]));
    Applicant { client, host: "a.b", method: "GET", has_body: false, head_bytes: 100, field_count: 5, fields }
}

fn exact(name: &str) -> HostMatch {
    HostMatch::Exact(Arc::from(name))
}

#[test]
fn nothing_written_lets_everything_in() {
    let steps = AdmissionSteps::new(&Admission::default());
    assert!(!steps.asks_client() && steps.fields().is_none());
    assert_eq!(steps.judge(&Applicant { client: None, host: "", has_body: true, ..request(&NONE) }), Ok(()));
}

#[test]
fn clients() {
    let words = Admission {
        allow_clients: vec!["192.0.2.0/24".parse().unwrap(), "2001:db8::/32".parse().unwrap()],
        deny_clients: vec!["192.0.2.128/25".parse().unwrap()],
        ..Admission::default()
    };
    let (both, deny) = (
        AdmissionSteps::new(&words),
        AdmissionSteps::new(&Admission { allow_clients: Vec::new(), ..words.clone() }),
    );
    assert!(both.asks_client());
    for (client, with_both, with_deny) in [
        (Some("192.0.2.7"), true, true),
        (Some("::ffff:192.0.2.7"), true, true),
        (Some("192.0.2.128"), false, false),
        (Some("::ffff:192.0.2.200"), false, false),
        (Some("192.0.3.0"), false, true),
        (Some("2001:db8:ffff::1"), true, true),
        (Some("2001:db9::"), false, true),
        (None, false, true),
    ] {
        let client: Option<IpAddr> = client.map(|text| text.parse().unwrap());
        let asked = Applicant { client, ..request(&NONE) };
        let said = |pass: bool| if pass { Ok(()) } else { Err(Cause::ClientDenied) };
        assert_eq!(both.judge(&asked), said(with_both), "{client:?}");
        assert_eq!(deny.judge(&asked), said(with_deny), "{client:?}");
    }
}

#[test]
fn hosts() {
    let words = Admission {
        allow_hosts: vec![exact("a.b"), HostMatch::Wildcard(Arc::from("c.d"))],
        deny_hosts: vec![exact("x.c.d")],
        ..Admission::default()
    };
    let steps = AdmissionSteps::new(&words);
    for (host, pass) in [
        ("a.b", true),
        ("z.a.b", false),
        ("c.d", false),
        ("y.c.d", true),
        ("z.y.c.d", true),
        ("x.c.d", false),
        ("y.x.c.d", true),
        ("yc.d", false),
        ("", false),
        ("[::1]", false),
    ] {
        let said = steps.judge(&Applicant { host, ..request(&NONE) });
        assert_eq!(said, if pass { Ok(()) } else { Err(Cause::HostDenied) }, "{host}");
    }
}

#[test]
fn methods_and_sizes() {
    let methods = vec![Arc::from("GET"), Arc::from("POST")];
    let words = Admission {
        allow_methods: methods,
        head_limit: Some(100),
        fields_limit: Some(5),
        ..Admission::default()
    };
    let steps = AdmissionSteps::new(&words);
    assert_eq!(steps.allow_line(), "GET, POST, HEAD");
    for (method, pass) in [("GET", true), ("HEAD", true), ("POST", true), ("get", false), ("PUT", false)] {
        let said = steps.judge(&Applicant { method, ..request(&NONE) });
        assert_eq!(said, if pass { Ok(()) } else { Err(Cause::MethodDenied) }, "{method}");
    }
    let said =
        |head_bytes, field_count| steps.judge(&Applicant { head_bytes, field_count, ..request(&NONE) });
    assert_eq!(said(100, 5), Ok(()));
    assert_eq!(said(101, 5), Err(Cause::HeadTooLarge));
    assert_eq!(said(100, 6), Err(Cause::TooManyFields));
}

#[test]
fn content_types() {
    let range = |kind: &str, subtype: Option<&str>| MediaRange {
        kind: Arc::from(kind),
        subtype: subtype.map(Arc::from),
    };
    let words = Admission {
        allow_content_types: vec![range("application", Some("json")), range("image", None)],
        ..Admission::default()
    };
    let steps = AdmissionSteps::new(&words);
    for (values, pass) in [
        (&["application/json"][..], true),
        (&["Application/JSON; charset=utf-8"], true),
        (&["application/json ;charset=\"a,b\""], true),
        (&["image/png"], true),
        (&["IMAGE/svg+xml;x"], true),
        (&["application/jsonp"], false),
        (&["application/x-json"], false),
        (&["text/json"], false),
        (&["image"], false),
        (&["image/"], false),
        (&["image/png, text/html"], false),
        (&["application/json, text/html"], false),
        (&["application/json; a=b, text/html"], false),
        (&["application/json; a=\"b, text/html"], false),
        (&["application/json; a=\"b\\\", text/html"], false),
        (&["application /json"], false),
        (&["image/a b"], false),
        (&["*/*"], false),
        (&[""], false),
        (&[], false),
        (&["application/json", "application/json"], false),
        (&["text/html", "application/json"], false),
    ] {
        let head = Head(values.iter().map(|value| ("Content-Type", *value)).collect());
        let said = steps.judge(&Applicant { has_body: true, ..request(&head) });
        assert_eq!(said, if pass { Ok(()) } else { Err(Cause::ContentTypeDenied) }, "{values:?}");
        assert_eq!(steps.judge(&request(&head)), Ok(()), "without a body no type matters: {values:?}");
    }
}

#[test]
fn fields() {
    let pattern = |name: &str, prefix| FieldPattern { name: Arc::from(name), prefix };
    let words = Admission {
        allow_headers: vec![pattern("accept", false), pattern("x-", true)],
        deny_headers: vec![pattern("x-debug", true), pattern("x-user", false)],
        denied_headers: DeniedHeaders::Refuse,
        ..Admission::default()
    };
    let steps = AdmissionSteps::new(&words);
    let filter = steps.fields().unwrap();
    assert!(filter.refuses());
    for (name, pass) in [
        ("Accept", true),
        ("accept-language", false),
        ("X-Anything", true),
        ("x_anything", true),
        ("X-Debug", false),
        ("X-DEBUG-Level", false),
        ("x_debug_level", false),
        ("X-User", false),
        ("X_User", false),
        ("X-User-Name", true),
        ("X", false),
        ("", false),
    ] {
        assert_eq!(filter.takes(name.as_bytes()), pass, "{name}");
    }
}

proptest! {
    #[test]
    fn a_set_of_networks_equals_the_list(
        nets in prop::collection::vec((any::<bool>(), 0_u8..=16, any::<u16>()), 0..12),
        asked in any::<(bool, u16)>(),
    ) {
        // Sixteen bits that vary, at the low end of one network of each family.
        let address = |v6: bool, low: u16| match v6 {
            true => IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, low)),
            false => IpAddr::from([10, 0, low.to_be_bytes()[0], low.to_be_bytes()[1]]),
        };
        let ranges: Vec<(IpAddr, IpAddr)> = nets
            .iter()
            .map(|(v6, bits, low)| {
                let rest = (1_u32 << bits) - 1;
                let first = low & !(rest as u16);
                (address(*v6, first), address(*v6, first | rest as u16))
            })
            .collect();
        let client = address(asked.0, asked.1);
        let naive = ranges.iter().any(|(first, last)| {
            first.is_ipv4() == client.is_ipv4() && *first <= client && client <= *last
        });
        let set = NetSet::of(ranges.into_iter());
        prop_assert_eq!(set.is_some_and(|set| set.has(client)), naive);
    }
}
