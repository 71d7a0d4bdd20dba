# SPDX-License-Identifier: Apache-2.0
"""A running `micropod-agent serve` for tests, and a client of it made with grpcio from proto/agent.proto."""
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from pathlib import Path

import grpc

TOP = Path(__file__).resolve().parents[2]
BUILD = Path(os.environ.get("MICROPOD_BUILD", TOP / "build"))
# The static one, as VMs get it, where it is built; a sanitizer build has only its own.
STATIC = BUILD / "guest/agent"
AGENT = Path(os.environ.get("MICROPOD_AGENT", STATIC if STATIC.exists() else BUILD / "src/agent/micropod-agent"))
LONG = os.environ.get("MICROPOD_TEST_LONG") == "1"


def is_static(binary=None):
    headers = subprocess.run(["readelf", "-lW", binary or AGENT], capture_output=True, check=True).stdout
    return b"INTERP" not in headers


def generate(folder: Path):
    """Python messages and stubs of agent.proto; returns (messages, stubs)."""
    plugin = shutil.which("grpc_python_plugin")
    subprocess.run(["protoc", f"-I{TOP / 'proto'}", f"--python_out={folder}", f"--grpc_out={folder}",
                    f"--plugin=protoc-gen-grpc={plugin}", "agent.proto"], check=True)
    sys.path.insert(0, str(folder))
    import agent_pb2
    import agent_pb2_grpc
    return agent_pb2, agent_pb2_grpc


def make_root(folder: Path) -> Path:
    """A root file system of busybox alone, with the accounts that tests ask for."""
    for name in ("bin", "etc", "tmp", "root", "home/anna", "proc", "sys", "dev", "usr/local/bin"):
        (folder / name).mkdir(parents=True)
    shutil.copy("/bin/busybox", folder / "bin/busybox")
    for applet in subprocess.run(["/bin/busybox", "--list"], capture_output=True, text=True, check=True).stdout.split():
        if applet != "busybox":
            (folder / "bin" / applet).symlink_to("busybox")
    (folder / "etc/passwd").write_text("root:x:0:0:root:/root:/bin/sh\nanna:x:1000:1000:Anna:/home/anna:/bin/sh\n")
    (folder / "etc/group").write_text("root:x:0:\nanna:x:1000:\ncrew:x:2000:anna\n")
    os.chown(folder / "home/anna", 1000, 1000)
    (folder / "tmp").chmod(0o1777)
    return folder


class Agent:
    """One agent process. runtime: "runc" or "crun"; prefix: a command it is started under."""

    def __init__(self, folder: Path, pb, stubs, runtime="runc", binary=AGENT, prefix=()):
        self.pb, self.folder = pb, folder
        self.socket = folder / "agent.sock"
        self.log = open(folder / "agent.log", "wb")
        self.process = subprocess.Popen(
            [*prefix, str(binary), "serve", "--listen", f"unix:{self.socket}", "--runtime", runtime, "--state-dir",
             str(folder / "state"), "--log", "info"], stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log)
        self.channel = grpc.insecure_channel(f"unix:{self.socket}", options=[("grpc.max_receive_message_length", 64 << 20)])
        grpc.channel_ready_future(self.channel).result(timeout=20)
        self.stub = stubs.AgentStub(self.channel)
        self.root = make_root(folder / "rootfs")

    def create(self, *args, container_id=None, **fields):
        request = self.pb.CreateContainerRequest(container_id=container_id or "c" + uuid.uuid4().hex[:10],
                                                 rootfs_path=str(self.root), **fields)
        request.args.extend(a if isinstance(a, bytes) else a.encode() for a in args)
        response = self.stub.CreateContainer(request, timeout=60)
        return request.container_id, response

    def sleeper(self, **fields):
        """A container that does nothing, for execs."""
        container_id, response = self.create("sleep", "100000", **fields)
        assert response.status == "RUNNING", response
        return container_id

    def spec(self, *args, **fields):
        return self.pb.ProcessSpec(args=[a if isinstance(a, bytes) else a.encode() for a in args], **fields)

    def exec(self, container_id, *args, stdin=None, exec_id="", timeout=60, **fields):
        """Runs to the end; returns an object with out, err, exit, pid, exec_id."""
        def requests():
            yield self.pb.ExecRequest(start=self.pb.ExecStart(
                container_id=container_id, exec_id=exec_id,
                process=self.spec(*args, open_stdin=stdin is not None, **fields)))
            for at in range(0, len(stdin or b""), 65536):
                yield self.pb.ExecRequest(stdin=stdin[at:at + 65536])
        return collect(self.pb, self.stub.ExecInContainer(requests(), timeout=timeout))

    def wait(self, container_id, exec_id="", timeout=60):
        return self.stub.Wait(self.pb.WaitRequest(container_id=container_id, exec_id=exec_id), timeout=timeout).exit

    def logs(self, container_id, **fields):
        return list(self.stub.GetContainerLogs(self.pb.GetContainerLogsRequest(container_id=container_id, **fields),
                                               timeout=30))

    def delete(self, container_id):
        self.stub.DeleteContainer(self.pb.DeleteContainerRequest(container_id=container_id, force=True), timeout=60)

    def rss_kib(self):
        for line in Path(f"/proc/{self.process.pid}/status").read_text().splitlines():
            if line.startswith("VmRSS"):
                return int(line.split()[1])
        raise AssertionError("the agent has no RSS")

    def stop(self):
        """Ends it in order; returns its exit code."""
        self.channel.close()
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            code = self.process.wait(timeout=60)
            said = (self.folder / "agent.log").read_text(errors="replace")
            assert "runtime error" not in said and "Sanitizer" not in said, said
            return code
        finally:
            if self.process.poll() is None:
                self.process.kill()
                self.process.wait()
            self.log.close()


class Result:
    def __init__(self):
        self.out, self.err, self.exit, self.pid, self.exec_id, self.gaps = bytearray(), bytearray(), None, 0, "", []


def collect(pb, events):
    """Output of an exec or attach stream, with its offsets checked."""
    r = Result()
    at = {pb.STREAM_STDOUT: None, pb.STREAM_STDERR: None}
    for event in events:
        assert r.exit is None, "something came after the exit"
        kind = event.WhichOneof("kind")
        if kind == "started":
            r.pid, r.exec_id = event.started.pid, event.started.exec_id
        elif kind == "exit":
            r.exit = event.exit
        else:
            o = event.output
            if o.HasField("gap"):
                r.gaps.append((o.stream, getattr(o.gap, "from"), o.gap.to))
                assert o.gap.to == o.offset
            elif at[o.stream] is not None:
                assert o.offset == at[o.stream]
            at[o.stream] = o.offset + len(o.data)
            if o.stream == pb.STREAM_STDOUT:
                r.out += o.data
            else:
                r.err += o.data
    return r


def wait_until(condition, seconds=10):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "not true in time"
        time.sleep(0.02)


def new_folder() -> Path:
    return Path(tempfile.mkdtemp(prefix="micropod-agent-test-"))
