"""The stage export: integer-only models, models that stay mixed, and what the files hold."""

import re
import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest
import timm
import torch
from safetensors.numpy import load_file
from torch import nn
from torch.nn import functional

from sw.config import from_dict
from sw.files import read_json
from sw.ir.errors import InputError, VerificationError
from sw.ir.formats import FixedFormat
from sw.ir.parse import parse
from sw.ir.realize import realize
from sw.model import export
from sw.model.data import load_splits
from sw.model.evaluate import logits, predict
from sw.model.export import load_graph
from sw.model.integer import mixed
from sw.model.integer.covered import UncoveredError, check_covered
from sw.model.integer.graph import Op
from sw.model.integer.interpret import IntegerModel, quantize_images, run
from sw.model.integer.layers import integer_layer
from sw.model.integer.onnx_file import to_onnx
from sw.model.integer.onnx_run import computed, open_session, outputs_of
from sw.model.quantize import UnitSite, load_quantized
from sw.model.quantizers import QuantConv2d, QuantLinear, quantize_layers, weight_codes
from sw.model.reference import UnitModule
from sw.model.scalar_norm import ScalarNorm
from sw.model.sites import find_sites, replace_module
from sw.run_dir import RunDir
from tests.test_model_stages import TINY, open_run, run_all

pytestmark = pytest.mark.xdist_group("export")

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    run_dir = run_all(open_run(tmp_path_factory.mktemp("digits")))
    export.STAGE.run(run_dir)
    return run_dir


@pytest.fixture(scope="module")
def images(digits):
    return load_splits(digits.config.data, nn.Identity()).test.images[:256]


@pytest.fixture(scope="module")
def model(digits):
    return load_quantized(digits)


@pytest.fixture(scope="module")
def graph(digits):
    return load_graph(digits)


@pytest.fixture(scope="module")
def codes(graph, images):
    """The interpreter's codes of every tensor, 256 images."""
    return run(graph, quantize_images(graph, images), [node.name for node in graph.nodes])


def real(graph, codes, name):
    frac = torch.from_numpy(graph[name].frac)
    return codes[name].double() * 2.0**-frac


def test_the_stage_leaves_its_files_and_is_then_up_to_date(digits):
    assert sorted(path.name for path in digits.export.iterdir()) == [
        *("model.json", "model.onnx", "model.safetensors")
    ]
    assert export.STAGE.run(digits) is False
    body = read_json(digits.export / "model.json")
    assert body["kind"] == "integer"
    assert all((digits.root / name).exists() for name in body["files"])
    assert {digits.root / name for name in body["files"]} < set(export.STAGE.outputs(digits))


def test_every_code_of_every_tensor_is_onnxruntimes(graph, images, codes):
    session = open_session(to_onnx(graph, computed(graph)).SerializeToString())
    found = outputs_of(session, quantize_images(graph, images), np.int8)
    for name in computed(graph):
        assert np.array_equal(found[name], codes[name].numpy()), name
    assert len(found["logits"]) == 256
    assert len(np.unique(found["logits"])) > 1000


@pytest.mark.parametrize("outputs", [False, True])
def test_files_pass_onnx_s_own_checker(graph, outputs):
    model = to_onnx(graph, computed(graph) if outputs else ())
    onnx.checker.check_model(model, full_check=True)
    classes = model.graph.output[0].type.tensor_type.shape.dim[1].dim_value
    assert classes == 10


def test_the_stage_says_how_much_it_compared(digits, graph):
    checked = read_json(digits.export / "model.json")["checked"]
    assert (checked["images"], checked["sites"], checked["different"]) == (256, 5, {})
    assert checked["accumulators"] == 2 + 2 * 6  # patches and head; qkv, scores, mix, proj, fc1, fc2
    assert checked["tensors"] == len(computed(graph))


def test_every_accumulator_is_the_layer_of_the_quantized_model(graph, codes, model, monkeypatch):
    """On equal inputs: equal without the bias, which in Brevitas is not rounded to a code."""
    names = graph.names(Op.LINEAR)
    assert len(names) == 2 + 2 * 4
    for name in names:
        (source,) = graph.sources(graph[name])
        x, layer = real(graph, codes, source.name).float(), model.get_submodule(name)
        if isinstance(layer, QuantConv2d):
            x = real(graph, codes, "image").float()
        bias = torch.from_numpy(graph[name].arrays["bias"])
        unit = 2.0 ** torch.from_numpy(graph[name].frac)
        assert ((layer.bias.double() * unit - bias).abs() <= 0.5).all(), name
        monkeypatch.setattr(layer, "bias", None)
        with torch.no_grad():
            expected = layer(x).double()
        if isinstance(layer, QuantConv2d):
            expected = expected.flatten(2).transpose(1, 2)
        assert torch.equal(expected * unit, (codes[name] - bias).double()), name


def test_every_site_is_the_unit_of_the_quantized_model(graph, codes, model):
    sites = [name for name, module in model.named_modules() if isinstance(module, UnitSite)]
    assert [node.name for node in graph.nodes if "site" in node.about] == sites
    for name in sites:
        (source,) = graph.sources(graph[name])
        assert source.format == model.get_submodule(name).unit.input
        with torch.no_grad():
            expected = model.get_submodule(name)(real(graph, codes, source.name))
        assert torch.equal(expected, real(graph, codes, name)), name


def test_attention_is_softmax_within_two_codes(graph, codes):
    for block in range(2):
        q, k, v = (real(graph, codes, f"blocks.{block}.attn.{part}") for part in "qkv")
        weights = (q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5).softmax(-1)
        mean = graph[f"blocks.{block}.attn.mean"]
        low, high = mean.format.min_raw, mean.format.max_raw
        expected = (weights @ v / mean.format.step).clamp(low, high)
        assert (expected - codes[mean.name]).abs().max() <= 2


def test_the_residual_stream_is_within_a_code_of_the_sum(graph, codes):
    for name in graph.names(Op.ADD):
        node = graph[name]
        first, second = (real(graph, codes, source.name) for source in graph.sources(node))
        assert ((first + second) - real(graph, codes, name)).abs().max() <= node.format.step / 2


def test_tokens_blocks_and_logits_are_near_those_of_the_quantized_model(graph, images, codes, model):
    """A barely trained model with steep units, in which one code more or less soon becomes many."""
    seen = {}
    handles = [
        model.blocks[0].register_forward_pre_hook(lambda _, args: seen.update(tokens=args[0])),
        model.blocks[0].register_forward_hook(lambda _, __, out: seen.update({"blocks.0": out})),
    ]
    with torch.no_grad():
        seen["logits"] = logits(model, images)
    for handle in handles:
        handle.remove()
    for name, limit in (("tokens", 0.001), ("blocks.0", 0.05), ("logits", 0.2)):
        off = real(graph, codes, name) - seen[name]
        share = (off.square().mean() / seen[name].double().square().mean()).sqrt()
        assert share < limit, name
    same = seen["logits"].argmax(1) == codes["logits"].argmax(1)
    assert float(same.double().mean()) > 0.85


def test_accuracy_follows_from_the_saved_predictions(digits, graph):
    saved, body = np.load(digits.predictions("integer")), read_json(digits.accuracy("integer"))
    labels, predicted = predict(IntegerModel(graph), load_splits(digits.config.data, nn.Identity()).test)
    assert np.array_equal(saved["predicted"], predicted)
    assert body["correct"] == int((labels == predicted).sum())
    quantized = np.load(digits.predictions("quantized"))["predicted"]
    said = read_json(digits.export / "model.json")
    assert said["accuracy"] == body["accuracy"]
    assert said["quantized"]["top1_agreement"] == float(np.mean(quantized == predicted))
    assert said["quantized"]["accuracy"] == read_json(digits.accuracy("quantized"))["accuracy"]


def test_tables_are_named_as_hardware_names_them(digits, graph):
    stored = load_file(digits.export / "model.safetensors")
    for node in graph.nodes:
        if "site" in node.about:
            assert np.array_equal(stored[f"{node.name}/table"], node.arrays["table"])
            assert node.about["expression"] == digits.read_functions()[node.name]["expression"]


def test_the_page_s_example_runs(digits, images, graph, codes, monkeypatch):
    page = (ROOT / "docs/export.md").read_text()
    (block,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    assert len(block.strip().splitlines()) <= 6
    monkeypatch.chdir(digits.export)
    names = {"images": images.numpy()}
    exec(block, names)
    assert np.array_equal(names["logits_raw"], codes["logits"].numpy())


def test_the_page_lists_every_operation():
    page = (ROOT / "docs/export.md").read_text()
    rows = re.findall(r"^\| `(\w+)` \| ", page, re.MULTILINE)
    assert [Op(name) for name in rows if name in set(Op)] == list(Op)


def copy_of(run_dir, folder, **sections):
    """The same run in another folder, to be exported in another way."""
    shutil.copytree(run_dir.root, folder / "copy")
    return RunDir(folder / "copy", from_dict(run_dir.config.to_dict() | sections))


def test_all_tensors_can_be_outputs_of_the_file(digits, tmp_path):
    run_dir = copy_of(digits, tmp_path, export={"outputs": "all", "images": 8})
    assert export.STAGE.run(run_dir)
    session = open_session(run_dir.export / "model.onnx")
    assert {output.name for output in session.get_outputs()} == set(computed(load_graph(run_dir)))
    assert read_json(run_dir.export / "model.json")["checked"]["images"] == 8


def test_the_test_split_can_be_left_out(digits, tmp_path):
    few = copy_of(digits, tmp_path, export={"images": 16, "accuracy": False})
    few.accuracy("integer").unlink()
    assert export.STAGE.run(few)
    body = read_json(few.export / "model.json")
    assert body["accuracy"] is None
    assert 0 < body["quantized"]["top1_agreement"] <= 1
    assert body["checked"]["images"] == 16
    assert not few.accuracy("integer").exists()


def test_codes_that_differ_are_an_error(digits, tmp_path, monkeypatch):
    found = {"images": 1, "tensors": 2, "sites": 1, "accumulators": 1, "codes": 9, "different": {"norm": 3}}
    monkeypatch.setattr(export, "compare", lambda *_: found)
    rule = "^codes of 'norm' must be equal in PyTorch and onnxruntime, and 3 of 9 are not$"
    with pytest.raises(VerificationError, match=rule):
        export.STAGE.run(copy_of(digits, tmp_path), force=True)


def test_tiny_weights_beside_a_large_bias_still_fit_32_bits():
    layer = nn.Linear(4, 3)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([[1.0], [1e-12], [0.0]]).expand(3, 4))
        layer.bias.copy_(torch.tensor([0.5, 0.5, -3.0]))
    net = nn.Sequential(layer)
    quantize_layers(net, ["0"], ["0"], weight_bits=8, act_bits=8)
    done = integer_layer(net[0], FixedFormat.parse("s8.5"))
    assert np.abs(done.weight[0]).min() >= 64
    assert np.array_equal(done.frac[:1], weight_codes(net[0])[1][:1] + 5)
    assert (np.abs(done.bias) < 2**31).all()
    assert np.allclose(np.ldexp(done.bias.astype(float), -done.frac), [0.5, 0.5, -3.0])
    assert (np.abs(done.weight).sum(1) * 128 + np.abs(done.bias) < 2**31).all()
    worst = np.abs(done.weight).sum(1) * 128 + np.abs(done.bias)
    assert (np.ldexp(worst.astype(float), -done.frac) <= done.largest).all()


def covered_model(name="vit_tiny_patch16_224", *, folded=True, **kwargs):
    """An untrained model with integer layers, and the same unit at every site."""
    torch.manual_seed(0)
    model = timm.create_model(name, **(TINY | {"depth": 1} | kwargs)).eval()
    program = realize(parse("clip(x, -1, 1)"), FixedFormat.parse("s8.5"), FixedFormat.parse("s8.6")).program
    for site, norm in find_sites(model).items():
        scalar = ScalarNorm(parse("x"), norm.weight, norm.bias)
        replace_module(model, site, UnitSite(UnitModule(program), scalar, folded))
    layers = [n for n, m in model.named_modules() if isinstance(m, (nn.Linear, nn.Conv2d))]
    quantize_layers(model, layers, [], weight_bits=8, act_bits=8)
    return model


def test_plain_models_are_covered():
    check_covered(covered_model())
    check_covered(covered_model(reg_tokens=2, no_embed_class=True, act_layer="quick_gelu"))


def with_norm():
    model = covered_model()
    model.norm = nn.LayerNorm(16)
    return model


def with_float_head():
    model = covered_model()
    model.head = nn.Linear(16, 10)
    return model


END = "in an integer-only form"


@pytest.mark.parametrize(
    ("make", "rule"),
    [
        (
            lambda: covered_model("deit_tiny_distilled_patch16_224"),
            (
                "model must be a plain timm VisionTransformer to have an integer-only form, "
                "not 'VisionTransformerDistilled'"
            ),
        ),
        (
            lambda: covered_model(init_values=0.1),
            f"module 'blocks.0.ls1' must be Identity {END}, not LayerScale",
        ),
        (
            lambda: covered_model(qk_norm=True),
            f"module 'blocks.0.attn.q_norm' must be Identity {END}, not UnitSite",
        ),
        (with_norm, f"module 'norm' must be UnitSite {END}, not LayerNorm"),
        (with_float_head, f"module 'head' must be QuantLinear {END}, not Linear"),
        (
            lambda: covered_model(global_pool="avg", fc_norm=False),
            f"'global_pool' of the model must be 'token' {END}, not 'avg'",
        ),
        (
            lambda: covered_model(act_layer="mish"),
            f"module 'blocks.0.mlp.act' must be one of GELU, GELUTanh, QuickGELU, SiLU, ReLU {END}, not Mish",
        ),
        (
            lambda: covered_model(folded=False),
            f"affine of site 'blocks.0.norm1' must be folded {END}",
        ),
        (
            lambda: covered_model(img_size=9),
            f"patches of 'patch_embed' must be squares that fill the image {END}, not 4x4 in 9x9",
        ),
    ],
)
def test_model_without_an_integer_form_wrong(make, rule):
    with pytest.raises(UncoveredError, match=f"^{re.escape(rule)}$"):
        check_covered(make())


@pytest.fixture(scope="module")
def distilled(tmp_path_factory):
    settings = {"name": "deit_tiny_distilled_patch16_224", "kwargs": TINY | {"depth": 1}}
    body = {"model": settings, "train": {"epochs": 1}, "align": {"epochs": 0}}
    run_dir = run_all(open_run(tmp_path_factory.mktemp("distilled"), **body))
    export.STAGE.run(run_dir)
    return run_dir


def test_other_models_stay_mixed_and_agree(distilled, capsys):
    export.STAGE.run(distilled, force=True)
    body = read_json(distilled.export / "model.json")
    assert body["kind"] == "mixed"
    assert body["files"] == ["export/model.onnx", "export/model.safetensors"]
    assert body["reason"].startswith("model must be a plain timm VisionTransformer")
    assert body["checked"]["images"] == 256
    assert body["checked"]["top1_agreement"] > 0.99
    assert body["checked"]["largest_difference_lsb"] <= 1
    said = capsys.readouterr().out
    assert "no integer-only form: model must be a plain timm VisionTransformer" in said
    assert "% of 256 images, outputs of sites at most" in said
    assert export.STAGE.run(distilled) is False


def test_sites_of_a_mixed_file_are_look_ups(distilled):
    model = onnx.load(distilled.export / "model.onnx")
    sites = list(distilled.read_functions())
    assert [output.name for output in model.graph.output] == ["logits", *sites]
    assert sum(node.op_type == "Gather" for node in model.graph.node) >= len(sites)
    batch, _ = next(load_splits(distilled.config.data, nn.Identity()).test.batches(limit=64))
    found = outputs_of(open_session(distilled.export / "model.onnx"), batch, np.float32)
    stored = load_file(distilled.export / "model.safetensors")
    model = load_quantized(distilled)
    with torch.no_grad():
        np.testing.assert_allclose(found["logits"], logits(model, batch).numpy(), rtol=0, atol=1e-5)
    assert all(values.std() > 0.01 for values in found.values())
    for name, module in model.named_modules():
        if isinstance(module, (QuantLinear, QuantConv2d)):
            exact = np.ldexp(
                stored[f"{name}/weight"].astype(float), -stored[f"{name}/frac"].astype(int)[:, None]
            )
            assert np.array_equal(exact, module.quant_weight().value.detach().flatten(1).double().numpy())


def site_input(nodes, site):
    """The tensor that a site of a mixed file reads: what is scaled before it is rounded to codes."""
    makers = {output: node for node in nodes for output in node.output}
    node = makers[site]
    while node.op_type != "Round":
        node = makers[node.input[1 if node.op_type == "Gather" else 0]]
    return makers[node.input[0]].input[0]


def test_sites_and_sums_of_a_mixed_file_are_pytorchs_on_equal_inputs(distilled):
    """To the last bit: sums of products of codes, before the bias, are exact in float32."""
    file, model = onnx.load(distilled.export / "model.onnx"), load_quantized(distilled)
    nodes = {node.name: node for node in file.graph.node}
    sites = {site: site_input(nodes.values(), site) for site in distilled.read_functions()}
    layers = ("attn.qkv", "attn.proj", "mlp.fc1", "mlp.fc2")  # the heads' sums begin with their bias
    sums = {
        f"blocks.0.{name}": nodes[f"/model/blocks/blocks.0/{name.replace('.', '/')}/MatMul"]
        for name in layers
    }
    wanted = {
        *sites.values(),
        *(tensor for node in sums.values() for tensor in (node.input[0], *node.output)),
    }
    wanted -= {output.name for output in file.graph.output}
    file.graph.output.extend(onnx.helper.make_tensor_value_info(t, 1, None) for t in sorted(wanted))
    batch, _ = next(load_splits(distilled.config.data, nn.Identity()).test.batches(limit=64))
    session = open_session(file.SerializeToString())
    found = {k: torch.from_numpy(v) for k, v in outputs_of(session, batch, np.float32).items()}
    assert (len(sites), len(sums)) == (3, 4)
    with torch.no_grad():
        for site, read in sites.items():
            assert torch.equal(model.get_submodule(site).unit(found[read]), found[site]), site
        for name, node in sums.items():
            weight = model.get_submodule(name).quant_weight().value
            (given,) = node.output
            assert torch.equal(functional.linear(found[node.input[0]], weight), found[given]), name


def test_plain_layers_compute_what_brevitas_does(distilled):
    model, plain = load_quantized(distilled), load_quantized(distilled)
    assert mixed.replace_layers(plain)
    assert not any(isinstance(m, QuantLinear) for m in plain.modules())
    batch, _ = next(load_splits(distilled.config.data, model).test.batches(limit=64))
    with torch.no_grad():
        torch.testing.assert_close(logits(plain, batch), logits(model, batch))


@pytest.mark.parametrize(
    ("module", "function", "who"),
    [(mixed, "write_onnx", "torch cannot export"), (export, "outputs_of", "onnxruntime cannot run")],
)
def test_a_model_without_a_usable_file_still_leaves_its_numbers(
    distilled, tmp_path, monkeypatch, capsys, module, function, who
):
    def fail(*_):
        raise RuntimeError("no rule for aten::magic\nand more")

    monkeypatch.setattr(module, function, fail)
    run_dir = copy_of(distilled, tmp_path)
    export.STAGE.run(run_dir, force=True)
    assert f"no ONNX file: {who} this model (no rule for aten::magic)\n" in capsys.readouterr().out
    assert sorted(path.name for path in run_dir.export.iterdir()) == ["model.json", "model.safetensors"]
    assert export.STAGE.run(run_dir) is False


def test_weights_beside_a_file_that_is_too_small_for_them_stay_with_it(distilled, tmp_path, monkeypatch):
    gather = mixed.gather_weights

    def scattered(path):
        """As torch does it beyond 2 GB."""
        onnx.save_model(
            onnx.load(path),
            path,
            save_as_external_data=True,
            all_tensors_to_one_file=False,
            size_threshold=0,
        )
        assert len(list(path.parent.iterdir())) > 5
        return gather(path)

    monkeypatch.setattr(mixed, "gather_weights", scattered)
    run_dir = copy_of(distilled, tmp_path)
    export.STAGE.run(run_dir, force=True)
    left = ["model.json", "model.onnx", "model.onnx.data", "model.safetensors"]
    assert sorted(path.name for path in run_dir.export.iterdir()) == left
    batch, _ = next(load_splits(run_dir.config.data, nn.Identity()).test.batches(limit=8))
    before, after = (
        outputs_of(open_session(run.export / "model.onnx"), batch, np.float32)["logits"]
        for run in (distilled, run_dir)
    )
    np.testing.assert_array_equal(before, after)
    assert export.STAGE.run(run_dir) is False
    (run_dir.export / "model.onnx.data").unlink()
    assert export.STAGE.is_stale(run_dir)


def test_a_mixed_export_has_no_graph(distilled):
    with pytest.raises(InputError, match=r"model.json' must hold an integer graph, and is of kind 'mixed'$"):
        load_graph(distilled)


def test_softmax_of_torch_is_the_same_function():
    """To divide only after the product with the values changes nothing in real numbers."""
    q, k, v = torch.randn(3, 2, 4, 5, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    scores = q @ k.transpose(-1, -2)
    e = torch.exp(-(scores.amax(-1, keepdim=True) - scores) / 8**0.5)
    torch.testing.assert_close(
        (e @ v) / e.sum(-1, keepdim=True), functional.scaled_dot_product_attention(q, k, v)
    )


def test_four_bit_weights_and_layers_without_a_bias_run_in_integers(tmp_path):
    run_dir = open_run(
        tmp_path,
        model={"name": "vit_tiny_patch16_224", "kwargs": TINY | {"proj_bias": False}},
        align={"epochs": 1},
        quantize={"weight_bits": 4, "calibration_images": 64},
    )
    export.STAGE.run(run_all(run_dir))
    assert read_json(run_dir.export / "model.json")["checked"]["different"] == {}
    stored = load_file(run_dir.export / "model.safetensors")
    weights = {name: array for name, array in stored.items() if name.endswith("/weight")}
    assert len(weights) == 2 + 2 * 4
    assert {int(abs(array).max()) for array in weights.values()} == {7}
