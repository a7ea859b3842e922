"""The drop-in layer that takes a LayerNorm's place: one scalar function and a per-channel affine."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from fractions import Fraction

import torch
from torch import Tensor, nn

from sw.ir.expr import Expr, X, interpret_expr, replaced
from sw.model.inner_scale import reading
from sw.model.sites import along_channels


def _power(base: Tensor, exponent: int) -> Tensor:
    return torch.pow(base, exponent)


def _floor(value: Tensor) -> Tensor:
    """Floor with the gradient of the identity: a staircase is trained as the line that it follows."""
    return value + (torch.floor(value) - value).detach()


TORCH_OPS: dict[str, Callable[..., Tensor]] = {
    "add": torch.add,
    "sub": torch.sub,
    "mul": torch.mul,
    "div": torch.div,
    "min": torch.minimum,
    "max": torch.maximum,
    "pow": _power,
    "neg": torch.neg,
    "abs": torch.abs,
    "relu": torch.relu,
    "square": torch.square,
    "floor": _floor,
    "tanh": torch.tanh,
    "sigmoid": torch.sigmoid,
    "erf": torch.erf,
    "exp": torch.exp,
    "log": torch.log,
    "sqrt": torch.sqrt,
    "atan": torch.atan,
    "sin": torch.sin,
    "clip": torch.clamp,
}
"""Every operation of a formula, on tensors."""


def evaluate(expr: Expr, x: Tensor, learned: Mapping[Fraction, Tensor] | None = None) -> Tensor:
    """The formula elementwise, in the dtype of ``x``, differentiable.

    Args:
        expr: The formula.
        x: Its argument.
        learned: What takes the place of constants.
    """

    def constant(value: Fraction) -> Tensor:
        if learned is not None:
            return learned[value].to(x.dtype)
        return x.new_full((), value.numerator / value.denominator)  # a fill: nothing is copied from the host

    return interpret_expr(expr, x, constant, TORCH_OPS).expand_as(x)


def constants_of(expr: Expr) -> list[Fraction]:
    """The different constants of a formula, in rising order."""
    found: set[Fraction] = set()

    def constant(value: Fraction) -> Tensor:
        found.add(value)
        return torch.tensor(float(value))

    interpret_expr(expr, torch.zeros(()), constant, TORCH_OPS)
    return sorted(found)


INNER_RATE = 10.0
"""An inner scale is exp(10 p): a step that moves weights by a thousandth moves it by 1 %, about as much as an
alpha of 0.1 in DyT."""


class ScalarNorm(nn.Module):
    """``f(x) * weight + bias``: f the same for every element, weight and bias one per channel, shape (C,).

    f is as it was found, unless ``learn_constants`` or ``learn_inner_scale`` is called.

    Args:
        expr: f.
        weight: gamma times f's outer scale.
        bias: beta plus gamma times f's outer offset.
        dim: Dimension of the channels; -1, or 1 for NCHW.
    """

    def __init__(self, expr: Expr, weight: Tensor, bias: Tensor, dim: int = -1) -> None:
        super().__init__()
        self.expr, self.dim = expr, dim
        self.weight = nn.Parameter(weight.detach().clone())
        self.bias = nn.Parameter(bias.detach().clone())
        self.constants: nn.Parameter | None = None
        self._values: list[Fraction] = []
        self.inner: nn.Parameter | None = None

    def learn_constants(self) -> None:
        """From now on f's constants, of which equal ones stay equal, are parameters of the layer, too."""
        self._values = constants_of(self.expr)
        self.constants = nn.Parameter(self.weight.new_tensor([float(value) for value in self._values]))

    def learn_inner_scale(self) -> None:
        """From now on compute f of ``inner_scale`` times what f reads; it is a parameter, 1 at first."""
        self._read = reading(self.expr)
        self._rest = replaced(self.expr, self._read, X)
        self.inner = nn.Parameter(self.weight.new_zeros(()))

    @property
    def inner_scale(self) -> Tensor:
        """The factor of what f reads, a scalar."""
        return torch.exp(INNER_RATE * self.inner) if self.inner is not None else self.weight.new_ones(())

    def settle(self, expr: Expr, gain: float, offset: float) -> None:
        """Take a formula that gives ``gain`` times what f, inner scale and all, gives, plus ``offset``.

        Weight and bias make up for both: the layer computes what it did. The scale is no parameter any more.
        """
        with torch.no_grad():
            self.weight.div_(gain)
            self.bias.sub_(offset * self.weight)
        self.expr, self.inner = expr, None

    def forward(self, x: Tensor) -> Tensor:
        x = x.to(torch.promote_types(x.dtype, torch.float32))  # as LayerNorm does it: half holds no squares
        learned = None if self.constants is None else dict(zip(self._values, self.constants, strict=True))
        expr = self.expr
        if self.inner is not None:
            expr, x = self._rest, evaluate(self._read, x) * self.inner_scale
        weight = along_channels(self.weight, x.ndim, self.dim)
        bias = along_channels(self.bias, x.ndim, self.dim)
        return evaluate(expr, x, learned) * weight + bias

    def extra_repr(self) -> str:
        return f"{self.expr}, channels={len(self.weight)}"
