//! Maintenance: who is answered how, what stays as it was, and what outlives a restart.

use std::fs;
use std::process::Command;

use ekiden_tests::{Ekiden, Run, Served, Setup, Stamped, binary, finished, web};

use super::problem;

const PATH: &str = "/v1/apps/default/maintenance";

/// An answer to somebody who takes this.
fn asked(router: &Ekiden, accept: &str) -> ekiden_tests::Response {
    router.client().ask(format!("GET / HTTP/1.1\r\nHost: a\r\nAccept: {accept}\r\n\r\n"))
}

#[test]
fn an_app_in_maintenance_answers_with_its_page_and_comes_back_as_it_was() {
    let origin = Stamped::start("well");
    // What a route asks of requests is not asked meanwhile: everybody hears the same.
    let more = "limit = [{ rate = \"100/s\", key = \"client\" }]";
    let router = Ekiden::start(Setup::new(web(&[origin.address], "", more)));
    assert_eq!(asked(&router, "*/*").text(), "well");
    let off = router.control("GET", PATH, "").json();
    assert_eq!((&off["on"], &off["page"]), (&false.into(), &serde_json::Value::Null));

    let page = "<!doctype html><title>Back soon</title>";
    fs::write(router.setup().dir().join("page.html"), page).unwrap();
    let control = router.control.to_string();
    let run = |arguments: &[&str]| {
        let mut command = Command::new(binary());
        let output =
            finished(command.args(arguments).args(["--control", &control]).current_dir(router.setup().dir()));
        (output.status.code(), String::from_utf8_lossy(&output.stdout).into_owned())
    };
    let said = run(&["maintenance", "on", "--page", "page.html"]);
    assert_eq!(said, (Some(0), "default is in maintenance\n".to_owned()));
    let human = asked(&router, "text/html,*/*");
    assert_eq!((human.status, human.code()), (503, "maintenance"));
    assert_eq!((human.text().as_str(), human.get("content-type")), (page, Some("text/html; charset=utf-8")));
    assert_eq!(human.get("retry-after"), Some("60"));
    let program = asked(&router, "application/json");
    assert_eq!(program.json()["h_code"], "H80");

    // A change of the endpoints or of the files does not end it.
    router.put("web", "more", origin.address);
    let text = router.setup().config() + "\n# touched\n";
    router.rewrite(&text);
    assert_eq!(router.control("POST", "/v1/reload", "").status, 200);
    assert_eq!(asked(&router, "*/*").status, 503);
    // Nor does a restart.
    let setup = router.kill();
    let router = Ekiden::start_with(setup, Run { keep_file: true, ..Run::default() });
    assert_eq!(asked(&router, "text/html").text(), page);
    assert_eq!(router.control("GET", PATH, "").json()["page"], page);

    assert_eq!(router.control("DELETE", PATH, "").status, 200);
    assert_eq!(asked(&router, "*/*").text(), "well");
    assert_eq!(router.control("DELETE", PATH, "").status, 200, "it is off, as asked");
}

#[test]
fn what_cannot_be_in_maintenance_is_refused() {
    let (_origin, router) = super::one();
    let at = |app: &str| format!("/v1/apps/{app}/maintenance");
    assert_eq!(problem(&router.control("PUT", &at("nobody"), "{}")), (404, "unknown_app".to_owned()));
    let number = router.control("PUT", PATH, "{\"page\": 7}");
    assert_eq!(problem(&number), (422, "bad_value".to_owned()));
    let other = router.control("PUT", PATH, "{\"pages\": \"x\"}");
    assert_eq!(problem(&other).0, 422);
    assert_eq!(asked(&router, "*/*").text(), "file");
}

#[test]
fn another_app_goes_on_and_a_deleted_one_leaves_nothing() {
    let (_origin, router) = super::one();
    let shop = Stamped::start("shop");
    let spec = format!(
        "{{\"spec\": {{\"cluster\": {{\"web\": {{\"endpoints\": [\"{}\"]}}}}, \"route\": [{{\"host\": \"shop\", \"cluster\": \"web\"}}]}}}}",
        shop.address
    );
    let put = || assert_eq!(router.control("PUT", "/v1/apps/shop", &spec).status, 201);
    let status = |host: &str| router.client().get(host, "/").status;
    put();
    assert_eq!(router.control("PUT", "/v1/apps/shop/maintenance", "{}").status, 200);
    assert_eq!((status("shop"), status("a")), (503, 200));
    assert_eq!(router.control("DELETE", "/v1/apps/shop", "").status, 200);
    put();
    assert_eq!(status("shop"), 200);
}
