"""Stage ``train``: the model with LayerNorm that everything starts from, pre-trained or trained here."""

from __future__ import annotations

import difflib
import re
from pathlib import Path

import timm
import torch
from timm.layers import DropPath
from torch import Tensor, nn
from torch.nn import functional

from sw.config import ModelConfig, TrainConfig, digest
from sw.files import file_digest
from sw.ir.errors import InputError
from sw.model.data import load_splits
from sw.model.evaluate import report_accuracy
from sw.model.messages import first_line
from sw.model.preprocessing import request_size
from sw.model.recipe import Recipe
from sw.model.runtime import prepare, seed_all
from sw.model.sites import find_sites
from sw.model.training import checkpoint, fit, keeping
from sw.model.weights import load_weights, missing_checkpoint, save_weights
from sw.run_dir import RunDir
from sw.stage import Stage

LABEL_SMOOTHING = 0.1
UNBUILDABLE = (TypeError, ValueError, AssertionError, AttributeError, LookupError, ArithmeticError)
"""What timm's models raise, besides ``RuntimeError``, where an argument is of a wrong type or size."""


def create(config: ModelConfig) -> nn.Module:
    """The timm model of a configuration, with timm's weights if ``pretrained``, else random ones.

    Raises:
        InputError: No such model, arguments that it does not take, or weights that cannot be fetched.
    """
    if not timm.is_model(config.name.rpartition("/")[2].partition(".")[0]) and ":" not in config.name:
        close = difflib.get_close_matches(config.name, timm.list_models(), n=1)
        hint = f"; did you mean '{close[0]}'?" if close else ""
        raise InputError(f"model.name must be a timm model, not '{config.name}'{hint}")
    try:
        model: nn.Module = timm.create_model(config.name, pretrained=config.pretrained, **config.kwargs)
    except (OSError, RuntimeError) as error:
        if not config.pretrained:
            raise InputError(_refusal(config, error)) from error
        raise InputError(
            f"weights of '{config.name}' cannot be fetched ({first_line(error)}); "
            f"give a file as model.checkpoint"
        ) from error
    except UNBUILDABLE as error:
        raise InputError(_refusal(config, error)) from error
    if "img_size" in config.kwargs:
        request_size(model, config.kwargs["img_size"])
    return model


def _refusal(config: ModelConfig, error: Exception) -> str:
    """The line for a model that cannot be built; it names the argument at fault where that can be told."""
    unknown = re.search(r"unexpected keyword argument '(\w+)'", str(error))
    if unknown:
        return f"model '{config.name}' does not take model.kwargs.{unknown[1]}"
    for key, value in config.kwargs.items():
        others = {k: v for k, v in config.kwargs.items() if k != key}
        try:
            with torch.device("meta"):
                timm.create_model(config.name, **others)
        except (RuntimeError, *UNBUILDABLE):
            continue
        return (
            f"model.kwargs.{key} must be a value that model '{config.name}' can be built with, "
            f"not {value!r}: {first_line(error)}"
        )
    return f"model '{config.name}' cannot be built with its model.kwargs: {first_line(error)}"


def load_original(run: RunDir, *, drop_path: float = 0.0) -> nn.Module:
    """The run's model with LayerNorm, in eval mode on its device, ready to be changed.

    A bias that the model keeps apart from its Linear (BEiT, EVA) is put back into it, see
    ``merge_separate_biases``.

    Args:
        run: With ``model/original.safetensors``.
        drop_path: Largest rate of stochastic depth in training.

    Raises:
        InputError: The weights cannot be read, or ``drop_path`` is not 0 and the model has no stochastic
            depth.
    """
    model = _bare(run.config.model, drop_path)
    load_weights(model, run.original)
    merge_separate_biases(model)
    return prepare(model).eval()


def merge_separate_biases(model: nn.Module) -> None:
    """Give every qkv Linear its own bias where the model adds (q_bias, 0, v_bias) by hand; logits stay.

    Otherwise nothing could fold into that Linear, and a quantizer would not see it called.
    """
    for module in model.modules():
        q_bias, k_bias, v_bias = (getattr(module, f"{n}_bias", None) for n in "qkv")
        qkv = getattr(module, "qkv", None)
        if not isinstance(qkv, nn.Linear) or not isinstance(q_bias, Tensor) or not isinstance(v_bias, Tensor):
            continue
        middle = k_bias if isinstance(k_bias, Tensor) else torch.zeros_like(q_bias)
        own = torch.zeros(qkv.out_features) if qkv.bias is None else qkv.bias.detach()
        qkv.bias = nn.Parameter(own.to(q_bias) + torch.cat((q_bias, middle, v_bias)).detach())
        for name in ("q_bias", "k_bias", "v_bias"):
            if hasattr(module, name):
                setattr(module, name, None)


def _bare(config: ModelConfig, drop_path: float) -> nn.Module:
    extra = {"drop_path_rate": drop_path} if drop_path else {}
    model = create(ModelConfig(name=config.name, kwargs=config.kwargs | extra))
    if not (drop_path or "drop_path_rate" in config.kwargs):  # some models have a rate of their own
        for module in model.modules():
            if isinstance(module, DropPath):
                module.drop_prob = 0.0
    return model


def _train(run: RunDir) -> None:
    config = run.config
    seed_all(config.seed)
    model = create(config.model)
    find_sites(model, config.model.keep_layernorm)
    if config.model.checkpoint:
        load_weights(model, Path(config.model.checkpoint))
    model = prepare(model).eval()
    if not (config.model.checkpoint or config.model.pretrained or config.train.epochs):
        print(
            "weights are random: model.checkpoint, model.pretrained and train.epochs are not set", flush=True
        )
    splits = load_splits(config.data, model)
    kept = keeping(run, "train", _key(run))
    if config.train.epochs:
        fit(
            model,
            splits.train,
            cross_entropy,
            train_recipe(config.train),
            batch_size=config.data.batch_size,
            seed=config.seed,
            label="train",
            compute=config.compute,
            kept=kept,
        )
    save_weights(run.original, model)
    report_accuracy(run, "original", model, splits.test)
    kept.discard()


def _key(run: RunDir) -> str:
    parts = [digest(run.config, "seed", "model", "data", "train", "compute.precision")]
    return ":".join(parts + [file_digest(p) for p in _inputs(run)])


def _inputs(run: RunDir) -> list[Path]:
    """The local checkpoint, if one is given; no stage makes it, so this is where it must be there."""
    if not run.config.model.checkpoint:
        return []
    path = Path(run.config.model.checkpoint)
    if not path.is_file():
        raise InputError(missing_checkpoint(path))
    return [path]


def train_recipe(config: TrainConfig) -> Recipe:
    """How long and how fast the stage trains."""
    return Recipe(epochs=config.epochs, lr=config.lr, weight_decay=config.weight_decay)


def cross_entropy(model: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
    """The stage's loss; of several heads the mean."""
    output = model(images)
    outputs = output if isinstance(output, (list, tuple)) else (output,)
    return torch.stack(
        [functional.cross_entropy(o, labels, label_smoothing=LABEL_SMOOTHING) for o in outputs]
    ).mean()


STAGE = Stage(
    name="train",
    help="load the pre-trained model, or train the embedded default",
    sections=("model", "data", "train", "compute.precision"),
    inputs=_inputs,
    outputs=lambda run: [run.original, run.accuracy("original"), run.predictions("original")],
    body=_train,
    parallel=True,
    forget=lambda run: checkpoint(run, "train").unlink(missing_ok=True),
)

if __name__ == "__main__":
    raise SystemExit(STAGE.main())
