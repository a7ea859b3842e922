import numpy as np
import pytest
import timm
import torch
from timm.layers import LayerNorm2d
from torch import nn
from torch.nn import functional

from sw.config import from_dict
from sw.files import read_json
from sw.ir.errors import InputError
from sw.model import capture, original
from sw.model.capture import record
from sw.model.data import TensorImages
from sw.model.runtime import device
from sw.model.sensitivity import squared_gradients, to_weights
from sw.model.sites import find_sites
from sw.run_dir import RunDir

SMALL = {"img_size": 8, "patch_size": 4, "in_chans": 1, "num_classes": 3, "embed_dim": 16, "num_heads": 2}
CHANNELS = 6


class Recurrent(nn.Module):
    """One norm called twice, its output changed in place, the input cut off, and a norm that nobody reads."""

    def __init__(self):
        super().__init__()
        self.norm, self.unread = nn.LayerNorm(16), nn.LayerNorm(16)
        self.mix, self.head = nn.Linear(16, 16), nn.Linear(16, 3)

    def forward(self, images):
        x = images.flatten(1).detach()[:, ::4]
        once = self.mix(self.norm(x).relu_())
        self.unread(once)
        return self.head(self.norm(once).mul_(2))


def vit(depth=1):
    return timm.create_model("vit_tiny_patch16_224", depth=depth, **SMALL)


def convolution():
    head = nn.Sequential(nn.AdaptiveAvgPool2d(2), nn.GELU(), nn.Flatten(), nn.Linear(4 * CHANNELS, 3))
    return nn.Sequential(nn.Conv2d(1, CHANNELS, 3), LayerNorm2d(CHANNELS), *head)


def generic(model):
    """Every parameter moved to a random place, so that no gamma is 1 and no two channels are alike."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator), alpha=0.5)
    return model.double().eval().to(device())


def pictures(batch_size=5, dtype=torch.float64):
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(10, 1, 8, 8, generator=generator).to(dtype)
    return TensorImages(images, torch.arange(10) % 3, batch_size)


def loss_with(model, site, call, position, step, images, labels):
    """The loss where y is moved at one position of one call; y itself comes from the norm without affine."""
    calls = iter(range(9))

    def hook(norm, args, output):
        x = args[0].movedim(1, -1) if isinstance(norm, LayerNorm2d) else args[0]
        y = functional.layer_norm(x, norm.normalized_shape, eps=norm.eps)
        y = y.movedim(-1, 1) if isinstance(norm, LayerNorm2d) else y
        if next(calls) == call:
            y = y.contiguous()
            y.view(-1)[position] += step
        if isinstance(norm, LayerNorm2d):
            return y * norm.weight[:, None, None] + norm.bias[:, None, None]
        return y * norm.weight + norm.bias

    handle = model.get_submodule(site).register_forward_hook(hook)
    with torch.no_grad():
        log_p = torch.log_softmax(model(images), dim=1)
    handle.remove()
    return -sum(float(log_p[i, label]) for i, label in enumerate(labels.tolist()))


@pytest.mark.parametrize(
    ("build", "site", "num_calls", "size"),
    [
        (vit, "blocks.0.norm1", 1, 10 * 5 * 16),
        (vit, "norm", 1, 10 * 5 * 16),
        (convolution, "1", 1, 10 * CHANNELS * 6 * 6),
        (Recurrent, "norm", 2, 10 * 16),
    ],
)
def test_gradients_are_the_finite_differences_of_the_loss(build, site, num_calls, size):
    torch.manual_seed(0)
    model = generic(build())
    images, labels = (t.to(device()) for t in next(pictures(10).batches()))
    generator = torch.Generator().manual_seed(2)
    positions = [torch.randperm(size, generator=generator)[:12].to(device()) for _ in range(num_calls)]
    found = squared_gradients(model, {site: positions}, images, labels)[site]
    step, norms = 1e-5, [np.sqrt(f) for f in found]
    for call in range(num_calls):
        ends = [
            [loss_with(model, site, call, int(p), sign * step, images, labels) for sign in (-1, 1)]
            for p in positions[call]
        ]
        expected = [abs(high - low) / (2 * step) for low, high in ends]
        assert max(expected) > 1e-3
        np.testing.assert_allclose(norms[call], expected, rtol=1e-4, atol=1e-8)


@pytest.mark.parametrize("frozen", [False, True])
def test_weights_are_the_closed_form_of_a_linear_head(frozen):
    torch.manual_seed(0)
    model = generic(nn.Sequential(nn.Flatten(), nn.LayerNorm(64), nn.Linear(64, 3)))
    model.requires_grad_(not frozen)
    source = pictures()
    seen = record(model, ["1"], source, limit=10, pairs=10_000, sensitivity=True)["1"]
    _, norm, head = (m.cpu() for m in model)
    x, labels = source.images.flatten(1).numpy(), source.labels.numpy()
    gamma, beta, weight, bias = (p.detach().numpy() for p in (*norm.parameters(), *head.parameters()))
    y = (x - x.mean(1, keepdims=True)) / np.sqrt(x.var(1, keepdims=True) + norm.eps)
    powers = np.exp((y * gamma + beta) @ weight.T + bias)
    error = powers / powers.sum(1, keepdims=True) - np.eye(3)[labels]
    squares = ((error @ weight) * gamma) ** 2
    assert len({*x.flatten()}) == x.size
    order = np.argsort(np.concatenate(seen.x))
    found = to_weights("1", np.concatenate(seen.squares))[order]
    np.testing.assert_allclose(
        found, (squares / squares.mean()).flatten()[np.argsort(x.flatten())], rtol=1e-9
    )
    assert found.mean() == pytest.approx(1, rel=1e-12)
    assert all(p.grad is None for p in model.parameters())


def test_pairs_and_generator_are_the_same_with_and_without():
    torch.manual_seed(0)
    model = vit(depth=2).eval().to(device())
    sites, records, states = list(find_sites(model)), [], []
    for sensitivity in (False, True):
        torch.manual_seed(7)
        source = pictures(4, torch.float32)
        records.append(record(model, sites, source, limit=9, pairs=300, sensitivity=sensitivity))
        states.append(torch.get_rng_state())
    assert torch.equal(*states)
    for site in sites:
        without, seen = (r[site] for r in records)
        assert np.array_equal(np.concatenate(without.x), np.concatenate(seen.x))
        assert np.array_equal(np.concatenate(without.y), np.concatenate(seen.y))
        assert without.statistics() == seen.statistics()
        assert without.squares == []
        assert [len(s) for s in seen.squares] == [len(x) for x in seen.x] == [133, 133, 34]
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())


def test_batch_size_does_not_matter():
    torch.manual_seed(0)
    model = generic(vit())
    found = []
    for batch_size in (1, 4, 10):
        seen = record(model, ["norm"], pictures(batch_size), limit=10, pairs=10_000, sensitivity=True)["norm"]
        found.append(np.concatenate(seen.squares)[np.argsort(np.concatenate(seen.x))])
    assert len(found[0]) == 10 * 5 * 16
    np.testing.assert_allclose(found[0], found[1], rtol=1e-6, atol=1e-12)
    np.testing.assert_allclose(found[0], found[2], rtol=1e-6, atol=1e-12)


def test_image_that_the_model_is_sure_of_has_a_gradient():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.LayerNorm(64), nn.Linear(64, 2)).eval().to(device())
    with torch.no_grad():
        model[2].weight.copy_(torch.stack([torch.ones(64), torch.zeros(64)]))
        model[2].bias.copy_(torch.tensor([20.0, 0.0]))  # p = 1 - 2e-9, which float32 does not hold
    images = pictures(1, torch.float32).images[:1].to(device())
    labels = torch.zeros(1, dtype=torch.long, device=device())
    positions = torch.arange(64, device=device())
    (squares,) = squared_gradients(model, {"1": [positions]}, images, labels)["1"]
    np.testing.assert_allclose(np.sqrt(squares), 1 / (1 + np.exp(20)), rtol=1e-4)


def test_norm_that_the_loss_does_not_depend_on_has_zeros():
    torch.manual_seed(0)
    model = generic(Recurrent())
    seen = record(model, ["norm", "unread"], pictures(), limit=10, pairs=100, sensitivity=True)
    assert not np.concatenate(seen["unread"].squares).any()
    assert np.concatenate(seen["norm"].squares).any()
    for frozen in (False, True):
        model.requires_grad_(not frozen)
        alone = record(model, ["unread"], pictures(), limit=10, pairs=100, sensitivity=True)["unread"]
        assert not np.concatenate(alone.squares).any()


def test_flat_loss_weighs_every_pair_alike_and_says_so(capsys):
    weights = to_weights("norm", np.zeros(5))
    assert weights.tolist() == [1] * 5
    line = "norm: every pair weighs 1, because the loss has gradient 0 at all of them\n"
    assert capsys.readouterr().out == line
    assert to_weights("norm", np.array([0.0, 3.0])).tolist() == [0, 2]
    assert capsys.readouterr().out == ""


def test_gradient_that_is_not_finite_wrong():
    torch.manual_seed(0)
    model = vit().eval().to(device())
    with torch.no_grad():
        model.head.bias[1] = float("inf")
    with pytest.raises(
        InputError, match=r"^gradients at site 'norm' must be finite, and some are NaN or infinite$"
    ):
        record(
            model,
            list(find_sites(model)),
            pictures(dtype=torch.float32),
            limit=10,
            pairs=100,
            sensitivity=True,
        )
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())


@pytest.mark.parametrize("label", [-1, 3])
def test_label_out_of_range_wrong(label):
    torch.manual_seed(0)
    model = vit().eval().to(device())
    source = pictures(dtype=torch.float32)
    source.labels[4] = label
    with pytest.raises(InputError, match=rf"^labels must be 0\.\.2, the model's classes, not {label}$"):
        record(model, ["norm"], source, limit=10, pairs=100, sensitivity=True)
    assert len(record(model, ["norm"], source, limit=10, pairs=100)["norm"].x) == 2


def open_run(folder, **captured):
    body = {
        "runs_dir": str(folder),
        "model": {"name": "vit_tiny_patch16_224", "kwargs": SMALL | {"num_classes": 10, "depth": 1}},
        "capture": {"pairs": 500, "images": 64} | captured,
    }
    return RunDir.create(from_dict(body))


def test_stage_stores_weights_only_where_asked(tmp_path):
    run = open_run(tmp_path)
    original.STAGE.run(run)
    capture.STAGE.run(run)
    plain = dict(np.load(run.captures))
    assert read_json(run.capture_stats)["sensitivity"] is False
    weighted = open_run(tmp_path, sensitivity=True)
    capture.STAGE.run(weighted)
    arrays, body = dict(np.load(weighted.captures)), read_json(weighted.capture_stats)
    assert body["sensitivity"] is True
    assert {name for name in arrays if name not in plain} == {f"{site}_w" for site in body["sites"]}
    assert all(np.array_equal(values, arrays[name]) for name, values in plain.items())
    for site in body["sites"]:
        w = arrays[f"{site}_w"]
        assert (w.dtype, len(w)) == (np.float32, 500)
        assert w.min() >= 0
        assert np.std(w) > 0.1
        assert w.mean(dtype=np.float64) == pytest.approx(1, rel=1e-5)
