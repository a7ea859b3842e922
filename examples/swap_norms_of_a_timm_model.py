"""Every LayerNorm of a timm model becomes one scalar function; then its accuracy is measured, and mended.

A small ViT, trained here on scikit-learn's digits, plays the pre-trained model. The functions are fitted
DyT forms, a tanh(c x) + b, which takes no time; ``gp.evolve.evolve_pairs`` finds better ones.
"""

import copy

import numpy as np
import timm
import torch
from torch.nn import functional

from gp.baselines import fit_forms
from gp.fitness import split_pairs
from sw.config import DataConfig
from sw.model.capture import record
from sw.model.data import load_splits
from sw.model.evaluate import accuracy
from sw.model.fold import plan_folds
from sw.model.refit import refit
from sw.model.runtime import device, prepare
from sw.model.swap import swap

torch.manual_seed(0)
size = {"img_size": 8, "patch_size": 4, "in_chans": 1, "num_classes": 10}
model = timm.create_model("vit_tiny_patch16_224", embed_dim=32, depth=2, num_heads=2, **size)
model = prepare(model)
splits = load_splits(DataConfig(dataset="digits"), model)
optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)
for epoch in range(30):
    for images, labels in splits.train.batches(seed=epoch):
        optimizer.zero_grad()
        functional.cross_entropy(model(images.to(device())), labels.to(device())).backward()
        optimizer.step()
model.eval()

plans = plan_folds(model)
pairs = record(model, list(plans), splits.calibration, limit=256, pairs=10_000)
functions = {}
for site, seen in pairs.items():
    split = split_pairs(np.concatenate(seen.x), np.concatenate(seen.y), None, share=0.1, seed=0)
    form = fit_forms(split, ["scaled_dyt"])["scaled_dyt"]
    functions[site] = {"expression": str(form.expr), "scale": form.scale, "offset": form.offset}
    print(f"{site}: {form.scale:.3f} * {form.expr} + {form.offset:.3f}, R2 {form.r2:.3f}")

swapped = copy.deepcopy(model)
swap(swapped, functions)
print(f"test accuracy with LayerNorm    {accuracy(model, splits.test):.4f}")
print(f"right after the swap            {accuracy(swapped, splits.test):.4f}")
refit(swapped, model, plans, splits.calibration)
print(f"refitted in closed form         {accuracy(swapped, splits.test):.4f}")
