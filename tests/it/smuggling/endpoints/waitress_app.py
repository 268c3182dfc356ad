"""A WSGI application for waitress that writes down every request it is given, one JSON object a line.

EKIDEN_SEEN=LOG waitress-serve --listen=127.0.0.1:PORT waitress_app:app
"""
import json
import os

OUT = open(os.environ["EKIDEN_SEEN"], "a", buffering=1)


def app(environ, start_response):
    method, target = environ["REQUEST_METHOD"], environ["REQUEST_URI"]
    body = environ["wsgi.input"].read()
    OUT.write(json.dumps({"method": method, "target": target, "hex": body.hex()}) + "\n")
    # waitress ends a connection on which less was written than Content-Length says, also after HEAD.
    text = b"" if method == "HEAD" else f"{method} {target}".encode()
    start_response("200 OK", [("Content-Length", str(len(text))), ("X-Peer", environ["REMOTE_PORT"])])
    return [text]
