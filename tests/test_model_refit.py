import copy

import numpy as np
import pytest
import timm
import torch
from sklearn.linear_model import Ridge
from torch import nn

from sw.ir.errors import InputError
from sw.ir.parse import parse
from sw.model.data import TensorImages
from sw.model.fold import FoldPlan, plan_folds
from sw.model.refit import RIDGES, Equations, _linear, refit, ridge
from sw.model.scalar_norm import ScalarNorm
from sw.model.swap import swap

PLANS = {"first": FoldPlan(("head",))}


class Two(nn.Module):
    """Something, then a Linear that should keep computing what it did."""

    def __init__(self, first, bias=True):
        super().__init__()
        torch.manual_seed(1)
        self.first, self.head = first, nn.Linear(6, 3, bias=bias)

    def forward(self, batch):
        return self.head(self.first(batch[:, 0]))


def data(num=300, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return TensorImages(torch.randn(num, 1, 5, 6, generator=generator), torch.zeros(num).long(), 50)


def equations(a, t):
    return Equations(torch.from_numpy(a.T @ a), torch.from_numpy(a.T @ t), torch.zeros(a.shape[1]).double())


@pytest.mark.parametrize("share", [1e-3, 0.1, 10.0])
def test_solution_is_that_of_scikit_learn_around_the_prior(share):
    rng = np.random.default_rng(0)
    a, t, prior = rng.normal(size=(40, 5)), rng.normal(size=(40, 3)), rng.normal(size=(5, 3))
    alpha = share * float(np.mean(np.diag(a.T @ a)))
    expected = prior + Ridge(alpha=alpha, fit_intercept=False).fit(a, t - a @ prior).coef_.T
    found = equations(a, t).solve(torch.from_numpy(prior), share).numpy()
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-12)


def test_loss_is_the_squared_error_but_for_the_targets_own():
    rng = np.random.default_rng(1)
    a, t, w = rng.normal(size=(40, 5)), rng.normal(size=(40, 3)), rng.normal(size=(5, 3))
    expected = np.sum((a @ w - t) ** 2) - np.sum(t**2)
    assert equations(a, t).loss(torch.from_numpy(w), torch.zeros(5, 3)) == pytest.approx(expected)


def test_lambda_is_small_for_a_clear_target_and_the_prior_stays_for_noise():
    rng = np.random.default_rng(2)
    truth = rng.normal(size=(20, 2))
    prior = torch.from_numpy(truth + 0.5)
    a, b = rng.normal(size=(25, 20)), rng.normal(size=(200, 20))
    clear = ridge(equations(a, a @ truth), equations(b, b @ truth), prior)
    assert float((clear - torch.from_numpy(truth)).abs().max()) < 1e-3
    noise = [equations(m, m @ truth + rng.normal(size=(len(m), 2)) * 30) for m in (a, b)]
    near = torch.from_numpy(truth)
    assert torch.equal(ridge(*noise, near), near)
    assert min(RIDGES) > 0


def test_noise_is_what_rounding_to_int8_adds():
    x = torch.randn(20_000, 4, generator=torch.Generator().manual_seed(0)).double()
    step = x.abs().max() / 127
    errors = torch.round(x / step) * step - x
    noise = _linear(x, x).noise
    torch.testing.assert_close(noise[:4], errors.square().sum(0), rtol=0.05, atol=0)
    assert noise[4] == 0, "the constant is exact"


def test_weights_do_not_grow_on_differences_smaller_than_a_code():
    generator = torch.Generator().manual_seed(0)
    common, apart = torch.randn(2, 2000, 1, generator=generator)
    x, target = torch.cat([common, common + 1e-4 * apart], dim=1), apart
    solution = ridge(
        _linear(x[:1600], target[:1600]), _linear(x[1600:], target[1600:]), torch.zeros(3, 1).double()
    )
    assert float(solution.abs().max()) < 1, "10,000 would be exact, and int8 knows nothing of it"


def test_undoes_an_invertible_change_of_the_input():
    changed = nn.Linear(6, 6)
    with torch.no_grad():
        changed.weight.copy_(
            torch.eye(6) + 0.2 * torch.randn(6, 6, generator=torch.Generator().manual_seed(0))
        )
        changed.bias.fill_(0.7)
    original, model = Two(nn.Identity()), Two(changed)
    images, unseen = data(), data(seed=5).images
    before = (model(unseen) - original(unseen)).std()
    refit(model, original, PLANS, images)
    after = (model(unseen) - original(unseen)).std()
    assert after < 0.02 * before


def test_an_unchanged_model_stays_as_it_is():
    original, model = Two(nn.Identity()), Two(nn.Identity())
    refit(model, original, PLANS, data(100))
    torch.testing.assert_close(model.head.weight, original.head.weight, rtol=1e-5, atol=1e-6)


def test_a_reader_without_a_bias_gets_one():
    original, model = Two(nn.LayerNorm(6), bias=False), Two(nn.Identity(), bias=False)
    refit(model, original, PLANS, data())
    assert model.head.bias.shape == (3,)


def scalar(dim=-1):
    generator = torch.Generator().manual_seed(3)
    return ScalarNorm(parse("clip(x)"), *torch.randn(2, 6, generator=generator), dim)


def trained_norm():
    norm = nn.LayerNorm(6)
    with torch.no_grad():
        norm.weight.copy_(torch.arange(6) - 2.0)
        norm.bias.copy_(torch.arange(6) / 3)
    return norm


def test_affines_are_the_least_squares_line_of_every_channel():
    original, model = Two(trained_norm()), Two(scalar())
    head = model.head.weight.detach().clone()
    images = data(3000)
    refit(model, original, PLANS, images, upto="affine")
    f = images.images[:, 0].clamp(-5, 5).reshape(-1, 6).double().numpy()
    target = original.first(images.images[:, 0]).detach().reshape(-1, 6).double().numpy()
    lines = np.array([np.polyfit(f[:, c], target[:, c], 1) for c in range(6)])
    np.testing.assert_allclose(model.first.weight.detach(), lines[:, 0], rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(model.first.bias.detach(), lines[:, 1], rtol=1e-3, atol=1e-4)
    assert torch.equal(model.head.weight, head)


def test_affines_of_channels_first_layers_are_those_of_channels_last():
    class Turned(nn.Module):
        def __init__(self, norm):
            super().__init__()
            self.norm = norm

        def forward(self, x):
            return self.norm(x.movedim(-1, 1)).movedim(1, -1)

    last, first = Two(scalar()), Two(Turned(scalar(dim=1)))
    original, turned = Two(trained_norm()), Two(Turned(nn.Sequential(Turned(trained_norm()))))
    refit(last, original, PLANS, data(), upto="affine")
    refit(first, turned, {"first.norm": FoldPlan(("head",))}, data(), upto="affine")
    torch.testing.assert_close(first.first.norm.weight, last.first.weight)
    torch.testing.assert_close(first.first.norm.bias, last.first.bias)


def test_both_steps_do_better_than_the_first_alone():
    errors = []
    unseen = data(seed=7).images
    for upto in (None, "affine", "readers"):
        original, model = Two(trained_norm()), Two(scalar())
        if upto is not None:
            refit(model, original, PLANS, data(), upto=upto)
        errors.append((model(unseen) - original(unseen)).detach().std().item())
    assert errors[0] > 1.5 * errors[1]
    assert errors[1] > errors[2]


def test_few_images_change_nothing():
    original, model = Two(nn.LayerNorm(6)), Two(nn.Identity())
    refit(model, original, PLANS, data(), limit=4)
    assert torch.equal(model.head.weight, original.head.weight)


def test_nothing_after_the_last_reader_runs():
    class Long(Two):
        def forward(self, batch):
            super().forward(batch)
            raise AssertionError("the rest of the network ran")

    original, model = Long(trained_norm()), Long(scalar())
    refit(model, original, PLANS, data(), upto="readers")
    short = Two(scalar())
    refit(short, Two(trained_norm()), PLANS, data(), upto="readers")
    assert torch.equal(model.head.weight, short.head.weight)


class Residual(nn.Module):
    """A branch that a norm spoils, a stream that it is added to, and a norm that reads the stream."""

    blur = 0.0

    def __init__(self, first, bias=True):
        super().__init__()
        torch.manual_seed(2)
        self.first, self.proj = first, nn.Linear(6, 6, bias=bias)
        self.scale = nn.Parameter(torch.linspace(0.3, 2, 6))
        self.second, self.head = nn.LayerNorm(6), nn.Linear(6, 3)

    def stream(self, batch):
        x = batch[:, 0]
        noise = torch.randn(x.shape, generator=torch.Generator().manual_seed(len(self.first.state_dict())))
        return x + self.scale * self.proj(self.first(x)) + self.blur * noise

    def forward(self, batch):
        return self.head(self.second(self.stream(batch)))


class Mixed(nn.Linear):
    """What no affine per channel undoes, but the next Linear can."""

    def __init__(self):
        super().__init__(6, 6)
        generator = torch.Generator().manual_seed(0)
        with torch.no_grad():
            self.weight.copy_(torch.eye(6) + 0.3 * torch.randn(6, 6, generator=generator))
            self.bias.fill_(0.5)


def test_writers_put_back_what_the_stream_lost():
    original, model, unseen = Residual(nn.Identity()), Residual(Mixed()), data(seed=5).images
    plans = {"second": FoldPlan(("head",))}
    before = (model.stream(unseen) - original.stream(unseen)).std()
    refit(model, original, plans, data(), upto="readers")
    assert (model.stream(unseen) - original.stream(unseen)).std() == before
    refit(model, original, plans, data(), upto="writers")
    assert (model.stream(unseen) - original.stream(unseen)).std() < 0.02 * before


def test_a_step_that_does_not_exist_is_refused():
    with pytest.raises(InputError, match="refit goes up to one of affine, readers, writers, not 'all'"):
        refit(Two(scalar()), Two(trained_norm()), PLANS, data(), upto="all")


def test_a_writer_without_a_bias_gets_none():
    original, model = (Residual(first, bias=False) for first in (nn.Identity(), Mixed()))
    before = (model.stream(data().images) - original.stream(data().images)).std()
    refit(model, original, {"second": FoldPlan(("head",))}, data())
    assert model.proj.bias is None
    assert (model.stream(data().images) - original.stream(data().images)).std() < 0.8 * before


def test_factors_of_layer_scale_are_as_good_as_weights_times_them():
    """However small one of them is, no channel counts more than in the stream itself."""
    streams, unseen = [], data(seed=5).images
    for folded in (False, True):
        original, model = Residual(nn.Identity()), Residual(Mixed())
        for net in (original, model):
            net.blur = 0.1
            with torch.no_grad():
                net.scale[0] = 0.01
                if folded:
                    net.proj.weight.mul_(net.scale[:, None])
                    net.proj.bias.mul_(net.scale)
                    net.scale.fill_(1)
        refit(model, original, {"second": FoldPlan(("head",))}, data(15))
        streams.append(model.stream(unseen))
    torch.testing.assert_close(*streams)


def test_a_channel_that_does_not_arrive_stays():
    original, model = Residual(nn.Identity()), Residual(Mixed())
    for net in (original, model):
        with torch.no_grad():
            net.scale[2] = 0
    before = model.proj.weight.detach().clone()
    refit(model, original, {"second": FoldPlan(("head",))}, data())
    moved = (model.proj.weight - before).abs().amax(1) > 1e-3
    assert moved.tolist() == [True, True, False, True, True, True]


def test_a_kept_layernorm_has_its_writer_refitted():
    original, model, unseen = Residual(nn.Identity()), Residual(Mixed()), data(seed=5).images
    before = (model.stream(unseen) - original.stream(unseen)).std()
    refit(model, original, {}, data())
    assert (model.stream(unseen) - original.stream(unseen)).std() < 0.02 * before


def test_a_reader_that_is_not_called_as_a_layer_stays():
    class Functional(Two):
        def forward(self, batch):
            return nn.functional.linear(self.first(batch[:, 0]), self.head.weight, self.head.bias)

    original, model = Functional(trained_norm()), Functional(scalar())
    weight = model.head.weight.detach().clone()
    refit(model, original, PLANS, data())
    assert torch.equal(model.head.weight, weight)


def test_in_a_hierarchy_with_windows_writers_bring_the_model_nearer():
    kwargs = {"img_size": 32, "patch_size": 2, "in_chans": 1, "embed_dim": 16, "depths": (2, 2)}
    torch.manual_seed(0)
    original = timm.create_model(
        "swin_tiny_patch4_window7_224", num_heads=(2, 2), window_size=4, num_classes=5, **kwargs
    ).eval()
    plans = plan_folds(original)
    images = TensorImages(torch.randn(64, 1, 32, 32), torch.zeros(64).long(), 32)
    apart = {}
    for upto in ("readers", "writers"):
        model = copy.deepcopy(original)
        swap(model, {site: {"expression": "clip(x, -1, 1)", "scale": 1.2, "offset": 0.0} for site in plans})
        refit(model, original, plans, images, upto=upto)
        with torch.no_grad():
            apart[upto] = float((model(images.images) - original(images.images)).std())
    assert apart["writers"] < apart["readers"]
