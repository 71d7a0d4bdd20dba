# SPDX-License-Identifier: Apache-2.0
"""The agent's limits (src/base/limits.h), each reached by a client: what is one too many is refused by name, and the agent lives."""
import os
import re
import shutil

import grpc
import pytest

from agent_fixture import TOP, Agent, generate, is_static, new_folder, wait_until

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="containers on this host need root")
UNITS = {"KIB": 1 << 10, "MIB": 1 << 20, "GIB": 1 << 30}


def limit(name):
    """Its value in limits.h."""
    text = (TOP / "src/base/limits.h").read_text()
    value = re.search(rf"#define {name}\s+(?:\\\n\s*)?\(?(\d+)(?: \* (\w+))?", text)
    return int(value[1]) * UNITS.get(value[2], 1)


@pytest.fixture(scope="module")
def agent():
    folder = new_folder()
    a = Agent(folder, *generate(folder))
    yield a
    assert a.stop() == 0
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def box(agent):
    return agent.sleeper()


def refused(call, *args, code=grpc.StatusCode.RESOURCE_EXHAUSTED, **kwargs):
    with pytest.raises(grpc.RpcError) as e:
        call(*args, **kwargs)
    assert e.value.code() == code, e.value
    return e.value.details()


def test_labels(agent, box):
    """LIMIT_LABELS and LIMIT_LABEL_BYTES, of containers and of processes."""
    most, longest = limit("LIMIT_LABELS"), limit("LIMIT_LABEL_BYTES")
    many = {f"k{i}": "v" for i in range(most)}
    for good in (many, {"k" * 96: "v" * (longest - 96)}):
        container_id, response = agent.create("sleep", "1000", labels=good)
        assert response.status == "RUNNING", response
        agent.delete(container_id)
        assert agent.exec(box, "true", labels=good).exit.code == 0
    for bad, why in ((many | {"more": "v"}, f"more than {most} labels"),
                     ({"k" * 96: "v" * (longest - 95)}, f"longer than {longest} bytes")):
        assert why in refused(agent.create, "sleep", "1000", labels=bad)
        assert why in refused(agent.exec, box, "true", labels=bad)


def test_id(agent, box):
    """LIMIT_ID, of containers and execs."""
    longest = limit("LIMIT_ID")
    container_id, response = agent.create("sleep", "1000", container_id="i" * longest)
    assert response.status == "RUNNING", response
    assert agent.exec(container_id, "true", exec_id="e" * longest).exit.code == 0
    agent.delete(container_id)
    invalid = grpc.StatusCode.INVALID_ARGUMENT
    assert "128" in refused(agent.create, "true", container_id="i" * (longest + 1), code=invalid)
    assert "128" in refused(agent.exec, box, "true", exec_id="e" * (longest + 1), code=invalid)


def test_arguments(agent, box):
    """LIMIT_ARGV, arguments and environment together."""
    longest = limit("LIMIT_ARGV")
    assert f"longer than {longest} bytes" in refused(agent.exec, box, "true", *["a" * 1000] * (longest // 1000))
    env = [b"A=" + b"b" * 1000] * (longest // 1000)
    assert f"longer than {longest} bytes" in refused(agent.exec, box, "true", env=env)
    assert agent.exec(box, "true", *["a" * 1000] * 100).exit.code == 0


def test_containers(agent):
    """LIMIT_CONTAINERS: created ones count, and one that goes makes room."""
    already = len(agent.stub.ListContainers(agent.pb.ListContainersRequest()).containers)
    made = [agent.create("true", create_only=True)[0] for _ in range(limit("LIMIT_CONTAINERS") - already)]
    assert "already" in refused(agent.create, "true", create_only=True)
    agent.delete(made.pop())
    made.append(agent.create("true", create_only=True)[0])
    for container_id in made:
        agent.delete(container_id)


def test_kept_output(agent, box):
    """LIMIT_KEPT_OUTPUT: of finished execs with much output the oldest go, and memory stays."""
    pb, each, most = agent.pb, limit("LIMIT_RING"), limit("LIMIT_KEPT_OUTPUT")
    count = 3 * most // each
    ids = [f"kept{i}" for i in range(count)]
    for exec_id in ids:
        assert len(agent.exec(box, "head", "-c", str(each), "/dev/zero", exec_id=exec_id).out) == each

    def kept():
        rows = agent.stub.ListProcesses(pb.ListProcessesRequest(container_id=box)).processes
        return [row.exec_id for row in rows if row.exec_id.startswith("kept")]
    wait_until(lambda: len(kept()) <= most // each)
    assert kept() and set(kept()) == set(ids[-len(kept()):])
    # A sanitizer build's memory says nothing.
    assert not is_static() or agent.rss_kib() < 3 * most // 1024


def test_chunks(agent, box):
    """LIMIT_OUTPUT_CHUNK: output that is there already comes in pieces of that size."""
    pb = agent.pb
    spec = agent.spec("head", "-c", "500000", "/dev/zero")
    agent.stub.CreateProcess(pb.CreateProcessRequest(container_id=box, exec_id="chunks", process=spec), timeout=60)
    agent.stub.StartProcess(pb.StartProcessRequest(container_id=box, exec_id="chunks"), timeout=60)
    assert agent.wait(box, "chunks").code == 0
    events = agent.stub.Attach(pb.AttachRequest(container_id=box, exec_id="chunks"), timeout=60)
    sizes = [len(event.output.data) for event in events if event.WhichOneof("kind") == "output"]
    assert sum(sizes) == 500000
    assert max(sizes) == limit("LIMIT_OUTPUT_CHUNK")


def test_background_children_hold_the_exit_only_so_long(agent, box):
    """LIMIT_EXIT_LINGER_MS: a child that keeps the output open delays the exit by that, not by its own life."""
    import time
    start = time.monotonic()
    assert agent.exec(box, "sh", "-c", "sleep 60 & exit 3").exit.code == 3
    took = time.monotonic() - start
    assert limit("LIMIT_EXIT_LINGER_MS") / 1000 <= took < 20
