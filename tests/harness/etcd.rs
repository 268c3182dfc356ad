//! A real etcd of some members on loopback, on ports and disks of its own; killed when dropped.

use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::{Client, free_port, signal};

/// Longest wait for what needs an election or the end of a lease, on a machine that is slow and busy.
pub(crate) const PATIENCE: Duration = Duration::from_secs(120);

/// Polls until the question has an answer, with [`PATIENCE`].
///
/// # Panics
/// When that is over.
pub fn in_time<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + PATIENCE;
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(Instant::now() < end, "gave up waiting for {what}");
        thread::sleep(Duration::from_millis(20));
    }
}

#[derive(Debug)]
struct Member {
    child: Option<Child>,
    client: SocketAddr,
    peer: SocketAddr,
}

/// A running cluster.
#[derive(Debug)]
pub struct Etcd {
    members: Vec<Member>,
    dir: tempfile::TempDir,
    /// Certificates of clients' connections: authority, certificate, key.
    tls: Option<[PathBuf; 3]>,
}

impl Etcd {
    /// Starts so many members and waits until they have a majority.
    pub fn start(count: usize) -> Self {
        let local = || SocketAddr::from(([127, 0, 0, 1], free_port()));
        let members = (0..count).map(|_| Member { child: None, client: local(), peer: local() }).collect();
        let mut this = Self { members, dir: tempfile::TempDir::new().unwrap(), tls: None };
        (0..count).for_each(|at| this.begin(at));
        in_time("etcd", || (0..count).all(|at| this.leader_of(at).is_some()).then_some(()));
        this
    }

    /// From the next start of a member on: TLS for clients, who must show a certificate of the authority. `ca.pem`, `etcd.pem` and
    /// `etcd.key` in a directory.
    pub fn secure(&mut self, dir: &Path) {
        self.tls = Some(["ca.pem", "etcd.pem", "etcd.key"].map(|name| dir.join(name)));
    }

    /// Starts a member, again on what it had on disk.
    pub fn begin(&mut self, at: usize) {
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        let cluster: Vec<String> =
            self.members.iter().enumerate().map(|(at, one)| format!("m{at}=http://{}", one.peer)).collect();
        let member = &mut self.members[at];
        let (client, peer) = (format!("{scheme}://{}", member.client), format!("http://{}", member.peer));
        let mut command = Command::new("etcd");
        command
            .args(["--name", &format!("m{at}"), "--data-dir"])
            .arg(self.dir.path().join(format!("m{at}")))
            .args(["--listen-client-urls", &client, "--advertise-client-urls", &client])
            .args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer])
            .args(["--initial-cluster", &cluster.join(","), "--logger", "zap", "--log-level", "error"])
            // Patient: other tests run beside this one.
            .args(["--heartbeat-interval", "200", "--election-timeout", "2000"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        if let Some([ca, cert, key]) = &self.tls {
            command.arg("--trusted-ca-file").arg(ca).arg("--cert-file").arg(cert).arg("--key-file").arg(key);
            command.arg("--client-cert-auth");
        }
        member.child = Some(command.spawn().unwrap_or_else(|error| panic!("etcd: {error}")));
    }

    /// Kills a member as the kernel does.
    pub fn kill(&mut self, at: usize) {
        if let Some(mut child) = self.members[at].child.take() {
            let _ended_already = child.kill();
            let _reaped = child.wait();
        }
    }

    /// Sends a member a signal, SIGSTOP for example.
    pub fn signal(&self, at: usize, number: i32) {
        signal(self.members[at].child.as_ref().unwrap().id(), number);
    }

    /// Where a member's clients connect.
    pub fn address(&self, at: usize) -> SocketAddr {
        self.members[at].client
    }

    /// How many members there are.
    pub fn count(&self) -> usize {
        self.members.len()
    }

    /// `[etcd]` of a process file, with further keys.
    pub fn table(&self, keys: &str) -> String {
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        let all: Vec<String> =
            self.members.iter().map(|one| format!("\"{scheme}://{}\"", one.client)).collect();
        format!("[etcd]\nendpoints = [{}]\n{keys}\n", all.join(", "))
    }

    /// Asks a member; none when it does not answer with 200. Not over TLS.
    pub fn ask(&self, at: usize, path: &str, body: &Value) -> Option<Value> {
        let stream = TcpStream::connect(self.members[at].client).ok()?;
        let mut client = Client::over(stream);
        let body = body.to_string();
        client.send(format!(
            "POST {path} HTTP/1.1\r\nHost: etcd\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
            body.len()
        ));
        let answer = client.read(false).ok()?;
        (answer.status == 200).then(|| answer.json())
    }

    /// The raft leader's id as a member knows it; none when it knows none.
    fn leader_of(&self, at: usize) -> Option<String> {
        let status = self.ask(at, "/v3/maintenance/status", &json!({}))?;
        status["leader"].as_str().filter(|id| *id != "0").map(str::to_owned)
    }

    /// The member that leads.
    pub fn leader(&self) -> usize {
        in_time("a leader of etcd", || {
            (0..self.count()).find(|at| {
                self.members[*at].child.is_some()
                    && self
                        .ask(*at, "/v3/maintenance/status", &json!({}))
                        .is_some_and(|status| status["header"]["member_id"] == status["leader"])
            })
        })
    }

    /// Forgets all that is not in force any more.
    pub fn compact(&self, at: usize) {
        let range = json!({ "key": "AA==", "range_end": "AA==", "limit": "1" });
        let now = in_time("its revision", || self.ask(at, "/v3/kv/range", &range));
        let revision = now["header"]["revision"].clone();
        in_time("compaction", || {
            self.ask(at, "/v3/kv/compaction", &json!({ "revision": revision, "physical": true }))
        });
    }
}

impl Drop for Etcd {
    fn drop(&mut self) {
        (0..self.count()).for_each(|at| self.kill(at));
    }
}
