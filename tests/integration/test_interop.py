# SPDX-License-Identifier: Apache-2.0
"""gRPC interoperability: the official Ruby client and server, and Python's grpcio, against our ends.

The Python tests have no generated stubs: they learn every message from the server by reflection.
"""

import contextlib
import glob
import os
import pathlib
import signal
import subprocess
import tempfile
import threading
import time

import grpc
import pytest
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

TOP = pathlib.Path(__file__).resolve().parents[2]
BUILD = pathlib.Path(os.environ.get("MICROPOD_BUILD", TOP / "build"))
SERVER = BUILD / "tests/interop-server"
CLIENT = BUILD / "tests/interop-client"
RUBY = glob.glob("/usr/lib/*/rubygems-integration/*/gems/grpc-*/src/ruby")
LONG = bool(os.environ.get("MICROPOD_TEST_LONG"))

OFFICIAL = """empty_unary large_unary client_compressed_unary client_streaming client_compressed_streaming server_streaming
    ping_pong empty_stream cancel_after_begin cancel_after_first_response timeout_on_sleeping_server custom_metadata
    status_code_and_message unimplemented_method unimplemented_service""".split()
# Debian's Ruby server does not know the fields that ask for compression, nor percent-encodes status messages as newer ones do.
RUBY_SERVER = [c for c in OFFICIAL if "compressed" not in c]
OURS = OFFICIAL + ["server_compressed_unary", "server_compressed_streaming", "special_status_message"]


@contextlib.contextmanager
def process(*argv, **kwargs):
    with subprocess.Popen([str(a) for a in argv], stdout=subprocess.PIPE, text=True, **kwargs) as p:
        try:
            yield p
        finally:
            if p.poll() is None:
                p.terminate()
            try:
                p.wait(10)
            except subprocess.TimeoutExpired:
                p.kill()
                raise


@contextlib.contextmanager
def our_server():
    assert SERVER.exists(), f"{SERVER} was not built: is the package grpc-proto installed?"
    with process(SERVER, "--port", 0) as p:
        port = int(p.stdout.readline().split()[1])
        assert p.stdout.readline() == "ready\n"
        p.port = port
        yield p


@pytest.fixture(scope="module")
def server():
    with our_server() as p:
        yield p
        assert p.poll() is None
    assert p.returncode == 0


@pytest.fixture(scope="module")
def ruby_server():
    assert RUBY, "the package ruby-grpc is not installed"
    with tempfile.TemporaryFile("w+") as log:
        with process("/usr/bin/ruby", RUBY[0] + "/pb/test/server.rb", "--port", 18391, stderr=log) as p:
            deadline = time.monotonic() + 20
            with grpc.insecure_channel("127.0.0.1:18391") as channel:
                grpc.channel_ready_future(channel).result(timeout=deadline - time.monotonic())
            yield 18391
            p.send_signal(signal.SIGKILL)


def run(*argv, timeout=60, stdin=None):
    r = subprocess.run([str(a) for a in argv], input=stdin, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                       timeout=timeout, check=False)
    return r.returncode, r.stdout


@pytest.mark.parametrize("case", OFFICIAL)
def test_ruby_client(server, case):
    assert RUBY, "the package ruby-grpc is not installed"
    code, out = run("/usr/bin/ruby", RUBY[0] + "/pb/test/client.rb", "--server_host", "localhost", "--server_port", server.port,
                    "--test_case", case)
    assert code == 0 and f"OK: {case}" in out, out


@pytest.mark.parametrize("case", RUBY_SERVER)
def test_our_client_ruby_server(ruby_server, case):
    assert run(CLIENT, "--port", ruby_server, "--case", case) == (0, f"OK: {case}\n")


@pytest.mark.parametrize("case", OURS)
def test_our_client_our_server(server, case):
    assert run(CLIENT, "--port", server.port, "--case", case) == (0, f"OK: {case}\n")


# Python


class Reflected:
    """A client that knows a server's address, and asks it for the rest."""

    def __init__(self, channel, version="v1"):
        self.channel = channel
        self.version = version
        self.pool = descriptor_pool.DescriptorPool()
        self.factory = message_factory.MessageFactory(self.pool)
        own = descriptor_pool.DescriptorPool()
        with tempfile.NamedTemporaryFile() as f:
            subprocess.run(["protoc", f"-I{TOP}/proto", f"--descriptor_set_out={f.name}",
                            f"grpc/reflection/{version}/reflection.proto"], check=True)
            for file in descriptor_pb2.FileDescriptorSet.FromString(f.read()).file:
                own.Add(file)
        factory = message_factory.MessageFactory(own)
        self.request = factory.GetPrototype(own.FindMessageTypeByName(f"grpc.reflection.{version}.ServerReflectionRequest"))
        self.response = factory.GetPrototype(own.FindMessageTypeByName(f"grpc.reflection.{version}.ServerReflectionResponse"))
        self.known = set()

    def ask(self, **question):
        call = self.channel.stream_stream(f"/grpc.reflection.{self.version}.ServerReflection/ServerReflectionInfo",
                                          self.request.SerializeToString, self.response.FromString)
        return list(call(iter([self.request(**question)]), timeout=10))[0]

    def services(self):
        return [s.name for s in self.ask(list_services="").list_services_response.service]

    def learn(self, symbol):
        answer = self.ask(file_containing_symbol=symbol)
        assert not answer.HasField("error_response"), answer
        files = [descriptor_pb2.FileDescriptorProto.FromString(b) for b in answer.file_descriptor_response.file_descriptor_proto]
        for file in reversed(files):  # imports stand behind what imports them
            if file.name not in self.known:
                self.known.add(file.name)
                self.pool.Add(file)

    def method(self, service, name):
        if not any(service.startswith(k) for k in self.known):
            self.learn(service)
        m = self.pool.FindServiceByName(service).FindMethodByName(name)
        request, response = (self.factory.GetPrototype(d) for d in (m.input_type, m.output_type))
        call = getattr(self.channel, f"{'stream' if m.client_streaming else 'unary'}_"
                                     f"{'stream' if m.server_streaming else 'unary'}"
                       if hasattr(m, "client_streaming") else STREAMS.get(name, "unary_unary"))
        return request, call(f"/{service}/{name}", request.SerializeToString, response.FromString)


STREAMS = {"StreamingOutputCall": "unary_stream", "StreamingInputCall": "stream_unary", "FullDuplexCall": "stream_stream",
           "Watch": "unary_stream"}
TEST = "grpc.testing.TestService"


@pytest.fixture
def client(server):
    with grpc.insecure_channel(f"127.0.0.1:{server.port}") as channel:
        yield Reflected(channel)


@pytest.mark.parametrize("version", ["v1", "v1alpha"])
def test_reflection(server, version):
    with grpc.insecure_channel(f"127.0.0.1:{server.port}") as channel:
        client = Reflected(channel, version)
        assert sorted(client.services()) == ["grpc.health.v1.Health", "grpc.reflection.v1.ServerReflection",
                                             "grpc.reflection.v1alpha.ServerReflection", TEST]
        for symbol in (TEST, TEST + ".UnaryCall", "grpc.testing.SimpleRequest", "grpc.testing.SimpleRequest.payload",
                       "grpc.testing.PayloadType", "grpc.testing.LoadBalancerStatsResponse.RpcsByPeer"):
            answer = client.ask(file_containing_symbol=symbol)
            assert answer.file_descriptor_response.file_descriptor_proto, symbol
        for symbol in ("grpc.testing", "grpc.testing.Nothing", "grpc.testing.SimpleRequest.nothing", "", "."):
            assert client.ask(file_containing_symbol=symbol).error_response.error_code == 5, symbol
        assert client.ask(file_by_filename="grpc/testing/test.proto").HasField("file_descriptor_response")
        assert client.ask(file_by_filename="nothing.proto").error_response.error_code == 5
        assert client.ask(all_extension_numbers_of_type="grpc.testing.Payload").HasField("all_extension_numbers_response")
        request, unary = client.method(TEST, "UnaryCall")
        assert len(unary(request(response_size=1000), timeout=10).payload.body) == 1000


def test_health(client):
    request, check = client.method("grpc.health.v1.Health", "Check")
    assert check(request(), timeout=10).status == 1
    assert check(request(service=TEST), timeout=10).status == 1
    with pytest.raises(grpc.RpcError) as e:
        check(request(service="nothing"), timeout=10)
    assert e.value.code() == grpc.StatusCode.NOT_FOUND
    request, watch = client.method("grpc.health.v1.Health", "Watch")
    stream = watch(request(service="nothing"), timeout=10)
    assert next(stream).status == 3
    stream.cancel()


def test_server_compressed(client):
    request, unary = client.method(TEST, "UnaryCall")
    for on in (True, False):
        answer = unary(request(response_size=314159, response_compressed={"value": on}), timeout=10)
        assert answer.payload.body == bytes(314159)
    request, stream = client.method(TEST, "StreamingOutputCall")
    answers = stream(request(response_parameters=[{"size": 31415, "compressed": {"value": True}},
                                                  {"size": 92653, "compressed": {"value": False}}]), timeout=10)
    assert [len(a.payload.body) for a in answers] == [31415, 92653]


def test_client_compressed(client):
    request, unary = client.method(TEST, "UnaryCall")
    big = request(payload={"body": bytes(271828)}, expect_compressed={"value": True}, response_size=1)
    for algorithm in (grpc.Compression.Gzip, grpc.Compression.Deflate):
        assert unary(big, timeout=10, compression=algorithm).payload.body == b"\0"
    with pytest.raises(grpc.RpcError) as e:
        unary(big, timeout=10)
    assert e.value.code() == grpc.StatusCode.INVALID_ARGUMENT


def test_special_status_message(client):
    text = "\t\ntest with whitespace\r\nand Unicode BMP ☺ and non-BMP 😈\t\n"
    request, unary = client.method(TEST, "UnaryCall")
    with pytest.raises(grpc.RpcError) as e:
        unary(request(response_status={"code": 2, "message": text}), timeout=10)
    assert e.value.code() == grpc.StatusCode.UNKNOWN
    assert e.value.details() == text


def test_concurrent_large_unary(client):
    request, unary = client.method(TEST, "UnaryCall")
    big = request(payload={"body": bytes(271828)}, response_size=314159)
    calls = [unary.future(big, timeout=60) for _ in range(1000 if LONG else 200)]
    assert all(len(c.result().payload.body) == 314159 for c in calls)


def test_metadata(client):
    request, unary = client.method(TEST, "UnaryCall")
    blob = bytes(range(256))
    call = unary.future(request(response_size=1), timeout=10, metadata=[
        ("x-grpc-test-echo-initial", "plain, with: signs"), ("x-grpc-test-echo-trailing-bin", blob)])
    call.result()
    assert ("x-grpc-test-echo-initial", "plain, with: signs") in call.initial_metadata()
    assert ("x-grpc-test-echo-trailing-bin", blob) in call.trailing_metadata()
    with pytest.raises(grpc.RpcError) as e:
        unary(request(), timeout=10, metadata=[("x-big", "v" * 40000)])
    assert e.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED


def test_deadline_and_cancellation(client):
    request, duplex = client.method(TEST, "FullDuplexCall")
    hold = threading.Event()

    def requests():
        yield request(response_parameters=[{"size": 10}])
        hold.wait(10)

    call = duplex(requests(), timeout=0.3)
    assert len(next(call).payload.body) == 10
    with pytest.raises(grpc.RpcError) as e:
        next(call)
    assert e.value.code() == grpc.StatusCode.DEADLINE_EXCEEDED
    call = duplex(requests(), timeout=10)
    next(call)
    call.cancel()
    with pytest.raises(grpc.RpcError) as e:
        next(call)
    assert e.value.code() == grpc.StatusCode.CANCELLED
    hold.set()


def test_flow_control_pushback(client):
    """A stream of 64 MB that nobody reads for a while comes whole, and the server's memory stays small."""
    request, stream = client.method(TEST, "StreamingOutputCall")
    call = stream(request(response_parameters=[{"size": 1 << 20}] * 64), timeout=60)
    assert len(next(call).payload.body) == 1 << 20
    time.sleep(1)
    assert sum(len(a.payload.body) for a in call) == 63 << 20


def test_invalid_utf8(server, client):
    request, _ = client.method(TEST, "UnaryCall")
    raw = client.channel.unary_unary(f"/{TEST}/UnaryCall", None, None)
    # response_status.message, field 2 of field 7
    with pytest.raises(grpc.RpcError) as e:
        raw(b"\x3a\x05\x08\x02\x12\x01\xff", timeout=10)
    assert e.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    with pytest.raises(grpc.RpcError) as e:
        raw(b"\x3a\x7f", timeout=10)
    assert e.value.code() == grpc.StatusCode.INTERNAL


@pytest.mark.parametrize("args, status", [
    (["-H", "content-type: text/plain", "--data", "x"], "415"),
    (["-H", "content-type: application/grpc"], "405"),
    (["-H", "content-type: application/grpc", "--data-binary", "@/dev/stdin"], "200"),  # without te
])
def test_plain_http(server, args, status):
    code, out = run("curl", "-s", "-o", "/dev/null", "-w", "%{http_code}", "--http2-prior-knowledge", "--max-time", 10, *args,
                    f"http://127.0.0.1:{server.port}/{TEST}/EmptyCall", stdin="\0\0\0\0\0")
    assert (code, out) == (0, status)


def test_drain():
    """SIGTERM: calls underway end well, then the server is gone."""
    with our_server() as p, grpc.insecure_channel(f"127.0.0.1:{p.port}") as channel:
        client = Reflected(channel)
        request, stream = client.method(TEST, "StreamingOutputCall")
        call = stream(request(response_parameters=[{"size": 10, "interval_us": 300000}] * 4), timeout=20)
        next(call)
        p.terminate()
        assert len(list(call)) == 3
        assert p.wait(10) == 0
