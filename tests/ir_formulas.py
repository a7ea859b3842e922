"""Random formulas for property tests."""

from fractions import Fraction

from hypothesis import strategies as st

from sw.ir.expr import BINARY, UNARY, X, clip, const, node

decimals = st.integers(-4000, 4000).map(lambda n: const(Fraction(n, 1000)))
leaves = st.just(X) | decimals


def _grown(children):
    limits = st.tuples(st.integers(-40, 0), st.integers(1, 40))
    return (
        st.builds(node, st.sampled_from(UNARY), children)
        | st.builds(node, st.sampled_from(BINARY), children, children)
        | st.builds(lambda e, p: node("pow", e, power=p), children, st.integers(-2, 3))
        | st.builds(lambda e, b: clip(e, const(b[0]), const(b[1])), children, limits)
        | st.builds(clip, children)
    )


formulas = st.recursive(leaves, _grown, max_leaves=6)
"""Any formula."""


def _safe(children):
    unary = ("neg", "abs", "relu", "square", "floor", "tanh", "sigmoid", "erf", "atan", "sin")
    binary = ("add", "sub", "mul", "min", "max")
    return (
        st.builds(node, st.sampled_from(unary), children)
        | st.builds(node, st.sampled_from(binary), children, children)
        | st.builds(clip, children)
    )


total_formulas = st.recursive(leaves, _safe, max_leaves=5)
"""Formulas that are finite everywhere."""


def _straight(children):
    return (
        st.builds(node, st.sampled_from(("neg", "abs", "relu")), children)
        | st.builds(node, st.sampled_from(("add", "sub", "min", "max")), children, children)
        | st.builds(lambda e, c: node("mul", e, c), children, decimals)
        | st.builds(clip, children)
    )


line_formulas = st.recursive(leaves, _straight, max_leaves=6)
"""Formulas made of straight lines."""
