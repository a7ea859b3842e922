"""Integer graphs: a whole quantized model as a list of exact integer operations on codes.

Every tensor holds integer codes, and every code has a fixed-point format. The interpreter
(``sw.model.integer.interpret``), the ONNX file and the JSON beside it all read this list;
``docs/export.md`` describes it.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from sw.arrays import codes_digest
from sw.ir.errors import InputError
from sw.ir.formats import FixedFormat, IntArray

VERSION = 1
MAX_BITS = 61
"""Bits that the exact result before a rounding may have, so that int64 holds twice as much."""


class Op(enum.StrEnum):
    """What a node computes from its inputs a, b, its params and its arrays; B images, N tokens, C channels.

    Nothing here rounds or saturates but ``add``, ``requantize`` and ``divide``, which round the exact result
    half to even, once, and saturate.
    """

    INPUT = "input"  # codes of images, (B, channels, height, width)
    CONST = "const"  # the array "codes", the same for every image
    PATCHES = "patches"  # (B, C, H, W) -> (B, N, C size size): squares, as a convolution reads them
    PREPEND = "prepend"  # (B, N, C) -> (B, count + N, C): tokens of zeros before the first
    TOKEN = "token"  # (B, N, C) -> (B, C): the token index
    HEADS = "heads"  # (B, N, C) -> (B, heads, N, width): the channels first, first + 1, ...
    MERGE = "merge"  # (B, heads, N, width) -> (B, N, heads width)
    LINEAR = "linear"  # a weight^T + bias; "weight" (out, in), "bias" (out,)
    MATMUL = "matmul"  # a b, or with transposed = 1, a b^T
    ROW_SUM = "row_sum"  # the sum over the last dimension, which stays, of size 1
    BELOW_MAX = "below_max"  # the largest of a's row (last dimension) - a
    ADD = "add"  # a + b
    REQUANTIZE = "requantize"  # a in another format
    DIVIDE = "divide"  # a / b, b above 0
    LOOKUP = "lookup"  # table[a]; index 0 = the most negative code of a's format


SIGNATURES: dict[Op, tuple[int, tuple[str, ...], tuple[str, ...]]] = {
    Op.INPUT: (0, ("channels", "height", "width"), ()),
    Op.CONST: (0, (), ("codes",)),
    Op.PATCHES: (1, ("size",), ()),
    Op.PREPEND: (1, ("count",), ()),
    Op.TOKEN: (1, ("index",), ()),
    Op.HEADS: (1, ("first", "heads", "width"), ()),
    Op.MERGE: (1, (), ()),
    Op.LINEAR: (1, (), ("weight", "bias")),
    Op.MATMUL: (2, ("transposed",), ()),
    Op.ROW_SUM: (1, (), ()),
    Op.BELOW_MAX: (1, (), ()),
    Op.ADD: (2, (), ()),
    Op.REQUANTIZE: (1, (), ()),
    Op.DIVIDE: (2, (), ()),
    Op.LOOKUP: (1, (), ("table",)),
}
"""Number of inputs, names of params and names of arrays of each operation."""


ROUNDING = (Op.ADD, Op.REQUANTIZE, Op.DIVIDE)
"""Operations whose exact result is rounded to the format."""


@dataclass(frozen=True, slots=True, eq=False)
class Node:
    """One tensor: the operation that makes it and the format of its codes.

    Args:
        name: The tensor's name; a layer's or site's dotted name where the node is that layer or site.
        op: The operation.
        inputs: Names of the tensors that it reads.
        formats: One format for all codes, or one for each channel (last dimension).
        params: Integers that the operation needs.
        arrays: Integer arrays that it needs, int64.
        about: What the node stands for (layer, expression, kind of realisation, ...), for the JSON.
    """

    name: str
    op: Op
    inputs: tuple[str, ...]
    formats: tuple[FixedFormat, ...]
    params: Mapping[str, int] = field(default_factory=dict)
    arrays: Mapping[str, IntArray] = field(default_factory=dict)
    about: Mapping[str, Any] = field(default_factory=dict)

    @property
    def format(self) -> FixedFormat:
        """The format of all codes; only where there is one."""
        (form,) = self.formats
        return form

    @property
    def limits(self) -> tuple[IntArray, IntArray]:
        """Lowest and highest code: int64, (1,) or (C,) each."""
        pairs = np.array([(form.min_raw, form.max_raw) for form in self.formats], dtype=np.int64)
        return pairs[:, 0], pairs[:, 1]

    @property
    def frac(self) -> IntArray:
        """Bits after the binary point: int64, (1,) or (C,)."""
        return np.array([form.frac for form in self.formats], dtype=np.int64)

    def to_json(self) -> dict[str, Any]:
        """The node without its arrays; of those, the sha256 of their codes as little-endian int64."""
        texts = [str(form) for form in self.formats]
        return {
            "name": self.name,
            "op": self.op.value,
            "inputs": list(self.inputs),
            "format": texts[0] if len(texts) == 1 else texts,
            "params": dict(self.params),
            "arrays": {key: codes_digest(array) for key, array in self.arrays.items()},
            "about": dict(self.about),
        }


@dataclass(frozen=True, slots=True, eq=False)
class Graph:
    """Nodes in the order in which they can run: the first is the input, the last the output.

    Raises:
        InputError: The list is not such an order, or a node has not what its operation needs.
    """

    nodes: tuple[Node, ...]

    def __post_init__(self) -> None:
        known: dict[str, Node] = {}
        for node in self.nodes:
            _check(node, known)
            _check_bits(node, known)
            known[node.name] = node
        if not self.nodes or [n.op for n in self.nodes].count(Op.INPUT) != 1 or self.input.op is not Op.INPUT:
            raise InputError("an integer graph must have exactly one input, its first node")

    def __getitem__(self, name: str) -> Node:
        return next(node for node in self.nodes if node.name == name)

    @property
    def input(self) -> Node:
        return self.nodes[0]

    @property
    def output(self) -> Node:
        return self.nodes[-1]

    def sources(self, node: Node) -> list[Node]:
        """The nodes that a node reads."""
        return [self[name] for name in node.inputs]

    def names(self, *ops: Op) -> list[str]:
        """Names of the tensors that these operations make, in order."""
        return [node.name for node in self.nodes if node.op in ops]

    def to_json(self) -> dict[str, Any]:
        """The graph without its arrays; ``from_json`` of it and of ``arrays`` gives an equal one."""
        return {"version": VERSION, "nodes": [node.to_json() for node in self.nodes]}

    def arrays(self) -> dict[str, IntArray]:
        """``<node>/<array>``, each in the narrowest of int8, int16, int32 and int64 that holds it."""
        return {
            f"{node.name}/{key}": narrowest(array)
            for node in self.nodes
            for key, array in node.arrays.items()
        }

    @classmethod
    def from_json(cls, body: Mapping[str, Any], arrays: Mapping[str, IntArray]) -> Graph:
        """Read what ``to_json`` and ``arrays`` gave.

        Raises:
            InputError: Another version, or an array that is missing or not the one that was written.
        """
        if body.get("version") != VERSION:
            raise InputError(f"version of an integer graph must be {VERSION}, not {body.get('version')!r}")
        return cls(tuple(_node(item, arrays) for item in body["nodes"]))


def narrowest(array: IntArray) -> IntArray:
    """The same integers in the narrowest signed type that holds them."""
    low, high = (int(v) for v in (array.min(initial=0), array.max(initial=0)))
    for kind in (np.int8, np.int16, np.int32):
        if np.iinfo(kind).min <= low and high <= np.iinfo(kind).max:
            return np.ascontiguousarray(array, dtype=kind)
    return np.ascontiguousarray(array, dtype=np.int64)


def factors(source: IntArray, target: IntArray) -> tuple[IntArray, IntArray]:
    """Multiplier and divisor, powers of two, one of them 1, that take codes from one frac to another.

    Args:
        source: Bits after the binary point that the codes have, (1,) or (C,).
        target: Bits that they shall have, likewise.

    Returns:
        int64, (1,) or (C,) each.
    """
    shift = np.asarray(target - source, dtype=np.int64)
    one = np.ones_like(shift)
    return one << np.maximum(shift, 0), one << np.minimum(np.maximum(-shift, 0), MAX_BITS - 1)


def exact_frac(node: Node, sources: Sequence[Node]) -> IntArray:
    """Bits after the binary point of a rounding node's exact result before it is rounded."""
    if node.op is Op.DIVIDE:
        return np.asarray(sources[0].frac - sources[1].frac)
    result = sources[0].frac
    for source in sources[1:]:
        result = np.maximum(result, source.frac)
    return result


def _check_bits(node: Node, known: Mapping[str, Node]) -> None:
    """Refuse a rounding whose exact result int64 might not hold."""
    if node.op not in ROUNDING:
        return
    sources = [known[name] for name in node.inputs]
    exact = exact_frac(node, sources)
    finer = [np.maximum(exact, node.frac) - source.frac for source in sources]
    if node.op is Op.DIVIDE:
        finer = [np.maximum(node.frac - exact, 0), np.maximum(exact - node.frac, 0)]
    bits = max(
        int((shift + [form.width for form in source.formats]).max())
        for shift, source in zip(finer, sources, strict=True)
    )
    if bits > MAX_BITS:
        raise InputError(
            f"tensor '{node.name}' must need at most {MAX_BITS} bits before rounding, not {bits}"
        )


def _check(node: Node, known: Mapping[str, Node]) -> None:
    num_inputs, params, arrays = SIGNATURES[node.op]
    if node.name in known:
        raise InputError(f"tensor '{node.name}' of an integer graph must be made once, not again")
    for name in node.inputs:
        if name not in known:
            raise InputError(f"tensor '{node.name}' must read earlier tensors only, not '{name}'")
    if len(node.inputs) != num_inputs or set(node.params) != set(params) or set(node.arrays) != set(arrays):
        raise InputError(
            f"tensor '{node.name}' ({node.op}) must have {num_inputs} inputs, params {list(params)} and "
            f"arrays {list(arrays)}, not {len(node.inputs)}, {list(node.params)} and {list(node.arrays)}"
        )


def _node(item: Mapping[str, Any], arrays: Mapping[str, IntArray]) -> Node:
    own: dict[str, IntArray] = {}
    for key, digest in item["arrays"].items():
        stored = arrays.get(f"{item['name']}/{key}")
        if stored is None or codes_digest(stored) != digest:
            raise InputError(f"array '{item['name']}/{key}' must be the one of the graph, and is not")
        own[key] = np.asarray(stored, dtype=np.int64)
    texts = [item["format"]] if isinstance(item["format"], str) else item["format"]
    return Node(
        item["name"],
        Op(item["op"]),
        tuple(item["inputs"]),
        tuple(FixedFormat.parse(text) for text in texts),
        item["params"],
        own,
        item["about"],
    )
