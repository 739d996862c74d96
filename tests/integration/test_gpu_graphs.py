"""What CUDA needs of the fp16 graphs, as far as the files say it: fusion, types, and operators with a CUDA kernel."""

from __future__ import annotations

import math
from collections import Counter
from pathlib import Path

import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto

from exporter.trace import INLINE_LIMIT
from service import graph_names as names
from service.bundle import Bundle

HALF, SINGLE, INT32, INT64 = "tensor(float16)", "tensor(float)", "tensor(int32)", "tensor(int64)"
CONTRIB = "com.microsoft"
GROUPED, MULTI_HEAD = f"{CONTRIB}::GroupQueryAttention", f"{CONTRIB}::MultiHeadAttention"
CUDA_KERNELS = {
    *("Add", "Cast", "Concat", "Div", "Expand", "Gather", "GatherElements", "Gelu", "Gemm", "LayerNormalization"),
    *("Less", "LogSoftmax", "MatMul", "Min", "Mod", "Mul", "Range", "ReduceMax", "Relu", "Reshape", "ScatterElements"),
    *("ScatterND", "Shape", "Slice", "Split", "Squeeze", "Sub", "TopK", "Transpose", "Unsqueeze", "Where"),
    *(GROUPED, MULTI_HEAD, f"{CONTRIB}::QuickGelu"),
}
"""Listed for the CUDA provider, in the types the graphs have, by ONNX Runtime's docs/OperatorKernels.md."""
PACKED_QUERY, SEQLENS, TOTAL_LENGTH = 0, 5, 6
"""Inputs of GroupQueryAttention."""


def graph_of(path: Path) -> onnx.GraphProto:
    """The graph without its weights."""
    return onnx.load(path, load_external_data=False).graph


def operators_of(graph: onnx.GraphProto) -> Counter[str]:
    """Nodes by operator, ``domain::name`` outside the standard domain."""
    return Counter(f"{node.domain}::{node.op_type}" if node.domain else node.op_type for node in graph.node)


def inner_types(path: Path, wanted: list[str]) -> dict[str, str]:
    """Types of values inside a graph, as ONNX Runtime infers them: it is opened with them as outputs."""
    model = onnx.load(path)
    known = {output.name for output in model.graph.output} | {given.name for given in model.graph.input}
    model.graph.output.extend([onnx.ValueInfoProto(name=name) for name in dict.fromkeys(wanted) if name not in known])
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return {node.name: node.type for node in (*session.get_inputs(), *session.get_outputs())}


def test_every_attention_is_fused(tiny_half_bundle: Bundle) -> None:
    """One node for each of the encoder, three for each layer of the decoder, no loose softmax; the manifest agrees."""
    manifest = tiny_half_bundle.manifest
    encoder, decoder = graph_of(tiny_half_bundle.encoder_path), graph_of(tiny_half_bundle.decoder_path)
    assert operators_of(encoder)[MULTI_HEAD] == manifest.dimensions.encoder_layers
    assert operators_of(decoder)[GROUPED] == 3 * manifest.dimensions.decoder_layers
    assert manifest.graphs.encoder.fused_attention == manifest.dimensions.encoder_layers
    assert manifest.graphs.decoder.fused_attention == 3 * manifest.dimensions.decoder_layers
    for graph in (encoder, decoder):
        assert "Softmax" not in operators_of(graph)


def test_inputs_and_outputs_have_the_types_that_are_bound(tiny_half_bundle: Bundle) -> None:
    """Ids int64, lengths int32, keys and values half; what the search reads is single."""
    layers = tiny_half_bundle.manifest.dimensions.decoder_layers
    assert tiny_half_bundle.manifest.cache_type == "float16"
    encoder = ort.InferenceSession(tiny_half_bundle.encoder_path, providers=["CPUExecutionProvider"])
    decoder = ort.InferenceSession(tiny_half_bundle.decoder_path, providers=["CPUExecutionProvider"])
    types = {node.name: node.type for node in (*decoder.get_inputs(), *decoder.get_outputs())}
    cross = (*names.narrow_cross(layers), *names.wide_cross(layers))
    caches = (*names.self_caches(layers), *names.self_caches_out(layers), *cross)
    lengths = (names.PAST_LENGTHS, names.NARROW_LENGTHS, names.WIDE_LENGTHS)
    places = (names.NARROW_ROWS, names.WIDE_ROWS, names.LANE)
    expected = dict.fromkeys(caches, HALF) | dict.fromkeys(lengths, INT32) | dict.fromkeys(places, INT64)
    expected |= dict.fromkeys((names.INPUT_IDS, names.BANS, names.K, names.FULL_ROWS, names.TOP_IDS), INT64)
    expected |= dict.fromkeys((names.TOP_LOG_PROBS, names.LOG_PROBS), SINGLE)
    assert types == expected
    found = {node.name: node.type for node in (*encoder.get_inputs(), *encoder.get_outputs())}
    assert found == {names.INPUT_IDS: INT64, names.LENGTHS: INT32, names.CROSS: HALF}


def test_attention_gets_what_cuda_takes(tiny_half_bundle: Bundle) -> None:
    """Half queries, int32 lengths, heads of a multiple of eight; keys and values straight from what is bound."""
    manifest = tiny_half_bundle.manifest
    path, layers = tiny_half_bundle.decoder_path, manifest.dimensions.decoder_layers
    nodes = [node for node in graph_of(path).node if node.op_type == "GroupQueryAttention"]
    inputs = [node.input[place] for node in nodes for place in (PACKED_QUERY, SEQLENS, TOTAL_LENGTH)]
    types = inner_types(path, inputs)
    assert [types[name] for name in inputs] == [HALF, INT32, INT32] * len(nodes)
    assert manifest.dimensions.head_size % 8 == 0
    bound = {*names.self_caches(layers), *names.narrow_cross(layers), *names.wide_cross(layers)}
    assert {name for node in nodes for name in node.input[3:5]} == bound
    written = {name for node in nodes for name in node.output[1:] if name}
    assert written == set(names.self_caches_out(layers))
    for node in nodes:
        heads = {attribute.name: attribute.i for attribute in node.attribute}
        assert heads["kv_num_heads"] == manifest.dimensions.heads
        assert heads["num_heads"] % heads["kv_num_heads"] == 0


def test_self_attention_takes_lengths_as_they_are_bound(tiny_half_bundle: Bundle) -> None:
    """No node computes the past lengths: a row's own input goes to the operator, which appends in place."""
    nodes = [node for node in graph_of(tiny_half_bundle.decoder_path).node if node.op_type == "GroupQueryAttention"]
    own = [node for node in nodes if any(node.output[1:])]
    assert len(own) == tiny_half_bundle.manifest.dimensions.decoder_layers
    assert {node.input[SEQLENS] for node in own} == {names.PAST_LENGTHS}


@pytest.mark.parametrize("graph", ["encoder", "decoder", "copy_positions"])
def test_every_operator_has_a_cuda_kernel(graph: str, tiny_half_bundle: Bundle) -> None:
    """An operator that is not listed would run on the CPU, with a copy each way in every step."""
    path = tiny_half_bundle.directory / f"{graph}.onnx"
    assert set(operators_of(graph_of(path))) - CUDA_KERNELS == set()


@pytest.mark.parametrize("graph", ["encoder", "decoder"])
def test_weights_are_half(graph: str, tiny_half_bundle: Bundle) -> None:
    """Whatever is not small lies in two bytes a number, so that no product runs in single."""
    tensors = graph_of(tiny_half_bundle.directory / f"{graph}.onnx").initializer
    large = [tensor for tensor in tensors if math.prod(tensor.dims) * 2 >= INLINE_LIMIT]
    assert large
    assert {tensor.data_type for tensor in large} == {TensorProto.FLOAT16}


def test_half_bundles_weigh_half(tiny_bundle: Path, tiny_half_bundle: Bundle) -> None:
    """Weights take half the bytes of fp32, up to the boundaries at which tensors begin."""
    single = Bundle.load(tiny_bundle).manifest.files["weights.bin"].bytes
    half = tiny_half_bundle.manifest.files["weights.bin"].bytes
    assert 0.45 < half / single < 0.6
