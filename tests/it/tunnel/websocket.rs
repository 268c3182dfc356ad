//! WebSocket by others: Python's `websockets` on both sides, over plain sockets and TLS, and the conformance suite
//! `kosoku`, which must find the same through the router as without it.
//!
//! `tests/run` installs them; without them these tests fail and say how to have them.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use ekiden_tests::{Authority, Background, Ekiden, Served, Setup, binary, finished, until, web};
use serde_json::Value;

const INSTALL: &str = "python3 -m venv TARGET/tools/python && \
                       TARGET/tools/python/bin/pip install websockets==17.4 kosoku==0.1.0 sslyze==6.3.1";

/// An echo server of `websockets` that tells its port.
const SERVER: &str = r#"
import asyncio, logging
from websockets.asyncio.server import serve
logging.disable(logging.CRITICAL)
async def echo(ws):
    if ws.request.path == "/push":
        await ws.send("b" * 300000)
    async for message in ws:
        await ws.send(message)
async def main():
    async with serve(echo, "127.0.0.1", 0, max_size=None, ping_interval=None, subprotocols=["chat", "other"]) as server:
        print(server.sockets[0].getsockname()[1], flush=True)
        await asyncio.get_running_loop().create_future()
asyncio.run(main())
"#;

/// Talks to it by a URL, with texts, bytes, pieces, pings and compression, and closes.
const CLIENT: &str = r#"
import asyncio, ssl, sys
from websockets.asyncio.client import connect
async def main(url, ca):
    context = ssl.create_default_context(cafile=ca) if ca else None
    async with connect(url, ssl=context, max_size=None, subprotocols=["chat"], user_agent_header=None) as ws:
        assert ws.subprotocol == "chat", ws.subprotocol
        for message in ["", "h\u00e4llo", b"\x00\xff" * 70000, "x" * 1_000_000]:
            await ws.send(message)
            assert await ws.recv() == message
        await ws.send(["in ", "three ", "pieces"])
        assert await ws.recv() == "in three pieces"
        await (await ws.ping())
        await asyncio.gather(*(ws.send(str(n)) for n in range(500)))
        assert sorted([int(await ws.recv()) for _ in range(500)]) == list(range(500))
    assert (ws.close_code, ws.protocol.close_rcvd.code) == (1000, 1000)
    async with connect(url + "push", ssl=context, max_size=None, subprotocols=["other"]) as ws:
        assert len(await ws.recv()) == 300000
    print("well")
asyncio.run(main(sys.argv[1], sys.argv[2] if len(sys.argv) > 2 else None))
"#;

/// Waits to be told to go away.
const WAITER: &str = r#"
import asyncio, sys
from websockets.asyncio.client import connect
async def main():
    async with connect(sys.argv[1], ping_interval=None, subprotocols=["chat"]) as ws:
        await ws.send("a")
        print(await ws.recv(), flush=True)
        await ws.wait_closed()
        print(ws.close_code, ws.protocol.close_rcvd_then_sent, flush=True)
asyncio.run(main())
"#;

/// A program of the environment that `tests/run` makes.
pub(crate) fn tool(name: &str) -> PathBuf {
    let dir = std::env::var_os("EKIDEN_PYTHON").map(PathBuf::from).unwrap_or_else(|| {
        // The binary is TARGET/PROFILE/ekiden.
        let target = binary().parent().and_then(Path::parent).unwrap();
        target.join("tools/python/bin")
    });
    let path = dir.join(name);
    assert!(path.exists(), "{} is missing; {INSTALL}", path.display());
    path
}

fn python(script: &str) -> Command {
    let mut command = Command::new(tool("python"));
    command.args(["-c", script]);
    command
}

/// A running server of `websockets`.
pub(crate) struct Server {
    _process: Background,
    pub(crate) address: SocketAddr,
}

/// The client of `websockets`; its argument is a URL.
pub(crate) fn client() -> Command {
    python(CLIENT)
}

/// The server that it talks to.
pub(crate) fn server() -> Server {
    let process = Background::start(&mut python(SERVER));
    let port: u16 = until("a port", || process.out().trim().parse().ok());
    Server { _process: process, address: SocketAddr::from(([127, 0, 0, 1], port)) }
}

/// Runs a client that says `well` at its end.
pub(crate) fn well(command: &mut Command) {
    let output = finished(command);
    assert!(output.status.success() && output.stdout == b"well\n", "{output:?}");
}

#[test]
fn websockets_of_python_over_plain_sockets() {
    let server = server();
    let router = Ekiden::start(Setup::new(web(&[server.address], "", "")));
    well(python(CLIENT).arg(format!("ws://{}/", router.address())));
}

#[test]
fn websockets_of_python_over_tls() {
    let server = server();
    let authority = Authority::new();
    let setup = Setup::new(web(&[server.address], "", ""))
        .listener("tls = { cert = \"site.pem\", key = \"site.key\" }");
    authority.make(&["localhost"]).write(setup.dir(), "site");
    std::fs::write(setup.dir().join("ca.pem"), &authority.pem).unwrap();
    let ca = setup.dir().join("ca.pem");
    let router = Ekiden::start(setup);
    let url = format!("wss://localhost:{}/", router.address().port());
    well(python(CLIENT).arg(url).arg(ca));
}

#[test]
fn a_drain_tells_clients_to_go_elsewhere() {
    let server = server();
    let mut router = Ekiden::start(Setup::new(web(&[server.address], "", "")).top("drain_grace = \"0s\""));
    let mut client = Background::start(python(WAITER).arg(format!("ws://{}/", router.address())));
    until("an echo", || client.out().starts_with("a\n").then_some(()));
    router.terminate();
    assert!(client.wait().success());
    assert!(client.out().starts_with("a\n1001 "), "{}", client.out());
    assert!(router.wait().success());
    let record = router.records(1).remove(0);
    assert_eq!((&record["code"], &record["status"]), (&"drained".into(), &101.into()), "{record}");
}

/// What each case of some groups came to: behaviour, and behaviour at the close.
fn scores(address: SocketAddr, groups: &[&str], dir: &Path) -> BTreeMap<String, [String; 2]> {
    let mut command = Command::new(tool("kosoku"));
    command.arg("-o").arg(dir).args(["-p", "4"]);
    for group in groups {
        command.args(["-i", group]);
    }
    // It ends with an error when a case fails, and the server fails one by itself.
    let output = finished(command.arg(address.to_string()));
    let report = std::fs::read_to_string(dir.join("index.json"));
    let report: Value = serde_json::from_str(&report.unwrap_or_else(|_| panic!("{output:?}"))).unwrap();
    let cases = report.as_object().unwrap().values().next().unwrap().as_object().unwrap();
    let word = |case: &Value, key: &str| case[key].as_str().unwrap().to_owned();
    let score = |case: &Value| [word(case, "behavior"), word(case, "behaviorClose")];
    cases.iter().map(|(name, case)| (name.clone(), score(case))).collect()
}

/// Groups 9, 12 and 13 measure limits and compression of the server with much data; what they need of a tunnel is held by
/// the tests beside this one.
#[test]
fn kosoku_finds_the_same_through_the_router() {
    // In groups that take a few seconds at most, so that the deadline of a test is far off on a slow machine.
    const GROUPS: &[&[&str]] = &[
        &["1.*", "2.*", "3.*"],
        &["4.*"],
        &["5.*"],
        &["6.1.*", "6.2.*", "6.3.*"],
        &["6.4.*"],
        &["6.5.*", "6.6.*", "6.7.*", "6.8.*", "6.9.*"],
        &["6.10.*", "6.11.*", "6.12.*", "6.13.*", "6.14.*", "6.15.*", "6.16.*"],
        &["6.17.*", "6.18.*", "6.19.*", "6.20.*", "6.21.*", "6.22.*", "6.23.*"],
        &["7.*", "10.*"],
    ];
    let server = server();
    let router = Ekiden::start(Setup::new(web(&[server.address], "", "")));
    let dir = tempfile::TempDir::new().unwrap();
    let mut count = 0;
    for (number, groups) in GROUPS.iter().enumerate() {
        let of = |name: &str, address| scores(address, groups, &dir.path().join(format!("{name}{number}")));
        let (direct, through) = (of("direct", server.address), of("through", router.address()));
        assert_eq!(through, direct);
        count += through.len();
        let good = through.values().filter(|[behaviour, _]| behaviour != "FAILED").count();
        assert!(good + 1 >= through.len(), "{through:#?}");
    }
    assert_eq!(count, 247);
}
