import argparse
import fractions

import pytest
import timm
import torch
from torch import nn

from sw.ir.errors import InputError
from sw.model.weights import load_weights, read_weights, save_weights


def net():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 2), nn.LayerNorm(2))


def same(a, b):
    return all(
        torch.equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True)
    )


def test_safetensors_round_trip_and_equal_bytes(tmp_path):
    model, other = net(), nn.Sequential(nn.Linear(3, 2), nn.LayerNorm(2))
    save_weights(tmp_path / "a.safetensors", model)
    save_weights(tmp_path / "b.safetensors", model)
    load_weights(other, tmp_path / "a.safetensors")
    assert same(model, other)
    assert (tmp_path / "a.safetensors").read_bytes() == (tmp_path / "b.safetensors").read_bytes()


ARGUMENTS = argparse.Namespace(epochs=1, opt="adamw", mean=[0.5, 0.5, 0.5])


@pytest.mark.parametrize(
    "wrap",
    [
        lambda s: s,
        lambda s: {"model": s, "epoch": 3},
        lambda s: {"arch": "vit", "args": ARGUMENTS, "state_dict": s},  # as timm's train.py
    ],
)
def test_pth_plain_or_wrapped(tmp_path, wrap):
    model, other = net(), nn.Sequential(nn.Linear(3, 2), nn.LayerNorm(2))
    torch.save(wrap({f"module.{k}": v for k, v in model.state_dict().items()}), tmp_path / "a.pth")
    load_weights(other, tmp_path / "a.pth")
    assert same(model, other)


def test_the_first_of_several_processes_writes(tmp_path, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    for rank in (1, 0):
        monkeypatch.setenv("RANK", str(rank))
        save_weights(tmp_path / "a.safetensors", net())
        assert (tmp_path / "a.safetensors").exists() == (rank == 0)


def test_missing_file_wrong(tmp_path):
    with pytest.raises(InputError, match=r"^checkpoint '.*none.pth' does not exist$"):
        read_weights(tmp_path / "none.pth")


def test_another_number_of_classes_is_said_how_to_set(tmp_path):
    kwargs = {"img_size": 32, "depth": 1, "embed_dim": 16, "num_heads": 2}
    name = "vit_tiny_patch16_224"
    save_weights(tmp_path / "a.safetensors", timm.create_model(name, **kwargs, num_classes=3))
    hint = r"\(2 keys do not fit\); model\.kwargs\.num_classes = 3 builds it with as many classes$"
    with pytest.raises(InputError, match=hint):
        load_weights(timm.create_model(name, **kwargs), tmp_path / "a.safetensors")
    with pytest.raises(InputError, match=r"keys do not fit\)$"):
        load_weights(
            timm.create_model(name, **kwargs | {"embed_dim": 32, "num_classes": 3}),
            tmp_path / "a.safetensors",
        )


NO_CHECKPOINT = [b"hello, this is not a checkpoint", b"epoch: 5\nfoo", b"", b"PK\x03\x04", bytes(range(256))]


@pytest.mark.parametrize("content", NO_CHECKPOINT)
@pytest.mark.parametrize(("name", "reader"), [("a.safetensors", "safetensors"), ("a.pth", "torch")])
def test_file_that_is_no_checkpoint_wrong(tmp_path, name, reader, content):
    (tmp_path / name).write_bytes(content)
    rule = rf"^checkpoint '.*{name}' is not a checkpoint that {reader} can read$"
    with pytest.raises(InputError, match=rule):
        read_weights(tmp_path / name)


def test_checkpoint_cut_off_wrong(tmp_path):
    torch.save(net().state_dict(), tmp_path / "a.pth")
    whole = (tmp_path / "a.pth").read_bytes()
    (tmp_path / "a.pth").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError, match=r"a.pth' is not a checkpoint that torch can read$"):
        read_weights(tmp_path / "a.pth")


PICKLED = [
    ({"weight": print}, "'print'"),
    (net(), r"'torch\.nn\.modules\.container\.Sequential'"),
    ({"model": net().state_dict(), "rate": fractions.Fraction(1, 3)}, r"'fractions\.Fraction'"),
]


@pytest.mark.parametrize(("held", "name"), PICKLED)
@pytest.mark.parametrize("zipped", [True, False])
def test_pickled_code_is_refused(tmp_path, held, name, zipped):
    torch.save(held, tmp_path / "a.pth", _use_new_zipfile_serialization=zipped)
    rule = rf"^checkpoint '.*a.pth' holds a pickled {name}; save model\.state_dict\(\) instead$"
    with pytest.raises(InputError, match=rule):
        read_weights(tmp_path / "a.pth")


@pytest.mark.filterwarnings("ignore:.torch.jit:FutureWarning", "ignore:.torch.jit:DeprecationWarning")
def test_torchscript_archive_wrong(tmp_path):
    torch.jit.save(torch.jit.trace(net(), torch.zeros(1, 3)), tmp_path / "a.pth")
    rule = r"^checkpoint '.*a.pth' holds a TorchScript archive; save model\.state_dict\(\) instead$"
    with pytest.raises(InputError, match=rule):
        read_weights(tmp_path / "a.pth")


def test_checkpoint_of_something_else_wrong(tmp_path):
    torch.save([1, 2], tmp_path / "a.pth")
    with pytest.raises(InputError, match=r"must be a state dict \(names to tensors\)$"):
        read_weights(tmp_path / "a.pth")


def test_checkpoint_that_does_not_fit_wrong(tmp_path):
    state = net().state_dict()
    del state["1.weight"]
    state["2.extra"] = torch.zeros(1)
    state["0.weight"] = torch.zeros(5, 5)
    torch.save(state, tmp_path / "a.pth")
    rule = (
        r"must fit the model; it has '0.weight' of shape \(5, 5\) for \(2, 3\), lacks '1.weight', "
        r"has an unexpected '2.extra' \(3 keys do not fit\)$"
    )
    with pytest.raises(InputError, match=rule):
        load_weights(net(), tmp_path / "a.pth")


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_wrong(tmp_path, value):
    model = net()
    with torch.no_grad():
        model[1].weight[0] = model[1].bias[1] = value
    save_weights(tmp_path / "a.safetensors", model)
    rule = r"^checkpoint '.*' must hold finite weights, and '1.weight' has a NaN or an infinity$"
    with pytest.raises(InputError, match=rule):
        load_weights(net(), tmp_path / "a.safetensors")


def test_buffer_may_be_infinite(tmp_path):
    model = net()
    model.register_buffer("mask", torch.tensor([0.0, float("-inf")]))
    save_weights(tmp_path / "a.safetensors", model)
    load_weights(model, tmp_path / "a.safetensors")
