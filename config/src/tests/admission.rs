//! What apps and routes let in, merged key by key.

use std::sync::Arc;

use crate::model::{Admission, Route};
use crate::{Format, HostOwners, Input, Source, build};

fn routes(text: &str) -> Vec<Arc<Route>> {
    let text = format!("{text}\n[listener.edge]\naddress = \"127.0.0.1:1\"\n");
    let source = Source { file: "t.toml".to_owned(), text, format: Format::Toml };
    let hosts = HostOwners::default();
    let built = build(Input { main: &source, apps: &[], previous: None, hosts: &hosts }).unwrap();
    built.model.apps.values().next().unwrap().routes.to_vec()
}

fn admission(route: &Route) -> &Admission {
    route.admission.as_ref().unwrap()
}

#[test]
fn a_key_of_a_route_replaces_that_of_the_app_and_off_clears_it() {
    let all = routes(
        "body_limit = 5\nhead_limit = 500\nfields_limit = 9\ndenied_headers = \"refuse\"\n\
         allow = { methods = [\"GET\"], clients = [\"10.0.0.0/8\"] }\ndeny = { headers = [\"X_Debug\"] }\n\
         [[route]]\npath = \"/a\"\nrespond = {}\n\
         [[route]]\npath = \"/b\"\nrespond = {}\n\
         [[route]]\npath = \"/c\"\nrespond = {}\nbody_limit = 7\nfields_limit = 20\ndenied_headers = \"remove\"\n\
         allow = { methods = [\"POST\"], clients = \"off\", content_types = [\"Image/*\"] }\n",
    );
    let (a, b, c) = (&all[0], &all[1], &all[2]);
    assert!(
        Arc::ptr_eq(a.admission.as_ref().unwrap(), b.admission.as_ref().unwrap()),
        "routes without words of their own share those of the app"
    );
    assert_eq!((a.body_limit, c.body_limit), (Some(5), Some(7)));
    let (of_app, of_route) = (admission(a), admission(c));
    assert_eq!(&*of_app.allow_methods[0], "GET");
    assert_eq!((of_app.head_limit, of_app.fields_limit), (Some(500), Some(9)));
    assert_eq!(&*of_app.deny_headers[0].name, "x-debug");
    assert_eq!(of_route.allow_methods.iter().map(|m| &**m).collect::<Vec<_>>(), ["POST"]);
    assert!(of_route.allow_clients.is_empty());
    assert_eq!((of_route.head_limit, of_route.fields_limit), (Some(500), Some(20)));
    assert_eq!(
        (&*of_route.allow_content_types[0].kind, &of_route.allow_content_types[0].subtype),
        ("image", &None)
    );
    assert_eq!(of_route.deny_headers, of_app.deny_headers);
    assert_ne!(of_route.denied_headers, of_app.denied_headers);
}

#[test]
fn nothing_written_or_all_cleared_is_nothing() {
    let all = routes(
        "allow = { methods = [\"GET\"] }\n[[route]]\npath = \"/a\"\nrespond = {}\nallow = { methods = \"off\" }\n",
    );
    assert_eq!(all[0].admission, None);
    assert_eq!(routes("[[route]]\nrespond = {}\n")[0].admission, None);
}
