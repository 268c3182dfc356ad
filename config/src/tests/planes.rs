//! Builds for a process with one plane: control takes names that routers give a meaning to as they are, a router's file holds no app.

use super::*;
use crate::model::{Roots, San};
use crate::{Purpose, build_for};

const APP: &str = "[cluster.web]\nendpoints = [\"127.0.0.1:1\"]\ntls = { ca = \"mesh\", identity = \"edge\" }\n\
     [[route]]\ncluster = \"web\"\nlisteners = [\"edge\"]\nclient_cert = { dns = \"a\" }\nauth = { users = \"staff\" }\n";

fn built(
    main: &str,
    apps: &[(AppName, Source)],
    purpose: Purpose<'_>,
) -> Result<crate::Built, Vec<&'static str>> {
    let (main, hosts) = (toml(main), HostOwners::default());
    let built = build_for(Input { main: &main, apps, previous: None, hosts: &hosts }, purpose);
    built.map_err(|found| found.iter().map(|one| one.code).collect())
}

#[test]
fn control_takes_names_as_they_are() {
    for (main, apps) in [
        (APP.to_owned(), vec![]),
        ("apps = \"apps\"".to_owned(), vec![(AppName::new("shop").unwrap(), toml(APP))]),
    ] {
        let built = built(&main, &apps, Purpose::Control).unwrap();
        assert_eq!(built.diagnostics, [], "{main}");
        let name = if apps.is_empty() { "default" } else { "shop" };
        let app = built.model.apps.get(name).unwrap();
        let tls = app.clusters["web"].policy.tls.as_ref().unwrap();
        assert!(matches!(&tls.roots, Roots::Named(name) if name.as_str() == "mesh"), "{tls:?}");
        assert_eq!(app.routes[0].listeners.as_ref().unwrap()[0].as_str(), "edge");
    }
    // Everything else is judged as ever; and no path of this machine makes sense on another one.
    for (text, code) in [
        ("[[route]]\ncluster = \"web\"", "unknown_cluster"),
        ("[cluster.web]\nendpoints = [\"127.0.0.1:1\"]\ntls = { ca = \"/etc/ca.pem\" }", "path_in_app"),
        ("[cluster.web]\nendpoints = [\"127.0.0.1:1\"]\ntls = { cert = \"a\", key = \"b\" }", "path_in_app"),
    ] {
        assert_eq!(built(text, &[], Purpose::Control).unwrap_err()[0], code, "{text}");
    }
    assert_eq!(built(APP, &[], Purpose::Whole).unwrap_err()[0], "missing_listener");
}

#[test]
fn a_fleet_as_written() {
    let text = "[fleet]\nlisten = \"127.0.0.1:1\"\nidentity = \"me\"\nca = \"us\"\nrouters = [\"spiffe://a/b\", \"C.d\"]\nname = \"x\"\n\
         server_name = \"control.d\"\n[identity.me]\ncert = \"a\"\nkey = \"b\"\n[ca.us]\nfile = \"c\"\n";
    let fleet = built(text, &[], Purpose::Control).unwrap().process.fleet;
    assert_eq!(fleet.routers, [San::Uri("spiffe://a/b".into()), San::Dns("c.d".into())]);
    assert_eq!((fleet.name.as_deref(), fleet.server_name.as_deref()), (Some("x"), Some("control.d")));
    assert_eq!(fleet.identity.unwrap().as_str(), "me");
}

#[test]
fn an_etcd_as_written() {
    let text = "[etcd]\nendpoints = [\"https://a\", \"https://[::1]:1/\"]\nca = \"us\"\nuser = \"u\"\npassword_file = \"p\"\n\
         lease = \"5s\"\nname = \"c1\"\napi = \"https://c1\"\n[ca.us]\nfile = \"c\"\n";
    let etcd = built(text, &[], Purpose::Control).unwrap().process.etcd.unwrap();
    let members: Vec<String> = etcd.members.iter().map(ToString::to_string).collect();
    assert_eq!(members, ["https://a:2379", "https://[::1]:1"]);
    assert_eq!((&*etcd.prefix, etcd.lease), ("/ekiden", std::time::Duration::from_secs(5)));
    assert_eq!((etcd.name.as_deref(), etcd.api.as_deref()), (Some("c1"), Some("https://c1")));
    assert_eq!(etcd.user.unwrap().1, std::path::Path::new("p"));
    let plain =
        built("[etcd]\nendpoints = [\"http://localhost\"]\n", &[], Purpose::Control).unwrap().process.etcd;
    assert_eq!(plain.unwrap().lease, std::time::Duration::from_secs(10));
}
