"""Making new trees: simplification, seeds of known form, DEAP's crossover and mutations."""

from __future__ import annotations

import functools
import math
import random
from collections.abc import Sequence
from typing import Any

from deap import gp as deap_gp

from gp.evaluator import FORWARD
from gp.primitives import CONSTANT, Tree, constant, from_expr, kind, primitive_set
from sw.ir.parse import parse

KNOWN_FORMS = (
    "x",
    "clip(2*x)",
    "clip(4*x)",
    "clip(x*8)",
    "tanh(x)",
    "tanh(0.4*x)",
    "tanh(x + 0.1)",
    "sigmoid(x + 0.1)",
    "clip(2*x) + x",
    "clip(4*x + 0.2)",
    "clip(3*x) + clip(x)",
    "clip(8*x) + clip(x)",
    "x + tanh(x)",
    "tanh(clip(x))",
    "tanh(2*x) + tanh(0.4*x)",
    "min(x, 1) + max(x, -1)",
    "min(2*x + max(x, -2), 3)",
    "max(min(x, 2), -2)",
    "x*(4 - abs(x))",
    "clip(x)*(8 - abs(clip(x)))",
    "x*sigmoid(0.2*x)",
    "clip(x*tanh(x + 1))",
)
"""Shapes that are known to do well, published or found by enumeration; their constants are only a start."""
TERMINAL_SHARE = 0.33
"""Crossover picks a leaf this often; operators are twice as likely, as in the paper."""
MIN_INIT, MAX_INIT = 1, 4


def known_trees() -> list[Tree]:
    """The known forms as trees."""
    return [from_expr(parse(text)) for text in KNOWN_FORMS]


def random_tree() -> Tree:
    """A new tree of depth 1 to 4."""
    return deap_gp.PrimitiveTree(deap_gp.genHalfAndHalf(primitive_set(), MIN_INIT, MAX_INIT))


def crossed(first: Tree, second: Tree, max_nodes: int) -> list[Tree]:
    """Two children by subtree exchange; parents stand in for children of more than ``max_nodes``."""
    for _ in range(3):
        a, b = deap_gp.cxOnePointLeafBiased(
            deap_gp.PrimitiveTree(first), deap_gp.PrimitiveTree(second), termpb=TERMINAL_SHARE
        )
        if max(len(a), len(b)) <= max_nodes:
            return [a, b]
    return [first, second]


def mutated(tree: Tree, max_nodes: int) -> Tree:
    """A copy with one change: a new subtree, a node replaced, inserted or removed, or constants moved."""
    copy = deap_gp.PrimitiveTree(tree)
    change = random.choice(_MUTATIONS)
    result: Tree = change(copy)
    return result if len(result) <= max_nodes else tree


def _new_subtree(tree: Tree) -> Tree:
    grow = functools.partial(deap_gp.genGrow, min_=0, max_=2)
    return deap_gp.mutUniform(tree, expr=grow, pset=primitive_set())[0]


def _new_node(tree: Tree) -> Tree:
    return deap_gp.mutNodeReplacement(tree, pset=primitive_set())[0]


def _inserted(tree: Tree) -> Tree:
    return deap_gp.mutInsert(tree, pset=primitive_set())[0]


def _shrunk(tree: Tree) -> Tree:
    return deap_gp.mutShrink(tree)[0]


def _moved_constants(tree: Tree) -> Tree:
    for index, leaf in enumerate(tree):
        if kind(leaf) == CONSTANT:
            tree[index] = constant(leaf.value * math.exp(random.gauss(0.0, 0.5)) + random.gauss(0.0, 0.05))
    return tree


_MUTATIONS = (_new_subtree, _new_node, _inserted, _shrunk, _moved_constants)


def simplify(tree: Sequence[Any]) -> Tree:
    """An equivalent tree, up to an outer affine, without constant subtrees and double negations.

    The outer scale and offset are free, so an outermost addition of, or multiplication by, a constant
    is dropped, and so are an outermost negation, doubling and halving.
    """
    stack: list[list[Any]] = []
    for item in reversed(tree):
        args = [stack.pop() for _ in range(item.arity)]
        if not args:
            stack.append([item])
        elif all(len(a) == 1 and kind(a[0]) == CONSTANT for a in args):
            stack.append([constant(float(FORWARD[item.name](*[a[0].value for a in args])))])
        elif (item.name, kind(args[0][0])) in _UNDONE:
            stack.append(args[0][1:])
        elif item.name in _IDEMPOTENT and kind(args[0][0]) == item.name:
            stack.append(args[0])
        else:
            stack.append([item, *(leaf for a in args for leaf in a)])
    return deap_gp.PrimitiveTree(_without_affine(stack[0]))


_UNDONE = {("neg", "neg"), ("double", "half"), ("half", "double")}
"""Pairs of operations that cancel each other."""
_IDEMPOTENT = ("clip", "abs")


def _without_affine(nodes: list[Any]) -> list[Any]:
    while True:
        name = kind(nodes[0])
        if name in ("neg", "double", "half"):
            nodes = nodes[1:]
        elif name in ("add", "mul") and kind(nodes[1]) == CONSTANT:
            nodes = nodes[2:]
        elif name in ("add", "mul") and kind(nodes[-1]) == CONSTANT and _is_last_argument(nodes):
            nodes = nodes[1:-1]
        else:
            return nodes


def _is_last_argument(nodes: list[Any]) -> bool:
    """Whether the last node alone is the second argument of the binary root."""
    return deap_gp.PrimitiveTree(nodes).searchSubtree(1).stop == len(nodes) - 1
