#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Prints docs/docker-compatibility.md: which options of `docker run` and `docker exec` micropod has. What exists is asked of
micropod itself; what differs, and why something is not there, is said here.
usage: docker-compatibility.py MICROPOD"""
import re
import subprocess
import sys

# Options of Docker 28. Those that micropod has and that are not in NOTES are the same.
RUN = """add-host annotation attach blkio-weight blkio-weight-device cap-add cap-drop cgroup-parent cgroupns cidfile cpu-count cpu-percent
cpu-period cpu-quota cpu-rt-period cpu-rt-runtime cpu-shares cpus cpuset-cpus cpuset-mems detach detach-keys device device-cgroup-rule
device-read-bps device-read-iops device-write-bps device-write-iops disable-content-trust dns dns-option dns-search domainname entrypoint env
env-file expose gpus group-add health-cmd health-interval health-retries health-start-interval health-start-period health-timeout help hostname
init interactive io-maxbandwidth io-maxiops ip ip6 ipc isolation kernel-memory label label-file link link-local-ip log-driver log-opt mac-address
memory memory-reservation memory-swap memory-swappiness mount name network network-alias no-healthcheck oom-kill-disable oom-score-adj pid
pids-limit platform privileged publish publish-all pull quiet read-only restart rm runtime security-opt shm-size sig-proxy stop-signal
stop-timeout storage-opt sysctl tmpfs tty ulimit use-api-socket user userns uts volume volume-driver volumes-from workdir""".split()
EXEC = "detach detach-keys env env-file help interactive privileged tty user workdir".split()

DIFFERENT = {
    "cpuset-cpus": "in a VM: of the CPUs that it has (`--cpus`)",
    "cpus": "a VM has two, or as many as the host, if nothing is said",
    "device": "in a VM: a device of the guest; the host's are not there",
    "help": "`-h` is `--hostname`, as there",
    "memory": "a VM has 1 GiB if nothing is said",
    "memory-swap": "a VM has no swap: what is given is the limit of the container's group all the same",
    "log-driver": "`json-file` and `local` are one format, that of Kubernetes; `none`",
    "log-opt": "`max-size`, if nothing is said 20m, and `max-file`, 5",
    "mount": "`type=bind`, `volume` and `tmpfs`, without their rarer parts",
    "network": "in a VM: `default`, `none`, `private-only`, `internet-only`, and those that `micropod network create` makes; one at a time",
    "platform": "in a VM: this machine's architecture or an error; `micropod pull --platform` fetches others",
    "privileged": "in a VM: inside of it; the host is as safe as ever",
    "restart": "after a reboot of the host by a unit: `systemctl enable micropod-restart`",
    "runtime": "what starts the container in the guest: `builtin`, `crun`, `runc`",
    "security-opt": "`no-new-privileges`, `seccomp`; `apparmor=unconfined` and `label=disable` say what is so anyway",
    "storage-opt": "`size` is of a disk image, taken from the host's disk as it is used",
    "sysctl": "in a VM: any, since the kernel is the sandbox' own",
    "volume": "paths of the host and volumes with names; one without a name is not made",
}
# Every verb has these.
GLOBAL = {"debug", "on", "root", "server", "vmm"}

WINDOWS = "for Windows"
HOST_KERNEL = "the container has a kernel of its own; `micropod stats` shows what it does on the host"
MISSING = {
    "annotation": "nothing here reads them; use `--label`",
    "attach": "all that the process writes comes; redirect what is not wanted",
    "blkio-weight": HOST_KERNEL, "blkio-weight-device": HOST_KERNEL,
    "cgroup-parent": HOST_KERNEL, "cgroupns": "always `private`",
    "cpu-count": WINDOWS, "cpu-percent": WINDOWS, "io-maxbandwidth": WINDOWS, "io-maxiops": WINDOWS, "isolation": WINDOWS,
    "cpu-rt-period": "of cgroup v1", "cpu-rt-runtime": "of cgroup v1", "kernel-memory": "of cgroup v1; gone from Docker's engine",
    "memory-swappiness": "of cgroup v1", "oom-kill-disable": "of cgroup v1", "cpuset-mems": "a guest has one memory node",
    "device-cgroup-rule": "use `--device` or `--privileged`",
    "device-read-bps": HOST_KERNEL, "device-read-iops": HOST_KERNEL, "device-write-bps": HOST_KERNEL, "device-write-iops": HOST_KERNEL,
    "disable-content-trust": "ended in Docker too",
    "domainname": "not yet",
    "gpus": "devices of the host are not passed through",
    "ip6": "members of a network have IPv4 only", "link-local-ip": "members of a network have IPv4 only",
    "link": "old in Docker too; use a network with a name",
    "ipc": "a VM has one container, and those of a pod (`--pod`) share it", "pid": "a VM has one container", "uts": "a VM has one container", "userns": "a VM is a stronger wall",
    "memory-reservation": HOST_KERNEL,
    "use-api-socket": "there is no socket of an engine",
    "volume-driver": "volumes are folders of the host", "volumes-from": "name the volumes again",
}
EXEC_NOTES = {"help": "`-h` is it there, too"}


def options_of(micropod, verb):
    text = subprocess.run([micropod, verb, "--help"], check=True, capture_output=True, text=True).stdout
    return set(re.findall(r"^ +(?:-\w, )? *--([a-z0-9-]+)", text, re.MULTILINE))


def table(title, names, have, different, missing):
    print(f"\n## {title}\n\n| option | | |\n|---|---|---|")
    for name in names:
        if name in missing:
            assert name not in have, f"--{name} exists, and is called missing"
            print(f"| `--{name}` | not there | {missing[name]} |")
        else:
            assert name in have, f"--{name} does not exist, and nothing says why"
            print(f"| `--{name}` | " + (f"different | {different[name]} |" if name in different else "same | |"))
    print("\nOnly here: " + ", ".join(f"`--{name}`" for name in sorted(have - set(names) - GLOBAL)) + ".")


def main():
    micropod = sys.argv[1]
    print("""# Options of Docker

Made by `scripts/docker-compatibility.py` from micropod's own tables of options; a test compares it with them, and with what the
installed Docker has. *Same* means: the same name, meaning and default. Where a VM and a container of an engine (`--driver docker`) differ,
it says so.""")
    table("docker run, docker create", RUN, options_of(micropod, "run"), DIFFERENT, MISSING)
    table("docker exec", EXEC, options_of(micropod, "exec"), EXEC_NOTES, {})


main()
