"""Evolution from pairs to programs: repeatable, resumable, without torch."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from gp.evolve import STAGE, evolve_pairs
from gp.fitness import split_pairs
from gp.primitives import seeded
from sw.config import EvolveConfig, from_dict
from sw.files import read_json, write_json
from sw.ir.errors import InputError
from sw.ir.expr import evaluate
from sw.ir.formats import FixedFormat
from sw.ir.interpret import table
from sw.ir.parse import parse
from sw.ir.program import Program
from sw.ir.refmap import reference_map
from sw.run_dir import RunDir


def tokens(spread, num=4000, seed=0):
    """Pairs as a norm sees them: y is standard normal, x = y times its token's scale."""
    rng = np.random.default_rng(seed)
    y = rng.normal(size=num)
    return (np.exp(spread * rng.normal(size=num)) * y).astype(np.float32), y.astype(np.float32)


def save(path, **spreads):
    arrays = {}
    for site, spread in spreads.items():
        arrays[f"{site}_x"], arrays[f"{site}_y"] = tokens(spread)
    np.savez(path, **arrays)
    return path


QUICK = {"in_width": 12, "out_width": 6, "generations": 1, "jobs": 1}


@pytest.fixture(scope="module")
def evolved(tmp_path_factory):
    folder = tmp_path_factory.mktemp("evolved")
    pairs = save(folder / "pairs.npz", a=0.2, b=0.6)
    return pairs, evolve_pairs(pairs, folder / "out", **QUICK)


def test_functions_hold_what_the_architecture_lists(evolved):
    sites = evolved[1].read_functions()
    assert list(sites) == ["a", "b"]
    for entry in sites.values():
        assert list(entry) == [
            *("expression", "scale", "offset", "input", "output", "r2", "r2_fixed", "ceiling", "ratio"),
            *("price_lut6", "realization", "max_ulp", "exceptions", "baselines", "seed", "stopped_by"),
            "front",
        ]
        assert entry["expression"] in [e["expression"] for e in entry["front"]]
        own = ["linear", "clip", "scaled_dyt", "dyt", "derf"]
        assert list(entry["baselines"]) == [*own, "homogeneous", "homogeneous_dyt"]
        assert all(entry["baselines"][name]["price_lut6"] > 0 for name in own)
        assert 0 < entry["r2_fixed"] < entry["ceiling"] + 0.005
        assert entry["ceiling"] < 1
        assert entry["ratio"] == entry["r2_fixed"] / entry["ceiling"]
        assert all(e["ratio"] < 1.005 for e in (*entry["front"], *entry["baselines"].values()))
        assert entry["stopped_by"] in ("generations", "ratio")
        prices = [e["price_lut6"] for e in entry["front"]]
        errors = [-e["train_r2"] for e in entry["front"]]
        assert prices == sorted(set(prices))
        assert errors == sorted(set(errors), reverse=True)


def test_formats_come_from_the_data(evolved):
    pairs, run = evolved
    arrays = np.load(pairs)
    for site, entry in run.read_functions().items():
        largest = float(np.abs(arrays[f"{site}_x"]).max())
        assert entry["input"] == str(FixedFormat.covering(2 * largest, 12))
        assert entry["output"] == "s6.3"


def test_programs_are_the_functions_reference_maps(evolved):
    _, run = evolved
    for site, entry in run.read_functions().items():
        program = Program.from_json(run.program(site).read_text())
        formats = FixedFormat.parse(entry["input"]), FixedFormat.parse(entry["output"])
        assert (program.input, program.output) == formats
        expected = reference_map(parse(entry["expression"]), *formats)
        np.testing.assert_array_equal(table(program), expected)


def test_scores_can_be_recomputed_from_the_files(evolved):
    pairs, run = evolved
    arrays = np.load(pairs)
    for site, entry in run.read_functions().items():
        split = split_pairs(arrays[f"{site}_x"], arrays[f"{site}_y"], share=0.1, seed=0)
        x, y = split.held_x, split.held_y
        real = entry["scale"] * evaluate(parse(entry["expression"]), x) + entry["offset"]
        program = Program.from_json(run.program(site).read_text())
        codes = table(program)[program.input.quantize(x) - program.input.min_raw]
        fixed = entry["scale"] * program.output.to_real(codes) + entry["offset"]
        for value, name in ((real, "r2"), (fixed, "r2_fixed")):
            held_out = 1 - np.mean((y - value) ** 2) / np.var(y)
            assert held_out == pytest.approx(entry[name], abs=1e-9)


def test_chosen_function_is_near_the_ceiling(evolved):
    for entry in evolved[1].read_functions().values():
        assert entry["r2_fixed"] >= 0.95 * entry["ceiling"]
        assert entry["r2_fixed"] >= entry["baselines"]["dyt"]["r2"]


def test_no_fitted_form_beats_the_front(evolved):
    for entry in evolved[1].read_functions().values():
        for name, form in entry["baselines"].items():
            if "price_lut6" in form:
                ours = max(e["r2_fixed"] for e in entry["front"] if e["price_lut6"] <= form["price_lut6"])
                assert ours >= form["r2_fixed"] - 0.01, (name, "400 held-out pairs tell no more")


def test_the_hardware_of_a_fitted_form_is_given_as_a_formula(evolved):
    pairs, run = evolved
    arrays = np.load(pairs)
    for site, entry in run.read_functions().items():
        x, y = arrays[f"{site}_x"].astype(float), arrays[f"{site}_y"].astype(float)
        input, output = FixedFormat.parse(entry["input"]), FixedFormat.parse(entry["output"])
        for name in ("scaled_dyt", "derf", "clip"):
            form = entry["baselines"][name]
            codes = reference_map(parse(form["fixed"]), input, output)[input.quantize(x) - input.min_raw]
            r2 = np.corrcoef(codes, y)[0, 1] ** 2
            assert r2 == pytest.approx(form["r2_fixed"], abs=0.05), "held-out pairs are a tenth of these"


def test_one_function_for_all_sites_is_one_function(evolved):
    sites = evolved[1].read_functions().values()
    for name in ("homogeneous", "homogeneous_dyt"):
        assert len({entry["baselines"][name]["expression"] for entry in sites}) == 1
    assert {entry["baselines"]["homogeneous_dyt"]["scale"] for entry in sites} == {1.0}
    for entry in sites:
        assert entry["baselines"]["homogeneous"]["r2"] <= entry["baselines"]["scaled_dyt"]["r2"] + 0.01


def test_every_site_has_its_picture(evolved):
    run = evolved[1]
    for site in ("a", "b"):
        data = (run.root / "evolve" / "figures" / f"{site}.png").read_bytes()
        assert data.startswith(b"\x89PNG")
        assert len(data) > 20_000


def choose_again(evolved, folder, **rule):
    """The same tasks, which are there already, and another choice."""
    pairs, run = evolved
    shutil.copytree(run.root / "evolve", folder / "evolve")
    return evolve_pairs(pairs, folder, **(QUICK | rule)).read_functions()


def test_the_front_is_that_of_all_seeds_together(evolved, tmp_path):
    shutil.copytree(evolved[1].root / "evolve", tmp_path / "evolve")
    fronts = {}
    for site in ("a", "b"):
        paths = [tmp_path / "evolve" / f"{site}.{index}.json" for index in (0, 1)]
        first, second = map(read_json, paths)
        del first["front"][1::2], second["front"][::2]  # what each seed lacks, the other may have
        for path, body in zip(paths, (first, second), strict=True):
            write_json(path, body)
        fronts[site] = [{(e["price_lut6"], e["train_r2"]) for e in body["front"]} for body in (first, second)]
    for site, entry in evolve_pairs(evolved[0], tmp_path, **QUICK).read_functions().items():
        points = set.union(*fronts[site])
        best = {
            (price, r2)
            for price, r2 in points
            if not any(p <= price and r >= r2 and (p, r) != (price, r2) for p, r in points)
        }
        assert {(e["price_lut6"], e["train_r2"]) for e in entry["front"]} == best
        assert all(best - front for front in fronts[site])


def test_the_choice_can_be_a_budget_or_a_ratio(evolved, tmp_path):
    for entry in choose_again(evolved, tmp_path / "b", choose="budget", price_budget=9.0).values():
        affordable = [e for e in entry["front"] if e["price_lut6"] <= 9]
        assert entry["r2_fixed"] == max(affordable, key=lambda e: e["train_r2"])["r2_fixed"]
    for entry in choose_again(evolved, tmp_path / "r", choose="ratio", ratio=0.97).values():
        enough = [e for e in entry["front"] if e["ratio"] >= 0.97]
        assert entry["price_lut6"] == min(e["price_lut6"] for e in enough)


def test_a_ratio_out_of_reach_is_said_and_a_budget_refused(evolved, tmp_path, capsys):
    from gp.evolve import _choice

    settings = EvolveConfig(choose="ratio", ratio=0.95)
    assert _choice("a", [(1, 0.5), (9, 0.1), (20, 0.09)], [0.5, 0.9, 0.93], settings) == 2
    assert "a: no function has 0.95 of the ceiling; the best has 0.9300" in capsys.readouterr().out
    with pytest.raises(InputError, match=r"site 'a': price budget must be at least [\d.]+, not 0.5"):
        choose_again(evolved, tmp_path / "b", choose="budget", price_budget=0.5)


def test_weights_move_the_fit_to_what_weighs(tmp_path):
    quick = QUICK | {"generations": 0}
    x, y = tokens(0.3)
    other = np.random.default_rng(1).random(len(x)) < 0.5
    y, weight = np.where(other, -y, y), np.where(other, 0.01, 100.0)  # what hardly weighs says the opposite
    np.savez(tmp_path / "pairs.npz", a_x=x, a_y=y, a_w=weight)
    plain, weighted = (
        evolve_pairs(tmp_path / "pairs.npz", tmp_path / w, weights=w, **quick).read_functions()["a"]
        for w in ("none", "sensitivity")
    )
    assert plain["r2_fixed"] < 0.1 < 0.8 < weighted["r2_fixed"]


@pytest.mark.parametrize("price", ["nodes", "flops"])
def test_the_papers_prices_give_the_papers_fronts(tmp_path, price):
    pairs = save(tmp_path / "pairs.npz", a=0.4)
    front = evolve_pairs(pairs, tmp_path / "o", price=price, **QUICK).read_functions()["a"]["front"]
    assert [e["price"] for e in front] == [e[price] for e in front]
    assert front[0]["price"] <= 4
    assert all(e["price_lut6"] > 0 for e in front), "what it costs in hardware is told all the same"


@pytest.mark.parametrize("jobs", [2, 4])
def test_workers_and_surroundings_do_not_change_the_result(evolved, tmp_path, jobs):
    pairs, run = evolved
    with seeded(77):
        other = evolve_pairs(pairs, tmp_path, **(QUICK | {"jobs": jobs}))
    assert other.functions.read_bytes() == run.functions.read_bytes()
    for site in ("a", "b"):
        assert other.program(site).read_bytes() == run.program(site).read_bytes()


def test_finished_tasks_are_not_done_again(evolved, tmp_path, monkeypatch):
    pairs, run = evolved
    shutil.copytree(run.root / "evolve", tmp_path / "evolve")
    (tmp_path / "evolve" / "b.1.json").write_text("{ cut off")
    done = []
    from gp import evolve

    def noted(task):
        done.append((task.site, task.index))
        return original(task)

    original = evolve.run_task
    monkeypatch.setattr(evolve, "run_task", noted)
    again = evolve_pairs(pairs, tmp_path, **QUICK)
    assert done == [("b", 1)]
    assert again.functions.read_bytes() == run.functions.read_bytes()


def test_what_decides_a_task_is_in_its_digest(evolved, tmp_path, monkeypatch):
    pairs, _ = evolved
    from gp import evolve

    done = []
    monkeypatch.setattr(
        evolve, "run_task", lambda task: done.append(task.digest()) or {"digest": task.digest()}
    )
    monkeypatch.setattr(evolve, "_decide", lambda *_: {})
    monkeypatch.setattr(evolve, "draw_site", lambda *_: None)
    for change in ({}, {"jobs": 2}, {"seed": 1}, {"generations": 2}, {"input": "s12.5"}, {"output": "s6.4"}):
        monkeypatch.setattr(
            evolve, "run_all", lambda work, jobs, keep, **_: [keep(j, evolve.run_task(j)) for j in jobs]
        )
        evolve_pairs(pairs, tmp_path, **(QUICK | change))
    assert len(done) == len(set(done)) == 4 * 5, "two sites, two seeds; jobs change nothing"


def test_formats_can_be_given(tmp_path):
    pairs = save(tmp_path / "pairs.npz", a=0.3)
    entry = evolve_pairs(
        pairs, tmp_path / "o", input="s10.6", output="s5.2", generations=0, jobs=1
    ).read_functions()["a"]
    assert (entry["input"], entry["output"]) == ("s10.6", "s5.2")


def test_a_budget_stops_the_search(tmp_path):
    pairs = save(tmp_path / "pairs.npz", a=0.3)
    run = evolve_pairs(
        pairs, tmp_path / "o", in_width=10, out_width=5, generations=100_000, budget_s=0.4, jobs=1
    )
    assert run.read_functions()["a"]["stopped_by"] == "budget"


@pytest.mark.parametrize("power", [6, -6])
def test_x_of_any_size(tmp_path, power):
    x, y = tokens(0.3)
    np.savez(tmp_path / "pairs.npz", a_x=x.astype(float) * 10.0**power, a_y=y)
    entry = evolve_pairs(tmp_path / "pairs.npz", tmp_path / "o", **QUICK).read_functions()["a"]
    assert entry["r2_fixed"] > 0.9


def test_x_over_twelve_decades(tmp_path):
    rng = np.random.default_rng(4)
    x = rng.choice([-1, 1], 4000) * 10.0 ** rng.uniform(-6, 6, 4000)
    np.savez(tmp_path / "pairs.npz", a_x=x, a_y=np.sign(x) + 0.1 * rng.normal(size=4000))
    entry = evolve_pairs(tmp_path / "pairs.npz", tmp_path / "o", **QUICK).read_functions()["a"]
    assert entry["ratio"] > 0.97
    assert entry["ceiling"] > 0.98
    assert FixedFormat.parse(entry["input"]).max_raw < 2 ** FixedFormat.parse(entry["input"]).frac * 1e6


def test_a_covering_format_is_kept_where_it_is_as_good(tmp_path):
    rng = np.random.default_rng(4)
    x = rng.normal(size=4000) * 10.0 ** rng.uniform(-1, 1, 4000)
    np.savez(tmp_path / "pairs.npz", a_x=x, a_y=np.tanh(x) + 0.1 * rng.normal(size=4000))
    entry = evolve_pairs(tmp_path / "pairs.npz", tmp_path / "o", **QUICK).read_functions()["a"]
    assert entry["input"] == str(FixedFormat.covering(2 * float(np.abs(x).max()), 12))


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"input": "s40.3"}, "width of a signed format must be"),
        ({"input": "s20.3"}, r"input format must have 2\.\.16 bits, not 20 \('s20\.3'\)"),
        ({"output": "u1.0"}, r"output format must have 2\.\.16 bits, not 1 \('u1\.0'\)"),
        ({"output": "8.5"}, r"format must look like 's16\.11'"),
        ({"in_width": 17}, r"configuration key 'unit.in_width' must be 2\.\.16, not 17"),
        ({"generations": -1}, "configuration key 'evolve.generations' must be"),
        ({"jobs": -1}, "configuration key 'evolve.jobs' must be"),
    ],
)
def test_wrong_arguments_write_nothing(tmp_path, arguments, text):
    pairs = save(tmp_path / "pairs.npz", a=0.3)
    with pytest.raises(InputError, match=text):
        evolve_pairs(pairs, tmp_path / "o", **arguments)
    assert not (tmp_path / "o").exists()


def test_weights_that_are_not_there_are_missed(tmp_path):
    x = np.linspace(-3.0, 3.0, 50)
    np.savez(tmp_path / "pairs.npz", a_x=x, a_y=np.tanh(x), a_w=np.ones(50), b_x=x, b_y=x * x)
    message = r"^pairs '.*pairs\.npz' must hold 'b_w' for weights 'sensitivity'$"
    with pytest.raises(InputError, match=message):
        evolve_pairs(tmp_path / "pairs.npz", tmp_path / "o", weights="sensitivity")
    assert not (tmp_path / "o").exists()


def test_wrong_pairs_write_nothing(tmp_path):
    np.savez(tmp_path / "pairs.npz", a_x=np.arange(20.0))
    with pytest.raises(InputError, match="must hold 'a_y' beside 'a_x'"):
        evolve_pairs(tmp_path / "pairs.npz", tmp_path / "o")
    assert not (tmp_path / "o").exists()


def run_of(root, **sections):
    body = {
        "model": {"name": "none"},
        "runs_dir": str(root),
        "name": "r",
        "unit": {"in_width": 10, "out_width": 5},
        "evolve": {"generations": 0, "population": 10, "seeds": 1, "jobs": 1},
    }
    return RunDir.create(
        from_dict(
            {key: {**body.get(key, {}), **value} for key, value in sections.items()}
            | {key: value for key, value in body.items() if key not in sections}
        )
    )


def test_stage_takes_input_formats_from_the_capture(tmp_path):
    run = run_of(tmp_path)
    save(run.captures, a=0.3)
    write_json(run.capture_stats, {"sites": {"a": {"input": "s10.5"}}})
    assert STAGE.run(run)
    assert run.read_functions()["a"]["input"] == "s10.5"
    assert run.read_functions()["a"]["output"] == "s5.2"
    assert not STAGE.run(run), "nothing changed"
    run.program("a").unlink()
    assert STAGE.run(run)


def test_stage_takes_a_finer_input_format_where_few_values_are_far_out(tmp_path):
    run = run_of(tmp_path)
    x, y = tokens(0.2)
    x[:2] = (1e4, -1e4)
    np.savez(run.captures, a_x=x, a_y=y)
    write_json(run.capture_stats, {"sites": {"a": {"input": "s10.-5"}}})
    assert STAGE.run(run)
    entry = run.read_functions()["a"]
    assert FixedFormat.parse(entry["input"]).width == 10
    assert FixedFormat.parse(entry["input"]).step < 0.1
    assert entry["ratio"] > 0.9
    assert Program.from_json(run.program("a").read_text()).input == FixedFormat.parse(entry["input"])


def test_stage_wants_the_capture_first(tmp_path):
    with pytest.raises(InputError, match=r"stage 'evolve' needs '.*captures\.npz', which is not there"):
        STAGE.run(run_of(tmp_path))


def test_stage_wants_captures_that_belong_together(tmp_path):
    run = run_of(tmp_path)
    save(run.captures, a=0.3)
    write_json(run.capture_stats, {"sites": {"b": {"input": "s10.5"}}})
    with pytest.raises(InputError, match="must describe site 'a' of"):
        STAGE.run(run)


def test_kind_of_realisation_can_be_forced(tmp_path):
    run = run_of(tmp_path, unit={"realize": "table"})
    save(run.captures, a=0.3)
    write_json(run.capture_stats, {"sites": {"a": {"input": "s10.5"}}})
    STAGE.run(run)
    assert {e["realization"] for e in run.read_functions()["a"]["front"]} == {"table"}


SCRIPT = """
import signal
import sys
from pathlib import Path
from gp.evolve import evolve_pairs
if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it
    evolve_pairs(Path(sys.argv[1]), Path(sys.argv[2]), in_width=12, out_width=6, generations=1, jobs=2)
    heavy = sorted({"torch", "timm", "brevitas", "amaranth", "cocotb", "sklearn"} & set(sys.modules))
    print("loaded:", heavy)
"""


@pytest.fixture
def script(tmp_path):
    (tmp_path / "script.py").write_text(SCRIPT)
    return [sys.executable, str(tmp_path / "script.py")]


def test_evolution_loads_neither_models_nor_hardware(evolved, script, tmp_path):
    pairs, run = evolved
    done = subprocess.run(
        [*script, str(pairs), str(tmp_path / "o")], capture_output=True, text=True, check=True
    )
    assert done.stdout == "loaded: []\n"
    assert (tmp_path / "o" / "functions.json").read_bytes() == run.functions.read_bytes()


@pytest.fixture(scope="module")
def many(tmp_path_factory):
    """Pairs of so many sites that a run can be caught in the middle, and the functions of a whole run."""
    folder = tmp_path_factory.mktemp("many")
    pairs = save(folder / "pairs.npz", **{f"site{k}": 0.2 + 0.1 * k for k in range(4)})
    run = evolve_pairs(pairs, folder / "o", in_width=12, out_width=6, generations=1, jobs=2)
    return pairs, run.functions.read_bytes()


@pytest.mark.slow
@pytest.mark.xdist_group("killed")
@pytest.mark.parametrize("ending", [signal.SIGKILL, signal.SIGINT])
def test_a_killed_run_goes_on_and_ends_with_the_same_functions(many, script, tmp_path, ending):
    pairs, expected = many
    out = tmp_path / "o"
    process = subprocess.Popen([*script, str(pairs), str(out)], stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while not list(out.glob("evolve/*.json")):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    process.send_signal(ending)
    assert process.wait() != 0
    kept = {p.name: p.stat().st_mtime_ns for p in out.glob("evolve/*.json")}
    assert 0 < len(kept) < 8
    assert not (out / "functions.json").exists()
    subprocess.run([*script, str(pairs), str(out)], check=True, capture_output=True)
    assert (out / "functions.json").read_bytes() == expected
    assert {name: (out / "evolve" / name).stat().st_mtime_ns for name in kept} == kept
    assert not list(out.rglob("*.part"))


def test_every_number_is_finite_json(evolved):
    text = evolved[1].functions.read_text()
    assert "NaN" not in text
    assert "Infinity" not in text
    assert json.loads(text) == read_json(evolved[1].functions)


@pytest.mark.parametrize("faithful", [False, True])
def test_units_are_as_far_from_their_map_as_they_say(tmp_path, faithful):
    run = run_of(tmp_path, unit={"faithful": faithful})
    save(run.captures, a=0.6)
    write_json(run.capture_stats, {"sites": {"a": {"input": "s10.5"}}})
    STAGE.run(run)
    entry = run.read_functions()["a"]
    program = Program.from_json(run.program("a").read_text())
    expected = reference_map(parse(entry["expression"]), program.input, program.output)
    assert np.abs(table(program) - expected).max() == entry["max_ulp"] <= int(faithful)


@pytest.mark.parametrize("values", [[-1.0, 0.0, 1.0], [1.0, 1.0005]])
def test_x_of_few_values(tmp_path, values):
    rng = np.random.default_rng(0)
    x = rng.choice(values, 600)
    y = x + 0.1 * np.std(values) * rng.normal(size=600)
    np.savez(tmp_path / "pairs.npz", a_x=x, a_y=y)
    entry = evolve_pairs(tmp_path / "pairs.npz", tmp_path / "o", generations=0, jobs=1, choose="best")
    assert entry.read_functions()["a"]["ratio"] > 0.98


def test_y_that_x_says_nothing_of(tmp_path):
    rng = np.random.default_rng(0)
    rare = np.zeros(400)
    rare[7] = 1.0
    arrays = {
        "a_x": rng.normal(size=400),
        "a_y": rng.normal(size=400),
        "b_x": rng.normal(size=400),
        "b_y": rare,
    }
    np.savez(tmp_path / "pairs.npz", **arrays)
    sites = evolve_pairs(tmp_path / "pairs.npz", tmp_path / "o", **QUICK).read_functions()
    assert all(np.isfinite(entry["ratio"]) for entry in sites.values())


def test_y_that_varies_in_held_out_pairs_alone_is_refused(tmp_path):
    x = np.linspace(-2, 2, 20)
    y = np.zeros(20)
    y[np.random.default_rng(0).permutation(20)[0]] = 1.0  # the first of those that seed 0 holds out
    np.savez(tmp_path / "pairs.npz", a_x=x, a_y=y)
    with pytest.raises(InputError, match=r"^'a_y' must vary among the pairs that are not held out, not"):
        evolve_pairs(tmp_path / "pairs.npz", tmp_path / "o", **QUICK)


def test_weights_that_are_not_asked_for_say_nothing_of_formats(tmp_path):
    rng = np.random.default_rng(1)
    x = np.concatenate([rng.normal(0, 0.01, 3000), [30.0]])
    y = np.tanh(100 * x)
    w = np.concatenate([np.ones(3000), [0.0]])
    np.savez(tmp_path / "bare.npz", a_x=x, a_y=y)
    np.savez(tmp_path / "weighted.npz", a_x=x, a_y=y, a_w=w)
    quick = QUICK | {"generations": 0}
    found = [
        evolve_pairs(tmp_path / f"{name}.npz", tmp_path / name, **quick).read_functions()["a"]["input"]
        for name in ("bare", "weighted")
    ]
    assert found[0] == found[1]


def test_weights_that_are_not_asked_for_refuse_no_site(tmp_path):
    x, y = tokens(0.2)
    np.savez(tmp_path / "pairs.npz", a_x=x, a_y=y, a_w=(np.arange(len(x)) < 10) * 1.0)
    quick = QUICK | {"generations": 0}
    assert evolve_pairs(tmp_path / "pairs.npz", tmp_path / "o", **quick).read_functions()
    with pytest.raises(InputError, match="pairs of positive weight of site 'a' must be at least 16, not 10"):
        evolve_pairs(tmp_path / "pairs.npz", tmp_path / "w", weights="sensitivity", **quick)


@pytest.mark.parametrize("width", [2, 3])
@pytest.mark.parametrize("affine", ["free", "scale", "none"])
def test_outputs_of_few_bits(tmp_path, width, affine):
    rng = np.random.default_rng(width)
    x = rng.normal(size=4000)
    np.savez(tmp_path / "pairs.npz", a_x=x, a_y=np.tanh(x) + 0.1 * rng.normal(size=4000))
    quick = QUICK | {"out_width": width, "generations": 0, "affine": affine}
    entry = evolve_pairs(tmp_path / "pairs.npz", tmp_path / "o", **quick).read_functions()["a"]
    assert min(e["train_r2"] for e in entry["front"]) > 0.3, "a constant function is none"
    best = {2: 0.75, 3: 0.9}[width]  # of four and of eight output levels
    assert max(e["r2_fixed"] for e in entry["front"]) > best


def test_what_varies_only_where_no_x_is_counts_as_constant(tmp_path):
    rng = np.random.default_rng(0)
    x = 0.5 * np.abs(rng.normal(size=4000)) + 0.1
    np.savez(tmp_path / "pairs.npz", a_x=x, a_y=np.tanh(x) + 0.05 * rng.normal(size=4000))
    quick = {"input": "s8.4", "output": "s3.0", "generations": 0, "jobs": 1}
    front = evolve_pairs(tmp_path / "pairs.npz", tmp_path / "o", **quick).read_functions()["a"]["front"]
    assert len(front) > 1
    assert all(entry["scale"] != 0 for entry in front)


@pytest.mark.parametrize("size", [20.0, 0.01])
@pytest.mark.parametrize("far", [False, True])
def test_outputs_whose_scale_does_not_fold_suit_y(tmp_path, size, far):
    rng = np.random.default_rng(0)
    x = rng.normal(size=4000)
    y = size * np.tanh(x)
    if far:
        x[:2], y[:2] = (9, -9), (5 * size, -5 * size)
    np.savez(tmp_path / "pairs.npz", a_x=x, a_y=y)
    quick = QUICK | {"affine": "none"}
    entry = evolve_pairs(tmp_path / "pairs.npz", tmp_path / "o", **quick).read_functions()["a"]
    errors = {}
    for frac in range(-6, 16):
        rounded = np.clip(np.rint(y * 2.0**frac), -32, 31) / 2.0**frac
        errors[f"s6.{frac}"] = np.mean((rounded - y) ** 2)
    assert entry["output"] == min(errors, key=errors.get)
    assert max(e["r2_fixed"] for e in entry["front"]) > (0.95 if far else 0.99)


UNGUARDED = """
from pathlib import Path
from gp.evolve import evolve_pairs
evolve_pairs(Path("pairs.npz"), Path("o"), in_width=12, out_width=6, generations=0, jobs=2)
"""


def test_a_script_that_workers_would_run_again_is_told_so(tmp_path):
    save(tmp_path / "pairs.npz", a=0.2, b=0.3)
    (tmp_path / "script.py").write_text(UNGUARDED)
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    command = [sys.executable, "script.py"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert "evolve_pairs must stand below 'if __name__ == \"__main__\":' in a script" in done.stderr


def test_a_damaged_task_is_done_again(tmp_path):
    pairs = save(tmp_path / "pairs.npz", a=0.2)
    quick = QUICK | {"generations": 0, "seeds": 1}
    whole = evolve_pairs(pairs, tmp_path / "o", **quick).functions.read_bytes()
    for damage in ("[1, 2]", "[" * 100_000, "3", "torn"):
        (tmp_path / "o/evolve/a.0.json").write_text(damage)
        assert evolve_pairs(pairs, tmp_path / "o", **quick).functions.read_bytes() == whole, damage[:9]


@pytest.mark.parametrize(
    ("settings", "reason"), [({"patience": 2}, "stalled"), ({"stop_ratio": 0.5}, "ratio")]
)
def test_a_search_ends_when_it_has_enough_or_gains_nothing(tmp_path, settings, reason):
    pairs = save(tmp_path / "pairs.npz", a=0.2)
    long = QUICK | {"generations": 1000, "population": 10, "seeds": 1}
    run = evolve_pairs(pairs, tmp_path / "o", **(long | {"stop_ratio": 2.0, "patience": 0} | settings))
    assert run.read_functions()["a"]["stopped_by"] == reason
    assert read_json(run.root / "evolve/a.0.json")["generations"] < 1000


def test_settings_reach_the_search(tmp_path, monkeypatch):
    import gp.task

    wanted = {
        **{"population": 30, "generations": 3, "max_nodes": 13, "tournament": 5},
        **{"islands": 3, "csd_digits": 2, "price": "flops"},
    }
    seen = {}

    def search(target, settings, seed, watch=None):
        seen["search"] = settings
        return real_search(target, settings, seed, watch)

    def split(x, y, w, *, share, seed):
        seen["held_out"] = share
        return real_split(x, y, w, share=share, seed=seed)

    def bins(*arguments, growth_penalty, **more):
        seen.setdefault("growth_penalty", set()).add(growth_penalty)
        return real_bins(*arguments, growth_penalty=growth_penalty, **more)

    real_search, real_split, real_bins = gp.task.search, gp.task.split_pairs, gp.task.bin_pairs
    for name, spy in (("search", search), ("split_pairs", split), ("bin_pairs", bins)):
        monkeypatch.setattr(gp.task, name, spy)
    pairs = save(tmp_path / "pairs.npz", a=0.2)
    settings = QUICK | wanted | {"seeds": 1, "held_out": 0.3, "growth_penalty": 0.02, "budget_s": 99.0}
    evolve_pairs(pairs, tmp_path / "o", **settings)
    assert {name: getattr(seen["search"], name) for name in wanted} == wanted
    assert seen["search"].budget_s == 99.0
    assert seen["held_out"] == 0.3
    assert 0.02 in seen["growth_penalty"]


def test_a_folder_is_searched_by_one_process_at_a_time(tmp_path):
    from gp import command

    pairs = save(tmp_path / "pairs.npz", a=0.2)
    run = evolve_pairs(pairs, tmp_path / "o", **(QUICK | {"generations": 0}))
    kept = sorted(p.name for p in (tmp_path / "o/evolve").glob("*.json"))
    script = """
import sys
from pathlib import Path
from sw.config import without_run
from sw.run_dir import RunDir
with RunDir(Path("o"), without_run()).locked():
    print("held", flush=True)
    sys.stdin.read()
"""
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    options = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "cwd": tmp_path, "env": environment}
    with subprocess.Popen([sys.executable, "-c", script], **options) as other:
        assert other.stdout.readline() == b"held\n"
        assert command.main(["--pairs", str(pairs), "-o", str(run.root), "--force"]) == 2
        other.communicate()
    assert sorted(p.name for p in (tmp_path / "o/evolve").glob("*.json")) == kept


def test_force_searches_again(tmp_path):
    from gp import command

    pairs = save(tmp_path / "pairs.npz", a=0.2)
    words = [
        "--pairs",
        str(pairs),
        "-o",
        str(tmp_path),
        "--generations",
        "0",
        "--in-width",
        "8",
        "--jobs",
        "1",
    ]
    assert command.main(words) == 0
    before = {p.name: p.stat().st_mtime_ns for p in (tmp_path / "evolve").glob("*.json")}
    assert command.main(words) == 0
    assert {p.name: p.stat().st_mtime_ns for p in (tmp_path / "evolve").glob("*.json")} == before
    assert command.main([*words, "--force"]) == 0
    after = {p.name: p.stat().st_mtime_ns for p in (tmp_path / "evolve").glob("*.json")}
    assert all(after[name] > before[name] for name in before)


def test_a_site_without_any_function_is_said(tmp_path, monkeypatch):
    monkeypatch.setattr("gp.task.Lowering.front", lambda _: [])
    pairs = save(tmp_path / "pairs.npz", a=0.3)
    wanted = r"site 'a' must have a function from s12\.\d+ to s6\.3 that kind 'auto' can realise, and none"
    with pytest.raises(InputError, match=wanted):
        evolve_pairs(pairs, tmp_path / "o", **QUICK)
