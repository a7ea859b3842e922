import pytest
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


@pytest.mark.parametrize(
    "wrap", [lambda s: s, lambda s: {"model": s, "epoch": 3}, lambda s: {"state_dict": s}]
)
def test_pth_plain_or_wrapped(tmp_path, wrap):
    model, other = net(), nn.Sequential(nn.Linear(3, 2), nn.LayerNorm(2))
    torch.save(wrap({f"module.{k}": v for k, v in model.state_dict().items()}), tmp_path / "a.pth")
    load_weights(other, tmp_path / "a.pth")
    assert same(model, other)


def test_missing_file_wrong(tmp_path):
    with pytest.raises(InputError, match=r"^checkpoint '.*none.pth' does not exist$"):
        read_weights(tmp_path / "none.pth")


@pytest.mark.parametrize("name", ["a.safetensors", "a.pth"])
def test_file_that_is_no_checkpoint_wrong(tmp_path, name):
    (tmp_path / name).write_bytes(b"hello, this is not a checkpoint")
    with pytest.raises(
        InputError, match=rf"^checkpoint '.*{name}' (cannot be read|must hold nothing but tensors): "
    ):
        read_weights(tmp_path / name)


def test_pickled_code_is_refused(tmp_path):
    torch.save({"weight": print}, tmp_path / "a.pth")
    with pytest.raises(InputError, match=r"^checkpoint '.*a.pth' must hold nothing but tensors: "):
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
