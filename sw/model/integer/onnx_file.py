"""Integer graphs as ONNX: standard operators on integers, so that every runtime computes the same codes.

Tensors between nodes are int32, what is rounded is int64 on the way. Matrix products are ``MatMul`` on int32:
in ``MatMulInteger``, runtimes may saturate sums of two products on processors without dot-product
instructions.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from sw.ir.formats import FixedFormat, IntArray
from sw.model.integer.graph import Graph, Node, Op, exact_frac, factors, narrowest

OPSET = 17
IR_VERSION = 8


def to_onnx(graph: Graph, outputs: Iterable[str] = ()) -> onnx.ModelProto:
    """An ONNX model that computes a graph's codes exactly.

    Its input is ``image``, int8 (batch, channels, height, width); its first output the graph's, int32
    (batch, classes). Every tensor bears its name in the graph and, as QONNX does it, its data type.

    Args:
        graph: With an input of at most 8 bits.
        outputs: Names of further tensors to give out, int32.
    """
    writer = _Writer(graph)
    for node in graph.nodes:
        writer.scope = node.name
        if node.op not in (Op.INPUT, Op.CONST):
            _EMIT[node.op](writer, node, graph.sources(node))
    shape = ["batch", *(graph.input.params[key] for key in ("channels", "height", "width"))]
    image = helper.make_tensor_value_info(graph.input.name, TensorProto.INT8, shape)
    given = [graph.output.name, *(name for name in outputs if name != graph.output.name)]
    body = helper.make_graph(
        writer.nodes,
        "normforge",
        [image],
        [helper.make_tensor_value_info(name, TensorProto.INT32, None) for name in given],
        list(writer.initializers.values()),
    )
    body.quantization_annotation.extend(_annotation(n) for n in graph.nodes)
    model = helper.make_model(
        body,
        producer_name="normforge",
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
    )
    helper.set_model_props(
        model, {"input_format": str(graph.input.format), "output_format": str(graph.output.format)}
    )
    return onnx.shape_inference.infer_shapes(model, strict_mode=True)  # ONNX's checker asks for shapes


class _Writer:
    """Collects ONNX nodes and constants; the scope is the name of the graph's node that is being written."""

    def __init__(self, graph: Graph) -> None:
        self.graph, self.scope = graph, ""
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: dict[str, onnx.TensorProto] = {}
        for node in graph.nodes:
            if node.op is Op.CONST:
                self.named(node.name, node.arrays["codes"].astype(np.int32))

    def emit(self, kind: str, *inputs: str, name: str = "", **attributes: Any) -> str:
        """Add a node; the name of its result."""
        result = name or f"{self.scope}/{kind.lower()}{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, list(inputs), [result], name=result, **attributes))
        return result

    def named(self, name: str, array: IntArray) -> str:
        """A constant of a given name, of the array's type."""
        self.initializers[name] = numpy_helper.from_array(np.asarray(array), name)
        return name

    def const(self, values: Any, kind: type[np.signedinteger[Any]] = np.int64) -> str:
        """A constant; equal ones are shared."""
        array = np.asarray(values, dtype=kind)
        content = f"{array.dtype}{array.shape}".encode() + array.tobytes()
        name = f"const_{hashlib.sha256(content).hexdigest()[:12]}"
        return name if name in self.initializers else self.named(name, array)

    def wide(self, x: str) -> str:
        return self.emit("Cast", x, to=TensorProto.INT64)

    def rounded(self, node: Node, x: str, frac: IntArray, denominator: str | None = None) -> None:
        """The node's result from an exact one: x / denominator, int64, with ``frac`` bits after the point.

        Mod has the sign of its divisor, so that (x - x mod d) / d is the floor, and what is left of a
        tie goes up where that floor is odd.
        """
        multiplier, divisor = factors(frac, node.frac)
        if multiplier.max() > 1:
            x = self.emit("Mul", x, self.const(multiplier))
        if denominator is None:
            whole = self.const(divisor)
        else:
            whole = self.emit("Mul", denominator, self.const(divisor)) if divisor.max() > 1 else denominator
        if denominator is not None or divisor.max() > 1:
            rest = self.emit("Mod", x, whole)
            below = self.emit("Div", self.emit("Sub", x, rest), whole)
            twice = self.emit("Add", rest, rest)
            odd = self.emit("Mod", below, self.const([2]))
            up = self.emit("Greater", self.emit("Add", twice, odd), whole)
            x = self.emit("Add", below, self.wide(up))
        low, high = (self.const(limits) for limits in node.limits)
        limited = self.emit("Min", self.emit("Max", x, low), high)
        self.emit("Cast", limited, name=node.name, to=TensorProto.INT32)


def _patches(w: _Writer, node: Node, _: Sequence[Node]) -> None:
    size = node.params["size"]
    channels, height, width = (w.graph.input.params[key] for key in ("channels", "height", "width"))
    down, across = height // size, width // size
    cut = w.emit("Reshape", node.inputs[0], w.const([0, channels, down, size, across, size]))
    sorted_ = w.emit("Transpose", cut, perm=[0, 2, 4, 1, 3, 5])
    flat = w.emit("Reshape", sorted_, w.const([0, down * across, channels * size * size]))
    w.emit("Cast", flat, name=node.name, to=TensorProto.INT32)


def _prepend(w: _Writer, node: Node, _: Sequence[Node]) -> None:
    pads = w.const([0, node.params["count"], 0, 0, 0, 0])
    w.emit("Pad", node.inputs[0], pads, w.const(0, np.int32), name=node.name)


def _token(w: _Writer, node: Node, _: Sequence[Node]) -> None:
    w.emit("Gather", node.inputs[0], w.const(node.params["index"]), name=node.name, axis=1)


def _heads(w: _Writer, node: Node, _: Sequence[Node]) -> None:
    first, heads, width = (node.params[key] for key in ("first", "heads", "width"))
    ends = (w.const([first]), w.const([first + heads * width]), w.const([2]))
    split = w.emit("Reshape", w.emit("Slice", node.inputs[0], *ends), w.const([0, 0, heads, width]))
    w.emit("Transpose", split, name=node.name, perm=[0, 2, 1, 3])


def _merge(w: _Writer, node: Node, _: Sequence[Node]) -> None:
    rows = w.emit("Transpose", node.inputs[0], perm=[0, 2, 1, 3])
    w.emit("Reshape", rows, w.const([0, 0, -1]), name=node.name)


def _linear(w: _Writer, node: Node, _: Sequence[Node]) -> None:
    weight = w.named(f"{node.name}/weight", narrowest(node.arrays["weight"].T))
    bias = w.named(f"{node.name}/bias", node.arrays["bias"].astype(np.int32))
    product = w.emit("MatMul", node.inputs[0], w.emit("Cast", weight, to=TensorProto.INT32))
    w.emit("Add", product, bias, name=node.name)


def _matmul(w: _Writer, node: Node, _: Sequence[Node]) -> None:
    a, b = node.inputs
    w.emit("MatMul", a, _transposed(w, b) if node.params["transposed"] else b, name=node.name)


def _transposed(w: _Writer, x: str) -> str:
    return w.emit("Transpose", x, perm=[0, 1, 3, 2])


def _row_sum(w: _Writer, node: Node, _: Sequence[Node]) -> None:
    w.emit("ReduceSum", node.inputs[0], w.const([-1]), name=node.name, keepdims=1)


def _below_max(w: _Writer, node: Node, _: Sequence[Node]) -> None:
    largest = w.emit("ReduceMax", node.inputs[0], axes=[-1], keepdims=1)
    w.emit("Sub", largest, node.inputs[0], name=node.name)


def _add(w: _Writer, node: Node, sources: Sequence[Node]) -> None:
    common = exact_frac(node, sources)
    aligned = [
        w.emit("Mul", w.wide(source.name), w.const(factors(source.frac, common)[0])) for source in sources
    ]
    w.rounded(node, w.emit("Add", *aligned), common)


def _requantize(w: _Writer, node: Node, sources: Sequence[Node]) -> None:
    w.rounded(node, w.wide(sources[0].name), exact_frac(node, sources))


def _divide(w: _Writer, node: Node, sources: Sequence[Node]) -> None:
    numerator, denominator = (w.wide(source.name) for source in sources)
    w.rounded(node, numerator, exact_frac(node, sources), denominator)


def _lookup(w: _Writer, node: Node, sources: Sequence[Node]) -> None:
    table = w.named(f"{node.name}/table", narrowest(node.arrays["table"]))
    index = w.emit("Sub", sources[0].name, w.const(sources[0].format.min_raw, np.int32))
    w.emit("Gather", w.emit("Cast", table, to=TensorProto.INT32), index, name=node.name, axis=0)


def _annotation(node: Node) -> onnx.TensorAnnotation:
    """The tensor's data type, where QONNX and FINN look for it."""
    (kind,) = {_data_type(form) for form in node.formats}
    entry = onnx.StringStringEntryProto(key="finn_datatype", value=kind)
    return onnx.TensorAnnotation(tensor_name=node.name, quant_parameter_tensor_names=[entry])


def _data_type(form: FixedFormat) -> str:
    return f"{'' if form.signed else 'U'}INT{form.width}"


_EMIT: dict[Op, Callable[[_Writer, Node, Sequence[Node]], None]] = {
    Op.PATCHES: _patches,
    Op.PREPEND: _prepend,
    Op.TOKEN: _token,
    Op.HEADS: _heads,
    Op.MERGE: _merge,
    Op.LINEAR: _linear,
    Op.MATMUL: _matmul,
    Op.ROW_SUM: _row_sum,
    Op.BELOW_MAX: _below_max,
    Op.ADD: _add,
    Op.REQUANTIZE: _requantize,
    Op.DIVIDE: _divide,
    Op.LOOKUP: _lookup,
}
