import pytest
import torch
from torch import nn
from torch.nn import functional

from sw.config import AlignConfig
from sw.model.distil import Distillation, blocks_of, outputs_of


def fixed(logits):
    class Fixed(nn.Module):
        def forward(self, batch):
            return logits

    return Fixed()


def test_distillation_is_cross_entropy_without_a_teacher_and_zero_at_the_teacher():
    logits = torch.randn(5, 3, generator=torch.Generator().manual_seed(0))
    labels = torch.tensor([0, 1, 2, 0, 1])
    batch = torch.zeros(5, 1)
    alone = Distillation(fixed(2 * logits), AlignConfig(kd_weight=0.0))(fixed(logits), batch, labels)
    torch.testing.assert_close(alone, functional.cross_entropy(logits, labels))
    agreed = Distillation(fixed(logits), AlignConfig(kd_weight=1.0))(fixed(logits), batch, labels)
    assert abs(float(agreed)) < 1e-6


def test_a_teacher_that_teaches_nothing_is_not_run():
    teacher = nn.Module()  # it has no forward
    logits, labels = (
        torch.randn(5, 3, generator=torch.Generator().manual_seed(0)),
        torch.tensor([0, 1, 2, 0, 1]),
    )
    loss = Distillation(teacher, AlignConfig(kd_weight=0.0))(fixed(logits), torch.zeros(5, 1), labels)
    torch.testing.assert_close(loss, functional.cross_entropy(logits, labels))


def test_distillation_is_the_formula():
    generator = torch.Generator().manual_seed(0)
    student, taught = (torch.randn(4, 3, generator=generator) for _ in range(2))
    labels = torch.tensor([0, 1, 2, 0])
    config = AlignConfig(kd_weight=0.3, temperature=2.5)
    p, q = torch.softmax(taught / 2.5, 1), torch.softmax(student / 2.5, 1)
    kl = (p * (p / q).log()).sum(1).mean()
    cross = -torch.log_softmax(student, 1)[torch.arange(4), labels].mean()
    loss = Distillation(fixed(taught), config)(fixed(student), torch.zeros(4, 1), labels)
    torch.testing.assert_close(loss, 0.3 * 2.5**2 * kl + 0.7 * cross)


def test_each_head_learns_from_its_own():
    a, b = torch.randn(2, 4, 3, generator=torch.Generator().manual_seed(0)).unbind(0)
    loss = Distillation(fixed((a, b)), AlignConfig(kd_weight=1.0))(
        fixed((a, b)), torch.zeros(4, 1), torch.zeros(4).long()
    )
    assert abs(float(loss)) < 1e-6


class Body(nn.Module):
    """A block and a head."""

    def __init__(self):
        super().__init__()
        self.block, self.head = nn.Linear(4, 6), nn.Linear(6, 3)

    def forward(self, x):
        return self.head(self.block(x))


def test_features_are_compared_in_units_of_the_teachers_variance():
    torch.manual_seed(0)
    teacher, student = Body(), Body()
    x, labels = torch.randn(16, 4), torch.arange(16) % 3
    plain = Distillation(teacher, AlignConfig(), ["block"])(student, x, labels)
    both = Distillation(teacher, AlignConfig(feature_weight=2.0), ["block"])(student, x, labels)
    ours, theirs = student.block(x), teacher.block(x)
    expected = 2.0 * ((ours - theirs) ** 2).mean() / theirs.var()
    torch.testing.assert_close(both - plain, expected)
    same = Distillation(teacher, AlignConfig(feature_weight=2.0, kd_weight=1.0), ["block"])
    assert float(same(teacher, x, labels).detach()) == pytest.approx(0, abs=1e-6)


def test_blocks_are_the_modules_around_the_sites():
    sites = ["blocks.0.norm1", "blocks.0.norm2", "blocks.1.norm1", "norm"]
    assert blocks_of(sites) == ["blocks.0", "blocks.1"]


def test_nothing_is_watched_after_the_context():
    body = Body()
    with outputs_of(body, ["block"]) as found:
        body(torch.zeros(1, 4))
    assert found["block"].shape == (1, 6)
    found.clear()
    body(torch.zeros(1, 4))
    assert not found
