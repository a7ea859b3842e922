"""Cycles of an encoder block as a pipeline of stages: its slowest stage sets the pace."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class Stage:
    """A stage that goes over rows several times.

    Args:
        name: As tables call it.
        rows: Tokens.
        row: Elements of a row, or other work that a row takes.
        passes: Times that a row is gone over before the next one.
        rows_at_a_time: Rows side by side.
        row_at_a_time: Elements of a row side by side.
        extra: Cycles besides.
    """

    name: str
    rows: int
    row: int
    passes: int = 1
    rows_at_a_time: int = 1
    row_at_a_time: int = 1
    extra: int = 0

    @property
    def cycles(self) -> int:
        """From one image to the next."""
        groups = -(-self.rows // self.rows_at_a_time)
        return groups * self.passes * -(-self.row // self.row_at_a_time) + self.extra


def interval(stages: list[Stage]) -> int:
    """Cycles from one image to the next through all stages: those of the slowest."""
    return max(stage.cycles for stage in stages)


def hg_pipe_mlp(*, scalar: bool, tokens: int = 196, channels: int = 192) -> list[Stage]:
    """The MLP block of HG-PIPE (arXiv 2407.17879) for DeiT-Tiny: tokens in pairs, an element a cycle each.

    Its LayerNorm goes over a row three times; its matrix products take 16 x 32 cycles a pair. With a scalar
    function in place of the norm a row is gone over once.
    """
    norm = Stage(name="norm", rows=tokens, row=channels, rows_at_a_time=2, passes=1 if scalar else 3,
                 extra=0 if scalar else 1)  # fmt: skip
    product = Stage(name="matrix product", rows=tokens, row=16 * 32, rows_at_a_time=2)
    return [norm, product, Stage(name="matrix product", rows=tokens, row=16 * 32, rows_at_a_time=2)]


def hg_pipe_attention(tokens: int = 196) -> Stage:
    """Its softmax, which bounds the attention block whatever the norm does: three passes over the scores."""
    return Stage(name="softmax", rows=tokens, row=tokens, rows_at_a_time=2, passes=3, extra=1)
