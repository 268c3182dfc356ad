# An endpoint on Python's h2, for the tests of HTTP/2 to endpoints: `endpoint.py PORT STREAMS [websocket]`. What it does goes by path; what
# it sees is written to standard output, a line an event.
import socket, sys, threading
import h2.config, h2.connection, h2.events, h2.settings
import hyperframe.frame
from h2.errors import ErrorCodes

held, release, lock = [0], threading.Event(), threading.Lock()


def say(*words):
    with lock:
        print(*words, flush=True)


class Connection:
    def __init__(self, sock, number, streams):
        self.sock, self.number, self.requests, self.queued = sock, number, {}, {}
        self.holding, self.last, self.tunnels = set(), 0, {}
        config = h2.config.H2Configuration(client_side=False, header_encoding="utf-8")
        self.conn = h2.connection.H2Connection(config)
        initial = {h2.settings.SettingCodes.MAX_CONCURRENT_STREAMS: streams}
        if "websocket" in sys.argv[3:]:
            initial[h2.settings.SettingCodes.ENABLE_CONNECT_PROTOCOL] = 1
        self.conn.local_settings = h2.settings.Settings(client=False, initial_values=initial)
        self.conn.initiate_connection()
        say("connection", number)

    def run(self):
        self.flush()
        self.sock.settimeout(0.02)
        while True:
            if self.holding and release.is_set():
                for stream in list(self.holding):
                    self.holding.discard(stream)
                    self.answer(stream, [], b"held")
            try:
                data = self.sock.recv(65536)
            except socket.timeout:
                self.flush()
                continue
            if not data:
                return
            for event in self.conn.receive_data(data):
                self.take(event)
            self.flush()

    def take(self, event):
        if isinstance(event, h2.events.RequestReceived):
            fields = dict(event.headers)
            self.requests[event.stream_id] = [fields, b"", {}]
            say("stream", self.number, event.stream_id, fields[":method"], fields[":path"])
            if ":protocol" in fields:
                self.open(event.stream_id, fields)
            self.early(event.stream_id, fields[":path"])
        elif isinstance(event, h2.events.DataReceived):
            if event.stream_id in self.tunnels:
                self.tunnels[event.stream_id] += event.data
                self.frames(event.stream_id)
            elif event.stream_id in self.requests:
                self.requests[event.stream_id][1] += event.data
            self.conn.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
        elif isinstance(event, h2.events.TrailersReceived):
            self.requests[event.stream_id][2] = dict(event.headers)
        elif isinstance(event, h2.events.StreamEnded):
            if event.stream_id in self.tunnels:
                del self.tunnels[event.stream_id]
            elif event.stream_id in self.requests:
                self.ended(event.stream_id, *self.requests[event.stream_id])
        elif isinstance(event, h2.events.StreamReset):
            self.queued.pop(event.stream_id, None)
            self.holding.discard(event.stream_id)
            say("reset", self.number, event.stream_id, int(event.error_code))
        elif isinstance(event, h2.events.WindowUpdated):
            for stream in list(self.queued):
                self.pump(stream)

    def early(self, stream, path):
        if path == "/refuse" and self.number == 1:
            del self.requests[stream]
            self.conn.reset_stream(stream, ErrorCodes.REFUSED_STREAM)
        elif path == "/goaway" and self.number == 1:
            del self.requests[stream]
            self.goaway(stream - 2)

    # An extended CONNECT: a tunnel, or a refusal.
    def open(self, stream, fields):
        assert (fields[":method"], fields[":protocol"], fields[":scheme"]) == ("CONNECT", "websocket", "http")
        keyless = "sec-websocket-key" not in fields and "upgrade" not in fields and "connection" not in fields
        if fields[":path"] == "/forbidden":
            del self.requests[stream]
            self.conn.send_headers(stream, [(":status", "403")])
            self.conn.send_data(stream, b"not you", end_stream=True)
            return
        say("websocket", self.number, fields["sec-websocket-protocol"], fields["sec-websocket-version"], keyless)
        self.tunnels[stream] = b""
        self.conn.send_headers(stream, [(":status", "200"), ("sec-websocket-protocol", "chat")])

    # Gives short frames of a client back, unmasked; after a Close the stream ends, with trailers where the path says so.
    def frames(self, stream):
        data = self.tunnels[stream]
        while len(data) >= 6 and len(data) >= 6 + (data[1] & 127):
            length = data[1] & 127
            text = bytes(byte ^ data[2 + at % 4] for at, byte in enumerate(data[6:6 + length]))
            closes = data[0] & 15 == 8
            if closes and self.requests[stream][0][":path"] == "/trailers":
                self.conn.send_headers(stream, [("x-late", "1")], end_stream=True)
                return
            self.conn.send_data(stream, data[:1] + bytes([length]) + text, end_stream=closes)
            data = data[6 + length:]
        self.tunnels[stream] = data

    # Past the codec, which would end the connection.
    def goaway(self, last):
        self.flush()
        self.sock.sendall(hyperframe.frame.GoAwayFrame(0, last_stream_id=last).serialize())

    def answer(self, stream, fields, body, trailers=None):
        base = [(":status", "200"), ("x-connection", str(self.number))]
        self.conn.send_headers(stream, base + fields)
        self.queued[stream] = [body, trailers, 0]
        self.pump(stream)

    def pump(self, stream):
        body, trailers, sent = self.queued[stream]
        while sent < len(body):
            room = min(self.conn.local_flow_control_window(stream), self.conn.max_outbound_frame_size)
            if room <= 0:
                say("blocked", self.number, stream, sent)
                self.queued[stream][2] = sent
                return
            piece = body[sent:sent + room]
            self.conn.send_data(stream, piece)
            sent += len(piece)
        del self.queued[stream]
        if trailers is None:
            self.conn.end_stream(stream)
        else:
            self.conn.send_headers(stream, trailers, end_stream=True)

    def ended(self, stream, fields, body, trailers):
        path = fields[":path"]
        if path == "/hold":
            self.holding.add(stream)
        elif path == "/release":
            release.set()
            self.answer(stream, [], b"")
        elif path == "/interim":
            self.conn.send_headers(stream, [(":status", "103"), ("link", "</a>")])
            self.answer(stream, [], b"after")
        elif path == "/head":
            self.conn.send_headers(stream, [(":status", "200"), ("content-length", "5")], end_stream=True)
        elif path == "/none":
            self.conn.send_headers(stream, [(":status", "204")], end_stream=True)
        elif path == "/same":
            self.conn.send_headers(stream, [(":status", "304"), ("etag", "a")], end_stream=True)
        elif path == "/only":
            self.conn.send_headers(stream, [(":status", "200"), ("grpc-status", "5")], end_stream=True)
        elif path == "/reset":
            self.conn.send_headers(stream, [(":status", "200")])
            self.conn.send_data(stream, b"part")
            self.conn.reset_stream(stream, ErrorCodes.INTERNAL_ERROR)
        elif path == "/wrong":
            self.conn.config.validate_outbound_headers = False
            self.conn.send_headers(stream, [(":status", "200"), ("content-length", "10")])
            self.conn.send_data(stream, b"abc", end_stream=True)
        elif path == "/bye":
            self.answer(stream, [], b"bye")
            self.goaway(stream)
        elif path == "/announced":
            # A length, and trailers all the same.
            self.answer(stream, [("content-length", "5")], b"whole", [("x-sum", "5"), ("x_sum", "5")])
        elif path == "/empty":
            self.answer(stream, [("content-length", "0")], b"", [("x-sum", "0")])
        elif path == "/wait":
            pass
        elif path == "/big":
            self.answer(stream, [], b"x" * (8 << 20))
        else:
            seen = [("x-authority", fields[":authority"]), ("x-scheme", fields[":scheme"]),
                    ("x-te", fields.get("te", "")), ("x-trailer", trailers.get("x-end", ""))]
            self.answer(stream, seen, body, [("x-sum", str(len(body)))])

    def flush(self):
        data = self.conn.data_to_send()
        if data:
            self.sock.sendall(data)


def serve(sock, number, streams):
    try:
        Connection(sock, number, streams).run()
    except OSError:
        pass
    except Exception as error:
        say("fault", number, repr(error))
    finally:
        say("closed", number)
        sock.close()


listener = socket.create_server(("127.0.0.1", int(sys.argv[1])), backlog=128)
say("ready")
number = 0
while True:
    sock, _ = listener.accept()
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    number += 1
    threading.Thread(target=serve, args=(sock, number, int(sys.argv[2])), daemon=True).start()
