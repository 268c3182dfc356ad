//! Hosts belong to apps: who gets them, who keeps them, who shares them.

use super::*;

/// An app file with one fixed response per host; `-` stands for no host.
fn hosts(hosts: &[&str]) -> String {
    hosts
        .iter()
        .map(|host| match *host {
            "-" => "[[route]]\nrespond = {}\n".to_owned(),
            host => format!("[[route]]\nhost = \"{host}\"\nrespond = {{}}\n"),
        })
        .collect()
}

fn owner<'b>(built: &'b Built, host: &str) -> Option<&'b str> {
    built.hosts.owner(host).map(AppName::as_str)
}

fn routes(built: &Built, app: &str) -> Option<usize> {
    built.model.apps.get(app).map(|app| app.routes.len())
}

#[test]
fn default_first_then_by_name() {
    let apps = [
        app("b", &hosts(&["x.com"])),
        app("a", &hosts(&["x.com"])),
        app("c", &hosts(&["main.com", "y.com"])),
    ];
    let built = build_apps(&format!("{LISTENER}{}", hosts(&["main.com"])), &apps, None);
    assert_eq!(owner(&built, "x.com"), Some("a"));
    assert_eq!(owner(&built, "main.com"), Some("default"));
    assert_eq!((routes(&built, "a"), routes(&built, "b"), routes(&built, "c")), (Some(1), None, None));
    // A refused app gets nothing at all: not the host that was free either.
    assert_eq!(owner(&built, "y.com"), None);
    let found: Vec<_> =
        built.diagnostics.iter().map(|d| (d.file.as_str(), d.code, d.line, d.column)).collect();
    assert_eq!(found, [("apps.d/b.toml", "host_owned", 2, 9), ("apps.d/c.toml", "host_owned", 2, 9)]);
    assert!(built.has_errors());
}

#[test]
fn the_first_accepted_owner_stays() {
    let first = build_apps(LISTENER, &[app("z", &hosts(&["x.com"]))], None);
    let both = [app("a", &hosts(&["x.com"])), app("z", &hosts(&["x.com"]))];
    let second = build_apps(LISTENER, &both, Some(&first));
    assert_eq!((owner(&second, "x.com"), routes(&second, "a")), (Some("z"), None));
    assert_eq!(codes(&second.diagnostics), ["host_owned"]);
    // The record alone is enough, as after a restart.
    let input = Input { main: &toml(LISTENER), apps: &both, previous: None, hosts: &first.hosts };
    let restarted = build(input).unwrap();
    assert_eq!((owner(&restarted, "x.com"), routes(&restarted, "z")), (Some("z"), Some(1)));
}

#[test]
fn ownership_ends_with_an_accepted_version_or_with_the_app() {
    let first = build_apps(LISTENER, &[app("z", &hosts(&["x.com", "y.com"]))], None);
    // Refused: nothing ends.
    let refused = [app("a", &hosts(&["x.com"])), app("z", "[[route]]\nhost = \"y.com\"\n")];
    let second = build_apps(LISTENER, &refused, Some(&first));
    assert_eq!(
        (owner(&second, "x.com"), routes(&second, "a"), routes(&second, "z")),
        (Some("z"), None, Some(2))
    );
    assert_eq!(codes(&second.diagnostics), ["host_owned", "one_of"]);
    // Refused at a start without any version: nothing ends either.
    let input = Input { main: &toml(LISTENER), apps: &refused, previous: None, hosts: &first.hosts };
    let fresh = build(input).unwrap();
    assert_eq!((owner(&fresh, "x.com"), routes(&fresh, "a"), routes(&fresh, "z")), (Some("z"), None, None));
    // Accepted without the host: it ends, and passes on within the same publish.
    let moved = [app("a", &hosts(&["x.com"])), app("z", &hosts(&["y.com"]))];
    let third = build_apps(LISTENER, &moved, Some(&second));
    assert_eq!((owner(&third, "x.com"), owner(&third, "y.com")), (Some("a"), Some("z")));
    // The app is gone.
    let fourth = build_apps(LISTENER, &[app("a", &hosts(&["x.com", "y.com"]))], Some(&third));
    assert_eq!((owner(&fourth, "y.com"), routes(&fourth, "z")), (Some("a"), None));
    assert!(fourth.diagnostics.is_empty());
}

/// `z` gives up x.com, but is refused for another reason: then it gave up nothing, and `a` may not have it.
#[test]
fn a_refused_release_is_no_release() {
    let before = [app("m", &hosts(&["m.com"])), app("z", &hosts(&["x.com"]))];
    let first = build_apps(LISTENER, &before, None);
    let after = [app("a", &hosts(&["x.com"])), app("m", &hosts(&["m.com"])), app("z", &hosts(&["m.com"]))];
    let second = build_apps(LISTENER, &after, Some(&first));
    assert_eq!((owner(&second, "x.com"), routes(&second, "a")), (Some("z"), None));
    assert_eq!(second.model.apps.get("z").unwrap(), first.model.apps.get("z").unwrap());
    assert_eq!(codes(&second.diagnostics), ["host_owned", "host_owned"]);
}

#[test]
fn wildcards_cover_the_names_below() {
    let first = build_apps(LISTENER, &[app("z", &hosts(&["*.x.com"]))], None);
    for host in ["a.x.com", "a.b.x.com", "*.b.x.com", "*.x.com"] {
        let apps = [app("a", &hosts(&[host])), app("z", &hosts(&["*.x.com"]))];
        let built = build_apps(LISTENER, &apps, Some(&first));
        assert_eq!((routes(&built, "a"), codes(&built.diagnostics).len()), (None, 1), "{host}");
    }
    for host in ["x.com", "yx.com", "*.com"] {
        let apps = [app("a", &hosts(&[host])), app("z", &hosts(&["*.x.com"]))];
        let built = build_apps(LISTENER, &apps, Some(&first));
        assert_eq!((routes(&built, "a"), built.diagnostics.len()), (Some(1), 0), "{host}");
    }
    // Who had a name before the wildcard came keeps it.
    let apps = [app("a", &hosts(&["x.x.com"])), app("z", &hosts(&["*.x.com"]))];
    let built = build_apps(LISTENER, &apps, None);
    assert_eq!((owner(&built, "x.x.com"), owner(&built, "y.x.com")), (Some("a"), Some("z")));
}

#[test]
fn sharing_and_its_end() {
    let share = format!("share_hosts_with = [\"a\"]\n{}", hosts(&["*.x.com"]));
    let first = build_apps(LISTENER, &[app("z", &share)], None);
    assert_eq!(codes(&first.diagnostics), ["unknown_app"]);
    let guest = hosts(&["s.x.com", "own.com"]);
    let second = build_apps(LISTENER, &[app("a", &guest), app("z", &share)], Some(&first));
    assert!(second.diagnostics.is_empty());
    assert_eq!((routes(&second, "a"), owner(&second, "s.x.com")), (Some(2), Some("z")));
    // The owner takes it back: the guest's file is refused, and what goes on is without the owner's host.
    let third = build_apps(LISTENER, &[app("a", &guest), app("z", &hosts(&["*.x.com"]))], Some(&second));
    assert_eq!(codes(&third.diagnostics), ["host_owned"]);
    assert_eq!(routes(&third, "a"), Some(1));
    assert_eq!(
        third.model.apps.get("a").unwrap().routes[0].host,
        crate::model::HostMatch::Exact("own.com".into())
    );
    assert_eq!(owner(&third, "own.com"), Some("a"));
}

#[test]
fn routes_without_a_host_belong_to_a_listener() {
    let two = format!("{LISTENER}[listener.in]\naddress = \"127.0.0.1:81\"\nrole = \"inbound\"\n");
    let apps = [
        app("a", &hosts(&["-"])),
        app("b", "[[route]]\nlisteners = [\"in\"]\nrespond = {}\n"),
        app("c", "[[route]]\nlisteners = [\"edge\"]\nrespond = {}\n"),
        app("d", &hosts(&["d.com"])),
    ];
    let built = build_apps(&two, &apps, None);
    assert_eq!(codes(&built.diagnostics), ["host_owned"]);
    assert_eq!(built.diagnostics[0].file, "apps.d/c.toml");
    assert_eq!((routes(&built, "b"), routes(&built, "d")), (Some(1), Some(1)));
}

#[test]
fn the_default_app_can_be_refused_too() {
    let first = build_apps(LISTENER, &[app("a", &hosts(&["x.com"]))], None);
    let main = format!("{LISTENER}{}", hosts(&["x.com"]));
    let second = build_apps(&main, &[app("a", &hosts(&["x.com"]))], Some(&first));
    assert_eq!(second.diagnostics[0].file, "ekiden.toml");
    assert_eq!((owner(&second, "x.com"), routes(&second, "default")), (Some("a"), Some(0)));
}

#[test]
fn the_record_survives_serde() {
    let built = build_apps(LISTENER, &[app("a", &hosts(&["x.com", "*.y.com", "-"]))], None);
    let json = serde_json::to_string(&built.hosts).unwrap();
    assert_eq!(json, r#"{"*.y.com":"a","*@edge":"a","x.com":"a"}"#);
    assert_eq!(serde_json::from_str::<HostOwners>(&json).unwrap(), built.hosts);
    assert!(serde_json::from_str::<HostOwners>(r#"{"x.com":"a b"}"#).is_err());
}
