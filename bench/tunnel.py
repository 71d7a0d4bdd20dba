#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What goes through the tunnel: bytes and latency of port-forward beside `ssh -R` over the same path, both encrypted, plain and with
delay and loss; and a server with many agents.

usage: tunnel.py BUILD [MEGABYTES] [AGENTS]     (root: two network namespaces of its own, with one wire between them)
"""
import ctypes
import hashlib
import os
import pathlib
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time

TOP = pathlib.Path(__file__).resolve().parents[1]
BUILD = pathlib.Path(sys.argv[1]).resolve()
MEGABYTES = int(sys.argv[2]) if len(sys.argv) > 2 else 200
AGENTS = int(sys.argv[3]) if len(sys.argv) > 3 else 2000
PROGRAM = BUILD / "src/cli/micropod"
AGENT = BUILD / "agents/micropod-agent-tls"
HERE, THERE = "198.18.7.1", "198.18.7.2"
# What answers in the sandbox: a request names how many bytes it wants, and gets them; or has its one byte back.
SERVE = """
import socket, sys, threading
block = bytes(1 << 20)
def serve(c):
    c.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    with c, c.makefile("rb") as f:
        for line in iter(f.readline, b""):
            n = int(line)
            while n > 0:
                c.sendall(block[:n])
                n -= len(block)
s = socket.create_server(("127.0.0.1", int(sys.argv[1])))
while True:
    threading.Thread(target=serve, args=(s.accept()[0],), daemon=True).start()
"""


def run(*words, **kwargs):
    return subprocess.run([str(word) for word in words], check=True, capture_output=True, text=True, **kwargs).stdout.strip()


# A connection that takes its time, for a kernel that has no sch_netem: what arrives is passed on DELAY later. Loss cannot be had so: TCP ends here.
RELAY = """
import collections, socket, sys, threading, time
delay = float(sys.argv[1])
def pass_on(a, b):
    waiting, more = collections.deque(), threading.Condition()
    def write():
        while True:
            with more:
                while not waiting:
                    more.wait()
                due, data = waiting.popleft()
                more.notify_all()
            time.sleep(max(0, due - time.monotonic()))
            if not data:
                break
            b.sendall(data)
        b.shutdown(socket.SHUT_WR)
    threading.Thread(target=write, daemon=True).start()
    data = b"x"
    while data:
        data = a.recv(1 << 18)
        with more:
            while len(waiting) > 4000:
                more.wait()
            waiting.append((time.monotonic() + delay, data))
            more.notify_all()
def serve(listener, to):
    while True:
        a = listener.accept()[0]
        b = socket.create_connection(to)
        for s in (a, b):
            s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for pair in ((a, b), (b, a)):
            threading.Thread(target=pass_on, args=pair, daemon=True).start()
threads = []
for word in sys.argv[2:]:
    ip, port, to = word.split(":")
    threads.append(threading.Thread(target=serve, args=(socket.create_server((ip, int(port))), (ip, int(to)))))
    threads[-1].start()
"""


class Path:
    """Two namespaces; whoever is "there" dials who is "here"."""

    def __init__(self):
        self.here, self.there = (f"bench-{name}-{os.getpid()}" for name in ("here", "there"))
        for name in (self.here, self.there):
            run("ip", "netns", "add", name)
            run("ip", "-n", name, "link", "set", "lo", "up")
        run("ip", "-n", self.here, "link", "add", "wire", "type", "veth", "peer", "name", "wire", "netns", self.there)
        for name, address in ((self.here, HERE), (self.there, THERE)):
            run("ip", "-n", name, "address", "add", f"{address}/30", "dev", "wire")
            run("ip", "-n", name, "link", "set", "wire", "up")

    def spoil(self, *netem):
        """False: this kernel cannot (sch_netem)."""
        return all(subprocess.run(["tc", "-n", name, "qdisc", "replace", "dev", "wire", "root", "netem", "limit", "100000", *netem],
                                  capture_output=True, check=False).returncode == 0 for name in (self.here, self.there))

    def enter(self, name):
        return ["nsenter", f"--net=/run/netns/{name}"]

    def close(self):
        for name in (self.here, self.there):
            subprocess.run(["ip", "netns", "del", name], check=False)


def connect(path, port):
    """A socket from a namespace: made by a thread of its own that enters it."""
    out = []

    def enter():
        with open(f"/run/netns/{path.here}", encoding="ascii") as file:
            assert ctypes.CDLL(None, use_errno=True).setns(file.fileno(), 0x40000000) == 0
        deadline = time.monotonic() + 20
        while not out:
            try:
                out.append(socket.create_connection(("127.0.0.1", port)))
            except OSError:
                if time.monotonic() > deadline:
                    return
                time.sleep(0.1)
    thread = threading.Thread(target=enter)
    thread.start()
    thread.join()
    assert out, f"nothing listens at {port}"
    s = out[0]
    s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return s


def fetch(s, n):
    began = time.perf_counter()
    s.sendall(b"%d\n" % n)
    buf = bytearray(1 << 20)
    while n:
        got = s.recv_into(buf)
        assert got
        n -= got
    return time.perf_counter() - began


def served(path, port):
    """A connection that has been answered: who answers there may not listen yet."""
    deadline = time.monotonic() + 20
    while True:
        s = connect(path, port)
        try:
            fetch(s, 1 << 20)
            return s
        except (AssertionError, OSError):
            s.close()
            assert time.monotonic() < deadline, f"nothing answers at {port}"
            time.sleep(0.1)


def compare(path, ports, what, megabytes, pings):
    sockets = {name: served(path, port) for name, port in ports.items()}
    rate, latency = {name: [] for name in ports}, {name: [] for name in ports}
    for _ in range(3):
        for name, s in sockets.items():
            rate[name].append(megabytes / fetch(s, megabytes << 20))
    for _ in range(pings):
        for name, s in sockets.items():
            latency[name].append(fetch(s, 1))
    for name, way in (("ours", what), ("twice", f"{what}, user's way to the server encrypted too")):
        ours, theirs = statistics.median(rate[name]), statistics.median(rate["theirs"])
        print(f"| {way}: bytes a second | {ours:.0f} MB/s | {theirs:.0f} MB/s | {ours / theirs:.2f} | at least 1.0 |", flush=True)
        ours, theirs = (statistics.median(latency[key]) * 1000 for key in (name, "theirs"))
        print(f"| {way}: one byte there, one back | {ours:.2f} ms | {theirs:.2f} ms | {ours / theirs:.2f} | at most 1.0 |", flush=True)
    for s in sockets.values():
        s.close()


def make_certificate(folder):
    run("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2", "-subj", "/CN=bench",
        "-addext", f"subjectAltName=IP:{HERE},IP:127.0.0.1", "-keyout", folder / "key.pem", "-out", folder / "cert.pem")
    der = subprocess.run(["openssl", "x509", "-in", folder / "cert.pem", "-outform", "der"], capture_output=True, check=True).stdout
    return hashlib.sha256(der).hexdigest()


def forwards(folder, started):
    path = Path()
    try:
        pin = make_certificate(folder)
        data = folder / "data"
        env = {**os.environ, "MICROPOD_SERVER": f"https://{HERE}:8443", "MICROPOD_SERVER_PIN": pin,
               "MICROPOD_TOKEN": run(PROGRAM, "token", "create", "--data", data, "--user", "bench")}
        def start(name, *words, **kwargs):
            started.append(subprocess.Popen([*path.enter(name), *[str(word) for word in words]], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                                            stderr=open(folder / "log", "ab"), **kwargs))

        def tunnels(server_port, ssh_port, first):
            """An agent and an ssh there, and the ports here that lead through them."""
            name = f"bench{first}"
            agent_env = {**os.environ, "AGENT_SERVER_URL": f"https://{HERE}:{server_port}", "AGENT_SERVER_PIN": pin,
                         "AGENT_TOKEN": run(PROGRAM, "token", "create", "--data", data, "--agent", name)}
            start(path.there, "unshare", "-pf", "--mount-proc", "--kill-child", AGENT, "start", "--", sys.executable, "-c", SERVE, first, env=agent_env)
            deadline = time.monotonic() + 20
            while name not in run(*path.enter(path.here), PROGRAM, "ps", env=env):
                assert time.monotonic() < deadline
            # Whoever uses ssh's port does so on the machine of sshd, in plain: so does the first of these. The second has TLS twice.
            start(path.here, PROGRAM, "port-forward", f"{first + 1}:{name}:{first}", env={**env, "MICROPOD_SERVER": f"unix://{folder}/socket"})
            start(path.here, PROGRAM, "port-forward", f"{first + 3}:{name}:{first}", env=env)
            start(path.there, "ssh", "-N", "-p", ssh_port, "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null", "-o", "ExitOnForwardFailure=yes",
                  "-i", folder / "user", "-R", f"{first + 2}:127.0.0.1:{first}", f"root@{HERE}")
            return {"ours": first + 1, "theirs": first + 2, "twice": first + 3}

        start(path.here, PROGRAM, "server", "--listen", f"{HERE}:8443", "--listen", f"unix:{folder}/socket", "--data", data,
              "--tls-cert", folder / "cert.pem", "--tls-key", folder / "key.pem")
        # ssh: the same direction, the same two ends.
        for name in ("host", "user"):
            run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", folder / name)
        (folder / "config").write_text(f"Port 22\nListenAddress {HERE}\nHostKey {folder}/host\nAuthorizedKeysFile {folder}/user.pub\nUsePAM no\n"
                                       f"StrictModes no\nPidFile none\nPermitRootLogin prohibit-password\n")
        os.makedirs("/run/sshd", exist_ok=True)
        start(path.here, "/usr/sbin/sshd", "-D", "-e", "-f", folder / "config")
        time.sleep(0.5)
        print("| | micropod port-forward | ssh -R | ratio | aim |\n|---|---|---|---|---|")
        ports = tunnels(8443, 22, 7000)
        compare(path, ports, "plain", MEGABYTES, 300)
        for what, netem in (("50 ms of round trip", ("delay", "25ms")), ("50 ms and 0.1 % lost", ("delay", "25ms", "loss", "0.1%"))):
            if path.spoil(*netem):
                compare(path, ports, what, MEGABYTES // 4, 30)
            elif "lost" in what:
                print(f"| {what} | not measured: this kernel has no sch_netem | | | |")
            else:
                start(path.here, sys.executable, "-c", RELAY, "0.025", f"{HERE}:8444:8443", f"{HERE}:23:22")
                time.sleep(0.5)
                compare(path, tunnels(8444, 23, 7010), f"{what} (by a relay)", MEGABYTES // 4, 30)
    except BaseException:
        print((folder / "log").read_text(errors="replace"), file=sys.stderr)
        raise
    finally:
        for process in reversed(started):
            process.kill()
            process.wait()
        started.clear()
        path.close()


def status(pid, key):
    for line in pathlib.Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(key):
            return int(line.split()[1]) / 1024
    raise SystemExit(f"no {key}")


def used(pid):
    return sum(int(n) for n in pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:13]) / os.sysconf("SC_CLK_TCK")


def many(folder, started):
    data = folder / "many"
    tokens = "".join(run(PROGRAM, "token", "create", "--data", data, "--agent", f"agent-{i:04}") + "\n" for i in range(AGENTS))
    words = [PROGRAM, "server", "--listen", "127.0.0.1:18443", "--data", data]

    def serve():
        server = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        started.append(server)
        server.stdout.readline()
        return server
    server = serve()
    empty = status(server.pid, "VmRSS")
    agents = subprocess.Popen([BUILD / "bench/many-agents", "http://127.0.0.1:18443"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    started.append(agents)
    agents.stdin.write(tokens)
    agents.stdin.close()
    first = float(agents.stdout.readline().split()[1])
    time.sleep(2)
    full = status(server.pid, "VmRSS")
    before = used(server.pid)
    time.sleep(20)
    idle = (used(server.pid) - before) / 20 * 100
    server.kill()
    server.wait()
    started.remove(server)
    serve()
    again = float(agents.stdout.readline().split()[1])
    print(f"\n| {AGENTS:,} agents on one server | |\n|---|---|")
    print(f"| all registered after | {first:.1f} s |")
    print(f"| all registered again after a restart of the server | {again:.1f} s |")
    print(f"| resident, with them | {full:.1f} MB, {(full - empty) * 1024 / AGENTS:.1f} KB each |")
    print(f"| CPU while all are idle | {idle:.1f} % of one |")
    for process in reversed(started):
        process.kill()
        process.wait()
    started.clear()


def main():
    started = []
    with tempfile.TemporaryDirectory(prefix="bench-tunnel-") as folder:
        folder = pathlib.Path(folder)
        try:
            forwards(folder, started)
            many(folder, started)
        finally:
            for process in started:
                process.kill()
                process.wait()


main()
