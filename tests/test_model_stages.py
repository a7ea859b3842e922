"""The model stages one after the other, on digits and on local checkpoints with an image folder."""

import dataclasses
import functools
import itertools
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import timm
import tomli_w
import torch
from PIL import Image
from safetensors.torch import load_file

from sw.config import from_dict
from sw.files import read_json, write_json, write_text
from sw.ir import interpret
from sw.ir.build import Builder
from sw.ir.errors import InputError
from sw.ir.expr import evaluate
from sw.ir.formats import FixedFormat
from sw.ir.parse import parse
from sw.ir.price import lut6
from sw.ir.program import Program
from sw.ir.refmap import reference_map
from sw.model import align, capture, original, quantize
from sw.model.data import TensorImages, load_splits
from sw.model.evaluate import predict
from sw.model.quantize import UnitSite, load_quantized
from sw.model.quantizers import QuantLinear
from sw.model.reference import UnitModule
from sw.model.scalar_norm import ScalarNorm
from sw.run_dir import RunDir

OUTPUT = FixedFormat.parse("s8.5")
TINY = {
    "img_size": 8,
    "patch_size": 4,
    "in_chans": 1,
    "num_classes": 10,
    "embed_dim": 16,
    "depth": 2,
    "num_heads": 2,
}


def open_run(folder, **sections):
    body = {
        "name": "test",
        "runs_dir": str(folder),
        "model": {"name": "vit_tiny_patch16_224", "kwargs": TINY},
        "train": {"epochs": 4},
        "capture": {"pairs": 2000, "images": 64},
        "unit": {"in_width": 10},
        "align": {"epochs": 2},
        "quantize": {"calibration_images": 64},
        "verify": {"replay_images": 3},
    }
    return RunDir.create(from_dict(body | sections))


def write_functions(run):
    """What evolution would leave: y ~ scale * clip(slope * x, -127/32, 127/32) + offset, as a plain table."""
    pairs, sites = np.load(run.captures), {}
    for site, entry in read_json(run.capture_stats)["sites"].items():
        x, y = (pairs[f"{site}_{v}"].astype(np.float64) for v in "xy")
        expr = parse(f"clip({round(2 / np.std(x), 3)}*x, -3.96875, 3.96875)")
        scale, offset = np.polyfit(evaluate(expr, x), y, 1)
        form = FixedFormat.parse(entry["input"])
        builder = Builder(form)
        values = OUTPUT.quantize(evaluate(expr, form.to_real(form.codes())))
        wire = builder.lookup(builder.sub(builder.x, builder.const(form.min_raw)), values.tolist())
        write_text(run.program(site), builder.build(wire, OUTPUT).to_json())
        formats = {"input": str(form), "output": str(OUTPUT)}
        sites[site] = {"expression": str(expr), "scale": float(scale), "offset": float(offset)} | formats
    write_json(run.functions, {"sites": sites})


def run_all(run):
    original.STAGE.run(run)
    capture.STAGE.run(run)
    write_functions(run)
    align.STAGE.run(run)
    quantize.STAGE.run(run)
    return run


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    return run_all(open_run(tmp_path_factory.mktemp("digits")))


def test_every_stage_leaves_its_files_and_is_then_up_to_date(digits):
    for stage in (original.STAGE, capture.STAGE, align.STAGE, quantize.STAGE):
        assert all(path.exists() for path in stage.outputs(digits)), stage.name
        assert stage.run(digits) is False
    assert not list(digits.original.parent.glob("*.ckpt"))


def kill_at_its_end(run, monkeypatch):
    """Align again, up to where all is saved and the last accuracy would be reported."""
    report = align.report_accuracy

    def killed(run, stage, *rest, **more):
        if stage == "realigned":
            raise KeyboardInterrupt
        report(run, stage, *rest, **more)

    with monkeypatch.context() as patched:
        patched.setattr(align, "report_accuracy", killed)
        with pytest.raises(KeyboardInterrupt):
            align.STAGE.run(run, force=True)


def test_killed_after_its_last_epoch_a_stage_neither_trains_nor_refits_again(digits, monkeypatch):
    weights = digits.realigned.read_bytes()
    kill_at_its_end(digits, monkeypatch)
    digits.realigned.unlink()
    monkeypatch.setattr(align, "refit", None)
    monkeypatch.setattr(align.Distillation, "__call__", None)
    assert align.STAGE.run(digits)
    assert digits.realigned.read_bytes() == weights
    assert not list(digits.original.parent.glob("*.ckpt"))


def test_captures_hold_pairs_formats_and_plan(digits):
    pairs, body = np.load(digits.captures), read_json(digits.capture_stats)
    assert (body["images"], body["seed"]) == (64, 0)
    assert list(body["sites"]) == [*(f"blocks.{i}.norm{j}" for i in range(2) for j in (1, 2)), "norm"]
    for site, entry in body["sites"].items():
        x, y = pairs[f"{site}_x"], pairs[f"{site}_y"]
        assert (x.dtype, y.dtype, len(x), len(y)) == (np.float32, np.float32, 2000, 2000)
        assert abs(float(np.std(y)) - 1) < 0.1
        assert entry["absmax"] >= np.abs(x).max()
        assert FixedFormat.parse(entry["input"]).width == 10
        assert entry["foldable"] is True
    assert body["sites"]["blocks.1.norm2"]["consumers"] == ["blocks.1.mlp.fc1"]


def test_accuracies_follow_from_the_saved_predictions(digits):
    for stage in ("original", "swapped", "rescaled", "refitted", "corrected", "realigned", "quantized"):
        saved, body = np.load(digits.predictions(stage)), read_json(digits.accuracy(stage))
        assert (body["images"], body["seed"]) == (450, 0)
        assert body["correct"] == int((saved["labels"] == saved["predicted"]).sum())
        assert body["accuracy"] == body["correct"] / 450
    assert {"calibrated", "calibrated_unfolded"} <= set(read_json(digits.accuracy("quantized")))


def test_accuracies_are_those_of_the_models_that_were_left(digits):
    for which, model in (
        ("original", original.load_original(digits)),
        ("swapped", align.swapped(digits)),
        ("realigned", align.load_realigned(digits)),
        ("quantized", load_quantized(digits)),
    ):
        labels, predicted = predict(model, load_splits(digits.config.data, model).test)
        saved = np.load(digits.predictions(which))
        assert np.array_equal(saved["labels"], labels)
        assert np.array_equal(saved["predicted"], predicted), which


def test_quantizing_keeps_the_logits(digits):
    model = load_quantized(digits)
    images = load_splits(digits.config.data, model).test.images[:256]
    with torch.no_grad():
        before, after = align.load_realigned(digits)(images), model(images)
    assert (after - before).std() < 0.4 * before.std()


def test_an_affine_that_does_not_fold_follows_the_unit(digits):
    program = Program.from_json(digits.program("norm").read_text())
    weight, bias = torch.tensor([2.0, -0.5]), torch.tensor([0.25, 3.0])
    norm = ScalarNorm(parse("x"), weight, bias)
    x = torch.linspace(-3, 3, 40).reshape(20, 2)
    unit = UnitModule(program)
    assert torch.equal(UnitSite(unit, norm, folded=False)(x), unit(x) * weight + bias)
    assert torch.equal(UnitSite(unit, norm, folded=True)(x), unit(x))


def test_only_accuracies_look_at_the_test_split(digits, tmp_path, monkeypatch):
    def without_test(config, model):
        splits = load_splits(config, model)
        test = splits.test
        blank = TensorImages(torch.zeros_like(test.images), test.labels, test.batch_size)
        return dataclasses.replace(splits, test=blank)

    for module in (original, capture, align, quantize):
        monkeypatch.setattr(module, "load_splits", without_test)
    again = run_all(open_run(tmp_path))
    assert read_json(again.accuracy("quantized")) != read_json(digits.accuracy("quantized"))
    for path in (digits.original, digits.captures, digits.site_costs, digits.realigned, digits.quantized):
        assert path.read_bytes() == (again.root / path.relative_to(digits.root)).read_bytes(), path.name


def copied(digits, folder, stage, **sections):
    """A run with what a stage of another one reads."""
    run = open_run(folder, **sections)
    for path in stage.inputs(digits):
        copy = run.root / path.relative_to(digits.root)
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes(path.read_bytes())
    return run


def test_affines_alone_are_trained_where_that_is_asked_for(digits, tmp_path):
    run = copied(digits, tmp_path, align.STAGE, align={"epochs": 1, "trained": "affine", "refit": "none"})
    align.STAGE.run(run)
    before, after = align.swapped(run).state_dict(), align.load_realigned(run).state_dict()
    moved = {name for name, value in after.items() if not torch.equal(value, before[name])}
    assert moved == {f"{site}.{part}" for site in run.read_functions() for part in ("weight", "bias")}


@pytest.fixture(scope="module")
def scaled(digits, tmp_path_factory):
    """A run whose functions learned an inner scale."""
    folder, learning = tmp_path_factory.mktemp("scaled"), {"epochs": 1, "lr": 1e-2, "inner_scale": True}
    run = copied(digits, folder, align.STAGE, align=learning)
    functions = digits.read_functions()
    for entry in functions.values():
        entry["expression"] = entry["expression"].replace("*x", "*(0.25*(clip(floor(4*x), -32, 31) + 0.5))")
    write_json(run.evolved, {"sites": functions})
    run.functions.unlink()
    align.STAGE.run(run)
    quantize.STAGE.run(run)
    return run


def test_inner_scales_end_up_in_functions_programs_and_weights(digits, scaled):
    evolved, model = scaled.read_evolved(), align.load_realigned(scaled)
    assert list(model.state_dict()) == list(align.load_realigned(digits).state_dict())
    for site, entry in scaled.read_functions().items():
        assert entry["evolved"] == evolved[site]["expression"]
        assert (entry["expression"] == entry["evolved"]) == (entry["inner_scale"] == 1)
        assert str(model.get_submodule(site).expr) == entry["expression"]
        program = Program.from_json(scaled.program(site).read_text())
        wanted = reference_map(parse(entry["expression"]), program.input, program.output)
        assert np.array_equal(interpret.table(program), wanted)
        assert lut6(program) == pytest.approx(entry["price_lut6"])
    assert any(abs(entry["inner_scale"] - 1) > 0.02 for entry in scaled.read_functions().values())
    assert not align.STAGE.run(scaled)
    assert not quantize.STAGE.run(scaled)


def test_killed_when_its_scales_are_settled_a_stage_ends_with_the_same_files(scaled, monkeypatch):
    files = [scaled.realigned, scaled.functions, *scaled.programs()]
    before = [path.read_bytes() for path in files]
    kill_at_its_end(scaled, monkeypatch)
    monkeypatch.setattr(align.Distillation, "__call__", None)
    assert align.STAGE.run(scaled)
    assert [path.read_bytes() for path in files] == before


def test_drop_path_and_bits_of_activations_change_what_they_should(digits, tmp_path):
    run = copied(digits, tmp_path / "a", align.STAGE, align={"epochs": 2, "drop_path": 0.5})
    align.STAGE.run(run)
    assert run.realigned.read_bytes() != digits.realigned.read_bytes()
    run = copied(digits, tmp_path / "q", quantize.STAGE, quantize={"act_bits": 3, "calibration_images": 64})
    quantize.STAGE.run(run)
    coarse, fine = load_quantized(run), load_quantized(digits)
    images = load_splits(run.config.data, coarse).test.images[:64]
    with torch.no_grad():
        exact = align.load_realigned(run)(images)
        assert (coarse(images) - exact).std() > 2 * (fine(images) - exact).std()


def test_replay_is_what_the_programs_compute(digits):
    replay = np.load(digits.replay)
    for site in digits.read_functions():
        raw, out_raw = replay[f"{site}_raw"], replay[f"{site}_out_raw"]
        assert raw.shape == out_raw.shape == (3 * 5, 16)
        assert (raw.dtype, out_raw.dtype) == (np.int64, np.int64)
        program = Program.from_json(digits.program(site).read_text())
        assert np.array_equal(interpret.run(program, raw), out_raw)
        assert len(np.unique(raw)) > 20


def test_saved_model_gives_the_saved_predictions(digits):
    model = load_quantized(digits)
    labels, predicted = predict(model, load_splits(digits.config.data, model).test)
    saved = np.load(digits.predictions("quantized"))
    assert np.array_equal(saved["labels"], labels)
    assert np.array_equal(saved["predicted"], predicted)


def test_layers_are_integer_and_read_codes_without_a_second_quantizer(digits):
    model = load_quantized(digits)
    inputs = {}
    for name, module in model.named_modules():
        if isinstance(module, QuantLinear):
            module.register_forward_pre_hook(lambda m, args, name=name: inputs.__setitem__(name, args[0]))
    with torch.no_grad():
        images, _ = next(load_splits(digits.config.data, model).test.batches(limit=8))
        model(images)
    coded = {f"blocks.{i}.{n}" for i in range(2) for n in ("attn.qkv", "mlp.fc1")} | {"head"}
    for name, x in inputs.items():
        layer = model.get_submodule(name)
        weight = layer.quant_weight()
        scale = np.log2(weight.scale.detach().numpy())
        assert np.array_equal(scale, np.round(scale))
        assert weight.scale.numel() == layer.out_features
        assert np.abs(weight.int().numpy()).max() <= 127
        if name in coded:
            raw = (x * 2.0**OUTPUT.frac).numpy()
            assert np.array_equal(raw, np.round(raw))
            assert not layer.input_quant.is_quant_enabled
        else:
            assert layer.input_quant.is_quant_enabled
            assert float(np.log2(layer.input_quant.scale().item())).is_integer()
    assert coded < set(inputs)
    units = [m for m in model.modules() if isinstance(m, UnitSite)]
    assert len(units) == 5
    assert not [value for unit in units for value in unit.parameters()], "nothing but the map is left"


def test_same_seed_gives_the_same_bytes(digits, tmp_path):
    again = run_all(open_run(tmp_path))
    for name in (
        "model/original.safetensors",
        "captures.npz",
        "realigned.safetensors",
        "quantized.safetensors",
    ):
        assert (digits.root / name).read_bytes() == (again.root / name).read_bytes(), name


def test_fine_tuning_moves_the_weights_and_keeps_the_maps(digits, tmp_path):
    run = open_run(tmp_path, quantize={"epochs": 1, "lr": 1e-3, "calibration_images": 64})
    run_all(run)
    model = load_quantized(run)
    assert not torch.equal(model.head.weight, load_quantized(digits).head.weight)
    assert not any(getattr(module, "fused_attn", False) for module in model.modules())
    unit = model.get_submodule("norm").unit
    program = Program.from_json(run.program("norm").read_text())
    assert np.array_equal(unit.table.numpy(), interpret.table(program))


def test_quantization_aware_training_that_was_killed_goes_on_as_if_it_was_not(tmp_path, monkeypatch):
    run = open_run(
        tmp_path, quantize={"epochs": 1, "calibration_images": 64}, compute={"checkpoint_minutes": 0.0}
    )
    run_all(run)
    undisturbed, steps = run.quantized.read_bytes(), itertools.count()
    learn = quantize.Distillation.__call__

    def killed(*args):
        if next(steps) == 6:
            raise KeyboardInterrupt
        return learn(*args)

    with monkeypatch.context() as patched:
        patched.setattr(quantize.Distillation, "__call__", killed)
        with pytest.raises(KeyboardInterrupt):
            quantize.STAGE.run(run, force=True)
    run.quantized.unlink()
    done = []
    monkeypatch.setattr(quantize.Distillation, "__call__", lambda *a: done.append(1) or learn(*a))
    quantize.STAGE.run(run)
    assert len(done) == -(-1091 // 64) - 6, "from the step at which it was killed"
    assert run.quantized.read_bytes() == undisturbed


def test_program_of_another_format_wrong(digits, tmp_path):
    body = json.loads(digits.functions.read_text())
    body["sites"]["norm"]["input"] = "s10.1"
    kept = digits.functions.read_text()
    try:
        digits.functions.write_text(json.dumps(body))
        with pytest.raises(
            InputError, match=r"^input format of program '.*norm.json' must be that of functions.json"
        ):
            quantize.STAGE.run(digits)
    finally:
        digits.functions.write_text(kept)


@pytest.mark.parametrize(
    ("change", "rule"),
    [
        (lambda sites: sites.clear(), "have a function for site 'blocks.0.norm1'; evolve it first"),
        (lambda sites: sites.pop("norm"), "have a function for site 'norm'; evolve it first"),
        (lambda sites: sites.update(norm7=sites["norm"]), "have captured sites only, and 'norm7' is none"),
    ],
)
def test_functions_of_other_sites_wrong(digits, tmp_path, change, rule):
    run = copied(digits, tmp_path, align.STAGE)
    body = read_json(run.functions)
    change(body["sites"])
    write_json(run.functions, body)
    with pytest.raises(InputError, match=rf"^'.*functions.json' must {rule}$"):
        align.STAGE.run(run)


def test_keys_of_verify_alone_are_no_reason_to_quantize_again(digits):
    def with_verify(**keys):
        return RunDir(digits.root, from_dict(digits.config.to_dict() | {"verify": keys}))

    quantize.STAGE.run(digits)
    assert quantize.STAGE.run(with_verify(replay_images=3, stall_beats=7, jobs=1)) is False
    assert quantize.STAGE.is_stale(with_verify(replay_images=2))


def test_align_gives_the_same_files_from_the_same_inputs(digits, tmp_path):
    again = copied(digits, tmp_path, align.STAGE)
    torch.manual_seed(99)  # what was drawn before must not matter
    align.STAGE.run(again)
    for path in align.STAGE.outputs(digits):
        assert path.read_bytes() == (again.root / path.relative_to(digits.root)).read_bytes(), path.name


def test_capped_numbers_of_calibration_images_are_said_once(tmp_path, capsys):
    run = open_run(
        tmp_path,
        data={"calibration_images": 40},
        train={"epochs": 1},
        align={"epochs": 0},
        capture={"pairs": 2000, "images": 64},
        quantize={"calibration_images": 64},
    )
    run_all(run)
    said = capsys.readouterr().out
    for stage in ("capture", "quantize"):
        assert said.count(f"{stage} uses 40 images: all that data.calibration_images sets aside\n") == 1
    assert read_json(run.capture_stats)["images"] == 40


def test_missing_functions_name_the_stage_that_makes_them(tmp_path):
    run = open_run(tmp_path)
    with pytest.raises(InputError, match=r"original\.safetensors', which is not there"):
        capture.STAGE.run(run)


@pytest.fixture
def folder(tmp_path):
    rng = np.random.default_rng(0)
    for split, count in (("train", 12), ("val", 4)):
        for i, name in enumerate(("ant", "bee", "cat")):
            (tmp_path / "images" / split / name).mkdir(parents=True)
            for k in range(count):
                pixels = rng.integers(80 * i, 80 * i + 90, (36, 36, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(tmp_path / "images" / split / name / f"{k}.png")
    return tmp_path


LOCAL = [
    ("vit_tiny_patch16_224", {}, "pth"),
    ("deit_tiny_distilled_patch16_224", {}, "safetensors"),
    ("beit_base_patch16_224", {}, "safetensors"),
    ("cait_xxs24_224", {}, "pth"),
    ("vit_tiny_patch16_224", {"qk_norm": True, "global_pool": "avg", "fc_norm": False}, "safetensors"),
    ("vit_base_patch16_clip_224", {}, "pth"),
]


@pytest.mark.parametrize(("name", "kwargs", "suffix"), LOCAL)
def test_local_checkpoint_and_image_folder(folder, name, kwargs, suffix):
    kwargs = {"img_size": 32, "embed_dim": 16, "depth": 1, "num_heads": 2, "num_classes": 3} | kwargs
    torch.manual_seed(0)
    model = timm.create_model(name, **kwargs)
    checkpoint = folder / f"weights.{suffix}"
    if suffix == "pth":
        torch.save({"model": model.state_dict()}, checkpoint)
    else:
        original.save_weights(checkpoint, model)
    run = open_run(
        folder,
        model={"name": name, "kwargs": kwargs, "checkpoint": str(checkpoint)},
        data={"dataset": "imagefolder", "root": str(folder / "images"), "calibration_images": 9},
        train={"epochs": 0},
        align={"epochs": 1},
    )
    run_all(run)
    assert read_json(run.accuracy("quantized"))["images"] == 12
    replay, functions = np.load(run.replay), run.read_functions()
    assert len(functions) >= 3
    for site in functions:
        program = Program.from_json(run.program(site).read_text())
        assert np.array_equal(interpret.run(program, replay[f"{site}_raw"]), replay[f"{site}_out_raw"])


def test_kept_norms_stay_layernorms_to_the_end(tmp_path):
    kwargs = TINY | {"qk_norm": True}
    model = {
        "name": "vit_tiny_patch16_224",
        "kwargs": kwargs,
        "unfoldable": "keep",
        "keep_layernorm": ["*.norm2"],
    }
    run = run_all(open_run(tmp_path, model=model, train={"epochs": 1}))
    assert list(run.read_functions()) == ["blocks.0.norm1", "blocks.1.norm1", "norm"]
    reasons = read_json(run.capture_stats)["kept"]
    assert reasons["blocks.0.norm2"] == reasons["blocks.1.norm2"] == "model.keep_layernorm lists it"
    assert reasons["blocks.1.attn.k_norm"].startswith("its affine cannot fold, for it feeds ")
    quantized = load_quantized(run)
    kept = [name for name, m in quantized.named_modules() if isinstance(m, torch.nn.LayerNorm)]
    assert kept == [f"blocks.{i}.{n}" for i in range(2) for n in ("attn.q_norm", "attn.k_norm", "norm2")]
    assert quantized.blocks[0].mlp.fc1.input_quant.is_quant_enabled


def test_checkpoint_that_does_not_fit_wrong(tmp_path):
    original.save_weights(
        tmp_path / "w.safetensors", timm.create_model("vit_tiny_patch16_224", **(TINY | {"depth": 1}))
    )
    settings = {"name": "vit_tiny_patch16_224", "kwargs": TINY, "checkpoint": str(tmp_path / "w.safetensors")}
    with pytest.raises(
        InputError, match=r"must fit the model; it lacks 'blocks.1.norm1.weight' \(\d+ keys do not fit\)"
    ):
        original.STAGE.run(open_run(tmp_path, model=settings))


def test_model_of_another_number_of_classes_wrong(folder):
    kwargs = {"img_size": 32, "embed_dim": 16, "depth": 1, "num_heads": 2, "num_classes": 2}
    run = open_run(
        folder,
        model={"name": "vit_tiny_patch16_224", "kwargs": kwargs},
        data={"dataset": "imagefolder", "root": str(folder / "images"), "calibration_images": 9},
    )
    rule = (
        r"^model must have as many classes as the data: 'VisionTransformer' has 2 "
        r"\(model.kwargs.num_classes\), data set 'imagefolder' in '.*/images' has 3$"
    )
    with pytest.raises(InputError, match=rule):
        original.STAGE.run(run)


def test_weights_that_are_not_finite_are_found_before_anything_is_said_of_folding(tmp_path, capsys):
    run = open_run(tmp_path, train={"epochs": 0})
    original.STAGE.run(run)
    model = timm.create_model("vit_tiny_patch16_224", **TINY)
    with torch.no_grad():
        model.blocks[0].mlp.fc1.weight[0, 0] = float("nan")
    original.save_weights(run.original, model)
    capsys.readouterr()
    rule = r"must hold finite weights, and 'blocks.0.mlp.fc1.weight' has a NaN or an infinity$"
    with pytest.raises(InputError, match=rule):
        capture.STAGE.run(run)
    assert capsys.readouterr().out == ""


def test_norms_without_affine_go_all_the_way(tmp_path, monkeypatch):
    build = original.create
    plain = functools.partial(torch.nn.LayerNorm, elementwise_affine=False)

    def without_affine(config):
        return build(dataclasses.replace(config, kwargs=config.kwargs | {"norm_layer": plain}))

    monkeypatch.setattr(original, "create", without_affine)
    run = run_all(open_run(tmp_path, train={"epochs": 1}, align={"epochs": 1}))
    assert len(run.read_functions()) == 5


def test_stage_as_a_script_says_one_line_and_ends_with_status_2(tmp_path, capsys):
    config = tmp_path / "c.toml"
    config.write_text(f'runs_dir = "{tmp_path}"\n[model]\nname = "resnet10t"\nkwargs = {{in_chans = 1}}\n')
    assert original.STAGE.main([str(config)]) == 2
    expected = "normforge: model must have LayerNorm modules, and 'ResNet' has none\n"
    assert capsys.readouterr().err == expected


@pytest.mark.slow
def test_two_processes_of_torchrun_re_align_and_quantize_as_one_does(digits, tmp_path):
    run = open_run(tmp_path, quantize={"epochs": 1, "calibration_images": 64})
    shutil.copytree(digits.root, run.root, dirs_exist_ok=True)
    quantize.STAGE.run(run)
    alone = {path: load_file(path) for path in (run.realigned, run.quantized)}
    settings = tmp_path / "mine.toml"
    settings.write_text(tomli_w.dumps(run.config.to_dict()))
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1]), "OMP_NUM_THREADS": "1"}
    for name in ("align", "quantize"):
        command = [*launcher, "-m", "sw.cli", name, str(settings), "--force"]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        assert f"[{name}]" in done.stdout
    for path, weights in alone.items():
        together = load_file(path)
        assert together.keys() == weights.keys()
        for name, value in weights.items():
            torch.testing.assert_close(together[name], value, rtol=1e-2, atol=1e-3)
