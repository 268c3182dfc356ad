"""An HTTP server of Python's standard library that writes down every whole request it sees, one JSON object a line.

It reads chunks the way such servers do: with int(), which takes signs, blanks, prefixes and underscores, and with
readline(), which takes a bare LF. python3 stdlib.py LOG PORT
"""
import json
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

OUT = open(sys.argv[1], "a", buffering=1)


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def __getattr__(self, name):
        if name.startswith("do_"):
            return self.answer
        raise AttributeError(name)

    def body(self):
        if "chunked" not in self.headers.get("Transfer-Encoding", "").lower():
            length = int(self.headers.get("Content-Length", 0))
            body = self.rfile.read(length)
            return body if len(body) == length else None
        body = b""
        while size := int(self.rfile.readline().split(b";")[0], 16):
            data = self.rfile.read(size)
            self.rfile.readline()
            if len(data) < size:
                return None
            body += data
        while line := self.rfile.readline():
            if line in (b"\r\n", b"\n"):
                return body
        return None

    def answer(self):
        try:
            body = self.body()
        except ValueError:
            body = None
        if body is None:
            self.close_connection = True
            return
        OUT.write(json.dumps({"method": self.command, "target": self.path, "hex": body.hex()}) + "\n")
        text = f"{self.command} {self.path}".encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(text)))
        self.send_header("X-Peer", str(self.client_address[1]))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(text)

    def log_message(self, *_):
        pass


ThreadingHTTPServer(("127.0.0.1", int(sys.argv[2])), Handler).serve_forever()
