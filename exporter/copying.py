"""The graph that moves keys and values between two memories of a device, the same in every bundle."""

from __future__ import annotations

import onnx_ir as ir

from exporter.trace import OPSET, TracedGraph, cleaned
from service import graph_names as names

NAME = "copy_positions"
_IR_VERSION = 10


def copy_graph() -> TracedGraph:
    """Return a graph that copies vectors (one position of one head each) from one memory to another or the same.

    Both memories are seen as (vectors, words) int64. Position i goes from vector ``source_starts[i] +
    source_planes[p]`` to ``target_starts[i] + target_planes[p]`` for every plane p (a layer's keys or values of one
    head), so the caller sends one number per position and not one per vector. All is read before anything is written.
    With ``target`` and ``target_out`` bound to the same memory ScatterND writes in place. Vectors are kept this short
    because CUDA's ScatterND walks through each with a single thread.
    """
    inputs = [
        f"int64[source_vectors, words] {names.COPY_SOURCE}",
        f"int64[target_vectors, words] {names.COPY_TARGET}",
        f"int64[count] {names.COPY_SOURCE_STARTS}",
        f"int64[count] {names.COPY_TARGET_STARTS}",
        f"int64[planes] {names.COPY_SOURCE_PLANES}",
        f"int64[planes] {names.COPY_TARGET_PLANES}",
    ]
    nodes = [
        f"source_column = Unsqueeze({names.COPY_SOURCE_STARTS}, last)",
        f"target_column = Unsqueeze({names.COPY_TARGET_STARTS}, last)",
        f"source_vectors = Add(source_column, {names.COPY_SOURCE_PLANES})",
        f"target_vectors = Add(target_column, {names.COPY_TARGET_PLANES})",
        f"moved = Gather <axis = 0> ({names.COPY_SOURCE}, source_vectors)",
        "target_indices = Unsqueeze(target_vectors, last)",
        f"{names.COPY_TARGET_OUT} = ScatterND({names.COPY_TARGET}, target_indices, moved)",
    ]
    text = (
        f'<ir_version: {_IR_VERSION}, opset_import: ["" : {OPSET}]>\n'
        f"{NAME} ({', '.join(inputs)}) => (int64[target_vectors, words] {names.COPY_TARGET_OUT})\n"
        f"<int64[1] last = {{-1}}> {{ {' '.join(nodes)} }}"
    )
    model = ir.from_onnx_text(text)
    cleaned(model)
    return TracedGraph(name=NAME, model=model)
