# A client of the real `grpcio`: `client.py ADDRESS SCENARIO [CA]`. Says `well` when all of the scenario is as it should be.
import queue
import sys
import threading

import grpc

# Longest wait for anything; nothing is expected to come near it.
LONG = 60
OPTIONS = [
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_send_message_length", -1),
    ("grpc.enable_retries", 0),
    ("grpc.ssl_target_name_override", "a.test"),
]


def call(name, kind):
    return getattr(channel, kind)(f"/t.Test/{name}", request_serializer=None, response_deserializer=None)


def fails(run):
    try:
        run()
    except grpc.RpcError as error:
        return error
    raise AssertionError("the call did not fail")


def unary():
    sent = [("x-one", "1"), ("x-two", "a"), ("x-two", "b"), ("x-raw-bin", bytes(range(256))), ("x-empty", "")]
    reply, ended = call("Unary", "unary_unary").with_call(b"abc", metadata=sent, timeout=LONG)
    assert reply == b"abc"
    first = [tuple(pair) for pair in ended.initial_metadata() if pair[0].startswith("x-")]
    platform = ("x-forwarded-", "x-request-")
    first = [pair for pair in first if not pair[0].startswith(platform)]
    assert first == [("x-first", "1")] + sent, first
    last = [tuple(pair) for pair in ended.trailing_metadata()]
    assert last == [("x-last", "a"), ("x-last", "b"), ("x-last-bin", b"\x00\xff"), ("x_under", "u")], last
    assert ended.code() == grpc.StatusCode.OK
    assert call("Unary", "unary_unary")(b"", timeout=LONG) == b""
    # Nothing of the way is metadata of the call.
    names = {key for key, _ in ended.initial_metadata()} - {"x-first"} - {key for key, _ in sent}
    assert not names & {"content-length", "transfer-encoding", "connection", "grpc-timeout", "date"}, names


def statuses():
    for code in grpc.StatusCode:
        number = code.value[0]
        if number == 0:
            continue
        for name, kind in [("Status", "unary_unary"), ("LateStatus", "unary_stream")]:
            def run():
                answer = call(name, kind)(str(number).encode(), timeout=LONG)
                return answer if kind == "unary_unary" else list(answer)
            error = fails(run)
            assert (error.code(), error.details()) == (code, "das wäre 100 %"), (name, error)
            assert ("x-why", "asked") in [tuple(pair) for pair in error.trailing_metadata()], error
            assert not {key for key, _ in error.trailing_metadata()} & {"content-length", "x-router-error"}
    error = fails(lambda: call("Nothing", "unary_unary")(b"", timeout=LONG))
    assert error.code() == grpc.StatusCode.UNIMPLEMENTED, error


def streams():
    assert [int(one) for one in call("Down", "unary_stream")(b"1000", timeout=LONG)] == list(range(1000))
    assert list(call("Down", "unary_stream")(b"0", timeout=LONG)) == []
    assert call("Up", "stream_unary")(iter([b"ab"] * 50), timeout=LONG) == b"50 100"
    assert call("Up", "stream_unary")(iter([]), timeout=LONG) == b"0 0"
    # Each message waits for the answer to the one before; then this side closes, and the other one ends.
    waiting = queue.Queue()
    answers = call("Chat", "stream_stream")(iter(waiting.get, None), timeout=LONG)
    for number in range(200):
        waiting.put(str(number).encode())
        assert next(answers) == str(number).encode()
    waiting.put(None)
    assert list(answers) == []
    assert answers.code() == grpc.StatusCode.OK


def large():
    body = bytes(range(256)) * 16384
    assert len(body) == 4 << 20
    assert call("Unary", "unary_unary")(body, timeout=LONG) == body
    assert list(call("Chat", "stream_stream")(iter([body, body]), timeout=LONG)) == [body, body]


def many():
    # A hundred at once on one connection: all are open before any ends.
    doors = [queue.Queue() for _ in range(100)]
    calls = [call("Chat", "stream_stream")(iter(door.get, None), timeout=LONG) for door in doors]
    for number, (door, answers) in enumerate(zip(doors, calls)):
        door.put(str(number).encode())
        assert next(answers) == str(number).encode()
    for door, answers in zip(doors, calls):
        door.put(None)
        assert list(answers) == [] and answers.code() == grpc.StatusCode.OK
    futures = [call("Unary", "unary_unary").future(str(n).encode(), timeout=LONG) for n in range(500)]
    assert [int(one.result()) for one in futures] == list(range(500))


def cancel():
    held = call("Hold", "unary_stream")(b"", timeout=LONG)
    assert next(held) == b"begun"
    held.cancel()
    assert held.code() == grpc.StatusCode.CANCELLED


def leave():
    left = call("Leave", "unary_stream")(b"", timeout=LONG)
    assert next(left) == b"begun"
    error = fails(lambda: list(left))
    print(error.code().name)


def deadline():
    error = fails(lambda: call("Silent", "unary_unary")(b"", timeout=0.5))
    assert error.code() == grpc.StatusCode.DEADLINE_EXCEEDED, error
    remaining = float(call("Left", "unary_unary")(b"", timeout=LONG))
    # This library rounds up what it sends, to two digits.
    assert 0 < remaining <= LONG * 1.1, remaining


def left():
    print(call("Left", "unary_unary")(b"").decode())
    print(call("Left", "unary_unary")(b"", timeout=LONG).decode())


def refused():
    # What the router answers by itself.
    error = fails(lambda: call("Unary", "unary_unary")(b"", timeout=LONG))
    fields = {key: value for key, value in error.trailing_metadata()}
    print(error.code().name, fields.get("x-router-error"), error.details(), sep="|")


def health():
    state = sys.argv[3].encode()
    assert call("SetHealth", "unary_unary")(state, timeout=LONG) == b""


address, scenario = sys.argv[1:3]
if scenario == "secure":
    roots = grpc.ssl_channel_credentials(open(sys.argv[3], "rb").read())
    channel = grpc.secure_channel(address, roots, options=OPTIONS)
    run = [unary, statuses, streams, large]
else:
    channel = grpc.insecure_channel(address, options=OPTIONS)
    run = [globals()[scenario]]
for one in run:
    one()
channel.close()
print("well")
