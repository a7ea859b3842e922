"""Two processes of torchrun learn what one process does; the file is also what they run."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import timm
import torch

from sw.config import AlignConfig
from sw.files import process_rank
from sw.model.data import TensorImages
from sw.model.distil import Distillation
from sw.model.recipe import Recipe
from sw.model.training import fit

ROOT = Path(__file__).parents[1]
STEPS, BATCH = 20, 8


def vit(seed):
    torch.manual_seed(seed)
    options = {"img_size": 8, "patch_size": 4, "embed_dim": 16, "depth": 2, "num_heads": 2, "in_chans": 1}
    return timm.create_model("vit_tiny_patch16_224", num_classes=4, **options)


def learn(out):
    """Distil for some steps; losses of this process's parts, and the weights."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(STEPS // 2 * BATCH, 1, 8, 8, generator=generator)
    images = TensorImages(x, torch.arange(len(x)) % 4, BATCH)
    student, losses = vit(1), []
    distillation = Distillation(vit(2).eval(), AlignConfig())

    def loss(model, batch, labels):
        value = distillation(model, batch, labels)
        losses.append(value.item())
        return value

    fit(student, images, loss, Recipe(epochs=2, lr=1e-3), batch_size=BATCH, seed=0, label="test")
    weights = {name: value.tolist() for name, value in student.state_dict().items()}
    path = Path(out) / f"{process_rank()[0]}.json"
    path.write_text(json.dumps({"losses": losses, "weights": weights}))


def test_two_processes_learn_what_one_does(tmp_path):
    learn(tmp_path)
    alone = json.loads((tmp_path / "0.json").read_text())
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    environment = {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "PATH": "/usr/bin:/bin"}
    subprocess.run([*launcher, __file__, str(tmp_path)], check=True, env=environment, capture_output=True)
    first, second = (json.loads((tmp_path / f"{rank}.json").read_text()) for rank in (0, 1))
    together = [(a + b) / 2 for a, b in zip(first["losses"], second["losses"], strict=True)]
    assert len(together) == STEPS
    assert first["losses"] != second["losses"]
    assert together == pytest.approx(alone["losses"], rel=1e-5)
    assert first["weights"] == second["weights"]
    for name, value in alone["weights"].items():
        got, wanted = torch.tensor(first["weights"][name]), torch.tensor(value)
        torch.testing.assert_close(got, wanted, rtol=1e-3, atol=1e-5)


if __name__ == "__main__":
    learn(sys.argv[1])
