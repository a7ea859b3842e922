import struct

import pytest
import timm
import torch
from tensorboardX.proto.event_pb2 import Event
from torch import nn
from torch.nn import functional

from sw.config import ComputeConfig
from sw.ir.errors import InputError
from sw.model.data import TensorImages
from sw.model.recipe import Recipe, parameter_groups, rate_at
from sw.model.runtime import device_name
from sw.model.training import Keeping, fit


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


def train(model, tmp_path, loss=cross_entropy, key="k", compute=None, **changes):
    seed = changes.pop("seed", 3)
    recipe = Recipe(**{"epochs": 6, "lr": 0.02, "weight_decay": 0.1, **changes})
    options = {"batch_size": 16, "seed": seed, "label": "test", "compute": compute}
    kept = Keeping(checkpoint=tmp_path / "c.ckpt", key=key)
    fit(model, images(), loss, recipe, kept=kept, **options)
    kept.discard()
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


def test_what_was_trained_is_kept_until_it_is_safe_elsewhere(tmp_path):
    kept, recipe = Keeping(checkpoint=tmp_path / "c.ckpt", key="k"), Recipe(epochs=2, lr=0.02)
    options = {"batch_size": 16, "seed": 0, "label": "test", "kept": kept}
    model, again = net(), net()
    fit(model, images(), cross_entropy, recipe, **options)

    def never(model, batch, labels):
        raise KilledError

    fit(again, images(), never, recipe, **options)  # killed before it could save the model: nothing to do
    assert equal(model.parameters(), again.parameters())
    kept.discard()
    with pytest.raises(KilledError):
        fit(again, images(), never, recipe, **options)


def test_a_full_disk_is_one_line(tmp_path, monkeypatch):
    def full(*args):
        raise RuntimeError("unexpected pos 64 vs 0\nand more")

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(InputError, match=r"^'.*c\.ckpt' cannot be written: unexpected pos 64 vs 0$"):
        train(net(), tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_killed_training_goes_on_to_the_same_weights(tmp_path):
    undisturbed = train(net(), tmp_path)
    with pytest.raises(KilledError):
        train(net(), tmp_path, loss=killed_after(3))
    assert (tmp_path / "c.ckpt").exists()
    assert equal(undisturbed, train(net(), tmp_path))


@pytest.mark.parametrize("steps", [1, 2, 7, 13, 23])
def test_killed_at_any_step_it_goes_on_from_there(tmp_path, steps):
    undisturbed = train(net(), tmp_path)
    always, calls = ComputeConfig(checkpoint_minutes=0), 0

    def counting(model, batch, labels):
        nonlocal calls
        calls += 1
        if calls == steps + 1:
            raise KilledError
        return cross_entropy(model, batch, labels)

    with pytest.raises(KilledError):
        train(net(), tmp_path, loss=counting, compute=always)
    assert equal(undisturbed, train(net(), tmp_path, loss=counting, compute=always))
    assert calls == 24 + 1  # six epochs of four steps, each once, and the one that was killed


def test_parts_of_a_batch_learn_what_the_batch_does(tmp_path):
    whole, parts = (
        train(net().eval(), tmp_path, loss=without_dropout, compute=ComputeConfig(accumulate=n))
        for n in (1, 3)
    )
    for a, b in zip(whole, parts, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6)


def without_dropout(model, batch, labels):
    model.eval()
    return cross_entropy(model, batch, labels)


def test_mixed_precision_learns_and_keeps_float32_weights(tmp_path):
    seen = []

    def loss(model, batch, labels):
        seen.append(model[1](batch.flatten(1)).dtype)
        return cross_entropy(model, batch, labels)

    model = net()
    train(model, tmp_path, loss=loss, compute=ComputeConfig(precision="bf16"))
    assert set(seen) == {torch.bfloat16}
    x = images()
    output = model(x.images)
    assert output.dtype == torch.float32  # no longer wrapped
    assert all(p.dtype == torch.float32 for p in model.parameters())
    assert (output.argmax(1) == x.labels).float().mean() > 0.85


def test_gradients_are_clipped_where_the_recipe_says_so(tmp_path):
    plain, wide, narrow = (train(net(), tmp_path, clip_norm=norm) for norm in (0.0, 1e9, 1e-3))
    assert equal(plain, wide)
    assert not equal(plain, narrow)


@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU has fp16")
def test_half_precision_without_a_gpu_is_said_to_be_float32(tmp_path, capsys):
    plain = train(net(), tmp_path)
    assert equal(plain, train(net(), tmp_path, compute=ComputeConfig(precision="fp16")))
    said = "compute.precision fp16 needs a GPU; this training takes fp32\n"
    place = f"test: on {device_name()}\n"
    assert capsys.readouterr().out == f"{place}{said}{place}"


def test_scalars_of_every_step_reach_tensorboard(tmp_path):
    model, recipe = net(), Recipe(epochs=2, lr=0.02)
    kept = Keeping(checkpoint=tmp_path / "c.ckpt", scalars=tmp_path / "scalars")
    fit(model, images(), cross_entropy, recipe, batch_size=16, seed=0, label="test", kept=kept)
    (path,) = (tmp_path / "scalars").iterdir()
    found = {}
    for event in events(path.read_bytes()):
        for value in event.summary.value:
            found.setdefault(value.tag, {})[event.step] = value.simple_value
    assert set(found) == {"loss", "lr", "images_a_second"}
    assert all(list(values) == list(range(8)) for values in found.values())
    assert max(found["lr"].values()) == pytest.approx(0.02)


def events(content):
    """The events of a file of records: length, its checksum, the event, its checksum."""
    while content:
        (size,) = struct.unpack("<Q", content[:8])
        yield Event.FromString(content[12 : 12 + size])
        content = content[16 + size :]


@pytest.mark.parametrize("spoil", ["key", b"half a file", b"garbage not a checkpoint", b"PK\3\4", b""])
def test_foreign_or_broken_checkpoint_is_not_continued(tmp_path, spoil):
    undisturbed = train(net(), tmp_path)
    with pytest.raises(KilledError):
        train(net(), tmp_path, loss=killed_after(3), key="other" if spoil == "key" else "k", lr=0.5)
    if spoil != "key":
        (tmp_path / "c.ckpt").write_bytes(spoil)
    assert equal(undisturbed, train(net(), tmp_path))


def test_no_epochs_leave_the_model_alone(tmp_path):
    model = net()
    before = [p.detach().clone() for p in model.parameters()]
    assert equal(before, train(model, tmp_path, epochs=0))


def test_schedules_are_what_their_names_say():
    def rates(schedule):
        recipe = Recipe(epochs=4, lr=1.0, schedule=schedule)
        return [rate_at(step, 10, recipe) for step in range(40)]

    assert rates("constant") == [1.0] * 40
    cosine = rates("cosine")
    assert [len(set(cosine[k : k + 10])) for k in range(0, 40, 10)] == [1] * 4
    model = net()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1.0)
    reference = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=4)
    for epoch in range(4):
        assert cosine[10 * epoch] == pytest.approx(reference.get_last_lr()[0])
        optimizer.step()
        reference.step()
    warm = rates("warm")
    assert warm[0] == 0.5
    assert max(warm) == warm[2] == 1.0
    assert warm[2:] == sorted(warm[2:], reverse=True)


def test_frozen_parameters_stay(tmp_path):
    model = net()
    model[1].requires_grad_(False)
    before = model[1].weight.clone()
    train(model, tmp_path)
    assert torch.equal(model[1].weight, before)


@pytest.mark.parametrize("frozen", [True, False])
def test_statistics_of_frozen_batch_norms_stay(tmp_path, frozen):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(16, 8), nn.BatchNorm1d(8), nn.Linear(8, 2))
    model[2].requires_grad_(not frozen)
    train(model, tmp_path)
    assert torch.equal(model[2].running_mean, torch.zeros(8)) == frozen


def test_later_blocks_learn_faster_and_vectors_do_not_decay():
    options = {"img_size": 8, "patch_size": 4, "embed_dim": 16, "depth": 2, "num_heads": 2}
    model = timm.create_model("vit_tiny_patch16_224", num_classes=4, **options)
    groups = parameter_groups(model, Recipe(epochs=1, lr=1.0, weight_decay=0.1, layer_decay=0.5))
    rate = {id(p): g["lr"] for g in groups for p in g["params"]}
    assert len(rate) == len(list(model.parameters()))
    rates = [
        rate[id(model.get_parameter(n))] for n in ("blocks.0.attn.qkv.weight", "blocks.1.attn.qkv.weight")
    ]
    assert rates[0] == rates[1] / 2
    assert rate[id(model.head.weight)] == 1.0
    assert all(p.ndim > 1 for g in groups if g["weight_decay"] for p in g["params"])
