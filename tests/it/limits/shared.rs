//! What all workers share, and what goes on from table to table.

use ekiden_tests::{Echo, Ekiden, Served, Setup, until_true, web};

use super::{get, passed};

#[test]
fn all_workers_share_one_account() {
    let echo = Echo::start("one");
    let limit = "limit = [{ rate = \"50/h\", key = \"client\" }]";
    let router = Ekiden::start(Setup::new(web(&[echo.address], "", limit)).workers(2));
    // The kernel deals connections out over the workers: of 24, all on one would be a miracle.
    let mut clients: Vec<_> = (0..24).map(|_| router.client()).collect();
    let request = get("/", "");
    let served: usize = clients.iter_mut().map(|client| passed(client, &request, 4)).sum();
    assert_eq!(served, 50);
    until_true("every verdict", || {
        let count = |result| router.metric("ekiden_limit_requests_total", &[result]);
        (count("\"allowed\""), count("\"refused\"")) == (50.0, 46.0)
    });
}

/// Publishes another text, and waits until it is in force.
fn reload(router: &Ekiden, text: &str) {
    router.rewrite(&router.setup().config_with(text));
    let answer = router.control("POST", "/v1/reload", "");
    assert_eq!(answer.status, 200, "{answer:?}");
}

#[test]
fn accounts_outlive_tables() {
    let echo = Echo::start("one");
    let limit = |words: &str| format!("{{ name = \"few\", rate = \"4/h\", key = \"client\"{words} }}");
    let routes = |few: &str, more: &str| {
        web(&[echo.address], "", &format!("name = \"shop\"\nlimit = [{few}]\n{more}"))
    };
    let router = Ekiden::start(Setup::new(routes(&limit(""), "")));
    let (mut client, request) = (router.client(), get("/", ""));
    assert_eq!(passed(&mut client, &request, 2), 2);
    // Another route, another order, another endpoint: what was taken stays taken.
    reload(&router, &routes(&limit(""), "[[route]]\npath = \"/new\"\nrespond = {}\n"));
    router.put("web", "other", echo.address);
    assert_eq!(passed(&mut client, &request, 1), 1);
    // Words that do not change what is counted.
    reload(&router, &routes(&limit(", headers = \"always\", except = [\"192.0.2.1\"]"), ""));
    assert_eq!(passed(&mut client, &request, 5), 1);
    let refused = || router.metric("ekiden_limit_requests_total", &["limit=\"few\"", "\"refused\""]);
    assert_eq!(refused(), 4.0);
    // A shadow of it counts on, and so does the limit again afterwards.
    reload(&router, &routes(&limit(", shadow = true"), ""));
    assert_eq!(passed(&mut client, &request, 3), 3);
    reload(&router, &routes(&limit(""), ""));
    assert_eq!(passed(&mut client, &request, 3), 0);
    // Another burst begins anew, and the counts go on.
    reload(&router, &routes(&limit(", burst = 6"), ""));
    assert_eq!(passed(&mut client, &request, 9), 6);
    assert_eq!(refused(), 4.0 + 3.0 + 3.0);
    // A file that is refused changes nothing.
    router.rewrite("[[route]]\n");
    assert_eq!(router.control("POST", "/v1/reload", "").status, 422);
    assert_eq!(passed(&mut client, &request, 3), 0);
}

#[test]
fn accounts_of_listeners_and_apps_outlive_tables_too() {
    let echo = Echo::start("one");
    let route = "path = \"/a\"";
    let setup = Setup::new(web(&[echo.address], "", route)).listener("limit = [{ rate = \"6/h\" }]");
    let router = Ekiden::start(setup.top("limit = [{ rate = \"4/h\" }]"));
    let mut client = router.client();
    assert_eq!(passed(&mut client, &get("/a", ""), 9), 4);
    let more = "path = \"/a\"\nlimit = [{ rate = \"9/h\" }]\n[[route]]\npath = \"/new\"\nrespond = {}\n";
    reload(&router, &web(&[echo.address], "", more));
    assert_eq!(passed(&mut client, &get("/a", ""), 9), 0);
    assert_eq!(passed(&mut client, &get("/new", ""), 9), 0);
    // Two of the listener's are left: what the app refused took nothing from it.
    let statuses: Vec<u16> = (0..3).map(|_| client.get("a", "/none").status).collect();
    assert_eq!(statuses, [404, 404, 429]);
}

#[test]
fn the_table_shows_the_limits() {
    let echo = Echo::start("one");
    let route = "limit = [{ name = \"few\", rate = \"30/m\", burst = 5, key = \"{client}:{header:X-User}\", shadow = true }]";
    let setup = Setup::new(web(&[echo.address], "", route)).listener("limit = [{ rate = \"6/h\" }]");
    let table = Ekiden::start(setup.top("limit = [{ rate = \"4/s\" }]")).table();
    let names = |limits: &serde_json::Value| {
        let name = |limit: &serde_json::Value| format!("{}/{}", limit["of"], limit["name"]).replace('"', "");
        limits.as_array().unwrap().iter().map(name).collect::<Vec<_>>()
    };
    assert_eq!(names(&table["listeners"][0]["limits"]), ["listener/listener-limit-1"]);
    let limits = &table["apps"][0]["routes"][0]["limits"];
    assert_eq!(names(limits), ["app/app-limit-1", "route/few"]);
    let want = serde_json::json!({
        "of": "route", "name": "few", "count": 30, "per_s": 60, "burst": 5,
        "key": ["client", "header:x-user"], "keys": 16384, "shadow": true,
    });
    assert_eq!(limits[1], want);
}
