//! What requests must show, as it comes into the Model, and what is found wrong with it.

use std::sync::Arc;
use std::time::Duration;

use super::*;
use crate::model::{Cors, Entrance, OriginPattern, Origins};

/// The steps of the routes of a file with these top keys and routes.
fn routes(top: &str, routes: &str) -> Vec<Option<Arc<Entrance>>> {
    let built = build_one(&toml(&format!("{top}\n{LISTENER}{routes}")))
        .unwrap_or_else(|found| panic!("{}", found[0]));
    built.model.apps.get("default").unwrap().routes.iter().map(|route| route.entrance.clone()).collect()
}

fn cors(text: &str) -> Cors {
    let made = routes(&format!("cors = {{ {text} }}"), "[[route]]\nrespond = {}");
    (**made[0].as_ref().unwrap().cors.as_ref().unwrap()).clone()
}

#[test]
fn origins_get_the_form_of_browsers() {
    let exact = |text: &str| OriginPattern::Exact(text.into());
    for (written, want) in [
        ("https://a.example", exact("https://a.example")),
        ("https://A.Example:443", exact("https://a.example")),
        ("http://a.example:80", exact("http://a.example")),
        ("http://a.example:443", exact("http://a.example:443")),
        ("http://localhost:3000", exact("http://localhost:3000")),
        ("http://127.0.0.1:3000", exact("http://127.0.0.1:3000")),
        ("http://[::1]:3000", exact("http://[::1]:3000")),
        ("http://[0::1]", exact("http://[::1]")),
        (
            "https://*.a.example:8443",
            OriginPattern::Subdomains { scheme: "https://".into(), suffix: ".a.example:8443".into() },
        ),
    ] {
        assert_eq!(
            cors(&format!("origins = [\"{written}\"]")).origins,
            Origins::Listed(vec![want]),
            "{written}"
        );
    }
    assert_eq!(
        cors("origins = [\"*\"], methods = [\"*\"], headers = [\"X-A\"], max_age = \"1h\""),
        Cors {
            origins: Origins::Any,
            methods: vec!["*".into()],
            headers: vec!["x-a".into()],
            expose: vec![],
            credentials: false,
            max_age: Some(Duration::from_secs(3600)),
        }
    );
}

#[test]
fn a_step_of_a_route_replaces_that_of_its_app() {
    let top = "cors = { origins = [\"https://a.example\"], credentials = true }";
    let made = routes(
        top,
        "[[route]]\nrespond = {}\n[[route]]\npath = \"/a\"\nrespond = {}\n\
         [[route]]\npath = \"/b\"\nrespond = {}\ncors = \"off\"\n\
         [[route]]\npath = \"/c\"\nrespond = {}\ncors = { origins = [\"*\"] }",
    );
    assert!(
        Arc::ptr_eq(made[0].as_ref().unwrap(), made[1].as_ref().unwrap()),
        "shared where nothing is added"
    );
    assert_eq!(made[2], None);
    let own = made[3].as_ref().unwrap().cors.as_ref().unwrap();
    assert_eq!((&own.origins, own.credentials), (&Origins::Any, false), "nothing of the app's is left");
}
