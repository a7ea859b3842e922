import pytest
import torch
from torch import nn
from torch.nn import functional

from sw.config import AlignConfig
from sw.model.align import distillation
from sw.model.data import TensorImages
from sw.model.fold import FoldPlan
from sw.model.refit import refit
from sw.model.training import fit


class KilledError(Exception):
    pass


def images(num=64):
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(num) % 2
    x = 0.5 * torch.randn(num, 1, 4, 4, generator=generator) + 2 * labels[:, None, None, None] - 1
    return TensorImages(x, labels, 16)


def net():
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(16, 8), nn.Tanh(), nn.Dropout(0.2), nn.Linear(8, 2))


def cross_entropy(model, batch, labels):
    return functional.cross_entropy(model(batch), labels)


def train(model, tmp_path, loss=cross_entropy, key="k", **changes):
    options = {"epochs": 6, "lr": 0.02, "weight_decay": 0.1, "batch_size": 16, "seed": 3, "label": "test"}
    fit(model, images(), loss, checkpoint=tmp_path / "c.ckpt", key=key, **(options | changes))
    return [p.detach().clone() for p in model.parameters()]


def equal(a, b):
    return all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


def killed_after(epochs):
    calls = 0

    def loss(model, batch, labels):
        nonlocal calls
        calls += 1
        if calls > 4 * epochs + 2:  # in the middle of an epoch
            raise KilledError
        return cross_entropy(model, batch, labels)

    return loss


def test_training_learns_repeats_and_cleans_up(tmp_path):
    model = net()
    first = train(model, tmp_path)
    assert not model.training
    assert equal(first, train(net(), tmp_path))
    assert not equal(first, train(net(), tmp_path, seed=4))
    assert not (tmp_path / "c.ckpt").exists()
    x = images()
    assert (model(x.images).argmax(1) == x.labels).float().mean() > 0.85


def test_killed_training_goes_on_to_the_same_weights(tmp_path):
    undisturbed = train(net(), tmp_path)
    with pytest.raises(KilledError):
        train(net(), tmp_path, loss=killed_after(3))
    assert (tmp_path / "c.ckpt").exists()
    assert equal(undisturbed, train(net(), tmp_path))


@pytest.mark.parametrize("spoil", ["key", "bytes"])
def test_foreign_or_broken_checkpoint_is_not_continued(tmp_path, spoil):
    undisturbed = train(net(), tmp_path)
    with pytest.raises(KilledError):
        train(net(), tmp_path, loss=killed_after(3), key="other" if spoil == "key" else "k", lr=0.5)
    if spoil == "bytes":
        (tmp_path / "c.ckpt").write_bytes(b"half a file")
    assert equal(undisturbed, train(net(), tmp_path))


def test_no_epochs_leave_the_model_alone(tmp_path):
    model = net()
    before = [p.detach().clone() for p in model.parameters()]
    assert equal(before, train(model, tmp_path, epochs=0))


def fixed(logits):
    class Fixed(nn.Module):
        def forward(self, batch):
            return logits

    return Fixed()


def test_distillation_is_cross_entropy_without_a_teacher_and_zero_at_the_teacher():
    logits = torch.randn(5, 3, generator=torch.Generator().manual_seed(0))
    labels = torch.tensor([0, 1, 2, 0, 1])
    batch = torch.zeros(5, 1)
    alone = distillation(fixed(2 * logits), AlignConfig(kd_weight=0.0))(fixed(logits), batch, labels)
    torch.testing.assert_close(alone, functional.cross_entropy(logits, labels))
    agreed = distillation(fixed(logits), AlignConfig(kd_weight=1.0))(fixed(logits), batch, labels)
    assert abs(float(agreed)) < 1e-6


def test_distillation_is_the_formula():
    generator = torch.Generator().manual_seed(0)
    student, taught = (torch.randn(4, 3, generator=generator) for _ in range(2))
    labels = torch.tensor([0, 1, 2, 0])
    config = AlignConfig(kd_weight=0.3, temperature=2.5)
    p, q = torch.softmax(taught / 2.5, 1), torch.softmax(student / 2.5, 1)
    kl = (p * (p / q).log()).sum(1).mean()
    cross = -torch.log_softmax(student, 1)[torch.arange(4), labels].mean()
    loss = distillation(fixed(taught), config)(fixed(student), torch.zeros(4, 1), labels)
    torch.testing.assert_close(loss, 0.3 * 2.5**2 * kl + 0.7 * cross)


def test_each_head_learns_from_its_own():
    a, b = torch.randn(2, 4, 3, generator=torch.Generator().manual_seed(0)).unbind(0)
    loss = distillation(fixed((a, b)), AlignConfig(kd_weight=1.0))(
        fixed((a, b)), torch.zeros(4, 1), torch.zeros(4).long()
    )
    assert abs(float(loss)) < 1e-6


class Two(nn.Module):
    """Something, then a Linear that should keep computing what it did."""

    def __init__(self, first):
        super().__init__()
        torch.manual_seed(1)
        self.first, self.head = first, nn.Linear(6, 3)

    def forward(self, batch):
        return self.head(self.first(batch[:, 0]))


def test_refit_undoes_an_invertible_change_of_the_input():
    generator = torch.Generator().manual_seed(0)
    mixing = torch.eye(6) + 0.2 * torch.randn(6, 6, generator=generator)
    changed = nn.Linear(6, 6)
    with torch.no_grad():
        changed.weight.copy_(mixing)
        changed.bias.fill_(0.7)
    original, model = Two(nn.Identity()), Two(changed)
    data = TensorImages(torch.randn(300, 1, 5, 6, generator=generator), torch.zeros(300).long(), 50)
    before = (model(data.images) - original(data.images)).std()
    refit(model, original, {"first": FoldPlan(("head",))}, data, 300)
    after = (model(data.images) - original(data.images)).std()
    assert after < 0.02 * before


def test_refit_of_an_unchanged_model_changes_nothing():
    original, model = Two(nn.Identity()), Two(nn.Identity())
    data = TensorImages(
        torch.randn(100, 1, 5, 6, generator=torch.Generator().manual_seed(0)), torch.zeros(100), 50
    )
    refit(model, original, {"first": FoldPlan(("head",))}, data, 100)
    torch.testing.assert_close(model.head.weight, original.head.weight, rtol=1e-5, atol=1e-6)
