//! TLS with endpoints: what is meant, what is refused and how, and which app may use what of the process.

use super::*;
use crate::model::*;
use crate::names::TrustName;

const SOURCES: &str = "[ca.corp]\nfile = \"corp.pem\"\napps = [\"shop\"]\n\
                       [identity.edge]\ncert = \"e.pem\"\nkey = \"e.key\"\napps = [\"shop\"]\n";

fn cluster(tls: &str) -> String {
    format!("[cluster.a]\nendpoints = [\"a.test:1\"]\ntls = {tls}\n")
}

/// The TLS of the cluster `a` of the app `default`.
fn tls(written: &str) -> Option<ClusterTls> {
    let built = build_one(&toml(&format!("{LISTENER}{SOURCES}{}", cluster(written)))).unwrap();
    let tls = built.model.apps.get("default").unwrap().clusters["a"].policy.tls.clone();
    tls.map(|tls| (*tls).clone())
}

#[test]
fn what_is_meant() {
    let web = ClusterTls { verify: Verify::Full, roots: Roots::Web, name: None, san: vec![], identity: None };
    assert_eq!(tls("false"), None);
    assert_eq!(tls("true"), Some(web.clone()));
    assert_eq!(tls("{}"), Some(web.clone()));
    let named = |name: &str| Roots::Named(TrustName::new(name).unwrap());
    assert_eq!(tls("{ ca = \"corp\" }"), Some(ClusterTls { roots: named("corp"), ..web.clone() }));
    let file = |path: &str| Roots::File(path.into());
    assert_eq!(tls("{ ca = \"tls/ca\" }"), Some(ClusterTls { roots: file("tls/ca"), ..web.clone() }));
    assert_eq!(tls("{ ca = \"ca.pem\" }"), Some(ClusterTls { roots: file("ca.pem"), ..web.clone() }));
    let name = |name: &str| ClusterTls { name: Some(name.into()), ..web.clone() };
    assert_eq!(tls("{ name = \"API.Test.\" }"), Some(name("api.test")));
    assert_eq!(tls("{ name = \"[::1]\" }"), Some(name("::1")));
    let uri = San::Uri("spiffe://x/Shop".into());
    let both = vec![uri.clone(), San::Dns("b.test".into())];
    assert_eq!(tls("{ san = \"spiffe://x/Shop\" }"), Some(ClusterTls { san: vec![uri], ..web.clone() }));
    assert_eq!(
        tls("{ san = [\"spiffe://x/Shop\", \"B.test\"] }"),
        Some(ClusterTls { san: both, ..web.clone() })
    );
    let edge = Credential::Named(TrustName::new("edge").unwrap());
    assert_eq!(tls("{ identity = \"edge\" }"), Some(ClusterTls { identity: Some(edge), ..web.clone() }));
    let files = Credential::Files(KeyPair { cert: "c.pem".into(), key: "c.key".into() });
    assert_eq!(
        tls("{ cert = \"c.pem\", key = \"c.key\" }"),
        Some(ClusterTls { identity: Some(files), ..web })
    );
}

#[test]
fn what_is_refused() {
    for (written, code) in [
        ("1", "wrong_type"),
        ("\"true\"", "wrong_type"),
        ("{ ca = \"crop\" }", "unknown_ca"),
        ("{ identity = \"egde\" }", "unknown_identity"),
        ("{ identity = \"e.pem\" }", "unknown_identity"),
        ("{ identity = \"edge\", key = \"e.key\" }", "conflict"),
        ("{ cert = \"c.pem\" }", "missing_key"),
        ("{ key = \"c.key\" }", "missing_key"),
        ("{ name = \"a.test:1\" }", "bad_host"),
        ("{ name = \"*.test\" }", "bad_host"),
        ("{ san = \"10.0.0.1\" }", "bad_san"),
        ("{ san = \"spiffe://a b\" }", "bad_san"),
        ("{ san = [] }", "empty_list"),
        ("{ verify = \"off\" }", "unknown_value"),
        ("{ verify = false }", "wrong_type"),
        ("{ insecure = true }", "unknown_key"),
    ] {
        let found = build_one(&toml(&format!("{LISTENER}{SOURCES}{}", cluster(written)))).unwrap_err();
        assert_eq!(codes(&found), [code], "{written}");
    }
    for key in ["ca = \"corp\"", "san = \"a.test\""] {
        let text = cluster(&format!("{{ verify = \"insecure_none\", {key} }}"));
        let found = build_one(&toml(&format!("{LISTENER}{SOURCES}{text}"))).unwrap_err();
        assert!(codes(&found).contains(&"conflict"), "{key}");
    }
    let found = build_one(&toml(&format!("{LISTENER}[ca.x]\napps = []\n[identity.y]\ncert = \"c\"\n")));
    assert_eq!(codes(&found.unwrap_err()), ["missing_key", "missing_key"]);
}

/// No way to switch verification off leaves the check without a word.
#[test]
fn verification_is_not_switched_off_silently() {
    let text = format!("{LISTENER}{}", cluster("{ verify = \"insecure_none\" }"));
    let built = build_one(&toml(&text)).unwrap();
    assert_eq!(codes(&built.diagnostics), ["tls_unverified"]);
    assert_eq!(tls("{ verify = \"insecure_none\" }").unwrap().verify, Verify::InsecureNone);
}

#[test]
fn protocols() {
    let built = |keys: &str| {
        build_one(&toml(&format!("{LISTENER}[cluster.a]\nendpoints = [\"a.test:1\"]\n{keys}\n")))
    };
    for (keys, protocol) in [
        ("", Protocol::Http1),
        ("protocol = \"h2\"", Protocol::Http2),
        ("protocol = \"auto\"\ntls = true", Protocol::Auto),
    ] {
        let model = built(keys).unwrap().model;
        assert_eq!(model.apps.get("default").unwrap().clusters["a"].policy.protocol, protocol, "{keys}");
    }
    for (keys, code) in [
        ("protocol = \"auto\"", "needs_tls"),
        ("protocol = \"auto\"\ntls = false", "needs_tls"),
        ("protocol = \"http2\"", "unknown_value"),
    ] {
        assert_eq!(codes(&built(keys).unwrap_err()), [code], "{keys}");
    }
}

#[test]
fn apps_use_what_lists_them() {
    for (name, written, code) in [
        ("shop", "{ ca = \"corp\", identity = \"edge\" }", None),
        ("shop", "true", None),
        ("wiki", "{ ca = \"corp\" }", Some("ca_denied")),
        ("wiki", "{ identity = \"edge\" }", Some("identity_denied")),
        ("wiki", "{ ca = \"crop\" }", Some("unknown_ca")),
        ("shop", "{ ca = \"corp.pem\" }", Some("path_in_app")),
        ("shop", "{ ca = \"/etc/ca\" }", Some("path_in_app")),
        ("shop", "{ cert = \"c.pem\", key = \"c.key\" }", Some("path_in_app")),
        ("shop", "{ identity = \"./e.pem\" }", Some("path_in_app")),
    ] {
        let built = build_apps(&format!("{LISTENER}{SOURCES}"), &[app(name, &cluster(written))], None);
        let found: Vec<_> = built.diagnostics.iter().map(|found| found.code).collect();
        match code {
            None => assert!(found.is_empty(), "{written}: {found:?}"),
            Some(code) => {
                assert!(found.iter().all(|found| *found == code) && !found.is_empty(), "{written}: {found:?}")
            }
        }
        assert_eq!(built.model.apps.contains_key(name), code.is_none(), "{written}");
    }
    let built =
        build_apps(&format!("{LISTENER}{SOURCES}"), &[app("wiki", &cluster("{ ca = \"corp\" }"))], None);
    let help = built.diagnostics[0].help.clone().unwrap();
    assert_eq!(help, "add \"wiki\" to `apps` of [ca.corp] in the process file");
}
