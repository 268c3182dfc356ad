//! A rule that closes a path closes it in every spelling: a request is refused, or nginx, which normalises paths in its
//! own way, does not see the closed part.
//!
//! Needs the Debian package `nginx-light`; without it these tests fail.

use std::fs;
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::Command;

use ekiden_tests::{Background, Client, InProcess, Served, Setup, free_port, until, web};
use tempfile::TempDir;

/// An nginx that answers each request with its own normal form of the path, in hex.
struct Mirror {
    address: SocketAddr,
    process: Option<Background>,
    _dir: TempDir,
}

impl Mirror {
    fn start() -> Self {
        let path = std::env::var("PATH").unwrap_or_default() + ":/usr/sbin:/usr/local/sbin";
        let found = path.split(':').map(|dir| PathBuf::from(dir).join("nginx")).find(|file| file.is_file());
        let program = found.expect("nginx is missing: apt-get install nginx-light");
        let (address, dir) = (SocketAddr::from(([127, 0, 0, 1], free_port())), TempDir::new().unwrap());
        let root = dir.path().display();
        let text = format!(
            "daemon off; master_process off; pid {root}/pid; error_log stderr;\n\
             events {{ worker_connections 512; }}\n\
             http {{ access_log off; default_type text/plain; keepalive_requests 1000000;\n\
               client_body_temp_path {root}/b; proxy_temp_path {root}/p; fastcgi_temp_path {root}/f;\n\
               uwsgi_temp_path {root}/u; scgi_temp_path {root}/s;\n\
               server {{ listen {address}; location / {{ return 200 \"$uri\"; }} }} }}\n"
        );
        fs::write(dir.path().join("nginx.conf"), text).unwrap();
        let mut command = Command::new(program);
        command.arg("-c").arg(dir.path().join("nginx.conf")).arg("-p").arg(dir.path()).args(["-e", "stderr"]);
        let process = Some(Background::start(&mut command));
        until("nginx", || TcpStream::connect(address).ok());
        Self { address, process, _dir: dir }
    }
}

impl Drop for Mirror {
    fn drop(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.signal(libc::SIGTERM);
            process.wait();
        }
    }
}

fn is_closed(path: &[u8]) -> bool {
    path == b"/admin" || path.starts_with(b"/admin/")
}

/// What stands before the name.
const BEFORE: &[&str] = &[
    "/",
    "//",
    "/./",
    "/%2e/",
    "/x/../",
    "/x/%2e%2e/",
    "/x/%2E./",
    "/x/.%2e/",
    "/x/..;/",
    "/x/..%2f",
    "/x/%2e%2e%2F",
    "/%2f",
    "/%2F%2f",
    "/;/",
    "/;x/",
    "/;%2fx/",
    "/.;/",
    "/%5c",
    "/x%5c..%5c",
    "/\\",
    "/x/..\\",
    "/%252f",
    "/%252e/",
    "/x/%252e%252e/",
    "/..%252f",
    "/%c0%af",
    "/x/%c0%ae%c0%ae/",
    "/%e0%80%af",
    "/x/%c0%2e%c0%2e/",
    "/%ef%bc%8f",
    "/x/..%00/",
    "/%0d%0a/",
    "/%09",
    "/%20/",
    "/x/.../../../",
    "/../",
    "/%2e%2e/",
    "/x//../",
    "/x///../../",
    "/x/y/../../",
    "/x%2f..%2f",
    "/x/y%2f..%2f../",
    "http://a/",
    "http://a//",
    "HTTP://A/%2e/",
    "http://a/x/%2e%2e/",
    "http://a/x/..;/",
    "/?/../",
    "/x?/",
];

/// How the name is spelled.
const NAME: &[&str] = &[
    "admin",
    "%61dmin",
    "%61%64%6d%69%6E",
    "%61%64%6D%69%6e",
    "adm%69n",
    "%2561dmin",
    "admin.",
    "admin..",
    "admin%2e",
    "admin;",
    "admin;x=y",
    "admin%3b",
    "admin%20",
    "admin%09",
    "admin%00",
    "ADMIN",
    "Admin",
    "%41dmin",
    "admin%c0%ae",
    "admin\\",
    "admin%5c",
    "admin/.",
    "admin/%2e",
    "admin/x/..",
    "admin/x/%2e%2e",
    "admin//",
    "admin%2f",
    "admin/;",
];

/// What follows it.
const AFTER: &[&str] = &[
    "",
    "/",
    "/secret",
    "%2fsecret",
    "//secret",
    "/./secret",
    "/%2e/secret",
    "%2f..;/secret",
    "%2F..%5csecret",
    "%2f..;",
    "/%73ecret",
    "/;/secret",
    "\\secret",
    "?a=/x",
];

/// Targets that someone may hope lead to `/admin/secret`.
fn spellings() -> Vec<String> {
    let mut all = Vec::with_capacity(BEFORE.len() * NAME.len() * AFTER.len());
    for head in BEFORE {
        for middle in NAME {
            all.extend(AFTER.iter().map(|tail| format!("{head}{middle}{tail}")));
        }
    }
    all
}

/// Asks for every target and says how many nginx answered; fails when one of them is of the closed part.
fn none_gets_in(router: &InProcess, targets: &[String]) -> usize {
    let mut passed = 0;
    let mut client = router.client();
    for target in targets {
        client.send(format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n"));
        let response = client.read(false).unwrap_or_else(|lost| panic!("{target}: {lost:?}"));
        if response.says_close() {
            client = Client::connect(router.address());
        }
        match (response.status, response.code()) {
            (200, "") => {
                let seen = String::from_utf8_lossy(&response.body);
                assert!(!is_closed(&response.body), "{target} got in: nginx sees {seen}");
                passed += 1;
            }
            // Refused by the closing rule, by the router's reading of paths, or by nginx's.
            (403, "") | (400, "path_illegal" | "path_ambiguous" | "target_malformed" | "") => {}
            other => panic!("{target}: {other:?}"),
        }
    }
    passed
}

#[test]
fn no_spelling_of_a_path_goes_past_a_rule_that_closes_it() {
    let mirror = Mirror::start();
    let closed = "[[route]]\npath = \"/admin\"\nrespond = { status = 403 }\n";
    let targets = spellings();
    for listener in ["", "merge_slashes = true"] {
        let setup = Setup::new(web(&[mirror.address], "", closed)).listener(listener);
        let router = InProcess::start(setup);
        // The rule is open beside the closed part, or all of this would prove nothing.
        assert_eq!(router.get("/open").text(), "/open");
        assert_eq!(router.get("/administration").text(), "/administration");
        assert_eq!(router.get("/admin/x").status, 403);
        let passed = none_gets_in(&router, &targets);
        assert!(passed > targets.len() / 100, "only {passed} of {} were judged by nginx", targets.len());
    }
}

#[test]
fn nor_past_a_list_of_clients_on_the_path() {
    let mirror = Mirror::start();
    let guarded = "[[route]]\npath = \"/admin\"\ncluster = \"web\"\nallow = { clients = [\"192.0.2.1\"] }\n";
    let router = InProcess::start(Setup::new(web(&[mirror.address], "", guarded)));
    assert_eq!(router.get("/admin").code(), "client_denied");
    let mut client = router.client();
    for target in spellings() {
        client.send(format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n"));
        let response = client.read(false).unwrap_or_else(|lost| panic!("{target}: {lost:?}"));
        if response.says_close() {
            client = Client::connect(router.address());
        }
        assert!(response.status != 200 || !is_closed(&response.body), "{target} got in");
    }
}
