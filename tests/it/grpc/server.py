# A server of the real `grpcio` for the tests of gRPC: `server.py PORT [CERT KEY]`. Messages are bytes, so that no compiler of
# messages is needed. What happens is told on standard output, a line each.
import sys
import threading
from concurrent import futures

import grpc

tell_lock = threading.Lock()


def tell(*words):
    with tell_lock:
        print(*words, flush=True)


def unary(message, context):
    given = context.invocation_metadata()
    back = [(key, value) for key, value in given if key.startswith("x-")]
    context.send_initial_metadata([("x-first", "1")] + back)
    context.set_trailing_metadata([("x-last", "a"), ("x-last", "b"), ("x-last-bin", b"\x00\xff"), ("x_under", "u")])
    return message


def fields(message, context):
    # All that came with the call, so that a test can look for what should not be there.
    return "\n".join(f"{key}: {value}" for key, value in context.invocation_metadata()).encode()


def status(message, context):
    number = int(message)
    context.set_trailing_metadata([("x-why", "asked")])
    context.abort({code.value[0]: code for code in grpc.StatusCode}[number], "das wäre 100 %")


def late_status(message, context):
    # A message first, so that the status comes in trailers.
    yield b"one"
    status(message, context)


def up(messages, context):
    count, size = 0, 0
    for message in messages:
        count, size = count + 1, size + len(message)
        tell("up", count)
    tell("half-closed")
    return f"{count} {size}".encode()


def down(message, context):
    for number in range(int(message)):
        yield str(number).encode()


def until_ended(context):
    # Told by the library's own call: a generator whose client is gone may never be asked to go on.
    ended = threading.Event()

    def end():
        tell("ended")
        ended.set()

    context.add_callback(end)
    return ended


def hold(message, context):
    ended = until_ended(context)
    yield b"begun"
    ended.wait()


def silent(message, context):
    ended = until_ended(context)
    tell("called")
    ended.wait()
    return b""


def chat(messages, context):
    for message in messages:
        yield message


def leave(message, context):
    # Ends the stream from this side, without trailers.
    yield b"begun"
    context.cancel()


def left(message, context):
    remaining = context.time_remaining()
    # Where there is no deadline, this is the end of time.
    return b"none" if remaining is None or remaining > 1e9 else str(remaining).encode()


# The status with which calls of Perhaps end.
failing = {"number": 0}


def set_failing(message, context):
    failing["number"] = int(message)
    return b""


def perhaps(message, context):
    if failing["number"]:
        status(failing["number"], context)
    return message


def late_perhaps(message, context):
    yield b"one"
    yield perhaps(message, context)


health = {"state": 1}


def check(message, context):
    # HealthCheckRequest and HealthCheckResponse, by hand.
    tell("check", message.hex())
    if message and message[2:] == b"gone":
        context.abort(grpc.StatusCode.NOT_FOUND, "no such service")
    return bytes([8, health["state"]])


def set_health(message, context):
    health["state"] = int(message)
    return b""


def method(function, takes, gives):
    make = getattr(grpc, f"{takes}_{gives}_rpc_method_handler")
    return make(function, request_deserializer=None, response_serializer=None)


class Service(grpc.GenericRpcHandler):
    methods = {
        "/t.Test/Unary": method(unary, "unary", "unary"),
        "/t.Test/Fields": method(fields, "unary", "unary"),
        "/t.Test/Status": method(status, "unary", "unary"),
        "/t.Test/LateStatus": method(late_status, "unary", "stream"),
        "/t.Test/Up": method(up, "stream", "unary"),
        "/t.Test/Down": method(down, "unary", "stream"),
        "/t.Test/Hold": method(hold, "unary", "stream"),
        "/t.Test/Silent": method(silent, "unary", "unary"),
        "/t.Test/Chat": method(chat, "stream", "stream"),
        "/t.Test/Leave": method(leave, "unary", "stream"),
        "/t.Test/Left": method(left, "unary", "unary"),
        "/t.Test/SetFailing": method(set_failing, "unary", "unary"),
        "/t.Test/Perhaps": method(perhaps, "unary", "unary"),
        "/t.Test/LatePerhaps": method(late_perhaps, "unary", "stream"),
        "/t.Test/SetHealth": method(set_health, "unary", "unary"),
        "/grpc.health.v1.Health/Check": method(check, "unary", "unary"),
    }

    def service(self, details):
        return self.methods.get(details.method)


options = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1), ("grpc.so_reuseport", 0)]
server = grpc.server(futures.ThreadPoolExecutor(120), handlers=[Service()], options=options)
address = f"127.0.0.1:{sys.argv[1]}"
if len(sys.argv) > 2:
    cert, key = (open(path, "rb").read() for path in sys.argv[2:4])
    server.add_secure_port(address, grpc.ssl_server_credentials([(key, cert)]))
else:
    server.add_insecure_port(address)
server.start()
tell("ready")
server.wait_for_termination()
