//! A real nginx as endpoint: what its own protocol habits do to a router between it and a client.
//!
//! Needs the Debian package `nginx` or `nginx-light`. Without it these tests fail where `CI` is set and say so elsewhere.

use std::collections::BTreeSet;
use std::fs;
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::Command;

use ekiden_tests::{
    Background, Ekiden, InProcess, Load, Refused, Served, Setup, Tally, free_port, pattern, until,
    until_true, web,
};
use tempfile::TempDir;

const BIG: usize = 1 << 20;
/// Idempotent requests only: those a router may send twice.
const IDEMPOTENT: &[&str] = &[
    "GET /small HTTP/1.1\r\nHost: a\r\n\r\n",
    "GET /chunked.html HTTP/1.1\r\nHost: a\r\n\r\n",
    "GET /medium HTTP/1.1\r\nHost: a\r\n\r\n",
];

/// The program, if it is there.
pub(crate) fn installed() -> Option<PathBuf> {
    let path = std::env::var("PATH").unwrap_or_default() + ":/usr/sbin:/usr/local/sbin";
    let found = path.split(':').map(|dir| PathBuf::from(dir).join("nginx")).find(|file| file.is_file());
    if found.is_none() {
        assert!(std::env::var_os("CI").is_none(), "nginx is missing: apt-get install nginx-light");
        eprintln!("LEFT OUT: nginx is missing; `apt-get install nginx-light` brings it");
    }
    found
}

/// A running nginx with its files.
struct Nginx {
    program: PathBuf,
    address: SocketAddr,
    dir: TempDir,
    process: Option<Background>,
}

impl Nginx {
    fn start() -> Option<Self> {
        let (program, dir) = (installed()?, TempDir::new().unwrap());
        let address = SocketAddr::from(([127, 0, 0, 1], free_port()));
        fs::write(dir.path().join("small"), "small").unwrap();
        fs::write(dir.path().join("medium"), pattern(10 << 10)).unwrap();
        fs::write(dir.path().join("big"), pattern(BIG)).unwrap();
        // Server side includes make the length unknown, so that nginx sends chunks.
        fs::write(
            dir.path().join("chunked.html"),
            "<!--#echo var=\"request_method\" -->".to_owned() + &"x".repeat(5000),
        )
        .unwrap();
        let root = dir.path().display();
        let text = format!(
            "daemon off; worker_processes 2; pid {root}/pid; error_log stderr; user root;\n\
             events {{ worker_connections 1024; }}\n\
             http {{ access_log off; default_type text/plain; keepalive_requests 100000;\n\
               types {{ text/html html; }}\n\
               client_body_temp_path {root}/b; proxy_temp_path {root}/p; fastcgi_temp_path {root}/f;\n\
               uwsgi_temp_path {root}/u; scgi_temp_path {root}/s;\n\
               server {{ listen {address}; root {root}; ssi on; client_max_body_size 8m;\n\
                 add_header X-Connection $connection; add_header X-Turn $connection_requests;\n\
                 location /short {{ keepalive_timeout 1s; keepalive_requests 3; try_files /small =404; }} }} }}\n"
        );
        fs::write(dir.path().join("nginx.conf"), text).unwrap();
        let mut this = Self { program, address, dir, process: None };
        this.run();
        Some(this)
    }

    fn run(&mut self) {
        let mut command = Command::new(&self.program);
        command.arg("-c").arg(self.dir.path().join("nginx.conf")).arg("-p").arg(self.dir.path());
        self.process = Some(Background::start(command.args(["-e", "stderr"])));
        until("nginx", || TcpStream::connect(self.address).ok());
    }

    /// Process ids of its workers.
    fn workers(&self) -> BTreeSet<String> {
        let id = self.process.as_ref().unwrap().id();
        let children = fs::read_to_string(format!("/proc/{id}/task/{id}/children")).unwrap();
        children.split_whitespace().map(str::to_owned).collect()
    }

    /// Reloads it; returns when the last of its old workers has ended, so that the next disturbance is another one.
    fn reload(&self) {
        let old = self.workers();
        self.process.as_ref().unwrap().signal(libc::SIGHUP);
        until_true("new workers of nginx", || {
            let now = self.workers();
            now.len() >= 2 && now.is_disjoint(&old)
        });
    }

    /// Ends it the fast way (SIGTERM), connections and all.
    fn stop(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.signal(libc::SIGTERM);
            process.wait();
        }
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        // Killing the master would leave its workers behind.
        self.stop();
    }
}

fn serve(nginx: &Nginx) -> InProcess {
    InProcess::start(Setup::new(web(&[nginx.address], "", "")))
}

#[test]
fn connections_are_reused_also_when_nginx_limits_them() {
    let Some(nginx) = Nginx::start() else { return };
    let router = serve(&nginx);
    let mut connections = BTreeSet::new();
    for _ in 0..50 {
        // A client connection each: reuse must not hang on the client's.
        let response = router.get("/small");
        assert_eq!((response.status, response.text().as_str()), (200, "small"));
        connections.insert(response.get("x-connection").unwrap().to_owned());
    }
    assert_eq!(connections.len(), 1, "a new upstream connection per request costs CPU and ports");
    // nginx ends a connection after three of these; none of ten requests may be lost by that.
    let mut client = router.client();
    for turn in 0..10 {
        let response = client.get("a", "/short");
        assert_eq!((response.status, response.text().as_str()), (200, "small"), "turn {turn}: {response:?}");
    }
}

#[test]
fn bodies_heads_and_ranges_come_through() {
    let Some(nginx) = Nginx::start() else { return };
    let router = serve(&nginx);
    let mut client = router.client();

    let whole = client.get("a", "/big");
    assert_eq!((whole.status, whole.get("content-length")), (200, Some("1048576")));
    assert!(whole.body == pattern(BIG), "a download is damaged");
    let (etag, kind) = (whole.get("etag").unwrap().to_owned(), whole.get("content-type").map(str::to_owned));
    assert_eq!(kind.as_deref(), Some("text/plain"));

    let chunked = client.get("a", "/chunked.html");
    assert_eq!((chunked.status, chunked.get("transfer-encoding")), (200, Some("chunked")));
    assert_eq!(chunked.text(), "GET".to_owned() + &"x".repeat(5000));

    let head = client.ask("HEAD /big HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(
        (head.status, head.get("content-length")),
        (200, Some("1048576")),
        "HEAD lies about the length"
    );
    let none = client.get("a", "/none");
    assert_eq!((none.status, none.code()), (404, ""), "a 404 of the endpoint looks like one of the router");

    let range = client.ask("GET /big HTTP/1.1\r\nHost: a\r\nRange: bytes=1000-1999\r\n\r\n");
    assert_eq!((range.status, range.get("content-range")), (206, Some("bytes 1000-1999/1048576")));
    assert!(range.body == pattern(BIG)[1000..2000], "a resumed download is damaged");
    let parts = client.ask("GET /big HTTP/1.1\r\nHost: a\r\nRange: bytes=0-1,10-11\r\n\r\n");
    assert_eq!(parts.status, 206);
    let beyond = client.ask("GET /big HTTP/1.1\r\nHost: a\r\nRange: bytes=9999999-\r\n\r\n");
    assert_eq!(beyond.status, 416);
    let same = client.ask(format!("GET /big HTTP/1.1\r\nHost: a\r\nIf-None-Match: {etag}\r\n\r\n"));
    assert_eq!((same.status, same.body.len()), (304, 0), "caches of browsers do not work");

    // nginx answers 405 to a POST on a file and reads on; the connection must stay in step.
    let body = "y".repeat(100_000);
    let post = client.ask(format!("POST /small HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\n{body}"));
    assert_eq!((post.status, post.code()), (405, ""));
    assert_eq!(router.get("/small").text(), "small");
}

#[test]
fn reloads_and_stops_of_an_endpoint_fail_no_idempotent_request() {
    let (Some(steady), Some(mut shaken)) = (Nginx::start(), Nginx::start()) else { return };
    let text = web(&[steady.address, shaken.address], "balance = \"round_robin\"", "");
    let router = Ekiden::start(Setup::new(text).workers(2));
    let load = Load::start(router.address(), 16, IDEMPOTENT, Refused::Fails);
    load.serve_more(200);
    for _ in 0..5 {
        shaken.reload();
        load.serve_more(100);
        steady.reload();
        load.serve_more(100);
    }
    for _ in 0..3 {
        shaken.stop();
        load.serve_more(200);
        shaken.run();
        load.serve_more(200);
    }
    let Tally { served, failed } = load.stop();
    let wanted = usize::try_from(served).unwrap() + failed.len();
    let bad: Vec<String> =
        router.log_lines(wanted).into_iter().filter(|line| !line.contains("\"status\":200")).collect();
    assert!(
        failed.is_empty(),
        "{} requests failed, {served} did not: {failed:#?}\n{}",
        failed.len(),
        bad.join("\n")
    );
    let id = shaken.address.to_string();
    until_true("no request left at the endpoint", || {
        router.metric("ekiden_endpoint_in_flight", &[&format!("endpoint=\"{id}\"")]) == 0.0
    });
    assert!(
        router.metric("ekiden_endpoint_failures_total", &[&id]) > 0.0,
        "nothing happened, so nothing was proved"
    );
}
