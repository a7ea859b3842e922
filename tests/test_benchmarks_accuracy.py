"""``make bench-accuracy``: its plan, claims and text on results made by hand, and a tiny run."""

import dataclasses
import math

import pytest
import torch

from benchmarks.accuracy import measure, variants
from benchmarks.accuracy.__main__ import main, parsed, plan_of
from benchmarks.accuracy.kept import with_kept
from benchmarks.accuracy.measure import Results, align_config, arm_key, measure_arm, run_dir
from benchmarks.accuracy.plan import (
    BENCHMARKS,
    FITTED,
    FUNCTION_SETS,
    LAYERNORM,
    OURS,
    PUBLISHED_DYT,
    REGIME_NAMES,
    ROOT,
    Arm,
    Plan,
)
from benchmarks.accuracy.summary import arrival, checks, differences, identity, recovered, spread, summarise
from benchmarks.accuracy.tables import document
from sw.config import AlignConfig, load
from sw.files import read_json, write_json
from sw.ir.errors import InputError
from sw.model import glyphs

pytestmark = pytest.mark.filterwarnings(
    "ignore::DeprecationWarning:torchvision.*", "ignore::DeprecationWarning:timm.*"
)


def test_every_function_set_meets_every_regime_with_as_many_seeds_as_the_benchmark_says():
    arms = Plan().arms()
    assert len(arms) == len(set(arms)) == (5 + 3) * 6 * 4
    assert len(Plan(benchmarks=("digits",), seeds=2).runs()) == 2
    assert set(FUNCTION_SETS) == {OURS, *FITTED, PUBLISHED_DYT, LAYERNORM}


def test_runs_differ_in_seed_and_folder_alone(tmp_path):
    plan = Plan(cache=tmp_path)
    first, second = plan.config("digits", 0).to_dict(), plan.config("digits", 1).to_dict()
    assert {key for key in first if first[key] != second[key]} == {"seed", "name"}
    assert first["align"]["epochs"] == 20


def test_claims_are_measured_on_other_images_and_seeds_than_choices():
    assert Plan().config("glyphs", 10).data.split_seed == 1
    assert load(ROOT / BENCHMARKS["glyphs"].config).data.split_seed == 0
    assert Plan().runs()[-3:] == [("glyphs", 10), ("glyphs", 11), ("glyphs", 12)]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"benchmarks": ("letters",)}, "benchmark must be one of digits; glyphs, not 'letters'"),
        ({"functions": ("relu",)}, "function set must be one of evolved; .*, not 'relu'"),
        ({"regimes": ("E",)}, "regime must be one of A; F; D; D\\+, not 'E'"),
        ({"jobs": 0}, "jobs must be at least 1 and seeds 0, not 0 and 0"),
    ],
)
def test_bad_plans_are_refused(changes, message):
    with pytest.raises(InputError, match=message):
        Plan(**changes)


def test_published_regimes_keep_their_settings_but_for_the_rate():
    own = AlignConfig(epochs=7, lr=0.25)

    def arm(regime):
        return Arm(benchmark="digits", seed=0, functions=OURS, regime=regime)

    assert align_config(own, arm("D+")) == own
    distilled = align_config(own, arm("D"))
    assert (distilled.epochs, distilled.lr, distilled.kd_weight, distilled.refit) == (7, 3e-4, 0.5, "none")
    assert align_config(own, arm("A")).trained == "affine"


def made(ours=0.95, dyt=0.93, layernorm=0.951, swap=0.5, refitted=0.92):
    """Two seeds of glyphs, whose second is a point better everywhere."""
    plan = Plan(benchmarks=("glyphs",), regimes=("D", "D+"), seeds=2)
    last = {OURS: ours, LAYERNORM: layernorm}
    runs, arms = {}, {}
    by = {"commit": "0123456789", "versions": {"torch": "2"}}
    for seed in plan.seeds_of("glyphs"):
        more = 0.01 * (seed - plan.seeds_of("glyphs")[0])
        shot = {
            "none": swap + more,
            "affine": 0.7 + more,
            "readers": refitted + more,
            "writers": refitted + more,
        }
        runs["glyphs", seed] = {
            "original": 0.95 + more,
            "quantized": ours - 0.001 + more,
            "integer": ours - 0.002 + more,
            "quantized_layernorm": layernorm + more,
            "zero_shot": {f: shot for f in FUNCTION_SETS if f != LAYERNORM},
            "lut6": {f: None if f == PUBLISHED_DYT else 20 if f == OURS else 90 for f in shot_sets()},
            "seconds": 3600.0,
            **by,
        }
        for arm in Plan(benchmarks=("glyphs",), regimes=("D", "D+"), seeds=2).arms():
            if arm.seed == seed:
                reached = last.get(arm.functions, dyt) + more
                arms[arm] = {"epochs": [0.8, reached], "quantized": reached, "seconds": 1800.0, **by}
    return Results(plan, runs, arms, 1.0)


def shot_sets():
    return [f for f in FUNCTION_SETS if f != LAYERNORM]


def verdicts(results):
    return {claim: holds for claim, _, holds in checks(results)}


def test_claims_hold_for_good_results():
    found = verdicts(made())
    assert len(found) == 1 + 2 * 3 + 2 + 2
    assert all(found.values())


@pytest.mark.parametrize(
    ("changes", "failing"),
    [
        ({"refitted": 0.7}, "no epoch at all"),
        ({"dyt": 0.96}, "not worse than DyT, fitted"),
        ({"dyt": 0.96}, "better than DyT, alpha 0.5"),
        ({"layernorm": 0.96}, "re-aligned within 0.3"),
        ({"layernorm": 0.96}, "int8 within 0.5"),
    ],
)
def test_claims_fail_where_they_should(changes, failing):
    found = verdicts(made(**changes))
    assert any(failing in claim and holds is False for claim, holds in found.items())


def test_what_lies_within_its_error_is_neither_better_nor_worse():
    results = made(dyt=0.95)
    for regime in ("D", "D+"):
        arms = [Arm(benchmark="glyphs", seed=s, functions=PUBLISHED_DYT, regime=regime) for s in (10, 11)]
        results.arms[arms[0]]["epochs"][-1] -= 0.02
        results.arms[arms[1]]["epochs"][-1] += 0.01
    assert [holds for claim, holds in verdicts(results).items() if "better" in claim] == [None, None]


def test_of_one_seed_nothing_is_judged_that_needs_an_error():
    results = made()
    one = dataclasses.replace(results, plan=dataclasses.replace(results.plan, seeds=1))
    found = verdicts(one)
    assert all(holds is None for claim, holds in found.items() if "better" in claim or "worse" in claim)
    assert all(holds is None for claim, holds in found.items() if "within" in claim)
    assert "+2.00 points" in document(one)


def test_a_swap_that_loses_little_is_not_judged():
    assert recovered(made(swap=0.93), "glyphs", OURS, "readers") is None
    assert None in verdicts(made(swap=0.93)).values()


def test_means_errors_and_recovery_are_those_of_the_formulas():
    found = spread([1.0, 2.0, 4.0])
    assert found.mean == pytest.approx(7 / 3)
    assert found.std == pytest.approx(math.sqrt(7 / 3))
    assert found.error == pytest.approx(math.sqrt(7 / 3) / math.sqrt(3))
    assert found.reach == pytest.approx(4.302653 * found.error), "Student's t with two degrees of freedom"
    assert differences([1, 2], [0, 1]) == spread([1, 1])
    assert recovered(made(), "glyphs", OURS, "readers").mean == pytest.approx(0.42 / 0.45)


def test_arrival_is_the_first_epoch_near_the_original():
    results = made(refitted=0.945)
    arm = Arm(benchmark="glyphs", seed=10, functions=OURS, regime="D+")
    assert arrival(results, arm) == 0
    assert arrival(made(), arm) == 2
    assert arrival(made(ours=0.9), arm) is None
    layernorm = Arm(benchmark="glyphs", seed=10, functions=LAYERNORM, regime="D+")
    assert arrival(made(), layernorm) == 0


def test_text_shows_the_figures():
    text = document(made())
    for words in (
        "95.50 ± 0.71",
        "| evolved | 50.50 ± 0.71 | 70.50 ± 0.71 | 92.50 ± 0.71 | 92.50 ± 0.71 | 20 |",
        "yes",
        "Measured at commit 0123456, torch 2.",
        "| the same in integers alone, softmax and GELU, too | 95.30 ± 0.71 |",
    ):
        assert words in text
    assert "**no**" in document(made(dyt=0.97))


TINY = (
    *("--benchmarks", "digits", "--functions", OURS, PUBLISHED_DYT, LAYERNORM, "--regimes", "A", "D+"),
    *("--seeds", "1", "--epochs", "1", "--jobs", "1", "--set", "train.epochs=3", "--set", "evolve.seeds=1"),
    *("--set", "evolve.generations=1", "--set", "evolve.population=20", "--set", "capture.pairs=2000"),
    *("--set", "model.kwargs.depth=1", "--set", "model.kwargs.embed_dim=16"),
)


def test_a_tiny_benchmark_runs_and_is_not_measured_twice(tmp_path, monkeypatch, capsys):
    options = [*TINY, "--out", str(tmp_path), "--cache", str(tmp_path / "cache")]
    assert main(options) == 0
    body = read_json(tmp_path / "accuracy.json")
    assert len(body["arms"]) == 6
    assert all(len(arm["epochs"]) == 1 for arm in body["arms"])
    assert set(body["runs"][0]["zero_shot"]) == {OURS, PUBLISHED_DYT}
    assert "## digits" in capsys.readouterr().out
    monkeypatch.setattr("benchmarks.accuracy.tasks.ProcessPoolExecutor", NoWork)
    assert main(options) == 0
    elsewhere = [*TINY, "--out", str(tmp_path), "--cache", str(tmp_path / "other")]
    assert main(elsewhere) == 0, "all of it is in accuracy.json"
    others = [{"benchmark": "glyphs", "key": "k", "seed": 10}]
    former = [{"benchmark": "glyphs", "key": "k", "seed": 0}]
    write_json(tmp_path / "accuracy.json", body | {"runs": body["runs"] + others + former})
    assert main(elsewhere) == 0
    assert read_json(tmp_path / "accuracy.json")["runs"][1:] == others, "measured by another call"
    fewer = [word for word in elsewhere if word != "A"]
    assert main(fewer) == 0
    assert len(read_json(tmp_path / "accuracy.json")["arms"]) == 6, "the other regime's are still there"
    del body["arms"][2]
    write_json(tmp_path / "accuracy.json", body)
    with pytest.raises(AssertionError):
        main(elsewhere)


def test_what_an_earlier_call_measured_of_other_benchmarks_is_shown_too():
    results = made()
    earlier = summarise(results)
    plan = dataclasses.replace(results.plan, benchmarks=("digits",), epochs=2)
    digits = {("digits", s): results.runs["glyphs", 10] for s in plan.seeds_of("digits")}
    arms = {arm: results.arms[dataclasses.replace(arm, benchmark="glyphs", seed=10)] for arm in plan.arms()}
    now = Results(plan, digits, arms, 1.0)
    assert with_kept(now, {}) == now
    both = with_kept(now, earlier)
    assert both.plan.benchmarks == ("digits", "glyphs")
    assert both.runs["glyphs", 11]["original"] == results.runs["glyphs", 11]["original"]
    assert set(both.arms) == {*arms, *results.arms}
    longer = dataclasses.replace(now, plan=dataclasses.replace(plan, epochs=3))
    assert with_kept(longer, earlier) == longer, "of other epochs"
    del earlier["arms"][3]
    assert with_kept(now, earlier) == now, "not complete"


def test_function_sets_and_regimes_that_a_call_leaves_out_are_taken_from_an_earlier_one():
    plan = dataclasses.replace(made().plan, regimes=REGIME_NAMES, epochs=2)
    arms = {arm: {"epochs": [0.5, 0.6], "quantized": 0.7, "seconds": 1.0} for arm in plan.arms()}
    earlier = summarise(Results(plan, made().runs, arms, 1.0))
    few = dataclasses.replace(plan, functions=(OURS,), regimes=("F",))
    runs = {
        task: {**run, "integer": 0.5, **{key: {OURS: run[key][OURS]} for key in ("zero_shot", "lut6")}}
        for task, run in made().runs.items()
    }
    now = Results(few, runs, {arm: {"epochs": [0.8, 0.9], "seconds": 1.0} for arm in few.arms()}, 1.0)
    both = with_kept(now, earlier)
    assert (both.plan.functions, both.plan.regimes) == (FUNCTION_SETS, REGIME_NAMES)
    assert {arm for arm, found in both.arms.items() if found["epochs"][-1] == 0.9} == set(few.arms())
    assert both.runs["glyphs", 10] == {**made().runs["glyphs", 10], "integer": 0.5}
    dearer = {task: {**run, "lut6": {OURS: 21}} for task, run in runs.items()}
    assert with_kept(dataclasses.replace(now, runs=dearer), earlier).runs == dearer, "of other functions"
    weaker = {task: {**run, "original": 0.5} for task, run in runs.items()}
    assert with_kept(dataclasses.replace(now, runs=weaker), earlier).runs == weaker, "of other models"


def test_figures_of_other_settings_are_told_apart():
    results = made()
    other = dataclasses.replace(results, plan=dataclasses.replace(results.plan, overrides=("unit.lanes=2",)))
    assert "`configs/glyphs.toml data.split_seed=1 unit.lanes=2`, 2 seeds" in document(other)
    earlier = summarise(results)
    for kind in ("runs", "arms"):
        for entry in earlier[kind]:
            entry["overrides"] = ["unit.lanes=2"]
    plan = dataclasses.replace(results.plan, benchmarks=("digits",), epochs=2)
    digits = {("digits", s): results.runs["glyphs", 10] for s in plan.seeds_of("digits")}
    arms = {arm: results.arms[dataclasses.replace(arm, benchmark="glyphs", seed=10)] for arm in plan.arms()}
    now = Results(plan, digits, arms, 1.0)
    assert with_kept(now, earlier).plan.benchmarks == ("digits",)
    alike = dataclasses.replace(now, plan=dataclasses.replace(plan, overrides=("unit.lanes=2",)))
    assert with_kept(alike, earlier).plan.benchmarks == ("digits", "glyphs")
    assert identity(earlier["runs"][0]) != identity(summarise(results)["runs"][0])


def test_constants_of_rivals_are_learned_where_all_weights_are(tmp_path, monkeypatch):
    seen = {}

    def watched(model, *_, label, **__):
        seen[label] = sorted({n.rpartition(".")[2] for n, p in model.named_parameters() if p.requires_grad})

    monkeypatch.setattr(measure, "fit", watched)
    words = [*TINY, "--out", str(tmp_path), "--cache", str(tmp_path / "cache")]
    plan = plan_of(parsed(words))
    run = run_dir(plan, "digits", 0)
    for name in measure.STAGES[:3]:
        measure.stage(name).run(run)
    for arm in plan.arms():
        measure_arm(plan, arm)
    learned = {str(arm): "constants" in seen[str(arm)] for arm in plan.arms()}
    assert {arm for arm, does in learned.items() if does} == {"digits seed 0: DyT, alpha 0.5, D+"}
    assert seen["digits seed 0: evolved, A"] == ["bias", "weight"]


def test_another_choice_from_the_fronts_measures_our_arms_again_but_no_rival_s():
    one, other = (Plan(overrides=(f"evolve.choose={rule}",)) for rule in ("best", "cheapest"))
    again = {arm.functions for arm in one.arms() if arm_key(one, arm) != arm_key(other, arm)}
    assert again == {OURS}
    fewer = Plan(overrides=("evolve.generations=3",))
    assert all(arm_key(one, arm) != arm_key(fewer, arm) for arm in one.arms())


class NoWork:
    def __init__(self, *_):
        pass

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def submit(self, *_):
        raise AssertionError


def test_an_unknown_benchmark_is_one_line(capsys):
    assert main(["--benchmarks", "letters"]) == 2
    assert capsys.readouterr().err == (
        "accuracy bench: benchmark must be one of digits; glyphs, not 'letters'\n"
    )


def test_variants_are_judged_by_images_of_their_own(monkeypatch):
    monkeypatch.setattr(variants, "JUDGES", 60)
    monkeypatch.setattr(variants, "GLYPHS_TRAIN", 90)
    config = Plan().config("glyphs", 0).data
    judging = variants.judges(config)
    assert len(judging) == 60
    std, mean = torch.std_mean(glyphs.draw(90, config.split_seed, 0)[0])
    for part, seen in ((0, 90), (1, 60)):
        others = (glyphs.draw(seen, config.split_seed, part)[0] - mean) / std
        apart = (judging.images[:, None] - others[None]).abs().flatten(2).max(2).values
        assert float(apart.min()) > 0.1


def test_variants_differ_from_the_configuration_and_are_shown():
    own = dataclasses.asdict(Plan().config("glyphs", 0).align)
    for name, settings in variants.VARIANTS.items():
        assert bool({k for k, v in settings.items() if own[k] != v}) == (name != "D+")
    found = {task: {"accuracy": [0.8, 0.85, 0.9], "commit": "0123456789"} for task in variants.tasks(10)}
    found[10, OURS, "rate 5e-4"] = {"accuracy": [0.8, 0.85, 0.88], "commit": None}
    found |= {(10, OURS, way): {"accuracy": 0.875, "commit": None} for way in variants.QUANTIZED}
    found[10, LAYERNORM, "D+"] = {"accuracy": [0.81, 0.85, 0.91], "commit": None}
    text = variants.document(10, found)
    assert "| rate 5e-4 | lr 0.0005 | 80.00 | 85.00 | 88.00 |" in text
    assert "| D+ | as configured | 80.00 | 85.00 | 90.00 |" in text
    assert text.count("\n| ") == 4 + len(variants.VARIANTS) + len(variants.QUANTIZED)
    assert "| D+, then calibrated | 87.50 |" in text
    assert "Original: 81.00 %, with LayerNorm after D+: 91.00 %. Measured at commit 0123456, unknown." in text


def test_variants_of_a_bad_plan_are_one_line(capsys):
    assert variants.main(["--jobs", "0"]) == 2
    assert capsys.readouterr().err == "variants: jobs must be at least 1 and seeds 0, not 0 and 0\n"
