# SPDX-License-Identifier: Apache-2.0
"""The file calls: stat, list, read, write, make, move, remove, watch, trees; and ListPorts. grpcio is the client."""
import io
import os
import queue
import socket
import stat
import subprocess
import tarfile
import threading
import time

import grpc
import pytest

from agent_fixture import Agent, generate, new_folder, wait_until

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="containers on this host need root")
CODE = grpc.StatusCode


@pytest.fixture(scope="module")
def agent(tmp_path_factory):
    a = Agent(new_folder(), *generate(tmp_path_factory.mktemp("stubs")))
    a.box = a.sleeper()
    yield a
    assert a.stop() == 0


class Files:
    def __init__(self, agent, user=None, box=None):
        self.pb, self.stub, self.root = agent.pb, agent.stub, agent.root
        self.where = agent.pb.FileScope(container_id=box or agent.box)
        if user:
            self.where.user.name = user.encode()
        self.agent = agent

    def __getattr__(self, name):
        """files.StatFile(path=...) and so on; paths as text."""
        request = getattr(self.pb, name + "Request")

        def call(timeout=30, **fields):
            message = request(scope=self.where, **{k: v.encode() if isinstance(v, str) else v for k, v in fields.items()})
            return getattr(self.stub, name)(message, timeout=timeout)
        return call

    def write(self, path, chunks, **fields):
        if isinstance(chunks, bytes):
            chunks = [chunks]

        def requests():
            yield self.pb.WriteFileRequest(scope=self.where, path=path.encode(), **fields)
            for chunk in chunks:
                yield self.pb.WriteFileRequest(data=chunk)
        return self.stub.WriteFile(requests(), timeout=60)

    def read(self, path, **fields):
        return b"".join(part.data for part in self.ReadFile(path=path, **fields))

    def names(self, path, **fields):
        return sorted(entry.path.decode() for entry in self.ListFiles(path=path, **fields))


@pytest.fixture
def files(agent):
    """With an empty folder /place of their own."""
    f = Files(agent)
    f.MakeFolder(path="/place")
    yield f
    f.RemoveFile(path="/place", recursive=True)
    wait_until(lambda: len(agent.stub.ListProcesses(agent.pb.ListProcessesRequest(container_id=agent.box)).processes) == 1)


def fails(call, code, errno_text=None):
    with pytest.raises(grpc.RpcError) as e:
        result = call()
        # The streams that come back are read to their end.
        if isinstance(result, grpc.Call):
            list(result)
    assert e.value.code() == code, e.value
    if errno_text:
        assert errno_text in e.value.details(), e.value.details()


def test_bytes_there_and_back(files):
    data = os.urandom(5 << 20)
    entry = files.write("/place/file", [data[i:i + 100000] for i in range(0, len(data), 100000)], mode=0o600)
    assert (entry.path, entry.size, entry.mode, entry.uid) == (b"/place/file", len(data), 0o600, 0)
    assert entry.type == files.pb.FILE_TYPE_FILE and abs(entry.modified_ns / 1e9 - time.time()) < 60
    assert files.read("/place/file") == data
    assert files.read("/place/file", offset=1000, length=70000) == data[1000:71000]
    assert files.read("/place/file", offset=len(data) + 5) == b""
    assert (files.root / "place/file").read_bytes() == data
    files.write("/place/file", b"more", append=True)
    assert files.read("/place/file", offset=len(data)) == b"more"
    assert files.write("/place/empty", []).size == 0 and files.read("/place/empty") == b""


def test_writing_keeps_what_is_there_until_it_is_whole(files):
    files.write("/place/file", b"first", mode=0o640)
    os.chown(files.root / "place/file", 1000, 1000)
    files.write("/place/file", b"second")
    st = os.stat(files.root / "place/file")
    assert (stat.S_IMODE(st.st_mode), st.st_uid) == (0o640, 1000) and files.read("/place/file") == b"second"
    requests = queue.Queue()
    requests.put(files.pb.WriteFileRequest(scope=files.where, path=b"/place/file", data=b"x" * 300000))
    future = files.stub.WriteFile.future(iter(requests.get, None), timeout=60)
    wait_until(lambda: any(name.endswith(".part") for name in files.names("/place")))
    assert files.read("/place/file") == b"second"
    future.cancel()
    wait_until(lambda: files.names("/place") == ["/place/file"])
    assert files.read("/place/file") == b"second"
    requests.put(None)


def test_links_and_what_may_not_be_written(files):
    files.write("/place/real", b"one")
    (files.root / "place/link").symlink_to("real")
    assert files.write("/place/link", b"two").type == files.pb.FILE_TYPE_FILE
    entry = files.StatFile(path="/place/link")
    assert (entry.type, entry.link_target) == (files.pb.FILE_TYPE_LINK, b"real")
    assert files.StatFile(path="/place/link", follow=True).size == 3 and files.read("/place/real") == b"two"
    fails(lambda: files.write("/place/real", b"x", exclusive=True), CODE.ALREADY_EXISTS, "File exists")
    fails(lambda: files.write("/place", b"x"), CODE.FAILED_PRECONDITION, "Is a directory")
    fails(lambda: files.write("/place/a/b/c", b"x"), CODE.NOT_FOUND, "No such file")
    files.write("/place/a/b/c", b"x", make_folders=True)
    assert files.names("/place/a", depth=3) == ["/place/a/b", "/place/a/b/c"]
    fails(lambda: files.ReadFile(path="/place/a"), CODE.FAILED_PRECONDITION, "Is a directory")


def test_users_have_their_rights(files):
    anna = Files(files.agent, "anna")
    fails(lambda: anna.write("/place/file", b"x"), CODE.PERMISSION_DENIED, "Permission denied")
    entry = anna.write("/home/anna/file", b"hers")
    assert (entry.uid, entry.gid, entry.mode) == (1000, 1000, 0o644)
    files.write("/home/anna/secret", b"no", mode=0o600)
    fails(lambda: anna.read("/home/anna/secret"), CODE.PERMISSION_DENIED)
    fails(lambda: anna.write("/home/anna/secret", b"x"), CODE.PERMISSION_DENIED)
    assert files.read("/home/anna/secret") == b"no"
    fails(lambda: Files(files.agent, "nobody-there").StatFile(path="/"), CODE.FAILED_PRECONDITION)
    for name in ("file", "secret"):
        files.RemoveFile(path=f"/home/anna/{name}")


def test_folders_moves_and_removal(files):
    assert files.MakeFolder(path="/place/one/two", mode=0o700).mode == 0o700
    assert files.MakeFolder(path="/place/one/two").mode == 0o700
    files.write("/place/one/file", b"1")
    fails(lambda: files.MakeFolder(path="/place/one/file"), CODE.ALREADY_EXISTS)
    files.write("/place/other", b"2")
    fails(lambda: files.MoveFile(path="/place/other", to="/place/one/file"), CODE.ALREADY_EXISTS)
    assert files.MoveFile(path="/place/other", to="/place/one/file", overwrite=True).path == b"/place/one/file"
    assert files.read("/place/one/file") == b"2"
    fails(lambda: files.RemoveFile(path="/place/one"), CODE.FAILED_PRECONDITION, "not empty")
    (files.root / "place/one/out").symlink_to("/home")
    files.RemoveFile(path="/place/one", recursive=True)
    assert files.names("/place") == [] and (files.root / "home/anna").is_dir()
    fails(lambda: files.RemoveFile(path="/place/one"), CODE.NOT_FOUND)


def test_lists(files):
    for i in range(300):
        (files.root / f"place/{i:03}").write_text("x" * i)
    entries = {entry.path: entry for entry in files.ListFiles(path="/place")}
    assert len(entries) == 300 and entries[b"/place/007"].size == 7
    name = os.fsencode(files.root) + b"/place/\xff\x01 \n"
    open(name, "w").close()
    assert b"/place/\xff\x01 \n" in {entry.path for entry in files.ListFiles(path="/place")}
    fails(lambda: files.ListFiles(path="/place/007"), CODE.FAILED_PRECONDITION, "Not a directory")
    # LIMIT_LIST_DEPTH
    fails(lambda: files.ListFiles(path="/place", depth=201), CODE.RESOURCE_EXHAUSTED)
    deep = "/place" + "/d" * 210
    files.MakeFolder(path=deep)
    assert len(files.names("/place/d", depth=200)) == 200
    fails(lambda: files.RemoveFile(path="/place/d", recursive=True), CODE.FAILED_PRECONDITION)
    files.RemoveFile(path="/place" + "/d" * 100, recursive=True)


class Watch:
    def __init__(self, files, **fields):
        self.files, self.events = files, queue.Queue()
        self.call = files.WatchFiles(timeout=60, path="/place", **fields)
        threading.Thread(target=self.read, daemon=True).start()
        assert self.next() == ("READY", "/place")

    def read(self):
        try:
            for event in self.call:
                self.events.put((self.files.pb.FileEvent.Kind.Name(event.kind), event.path.decode()))
        except grpc.RpcError as e:
            self.events.put(e)

    def next(self):
        return self.events.get(timeout=20)

    def until(self, *wanted):
        wanted = set(wanted)
        while wanted:
            event = self.next()
            assert isinstance(event, tuple), event
            wanted.discard(event)


def test_watch(files):
    w = Watch(files)
    (files.root / "place/file").write_text("x")
    w.until(("CREATED", "/place/file"), ("WRITTEN", "/place/file"))
    os.rename(files.root / "place/file", files.root / "place/other")
    w.until(("MOVED_FROM", "/place/file"), ("MOVED_TO", "/place/other"))
    os.chmod(files.root / "place/other", 0o600)
    os.unlink(files.root / "place/other")
    w.until(("CHANGED", "/place/other"), ("REMOVED", "/place/other"))
    w.call.cancel()


def test_watch_everything_below(files):
    files.MakeFolder(path="/place/a")
    w = Watch(files, recursive=True)
    (files.root / "place/a/1").write_text("x")
    w.until(("CREATED", "/place/a/1"))
    # Folders that are made, with what is in them at once.
    for i in range(20):
        (files.root / f"place/b{i}/c/d").mkdir(parents=True)
        (files.root / f"place/b{i}/c/d/file").write_text("x")
    w.until(*[("CREATED", f"/place/b{i}/c/d/file") for i in range(20)])
    (files.root / "place/b7/c/d/late").write_text("x")
    w.until(("WRITTEN", "/place/b7/c/d/late"))
    w.call.cancel()
    w = Watch(files)
    subprocess.run(["rm", "-r", files.root / "place"], check=True)
    w.until(("REMOVED", "/place"))
    assert isinstance(w.call.code(), grpc.StatusCode)
    assert w.call.code() == CODE.OK
    files.MakeFolder(path="/place")
    fails(lambda: files.WatchFiles(path="/nowhere"), CODE.NOT_FOUND)


def test_too_much_to_watch(files):
    """LIMIT_WATCHES."""
    for i in range(8192):
        os.mkdir(files.root / f"place/{i}")
    fails(lambda: files.WatchFiles(path="/place", recursive=True), CODE.RESOURCE_EXHAUSTED)


def test_trees(files):
    files.write("/place/tree/a/file", b"content", make_folders=True)
    (files.root / "place/tree/link").symlink_to("a/file")
    data = b"".join(part.data for part in files.GetTree(path="/place/tree"))
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        assert sorted(tar.getnames()) == ["tree", "tree/a", "tree/a/file", "tree/link"]
    files.MakeFolder(path="/place/copy")

    def requests():
        yield files.pb.PutTreeRequest(scope=files.where, path=b"/place/copy")
        for i in range(0, len(data), 1000):
            yield files.pb.PutTreeRequest(data=data[i:i + 1000])
    files.stub.PutTree(requests(), timeout=60)
    assert files.read("/place/copy/tree/link") == b"content"
    fails(lambda: files.GetTree(path="/place/nosuch"), CODE.INTERNAL, "No such file")
    fails(lambda: files.stub.PutTree(iter([files.pb.PutTreeRequest(scope=files.where, path=b"/nosuch")]), timeout=30), CODE.INTERNAL, "No such file")


def test_wrong_requests(files, agent):
    for path in ("", "relative", "/a\0b", "/" + "x" * 5000):
        fails(lambda p=path: files.StatFile(path=p), CODE.INVALID_ARGUMENT)
    fails(lambda: files.stub.WriteFile(iter(()), timeout=20), CODE.INVALID_ARGUMENT)
    fails(lambda: Files(agent, box="nosuch").StatFile(path="/"), CODE.NOT_FOUND)


def test_a_slow_reader_stops_the_process_and_nobody_else(files):
    files.write("/place/large", [b"\0" * (1 << 20)] * 40)
    before = files.agent.rss_kib()
    call = files.ReadFile(path="/place/large", timeout=60)
    next(call)
    time.sleep(1)
    assert files.StatFile(path="/place/large").size == 40 << 20
    assert files.agent.rss_kib() - before < 16 << 10
    assert sum(len(part.data) for part in call) + 65536 >= 40 << 20


def test_many_at_once(files):
    calls = [files.stub.StatFile.future(files.pb.StatFileRequest(scope=files.where, path=b"/place"), timeout=60) for _ in range(60)]
    assert all(call.result().path == b"/place" for call in calls)


def test_ports(agent):
    """LIMIT_LISTED_PORTS bounds the answer."""
    with socket.create_server(("127.0.0.1", 0)) as four, socket.create_server(("::1", 0), family=socket.AF_INET6) as six:
        ports = {(p.port, p.address) for p in agent.stub.ListPorts(agent.pb.ListPortsRequest(container_id=agent.box)).ports}
        assert {(four.getsockname()[1], "127.0.0.1"), (six.getsockname()[1], "::1")} <= ports
        many = [socket.create_server(("127.0.0.1", 0)) for _ in range(1100)] if os.sysconf("SC_OPEN_MAX") > 2000 else []
        listed = agent.stub.ListPorts(agent.pb.ListPortsRequest(container_id=agent.box)).ports
        assert len(listed) <= 1024
        for one in many:
            one.close()
    fails(lambda: agent.stub.ListPorts(agent.pb.ListPortsRequest(container_id="nosuch")), CODE.NOT_FOUND)
