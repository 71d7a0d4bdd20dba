# SPDX-License-Identifier: Apache-2.0
"""What a program finds inside: clocks, limits, rights, names, network, and its three streams. Most of it is asked of one
sandbox that runs through the whole module."""
import hashlib
import os
import re
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

import pytest
from conftest import BUILD, IMAGES, TOP, Micropod
from test_run import RANDOM, Terminal, until

# The first process says what it is, then stays.
FIRST = "mkdir /first; for f in status limits cgroup mountinfo oom_score_adj; do cat /proc/self/$f > /first/$f; done; exec sleep 10000"
CAPS_OF_DOCKER = 0xA80425FB


@pytest.fixture(scope="module")
def box():
    """A sandbox of the Debian image that lives through the module, in a root of its own, which is counted at the end;
    returns exec in it."""
    folder = tempfile.mkdtemp(prefix="micropod-e2e-")
    micropod = Micropod(folder)
    micropod.close()
    debian = f"oci:{IMAGES}/debian:latest"
    micropod.ok("run", "-d", "--name", "guest", "-m", "384m", "--cpus", "2", "--hostname", "hoho", debian, "sh", "-c", FIRST)

    def run(*words, **kwargs):
        return micropod("exec", *(["-i"] if "input" in kwargs else []), "guest", *words, **kwargs)

    def ok(*words, **kwargs):
        done = run(*words, **kwargs)
        assert done.returncode == 0, done
        return done.stdout.decode()

    run.ok, run.micropod, run.debian = ok, micropod, debian
    until(lambda: run("test", "-s", "/first/oom_score_adj").returncode == 0)
    yield run
    micropod.settle()
    shutil.rmtree(folder)


def test_date_is_the_hosts_at_once(micropod):
    before = time.time()
    out = micropod.ok("run", "--rm", micropod.busybox, "date", "+%s")
    assert before - 2 <= int(out) <= time.time() + 2


def facts(text):
    """Without what differs from process to process."""
    own = re.compile(r"^(Name|Umask|FDSize|Pid|Tgid|Ngid|PPid|NS.*|Vm.*|Rss.*|.*ctxt_switches|SigQ|Sig.*|ShdPnd|HugetlbPages|Cpus.*|Mems.*):")
    return [line for line in text.splitlines() if not own.match(line)]


@pytest.mark.parametrize("file", ["status", "limits", "cgroup", "mountinfo", "oom_score_adj"])
def test_exec_is_as_the_first_process(box, file):
    first, other = box.ok("cat", f"/first/{file}"), box.ok("cat", f"/proc/self/{file}")
    assert facts(first) == facts(other) != []


def test_rights_are_those_of_docker(box):
    status = dict(line.split(":\t", 1) for line in box.ok("cat", "/proc/self/status").splitlines())
    for name in ("CapPrm", "CapEff", "CapBnd"):
        assert int(status[name], 16) == CAPS_OF_DOCKER, name
    assert int(status["CapInh"], 16) == int(status["CapAmb"], 16) == 0
    assert status["Seccomp"] == "2" and status["NoNewPrivs"] == "0"
    assert box.ok("cat", "/proc/self/oom_score_adj") == "0\n"


# System calls by number (x86-64) with arguments, and what the kernel answers in Docker's default profile.
CALLS = {
    "mount": (165, "0, 0, 0, 0, 0", "EPERM"),
    "unshare(CLONE_NEWUSER)": (272, "0x10000000", "EPERM"),
    "setns": (308, "0, 0", "EPERM"),
    "reboot": (169, "0, 0, 0, 0", "EPERM"),
    "swapon": (167, "0, 0", "EPERM"),
    "init_module": (175, "0, 0, 0", "EPERM"),
    "kexec_load": (246, "0, 0, 0, 0", "EPERM"),
    "bpf": (321, "0, 0, 0", "EPERM"),
    "perf_event_open": (298, "0, 0, 0, 0, 0", "EPERM"),
    "keyctl": (250, "0, 0, 0, 0, 0", "EPERM"),
    "add_key": (248, "0, 0, 0, 0, 0", "EPERM"),
    "userfaultfd": (323, "0", "EPERM"),
    "open_by_handle_at": (304, "0, 0, 0", "EPERM"),
    "clock_settime": (227, "0, 0", "EPERM"),
    "clone3": (435, "0, 0", "ENOSYS"),
    "pidfd_open": (434, "$$ + 0, 0", "0"),
    "personality(PER_LINUX)": (135, "0xffffffff", "0"),
}


def test_seccomp_is_that_of_docker(box):
    lines = "".join(f'$! = 0; $r = syscall({nr}, {args}); print $r >= 0 ? "0" : (grep {{ $!{{$_}} }} keys %!)[0], "\\n";'
                    for nr, args, _ in CALLS.values())
    answers = box.ok("perl", "-MErrno", "-e", lines).split()
    assert dict(zip(CALLS, answers)) == {name: wanted for name, (_, _, wanted) in CALLS.items()}


def test_masked_and_read_only_paths(box):
    script = """
    for f in /proc/kcore /proc/keys /proc/timer_list; do [ ! -e $f ] || echo "$f $(head -c 9 $f | wc -c)"; done
    for d in /proc/acpi /sys/firmware; do echo "$d $(ls $d | wc -l)"; done
    for f in /proc/sysrq-trigger /proc/sys/kernel/hostname /sys/power/state /sys/fs/cgroup/cgroup.procs /proc/irq/default_smp_affinity; do
        (echo x > $f) 2> /dev/null && echo "$f can be written"
    done
    for maj_min in "254 0" "254 16" "1 1"; do
        mknod /disk b $maj_min 2> /dev/null && cat /disk > /dev/null 2>&1 && echo "$maj_min can be read"; rm -f /disk
    done
    for f in null zero full random urandom tty ptmx pts shm mqueue fd stdin stdout stderr; do [ -e /dev/$f ] || [ -L /dev/$f ] || echo "no /dev/$f"; done
    ls /dev | grep -E 'vd|vport|hvc|ttyS|mem|hwrng'
    true
    """
    lines = box.ok("sh", "-c", script).splitlines()
    # A kernel may not have all of them; what it has shows nothing.
    known = [f"{path} 0" for path in ("/proc/kcore", "/proc/keys", "/proc/timer_list", "/proc/acpi", "/sys/firmware")]
    assert lines == [line for line in known if line in lines] and {"/proc/keys 0", "/proc/acpi 0", "/sys/firmware 0"} <= set(lines), lines


def test_names(box):
    assert box.ok("hostname") == "hoho\n" == box.ok("cat", "/etc/hostname")
    address, *names = box.ok("getent", "ahostsv4", "hoho").split()
    assert address == "10.0.2.15"
    assert box.ok("getent", "hosts", "localhost").split()[0] in ("127.0.0.1", "::1")
    assert "nameserver 10.0.2.3\n" in box.ok("cat", "/etc/resolv.conf")


def test_size(box):
    assert box.ok("nproc") == "2\n"
    assert box.ok("cat", "/sys/fs/cgroup/memory.max") == f"{384 << 20}\n"


def test_a_fraction_of_a_cpu(box):
    script = "use Time::HiRes 'time'; my $end = time + 4; my @a = times; 1 while time < $end; my @b = times; print $b[0] + $b[1] - $a[0] - $a[1]"
    out = box.micropod.ok("run", "--rm", "--cpus", "0.4", box.debian, "perl", "-e", script)
    assert 0.2 < float(out) < 2.2, "of 4 s"


HOG = "my @x; push @x, 'a' x 1_000_000 while 1"


def test_out_of_memory_in_an_exec(box):
    assert "raise -m" in box.micropod.error(box("perl", "-e", HOG), 137)
    assert box.ok("echo", "still here") == "still here\n"
    assert not box.micropod.inspect("guest")["State"]["OOMKilled"]


def test_out_of_memory_in_the_first_process(micropod):
    debian = f"oci:{IMAGES}/debian:latest"
    error = micropod.error(micropod("run", "--name", "small", "-m", "128m", debian, "perl", "-e", HOG), 137)
    assert "128 MiB" in error and "raise -m" in error
    assert micropod.inspect("small")["State"]["OOMKilled"]


def test_streams_of_exec(box):
    # Without -i there is no input, with it the end of ours is the end of its.
    assert box("cat").stdout == b""
    assert box("sh", "-c", "cat; echo after", input=b"x\n").stdout == b"x\nafter\n"
    assert box("sh", "-c", "exec <&-; sleep 1; echo done", input=RANDOM).stdout == b"done\n", "input that nobody reads"
    done = box("sh", "-c", "tee /dev/stderr", input=RANDOM[:1 << 20])
    assert done.stdout == done.stderr == RANDOM[:1 << 20]


@pytest.mark.parametrize("verb", ["exec", "run"])
def test_slow_reader(box, verb):
    """The writer waits; nobody in between keeps what is not read."""
    words = ["exec", "guest"] if verb == "exec" else ["run", "--rm", box.micropod.busybox]
    child = box.micropod.popen(*words, "sh", "-c", "head -c 12000000 /dev/zero | tr '\\0' x; echo end >&2",
                               stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, bufsize=0)
    got = child.stdout.read(1)
    time.sleep(4)
    for pid in [child.pid] + [box.micropod.inspect("guest")["Micropod"]["ShimPid"]] * (verb == "exec"):
        rss = int(re.search(r"VmRSS:\s*(\d+)", Path(f"/proc/{pid}/status").read_text())[1])
        assert rss < 20 << 10, "KiB: it has kept what was not read"
    while part := child.stdout.read(1 << 20):
        got += part
    assert child.wait(60) == 0 and got == b"x" * 12000000 and child.stderr.read() == b"end\n"


EXITS = {"exit 0": 0, "exit 125": 125, "exit 255": 255, "kill -9 $$": 137, "kill -SEGV $$": 139, "kill -USR1 $$": 138}


@pytest.mark.parametrize("script,code", EXITS.items())
def test_exit_codes(box, script, code):
    assert box("sh", "-c", script).returncode == code


def test_what_cannot_run(box):
    error = box.micropod.error
    assert "nosuch" in error(box("nosuch"), 127) and "/no/such" in error(box("/no/such"), 127)
    assert "/etc" in error(box("/etc"), 126) and "/etc/passwd" in error(box("/etc/passwd"), 126)
    assert "nosuchuser" in error(box.micropod("exec", "-u", "nosuchuser", "guest", "true"), 126)
    assert "/nosuch" in error(box.micropod("exec", "-w", "/nosuch", "guest", "true"), 126)


def test_job_control(box):
    term = Terminal(box.micropod, "exec", "-it", "guest", "bash", "--norc")
    term.expect(rb"# ")
    term.write(b"sleep 1000\r")
    term.expect(rb"sleep 1000\r\n")
    time.sleep(1)
    term.write(b"\x1a")
    term.expect(rb"Stopped +sleep 1000")
    term.write(b"fg\r")
    term.expect(rb"\rsleep 1000\r\n")
    time.sleep(1)
    term.write(b"\x03")
    term.expect(rb"# ")
    term.write(b"echo code $?\r")
    term.expect(rb"code 130\r\n")
    term.write(b"tty; test -t 0 -a -t 1 -a -t 2 && echo all three\r")
    term.expect(rb"/dev/pts/\d+\r\nall three\r\n")
    # Before its prompt the shell reads by lines, and an end of file typed then is none for readline.
    term.expect(rb"# ")
    term.write(b"\x04")
    assert term.end() == 0


def test_stop_and_start_keep_files(micropod):
    micropod.ok("run", "-d", "--name", "keep", micropod.busybox, "sh", "-c", "cat /kept; trap 'exit 0' TERM; while :; do sleep 0.1; done")
    data = os.urandom(3 << 20)
    assert micropod("exec", "-i", "keep", "sh", "-c", "cat > /kept; chown 12:34 /kept; rm /bin/vi; ln -s kept /link", input=data).returncode == 0
    micropod.ok("stop", "keep")
    micropod.ok("start", "keep")
    assert micropod("exec", "keep", "cat", "/link").stdout == data
    assert micropod.ok("exec", "keep", "stat", "-c", "%u:%g", "/kept") == "12:34\n"
    assert micropod("exec", "keep", "ls", "/bin/vi").returncode != 0


def settings_image(folder):
    """busybox with an entrypoint, a command, a user, a folder and variables of its own."""
    layout = folder / "settings"
    shutil.copytree(IMAGES / "busybox", layout)
    subprocess.run(["umoci", "config", "--image", f"{layout}:latest", "--config.entrypoint", "/bin/echo", "--config.entrypoint", "ep",
                    "--config.cmd", "cmd", "--config.workingdir", "/var", "--config.user", "nobody", "--config.env", "COLOUR=red",
                    "--config.stopsignal", "SIGUSR1", "--config.exposedports", "80/tcp"], check=True)
    return f"oci:{layout}:latest"


def test_process_is_computed_as_docker_does(micropod, tmp_path):
    image = settings_image(tmp_path)
    (tmp_path / "env").write_text("# comment\nA=from file\nCOLOUR=green\n")
    cases = [
        ([], [], ["/bin/echo", "ep", "cmd"]),
        ([], ["own", "words"], ["/bin/echo", "ep", "own", "words"]),
        (["--entrypoint", "/bin/cat"], [], ["/bin/cat"]),
        (["--entrypoint", "/bin/cat"], ["-n", "x"], ["/bin/cat", "-n", "x"]),
        (["--entrypoint", ""], ["ls"], ["ls"]),
    ]
    for options, words, argv in cases:
        one = micropod.inspect(micropod.ok("create", *options, image, *words).strip())
        assert [one["Path"], *one["Args"]] == argv
        assert one["Config"]["User"] == "nobody" and one["Config"]["WorkingDir"] == "/var" and "COLOUR=red" in one["Config"]["Env"]
    assert "no command" in micropod.error(micropod("create", "--entrypoint", "", image)).lower()
    options = ["--entrypoint", "/bin/sh", "--env-file", tmp_path / "env", "-e", "A=last", "-u", "12:34", "-w", "/srv"]
    out = micropod.ok("run", "--rm", *options, image, "-c", 'echo "$A $COLOUR $HOME $(id -u):$(id -g) $(pwd)"')
    assert out == "last green / 12:34 /srv\n"


def test_runc(micropod):
    if not shutil.which("runc", path=os.environ["PATH"] + ":/usr/sbin:/sbin"):
        pytest.skip("runc is not installed")
    micropod.ok("run", "-d", "--name", "box", "--runtime", "runc", micropod.busybox, "sleep", "1000")
    assert micropod("exec", "-i", "box", "sh", "-c", "cat; exit 3", input=RANDOM[:100000]).stdout == RANDOM[:100000]
    assert micropod.ok("exec", "box", "grep", "CapEff", "/proc/self/status").split()[1] == f"{CAPS_OF_DOCKER:016x}"
    assert micropod.inspect("box")["Micropod"]["GuestRuntime"] == "runc"
    assert micropod.ok("exec", "box", "cat", "/proc/1/oom_score_adj") == "0\n"
    assert micropod.error(micropod("run", "--rm", "--runtime", "runc", micropod.busybox, "nosuchprogram"), 127)


AS_ANYWHERE = r"""
for f in status limits cgroup oom_score_adj; do echo "== $f"; cat /proc/self/$f; done
echo == mounts; awk '{ print $5, substr($6, 1, 2) }' /proc/self/mountinfo | sort
echo == dev; ls -l /dev | awk '{ print $1, $3, $4, $5, $6, $(NF-2), $(NF-1), $NF }' | grep -v ^total | sed 's/ [0-9]*:[0-9]* / /'
echo == env; env | sort; umask; pwd; hostname; cat /etc/hosts /etc/hostname /etc/resolv.conf
echo == cgroup; cd /sys/fs/cgroup; for f in memory.max cpu.max pids.max cpuset.cpus; do echo $f $(cat $f); done
for f in /proc/keys /proc/timer_list /sys/firmware /proc/acpi; do [ -d $f ] && ls $f | wc -l || head -c 9 $f | wc -c; done
(echo x > /proc/sys/kernel/hostname) 2>/dev/null && echo writable
mknod /block b 254 0 && cat /block 2>/dev/null; rm -f /block; ls /proc/self/fd | wc -l
"""
# What differs from process to process, or counts the filters that a runtime has loaded.
DIFFERENT = re.compile(r"^(NSpid|NSpgid|Pid|Tgid|Ngid|PPid|Name|Vm\w+|Rss\w+|SigQ|Hugetlb\w+|\w*ctxt_switches|FDSize|NStgid|NSsid|Cpus_allowed\w*"
                       r"|Mems_allowed\w*|Max pending signals|THP_enabled|HOSTNAME|Seccomp_filters):?\b")


def test_the_three_runtimes_agree(micropod):
    debian, seen = f"oci:{IMAGES}/debian:latest", {}
    for user in ("root", "nobody:www-data"):
        for runtime in ("builtin", "crun", "runc"):
            out = micropod.ok("run", "--rm", "--runtime", runtime, "--hostname", "same", "-m", "300m", "--cpus", "0.5", "-u", user, "-w", "/srv",
                              "-e", "A=b", debian, "bash", "-c", AS_ANYWHERE)
            seen[runtime] = [line for line in out.splitlines() if not DIFFERENT.match(line)]
        for runtime in ("crun", "runc"):
            # They give the user the /dev/null that is its stdin.
            ours, theirs = ({re.sub(r"(crw-rw-rw-) .* (1, 3 .*null)", r"\1 \2", line) for line in seen[name]} for name in ("builtin", runtime))
            if runtime == "runc":
                # It leaves masked files mounted for writing (they are /dev/null), and makes /dev/core only where there is a kcore.
                own = re.compile("/proc/(kcore|keys|timer_list) r[ow]$|.* core -> /proc/kcore$")
                ours, theirs = ({line for line in lines if not own.match(line)} for lines in (ours, theirs))
            assert ours == theirs, (user, runtime, sorted(ours - theirs), sorted(theirs - ours))


def test_agent_root_disk(micropod, tmp_path):
    disk = tmp_path / "agent-rootfs.ext4"
    modules = next((micropod.root / "guest").glob("*/modules"))
    subprocess.run([TOP / "scripts/build-agent-rootfs.sh", "--files", BUILD / "guest", "--modules", modules, disk], check=True)
    before = hashlib.sha256(disk.read_bytes()).digest()
    micropod.ok("run", "-d", "--name", "one", "--agent-rootfs", disk, micropod.busybox, "sleep", "1000")
    assert micropod.ok("run", "--rm", "--agent-rootfs", disk, micropod.busybox, "echo", "shared") == "shared\n"
    assert micropod.ok("exec", "one", "cat", "/proc/1/comm") == "sleep\n"
    assert micropod.inspect("one")["Micropod"]["AgentRootfs"] == str(disk)
    assert hashlib.sha256(disk.read_bytes()).digest() == before
