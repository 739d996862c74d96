"""Trace the graph modules to ONNX and write them with one shared file of weights, byte for byte reproducibly."""

from __future__ import annotations

import contextlib
import hashlib
import io
import logging
import warnings
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import onnx_ir as ir
import torch
from torch import Tensor, nn
from torch.export import Dim

from exporter.decoder_graph import DecoderStepGraph
from exporter.encoder_graph import EncoderGraph
from exporter.model_config import ModelConfig
from service.errors import ExportError
from service.graph_names import (
    ENCODER_INPUTS,
    ENCODER_OUTPUTS,
    LANES,
    decoder_inputs,
    decoder_outputs,
)

OPSET = 23
WEIGHTS_FILE = "weights.bin"
INLINE_LIMIT = 1024
"""Tensors below this many bytes stay inside the graph."""
PAGE, CACHE_LINE = 4096, 64
"""Offsets in the weights file: large tensors begin on a page, so that ONNX Runtime can map them, others on a line."""
LARGE = 64 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class TracedGraph:
    """One graph, its weights still attached."""

    name: str
    model: ir.Model

    def input_type(self, name: str) -> str:
        """Return the type of an input's numbers as numpy calls it."""
        dtype = next(value.dtype for value in self.model.graph.inputs if value.name == name)
        if dtype is None:
            raise ExportError(f"input {name} of the {self.name} graph has no type: this is a bug")
        return dtype.numpy().name

    def operators(self) -> dict[str, int]:
        """Count the nodes of each operator, by ``domain::name`` outside the standard domain."""
        names = (f"{node.domain}::{node.op_type}" if node.domain else node.op_type for node in self.model.graph)
        return dict(sorted(Counter(names).items()))


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keep torch's exporter from printing its own progress and warnings."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


def trace_encoder(module: EncoderGraph) -> TracedGraph:
    """Trace the encoder with dynamic batch and source length."""
    arguments = (torch.zeros(2, 5, dtype=torch.int64), torch.tensor([5, 3], dtype=torch.int32))
    batch, source = Dim("batch"), Dim("source")
    shapes = ({0: batch, 1: source}, {0: batch})
    return traced("encoder", module, arguments, shapes, list(ENCODER_INPUTS), list(ENCODER_OUTPUTS))


def trace_decoder(module: DecoderStepGraph, config: ModelConfig, cache_dtype: torch.dtype) -> TracedGraph:
    """Trace the decode step with dynamic rows, sentences and capacities."""
    layers, heads, head_size = config.decoder_layers, config.heads, config.head_size

    def buffers(count: int, capacity: int) -> list[Tensor]:
        return [torch.zeros(count, heads, capacity, head_size, dtype=cache_dtype) for _ in range(2 * layers)]

    rows, narrow, wide, bans, full = Dim("rows"), Dim("narrow"), Dim("wide"), Dim("bans"), Dim("full")
    arguments = (
        torch.zeros(5, dtype=torch.int64),
        torch.zeros(5, dtype=torch.int32),
        buffers(5, 7),
        torch.zeros(3, dtype=torch.int64),
        torch.ones(3, dtype=torch.int32),
        buffers(3, 9),
        torch.zeros(2, LANES, dtype=torch.int64),
        torch.ones(2, dtype=torch.int32),
        buffers(2, 11),
        torch.zeros(5, dtype=torch.int64),
        torch.zeros(6, 2, dtype=torch.int64),
        torch.tensor([2]),
        torch.zeros(3, dtype=torch.int64),
    )

    def caches(count: Dim, capacity: str) -> list[dict[int, Dim]]:
        return [{0: count, 2: Dim(capacity)} for _ in range(2 * layers)]

    shapes = (
        {0: rows},
        {0: rows},
        caches(rows, "capacity"),
        {0: narrow},
        {0: narrow},
        caches(narrow, "narrow_source"),
        {0: wide},
        {0: wide},
        caches(wide, "wide_source"),
        {0: rows},
        {0: bans},
        None,
        {0: full},
    )
    int8_caches = cache_dtype == torch.int8
    outputs = decoder_outputs(layers, alignment=bool(module.alignment), int8_caches=int8_caches)
    return traced("decoder", module, arguments, shapes, decoder_inputs(layers), outputs)


def traced(
    name: str,
    module: nn.Module,
    arguments: tuple[object, ...],
    shapes: tuple[object, ...],
    input_names: list[str],
    output_names: list[str],
) -> TracedGraph:
    """Trace one module and remove from the graph what names this machine or is not needed to run it."""
    with quiet(), torch.no_grad():
        program = torch.onnx.export(
            module.eval(),
            arguments,
            dynamo=True,
            opset_version=OPSET,
            input_names=input_names,
            output_names=output_names,
            dynamic_shapes=shapes,
            optimize=True,
            verbose=False,
        )
    if program is None:
        raise ExportError(f"torch did not return a graph for the {name}")
    model = program.model
    cleaned(model)
    return TracedGraph(name=name, model=model)


def cleaned(model: ir.Model) -> None:
    """Strip docs, metadata and inferred types of inner values; number the nodes."""
    model.producer_name, model.producer_version, model.doc_string = "dragoman", "", ""
    model.metadata_props.clear()
    model.graph.metadata_props.clear()
    model.graph.doc_string = ""
    for index, node in enumerate(model.graph):
        node.name = f"{node.op_type}_{index}"
        node.doc_string = None
        node.metadata_props.clear()
        for value in node.outputs:
            value.doc_string = None
            value.metadata_props.clear()
    for value in (*model.graph.inputs, *model.graph.outputs, *model.graph.initializers.values()):
        value.doc_string = None
        value.metadata_props.clear()


class WeightsFile:
    """Appends tensors to one file, each content once."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._offsets: dict[bytes, int] = {}

    def place(self, data: bytes) -> int:
        """Write ``data`` unless it is there already; return its offset."""
        key = hashlib.sha256(data).digest()
        if key not in self._offsets:
            boundary = PAGE if len(data) >= LARGE else CACHE_LINE
            self._file.write(b"\0" * (-self._file.tell() % boundary))
            self._offsets[key] = self._file.tell()
            self._file.write(data)
        return self._offsets[key]


def write_graphs(graphs: list[TracedGraph], directory: Path) -> None:
    """Write ``NAME.onnx`` of each graph and the weights they share."""
    with (directory / WEIGHTS_FILE).open("wb") as file:
        weights = WeightsFile(file)
        for graph in graphs:
            for value in graph.model.graph.initializers.values():
                externalize(value, weights, directory)
            proto = ir.to_proto(graph.model)
            shaped = [info for info in proto.graph.value_info if info.name in in_place(graph.model)]
            del proto.graph.value_info[:]
            proto.graph.value_info.extend(shaped)
            (directory / f"{graph.name}.onnx").write_bytes(proto.SerializeToString(deterministic=True))


def in_place(model: ir.Model) -> set[str]:
    """Return the names of large values that are changed in place: the runtime does so where their shapes are known."""
    changed = [node for node in model.graph if node.op_type == "ScatterElements"]
    return {str(value.name) for node in changed for value in (node.inputs[0], node.outputs[0]) if value is not None}


def externalize(value: ir.Value, weights: WeightsFile, directory: Path) -> None:
    """Move one initializer's bytes to the weights file unless it is small."""
    tensor = value.const_value
    if tensor is None or tensor.nbytes < INLINE_LIMIT:
        return
    offset = weights.place(tensor.tobytes())
    value.const_value = ir.ExternalTensor(
        WEIGHTS_FILE,
        offset,
        tensor.nbytes,
        tensor.dtype,
        shape=ir.Shape(tensor.shape.numpy()),
        name=str(value.name),
        base_dir=directory,
    )
