"""The meaning of integer graphs: an interpreter in torch, exact on int64."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from sw.ir.formats import IntArray
from sw.model.codes import rounded
from sw.model.integer.graph import Graph, Node, Op, exact_frac, factors


def run(graph: Graph, image_raw: Tensor, keep: Collection[str] = ()) -> dict[str, Tensor]:
    """Codes of the output and of every tensor in ``keep``: int64, on the device of the input.

    Args:
        graph: Any.
        image_raw: int64 codes in the input's format, (B, C, H, W).
        keep: Names of tensors.
    """
    last_use = {name: node.name for node in graph.nodes for name in node.inputs}
    wanted = {*keep, graph.output.name}
    known: dict[str, Tensor] = {}
    for node in graph.nodes:
        if node.op is Op.INPUT:
            known[node.name] = image_raw
        elif node.op is Op.CONST:
            known[node.name] = _like(node.arrays["codes"], image_raw)
        else:
            known[node.name] = apply(graph, node, [known[name] for name in node.inputs])
        for name in set(node.inputs) - wanted:
            if last_use[name] == node.name:
                del known[name]
    return {name: known[name] for name in known if name in wanted}


def apply(graph: Graph, node: Node, inputs: Sequence[Tensor]) -> Tensor:
    """One operation (not ``input`` or ``const``) on the codes that it reads."""
    return _APPLY[node.op](node, graph.sources(node), inputs)


def round_half_even(numerator: Tensor, denominator: Tensor) -> Tensor:
    """The integer nearest to numerator / denominator, ties to even; int64, denominator above 0.

    >>> round_half_even(torch.tensor([-3, -1, 1, 3, 5]), torch.tensor(2)).tolist()
    [-2, 0, 0, 2, 2]
    """
    below = torch.div(numerator, denominator, rounding_mode="floor")
    rest = numerator - below * denominator
    return below + (2 * rest + below % 2 > denominator).long()


class IntegerModel(nn.Module):
    """A graph as a classifier: real images in, real logits out (float64), integers in between."""

    def __init__(self, graph: Graph) -> None:
        super().__init__()
        self.graph = graph

    def forward(self, images: Tensor) -> Tensor:
        codes = run(self.graph, quantize_images(self.graph, images))[self.graph.output.name]
        return codes.double() * self.graph.output.format.step


def quantize_images(graph: Graph, images: Tensor) -> Tensor:
    """Codes of normalised images as the graph reads them: int64, half to even, saturating."""
    return rounded(images.double(), graph.input.format).long()


def _patches(node: Node, _: Sequence[Node], x: Sequence[Tensor]) -> Tensor:
    size = node.params["size"]
    return functional.unfold(x[0].double(), size, stride=size).transpose(1, 2).long()


def _prepend(node: Node, _: Sequence[Node], x: Sequence[Tensor]) -> Tensor:
    return functional.pad(x[0], (0, 0, node.params["count"], 0))


def _token(node: Node, _: Sequence[Node], x: Sequence[Tensor]) -> Tensor:
    return x[0][:, node.params["index"]]


def _heads(node: Node, _: Sequence[Node], x: Sequence[Tensor]) -> Tensor:
    first, heads, width = (node.params[key] for key in ("first", "heads", "width"))
    return x[0][..., first : first + heads * width].unflatten(-1, (heads, width)).transpose(1, 2)


def _merge(node: Node, _: Sequence[Node], x: Sequence[Tensor]) -> Tensor:
    return x[0].transpose(1, 2).flatten(2)


def _linear(node: Node, _: Sequence[Node], x: Sequence[Tensor]) -> Tensor:
    return _product(x[0], _like(node.arrays["weight"].T, x[0])) + _like(node.arrays["bias"], x[0])


def _matmul(node: Node, _: Sequence[Node], x: Sequence[Tensor]) -> Tensor:
    return _product(x[0], x[1].transpose(-1, -2) if node.params["transposed"] else x[1])


def _row_sum(node: Node, _: Sequence[Node], x: Sequence[Tensor]) -> Tensor:
    return x[0].sum(-1, keepdim=True)


def _below_max(node: Node, _: Sequence[Node], x: Sequence[Tensor]) -> Tensor:
    return x[0].amax(-1, keepdim=True) - x[0]


def _add(node: Node, sources: Sequence[Node], x: Sequence[Tensor]) -> Tensor:
    common = exact_frac(node, sources)
    aligned = [v * _like(factors(source.frac, common)[0], v) for v, source in zip(x, sources, strict=True)]
    return _rounded(node, aligned[0] + aligned[1], common)


def _requantize(node: Node, sources: Sequence[Node], x: Sequence[Tensor]) -> Tensor:
    return _rounded(node, x[0], exact_frac(node, sources))


def _divide(node: Node, sources: Sequence[Node], x: Sequence[Tensor]) -> Tensor:
    return _rounded(node, x[0], exact_frac(node, sources), x[1])


def _lookup(node: Node, sources: Sequence[Node], x: Sequence[Tensor]) -> Tensor:
    return _like(node.arrays["table"], x[0])[x[0] - sources[0].format.min_raw]


def _rounded(node: Node, x: Tensor, frac: IntArray, denominator: Tensor | None = None) -> Tensor:
    """Codes with ``frac`` bits after the point, over a denominator if there is one, in a node's formats."""
    multiplier, divisor = (_like(factor, x) for factor in factors(frac, node.frac))
    whole = divisor if denominator is None else denominator * divisor
    nearest = round_half_even(x * multiplier, whole)
    low, high = (_like(limits, x) for limits in node.limits)
    return torch.minimum(torch.maximum(nearest, low), high)


def _product(a: Tensor, b: Tensor) -> Tensor:
    """A matrix product of codes, int64: every sum stays far below 2^53, so float64 is exact, and fast."""
    return (a.double() @ b.double()).long()


def _like(array: IntArray, tensor: Tensor) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(array, dtype=np.int64)).to(tensor.device)


_APPLY: dict[Op, Callable[[Node, Sequence[Node], Sequence[Tensor]], Tensor]] = {
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
