//! The router and the endpoints that most scenarios share: a path for each fault, and short timeouts.

use std::net::SocketAddr;
use std::sync::Mutex;
use std::sync::mpsc::{Receiver, Sender, channel};

use ekiden_tests::{
    Authority, Client, Conn, Ekiden, Origin, SecureOrigin, Setup, cluster, free_port, server_config, until,
};
use rustls::ProtocolVersion;

use crate::retry::black_hole;

/// An endpoint whose accept queue is full, for as long as this lives.
type Hole = (socket2::Socket, Vec<std::net::TcpStream>, SocketAddr);

/// All that runs.
pub(super) struct World {
    pub(super) router: Ekiden,
    /// A second listener, with high least rates.
    demanding: SocketAddr,
    /// A third one, whose clients begin with a header of the PROXY protocol.
    proxied: SocketAddr,
    _origins: [Origin; 3],
    _secure: [SecureOrigin; 2],
    _hole: Hole,
    /// Endpoints that read nothing go on once this is gone.
    _release: Sender<()>,
}

impl World {
    pub(super) fn start() -> Self {
        let (release, wait) = channel();
        let wait = Mutex::new(wait);
        let origin = Origin::start(move |conn| serve(conn, &wait));
        // A first check that is never answered.
        let silent = Origin::start(Conn::until_closed);
        let garbage = Origin::start(|conn| {
            conn.send("SSH-2.0-OpenSSH_9.2\r\n");
            conn.until_closed();
        });
        let (ours, others) = (Authority::new(), Authority::new());
        // Before TLS 1.3 a refusal comes inside the handshake.
        let secure = [(&others, None), (&ours, Some(&others))].map(|(authority, clients)| {
            let made = authority.make(&["127.0.0.1"]);
            SecureOrigin::start(server_config(&made, clients, Some(ProtocolVersion::TLSv1_2)))
        });
        let hole = black_hole();
        let demanding = SocketAddr::from(([127, 0, 0, 1], free_port()));
        let secured = secured(garbage.address, &secure);
        let proxied = SocketAddr::from(([127, 0, 0, 1], free_port()));
        let setup = Setup::new(text(origin.address, silent.address, hole.2, demanding) + &secured)
            .top(&format!("listener.proxied = {{ address = \"{proxied}\", accept_proxy = [\"127.0.0.1\"], limits = {{ head_deadline = \"1s\" }} }}"))
            .top("users = { staff = { file = \"staff\" }, lost = { file = \"lost\" } }")
            .listener("limits = { head_deadline = \"1s\", body_idle = \"1s\" }");
        std::fs::write(setup.dir().join("ca.pem"), &ours.pem).unwrap();
        std::fs::write(setup.dir().join("staff"), "").unwrap();
        let router = Ekiden::start(setup);
        until("a failing check", || {
            let table = router.table().to_string();
            (table.matches("\"failing\"").count() >= 2).then_some(())
        });
        let (_origins, _secure) = ([origin, silent, garbage], secure);
        Self { router, demanding, proxied, _origins, _secure, _hole: hole, _release: release }
    }

    /// A connection to the listener of the PROXY protocol.
    pub(super) fn proxied(&self) -> Client {
        Client::connect(self.proxied)
    }

    /// A connection to the listener with high least rates.
    pub(super) fn demanding(&self) -> Client {
        Client::connect(self.demanding)
    }
}

/// What an endpoint does by target.
fn serve(conn: &mut Conn, wait: &Mutex<Receiver<()>>) {
    while let Some(mut request) = conn.head() {
        match request.target() {
            "/fin" => return,
            "/reset" => return conn.reset(),
            "/garbage" => {
                conn.send("SSH-2.0-OpenSSH_9.2\r\n\r\n");
                return conn.until_closed();
            }
            "/large" => {
                conn.send(format!("HTTP/1.1 200 OK\r\nA: {}\r\n\r\n", "x".repeat(33 << 10)));
                return conn.until_closed();
            }
            "/short" | "/pause" => {
                conn.send("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc");
                if request.target() == "/pause" {
                    conn.until_closed();
                }
                return;
            }
            "/flood" | "/flood/slowly" => {
                conn.send("HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n");
                while conn.send([b'x'; 64 << 10]) {}
                return;
            }
            "/tunnel" => {
                conn.send(
                    "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
                );
                return conn.until_closed();
            }
            "/mute" => {
                let _released = wait.lock().unwrap().recv();
                return;
            }
            "/silent" | "/total" => return conn.until_closed(),
            _ => {
                if conn.body(&mut request).is_none() {
                    return;
                }
                conn.answer(&request, "good");
            }
        }
    }
}

fn text(origin: SocketAddr, silent: SocketAddr, hole: SocketAddr, demanding: SocketAddr) -> String {
    let refusing = SocketAddr::from(([127, 0, 0, 1], free_port()));
    let rewrite = "y".repeat(4_000);
    let probe = "probe = { path = \"/healthz\", interval = \"1h\", timeout = \"1h\" }\nqueue = 1";
    [
        format!(
            "[listener.demanding]\naddress = \"{demanding}\"\n\
             limits = {{ request_line = \"64KiB\", body_idle = \"1s\", min_body_rate = \"100MB\", min_response_rate = \"1GB\" }}\n"
        ),
        cluster("web", &[origin], ""),
        cluster("empty", &[], ""),
        cluster("refusing", &[refusing], ""),
        cluster("sick", &[refusing], "probe = { tcp = true, interval = \"100ms\", fall = 1 }"),
        cluster("waiting", &[silent], probe),
        cluster(
            "store",
            &[refusing],
            "probe = { tcp = true, interval = \"100ms\", fall = 1 }\nshard = { by = \"header:x-key\", kind = \"store\" }",
        ),
        cluster("hole", &[hole], ""),
        // A file in place of a directory: neither a refusal nor a wait.
        "[cluster.nowhere]\nendpoints = [\"unix:/dev/null/socket\"]\n".to_owned(),
        route("/", "web", "timeout = { first_byte = \"1s\", idle = \"1s\" }"),
        route("/flood/slowly", "web", "timeout = { idle = \"2s\" }"),
        route("/tunnel", "web", "timeout = { tunnel = \"500ms\" }"),
        route("/total", "web", "timeout = { total = \"300ms\" }"),
        route("/limited", "web", "body_limit = 10"),
        route("/deadline", "web", "timeout = { deadline = true }"),
        route("/clients", "web", "deny = { clients = [\"127.0.0.0/8\"] }"),
        route("/hosts", "web", "allow = { hosts = [\"c\"] }"),
        route("/methods", "web", "allow = { methods = [\"GET\"] }"),
        route("/types", "web", "allow = { content_types = [\"application/json\"] }"),
        route("/fields", "web", "deny = { headers = [\"x-debug\"] }\ndenied_headers = \"refuse\""),
        route("/rate", "web", "limit = [{ rate = \"1/h\" }]"),
        route("/asked", "web", "authorizer = { cluster = \"web\", path = \"/garbage\" }"),
        route("/staff", "web", "auth = { users = \"staff\" }"),
        route("/lost", "web", "auth = { users = \"lost\" }"),
        route("/cors", "web", "cors = { origins = [\"http://a\"] }"),
        route("/empty", "empty", ""),
        route("/refusing", "refusing", ""),
        route("/sick", "sick", ""),
        route("/store", "store", ""),
        route("/keyed", "store", ""),
        route("/waiting", "waiting", "timeout = { connect = \"300ms\" }"),
        route("/waiting/long", "waiting", "timeout = { connect = \"60s\" }"),
        route("/hole", "hole", "timeout = { connect = \"300ms\", connect_try = \"200ms\" }"),
        route("/nowhere", "nowhere", ""),
        route("/rewrite", "web", &format!("rewrite = {{ prefix = \"/{rewrite}\" }}")),
        "[[route]]\npath = \"/closed\"\nhost = \"a\"\nrespond = { status = 403 }\n".to_owned(),
        "[[route]]\nhost = \"post\"\nmethods = [\"POST\"]\ncluster = \"web\"\n".to_owned(),
    ]
    .concat()
}

fn route(path: &str, cluster: &str, keys: &str) -> String {
    format!("[[route]]\npath = \"{path}\"\nhost = \"a\"\ncluster = \"{cluster}\"\n{keys}\n")
}

/// Clusters with TLS, one for each way to have none.
fn secured(garbage: SocketAddr, [stranger, closed]: &[SecureOrigin; 2]) -> String {
    [
        ("garbage", garbage, "ca.pem"),
        ("stranger", stranger.address, "ca.pem"),
        ("closed", closed.address, "ca.pem"),
        ("lost", garbage, "missing.pem"),
    ]
    .map(|(name, address, ca)| {
        let tls = cluster(&format!("tls-{name}"), &[address], &format!("tls = {{ ca = \"{ca}\" }}"));
        tls + &route(&format!("/tls/{name}"), &format!("tls-{name}"), "")
    })
    .concat()
        + &cluster("http2", &[garbage], "protocol = \"h2\"")
        + &route("/http2", "http2", "")
}
