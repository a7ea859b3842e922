"""Every command of the README runs."""

import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path

import numpy as np
import pytest

from sw import cli
from sw.config import load
from sw.stages import STAGES
from tests.pages import fences, is_install

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
COMMANDS = [
    line.split("#")[0].strip()
    for block in re.findall(r"```sh\n(.*?)```", README, re.DOTALL)
    for line in block.strip().splitlines()
]
TARGETS = ("hdl", "report", "test", "lint")


def test_the_make_targets_are_those_that_other_tests_run():
    """``hdl`` and ``report`` run in test_run.py; ``test`` is this run, ``lint`` its neighbour in CI."""
    assert [c.split()[1] for c in COMMANDS if c.startswith("make")] == list(TARGETS)
    makefile = (ROOT / "Makefile").read_text()
    assert all(re.search(rf"^{target}:.*## ", makefile, re.MULTILINE) for target in TARGETS)


@pytest.mark.slow
@pytest.mark.tools
def test_the_stand_alone_commands_run(tmp_path):
    rng = np.random.default_rng(0)
    x = rng.normal(size=2000)
    np.savez(tmp_path / "pairs.npz", site_x=x, site_y=np.tanh(x))
    for command in COMMANDS:
        words = shlex.split(command)
        if words[0] == "make" or words[1] == "run" or is_install(command):
            continue
        program = {"normforge": [sys.executable, "-m", "sw.cli"], "python": [sys.executable]}[words[0]]
        words = [str(ROOT / w) if w.startswith("examples/") else w for w in words[1:]]
        done = subprocess.run([*program, *words], cwd=tmp_path, capture_output=True, text=True, check=False)
        assert done.returncode == 0, (command, done.stderr)
    assert (tmp_path / "out/unit.v").exists()
    assert (tmp_path / "evolved/functions.json").exists()


@pytest.mark.parametrize("page", ["README.md", "docs/fpga.md"])
def test_the_installation_without_torch_names_extras_of_the_package(page):
    """CI installs the wheel alone and compiles with it."""
    lines = [line for _, text in fences(ROOT / page, "sh") for line in text.splitlines() if is_install(line)]
    assert lines == ["python3 -m venv .venv", ".venv/bin/pip install -c constraints.txt '.[sim,synth]'"]
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert not any(need.startswith("torch") for extra in ("sim", "synth") for need in extras[extra])
    assert (ROOT / "constraints.txt").is_file()


def test_the_run_commands_read_their_configuration():
    """test_dry_run.py does the same in little: weights and images of ViT-B are not at hand."""
    commands = [c for c in COMMANDS if c.startswith("normforge run")]
    assert len(commands) == 2
    for command in commands:
        args = cli._parser().parse_args(command.split()[1:])
        assert load(ROOT / args.config).model.pretrained


@pytest.mark.parametrize("path", sorted(p.name for p in (ROOT / "configs").glob("*.toml")))
def test_every_configuration_is_valid(path):
    assert load(ROOT / "configs" / path).name == path.removesuffix(".toml")


@pytest.mark.parametrize("command", ["run", "compile", "norm", *STAGES])
def test_every_sub_command_has_help(command, capsys):
    with pytest.raises(SystemExit) as ended:
        cli.main([command, "--help"])
    assert ended.value.code == 0
    assert "usage: normforge" in capsys.readouterr().out
