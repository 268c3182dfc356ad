//! Bad files: each with the findings it must give, by code, line and column, and nothing else.

use super::*;

/// Text below [`LISTENER`] (which is two lines), expected findings.
type Row = (&'static str, &'static [(&'static str, usize, usize)]);

/// Findings of a text under a good listener. Errors and warnings alike, in the order of the text.
fn found(text: &str) -> Vec<Diagnostic> {
    match build_one(&toml(&format!("{LISTENER}{text}"))) {
        Ok(built) => built.diagnostics,
        Err(found) => found,
    }
}

fn check(rows: &[Row]) {
    for (text, want) in rows {
        let found = found(text);
        let have: Vec<_> = found.iter().map(|d| (d.code, d.line, d.column)).collect();
        let shown: String = found.iter().map(|d| format!("\n{d}\n")).collect();
        assert_eq!(have, *want, "\n{text}\n{shown}");
    }
}

#[test]
fn syntax_and_shape() {
    check(&[
        ("a = ", &[("syntax", 3, 5)]),
        ("workers = 2020-01-01", &[("syntax", 3, 11)]),
        ("[listener.edge]\n", &[("duplicate_key", 3, 1)]),
        ("merge_slashes = true\nmerge_slashes = true", &[("duplicate_key", 4, 1)]),
        ("adress = \"127.0.0.1:1\"", &[("unknown_key", 3, 1)]),
        ("[cluster.a]\nendpoints = [\"1.1.1.1:1\"]\nserver = 1", &[("unknown_key", 5, 1)]),
        ("trust = \"10.0.0.0/8\"", &[("wrong_type", 3, 10)]),
        ("via = 1", &[("wrong_type", 3, 7)]),
        ("via = \"\"", &[("empty_text", 3, 7)]),
        ("forwarded = \"true\"", &[("wrong_type", 3, 14)]),
        ("role = \"egde\"", &[("unknown_value", 3, 9)]),
        ("role = 1", &[("wrong_type", 3, 8)]),
        ("[listener.edge.limits]\nfields = \"100\"", &[("wrong_type", 4, 11)]),
        ("[listener.edge.limits]\nfields = 1001", &[("out_of_range", 4, 10)]),
        ("[listener.edge.limits]\nfields = -1", &[("out_of_range", 4, 10)]),
        ("connection_rate = 5", &[("wrong_type", 3, 19)]),
        ("connection_rate = \"5\"", &[("bad_rate", 3, 20)]),
        ("connection_rate = \"5/day\"", &[("bad_rate", 3, 20)]),
        ("connection_rate = \"0/s\"", &[("out_of_range", 3, 20)]),
        ("connection_rate = \"1000001/s\"", &[("out_of_range", 3, 20)]),
        ("connection_burst = 5", &[("burst_without_rate", 3, 20)]),
        ("connection_rate = \"off\"\nconnection_burst = 5", &[("burst_without_rate", 4, 20)]),
        ("connection_burst_per_client = 5", &[("burst_without_rate", 3, 31)]),
        ("max_connections_per_client = 0", &[("out_of_range", 3, 30)]),
        ("[listener.edge.limits]\nmin_body_rate = 0", &[("out_of_range", 4, 17)]),
        ("[listener.edge.limits]\nhead = 255", &[("out_of_range", 4, 8)]),
        ("[listener.edge.limits]\nhead = \"64kib\"", &[("bad_size", 4, 9)]),
        ("[listener.edge.limits]\nhead = true", &[("wrong_type", 4, 8)]),
        ("[listener.edge.limits]\nbody = \"of\"", &[("bad_size", 4, 9)]),
        ("[listener.edge.limits]\nhead_deadline = 5", &[("wrong_type", 4, 17)]),
        ("[listener.edge.limits]\nhead_deadline = \"5 s\"", &[("bad_duration", 4, 18)]),
        ("[listener.edge.limits]\nhead_deadline = \"2h\"", &[("out_of_range", 4, 18)]),
        ("[telemetry]\nadress = \"off\"", &[("unknown_key", 4, 1)]),
        ("[cluster]\nweb = 1", &[("wrong_type", 4, 7)]),
        ("[[route]]\nlisteners = []\nrespond = {}", &[("empty_list", 4, 13)]),
    ]);
}

#[test]
fn tls() {
    check(&[
        ("tls = { cert = \"a.pem\" }", &[("missing_key", 3, 7)]),
        ("tls = { key = \"a.key\" }", &[("missing_key", 3, 7)]),
        ("tls = {}", &[("missing_key", 3, 7)]),
        ("tls = []", &[("empty_list", 3, 7)]),
        ("tls = true", &[("wrong_type", 3, 7)]),
        ("tls = [\"a.pem\"]", &[("wrong_type", 3, 9)]),
        ("tls = { cert = \"a\", key = \"b\", dir = \"c\" }", &[("conflict", 3, 7)]),
        ("tls = [{ cert = \"a\", key = \"b\" }, { cert = \"c\" }]", &[("missing_key", 3, 35)]),
        ("tls = { cert = \"a\\nb\", key = \"k\" }", &[("bad_text", 3, 17)]),
        ("unknown_name = \"refuse\"", &[("needs_tls", 3, 17)]),
        ("hsts = \"max-age=1\"", &[("needs_tls", 3, 9)]),
        ("min_tls_version = \"1.3\"\nticket_keys = \"k\"", &[("needs_tls", 3, 20), ("needs_tls", 4, 16)]),
        ("max_handshakes = 10", &[("needs_tls", 3, 18)]),
        ("tls = { dir = \"d\" }\nmin_tls_version = \"1.1\"", &[("unknown_value", 4, 20)]),
        ("tls = { dir = \"d\" }\nmin_tls_version = 1.3", &[("wrong_type", 4, 19)]),
        ("tls = { dir = \"d\" }\nunknown_name = \"drop\"", &[("unknown_value", 4, 17)]),
        ("tls = { dir = \"d\" }\nhsts = \"includeSubDomains\"", &[("bad_hsts", 4, 9)]),
        ("tls = { dir = \"d\" }\nhsts = \"max-age=1, preload\"", &[("bad_hsts", 4, 9)]),
        ("tls = { dir = \"d\" }\nhsts = \"max-age=1; max-age=2\"", &[("bad_hsts", 4, 9)]),
        ("tls = { dir = \"d\" }\nhsts = \"max-age=1;\\r\\nx: y\"", &[("bad_hsts", 4, 9)]),
        ("tls = { dir = \"d\" }\nredirect_https = true", &[("conflict", 4, 18)]),
        ("redirect_https = 0", &[("out_of_range", 3, 18)]),
        ("redirect_https = 65536", &[("out_of_range", 3, 18)]),
        ("redirect_https = \"443\"", &[("wrong_type", 3, 19)]),
        ("client_auth = { mode = \"none\" }", &[("needs_tls", 3, 15)]),
        ("tls = { dir = \"d\" }\nclient_auth = { mode = \"optional\" }", &[("missing_key", 4, 15)]),
        ("tls = { dir = \"d\" }\nclient_auth = { ca = \"ca.pem\" }", &[("missing_key", 4, 15)]),
        ("tls = { dir = \"d\" }\nclient_auth = { mode = \"on\", ca = \"c\" }", &[("unknown_value", 4, 25)]),
        ("[listener.edge.limits]\nhandshake_deadline = \"0s\"", &[("out_of_range", 4, 23)]),
    ]);
}

#[test]
fn spread() {
    check(&[
        ("[cluster.a]\nendpoints = [\"a:1\"]\nsubset = 0", &[("out_of_range", 5, 10)]),
        (
            "[cluster.a]\nendpoints = [\"a:1\"]\nsubset = 3\nshard = { by = \"client\" }",
            &[("conflict", 5, 10)],
        ),
        ("[cluster.a]\nendpoints = [{ address = \"a:1\", priority = 8 }]", &[("out_of_range", 4, 44)]),
        (
            "[cluster.a]\nendpoints = [\"127.0.0.1:1\", { address = \"127.0.0.1:2\", priority = 1 }]\nshard = { by = \"client\" }",
            &[("conflict", 5, 9)],
        ),
        (
            "[cluster.a]\nendpoints = [\"a:1\"]\nadaptive_limit = { min = 9, max = 8 }",
            &[("out_of_range", 5, 35)],
        ),
        (
            "[cluster.a]\nendpoints = [\"a:1\"]\nadaptive_limit = { tolerance = 1 }",
            &[("out_of_range", 5, 32)],
        ),
        ("[cluster.a]\nendpoints = [\"a:1\"]\nadaptive_limit = 5", &[("wrong_type", 5, 18)]),
    ]);
}

#[test]
fn process_settings() {
    check(&[
        ("trust = [\"10.0.0.1/8\", \"x\"]", &[("bad_network", 3, 11), ("bad_network", 3, 25)]),
        ("via = \"a b\"", &[("bad_name", 3, 8)]),
        ("accept_proxy = [\"10.0.0.1/8\", \"unix\"]", &[("bad_network", 3, 18)]),
        ("protocol = \"udp\"", &[("unknown_value", 3, 13)]),
        ("protocol = \"tcp\"\nh2c = true", &[("no_meaning", 3, 13)]),
        ("accept_proxy = []", &[("empty_list", 3, 16)]),
        ("[cluster.a]\nendpoints = [\"a:1\"]\nsend_proxy = \"v3\"", &[("unknown_value", 5, 15)]),
        ("[listener.b]\naddress = \"0.0.0.0:8080\"", &[("address_taken", 4, 12)]),
        ("[listener.b]\naddress = \"127.0.0.1:9901\"", &[("address_taken", 1, 1)]),
        ("[listener.b]\naddress = \"localhost:80\"", &[("bad_address", 4, 12)]),
        ("[listener.b]\naddress = \"127.0.0.1:0\"", &[("bad_address", 4, 12)]),
        ("[listener.b]\naddress = \"unix:relative\"", &[("bad_address", 4, 12)]),
        ("[listener.b]\nrole = \"edge\"", &[("missing_key", 3, 1)]),
        ("[listener.\"a b\"]\naddress = \"127.0.0.1:1\"", &[("bad_name", 3, 12)]),
        (
            "[listener.o]\naddress = \"127.0.0.1:1\"\nrole = \"outbound\"\n[control]\naddress = \"127.0.0.1:9902\"",
            &[("control_needs_token", 7, 12)],
        ),
        ("[control]\naddress = \"0.0.0.0:9902\"", &[("control_open", 4, 12)]),
        ("[control]\nhosts = [\"a:1\"]", &[("bad_host", 4, 11)]),
        ("[fleet]\nlisten = \"0.0.0.0:9903\"", &[("fleet_plain", 4, 11)]),
        ("[fleet]\nlisten = \"fleet:9903\"", &[("bad_address", 4, 11)]),
        ("[control]\naddress = \"srv:_http._tcp.a\"", &[("bad_address", 4, 12)]),
        ("[control]\nremovals = { share = 0 }", &[("out_of_range", 4, 22)]),
        ("[control]\nremovals = { share = 101 }", &[("out_of_range", 4, 22)]),
        ("[control]\nstuck_after = \"1s\"", &[("out_of_range", 4, 16)]),
        ("[control]\nremovals = { hold = \"10ms\" }", &[("out_of_range", 4, 22)]),
        ("[fleet]\nidentity = \"me\"\nca = \"us\"", &[("unknown_identity", 4, 13), ("unknown_ca", 5, 7)]),
        ("[fleet]\nca = \"us\"\n[ca.us]\nfile = \"ca.pem\"", &[("missing_key", 3, 1)]),
        ("[fleet]\nrouters = [\"a b\"]", &[("missing_key", 4, 13), ("bad_san", 4, 13)]),
        ("[fleet]\nrouters = [\"a.b\"]", &[("missing_key", 4, 13)]),
        ("[[fleet.subscription]]\nrouters = [\"a\"]\napps = [\"*\"]", &[("missing_key", 3, 1)]),
        ("[fleet]\nname = \"a b\"", &[("bad_name", 4, 9)]),
        ("[fleet]\nserver_name = \"a b\"", &[("bad_host", 4, 16)]),
        ("[discovery.a]\nuser = \"u\"", &[("missing_key", 3, 1), ("missing_key", 3, 1)]),
        ("[discovery.a]\nendpoints = [\"http://10.0.0.5\"]", &[("etcd_plain", 4, 15)]),
        ("[discovery.\"a b\"]\nendpoints = [\"http://[::1]\"]", &[("bad_name", 3, 13)]),
        ("[cluster.a]\nendpoints = [\"etcd:a/web/\"]", &[("unknown_discovery", 4, 15)]),
        ("[cluster.a]\nendpoints = [\"etcd:a/web\"]", &[("bad_address", 4, 15)]),
        ("[etcd]\nprefix = \"/a\"", &[("missing_key", 3, 1)]),
        ("[etcd]\nendpoints = [\"10.0.0.5:2379\"]", &[("bad_etcd", 4, 15)]),
        ("[etcd]\nendpoints = [\"http://a:b@localhost\"]", &[("secret_in_text", 4, 15)]),
        ("[etcd]\nendpoints = [\"http://localhost/path\"]", &[("bad_etcd", 4, 15)]),
        ("[etcd]\nendpoints = [\"http://10.0.0.5\"]", &[("etcd_plain", 4, 15)]),
        ("[etcd]\nendpoints = [\"https://10.0.0.5\"]", &[("missing_key", 4, 15)]),
        ("[etcd]\nendpoints = [\"http://[::1]\"]\nca = \"us\"", &[("unknown_ca", 5, 7)]),
        ("[etcd]\nendpoints = [\"http://[::1]\"]\nuser = \"u\"", &[("missing_key", 3, 1)]),
        ("[etcd]\nendpoints = [\"http://[::1]\"]\nprefix = \"/a/\"", &[("bad_prefix", 5, 11)]),
        ("[etcd]\nendpoints = [\"http://[::1]\"]\nlease = \"1s\"", &[("out_of_range", 5, 10)]),
        ("[access_log]\nto = \"stdot\"", &[("unknown_value", 4, 7)]),
        ("[access_log]\nformat = \"xml\"", &[("unknown_value", 4, 11)]),
        ("[telemetry]\naddress = \"127.0.0.1\"", &[("bad_address", 4, 12)]),
    ]);
    for (text, code) in [("workers = 0", "out_of_range"), ("drain_timeout = \"61m\"", "out_of_range")] {
        let found = build_one(&toml(&format!("{text}\n{LISTENER}"))).unwrap_err();
        assert_eq!(codes(&found), [code]);
    }
}

#[test]
fn services_in_dns() {
    check(&[
        ("[cluster.a]\nendpoints = [\"srv:_http._tcp.a:80\"]", &[("bad_address", 4, 15)]),
        (
            "[cluster.a]\nendpoints = [\"srv:_http._tcp.a\", \"srv:_HTTP._tcp.a.\"]",
            &[("duplicate_endpoint", 4, 35)],
        ),
        (
            "[cluster.a]\nendpoints = [{ address = \"srv:_http._tcp.a\", weight = 2 }]",
            &[("no_meaning", 4, 14)],
        ),
        (
            "[cluster.a]\nendpoints = [{ address = \"srv:_http._tcp.a\", id = \"a\" }]",
            &[("no_meaning", 4, 14)],
        ),
    ]);
}

#[test]
fn clusters() {
    check(&[
        ("[cluster.a]\n", &[("empty_cluster", 3, 10)]),
        ("[cluster.a]\nendpoints = [\"127.0.0.1:9901\"]", &[("own_address", 4, 15)]),
        ("[cluster.a]\nendpoints = [\"0.0.0.0:9902\"]", &[("own_address", 4, 15)]),
        ("[cluster.a]\nendpoints = [\"[::ffff:127.0.0.1]:9901\"]", &[("own_address", 4, 15)]),
        (
            "[telemetry]\naddress = \"[::]:9000\"\n[cluster.a]\nendpoints = [\"127.0.0.9:9000\", \"[::1]:9000\"]",
            &[("own_address", 6, 15), ("own_address", 6, 33)],
        ),
        ("[cluster.a]\nendpoints = [\"1.1.1.1:1\", \"1.1.1.1:1\"]", &[("duplicate_endpoint", 4, 28)]),
        ("[cluster.a]\nendpoints = [\"a:1\", \"A:1\"]", &[("duplicate_endpoint", 4, 22)]),
        (
            "[cluster.a]\nendpoints = [{ id = \"x\", address = \"1.1.1.1:1\" }, { id = \"x\", address = \"b:1\" }]",
            &[("duplicate_endpoint", 4, 59)],
        ),
        ("[cluster.a]\nendpoints = [\"::1:80\"]", &[("bad_address", 4, 15)]),
        ("[cluster.a]\nendpoints = [\"http://a:80\"]", &[("bad_address", 4, 15)]),
        ("[cluster.a]\nendpoints = [\"1.1.1.1\"]", &[("bad_address", 4, 15)]),
        ("[cluster.a]\nendpoints = [{ weight = 2 }]", &[("missing_key", 4, 14)]),
        ("[cluster.a]\nendpoints = [{ address = \"1.1.1.1:1\", weight = 0 }]", &[("out_of_range", 4, 48)]),
        ("[cluster.a]\nendpoints = [{ address = \"1.1.1.1:1\", id = \"a?\" }]", &[("bad_name", 4, 45)]),
        ("[cluster.a]\nendpoints = [{ address = \"a:1\", drain = true }]", &[("no_meaning", 4, 14)]),
        ("[cluster.a]\nendpoints = [1]", &[("wrong_type", 4, 14)]),
        ("[cluster.a]\nendpoints = [\"1.1.1.1:1\"]\nprobe = {}", &[("one_of", 5, 9)]),
        ("[cluster.a]\nendpoints = [\"1.1.1.1:1\"]\nejection = 5", &[("wrong_type", 5, 12)]),
        ("[cluster.a]\nendpoints = [\"1.1.1.1:1\"]\nejection = \"on\"", &[("wrong_type", 5, 13)]),
        (
            "[cluster.a]\nendpoints = [\"1.1.1.1:1\"]\nejection = { consecutive = 0 }",
            &[("out_of_range", 5, 28)],
        ),
        (
            "[cluster.a]\nendpoints = [\"1.1.1.1:1\"]\nejection = { max_percent = 101 }",
            &[("out_of_range", 5, 28)],
        ),
        (
            "[cluster.a]\nendpoints = [\"1.1.1.1:1\"]\nejection = { window = \"999ms\" }",
            &[("out_of_range", 5, 24)],
        ),
        ("[cluster.a]\nendpoints = [\"1.1.1.1:1\"]\nejection = { outlier = 1 }", &[("unknown_key", 5, 14)]),
        (
            "[cluster.a]\nendpoints = [\"1.1.1.1:1\"]\nejection = { base = \"61s\" }",
            &[("out_of_range", 5, 22)],
        ),
        (
            "[cluster.a]\nendpoints = [\"1.1.1.1:1\"]\nejection = { base = \"5s\", max = \"4s\" }",
            &[("out_of_range", 5, 34)],
        ),
        (
            "[cluster.a]\nendpoints = [\"1.1.1.1:1\"]\nejection = { consecutive = \"off\", success_rate = \"off\" }",
            &[("no_meaning", 5, 12)],
        ),
        ("[cluster.a]\nendpoints = [\"1.1.1.1:1\"]\npanic_threshold = 0", &[("out_of_range", 5, 19)]),
        ("[cluster.a]\nendpoints = [\"1.1.1.1:1\"]\nslow_start = 5", &[("wrong_type", 5, 14)]),
        (
            "[cluster.a]\nendpoints = [\"1.1.1.1:1\"]\nprobe = { tcp = true, status = 200 }",
            &[("no_meaning", 5, 32)],
        ),
        ("[cluster.a]\nendpoints = [\"1.1.1.1:1\"]\nprobe = { path = \"x\" }", &[("bad_path", 5, 19)]),
        (
            "[cluster.a]\nendpoints = [\"1.1.1.1:1\"]\nprobe = { path = \"/\", status = [399, 200] }",
            &[("bad_status", 5, 32)],
        ),
        ("[cluster.a]\nendpoints = [\"1.1.1.1:1\"]\nbalance = \"roundrobin\"", &[("unknown_value", 5, 12)]),
    ]);
}

#[test]
fn probes_of_grpc() {
    check(&[
        ("[cluster.a]\nendpoints = [\"1.1.1.1:1\"]\nprobe = { grpc = \"\" }", &[("needs_http2", 5, 18)]),
        (
            "[cluster.a]\nendpoints = [\"1.1.1.1:1\"]\nprotocol = \"h2\"\nprobe = { grpc = \"a\", path = \"/\" }",
            &[("one_of", 6, 9)],
        ),
        (
            "[cluster.a]\nendpoints = [\"1.1.1.1:1\"]\nprotocol = \"h2\"\nprobe = { grpc = \"a\", body = \"b\" }",
            &[("no_meaning", 6, 31)],
        ),
    ]);
}

#[test]
fn overload() {
    // Lines of a cluster; the first of them is line 5.
    for (lines, want) in [
        ("slots = 0", &[("out_of_range", 5, 9)][..]),
        ("breaker = { requests = 0 }", &[("out_of_range", 5, 24)]),
        ("breaker = 5", &[("wrong_type", 5, 11)]),
        ("slots = 1\nbreaker = { endpoint_requests = 1 }", &[("conflict", 6, 11)]),
        ("slots = \"off\"\nbreaker = { endpoint_requests = 1 }", &[]),
        ("retry_budget = { percent = 101 }", &[("out_of_range", 5, 28)]),
        ("retry_budget = { window = \"500ms\" }", &[("out_of_range", 5, 28)]),
        ("slots = 1000001", &[("out_of_range", 5, 9)]),
        ("probe_load = true", &[("no_meaning", 5, 14)]),
        ("probe_load = false", &[]),
        ("balance = \"p2c\"\nprobe_load = {}", &[("no_meaning", 6, 14)]),
        ("balance = \"prequal\"\nprobe_load = true", &[]),
        ("balance = \"prequal\"\nprobe_load = { per_request = 16.5 }", &[("out_of_range", 6, 30)]),
        ("balance = \"prequal\"\nprobe_load = { at_once = 65 }", &[("out_of_range", 6, 26)]),
        ("balance = \"prequal\"\nprobe_load = { host = \"a:b:c\" }", &[("bad_host", 6, 24)]),
        ("balance = \"prequal\"\nprobe_load = 3", &[("wrong_type", 6, 14)]),
        ("slots = \"1\"", &[("wrong_type", 5, 10)]),
        ("slots = \"off\"\nqueue = 1000001", &[("out_of_range", 6, 9)]),
        ("queue = \"10\"", &[("wrong_type", 5, 10)]),
        ("queue = { most = 1 }", &[("unknown_key", 5, 11)]),
        ("queue = { wait = \"1s\" }", &[("no_meaning", 5, 9)]),
        ("queue = { max = 5, interval = \"1s\" }", &[("no_meaning", 5, 9)]),
        ("queue = { max = 5 }", &[]),
        ("slots = 1\nqueue = { wait = \"0s\" }", &[("out_of_range", 6, 19)]),
        ("slots = 1\nqueue = { wait = \"50ms\" }", &[]),
        ("slots = 1\nqueue = { wait = \"50ms\", target = \"60ms\" }", &[("out_of_range", 6, 9)]),
        ("slots = 1\nqueue = { target = \"2s\" }", &[("out_of_range", 6, 9)]),
        ("slots = 1\nqueue = { target = \"2s\", interval = \"1s\" }", &[("out_of_range", 6, 38)]),
        ("slots = 1\nqueue = { target = \"off\", interval = \"10ms\" }", &[]),
        ("slots = 1\nshard = { by = \"client\" }", &[("no_meaning", 6, 9)]),
        ("slots = \"off\"\nshard = { by = \"client\" }", &[]),
        ("[[route]]\ncluster = \"a\"\npriority = \"urgent\"", &[("unknown_value", 7, 13)]),
        ("[overload]\nmemory = \"1KB\"", &[("out_of_range", 6, 11)]),
        ("[overload]\nmemory = \"lots\"", &[("bad_size", 6, 11)]),
        ("[overload]\ndescriptors = 101", &[("out_of_range", 6, 15)]),
        ("[overload]\nlag = 5", &[("wrong_type", 6, 7)]),
        ("[overload]\ncpu = 5", &[("unknown_key", 6, 1)]),
    ] {
        let text = format!("[cluster.a]\nendpoints = [\"1.1.1.1:1\"]\n{lines}");
        let found = found(&text);
        let have: Vec<_> = found.iter().map(|d| (d.code, d.line, d.column)).collect();
        assert_eq!(have, want, "\n{text}");
    }
    for (caps, want) in [
        ("{ in_flight = 0 }", &[("out_of_range", 1, 22)][..]),
        ("{ connections = 10000001 }", &[("out_of_range", 1, 24)]),
        ("{ buffered = \"1KiB\" }", &[("out_of_range", 1, 22)]),
        ("{ requests = 1 }", &[("unknown_key", 1, 10)]),
        ("{ in_flight = \"off\", connections = 5, buffered = \"1MiB\" }", &[]),
    ] {
        let text = toml(&format!("caps = {caps}\n{LISTENER}"));
        let found = match build_one(&text) {
            Ok(built) => built.diagnostics,
            Err(found) => found,
        };
        let have: Vec<_> = found.iter().map(|d| (d.code, d.line, d.column)).collect();
        assert_eq!(have, want, "{caps}");
    }
}

/// A cluster, then a route with the given lines; the first of them is line 6.
fn route(lines: &str) -> String {
    format!("[cluster.web]\nendpoints = [\"1.1.1.1:1\"]\n[[route]]\n{lines}")
}

/// Each row's lines are found to have exactly its findings.
fn check_routes(rows: &[Row]) {
    for (lines, want) in rows {
        let text = route(lines);
        let have: Vec<_> = found(&text).iter().map(|d| (d.code, d.line, d.column)).collect();
        let shown: String = found(&text).iter().map(|d| format!("\n{d}\n")).collect();
        assert_eq!(have, *want, "\n{text}\n{shown}");
    }
}

#[test]
fn routes() {
    let rows: &[Row] = &[
        ("", &[("one_of", 5, 1)]),
        ("cluster = \"web\"\nrespond = {}", &[("one_of", 5, 1)]),
        ("cluster = \"wbe\"", &[("unknown_cluster", 6, 12)]),
        ("cluster = 1", &[("wrong_type", 6, 11)]),
        ("clusters = [{ name = \"web\", weight = 0 }]", &[("weights_sum_zero", 6, 13)]),
        ("clusters = [{ name = \"web\" }, { name = \"web\" }]", &[("duplicate_cluster", 6, 41)]),
        ("clusters = [{ weight = 1 }]", &[("missing_key", 6, 13)]),
        ("cluster = \"web\"\nlisteners = [\"egde\"]", &[("unknown_listener", 7, 15)]),
        ("cluster = \"web\"\nhost = \"*\"", &[("bad_host", 7, 9)]),
        ("cluster = \"web\"\nhost = \"a.b:80\"", &[("bad_host", 7, 9)]),
        ("cluster = \"web\"\nhost = \"b\u{fc}cher.de\"", &[("unicode_host", 7, 9)]),
        ("cluster = \"web\"\npath = \"a\"", &[("bad_path", 7, 9)]),
        ("cluster = \"web\"\npath = \"/a/../b\"", &[("bad_path", 7, 9)]),
        ("cluster = \"web\"\npath = \"/%41\"", &[("path_not_normal", 7, 9)]),
        ("cluster = \"web\"\npath = { exact = \"/a\", prefix = \"/b\" }", &[("one_of", 7, 8)]),
        ("cluster = \"web\"\npath = { regex = \"(\" }", &[("bad_regex", 7, 19)]),
        ("cluster = \"web\"\npath = { regex = \"a)|(b\" }", &[("bad_regex", 7, 19)]),
        ("cluster = \"web\"\npath = { regex = \"(a{999}){999}\" }", &[("regex_too_large", 7, 19)]),
        ("cluster = \"web\"\nmethods = [\"get\"]", &[("bad_method", 7, 13)]),
        ("cluster = \"web\"\nmethods = [\"A B\"]", &[("bad_method", 7, 13)]),
        ("cluster = \"web\"\nheaders = { \"a b\" = \"x\" }", &[("bad_field_name", 7, 14)]),
        ("cluster = \"web\"\nheaders = { a = {} }", &[("one_of", 7, 17)]),
        ("cluster = \"web\"\nquery = { a = { present = true, equals = \"x\" } }", &[("one_of", 7, 15)]),
        ("cluster = \"web\"\nsplit = \"cient\"", &[("unknown_value", 7, 10)]),
        ("cluster = \"web\"\nsplit = {}", &[("one_of", 7, 9)]),
        ("cluster = \"web\"\nattempts = 11", &[("out_of_range", 7, 12)]),
        ("cluster = \"web\"\nhedge = { percentile = 100 }", &[("out_of_range", 7, 24)]),
        ("cluster = \"web\"\nhedge = \"95\"", &[("wrong_type", 7, 10)]),
        ("cluster = \"web\"\nretry = { per_try = 5 }", &[("wrong_type", 7, 21)]),
        ("cluster = \"web\"\nretry = { on = [\"conect\"] }", &[("unknown_value", 7, 18)]),
        ("cluster = \"web\"\nretry = { on = [302] }", &[("bad_status", 7, 17)]),
        ("cluster = \"web\"\nretry = { on = [\"599-500\"] }", &[("bad_status", 7, 18)]),
        ("cluster = \"web\"\nretry = { on = [] }", &[("empty_list", 7, 16)]),
        ("cluster = \"web\"\nretry = { attempts = 0 }", &[("out_of_range", 7, 22)]),
        ("cluster = \"web\"\nretry = { replay = \"all\" }", &[("unknown_value", 7, 21)]),
        ("cluster = \"web\"\nretry = { backoff = \"2s\", backoff_max = \"1s\" }", &[("out_of_range", 7, 42)]),
        ("cluster = \"web\"\nloose_path = \"alow\"", &[("unknown_value", 7, 15)]),
        (
            "cluster = \"web\"\ntimeout = { connect = \"1s\", connect_try = \"2s\" }",
            &[("timeout_conflict", 7, 44)],
        ),
        ("cluster = \"web\"\nupgrades = [\"h2c\"]", &[("bad_protocol", 7, 14)]),
        ("cluster = \"web\"\nupgrades = [\"HTTP/2.0\"]", &[("bad_protocol", 7, 14)]),
        ("cluster = \"web\"\nupgrades = [\"a b\"]", &[("bad_protocol", 7, 14)]),
        ("cluster = \"web\"\nupgrades = [\"a/\"]", &[("bad_protocol", 7, 14)]),
        ("cluster = \"web\"\nupgrades = []", &[("empty_list", 7, 12)]),
        ("cluster = \"web\"\nconnect = []", &[("empty_list", 7, 11)]),
        ("cluster = \"web\"\nconnect = [0, 65536]", &[("bad_port", 7, 12), ("bad_port", 7, 15)]),
        ("cluster = \"web\"\nconnect = [\"443\"]", &[("wrong_type", 7, 13)]),
        ("cluster = \"web\"\nconnect = [443]\npath = \"/\"", &[("no_meaning", 7, 12)]),
        ("cluster = \"web\"\nconnect = [443]\nmethods = [\"GET\"]", &[("no_meaning", 7, 12)]),
        ("respond = {}\nconnect = [443]", &[("no_meaning", 7, 12)]),
        ("cluster = \"web\"\nclient_cert = { name = \"a\" }", &[("bad_client_cert", 7, 17)]),
        ("cluster = \"web\"\nclient_cert = { fingerprint = \"ab:cd\" }", &[("bad_client_cert", 7, 32)]),
        ("cluster = \"web\"\nclient_cert = { uri = \"a\" }", &[("client_cert_unasked", 5, 1)]),
        (
            "cluster = \"web\"\nlimit = [{ rate = \"1/s\", key = \"client_cert:name\" }]",
            &[("bad_limit_key", 7, 33)],
        ),
        ("cluster = \"web\"\ntimeout = { tunnel = \"0s\" }", &[("out_of_range", 7, 23)]),
        ("cluster = \"web\"\ntimeout = { first-byte = \"1s\" }", &[("unknown_key", 7, 13)]),
        (
            "cluster = \"web\"\npath = { exact = \"/a\" }\nrewrite = { prefix = \"/b\" }",
            &[("needs_prefix", 8, 23)],
        ),
        ("cluster = \"web\"\nrewrite = { host = \"a b\" }", &[("bad_host", 7, 21)]),
    ];
    check_routes(rows);
}

#[test]
fn header_edits_and_admission() {
    let rows: &[Row] = &[
        ("cluster = \"web\"\nrequest_headers = { set = { Host = \"x\" } }", &[("protected_field", 7, 29)]),
        ("cluster = \"web\"\nrequest_headers = { remove = [\"TE\"] }", &[("protected_field", 7, 32)]),
        (
            "cluster = \"web\"\nresponse_headers = { add = { Content-Length = \"1\" } }",
            &[("protected_field", 7, 30)],
        ),
        ("cluster = \"web\"\nrequest_headers = { set = { A = \"x\\ny\" } }", &[("bad_field_value", 7, 34)]),
        (
            "cluster = \"web\"\nrequest_headers = { set = { X-Request-Id = \"x\" } }",
            &[("protected_field", 7, 29)],
        ),
        (
            "cluster = \"web\"\nrequest_headers = { add = { X-Forwarded-For = \"x\" } }",
            &[("protected_field", 7, 29)],
        ),
        (
            "cluster = \"web\"\nrequest_headers = { remove = [\"X-Forwarded-Proto\"] }",
            &[("protected_field", 7, 32)],
        ),
        (
            "cluster = \"web\"\nrequest_headers = { add = { X-Forwarded-Host = \"x\" } }",
            &[("protected_field", 7, 29)],
        ),
        ("cluster = \"web\"\nrequest_headers = { set = { X-Forwarded-Proto = \"https\" } }", &[]),
        ("cluster = \"web\"\nrequest_headers = { remove = [\"Via\", \"X-Forwarded-Client-Cert\"] }", &[]),
        ("cluster = \"web\"\nallow = { clients = [] }", &[("empty_list", 7, 21)]),
        ("cluster = \"web\"\nallow = { clients = [\"10.0.0.1/8\"] }", &[("bad_network", 7, 23)]),
        ("cluster = \"web\"\ndeny = { clients = [\"::ffff:10.0.0.0/104\"] }", &[("bad_network", 7, 22)]),
        ("cluster = \"web\"\nallow = { hosts = [\"a.b:80\"] }", &[("bad_host", 7, 21)]),
        ("cluster = \"web\"\nallow = { hosts = [\"*\"] }", &[("bad_host", 7, 21)]),
        ("cluster = \"web\"\nallow = { methods = [\"get\"] }", &[("bad_method", 7, 23)]),
        ("cluster = \"web\"\nallow = { content_types = [\"json\"] }", &[("bad_media_type", 7, 29)]),
        ("cluster = \"web\"\nallow = { content_types = [\"*/*\"] }", &[("bad_media_type", 7, 29)]),
        ("cluster = \"web\"\nallow = { content_types = [\"a/b;c=d\"] }", &[("bad_media_type", 7, 29)]),
        ("cluster = \"web\"\nallow = { headers = [\"Host\"] }", &[("protected_field", 7, 23)]),
        ("cluster = \"web\"\ndeny = { headers = [\"Transfer-Encoding\"] }", &[("protected_field", 7, 22)]),
        ("cluster = \"web\"\ndeny = { headers = [\"X_Forwarded_For\"] }", &[("protected_field", 7, 22)]),
        ("cluster = \"web\"\ndeny = { headers = [\"*\"] }", &[("bad_field_name", 7, 22)]),
        ("cluster = \"web\"\ndeny = { headers = [\"a*b\"] }", &[("bad_field_name", 7, 22)]),
        ("cluster = \"web\"\ndeny = { methods = [\"GET\"] }", &[("unknown_key", 7, 10)]),
        ("cluster = \"web\"\nallow = { client = [\"10.0.0.1\"] }", &[("unknown_key", 7, 11)]),
        ("cluster = \"web\"\ndenied_headers = \"drop\"", &[("unknown_value", 7, 19)]),
        ("cluster = \"web\"\nhead_limit = \"1B\"", &[("out_of_range", 7, 15)]),
        ("cluster = \"web\"\nfields_limit = 0", &[("out_of_range", 7, 16)]),
        ("redirect = {}", &[("redirect_to_itself", 6, 12)]),
        ("redirect = { strip_query = true }", &[("redirect_to_itself", 6, 12)]),
        ("redirect = { status = 304, path = \"/a\" }", &[("bad_status", 6, 23)]),
        ("redirect = { status = 200, path = \"/a\" }", &[("out_of_range", 6, 23)]),
        ("redirect = { scheme = \"ftp\" }", &[("unknown_value", 6, 24)]),
        ("redirect = { path = \"/a\", prefix = \"/b\" }", &[("one_of", 6, 37)]),
        ("redirect = { path = \"/a\" }\nupgrades = [\"websocket\"]", &[("no_meaning", 7, 14)]),
        ("redirect = { path = \"/a\" }\ngrpc_web = true", &[("no_meaning", 7, 12)]),
        ("cluster = \"web\"\ngrpc_web = true", &[("needs_http2", 7, 12)]),
        ("redirect = { path = \"/a\" }\nrewrite = { host = \"b\" }", &[("no_meaning", 7, 11)]),
        ("respond = { status = 600 }", &[("out_of_range", 6, 22)]),
        ("respond = { status = 204, body = \"x\" }", &[("no_meaning", 6, 35)]),
        ("cluster = \"web\"\nname = \"a b\"", &[("bad_name", 7, 9)]),
        (
            "cluster = \"web\"\nname = \"x\"\n[[route]]\ncluster = \"web\"\npath = \"/b\"\nname = \"x\"",
            &[("duplicate_route", 11, 9)],
        ),
        ("cluster = \"web\"\n[[route]]\ncluster = \"web\"\npath = \"/\"", &[("unreachable_route", 7, 1)]),
    ];
    check_routes(rows);
}

/// Rows of lines behind a cluster `a`.
#[test]
fn affinity_mirrors_and_faults() {
    let rows: &[Row] = &[
        ("affinity = { cookie = \"srv\" }", &[]),
        ("affinity = { header = \"X-Srv\", lifetime = \"1h\" }", &[]),
        ("affinity = true", &[("wrong_type", 5, 12)]),
        ("[[route]]\ncluster = \"a\"\nfaults = {}", &[("missing_key", 7, 10)]),
        ("[[route]]\ncluster = \"a\"\nmirror = {}", &[("missing_key", 7, 10)]),
        ("[[route]]\ncluster = \"a\"\nmirror = { cluster = \"b\" }", &[("unknown_cluster", 7, 23)]),
        ("[[route]]\ncluster = \"a\"\nmirror = { cluster = \"a\" }", &[("conflict", 7, 23)]),
        ("[[route]]\nrespond = {}\nmirror = { cluster = \"a\" }", &[("no_meaning", 7, 10)]),
        (
            "[[route]]\ncluster = \"a\"\nmirror = { cluster = \"a\", percent = 0 }",
            &[("conflict", 7, 23), ("out_of_range", 7, 37)],
        ),
        (
            "[[route]]\ncluster = \"a\"\nmirror = { cluster = \"a\", body = \"1GiB\" }",
            &[("conflict", 7, 23), ("out_of_range", 7, 35)],
        ),
        ("[[route]]\ncluster = \"a\"\nfaults = { abort = { percent = 1 } }", &[]),
        ("[[route]]\ncluster = \"a\"\nfaults = { abort = {} }", &[("missing_key", 7, 20)]),
        ("[[route]]\ncluster = \"a\"\nfaults = { abort = { percent = 0 } }", &[("out_of_range", 7, 32)]),
        ("[[route]]\ncluster = \"a\"\nfaults = { abort = { percent = 100.01 } }", &[("out_of_range", 7, 32)]),
        (
            "[[route]]\ncluster = \"a\"\nfaults = { abort = { percent = 1, status = 200 } }",
            &[("out_of_range", 7, 44)],
        ),
        (
            "[[route]]\ncluster = \"a\"\nfaults = { delay = { percent = 1, time = \"2m\" } }",
            &[("out_of_range", 7, 43)],
        ),
        ("[[route]]\ncluster = \"a\"\nfaults = { delay = { percent = 1 } }", &[("missing_key", 7, 20)]),
        ("affinity = {}", &[("one_of", 5, 12)]),
        ("affinity = { cookie = \"srv\", header = \"x-srv\" }", &[("one_of", 5, 12)]),
        ("affinity = { cookie = \"s r\" }", &[("bad_cookie", 5, 24)]),
        ("affinity = { cookie = \"srv\", path = \"a\" }", &[("bad_path", 5, 38)]),
        ("affinity = { cookie = \"srv\", path = \"/;\" }", &[("bad_path", 5, 38)]),
        ("affinity = { cookie = \"srv\", same_site = \"none\" }", &[("needs_secure", 5, 43)]),
        ("affinity = { cookie = \"srv\", same_site = \"none\", secure = true }", &[]),
        ("affinity = { cookie = \"srv\", same_site = \"Lax\" }", &[("unknown_value", 5, 43)]),
        ("affinity = { cookie = \"__Host-srv\" }", &[("needs_secure", 5, 24)]),
        ("affinity = { cookie = \"__Secure-srv\", secure = true }", &[]),
        ("affinity = { cookie = \"srv\", lifetime = \"10ms\" }", &[("out_of_range", 5, 42)]),
        ("affinity = { cookie = \"srv\", key = \"k\" }", &[("unknown_secret", 5, 37)]),
        ("affinity = { header = \"Cookie\" }", &[("protected_field", 5, 24)]),
        ("affinity = { header = \"x_srv\" }", &[("protected_field", 5, 24)]),
        ("affinity = { header = \"x-srv\", path = \"/\" }", &[("no_meaning", 5, 40)]),
        ("affinity = { cookie = \"srv\" }\nshard = { by = \"client\" }", &[("conflict", 5, 12)]),
    ];
    for (lines, want) in rows {
        let text = format!("[cluster.a]\nendpoints = [\"1.1.1.1:1\"]\n{lines}");
        let found = found(&text);
        let have: Vec<_> = found.iter().map(|d| (d.code, d.line, d.column)).collect();
        assert_eq!(have, *want, "\n{text}");
    }
}

#[test]
fn auth() {
    let named = "[users.staff]\nfile = \"s\"\n[api_keys.some]\nfile = \"k\"\n";
    for (words, code) in [
        ("", "missing_key"),
        ("realm = \"x\"", "missing_key"),
        ("users = \"stuff\"", "unknown_secret"),
        ("users = \"/etc/passwd\"", "unknown_secret"),
        ("api_keys = \"staff\"", "unknown_secret"),
        ("users = \"staff\", realm = \"a\\\"b\"", "bad_text"),
        ("users = \"staff\", api_key_header = \"X-K\"", "no_meaning"),
        ("api_keys = \"some\", api_key_header = \"Host\"", "protected_field"),
        ("api_keys = \"some\", api_key_header = \"x_key\"", "protected_field"),
        ("users = \"staff\", id_header = \"X-Forwarded-For\"", "protected_field"),
        ("users = \"staff\", id_header = \"authorization\"", "protected_field"),
        ("users = \"staff\", id_header = \"a b\"", "bad_field_name"),
        ("users = \"staff\", hide_credentials = 1", "wrong_type"),
    ] {
        let text = format!("{named}{}", route(&format!("cluster = \"web\"\nauth = {{ {words} }}")));
        let found = found(&text);
        let have: Vec<_> = found.iter().map(|d| (d.code, d.line)).collect();
        assert_eq!(have, [(code, 11)], "{words}\n{found:?}");
    }
    check(&[
        ("limit = [{ rate = \"1/s\", key = \"api_key\" }]", &[("bad_limit_key", 3, 33)]),
        ("[users.a]\napps = []", &[("missing_key", 3, 1)]),
        ("[api_keys.\"a b\"]\nfile = \"f\"", &[("bad_name", 3, 12)]),
    ]);
}

#[test]
fn tokens() {
    let good = ["jwks_file = \"k\"", "issuer = \"i\"", "audience = [\"a\"]", "algorithms = [\"ES256\"]"];
    let issuer = |lines: &[&str]| format!("[jwt.corp]\n{}\n", lines.join("\n"));
    let codes = |text: &str| found(text).iter().map(|d| (d.code, d.line)).collect::<Vec<_>>();
    assert_eq!(codes(&issuer(&good)), []);
    let but = |at: usize, line: &'static str| {
        let mut lines = good;
        lines[at] = line;
        issuer(&lines)
    };
    for (at, line, code, place) in [
        (0, "", "one_of", 3),
        (0, "jwks_file = \"k\"\njwks_url = \"https://a/\"", "one_of", 3),
        (0, "jwks_file = \"k\"\nca = \"x\"", "no_meaning", 5),
        (0, "jwks_url = \"https://a/\"\nca = \"x\"", "unknown_ca", 5),
        (0, "jwks_url = \"ftp://a/\"", "bad_url", 4),
        (0, "jwks_url = \"/keys\"", "bad_url", 4),
        (0, "jwks_url = \"https://u@a/\"", "bad_url", 4),
        (1, "", "missing_key", 3),
        (2, "", "missing_key", 3),
        (2, "audience = []", "empty_list", 6),
        (3, "algorithms = [\"none\"]", "unknown_value", 7),
        (3, "algorithms = [\"ES256\", \"HS256\"]", "conflict", 7),
        (3, "algorithms = []", "empty_list", 7),
        (3, "algorithms = [\"ES256\"]\nleeway = \"1h\"", "out_of_range", 8),
    ] {
        assert_eq!(codes(&but(at, line)), [(code, place)], "{line}");
    }
    let shared = issuer(&["jwks_url = \"https://a/\"", good[1], good[2], "algorithms = [\"HS256\"]"]);
    assert_eq!(codes(&shared), [("conflict", 7)]);
    for (words, code) in [
        ("jwt = \"crop\"", "unknown_secret"),
        ("jwt = \"corp\", claims = { Host = \"sub\" }", "protected_field"),
        ("jwt = \"corp\", claims = { \"X-Real_Ip\" = 1 }", "wrong_type"),
        ("jwt = \"corp\", require = { a = [] }", "empty_list"),
        ("api_keys = \"k\", require = { a = \"b\" }", "no_meaning"),
    ] {
        let keys = "[api_keys.k]\nfile = \"f\"\n";
        let text =
            format!("{}{keys}{}", issuer(&good), route(&format!("cluster = \"web\"\nauth = {{ {words} }}")));
        assert_eq!(codes(&text), [(code, 14)], "{words}");
    }
}

#[test]
fn conditions_on_claims() {
    let codes = |text: &str| found(text).iter().map(|d| (d.code, d.line)).collect::<Vec<_>>();
    let issuer = |name: &str| {
        format!(
            "[jwt.{name}]\njwks_file = \"k\"\nissuer = \"i\"\naudience = [\"a\"]\nalgorithms = [\"ES256\"]\n"
        )
    };
    let one = |words: &str| format!("{}{}", issuer("corp"), route(&format!("cluster = \"web\"\n{words}")));
    assert_eq!(codes(&one("auth = { jwt = \"corp\" }\nclaims = { \"realm.roles\" = \"buyer\" }")), []);
    for (words, code, line) in [
        ("claims = { a = \"b\" }", "claims_without_jwt", 12),
        ("auth = \"off\"\nclaims = { a = \"b\" }", "claims_without_jwt", 13),
        ("auth = { jwt = \"crop\" }\nclaims = { a = \"b\" }", "unknown_secret", 12),
        ("auth = { jwt = \"corp\" }\nclaims = { a = {} }", "one_of", 13),
        ("auth = { jwt = \"corp\" }\nclaims = { a = [\"b\"] }", "wrong_type", 13),
        ("auth = { jwt = \"corp\" }\nclaims = { a = { regex = \"(\" } }", "bad_regex", 13),
    ] {
        assert_eq!(codes(&one(words)), [(code, line)], "{words}");
    }
    // Each is tried before the route is known.
    let routes = |count: usize| {
        let issuers: String = (0..count).map(|at| issuer(&format!("i{at}"))).collect();
        let routes = (0..count).map(|at| {
            format!("[[route]]\ncluster = \"web\"\npath = \"/{at}\"\nauth = {{ jwt = \"i{at}\" }}\nclaims = {{ a = \"b\" }}\n")
        });
        issuers + &route("cluster = \"web\"") + "\n" + &routes.collect::<String>()
    };
    assert_eq!(codes(&routes(4)), []);
    assert_eq!(codes(&routes(5)).iter().map(|found| found.0).collect::<Vec<_>>(), ["too_many_issuers"]);
}

#[test]
fn authorizers() {
    let rows = [
        ("", "missing_key"),
        ("cluster = \"wbe\"", "unknown_cluster"),
        ("cluster = \"web\", path = \"auth\"", "bad_path"),
        ("cluster = \"web\", path = \"/a b\"", "bad_path"),
        ("cluster = \"web\", timeout = \"2h\"", "out_of_range"),
        ("cluster = \"web\", fail = \"opne\"", "unknown_value"),
        ("cluster = \"web\", headers = [\"a b\"]", "bad_field_name"),
        ("cluster = \"web\", returns = [\"Content-Length\"]", "protected_field"),
        ("cluster = \"web\", returns = [\"X_Forwarded_For\"]", "protected_field"),
        ("cluster = \"web\", body = { max = \"1MiB\" }", "out_of_range"),
        ("cluster = \"web\", body = { max = \"0B\" }", "out_of_range"),
        ("cluster = \"web\", body = { over = \"cut\" }", "unknown_value"),
        ("cluster = \"web\", body = true", "wrong_type"),
        ("cluster = \"web\", grpc = true", "needs_http2"),
        ("cluster = \"web\", grpc = true, path = \"/\"", "conflict"),
    ];
    for (words, code) in rows {
        let found = found(&route(&format!("cluster = \"web\"\nauthorizer = {{ {words} }}")));
        assert_eq!(found.iter().map(|d| (d.code, d.line)).collect::<Vec<_>>(), [(code, 7)], "{words}");
    }
}

#[test]
fn cors() {
    let row = |words: &str| format!("cluster = \"web\"\ncors = {{ {words} }}");
    for (words, code, column) in [
        ("", "missing_key", 8),
        ("origins = []", "empty_list", 20),
        ("origins = [\"a.example\"]", "bad_origin", 22),
        ("origins = [\"https://a.example/\"]", "bad_origin", 22),
        ("origins = [\"HTTPS://a.example\"]", "bad_origin", 22),
        ("origins = [\"ftp://a.example\"]", "bad_origin", 22),
        ("origins = [\"https://u@a.example\"]", "bad_origin", 22),
        ("origins = [\"https://a.example:0\"]", "bad_origin", 22),
        ("origins = [\"https://a.example:65536\"]", "bad_origin", 22),
        ("origins = [\"https://a.example:*\"]", "bad_origin", 22),
        ("origins = [\"https://*\"]", "bad_origin", 22),
        ("origins = [\"https://*.com\"]", "bad_origin", 22),
        ("origins = [\"https://a.*.example\"]", "bad_origin", 22),
        ("origins = [\"https://*a.example\"]", "bad_origin", 22),
        ("origins = [\"https://*.*.a.example\"]", "bad_origin", 22),
        ("origins = [\"https://*.1.2.3.4\"]", "bad_origin", 22),
        ("origins = [\"null\"]", "bad_origin", 22),
        ("origins = [\"*\", \"https://a.example\"]", "conflict", 22),
        ("origins = [\"*\"], credentials = true", "cors_star", 22),
        ("origins = [\"https://a.b\"], credentials = true, expose = [\"*\"]", "cors_star", 68),
        ("origins = [\"*\"], methods = [\"put\"]", "bad_method", 39),
        ("origins = [\"*\"], methods = [\"*\", \"PUT\"]", "conflict", 39),
        ("origins = [\"*\"], headers = [\"a b\"]", "bad_field_name", 39),
        ("origins = [\"*\"], max_age = \"25h\"", "out_of_range", 38),
    ] {
        let text = route(&row(words));
        let found = found(&text);
        let have: Vec<_> = found.iter().map(|d| (d.code, d.line, d.column)).collect();
        assert_eq!(have, [(code, 7, column)], "{words}\n{found:?}");
    }
}

#[test]
fn without_a_listener() {
    for text in ["", "\n", "# nothing\n", "[listener]\n"] {
        let found = build_one(&toml(text)).unwrap_err();
        assert_eq!(codes(&found), ["missing_listener"], "{text:?}");
        assert!(found[0].help.as_ref().is_some_and(|help| help.contains("[listener.edge]")), "{text:?}");
    }
    assert_eq!(codes(&build_one(&source("a.yaml", "", Format::Yaml)).unwrap_err()), ["missing_listener"]);
    assert_eq!(codes(&build_one(&source("a.json", "{}", Format::Json)).unwrap_err()), ["missing_listener"]);
    assert_eq!(codes(&build_one(&source("a.json", "", Format::Json)).unwrap_err()), ["syntax"]);
}

#[test]
fn did_you_mean() {
    for (text, help) in [
        (route("cluster = \"wbe\""), "did you mean `web`?"),
        (route("cluster = \"web\"\nlisteners = [\"egde\"]"), "did you mean `edge`?"),
        (route("cluster = \"web\"\npaht = \"/\""), "did you mean `path`?"),
        (route("upstream = \"web\"\nrespond = {}"), "did you mean `cluster`?"),
        ("[cluster.web]\nservers = []".to_owned(), "did you mean `endpoints`?"),
        ("role = \"egde\"".to_owned(), "did you mean \"edge\"?"),
        (route("cluster = \"web\"\npath = \"/%7ea%2f\""), "write `/~a%2F`"),
        (route("cluster = \"web\"\nmethods = [\"get\"]"), "did you mean \"GET\"?"),
        (route("cluster = \"nothing-like-it\""), "known: `web`"),
    ] {
        let found = found(&text);
        let said = found[0].help.clone().unwrap_or_default();
        assert!(said.contains(help), "{text}\n{said}");
    }
}

#[test]
fn every_error_in_one_run() {
    let text = "\
[listener.edge]
address = \"127.0.0.1\"
rle = \"edge\"

[cluster.web]
endpoints = [\"1.1.1.1:1\", 7]
probe = { path = \"x\" }

[[route]]
host = \"a b\"
path = \"b\"
cluster = \"wbe\"
timeout = { connect = 5 }
";
    let apps = [app("shop", "[listener.x]\n[[route]]\ncluster = \"a\"\n")];
    let none = HostOwners::default();
    let input = Input { main: &toml(text), apps: &apps, previous: None, hosts: &none };
    let found = build(input).unwrap_err();
    let have: Vec<_> = found.iter().map(|d| (d.file.as_str(), d.code, d.line)).collect();
    let main = "ekiden.toml";
    assert_eq!(
        have,
        [
            (main, "bad_address", 2),
            (main, "unknown_key", 3),
            (main, "wrong_type", 6),
            (main, "bad_path", 7),
            (main, "bad_host", 10),
            (main, "bad_path", 11),
            (main, "unknown_cluster", 12),
            (main, "wrong_type", 13),
            ("apps.d/shop.toml", "unknown_key", 1),
            ("apps.d/shop.toml", "unknown_cluster", 3),
        ]
    );
    assert!(found[8].help.as_ref().is_some_and(|help| help.starts_with("only the process file")));
}

#[test]
fn rendering() {
    let found = found("[[route]]\n\tcluster = \"w\u{e9}b\" # x\n");
    let want = "\
error[unknown_cluster]: there is no cluster `w\u{e9}b`
 --> ekiden.toml:4:13
  |
4 | \tcluster = \"w\u{e9}b\" # x
  | \t           ^^^";
    assert_eq!(found[0].to_string(), want);
    let json = found[0].to_json();
    assert_eq!(json["code"], "unknown_cluster");
    assert_eq!((json["line"].as_u64(), json["column"].as_u64()), (Some(4), Some(13)));
    assert_eq!(json["severity"], "error");
    assert_eq!(json["source_line"], "\tcluster = \"w\u{e9}b\" # x");
}

#[test]
fn a_long_line_is_cut_around_the_caret() {
    let text =
        format!("{{\"a\": \"{}\", \"listener\": 7, \"b\": \"{}\"}}", "x".repeat(5000), "y".repeat(5000));
    let found = build_one(&source("a.json", &text, Format::Json)).unwrap_err();
    let at = found.iter().find(|d| d.code == "wrong_type").unwrap();
    assert!(at.source_line.chars().count() <= crate::diagnostic::LINE_MAX);
    assert_eq!(at.source_line.chars().nth(at.caret), Some('7'));
}

#[test]
fn findings_are_bounded() {
    let text: String = (0..3000).map(|i| format!("k{i} = 1\n")).collect();
    let found = build_one(&toml(&format!("{text}{LISTENER}"))).unwrap_err();
    assert_eq!(found.len(), crate::diagnostic::FINDINGS_MAX);
    assert!(found.last().unwrap().help.as_ref().unwrap().contains("2000 more"));
}

#[test]
fn too_many_regexes() {
    let routes: String =
        (0..1001).map(|i| format!("[[route]]\npath = {{ regex = \"/{i}\" }}\nrespond = {{}}\n")).collect();
    assert_eq!(codes(&found(&routes)), ["too_many_regexes"]);
}

#[test]
fn other_formats_have_places_too() {
    for (format, text, want) in [
        (Format::Yaml, "listener:\n  edge:\n    adress: 1.1.1.1:1\n", vec![("unknown_key", 3, 5)]),
        (Format::Yaml, "a: [1\n", vec![("syntax", 1, 4)]),
        (Format::Yaml, "a: 1\na: 2\n", vec![("duplicate_key", 2, 1)]),
        (Format::Yaml, "a: &x 1\n", vec![("unsupported_yaml", 1, 7)]),
        (Format::Yaml, "a: !t 1\n", vec![("unsupported_yaml", 1, 7)]),
        (Format::Yaml, "a: 1\n---\nb: 1\n", vec![("unsupported_yaml", 2, 1)]),
        (Format::Yaml, "- 1\n", vec![("wrong_type", 1, 1)]),
        (Format::Json, "{\"a\": 1,}", vec![("syntax", 1, 9)]),
        (Format::Json, "{\"a\": 01}", vec![("syntax", 1, 7)]),
        (Format::Json, "{\"a\": 1, \"a\": 2}", vec![("duplicate_key", 1, 10)]),
        (Format::Json, "{} x", vec![("syntax", 1, 4)]),
        (Format::Json, "{\"a\": \"\\ud800\"}", vec![("syntax", 1, 8)]),
        (Format::Json, "{\n \"listener\": null}", vec![("wrong_type", 2, 14)]),
        (Format::Json, "[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[", vec![("too_deep", 1, 34)]),
    ] {
        let found = build_one(&source("a", text, format)).unwrap_err();
        let have: Vec<_> = found.iter().map(|d| (d.code, d.line, d.column)).collect();
        assert_eq!(have, want, "{text}");
    }
}

#[test]
fn listeners_that_carry_no_http() {
    let raw = "[listener.t]\naddress = \"127.0.0.1:1\"\nprotocol = \"tcp\"\n\
               [listener.s]\naddress = \"127.0.0.1:2\"\nprotocol = \"tls-passthrough\"\n\
               [cluster.a]\nendpoints = [\"1.1.1.1:1\"]\n[[route]]\ncluster = \"a\"\n";
    for (keys, codes) in [
        ("listeners = [\"t\"]", &[][..]),
        ("listeners = [\"t\", \"s\"]", &[]),
        ("listeners = [\"s\"]\nhost = \"*.example.com\"", &[]),
        ("listeners = [\"t\", \"edge\"]", &["mixed_listeners"]),
        ("listeners = [\"t\"]\nhost = \"a\"", &["no_meaning"]),
        ("listeners = [\"t\", \"s\"]\nhost = \"a\"", &["no_meaning"]),
        ("listeners = [\"s\"]\npath = \"/a\"\nmethods = [\"GET\"]", &["no_meaning", "no_meaning"]),
        ("listeners = [\"t\"]\nupgrades = \"off\"", &["no_meaning"]),
        ("listeners = [\"t\"]\nconnect = [443]", &["no_meaning"]),
        ("listeners = [\"t\"]\nclient_cert = { dns = \"a\" }", &["no_meaning"]),
        ("listeners = [\"t\"]\nauth = \"off\"\ncors = \"off\"", &[]),
        ("listeners = [\"t\"]\ncors = { origins = [\"*\"] }", &["no_meaning"]),
        ("listeners = [\"t\"]\n[cluster.b]\nprotocol = \"h2\"\nendpoints = [\"1.1.1.1:1\"]", &[]),
    ] {
        let have: Vec<_> = found(&format!("{raw}{keys}")).iter().map(|found| found.code).collect();
        assert_eq!(have, codes, "{keys}");
    }
    // Credentials of the app: a route of bytes must open itself.
    let asking = format!("authorizer = {{ cluster = \"a\" }}\n{LISTENER}{raw}listeners = [\"t\"]\n");
    for (keys, codes) in [("", &["no_meaning"][..]), ("authorizer = \"off\"", &[])] {
        let have = match build_one(&toml(&format!("{asking}{keys}"))) {
            Ok(built) => built.diagnostics,
            Err(found) => found,
        };
        assert_eq!(have.iter().map(|found| found.code).collect::<Vec<_>>(), codes, "{keys}");
    }
}

#[test]
fn bytes_that_are_no_http_go_to_no_stream_of_http2() {
    let raw = "[listener.t]\naddress = \"127.0.0.1:1\"\nprotocol = \"tcp\"\n\
               [cluster.a]\nendpoints = [\"1.1.1.1:1\"]\nprotocol = \"h2\"\n[[route]]\ncluster = \"a\"\n";
    for (keys, codes) in [("listeners = [\"t\"]", &["no_meaning"][..]), ("listeners = [\"edge\"]", &[])] {
        let have: Vec<_> = found(&format!("{raw}{keys}")).iter().map(|found| found.code).collect();
        assert_eq!(have, codes, "{keys}");
    }
}
