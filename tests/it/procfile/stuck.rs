//! Control is stuck while dynos run: they run on, and the fresh control goes on with what was under way.

use ekiden_tests::{Load, Refused, signal};

use super::{Place, patiently};
use crate::control::stuck::{block, unblock, write};

const TOKEN: &str = "a-token-of-some-length";
const KEPT: &[&str] = &["GET / HTTP/1.1\r\nHost: a\r\n\r\n", "GET /slow HTTP/1.1\r\nHost: a\r\n\r\n"];

#[test]
fn dynos_run_on_beside_a_control_that_is_stuck() {
    let place = Place::new("web: exec python3 app.py\n");
    let token = place.file("token");
    write(&token, TOKEN);
    place.write("known", TOKEN);
    place.write(
        "ekiden.toml",
        &format!(
            "[control]\ntoken_file = \"token\"\nstuck_after = \"5s\"\n[access_log]\nto = \"off\"\n\
             [listener.web]\naddress = \"{}\"\n[cluster.web]\nendpoints = []\n[[route]]\ncluster = \"web\"\n",
            place.address()
        ),
    );
    let ask = |arguments: &[&str]| {
        let said = place.ask(&[arguments, &["--token-file", "known"]].concat());
        assert_eq!(said.code, 0, "{arguments:?}: {} {}", said.out, said.errors);
        said.out
    };
    let mut router = place.run(&["-m", "web=2"]);
    place.serves();
    patiently("two dynos", || ask(&["get", "apps/default/dynos"]).matches("\"ready\"").nth(1).map(|_| ()));
    let load = Load::start(place.address(), 4, KEPT, Refused::Fails);
    load.serve_more(20);

    // A reload is a new release too: its rollout begins while control is stuck, and ends after that.
    block(&token);
    signal(router.id(), libc::SIGHUP);
    router.wait_error("control's loop is stuck");
    load.serve_more(20);
    write(&token, TOKEN);
    patiently("a fresh control", || router.errors().contains("a fresh control runtime runs").then_some(()));
    patiently("the release", || place.get("/").filter(|text| text.ends_with(" v2")));
    ask(&["scale", "web=3"]);
    patiently("three dynos of the release", || {
        let dynos = ask(&["get", "apps/default/dynos"]);
        (dynos.matches("\"ready\"").count() == 3 && !dynos.contains("\"v1\"")).then_some(())
    });
    unblock(&token, TOKEN);
    ask(&["scale", "web=1"]);
    patiently("one dyno", || {
        (ask(&["get", "apps/default/dynos"]).matches("\"pid\"").count() == 1).then_some(())
    });
    load.serve_more(20);
    let tally = load.stop();
    assert!(tally.failed.is_empty(), "{} served, and failed: {:?}", tally.served, tally.failed);
    router.signal(libc::SIGTERM);
    assert_eq!(place.end_of(&mut router).code, 0);
}
