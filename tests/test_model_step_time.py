from types import SimpleNamespace

import torch
from torch import nn
from torch.nn import functional

from sw.config import ComputeConfig, DataConfig
from sw.model import step_time
from sw.model.data import Splits, TensorImages
from sw.model.recipe import Recipe


def test_a_step_is_timed_once_it_runs_evenly(monkeypatch, capsys):
    images = TensorImages(torch.randn(32, 1, 4, 4), torch.arange(32) % 2, 8)
    now, calls = 0.0, 0

    def loss(model, batch, labels):
        nonlocal now, calls
        calls += 1
        now += 5.0 if calls <= 4 else 0.25  # the first epoch has four steps
        return functional.cross_entropy(model(batch), labels)

    monkeypatch.setattr(step_time, "load_splits", lambda *_: Splits(images, images, images))
    monkeypatch.setattr(step_time.time, "monotonic", lambda: now)
    config = SimpleNamespace(data=DataConfig(batch_size=8), seed=0, compute=ComputeConfig())
    model = nn.Sequential(nn.Flatten(), nn.Linear(16, 2))
    found = step_time._seconds(SimpleNamespace(config=config), model, loss, Recipe(epochs=1, lr=0.01))
    assert found == 0.25
    assert calls == 4 * step_time.EPOCHS
    assert capsys.readouterr() == ("", "")
