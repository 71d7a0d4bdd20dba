# SPDX-License-Identifier: Apache-2.0
"""What a run of bench.py says, as tables and pictures in docs/."""
import json
import pathlib

from chart import bars, lines

TOP = pathlib.Path(__file__).resolve().parents[1]
KEPT = TOP / "docs/benchmarks.json"
DOCS = TOP / "docs/benchmarks.md"
OWN = "micropod run --rm, template, small kernel"
README = "the same, distribution's kernel"
MB = 1e6


def words(host):
    return {"tcg": "emulated, without KVM", "kvm": "with KVM"}.get(host["accel"], host["accel"])


def times(result, what, title, base):
    lines_ = [f"| {title} | median, s | 95 %, s | to the first |", "|---|---|---|---|"]
    for name, row in sorted(result[what].items(), key=lambda item: item[1]["median"]):
        lines_.append(f"| {name} | {row['median']:.3f} | {row['p95']:.3f} | {row['median'] / base:.2f} |")
    return lines_


def figures(result):
    """The figures that are promised: (what, must, aim, small kernel, distribution's kernel, digits)."""
    ratios, fleet = result["ratios"], result["fleet"]

    def both(key):
        return ratios.get(key), ratios.get(f"{key}, distribution's kernel")

    def each(get):
        return tuple(get(fleet[name]) if name in fleet else None for name in (OWN, README))

    cold = [result["start"].get(name, {}).get("median") for name in ("micropod run --rm --cold, small kernel", "the same, cold, distribution's kernel")]
    rows = [
        ("`run --rm busybox true` against `docker run --rm` (bridge)", "1.0", "0.75", *both("start / docker run"), 2),
        ("the same against the floor", "1.6", "1.3", *both("start / floor"), 2),
        ("`exec ID true` against `docker exec`", "0.5", "0.2", *both("exec / docker exec"), 2),
        ("cold start against a bare QEMU boot of the same kernel and initramfs to init", "2.0", "1.4", *both("cold start / bare boot"), 2),
        ("memory of each further idle busybox sandbox, 64 alive, MB", "45", "28", *each(lambda f: f["grow"][-1]["memory"] / MB), 1),
        ("`run -d -p` nginx to its first HTTP answer, s", "2", "1", *each(lambda f: f.get("first_answer")), 2),
        ("cold `run --rm busybox true`, s", "2", "1.5", *cold, 2),
        ("overhead of the first sandbox alone, nginx in it, MB", "80", "50", *each(lambda f: f.get("overhead") and f["overhead"] / MB), 1),
        ("the last start against the first, 64 alive", "1.5", "1.1", *both("last start / first"), 2),
        ("agent binary, MB", "1.2", "0.5", result["agent_binary"] / MB, result["agent_binary"] / MB, 2),
        ("agent RSS idle, MB", "2", "1", *each(lambda f: f["idle"]["agent"] / MB), 2),
        ("shim RSS, MB", "4", "2", *each(lambda f: f["idle"]["shim"] / MB), 2),
    ]
    lines_ = ["| figure | must | aim | small kernel | distribution's kernel |", "|---|---|---|---|---|"]
    for what, must, aim, *values, digits in rows:
        shown = ["-" if value is None else f"{value:.{digits}f}" for value in values]
        lines_.append(f"| {what} | {must} | {aim} | {' | '.join(shown)} |")
    return lines_


def growth(result):
    lines_ = ["| sandboxes alive | start of the next, s | memory of each next, MB | all, MB |", "|---|---|---|---|"]
    for row in result["fleet"][OWN]["grow"]:
        lines_.append(f"| {row['alive']} | {row['start']:.3f} | {row['memory'] / MB:.1f} | {row['total'] / MB:.0f} |")
    return lines_


def text(result):
    host, fleet = result["machine"], result["fleet"]
    out = [*figures(result), ""]
    out += times(result, "start", "start of `true`", result["start"][OWN]["median"]) + [""]
    out += times(result, "exec", "`exec` of `true`", result["exec"][OWN]["median"]) + [""]
    for what, rows in result.get("cp", {}).items():
        out += [f"| `cp` of {what}, in and out | median, s |", "|---|---|"]
        out += [f"| {name} | {row['median']:.3f} |" for name, row in sorted(rows.items(), key=lambda item: item[1]["median"])] + [""]
    out += growth(result) + [""]
    if "starts_a_second" in fleet[OWN]:
        out.append("Starts a second, two at a time on two cores: " + ", ".join(
            f"{fleet[name]['starts_a_second']:.1f} ({label})" for name, label in ((OWN, "small kernel"), (README, "distribution's")) if name in fleet) + ".")
    out.append(f"{result['rounds']} rounds; {host['cpu']}, {host['cores']} cores, {host['memory_gib']} GiB, Linux {host['kernel']}, {host['qemu']}, "
               f"{host['docker'] or 'no Docker'}, {host['podman'] or 'no Podman'}, {host['runc']}; VMs: {words(host)}.")
    return "\n".join(out)


def write(result):
    KEPT.write_text(json.dumps(result, indent=1) + "\n")
    whole = DOCS.read_text()
    begin, end = "<!-- bench -->", "<!-- /bench -->"
    before, after = whole.split(begin)[0], whole.split(end)[1]
    DOCS.write_text(f"{before}{begin}\n{text(result)}\n{end}{after}")
    rows = [(name, row["median"] * 1000, name.startswith("micropod") or name.startswith("the same"))
            for name, row in sorted(result["start"].items(), key=lambda item: item[1]["median"])]
    (DOCS.parent / "start.svg").write_text(bars(f"Start of a container that runs `true`, {words(result['machine'])}", rows, "ms"))
    series = [(label, [(row["alive"], row["memory"] / MB) for row in result["fleet"][name]["grow"]])
              for name, label in ((OWN, "small kernel"), (README, "distribution's kernel")) if name in result["fleet"]]
    (DOCS.parent / "memory.svg").write_text(lines("Memory of each next sandbox, MB, by the number alive", series))
