"""The pages hold together, and what they tell a reader to type runs."""

import importlib.util
import json
import re
import tomllib
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
import timm
import tomli_w
from PIL import Image
from safetensors.torch import save_file

from hw.tools import require_simulator
from sim_tb.unit import KEYS
from sw import cli
from sw.config import load
from sw.ir.realize import KINDS
from sw.stages import STAGES
from tests import pages

ROOT = Path(__file__).parents[1]
PAGES = sorted((ROOT / "docs").glob("*.md"))
MKDOCS = (ROOT / "mkdocs.yml").read_text()

_spec = importlib.util.spec_from_file_location("hooks", ROOT / "docs/hooks.py")
assert _spec
assert _spec.loader
hooks = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(hooks)

TINY = """
name = "digits"
[model]
name = "vit_tiny_patch16_224"
keep_layernorm = ["blocks.*"]
[model.kwargs]
img_size = 8
patch_size = 4
in_chans = 1
num_classes = 10
embed_dim = 16
depth = 1
num_heads = 2
[train]
epochs = 4
[capture]
pairs = 2000
[unit]
in_width = 10
[evolve]
population = 10
generations = 1
seeds = 1
jobs = 1
[align]
epochs = 1
[verify]
stall_beats = 64
replay_images = 1
[synth]
families = ["ecp5"]
pnr_seeds = 0
"""
"""``configs/digits.toml`` where the tutorial is tested: one site, hardly trained."""


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as MkDocs and GitHub make them."""
    text = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.DOTALL | re.MULTILINE)
    headings = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return {re.sub(r"[\s-]+", "-", re.sub(r"[^\w\s-]", "", h).strip().lower()) for h in headings}


@pytest.mark.parametrize("page", [*PAGES, ROOT / "CONTRIBUTING.md", ROOT / "README.md"], ids=lambda p: p.name)
def test_every_link_leads_somewhere(page):
    """``make docs`` checks the built site; this needs no MkDocs."""
    for link in re.findall(r"\]\((?!http)([^)\s]+)\)", page.read_text()):
        path, _, anchor = link.partition("#")
        target = (page.parent / path) if path else page
        assert target.is_file(), link
        assert not anchor or anchor in anchors(target), link


def test_every_page_is_in_the_navigation():
    listed = re.findall(r": ([\w/]+\.md)$", MKDOCS, re.MULTILINE)
    assert {p.name for p in PAGES} <= set(listed)
    assert all(hooks.site_path(path) in listed for p in PAGES for path in linked_pages(p))
    assert len(listed) == len(set(listed))


def linked_pages(page: Path) -> list[str]:
    return [path for _, path in hooks.links(str(page.relative_to(ROOT))) if path.endswith(".md")]


def test_links_keep_their_meaning_on_the_site():
    """README.md is the home page there, docs/ the root, and what else is linked keeps its path."""
    assert hooks.moved("[a](docs/ir.md#json) [b](https://example.org)", "README.md") == (
        "[a](ir.md#json) [b](https://example.org)"
    )
    assert hooks.moved("[a](../benchmarks/gp.md), ![](figures/architecture.svg)", "docs/faq.md") == (
        "[a](benchmarks/gp.md), ![](figures/architecture.svg)"
    )
    assert hooks.moved("[a](../docs/ir.md) [b](gone.md)", "benchmarks/gp.md") == "[a](../ir.md) [b](gone.md)"


def test_the_site_fetches_nothing():
    assert re.search(r"^  font: false", MKDOCS, re.MULTILINE)
    assert "strict: true" in MKDOCS
    assert "http" not in MKDOCS


def test_the_picture_has_its_text_in_boxes():
    """Text beside a box would vanish on a dark or a light page."""
    svg = ElementTree.parse(ROOT / "docs/figures/architecture.svg").getroot()
    space = "{http://www.w3.org/2000/svg}"
    boxes = [{k: float(r.attrib[k]) for k in ("x", "y", "width", "height")} for r in svg.iter(f"{space}rect")]
    assert len(boxes) == 11
    for text in svg.iter(f"{space}text"):
        x, y = float(text.attrib["x"]), float(text.attrib["y"])
        inside = [b for b in boxes if 0 < y - b["y"] < b["height"] and x == b["x"] + b["width"] / 2]
        letter = 9.9 if "font-size" in text.attrib else 8.8 if text.attrib["class"] == "name" else 8.4
        assert inside, text.text
        assert len(text.text) * letter < inside[0]["width"], text.text


def test_the_contract_lists_the_keys_of_a_unit():
    rows = re.findall(r"^\| (`.*?) \|", (ROOT / "docs/contract.md").read_text(), re.MULTILINE)
    assert sorted(re.findall(r"`(\w+)`", " ".join(rows))) == sorted(KEYS)


def test_the_architecture_lists_the_stages_in_their_order():
    text = (ROOT / "docs/architecture.md").read_text()
    assert re.findall(r"^\| `(\w+)` \|", text.split("## Stages")[1], re.MULTILINE) == list(STAGES)


@pytest.mark.slow
@pytest.mark.tools
@pytest.mark.xdist_group("run")
def test_the_tutorial_runs(tmp_path, capsys):
    """But for ``make report``, which test_run.py runs on another tiny run."""
    assert load(ROOT / "configs/digits.toml").name == "digits"
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs/digits.toml").write_text(TINY)
    pages.run_page(ROOT / "docs/tutorial.md", without=["make report"])
    assert "1 units verified: 1024 codes checked, 0 mismatches" in capsys.readouterr().out
    chosen = json.loads((tmp_path / "runs/digits/functions.json").read_text())["sites"]["norm"]
    assert chosen["price_lut6"] == min(point["price_lut6"] for point in chosen["front"])  # --set ...=cheapest
    assert set(json.loads((tmp_path / "runs/digits/hdl/manifest.json").read_text())["kept"]) == {
        "blocks.0.norm1",
        "blocks.0.norm2",
    }
    page = ROOT / "docs/layernorm.md"
    (code,) = (text for _, text in pages.fences(page, "python") if "runs/kept" in text)
    options = pages.run_python(code.replace("runs/kept", "runs/digits"))
    (command,) = (c for _, text in pages.fences(page, "sh") for c in text.splitlines() if "norm1.npz" in c)
    for option, value in re.findall(r"(--\S+) (\S+)", options):
        assert f"{option} " in command
        command = re.sub(rf"(?<={option} )\S+", value, command)
    pages.run_command(command)
    assert json.loads((tmp_path / "kept/norm1.json").read_text())["channels"] == 16


@pytest.mark.slow
def test_the_guide_to_an_own_model_runs(tmp_path):
    """The page's own configuration, for a model of one block and pictures of noise; no run, no dry run.

    test_dry_run.py and test_run.py do those.
    """
    page = ROOT / "docs/own_vit.md"
    small = {"img_size": 16, "patch_size": 8, "embed_dim": 16, "depth": 1, "num_heads": 2, "num_classes": 2}
    ((_, text),) = pages.fences(page, "toml")
    body = tomllib.loads(text)
    body["model"]["kwargs"] = small
    body["data"]["calibration_images"] = 8
    body["capture"] = {"images": 8, "pairs": 500}
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs/mine.toml").write_text(tomli_w.dumps(body))
    model = timm.create_model(body["model"]["name"], **small)
    save_file(model.state_dict(), tmp_path / "weights.safetensors")
    noise = np.random.default_rng(0).integers(0, 256, (40, 16, 16, 3), dtype=np.uint8)
    for index, pixels in enumerate(noise):
        split = "val" if index % 5 == 0 else "train"
        path = tmp_path / "images" / split / f"class{index % 2}" / f"{index}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(path)
    commands = [line for _, text in pages.fences(page, "sh") for line in text.splitlines()]
    for command in commands:
        words = command.split()
        if words[:2] == ["normforge", "run"]:
            args = cli._parser().parse_args(words[1:])
            assert load(args.config).name == "mine"
        elif words[0] == "make":
            assert words == ["make", "report", "CONFIG=configs/mine.toml"]
        else:
            pages.run_command(command)
    captured = json.loads((tmp_path / "runs/mine/captures.json").read_text())["sites"]
    assert captured["norm"]["consumers"] == ["head"]


@pytest.mark.slow
@pytest.mark.tools
def test_the_guide_to_a_unit_runs_and_its_instance_is_right(tmp_path):
    page = ROOT / "docs/fpga.md"
    pages.run_page(page)
    ((_, verilog),) = pages.fences(page, "verilog")
    (tmp_path / "two_gates.v").write_text(verilog)
    sources = ["two_gates.v", "gate/gate.v"]
    require_simulator().run("--lint-only", "-Wall", "--top-module", "two_gates", *sources, cwd=tmp_path)
    written = [int(line, 16) for line in (tmp_path / "gate/gate.hex").read_text().split()]
    assert written == np.load(tmp_path / "gate/gate.table.npy").tolist()
    assert (written[0], written[-1]) == (0, 255)


def test_the_examples_of_extensions_run(capfd):
    pages.run_page(ROOT / "docs/extend.md")
    assert "step" not in KINDS
