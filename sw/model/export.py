"""Stage ``export``: the quantized model as ONNX, JSON and safetensors, checked with onnxruntime."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file
from torch import Tensor, nn

from sw.arrays import opened_npz
from sw.files import atomic, keep_only, read_json, scratch_folder, write_json
from sw.ir.errors import InputError, VerificationError
from sw.model.data import Images, limit_to, load_splits
from sw.model.evaluate import logits, report_accuracy
from sw.model.integer import mixed
from sw.model.integer.build import build_graph
from sw.model.integer.covered import UncoveredError
from sw.model.integer.graph import Graph
from sw.model.integer.interpret import IntegerModel
from sw.model.integer.onnx_file import to_onnx
from sw.model.integer.onnx_run import compare, computed, open_session, outputs_of
from sw.model.messages import first_line
from sw.model.original import load_original
from sw.model.quantize import load_quantized
from sw.model.runtime import device
from sw.model.weights import disk_trouble
from sw.run_dir import RunDir
from sw.stage import Stage

ONNX, JSON, ARRAYS = "model.onnx", "model.json", "model.safetensors"


def load_graph(run: RunDir) -> Graph:
    """The integer graph that the stage left.

    Raises:
        InputError: It left none, or the arrays are not the graph's.
    """
    path = run.export / JSON
    body = read_json(path)
    if "graph" not in body:
        raise InputError(f"'{path}' must hold an integer graph, and is of kind '{body['kind']}'")
    arrays = run.export / ARRAYS
    try:
        return Graph.from_json(body["graph"], load_file(arrays))
    except (OSError, SafetensorError) as error:
        raise InputError(f"'{arrays}' cannot be read: {first_line(error)}") from error


def _export(run: RunDir) -> None:
    config = run.config
    splits = load_splits(config.data, load_original(run))
    model = load_quantized(run)
    limit = limit_to(splits.calibration, config.quantize.calibration_images, "export")
    try:
        graph = build_graph(model, splits.calibration, limit)
    except UncoveredError as reason:
        print(f"no integer-only form: {reason}; all but units and layers stays in floating point", flush=True)
        body = _export_mixed(run, model, splits.test) | {"reason": str(reason)}
    else:
        body = _export_integer(run, graph, model, splits.test)
    write_json(run.export / JSON, body)
    keep_only(run.export, [run.export / JSON, *(run.root / name for name in body["files"])])


def _export_integer(run: RunDir, graph: Graph, model: nn.Module, test: Images) -> dict[str, Any]:
    path = run.export / ONNX
    further = computed(graph) if run.config.export.outputs == "all" else ()
    content = to_onnx(graph, further).SerializeToString()
    checked = compare(graph, content, test, run.config.export.images)
    if checked["different"]:
        raise VerificationError(
            f"codes of '{next(iter(checked['different']))}' must be equal in PyTorch and onnxruntime, "
            f"and {sum(checked['different'].values())} of {checked['codes']} are not"
        )
    with atomic(path) as scratch:
        scratch.write_bytes(content)
    _save_arrays(run, graph.arrays())
    print(
        f"onnxruntime and PyTorch agree on {checked['codes']} codes of {checked['tensors']} tensors, "
        f"{checked['sites']} sites and {checked['accumulators']} accumulators among them, "
        f"on {checked['images']} images"
    )
    integer = IntegerModel(graph)
    files, share = [run.export / ONNX, run.export / ARRAYS], None
    if run.config.export.accuracy:
        share = report_accuracy(run, "integer", integer, test)
        files += [run.accuracy("integer"), run.predictions("integer")]
    return {
        "kind": "integer",
        "files": [str(file.relative_to(run.root)) for file in files],
        "checked": checked,
        "accuracy": share,
        "quantized": _against_quantized(run, integer, model, test),
        "graph": graph.to_json(),
    }


def _against_quantized(run: RunDir, integer: nn.Module, model: nn.Module, test: Images) -> dict[str, Any]:
    """How far the integer-only model is from the quantized one, whose attention and sums are real numbers."""
    difference, same = 0.0, []
    with torch.no_grad():
        for batch, _ in test.batches(limit=run.config.export.images):
            ours, theirs = integer(batch.to(device())), logits(model, batch.to(device()))
            difference = max(difference, float((ours - theirs).abs().max()))
            same.append((ours.argmax(dim=1) == theirs.argmax(dim=1)).cpu())
    agreement = float(torch.cat(same).double().mean())
    accuracy = read_json(run.accuracy("quantized"))["accuracy"]
    if run.config.export.accuracy:
        agreement = float(np.mean(_predicted(run, "integer") == _predicted(run, "quantized")))
    print(f"quantized model: {100 * accuracy:.2f} %, same class in {100 * agreement:.2f} % of images")
    return {"accuracy": accuracy, "top1_agreement": agreement, "largest_logit_difference": difference}


def _predicted(run: RunDir, stage: str) -> Any:
    with opened_npz(run.predictions(stage), "predictions") as stored:
        return stored["predicted"]


def _export_mixed(run: RunDir, model: nn.Module, test: Images) -> dict[str, Any]:
    described, arrays = mixed.describe_model(model)
    _save_arrays(run, arrays)
    steps, limit = mixed.output_steps(model), run.config.export.images
    expected = _pass_through(mixed.WithSites(model, steps), test, limit)
    mixed.replace_layers(model)
    body = {"kind": "mixed", "files": [f"export/{ARRAYS}"], **described}
    images, _ = next(test.batches(limit=2))
    who = "torch cannot export"
    with scratch_folder(run.export) as folder:
        try:
            made = mixed.write_onnx(folder / ONNX, mixed.WithSites(model, steps), images)
            who = "onnxruntime cannot run"
            found = _mixed_outputs(made[0], test, limit)
        except InputError:  # of the images, not of the model
            raise
        except OSError as error:
            raise InputError(f"'{run.export / ONNX}' cannot be written: {error.strerror}") from error
        except Exception as error:  # tracer and runtime meet any code of any model, and may raise anything
            print(f"no ONNX file: {who} this model ({first_line(error)})", flush=True)
            return body
        for path in made[::-1]:
            os.replace(path, run.export / path.name)
    files = [*(f"export/{path.name}" for path in made), *body["files"]]
    return body | {"files": files, "checked": _compared(found, expected, steps)}


def _pass_through(model: mixed.WithSites, images: Images, limit: int) -> dict[str, Tensor]:
    """Logits and outputs of all sites, on the CPU, batches joined."""
    parts = []
    with torch.no_grad():
        for batch, _ in images.batches(limit=limit):
            parts.append([output.cpu() for output in model(batch.to(device()))])
    joined = (torch.cat(same) for same in zip(*parts, strict=True))
    return dict(zip(("logits", *model.sites), joined, strict=True))


def _mixed_outputs(path: Path, test: Images, limit: int) -> dict[str, Any]:
    """What onnxruntime makes of a file: every output by name, batches joined."""
    session = open_session(path)
    parts = [outputs_of(session, batch, np.float32) for batch, _ in test.batches(limit=limit)]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _compared(
    found: Mapping[str, Any], expected: Mapping[str, Tensor], steps: Mapping[str, float]
) -> dict[str, Any]:
    """How onnxruntime differs from PyTorch, where sums in floating point may round otherwise."""
    differences = {
        name: float(np.abs(found[name] - values.numpy()).max()) for name, values in expected.items()
    }
    in_lsb = {name: differences[name] / step for name, step in steps.items()}
    classes = found["logits"].argmax(1), expected["logits"].numpy().argmax(1)
    agreement = float(np.mean(classes[0] == classes[1]))
    largest = max(in_lsb.values(), default=0.0)
    print(
        f"onnxruntime and PyTorch: same class in {100 * agreement:.2f} % of {len(classes[0])} images, "
        f"outputs of sites at most {largest:g} LSB apart"
    )
    return {
        "images": len(classes[0]),
        "top1_agreement": agreement,
        "largest_logit_difference": differences["logits"],
        "largest_difference_lsb": largest,
        "sites_lsb": in_lsb,
    }


def _save_arrays(run: RunDir, arrays: Mapping[str, Any]) -> None:
    path = run.export / ARRAYS
    with atomic(path) as scratch, disk_trouble(path):
        save_file({name: np.ascontiguousarray(array) for name, array in arrays.items()}, scratch)


def _inputs(run: RunDir) -> list[Path]:
    first = [run.original, run.capture_stats, run.functions, run.realigned, run.quantized]
    return [*first, run.accuracy("quantized"), run.predictions("quantized"), *run.programs()]


def _outputs(run: RunDir) -> list[Path]:
    path = run.export / JSON
    return [path, *(run.root / name for name in read_json(path)["files"])] if path.exists() else [path]


STAGE = Stage(
    name="export",
    help="ONNX, JSON and safetensors of the integer model, checked with onnxruntime",
    sections=("model", "data", "align", "quantize", "export"),
    inputs=_inputs,
    outputs=_outputs,
    body=_export,
)

if __name__ == "__main__":
    raise SystemExit(STAGE.main())
