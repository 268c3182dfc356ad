# A service of `envoy.service.auth.v3.Authorization/Check` on the real `grpcio` and `protobuf`: `checker.py PORT`. Messages are
# described here, so that no compiler of them is needed. What it is asked is told on standard output as JSON, a line each.
import json
import sys
import threading
from concurrent import futures

import grpc
from google.protobuf import descriptor_pb2, descriptor_pool, json_format, message_factory

PACKAGE = "envoy.service.auth.v3"
TYPES = {"string": 9, "int32": 5, "int64": 3, "uint32": 13, "bytes": 12}
MESSAGES = {
    "SocketAddress": [("protocol", 1, "int32"), ("address", 2, "string"), ("port_value", 3, "uint32")],
    "Address": [("socket_address", 1, "SocketAddress")],
    "Peer": [("address", 1, "Address"), ("principal", 4, "string")],
    "HttpRequest": [
        ("id", 1, "string"), ("method", 2, "string"), ("headers", 3, "map"), ("path", 4, "string"),
        ("host", 5, "string"), ("scheme", 6, "string"), ("size", 9, "int64"), ("protocol", 10, "string"),
        ("body", 11, "string"), ("raw_body", 12, "bytes"),
    ],
    "Request": [("http", 2, "HttpRequest")],
    "AttributeContext": [("source", 1, "Peer"), ("request", 4, "Request")],
    "CheckRequest": [("attributes", 1, "AttributeContext")],
    "Status": [("code", 1, "int32"), ("message", 2, "string")],
    "HttpStatus": [("code", 1, "int32")],
    "HeaderValue": [("key", 1, "string"), ("value", 2, "string")],
    "HeaderValueOption": [("header", 1, "HeaderValue")],
    "DeniedHttpResponse": [("status", 1, "HttpStatus"), ("headers", 2, "*HeaderValueOption"), ("body", 3, "string")],
    "OkHttpResponse": [("headers", 2, "*HeaderValueOption")],
    "CheckResponse": [
        ("status", 1, "Status"), ("denied_response", 2, "DeniedHttpResponse"), ("ok_response", 3, "OkHttpResponse"),
    ],
}


def described():
    file = descriptor_pb2.FileDescriptorProto(name="check.proto", package=PACKAGE, syntax="proto3")
    for name, fields in MESSAGES.items():
        message = file.message_type.add(name=name)
        for field, number, kind in fields:
            label = 1
            if kind == "map":
                entry = message.nested_type.add(name="HeadersEntry")
                entry.options.map_entry = True
                entry.field.add(name="key", number=1, type=9, label=1)
                entry.field.add(name="value", number=2, type=9, label=1)
                message.field.add(name=field, number=number, type=11, label=3, type_name=f".{PACKAGE}.{name}.HeadersEntry")
                continue
            if kind.startswith("*"):
                label, kind = 3, kind[1:]
            if kind in TYPES:
                message.field.add(name=field, number=number, type=TYPES[kind], label=label)
            else:
                message.field.add(name=field, number=number, type=11, label=label, type_name=f".{PACKAGE}.{kind}")
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return {name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{PACKAGE}.{name}")) for name in MESSAGES}


types = described()


def option(key, value):
    return types["HeaderValueOption"](header=types["HeaderValue"](key=key, value=value))


def check(request, context):
    told = json_format.MessageToDict(request, preserving_proto_field_name=True)
    told["metadata"] = {key: value for key, value in context.invocation_metadata()}
    print("asked", json.dumps(told), flush=True)
    path = request.attributes.request.http.path
    answer = types["CheckResponse"]()
    if path == "/no":
        answer.status.code = 16
        answer.denied_response.status.code = 401
        answer.denied_response.headers.append(option("www-authenticate", "Custom"))
        answer.denied_response.headers.append(option("content-type", "text/html"))
        answer.denied_response.body = "no entry"
    elif path == "/bare-no":
        answer.status.code = 7
    elif path == "/abort":
        context.abort(grpc.StatusCode.PERMISSION_DENIED, "not a verdict")
    elif path == "/garbage":
        return b"\x0a\xff"
    elif path == "/silent":
        ended = threading.Event()
        context.add_callback(ended.set)
        ended.wait()
    elif path != "/bare":
        answer.ok_response.headers.append(option("x-user", "ann"))
        answer.ok_response.headers.append(option("x-group", "a"))
        answer.ok_response.headers.append(option("x-group", "b"))
        answer.ok_response.headers.append(option("x-other", "1"))
    return answer.SerializeToString()


method = grpc.unary_unary_rpc_method_handler(check, request_deserializer=types["CheckRequest"].FromString)
server = grpc.server(futures.ThreadPoolExecutor(max_workers=16))
server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(f"{PACKAGE}.Authorization", {"Check": method}),))
server.add_insecure_port(f"127.0.0.1:{sys.argv[1]}")
server.start()
print("ready", flush=True)
server.wait_for_termination()
