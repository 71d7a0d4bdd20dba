# SPDX-License-Identifier: Apache-2.0
"""What is made from the tables of verbs and options: completion in each shell, the manual page; and config show."""
import re
import shutil
import subprocess

import pytest

import cli_fixture
from test_cli import cli, error, module_cli  # noqa: F401


def offered(folder, env, *words):
    """What bash offers behind these words; the last one is being typed."""
    path = folder / "bin"
    path.mkdir(exist_ok=True)
    if not (path / "micropod").exists():
        (path / "micropod").symlink_to(cli_fixture.MICROPOD)
    script = 'source <(micropod completion bash); COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _micropod; printf "%s\\n" "${COMPREPLY[@]}"'
    done = subprocess.run(["bash", "-c", script, "bash", "micropod", *words], env={**env, "PATH": f"{path}:{env['PATH']}"}, capture_output=True, text=True, cwd=folder, check=True)
    assert done.stderr == ""
    return set(done.stdout.split())


def test_bash_offers_what_there_is(cli, tmp_path):  # noqa: F811
    cli.ok("create", "--name", "some-box", cli.image)
    cli.ok("volume", "create", "some-volume")
    (tmp_path / "some-file").write_text("")

    def offers(*words):
        return offered(tmp_path, cli.env, *words)

    assert {"pause", "port", "port-forward", "ps", "prune", "pull", "push"} == offers("p")
    assert {"image", "volume", "run"} <= offers("") and offers("--root", "/x", "upd") == {"update"}
    assert {"--network", "--network-alias", "--name", "--no-agent", "--no-healthcheck"} == offers("run", "--n") and offers("run", "--pull", "m") == {"missing"}
    assert offers("stop", "some") == {"some-box"} and offers("volume", "rm", "s") == {"some-volume"}
    assert offers("run", "--env-file", "some") == {"some-file"} and offers("load", "-i", "some") == {"some-file"}
    assert offers("image", "") >= {"ls", "prune", "tag"} and "--all" in offers("image", "prune", "--a") and "--format" in offers("container", "ls", "--fo")
    assert {"--help"} <= offers("pause", "--h")
    cli.ok("volume", "prune", "-f")


def test_every_option_is_in_every_shells_script(cli):  # noqa: F811
    verbs = re.findall(r"^  ([a-z-]+(?: [a-z]+)?) +[A-Z]", cli.ok("--help").split("Commands:")[1].split("Options:")[0], re.M)
    scripts = {shell: cli.ok("completion", shell) for shell in ("bash", "zsh", "fish")}
    for verb in set(verbs) - {"server", "runner", "token"}:
        for option in re.findall(r"^ +(?:-\w, )? *--([a-z0-9-]+)", cli.ok(*verb.split(), "--help").split("Global options:")[0], re.M):
            assert f"--{option} " in scripts["bash"] and f"-l {option} " in scripts["fish"], (verb, option)
    assert scripts["bash"] in scripts["zsh"]
    assert "give bash, zsh or fish" in error(cli("completion", "csh"))


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_shells_take_the_scripts(cli, shell):  # noqa: F811
    assert shutil.which(shell), f"{shell} is not installed"
    subprocess.run([shell, "-n"], input=cli.ok("completion", shell), text=True, check=True)


def test_fish_offers_what_there_is(cli, tmp_path):  # noqa: F811
    path = tmp_path / "bin"
    path.mkdir()
    (path / "micropod").symlink_to(cli_fixture.MICROPOD)
    script = "micropod completion fish | source; complete -C'micropod run --pul'; complete -C'micropod unp'; complete -C'micropod run --pull '"
    done = subprocess.run(["fish", "--no-config", "-c", script], env={**cli.env, "PATH": f"{path}:{cli.env['PATH']}", "HOME": str(tmp_path)}, capture_output=True, text=True, check=True)
    assert {"--pull", "unpause", "always"} <= {line.split("\t")[0] for line in done.stdout.splitlines()}, done


def test_the_manual_page(cli):  # noqa: F811
    page = cli_fixture.BUILD / "src/cli/micropod.1"
    done = subprocess.run(["man", "--warnings", "-E", "UTF-8", "-l", "-Tutf8", page], capture_output=True, text=True, check=True, env={"LC_ALL": "C.UTF-8", "MANWIDTH": "200", "PATH": cli.env["PATH"]})
    text = re.sub(r".\x08|\x1b\[[0-9;]*m", "", done.stdout)
    assert done.stderr == ""
    for verb in ("run", "pause", "volume create", "config show"):
        assert re.search(rf"^ +{verb} ", text, re.M), verb
    for option in re.findall(r"^ +(?:-\w, )? *(--[a-z0-9-]+)", cli.ok("run", "--help").split("Global options:")[0], re.M):
        assert re.search(rf"^ +(-\w, )?{option}\b", text, re.M), option


def test_where_settings_come_from(cli, tmp_path):  # noqa: F811
    folder = tmp_path / "config/micropod"
    folder.mkdir(parents=True)
    (folder / "micropod.yaml").write_text("memory: 2g\ncpus: 1.5\nenable_virtio_fs: false\n")
    env = {"XDG_CONFIG_HOME": str(tmp_path / "config"), "MICROPOD_CPUS": "3"}
    rows = {line.split("|")[0]: line.split("|")[1:] for line in cli.ok("config", "show", "--format", "{{.Key}}|{{.Value}}|{{.From}}", env=env).splitlines()}
    assert rows["memory"] == ["2GiB", f"{folder}/micropod.yaml:1"] and rows["cpus"] == ["3", "variable MICROPOD_CPUS"]
    assert rows["accel"] == ["auto", "default"] and rows["enable_virtio_fs"] == ["false", f"{folder}/micropod.yaml:3"]
    said = error(cli("create", "-v", f"{tmp_path}:/x", cli.image, env=env))
    assert said.startswith("folders cannot be shared: 'enable_virtio_fs' is false")
    assert cli.ok("config", "show").splitlines()[0].split() == ["KEY", "VALUE", "FROM"]


def test_what_vmms_can():
    """docs/drivers.md has what the code says."""
    table = subprocess.run([cli_fixture.BUILD / "tests/tools/vmm-table"], capture_output=True, text=True, check=True).stdout
    text = (cli_fixture.TOP / "docs/drivers.md").read_text()
    assert text.split("<!-- abilities -->\n")[1].split("<!-- /abilities -->")[0] == table
