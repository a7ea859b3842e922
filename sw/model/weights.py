"""State dicts: reading them from files, and checking that they fit."""

from __future__ import annotations

import argparse
import contextlib
import re
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from sw.files import atomic, process_rank
from sw.ir.errors import InputError
from sw.model.messages import first_line

WRAPPERS = ("state_dict", "model", "model_state_dict", "state_dict_ema", "model_ema")
"""Keys under which training scripts put the state dict."""


def save_weights(path: Path, model: nn.Module) -> None:
    """Write a model's state dict as safetensors, whole or not at all; same weights, same bytes.

    Of several processes that work on one stage the first does it.
    """
    if process_rank()[0]:
        return
    state = {name: t.detach().cpu().contiguous().clone() for name, t in model.state_dict().items()}
    with atomic(path) as scratch, disk_trouble(path):
        save_file(state, scratch)


@contextlib.contextmanager
def disk_trouble(path: Path) -> Iterator[None]:
    """What torch or safetensors raise where a file cannot be written is an InputError, too."""
    try:
        yield
    except (RuntimeError, SafetensorError) as error:
        raise InputError(f"'{path}' cannot be written: {first_line(error)}") from error


def load_weights(model: nn.Module, path: Path) -> None:
    """Fill a model from a ``.safetensors`` or ``.pth`` file.

    Raises:
        InputError: No such file, not a state dict, keys or shapes that do not fit the model, or a parameter
            that is not finite.
    """
    fit_weights(model, read_weights(path), f"checkpoint '{path}'")


def missing_checkpoint(path: Path) -> str:
    """The line for a checkpoint that is not there."""
    return f"checkpoint '{path}' does not exist"


def read_weights(path: Path) -> dict[str, Tensor]:
    """The state dict in a file; pickled files may hold tensors and settings, nothing that runs code."""
    if not path.is_file():
        raise InputError(missing_checkpoint(path))
    reader = "safetensors" if path.suffix == ".safetensors" else "torch"
    try:
        with (
            warnings.catch_warnings(category=UserWarning, action="ignore"),  # we say what is wrong ourselves
            torch.serialization.safe_globals([argparse.Namespace]),  # timm's train.py keeps its arguments so
        ):
            state: Any = (
                load_file(path)
                if reader == "safetensors"
                else torch.load(path, map_location="cpu", weights_only=True)
            )
    except OSError as error:
        raise InputError(f"checkpoint '{path}' cannot be read: {error.strerror or error}") from error
    except Exception as error:  # taken as a pickle, any other file may raise anything
        raise InputError(f"checkpoint '{path}' {_complaint(error, reader)}") from error
    for wrapper in WRAPPERS:
        if isinstance(state, Mapping) and isinstance(state.get(wrapper), Mapping):
            state = state[wrapper]
    if not isinstance(state, Mapping) or not all(isinstance(v, Tensor) for v in state.values()):
        raise InputError(f"checkpoint '{path}' must be a state dict (names to tensors)")
    return {str(name).removeprefix("module."): tensor for name, tensor in state.items()}


def _complaint(error: Exception, reader: str) -> str:
    """What is wrong with a file that its reader gave up on; torch's own text is a page of advice."""
    if "TorchScript" in str(error):
        return "holds a TorchScript archive; save model.state_dict() instead"
    refused = re.search(r"GLOBAL (\S+)", str(error))
    if refused:
        return f"holds a pickled '{refused[1]}'; save model.state_dict() instead"
    return f"is not a checkpoint that {reader} can read"


def _classes_hint(model: nn.Module, state: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> str:
    """What to set where weights are those of the model with another number of classes."""
    classes = getattr(model, "num_classes", None)
    if any(name not in state or state[name].shape[1:] != tensor.shape[1:] for name, tensor in own.items()):
        return ""  # more than the head is another one
    for name, tensor in own.items():
        other = state.get(name)
        if other is not None and tensor.shape[:1] == (classes,) != other.shape[:1]:
            return f"; model.kwargs.num_classes = {len(other)} builds it with as many classes"
    return ""


def fit_weights(model: nn.Module, state: Mapping[str, Tensor], what: str) -> None:
    """Load a state dict that must fit the model exactly, with finite parameters.

    Raises:
        InputError: It does not; the line names the first keys that are missing, unexpected or misshaped, or
            the first parameter with a NaN or an infinity. A buffer may hold one, as a mask does.
    """
    own = model.state_dict()
    missing = [f"lacks '{name}'" for name in own if name not in state]
    unexpected = [f"has an unexpected '{name}'" for name in state if name not in own]
    misshaped = [
        f"has '{name}' of shape {tuple(state[name].shape)} for {tuple(own[name].shape)}"
        for name in own
        if name in state and state[name].shape != own[name].shape
    ]
    problems = [kind[0] for kind in (misshaped, missing, unexpected) if kind]
    if problems:
        total = len(missing) + len(unexpected) + len(misshaped)
        hint = _classes_hint(model, state, own)
        raise InputError(
            f"{what} must fit the model; it {', '.join(problems)} ({total} keys do not fit){hint}"
        )
    for name, _ in model.named_parameters():
        if not bool(torch.isfinite(state[name]).all()):
            raise InputError(f"{what} must hold finite weights, and '{name}' has a NaN or an infinity")
    model.load_state_dict(dict(state))
