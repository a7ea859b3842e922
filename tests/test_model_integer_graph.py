"""Integer graphs of every operation: torch, onnxruntime and exact fractions give the same codes."""

import dataclasses
import json
from fractions import Fraction

import numpy as np
import pytest
import torch

from sw.ir.errors import InputError
from sw.ir.formats import FixedFormat
from sw.model.integer.graph import Graph, Node, Op, factors, narrowest
from sw.model.integer.interpret import round_half_even, run
from sw.model.integer.onnx_file import to_onnx
from sw.model.integer.onnx_run import computed, open_session, outputs_of

IMAGE = {"channels": 2, "height": 4, "width": 6}


def form(text):
    return FixedFormat.parse(text)


def image(text="s8.3"):
    return Node("image", Op.INPUT, (), (form(text),), IMAGE)


def every_operation(seed):
    """A small attention with random weights, tables and binary points."""
    rng = np.random.default_rng(seed)

    def frac(low, high):
        return int(rng.integers(low, high + 1))

    q, k, v = (FixedFormat(8, frac(-1, 5)) for _ in range(3))
    sums = tuple(FixedFormat(32, frac(2, 9)) for _ in range(12))
    each = (q,) * 4 + (k,) * 4 + (v,) * 4
    read, mean = FixedFormat(8, frac(0, 6)), FixedFormat(8, frac(-2, 7))
    scores, exp = FixedFormat(32, q.frac + k.frac), FixedFormat(8, 8, signed=False)
    distance, wide = FixedFormat(12, frac(2, 8), signed=False), FixedFormat(16, frac(4, 9))
    weight = rng.integers(-127, 128, (12, 8))
    arrays = {"weight": weight, "bias": rng.integers(-9999, 9999, 12)}
    table = rng.integers(1, 256, 1 << 12)
    codes = rng.integers(-(2**15), 2**15, (8, 4))
    heads = {"heads": 2, "width": 2}
    return Graph(
        (
            image(str(read)),
            Node("patches", Op.PATCHES, ("image",), (read,), {"size": 2}),
            Node("qkv", Op.LINEAR, ("patches",), sums, {}, arrays),
            Node("codes", Op.REQUANTIZE, ("qkv",), each),
            Node("q", Op.HEADS, ("codes",), (q,), {"first": 0, **heads}),
            Node("k", Op.HEADS, ("codes",), (k,), {"first": 4, **heads}),
            Node("v", Op.HEADS, ("codes",), (v,), {"first": 8, **heads}),
            Node("scores", Op.MATMUL, ("q", "k"), (scores,), {"transposed": 1}),
            Node("below", Op.BELOW_MAX, ("scores",), (scores,)),
            Node("distance", Op.REQUANTIZE, ("below",), (distance,)),
            Node("exp", Op.LOOKUP, ("distance",), (exp,), {}, {"table": table}),
            Node("total", Op.ROW_SUM, ("exp",), (form("s32.8"),)),
            Node("mix", Op.MATMUL, ("exp", "v"), (FixedFormat(32, 8 + v.frac),), {"transposed": 0}),
            Node("mean", Op.DIVIDE, ("mix", "total"), (mean,)),
            Node("merged", Op.MERGE, ("mean",), (mean,)),
            Node("prefixed", Op.PREPEND, ("merged",), (mean,), {"count": 2}),
            Node("place", Op.CONST, (), (FixedFormat(16, frac(6, 12)),), {}, {"codes": codes}),
            Node("sum", Op.ADD, ("prefixed", "place"), (wide,)),
            Node("token", Op.TOKEN, ("sum",), (wide,), {"index": 3}),
            Node("logits", Op.REQUANTIZE, ("token",), (form("s32.12"),)),
        )
    )


def random_codes(seed):
    """Images of all codes, the extreme ones often."""
    rng = np.random.default_rng(seed)
    codes = rng.integers(-128, 128, (7, 2, 4, 6))
    return np.where(rng.random(codes.shape) < 0.2, rng.choice([-128, 127], codes.shape), codes)


def tensors(graph, codes):
    kept = run(graph, torch.from_numpy(codes), [node.name for node in graph.nodes])
    return {name: value.numpy() for name, value in kept.items()}


@pytest.mark.parametrize("seed", range(6))
def test_onnxruntime_gives_the_interpreters_codes(seed):
    graph, codes = every_operation(seed), random_codes(seed)
    assert {node.op for node in graph.nodes} == set(Op)
    expected = tensors(graph, codes)
    model = to_onnx(graph, computed(graph))
    found = outputs_of(open_session(model.SerializeToString()), torch.from_numpy(codes), np.int8)
    assert set(found) == set(computed(graph))
    for name, values in found.items():
        assert values.dtype == np.int32, name
        assert np.array_equal(values, expected[name]), name


def exact(values, frac):
    return values.astype(object) * np.vectorize(lambda f: Fraction(2) ** -int(f), otypes=[object])(frac)


def rounded(values, node):
    """Exact values in a node's formats: Python rounds fractions half to even."""
    low, high = node.limits
    codes = np.vectorize(round, otypes=[object])(values / exact(np.ones(1, dtype=int), node.frac))
    return np.clip(codes, low, high)


@pytest.mark.parametrize("seed", range(3))
def test_what_is_rounded_is_the_nearest_code_of_the_exact_value(seed):
    graph = every_operation(seed)
    seen = tensors(graph, random_codes(seed))
    for node in graph.nodes:
        inputs = [exact(seen[source.name], source.frac) for source in graph.sources(node)]
        match node.op:
            case Op.REQUANTIZE:
                expected = rounded(inputs[0], node)
            case Op.ADD:
                expected = rounded(inputs[0] + inputs[1], node)
            case Op.DIVIDE:
                expected = rounded(inputs[0] / inputs[1], node)
            case _:
                continue
        assert np.array_equal(expected, seen[node.name]), node.name


def test_what_is_not_rounded_is_what_numpy_computes():
    graph = every_operation(0)
    seen = tensors(graph, random_codes(0))
    arrays = {key: array.astype(np.int64) for key, array in graph.arrays().items()}
    patches = seen["image"].reshape(7, 2, 2, 2, 3, 2).transpose(0, 2, 4, 1, 3, 5).reshape(7, 6, 8)
    heads = seen["codes"].reshape(7, 6, 3, 2, 2).transpose(2, 0, 3, 1, 4)
    expected = {
        "patches": patches,
        "qkv": patches @ arrays["qkv/weight"].T + arrays["qkv/bias"],
        **dict(zip("qkv", heads, strict=True)),
        "scores": np.einsum("bhnd,bhmd->bhnm", heads[0], heads[1]),
        "below": seen["scores"].max(-1, keepdims=True) - seen["scores"],
        "exp": arrays["exp/table"][seen["distance"]],
        "total": seen["exp"].sum(-1, keepdims=True),
        "mix": np.einsum("bhnm,bhmd->bhnd", seen["exp"], heads[2]),
        "merged": seen["mean"].transpose(0, 2, 1, 3).reshape(7, 6, 4),
        "prefixed": np.concatenate([np.zeros((7, 2, 4), dtype=np.int64), seen["merged"]], axis=1),
        "token": seen["sum"][:, 3],
    }
    for name, values in expected.items():
        assert np.array_equal(seen[name], values), name


def test_rounding_is_half_to_even_for_every_divisor():
    for divisor in (*range(1, 12), 64):
        values = list(range(-300, 301))
        found = round_half_even(torch.tensor(values), torch.tensor(divisor)).tolist()
        assert found == [round(Fraction(value, divisor)) for value in values]


def test_factors_are_powers_of_two_of_which_one_is_1():
    multiplier, divisor = factors(np.array([3, 5, 9]), np.array([5]))
    assert (multiplier.tolist(), divisor.tolist()) == ([4, 1, 1], [1, 1, 16])


def test_arrays_are_stored_as_narrow_as_they_are():
    for largest, kind in ((127, np.int8), (128, np.int16), (2**15, np.int32), (2**31, np.int64)):
        assert narrowest(np.array([-1, largest])).dtype == kind


def test_a_written_graph_reads_back():
    graph, codes = every_operation(1), random_codes(1)
    again = Graph.from_json(json.loads(json.dumps(graph.to_json())), graph.arrays())
    assert again.to_json() == graph.to_json()
    expected = tensors(graph, codes)
    assert all(np.array_equal(values, expected[name]) for name, values in tensors(again, codes).items())


def test_tensors_bear_their_data_types():
    model = to_onnx(every_operation(0))
    kinds = {
        entry.tensor_name: entry.quant_parameter_tensor_names[0].value
        for entry in model.graph.quantization_annotation
    }
    assert (kinds["image"], kinds["qkv"], kinds["exp"], kinds["distance"]) == (
        "INT8",
        "INT32",
        "UINT8",
        "UINT12",
    )
    assert {p.key: p.value for p in model.metadata_props} == {
        "input_format": str(every_operation(0).input.format),
        "output_format": "s32.12",
    }


def test_only_standard_operators_on_integers():
    model = to_onnx(every_operation(0))
    assert {(entry.domain, entry.version) for entry in model.opset_import} == {("", 17)}
    assert {init.data_type for init in model.graph.initializer} <= {3, 5, 6, 7}  # int8, int16, int32, int64


@pytest.mark.parametrize(
    ("nodes", "rule"),
    [
        ((), "an integer graph must have exactly one input, its first node"),
        ((image(), image()), "tensor 'image' of an integer graph must be made once, not again"),
        (
            (image(), dataclasses.replace(image(), name="other")),
            "an integer graph must have exactly one input, its first node",
        ),
        (
            (image(), Node("m", Op.MERGE, ("x",), (form("s8.0"),))),
            "tensor 'm' must read earlier tensors only, not 'x'",
        ),
        (
            (image(), Node("p", Op.PATCHES, ("image",), (form("s8.3"),))),
            (
                r"tensor 'p' \(patches\) must have 1 inputs, params \['size'\] and arrays \[\], "
                r"not 1, \[\] and \[\]"
            ),
        ),
        (
            (
                image(),
                Node("m", Op.MERGE, ("image",), (form("s32.30"),)),
                Node("d", Op.DIVIDE, ("m", "image"), (form("s8.-40"),)),
            ),
            "tensor 'd' must need at most 61 bits before rounding, not 75",
        ),
        (
            (image("s8.-40"), Node("r", Op.REQUANTIZE, ("image",), (form("s8.20"),))),
            "tensor 'r' must need at most 61 bits before rounding, not 68",
        ),
    ],
)
def test_graph_wrong(nodes, rule):
    with pytest.raises(InputError, match=f"^{rule}$"):
        Graph(nodes)


def test_graph_of_another_version_wrong():
    body = every_operation(0).to_json() | {"version": 7}
    with pytest.raises(InputError, match=r"^version of an integer graph must be 1, not 7$"):
        Graph.from_json(body, {})


def test_graph_with_another_array_wrong():
    graph = every_operation(0)
    arrays = graph.arrays()
    arrays["exp/table"] = arrays["exp/table"][::-1]
    with pytest.raises(InputError, match=r"^array 'exp/table' must be the one of the graph, and is not$"):
        Graph.from_json(graph.to_json(), arrays)
