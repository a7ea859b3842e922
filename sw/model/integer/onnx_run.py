"""onnxruntime, and its codes against the interpreter's."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from torch import Tensor

from sw.model.data import Images
from sw.model.integer.graph import Graph, Op
from sw.model.integer.interpret import quantize_images, run
from sw.model.integer.onnx_file import to_onnx
from sw.model.runtime import device

ERRORS_ONLY = 3
"""onnxruntime's level of what it prints."""


CHUNK_PIXELS = 1 << 15
"""Pixels of the images that are compared at a time, for which every tensor is held; one image at least."""


def open_session(model: bytes | Path) -> onnxruntime.InferenceSession:
    """A session of a model's bytes or file, on the CPU."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = ERRORS_ONLY
    source = model if isinstance(model, bytes) else str(model)
    return onnxruntime.InferenceSession(source, options, providers=["CPUExecutionProvider"])


def outputs_of(session: onnxruntime.InferenceSession, image: Tensor, kind: type[Any]) -> dict[str, Any]:
    """Every output of a model of one input, by name, as numpy arrays.

    Args:
        session: As ``open_session`` gives it.
        image: A batch of what the model reads.
        kind: numpy type of the input.
    """
    names = [output.name for output in session.get_outputs()]
    feed = {session.get_inputs()[0].name: image.cpu().numpy().astype(kind)}
    return dict(zip(names, session.run(names, feed), strict=True))


def computed(graph: Graph) -> list[str]:
    """Every tensor of a graph that a runtime computes."""
    return [node.name for node in graph.nodes if node.op not in (Op.INPUT, Op.CONST)]


def compare(graph: Graph, model: bytes, images: Images, limit: int) -> dict[str, Any]:
    """Every tensor of a graph as onnxruntime and the interpreter compute it, from the same input codes.

    Args:
        graph: An integer graph.
        model: Its ONNX model, whose first output is compared, too.
        images: Read in order.
        limit: Images used at most.

    Returns:
        ``images``, ``tensors``, ``sites``, ``accumulators``, ``codes`` compared, and ``different``: how many
        codes differ in which tensor; empty where all are equal.
    """
    names = computed(graph)
    inside = open_session(to_onnx(graph, names).SerializeToString())
    outside = open_session(model)
    count, codes, different = 0, 0, dict.fromkeys(names, 0)
    size = max(1, CHUNK_PIXELS // math.prod(graph.input.params.values()))
    chunks = (chunk for batch, _ in images.batches(limit=limit) for chunk in batch.split(size))
    for chunk in chunks:
        image_raw = quantize_images(graph, chunk.to(device()))
        expected = run(graph, image_raw, names)
        found = outputs_of(inside, image_raw, np.int8)
        logits = outputs_of(outside, image_raw, np.int8)[graph.output.name]
        different[graph.output.name] += int(np.sum(logits != found[graph.output.name]))
        for name in names:
            ours = expected[name].cpu().numpy()
            assert ours.shape == found[name].shape, name
            codes += ours.size
            different[name] += int(np.sum(ours != found[name]))
        count += len(chunk)
    return {
        "images": count,
        "tensors": len(names),
        "sites": len(sites_of(graph)),
        "accumulators": len(graph.names(Op.LINEAR, Op.MATMUL)),
        "codes": codes,
        "different": {name: n for name, n in different.items() if n},
    }


def sites_of(graph: Graph) -> Sequence[str]:
    """Names of a graph's norm sites."""
    return [node.name for node in graph.nodes if "site" in node.about]
