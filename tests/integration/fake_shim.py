# SPDX-License-Identifier: Apache-2.0
"""Stands in for micropod-shim where the command line alone is tested: the "container" is a process on this host.

It speaks both services as the shim offers them, and breaks on demand (FAKE_SHIM, words with a number each):
  cut-output=N  Attach ends UNAVAILABLE after N bytes, each time          cut-input=N  SendInput likewise
  die=N         the shim dies after N bytes of output                     refuse=CODE  the start fails with that exit code
  old           an earlier version, which knows no Kill
  deaf          Stop and Kill are never answered                          gap          output begins with a gap of 7 bytes
"""
import argparse
import concurrent.futures
import ctypes
import errno
import fcntl
import json
import os
import pathlib
import pty
import shutil
import signal
import struct
import subprocess
import sys
import termios
import threading
import time

sys.path.insert(0, os.environ["FAKE_SHIM_PROTO"])
import grpc  # noqa: E402
import agent_pb2 as agent  # noqa: E402
import details_pb2 as details  # noqa: E402
import sandbox_pb2 as sandbox  # noqa: E402

FAULTS = dict((word.split("=") + ["1"])[:2] for word in os.environ.get("FAKE_SHIM", "").split())


def fault(name):
    return int(FAULTS[name]) if name in FAULTS else None


def text(value):
    return bytes.fromhex(value["hex"]) if isinstance(value, dict) else value.encode()


LIBC = ctypes.CDLL(None)


def die_with_us():
    LIBC.prctl(1, signal.SIGKILL)


def take_terminal():
    die_with_us()
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


def set_size(fd, window):
    fcntl.ioctl(fd, termios.TIOCSWINSZ, struct.pack("HHHH", window.rows, window.columns, 0, 0))


class Process:
    """A process with kept output, as the agent has it."""

    def __init__(self, args, env=None, cwd=None, tty=False, stdin=False, window=None):
        self.changed = threading.Condition()
        self.kept = {agent.STREAM_STDOUT: bytearray(), agent.STREAM_STDERR: bytearray()}
        self.exit = None
        self.taken = 0
        self.master = None
        if tty:
            self.master, slave = pty.openpty()
            if window:
                set_size(self.master, window)
            self.popen = subprocess.Popen(args, stdin=slave, stdout=slave, stderr=slave, env=env, cwd=cwd, start_new_session=True,
                                          preexec_fn=take_terminal)
            os.close(slave)
            self.input = self.master
            readers = [(self.master, agent.STREAM_STDOUT)]
        else:
            self.popen = subprocess.Popen(args, stdin=subprocess.PIPE if stdin else subprocess.DEVNULL, stdout=subprocess.PIPE,
                                          stderr=subprocess.PIPE, env=env, cwd=cwd, start_new_session=True, preexec_fn=die_with_us)
            self.input = self.popen.stdin.fileno() if stdin else None
            readers = [(self.popen.stdout.fileno(), agent.STREAM_STDOUT), (self.popen.stderr.fileno(), agent.STREAM_STDERR)]
        self.readers = [threading.Thread(target=self.read, args=pair, daemon=True) for pair in readers]
        for thread in self.readers:
            thread.start()
        threading.Thread(target=self.wait, daemon=True).start()

    def read(self, fd, stream):
        while True:
            try:
                data = os.read(fd, 65536)
            except OSError:
                data = b""
            if not data:
                return
            with self.changed:
                self.kept[stream] += data
                self.changed.notify_all()

    def wait(self):
        code = self.popen.wait()
        for thread in self.readers:
            thread.join(5)
        with self.changed:
            self.exit = agent.Exit(code=code if code >= 0 else 128 - code, signal=max(-code, 0))
            self.changed.notify_all()

    def output(self, offsets):
        """Yields Output from the offsets on, then the Exit."""
        while True:
            with self.changed:
                self.changed.wait_for(lambda: self.exit or any(len(self.kept[s]) > offsets[s] for s in offsets))
                chunks = [(s, offsets[s], bytes(self.kept[s][offsets[s]:offsets[s] + 32768])) for s in offsets]
                end = self.exit
            if not any(data for _, _, data in chunks):
                yield end
                return
            for stream, offset, data in chunks:
                if data:
                    offsets[stream] += len(data)
                    yield agent.Output(stream=stream, offset=offset, data=data)

    def write(self, data):
        while data:
            data = data[os.write(self.input, data):]

    def close_input(self):
        if self.master is not None:
            self.write(b"\x04")
        elif self.popen.stdin:
            self.popen.stdin.close()


class Shim:
    def __init__(self, args):
        self.args = args
        self.folder = pathlib.Path(args.root) / "sandboxes" / args.id
        self.config = json.loads((self.folder / "config.json").read_text())
        self.state = {"phase": "running", "boot_id": pathlib.Path("/proc/sys/kernel/random/boot_id").read_text().strip(),
                      "shim_pid": os.getpid(), "shim_start": int(pathlib.Path("/proc/self/stat").read_text().rsplit(")", 1)[1].split()[19]),
                      "ports": self.config.get("ports", []), "started_ns": 0}
        self.main = None
        self.execs = {}
        self.over = threading.Event()
        self.attached = False
        self.window = agent.WindowSize(rows=args.rows, columns=args.columns) if args.rows and args.columns else None
        self.delivered = threading.Event()
        self.output_read = 0

    def save(self):
        tmp = self.folder / "state.tmp"
        tmp.write_text(json.dumps(self.state))
        tmp.rename(self.folder / "state.json")

    # Agent

    def fail(self, context, code, message, failure=None):
        if failure:
            status = details.Status(code=code.value[0], message=message)
            status.details.add(type_url="type.googleapis.com/micropod.agent.v1.Failure", value=failure.SerializeToString())
            context.set_trailing_metadata((("grpc-status-details-bin", status.SerializeToString()),))
        context.abort(code, message)

    def process(self, request, context):
        process = self.execs.get(request.exec_id) if request.exec_id else self.main
        if not process:
            self.fail(context, grpc.StatusCode.NOT_FOUND, "no such process")
        return process

    def attach(self, request, context):
        while not self.main and not self.over.is_set():
            time.sleep(0.01)
        self.attached = True
        offsets = {agent.STREAM_STDOUT: request.stdout_offset, agent.STREAM_STDERR: request.stderr_offset}
        sent = 0
        if fault("gap") and request.stdout_offset == 0:
            yield agent.ProcessEvent(output=agent.Output(stream=agent.STREAM_STDOUT, gap=agent.Gap(**{"from": 3, "to": 10}), offset=0))
        for item in self.main.output(offsets):
            if isinstance(item, agent.Exit):
                yield agent.ProcessEvent(exit=item)
                self.delivered.set()
                return
            yield agent.ProcessEvent(output=item)
            sent += len(item.data)
            if fault("die") is not None and sent >= fault("die"):
                time.sleep(0.2)
                os.kill(os.getpid(), signal.SIGKILL)
            if fault("cut-output") is not None and sent >= fault("cut-output"):
                self.fail(context, grpc.StatusCode.UNAVAILABLE, "cut")

    def send_input(self, requests, context):
        process, here = None, 0
        for request in requests:
            process = process or self.process(request, context)
            data = request.data
            if request.offset_set:
                if request.offset > process.taken:
                    self.fail(context, grpc.StatusCode.OUT_OF_RANGE, f"offset {request.offset}, but {process.taken} bytes were taken")
                data = data[process.taken - request.offset:]
            try:
                process.write(data)
            except OSError:
                self.fail(context, grpc.StatusCode.FAILED_PRECONDITION, "stdin is closed")
            process.taken += len(data)
            here += len(data)
            if fault("cut-input") is not None and here >= fault("cut-input"):
                self.fail(context, grpc.StatusCode.UNAVAILABLE, "cut")
        return agent.SendInputResponse(taken=process.taken if process else 0)

    def close_input(self, request, context):
        self.process(request, context).close_input()
        return agent.CloseInputResponse()

    def resize(self, request, context):
        if not request.exec_id and not self.main:
            self.window = request.window  # of a container that is made and not started
            return agent.ResizeResponse()
        process = self.process(request, context)
        if process.master is not None:
            set_size(process.master, request.window)
        return agent.ResizeResponse()

    def spawn(self, spec, context):
        args = list(spec.args)
        env = {**os.environb, **dict(pair.split(b"=", 1) for pair in spec.env if b"=" in pair)}
        env[b"USER_SEEN"] = spec.user.name if spec.HasField("user") else b"unset"
        env[b"PRIVILEGED_SEEN"] = str(spec.privileged).encode()
        try:
            return Process(args, env, spec.cwd or None, spec.tty, spec.open_stdin, spec.window if spec.HasField("window") else None)
        except OSError as error:
            failure = agent.Failure(kind=agent.Failure.SPAWN, errno_value=error.errno, step="execute", object=str(args[0]))
            self.fail(context, grpc.StatusCode.FAILED_PRECONDITION, f"cannot run '{args[0].decode()}': {error.strerror}", failure)

    def execute(self, requests, context):
        process = self.spawn(next(requests).start.process, context)
        yield agent.ExecEvent(started=agent.Started(exec_id="x", pid=process.popen.pid))

        def feed():
            try:
                for request in requests:
                    kind = request.WhichOneof("kind")
                    if kind == "stdin":
                        process.write(request.stdin)
                    elif kind == "close_stdin":
                        process.close_input()
                    elif kind == "resize":
                        set_size(process.master, request.resize)
                    elif kind == "signal":
                        os.killpg(process.popen.pid, request.signal)
            except (OSError, ValueError, grpc.RpcError):
                pass

        threading.Thread(target=feed, daemon=True).start()
        for item in process.output({agent.STREAM_STDOUT: 0, agent.STREAM_STDERR: 0}):
            yield agent.ExecEvent(exit=item) if isinstance(item, agent.Exit) else agent.ExecEvent(output=item)

    def create_process(self, request, context):
        self.execs[request.exec_id] = request.process
        return agent.CreateProcessResponse(exec_id=request.exec_id)

    def start_process(self, request, context):
        self.execs[request.exec_id] = self.spawn(self.execs[request.exec_id], context)
        return agent.StartProcessResponse(pid=self.execs[request.exec_id].popen.pid)

    # Sandbox

    def start_main(self):
        env = {**os.environb, **dict(text(pair).split(b"=", 1) for pair in self.config.get("env", []))}
        self.main = Process([text(arg) for arg in self.config["args"]], env, None, self.config["tty"], self.config["open_stdin"],
                            self.window)
        self.state["started_ns"] = time.time_ns()
        self.save()
        threading.Thread(target=self.log, daemon=True).start()

    def log(self):
        with open(self.folder / "container.log", "ab", buffering=0) as out:
            for item in self.main.output({agent.STREAM_STDOUT: 0, agent.STREAM_STDERR: 0}):
                if isinstance(item, agent.Exit):
                    break
                name = b"stderr" if item.stream == agent.STREAM_STDERR else b"stdout"
                stamp = time.strftime("%Y-%m-%dT%H:%M:%S.000000000Z", time.gmtime()).encode()
                lines = item.data.split(b"\n")
                for i, line in enumerate(lines):
                    if i < len(lines) - 1 or line:
                        out.write(b"%s %s %s %s\n" % (stamp, name, b"P" if i == len(lines) - 1 else b"F", line))
        # Who was cut off near the end gets the rest before the sandbox goes.
        if self.attached and fault("cut-output"):
            self.delivered.wait(10)
        self.state.update(phase="exited", exit_code=self.main.exit.code, finished_ns=time.time_ns())
        if self.config["remove"]:
            (pathlib.Path(self.args.root) / "names" / self.config["name"]).unlink()
            shutil.rmtree(self.folder)
        else:
            self.save()
        self.over.set()

    def start(self, request, context):
        if fault("refuse"):
            number = errno.ENOENT if fault("refuse") == 127 else errno.EACCES
            failure = agent.Failure(kind=agent.Failure.SPAWN, errno_value=number, step="execute", object="prog")
            threading.Timer(0.2, self.over.set).start()
            self.fail(context, grpc.StatusCode.FAILED_PRECONDITION, "cannot start 'prog'", failure)
        self.start_main()
        return sandbox.StartResponse(pid=self.main.popen.pid)

    def wait(self, request, context):
        self.over.wait()
        return sandbox.WaitResponse(exit_code=self.main.exit.code if self.main else 125, error=FAULTS.get("error", "").replace("_", " "))

    def stop(self, request, context):
        if fault("deaf"):
            threading.Event().wait()
        os.killpg(self.main.popen.pid, int(request.signal or 15))
        if request.grace_ns >= 0 and not self.over.wait(request.grace_ns / 1e9):
            os.killpg(self.main.popen.pid, 9)
        self.over.wait()
        return sandbox.StopResponse(exit_code=self.main.exit.code)

    def kill(self, request, context):
        names = {name[3:]: number for name, number in signal.Signals.__members__.items() if name.startswith("SIG")}
        name = request.signal.upper().removeprefix("SIG")
        os.killpg(self.main.popen.pid, names.get(name) or int(name))
        return sandbox.KillResponse()

    def status(self, request, context):
        return sandbox.StatusResponse(id=self.args.id, state="running", agent_connected=True, transport="virtio-serial",
                                      agent_version="fake 1", accel="tcg", vmm="fake 2", kernel="6.1", shim_version="fake")

    def serve(self):
        server = grpc.server(concurrent.futures.ThreadPoolExecutor(32))

        def unary(fn, kind):
            return grpc.unary_unary_rpc_method_handler(fn, kind.FromString, lambda m: m.SerializeToString())

        def out(m):
            return m.SerializeToString()

        server.add_generic_rpc_handlers((
            grpc.method_handlers_generic_handler("micropod.agent.v1.Agent", {
                "Attach": grpc.unary_stream_rpc_method_handler(self.attach, agent.AttachRequest.FromString, out),
                "SendInput": grpc.stream_unary_rpc_method_handler(self.send_input, agent.SendInputRequest.FromString, out),
                "ExecInContainer": grpc.stream_stream_rpc_method_handler(self.execute, agent.ExecRequest.FromString, out),
                "CloseInput": unary(self.close_input, agent.CloseInputRequest),
                "Resize": unary(self.resize, agent.ResizeRequest),
                "CreateProcess": unary(self.create_process, agent.CreateProcessRequest),
                "StartProcess": unary(self.start_process, agent.StartProcessRequest),
            }),
            grpc.method_handlers_generic_handler("micropod.sandbox.v1.Sandbox", {
                "Start": unary(self.start, sandbox.StartRequest),
                "Wait": unary(self.wait, sandbox.WaitRequest),
                "Stop": unary(self.stop, sandbox.StopRequest),
                **({} if fault("old") else {"Kill": unary(self.kill, sandbox.KillRequest)}),
                "Status": unary(self.status, sandbox.StatusRequest),
            }),
        ))
        run = pathlib.Path(os.environ["FAKE_SHIM_RUN"]) / self.args.id[:12]
        shutil.rmtree(run, ignore_errors=True)
        run.parent.mkdir(mode=0o700, exist_ok=True)
        run.mkdir(mode=0o700)
        server.add_insecure_port(f"unix:{run}/shim.sock")
        server.start()
        self.save()
        if self.args.detached:
            self.start_main()
        os.write(self.args.status_fd, b"ok\n")
        os.close(self.args.status_fd)
        self.over.wait()
        server.stop(2).wait()
        if (self.folder / "state.json").exists():
            self.state["phase"] = "exited"
            self.save()
        shutil.rmtree(run, ignore_errors=True)
        try:
            run.parent.rmdir()
        except OSError:
            pass
        os._exit(0)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--root")
    parser.add_argument("--id")
    parser.add_argument("--lock-fd", type=int)
    parser.add_argument("--status-fd", type=int)
    parser.add_argument("--log-level")
    parser.add_argument("--start-timeout", type=int, required=True)
    parser.add_argument("--detached", action="store_true")
    parser.add_argument("--rows", type=int)
    parser.add_argument("--columns", type=int)
    args = parser.parse_args()
    shim = Shim(args)
    if fault("verdict"):
        os.write(args.status_fd, f"error {FAULTS['verdict']} 2 the VM ended during the start: no reason\n".encode())
        sys.exit(0)
    shim.serve()


main()
