# SPDX-License-Identifier: Apache-2.0
"""The agent with clients that know less than ours, and with its other runtime."""
import contextlib
import json
import os
import shutil
import subprocess
from pathlib import Path

import grpc
import pytest
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

from agent_fixture import BUILD, TOP, Agent, generate, new_folder

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="containers on this host need root")
JS = Path(__file__).parent / "js"
# crun refuses a host with v1 and v2 cgroups side by side, so it gets one that looks like a VM: v2 alone, privately.
PURE_V2 = ("unshare", "-m", "sh", "-c",
           'mount --make-rprivate / && umount -R /sys/fs/cgroup && mount -t cgroup2 none /sys/fs/cgroup && exec "$@"', "sh")


@pytest.fixture(scope="module")
def api(tmp_path_factory):
    return generate(tmp_path_factory.mktemp("stubs"))


@contextlib.contextmanager
def serving(api, **kwargs):
    folder = new_folder()
    a = Agent(folder, *api, **kwargs)
    try:
        yield a
    finally:
        code = a.stop()
    assert code == 0
    assert not list(Path("/sys/fs/cgroup").glob(f"*/micropod-agent-{a.process.pid}"))
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def agent(api):
    with serving(api) as a:
        yield a


def node_modules():
    """The pinned packages, installed once below the build folder."""
    folder = BUILD / "tests/js"
    lock = (JS / "package-lock.json").read_bytes()
    done = folder / "installed"
    if not done.exists() or done.read_bytes() != lock:
        folder.mkdir(parents=True, exist_ok=True)
        for name in ("package.json", "package-lock.json"):
            shutil.copy(JS / name, folder / name)
        subprocess.run(["npm", "ci", "--no-audit", "--no-fund", "--ignore-scripts"], cwd=folder, check=True, timeout=300)
        done.write_bytes(lock)
    return folder / "node_modules"


def test_grpc_js(agent):
    r = subprocess.run(["node", JS / "agent.js", agent.socket, TOP / "proto", agent.root], capture_output=True, text=True,
                       timeout=120, env={**os.environ, "MICROPOD_NODE_MODULES": str(node_modules())})
    assert (r.returncode, r.stdout) == (0, "ok\n"), r.stderr


def reflected(channel, symbol, tmp_path, version):
    """Files of a symbol by server reflection alone, in a pool of their own."""
    folder = tmp_path / version
    folder.mkdir()
    proto = f"grpc/reflection/{version}/reflection.proto"
    subprocess.run(["protoc", f"-I{TOP / 'proto'}", f"--descriptor_set_out={folder / 'set'}", proto], check=True)
    own = descriptor_pool.DescriptorPool()
    for f in descriptor_pb2.FileDescriptorSet.FromString((folder / "set").read_bytes()).file:
        own.Add(f)
    message = {n: message_factory.MessageFactory(own).GetPrototype(
        own.FindMessageTypeByName(f"grpc.reflection.{version}.ServerReflection{n}")) for n in ("Request", "Response")}
    call = channel.stream_stream(f"/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo",
                                 request_serializer=lambda m: m.SerializeToString(),
                                 response_deserializer=message["Response"].FromString)
    answers = list(call(iter([message["Request"](list_services=""), message["Request"](file_containing_symbol=symbol)]),
                        timeout=20))
    services = {s.name for s in answers[0].list_services_response.service}
    pool = descriptor_pool.DescriptorPool()
    for data in answers[1].file_descriptor_response.file_descriptor_proto:
        pool.Add(descriptor_pb2.FileDescriptorProto.FromString(data))
    return services, pool


@pytest.mark.parametrize("version", ["v1", "v1alpha"])
def test_reflection_is_enough_to_call(agent, tmp_path, version):
    services, pool = reflected(agent.channel, "micropod.agent.v1.Agent", tmp_path, version)
    assert {"micropod.agent.v1.Agent", "api.Agent", "grpc.health.v1.Health"} <= services
    service = pool.FindServiceByName("micropod.agent.v1.Agent")
    factory = message_factory.MessageFactory(pool)

    def unary(name, **fields):
        method = service.methods_by_name[name]
        request = factory.GetPrototype(method.input_type)(**fields)
        return agent.channel.unary_unary(f"/{service.full_name}/{name}",
                                         request_serializer=lambda m: m.SerializeToString(),
                                         response_deserializer=factory.GetPrototype(method.output_type).FromString)(
                                             request, timeout=60)
    r = unary("CreateContainer", container_id="reflected", process_args=["sh", "-c", "exit 3"], rootfs_path=str(agent.root))
    assert r.status == "RUNNING", r
    assert unary("Wait", container_id="reflected").exit.code == 3
    unary("DeleteContainer", container_id="reflected", force=True)


def test_health(agent):
    def serializer(message):
        return message
    health = agent.channel.unary_unary("/grpc.health.v1.Health/Check", request_serializer=serializer,
                                       response_deserializer=serializer)
    assert health(b"", timeout=10) == b"\x08\x01"


def test_invalid_utf8_in_a_string_field(agent):
    raw = agent.channel.unary_unary("/api.Agent/CreateContainer", request_serializer=lambda m: m,
                                    response_deserializer=lambda m: m)
    with pytest.raises(grpc.RpcError) as e:
        raw(b"\x0a\x02a\xff\x12\x04true\x1a\x01/", timeout=10)
    assert e.value.code() == grpc.StatusCode.INVALID_ARGUMENT


def spec_for_crun(*args, **process):
    """Without a device list, for which crun raises a limit that this host does not let it raise; a VM does."""
    caps = ["CAP_CHOWN", "CAP_KILL", "CAP_SETUID", "CAP_SETGID"]
    return json.dumps({
        "ociVersion": "1.0.2", "root": {"path": "rootfs"}, "hostname": "crun",
        "process": {"args": args, "cwd": "/", "env": ["PATH=/bin", "A=b"], "user": {"uid": 0, "gid": 0},
                    "capabilities": {n: caps for n in ("bounding", "effective", "permitted")}, **process},
        "mounts": [{"destination": "/proc", "type": "proc", "source": "proc"},
                   {"destination": "/dev", "type": "tmpfs", "source": "tmpfs"},
                   {"destination": "/dev/pts", "type": "devpts", "source": "devpts", "options": ["newinstance", "ptmxmode=0666"]}],
        "linux": {"namespaces": [{"type": t} for t in ("pid", "mount", "uts", "ipc", "cgroup")],
                  "resources": {"pids": {"limit": 0}}}}).encode()


def test_crun(api):
    with serving(api, runtime="crun", prefix=PURE_V2) as a:
        pb = a.pb

        def create(container_id, *args, **process):
            r = a.stub.CreateContainer(pb.CreateContainerRequest(
                container_id=container_id, rootfs_path=str(a.root), oci_spec=spec_for_crun(*args, **process)), timeout=60)
            return container_id, r
        assert a.stub.Info(pb.InfoRequest()).runtime == "crun"
        box, r = create("box", "sleep", "100000")
        assert r.status == "RUNNING", r
        show = "cat /proc/self/cgroup; grep -E 'Cap|Seccomp|NoNew|Groups|Uid' /proc/self/status; cat /proc/self/limits"
        first, r = create("first", "sh", "-c", show)
        assert r.status == "RUNNING", r
        a.wait(first)
        logged = b"".join(e.data for e in a.logs(first)).decode().splitlines()
        ours = a.exec(box, "sh", "-c", show).out.decode().splitlines()
        assert logged == ours and ours[-1] and "0::/" in ours
        assert a.exec(box, "cat", stdin=b"x" * 100000).out == b"x" * 100000
        assert a.exec(box, "sh", "-c", "exit 3").exit.code == 3
        # kill_after in a real v2 tree
        assert a.exec(box, "sh", "-c", "(setsid sleep 4444 &); sleep 4444", kill_after_ns=300_000_000).exit.signal == 9
        assert b"4444" not in a.exec(box, "sh", "-c", "cat /proc/[0-9]*/cmdline | tr '\\0' ' ' | grep '[s]leep 4'").out
        _, r = create("bad", "no-such-program")
        assert r.status == "FAILED" and r.failure.errno_value == 2 and "no-such-program" in r.error_message
        (a.root / "bin/garbage").write_text("no program")
        (a.root / "bin/garbage").chmod(0o755)
        _, r = create("garbage", "garbage")
        assert r.status == "FAILED" and r.failure.errno_value == 8 and "'garbage'" in r.error_message
        tty, r = create("tty", "sh", "-c", "stty size; exit 6", terminal=True, consoleSize={"height": 5, "width": 50})
        assert r.status == "RUNNING", r
        assert a.wait(tty).code == 6 and b"5 50" in b"".join(e.data for e in a.logs(tty))
        r = a.exec(box, "sh", "-c", "tty; stty size", tty=True, window=pb.WindowSize(rows=3, columns=33))
        assert r.out == b"/dev/pts/0\r\n3 33\r\n"
        stages = [e.stage for e in a.stub.StopContainer(pb.StopContainerRequest(container_id=box, grace_ns=200_000_000))]
        assert stages == ["signalled", "killed", "stopped"]
        for name in (box, first, tty):
            a.delete(name)


def test_no_fault_on_request(agent):
    """What a -Dtest_faults build does: this one must not."""
    agent.stub.Info(agent.pb.InfoRequest(), metadata=[("micropod-fault", "abort")], timeout=10)
    assert agent.process.poll() is None
