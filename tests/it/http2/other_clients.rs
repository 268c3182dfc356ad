//! Clients that others have written: curl, nghttp and h2load, Python's `h2`.

use std::process::Command;

use ekiden_tests::{Echo, Ekiden, Origin, Served, Setup, finished, web};

fn serve(origin: std::net::SocketAddr) -> Ekiden {
    Ekiden::start(Setup::new(web(&[origin], "", "")).listener("h2c = true"))
}

fn output(command: &mut Command) -> String {
    let output = finished(command);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        output.status.success(),
        "{command:?}: {}\n{text}\n{}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    text
}

#[test]
fn curl() {
    let origin = Origin::start(|conn| {
        while let Some(request) = conn.request() {
            let length = request.body.len();
            conn.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n"));
            conn.send(&request.body);
        }
    });
    let router = serve(origin.address);
    let dir = tempfile::TempDir::new().unwrap();
    let (up, down) = (dir.path().join("up"), dir.path().join("down"));
    std::fs::write(&up, ekiden_tests::pattern(3_000_000)).unwrap();
    let url = format!("http://{}/", router.setup().address());
    for more in [&[][..], &["-H", "Expect: 100-continue"], &["-H", "Content-Length:"]] {
        let told = output(
            Command::new("curl")
                .args(["-s", "--http2-prior-knowledge", "-w", "%{http_version} %{http_code}", "-T"])
                .arg(&up)
                .arg("-o")
                .arg(&down)
                .args(more)
                .arg(&url),
        );
        assert_eq!(told, "2 200", "{more:?}");
        assert!(std::fs::read(&up).unwrap() == std::fs::read(&down).unwrap(), "{more:?}");
    }
}

#[test]
fn h2load_and_nghttp() {
    let echo = Echo::start("a");
    let router = serve(echo.address);
    let url = format!("http://{}/", router.setup().address());
    let told = output(Command::new("h2load").args(["-n", "2000", "-c", "2", "-m", "32", &url]));
    assert!(told.contains("2000 succeeded, 0 failed, 0 errored"), "{told}");
    let told = output(Command::new("nghttp").args(["-v", "-m", "20", &url]));
    assert!(told.contains(":status: 200"), "{told}");
    assert!(told.contains("SETTINGS_MAX_CONCURRENT_STREAMS(0x03):256"), "{told}");
    assert!(told.contains("SETTINGS_MAX_HEADER_LIST_SIZE(0x06):65536"), "{told}");
}

/// Twenty streams at once, flow control by hand, bodies compared.
const PYTHON: &str = r#"
import socket, sys
import h2.connection, h2.config, h2.events
sock = socket.create_connection((sys.argv[1], int(sys.argv[2])), timeout=10)
conn = h2.connection.H2Connection(h2.config.H2Configuration(client_side=True))
conn.initiate_connection()
bodies, got, ended = {}, {}, set()
for number in range(20):
    stream = conn.get_next_available_stream_id()
    bodies[stream] = bytes([number]) * 1000 * number
    conn.send_headers(stream, [(":method", "POST"), (":scheme", "http"), (":authority", "a"), (":path", "/"),
        ("x-number", str(number))])
    for at in range(0, len(bodies[stream]), 8000):
        conn.send_data(stream, bodies[stream][at:at + 8000]) if conn.local_flow_control_window(stream) >= 8000 else sys.exit("no window")
        sock.sendall(conn.data_to_send())
        if conn.local_flow_control_window(stream) < 16000:
            for event in conn.receive_data(sock.recv(65536)): pass
    conn.end_stream(stream)
    got[stream] = b""
    sock.sendall(conn.data_to_send())
    while stream not in ended:
        for event in conn.receive_data(sock.recv(65536)):
            if isinstance(event, h2.events.ResponseReceived):
                assert dict(event.headers)[b":status"] == b"200", event.headers
            elif isinstance(event, h2.events.DataReceived):
                got[event.stream_id] += event.data
                conn.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
            elif isinstance(event, h2.events.StreamEnded):
                ended.add(event.stream_id)
            elif isinstance(event, (h2.events.StreamReset, h2.events.ConnectionTerminated)):
                sys.exit(repr(event))
        sock.sendall(conn.data_to_send())
assert got == bodies, [len(b) for b in got.values()]
print("all the same")
"#;

#[test]
fn python_h2() {
    let origin = Origin::start(|conn| {
        while let Some(request) = conn.request() {
            conn.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", request.body.len()));
            conn.send(&request.body);
        }
    });
    let router = serve(origin.address);
    let address = router.setup().address();
    // Debian's python3, which has Debian's python3-h2.
    let told = output(Command::new("/usr/bin/python3").args([
        "-c",
        PYTHON,
        &address.ip().to_string(),
        &address.port().to_string(),
    ]));
    assert_eq!(told.trim(), "all the same");
}
