# A web dyno of the tests, in Python: says who it is, and what it was started with.
import os
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

name, release = os.environ["DYNO"], os.environ["RELEASE"]
# Before this program opens anything: what it was given beside the usual three. What is gone is the listing itself.
given = [f"/proc/self/fd/{number}" for number in os.listdir("/proc/self/fd") if int(number) > 2]
given = [os.readlink(path) for path in given if os.path.exists(path)]


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def answer(self):
        length = int(self.headers.get("Content-Length") or 0)
        self.rfile.read(length)
        if self.path == "/slow":
            time.sleep(0.05)
        if self.path == "/wait":
            open("waiting", "w").close()
            while not os.path.exists("go"):
                time.sleep(0.01)
        body = f"{name} {release}"
        if self.path == "/env":
            body = "\n".join(f"{key}={value}" for key, value in os.environ.items())
        if self.path == "/fds":
            body = "\n".join(given)
        status = 500 if os.environ.get("BROKEN") else 200
        if self.path == "/up" and os.path.exists("redirect"):
            status = 301
        self.send_response(status)
        if status == 301:
            self.send_header("Location", "https://example.com/up")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body.encode())

    do_GET = do_POST = answer

    def log_message(self, *arguments):
        pass


server = ThreadingHTTPServer(("127.0.0.1", int(os.environ["PORT"])), Handler)
print("listens", flush=True)
server.serve_forever()
