"""From a quantized Vision Transformer to its integer graph."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import nn

from sw.ir.formats import FixedFormat, FloatArray, IntArray
from sw.model.data import Images
from sw.model.integer.covered import check_covered
from sw.model.integer.graph import Graph, Node, Op
from sw.model.integer.layers import ACCUMULATOR_BITS, integer_layer
from sw.model.integer.maps import EXP_OUTPUT, ScalarMap, activation_formula, compile_map, softmax_formula
from sw.model.integer.ranges import STREAM_BITS, Seen, observe
from sw.model.quantize import UnitSite
from sw.model.quantizers import input_format

CODE_BITS = 8
"""Bits of queries, keys and values."""
MAX_TOKENS = 1 << 16
"""So many products of exponentials and values fit an accumulator."""
Formats = FixedFormat | tuple[FixedFormat, ...]


def build_graph(model: nn.Module, calibration: Images, limit: int) -> Graph:
    """The integer-only form of a quantized model.

    Layers, units and the formats of their inputs are the model's own. What the model leaves in floating
    point gets formats here: the residual stream 16 bits, queries, keys and values 8; scores become
    exponentials of 8 bits and are divided by their sum after the product with the values.

    Args:
        model: As ``load_quantized`` gives it.
        calibration: Images that set those formats.
        limit: Images used at most.

    Raises:
        UncoveredError: Some part of the model has no integer form.
    """
    check_covered(model)
    return Graph(tuple(_Assembly(model, observe(model, calibration, limit)).nodes))


class _Assembly:
    """Walks through the model in the order in which it runs, and adds nodes."""

    def __init__(self, model: Any, seen: Mapping[str, Seen]) -> None:
        self.model, self.seen = model, seen
        self.nodes: list[Node] = []
        blocks = [f"blocks.{i}" for i in range(len(model.blocks))]
        x = self.tokens(f"{blocks[0]}.norm1" if blocks else "norm")
        for block, after in zip(blocks, [*(f"{b}.norm1" for b in blocks[1:]), "norm"], strict=True):
            attended = self.attention(f"{block}.attn", self.site(f"{block}.norm1", x))
            x = self.residual(f"{block}.middle", x, attended, f"{block}.norm2")
            x = self.residual(block, x, self.mlp(f"{block}.mlp", self.site(f"{block}.norm2", x)), after)
        x = self.site("norm", x)
        x = self.add("norm.token", Op.TOKEN, [x], x.format, params={"index": 0})
        self.logits(x)

    def add(
        self,
        name: str,
        op: Op,
        inputs: Sequence[Node],
        formats: Formats,
        *,
        params: Mapping[str, int] | None = None,
        arrays: Mapping[str, IntArray] | None = None,
        about: Mapping[str, Any] | None = None,
    ) -> Node:
        several = formats if isinstance(formats, tuple) else (formats,)
        node = Node(name, op, tuple(n.name for n in inputs), several, params or {}, arrays or {}, about or {})
        self.nodes.append(node)
        return node

    def requantize(self, name: str, x: Node, form: FixedFormat) -> Node:
        """``x`` in a format: itself where it has that."""
        return x if x.formats == (form,) else self.add(name, Op.REQUANTIZE, [x], form)

    def tokens(self, first_site: str) -> Node:
        """Patches projected, behind the prefix tokens, position added."""
        embed = self.model.patch_embed
        size = embed.patch_size[0]
        form = input_format(embed.proj)
        assert form is not None
        shape = {"channels": embed.proj.in_channels, "height": embed.img_size[0], "width": embed.img_size[1]}
        image = self.add("image", Op.INPUT, [], form, params=shape)
        patches = self.add("patches", Op.PATCHES, [image], form, params={"size": size})
        x = self.linear("patch_embed.proj", patches)
        constant, prefix = _token_constants(self.model, embed.num_patches)
        assert len(constant) < MAX_TOKENS, len(constant)
        if prefix:
            x = self.add("prefixed", Op.PREPEND, [x], x.formats, params={"count": prefix})
        form = FixedFormat.covering(float(np.abs(constant).max()), STREAM_BITS)
        place = self.add("position", Op.CONST, [], form, arrays={"codes": form.quantize(constant)})
        return self.residual("tokens", x, place, first_site)

    def residual(self, name: str, x: Node, y: Node, site: str) -> Node:
        """The sum of two tensors as a site reads it, before that site rounds it."""
        return self.add(name, Op.ADD, [x, y], self.seen[site].stream_format())

    def site(self, name: str, x: Node) -> Node:
        """A norm site: its unit's table."""
        site = self.model.get_submodule(name)
        assert isinstance(site, UnitSite), name
        unit = site.unit
        table = unit.table.cpu().numpy().astype(np.int64)
        read = self.requantize(f"{name}.input", x, unit.input)
        about = {"site": name, "expression": str(unit.expr)}
        return self.add(name, Op.LOOKUP, [read], unit.output, arrays={"table": table}, about=about)

    def linear(self, name: str, x: Node) -> Node:
        """A layer's accumulators."""
        module = self.model.get_submodule(name)
        x = self.requantize(f"{name}.input", x, _read_format(module, x))
        layer = integer_layer(module, x.format)
        arrays = {"weight": layer.weight, "bias": layer.bias}
        return self.add(name, Op.LINEAR, [x], layer.formats, arrays=arrays, about={"layer": name})

    def mapped(self, name: str, x: Node, scalar: ScalarMap) -> Node:
        """A scalar function of accumulators."""
        read = self.add(f"{name}.input", Op.REQUANTIZE, [x], scalar.input)
        about = scalar.about()
        return self.add(name, Op.LOOKUP, [read], scalar.output, arrays={"table": scalar.table}, about=about)

    def attention(self, name: str, x: Node) -> Node:
        """Softmax(q k^T / sqrt(width)) v, projected; the division by the sum of exponentials comes last."""
        module = self.model.get_submodule(name)
        heads, width = module.num_heads, module.head_dim
        assert math.isclose(module.scale, width**-0.5), name
        q, k, v = self.queries_keys_values(name, x, heads, width)
        form = _product_format(q, k)
        scores = self.add(f"{name}.scores", Op.MATMUL, [q, k], form, params={"transposed": 1})
        below = self.add(f"{name}.below_max", Op.BELOW_MAX, [scores], form)
        exp = self.mapped(f"{name}.exp", below, compile_map(softmax_formula(width), EXP_OUTPUT, signed=False))
        total = self.add(f"{name}.total", Op.ROW_SUM, [exp], FixedFormat(ACCUMULATOR_BITS, exp.format.frac))
        mix = self.add(f"{name}.mix", Op.MATMUL, [exp, v], _product_format(exp, v), params={"transposed": 0})
        read = input_format(module.proj)
        assert read is not None, name
        mean = self.add(f"{name}.mean", Op.DIVIDE, [mix, total], read)
        return self.linear(f"{name}.proj", self.add(f"{name}.merged", Op.MERGE, [mean], read))

    def queries_keys_values(self, name: str, x: Node, heads: int, width: int) -> list[Node]:
        """Three tensors of 8 bits, (B, heads, N, width)."""
        size = heads * width
        forms = [self.seen[f"{name}.{part}"].code_format(CODE_BITS) for part in "qkv"]
        each = tuple(form for form in forms for _ in range(size))
        codes = self.add(f"{name}.qkv.codes", Op.REQUANTIZE, [self.linear(f"{name}.qkv", x)], each)
        return [
            self.add(
                f"{name}.{part}",
                Op.HEADS,
                [codes],
                forms[place],
                params={"first": place * size, "heads": heads, "width": width},
            )
            for place, part in enumerate("qkv")
        ]

    def mlp(self, name: str, x: Node) -> Node:
        """Two layers and the activation between them."""
        module = self.model.get_submodule(name)
        formula, read = activation_formula(module.act), input_format(module.fc2)
        assert formula is not None, name
        assert read is not None, name
        hidden = self.mapped(f"{name}.act", self.linear(f"{name}.fc1", x), compile_map(formula, read))
        return self.linear(f"{name}.fc2", hidden)

    def logits(self, x: Node) -> Node:
        """The head's accumulators at one common scale: exact, unless 32 bits cannot hold them so."""
        accumulators = self.linear("head", x)
        largest = float(integer_layer(self.model.head, _read_format(self.model.head, x)).largest.max())
        frac = min(int(accumulators.frac.max()), FixedFormat.covering(largest, ACCUMULATOR_BITS).frac)
        return self.add("logits", Op.REQUANTIZE, [accumulators], FixedFormat(ACCUMULATOR_BITS, frac))


def _read_format(layer: nn.Module, x: Node) -> FixedFormat:
    """The format of what a layer reads: its own, or that of the codes that it takes as they are."""
    return input_format(layer) or x.format


def _product_format(a: Node, b: Node) -> FixedFormat:
    return FixedFormat(ACCUMULATOR_BITS, a.format.frac + b.format.frac)


def _token_constants(model: Any, num_patches: int) -> tuple[FloatArray, int]:
    """Prefix tokens and positions, as they are added, (prefix + N, C), and the length of the prefix."""
    with torch.no_grad():
        parts = [t[0] for t in (model.cls_token, model.reg_token) if t is not None]
        prefix = torch.cat(parts) if parts else model.head.weight.new_zeros(0, model.embed_dim)
        constant = torch.cat([prefix, prefix.new_zeros(num_patches, model.embed_dim)])
        if model.pos_embed is not None:
            constant[len(constant) - model.pos_embed.shape[1] :] += model.pos_embed[0]
    return constant.cpu().double().numpy(), len(prefix)
