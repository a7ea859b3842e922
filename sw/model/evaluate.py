"""Accuracy on the test split, and the predictions behind it."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from sw.files import write_json, write_npz
from sw.ir.formats import IntArray
from sw.model.data import Images
from sw.model.runtime import device
from sw.run_dir import RunDir
from sw.terminal import progress


def logits(model: nn.Module, images: Tensor) -> Tensor:
    """A model's logits, (B, classes); two heads (a distilled DeiT's) are averaged, as timm does."""
    output = model(images)
    return (output[0] + output[1]) / 2 if isinstance(output, (list, tuple)) else output


def predict(model: nn.Module, images: Images) -> tuple[IntArray, IntArray]:
    """Labels and predicted classes of a whole split, int64 each; the model is left in eval mode."""
    model.eval()
    labels: list[Tensor] = []
    predicted: list[Tensor] = []
    with torch.no_grad(), progress("test", len(images)) as step:
        for batch, truth in images.batches():
            predicted.append(logits(model, batch.to(device())).argmax(dim=1).cpu())
            labels.append(truth)
            step(count=len(truth))
    return torch.cat(labels).numpy().astype(np.int64), torch.cat(predicted).numpy().astype(np.int64)


def accuracy(model: nn.Module, images: Images) -> float:
    """Share of a split that a model classifies rightly, 0..1."""
    labels, predicted = predict(model, images)
    return float(np.mean(labels == predicted))


def report_accuracy(run: RunDir, stage: str, model: nn.Module, test: Images, **extra: Any) -> float:
    """Write ``accuracy/<stage>.json`` and the predictions beside it, print one line, return the accuracy."""
    labels, predicted = predict(model, test)
    correct = int(np.sum(labels == predicted))
    share = correct / len(labels)
    write_npz(run.predictions(stage), {"labels": labels, "predicted": predicted})
    body = {"accuracy": share, "correct": correct, "images": len(labels), "seed": run.config.seed}
    write_json(run.accuracy(stage), body | extra)
    print(f"test accuracy, {stage}: {100 * share:.2f} % ({correct} of {len(labels)} images)", flush=True)
    return share
