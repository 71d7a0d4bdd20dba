#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A sandbox through a server, with grpcio. usage: run.py HOST:PORT TOKEN_FILE IMAGE"""
import os
import pathlib
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time

import grpc

PROTO = pathlib.Path(__file__).resolve().parents[1] / "proto"


def stubs():
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run(["protoc", f"-I{PROTO}", f"--python_out={folder}", f"--grpc_out={folder}",
                        f"--plugin=protoc-gen-grpc={shutil.which('grpc_python_plugin')}", "agent.proto", "host.proto"], check=True)
        sys.path.insert(0, folder)
        import agent_pb2
        import agent_pb2_grpc
        import host_pb2
        import host_pb2_grpc
        return agent_pb2, agent_pb2_grpc.AgentStub, host_pb2, host_pb2_grpc.HostStub


agent, AgentStub, host, HostStub = stubs()


class Server:
    def __init__(self, address, token):
        self.channel = grpc.insecure_channel(address)
        self.metadata = (("authorization", f"Bearer {token}"),)
        self.host = HostStub(self.channel)

    def command(self, *words):
        """One of micropod's own commands on a host: its output, or an error with its words."""
        request = host.CommandRequest(start=host.CommandStart(args=[word.encode() for word in words]))
        out, said, code = b"", b"", None
        for event in self.host.Command(iter([request]), metadata=self.metadata, timeout=300):
            out += event.stdout
            said += event.stderr
            if event.HasField("exit_code"):
                code = event.exit_code
        if code != 0:
            raise RuntimeError(said.decode().strip())
        return out.decode().strip()


class Sandbox:
    def __init__(self, server, image, *words):
        self.server = server
        self.id = server.command("create", image, *words)
        self.metadata = (*server.metadata, ("micropod-sandbox", self.id))
        self.agent = AgentStub(server.channel)
        server.command("start", self.id)

    def exec(self, *words, stdin=b""):
        """Output and exit code."""
        def requests():
            process = agent.ProcessSpec(args=[word.encode() for word in words], open_stdin=True)
            yield agent.ExecRequest(start=agent.ExecStart(container_id="main", process=process))
            for at in range(0, len(stdin), 65536):
                yield agent.ExecRequest(stdin=stdin[at:at + 65536])

        out, code = b"", None
        for event in self.agent.ExecInContainer(requests(), metadata=self.metadata, timeout=60):
            out += event.output.data
            if event.HasField("exit"):
                code = event.exit.code
        return out, code

    def write(self, path, data):
        def requests():
            yield agent.WriteFileRequest(scope=agent.FileScope(container_id="main"), path=path.encode())
            for at in range(0, len(data), 65536):
                yield agent.WriteFileRequest(data=data[at:at + 65536])

        return self.agent.WriteFile(requests(), metadata=self.metadata, timeout=60)

    def read(self, path):
        request = agent.ReadFileRequest(scope=agent.FileScope(container_id="main"), path=path.encode())
        return b"".join(part.data for part in self.agent.ReadFile(request, metadata=self.metadata, timeout=60))

    def listens(self, port):
        answer = self.agent.ListPorts(agent.ListPortsRequest(container_id="main"), metadata=self.metadata, timeout=60)
        return port in [one.port for one in answer.ports]

    def connect(self, port):
        """A socket whose other end is that port in the sandbox."""
        near, far = socket.socketpair()

        def requests():
            yield agent.ForwardRequest(target=agent.ForwardTarget(container_id="main", port=port))
            while data := far.recv(65536):
                yield agent.ForwardRequest(data=data)

        def answers():
            for event in self.agent.Forward(requests(), metadata=self.metadata):
                if event.data:
                    far.sendall(event.data)
                elif event.eof:
                    far.shutdown(socket.SHUT_WR)

        threading.Thread(target=answers, daemon=True).start()
        return near

    def remove(self):
        self.server.command("rm", "-f", self.id)


def main():
    address, token, image = sys.argv[1:]
    server = Server(address, pathlib.Path(token).read_text().strip())
    box = Sandbox(server, image, "sh", "-c", "nc -ll -p 7 -e cat")
    try:
        print(box.exec("echo", "hello from", "a sandbox"))
        data = os.urandom(3 << 20)
        assert box.write("/file", data).size == len(data)
        assert box.read("/file") == data
        print("3 MB there and back")
        while not box.listens(7):
            time.sleep(0.05)
        with box.connect(7) as s:
            s.sendall(b"through a port")
            s.shutdown(socket.SHUT_WR)
            print(s.makefile("rb").read().decode())
    finally:
        box.remove()


main()
