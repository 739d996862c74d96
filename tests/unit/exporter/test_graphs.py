"""The traced graphs compute what the PyTorch model computes, fused, and each row the same bits in any company."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
import onnx
import pytest
import torch
from onnxruntime.quantization import QuantType, quantize_dynamic
from torch import Tensor

from exporter.assembly import check_fused
from exporter.attention import KeysValues
from exporter.attention_forms import PlainAttention
from exporter.decoder_graph import AlignmentHead, DecoderStepGraph
from exporter.encoder_graph import EncoderGraph
from exporter.layer_parts import padded_vocabulary_size
from exporter.layers import decoder_layers
from exporter.model import TranslationModel
from exporter.model_config import Activation, ModelConfig, Norm
from exporter.node_forms import NodeForms
from exporter.products import FloatPrecision, IntegerPrecision, Precision
from exporter.quantize import InputRanges, cached_maps, calibrated_scales
from exporter.teacher import observe
from exporter.trace import TracedGraph, trace_decoder, trace_encoder, write_graphs
from service import graph_names as names
from service.errors import ExportError
from tests.doubles.graph_harness import FloatArray, Rows, open_graph, random_rows, step

HEAD = AlignmentHead(1, 2)
SHIFTED = AlignmentHead(0, 3)
PAD = 0


def small_model(*, norm: Norm = "post", activation: Activation = "swish", vocabulary: int = 700) -> TranslationModel:
    """A model of two layers with weights large enough to tell tokens apart."""
    torch.manual_seed(3)
    config = ModelConfig(
        vocabulary_size=vocabulary,
        target_vocabulary_size=vocabulary,
        d_model=32,
        heads=4,
        encoder_layers=2,
        decoder_layers=2,
        encoder_ffn=48,
        decoder_ffn=48,
        activation=activation,
        norm=norm,
        max_positions=64,
    )
    model = TranslationModel(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.1)
    return model


@dataclass(frozen=True, slots=True)
class Traced:
    """A model and its graphs on disk."""

    model: TranslationModel
    encoder: TracedGraph
    decoder: TracedGraph
    directory: Path
    heads: tuple[AlignmentHead, ...]


def trace(
    model: TranslationModel,
    precision: Precision,
    nodes: NodeForms,
    directory: Path,
    heads: tuple[AlignmentHead, ...] = (HEAD,),
) -> Traced:
    """Trace and write both graphs."""
    encoder = trace_encoder(EncoderGraph(model, precision, nodes))
    decoder = trace_decoder(DecoderStepGraph(model, precision, nodes, heads), model.config, precision.cache_dtype)
    write_graphs([encoder, decoder], directory)
    return Traced(model, encoder, decoder, directory, heads)


def integer_precision(model: TranslationModel) -> IntegerPrecision:
    """Scales calibrated on random ids."""
    generator = torch.Generator().manual_seed(1)
    rows = [torch.randint(3, 700, (12,), generator=generator).tolist() for _ in range(24)]
    ranges = InputRanges(cached_maps(model))
    observe(model, rows, rows, ranges)
    return IntegerPrecision(calibrated_scales(model, ranges))


@pytest.fixture(scope="module")
def fused(tmp_path_factory: pytest.TempPathFactory) -> Traced:
    """Post-norm with swish, as OPUS-MT has it, in fp32."""
    return trace(small_model(), FloatPrecision(), NodeForms(), tmp_path_factory.mktemp("fused"))


@pytest.fixture(scope="module")
def two_heads(tmp_path_factory: pytest.TempPathFactory) -> Traced:
    """As ``fused``, with the queries of two heads, the later layer's first."""
    directory = tmp_path_factory.mktemp("two_heads")
    return trace(small_model(), FloatPrecision(), NodeForms(), directory, (HEAD, SHIFTED))


@pytest.fixture(scope="module")
def integer(tmp_path_factory: pytest.TempPathFactory) -> Traced:
    """The same in int8."""
    model = small_model()
    return trace(model, integer_precision(model), NodeForms(), tmp_path_factory.mktemp("integer"))


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Traced:
    """Pre-norm with GELU, attention unfused."""
    model = small_model(norm="pre", activation="gelu")
    return trace(model, FloatPrecision(), NodeForms(attention=PlainAttention()), tmp_path_factory.mktemp("plain"))


@pytest.fixture(scope="module")
def other_nodes(tmp_path_factory: pytest.TempPathFactory) -> Traced:
    """Post-norm with swish, every node in its other form."""
    nodes = NodeForms(swish="Sigmoid, Mul", residual="SkipLayerNormalization")
    traced = trace(small_model(), FloatPrecision(), nodes, tmp_path_factory.mktemp("other"))
    assert traced.decoder.operators()["com.microsoft::SkipLayerNormalization"] == 6
    assert "com.microsoft::QuickGelu" not in traced.decoder.operators()
    return traced


@dataclass(frozen=True, slots=True)
class Decoding:
    """Rows in the middle of decoding, with what PyTorch says comes next."""

    state: Rows
    log_probs: FloatArray
    alignments: list[list[FloatArray]]


@torch.inference_mode()
def decoding(traced: Traced) -> Decoding:
    """Encode five sentences with the graph and decode prefixes of ragged lengths with PyTorch."""
    model, config = traced.model, traced.model.config
    generator = np.random.default_rng(5)
    lengths, past = np.array([5, 12, 1, 9, 7], np.int32), np.array([0, 5, 20, 2, 11], np.int32)
    ids = generator.integers(3, config.vocabulary_size, (5, 12))
    encoder = open_graph(traced.directory / "encoder.onnx", threads=1)
    cross = encoder.run([names.CROSS], {names.INPUT_IDS: ids, names.LENGTHS: lengths})[0]
    caches = [np.zeros((5, config.heads, 21, config.head_size), np.float32) for _ in range(4)]
    expected, tokens, alignments = [], [], []
    for row, (length, count) in enumerate(zip(lengths, past, strict=True)):
        source, mask = torch.tensor(ids[row : row + 1, :length]), torch.ones(1, int(length), dtype=torch.bool)
        prefix = torch.tensor([[config.decoder_start_id, *generator.integers(3, 700, count)]])
        tokens.append(int(prefix[0, -1]))
        expected.append(model(source, mask, prefix)[0, -1].log_softmax(-1).numpy())
        weights = model.attention_weights(source, mask, prefix).cross
        alignments.append([weights[head.layer][0, head.head, -1].numpy() for head in traced.heads])
        states, memory = model.embed_target(prefix), model.encode(source, mask)
        for index, layer in enumerate(decoder_layers(model)):
            keys_values: KeysValues = layer.cross_attention.project(memory)
            for part, tensor in enumerate(keys_values):
                difference = np.abs(cross[2 * index + part, row, :, :length] - tensor[0].numpy()).max()
                assert difference < 2e-5, "the encoder graph differs from PyTorch"
            output = layer(states, keys_values, mask[:, None, None, :])
            states = output.states
            for part, tensor in enumerate(output.past):
                caches[2 * index + part][row, :, :count] = tensor[0, :, :count]
    state = Rows(np.array(tokens), past, caches, lengths, list(cross))
    return Decoding(state, np.stack(expected), alignments)


@pytest.mark.parametrize("form", ["fused", "plain", "other_nodes", "two_heads"])
def test_log_probabilities_are_pytorchs(form: str, request: pytest.FixtureRequest) -> None:
    """Ragged rows, narrow and wide in one step, garbage beyond every length: the numbers are the model's own."""
    traced: Traced = request.getfixturevalue(form)
    case = decoding(traced)
    decoder = open_graph(traced.directory / "decoder.onnx", threads=2)
    found = step(decoder, case.state, range(5), wide=(1, 4), k=3)
    log_probs = found[names.LOG_PROBS][:, :700].copy()
    assert np.isneginf(log_probs[:, PAD]).all()
    expected = case.log_probs.copy()
    expected[:, PAD] = log_probs[:, PAD] = 0.0
    assert np.abs(log_probs - expected).max() < 2e-5
    queries = np.split(found[names.ALIGNMENT_QUERY], len(traced.heads), axis=1)
    for row, by_head in enumerate(case.alignments):
        for head, query, weights in zip(traced.heads, queries, by_head, strict=True):
            scores = case.state.cross[2 * head.layer][row, head.head, : len(weights)] @ query[row]
            exponents = np.exp(scores - scores.max())
            assert np.abs(exponents / exponents.sum() - weights).max() < 1e-5


def test_a_second_head_adds_its_query_and_changes_no_bit_elsewhere(fused: Traced, two_heads: Traced) -> None:
    """Whether one head aligns or two, all other outputs are the same, and the first half of the queries too."""
    state = random_rows(fused.model.config, 6, longest_past=20, longest_source=15, seed=2)
    one, two = (
        step(open_graph(each.directory / "decoder.onnx", threads=1), state, range(6), wide=(1, 4), k=3)
        for each in (fused, two_heads)
    )
    queries = two.pop(names.ALIGNMENT_QUERY)
    first = one.pop(names.ALIGNMENT_QUERY)
    assert queries.shape == (6, 2 * fused.model.config.head_size)
    np.testing.assert_array_equal(queries[:, : first.shape[1]], first)
    assert one.keys() == two.keys()
    for name, array in one.items():
        np.testing.assert_array_equal(two[name], array)


def test_both_queries_meet_keys_as_int8_stores_them(integer: Traced, tmp_path: Path) -> None:
    """Each head's query is scaled by its own keys' steps: side by side they are what each head alone would give."""
    model = integer.model
    state = random_rows(model.config, 4, longest_past=9, longest_source=8, seed=6, int8=True)
    found = []
    for number, heads in enumerate([(HEAD,), (SHIFTED,), (HEAD, SHIFTED)]):
        directory = tmp_path / str(number)
        directory.mkdir()
        traced = trace(model, integer_precision(model), NodeForms(), directory, heads)
        decoder = open_graph(traced.directory / "decoder.onnx", threads=1)
        found.append(step(decoder, state, range(4), k=1)[names.ALIGNMENT_QUERY])
    np.testing.assert_array_equal(found[2], np.concatenate(found[:2], axis=1))


@pytest.mark.parametrize("k", [1, 2, 5, 16])
def test_selection_is_exact_and_ties_go_to_the_lowest_id(fused: Traced, k: int) -> None:
    """Whatever k is, the best come in order, equal ones by id, the banned not at all."""
    decoder = open_graph(fused.directory / "decoder.onnx", threads=1)
    state = random_rows(fused.model.config, 6, longest_past=20, longest_source=15, seed=2)
    free = step(decoder, state, range(6), k=1)
    bans = [(row, PAD) for row in range(6)] + [(2, int(free[names.TOP_IDS][2, 0])), (2, 699)]
    found = step(decoder, state, range(6), k=k, bans=bans)
    log_probs = found[names.LOG_PROBS]
    assert all(np.isneginf(log_probs[row, token]) for row, token in bans)
    assert np.isneginf(log_probs[:, 700:]).all()
    order = np.argsort(-log_probs, axis=1, kind="stable")[:, :k]
    np.testing.assert_array_equal(found[names.TOP_IDS], order)
    np.testing.assert_array_equal(found[names.TOP_LOG_PROBS], np.take_along_axis(log_probs, order, axis=1))


def test_equal_tokens_in_different_chunks_come_in_the_order_of_their_ids(tmp_path: Path) -> None:
    """Where whole stretches of the vocabulary share one probability, the lowest ids win, across chunks too."""
    model = small_model()
    with torch.no_grad():
        model.source_embedding.weight[100:600] = model.source_embedding.weight[100]
        model.final_logits_bias[100:600] = 9.0
        model.final_logits_bias[450] = 9.5
    traced = trace(model, FloatPrecision(), NodeForms(), tmp_path)
    decoder = open_graph(tmp_path / "decoder.onnx", threads=1)
    state = random_rows(traced.model.config, 2, longest_past=5, longest_source=5, seed=4)
    found = step(decoder, state, range(2), k=8)[names.TOP_IDS]
    assert found.tolist() == [[450, 100, 101, 102, 103, 104, 105, 106]] * 2


def companies() -> Iterator[tuple[list[int], list[int], int, int]]:
    """Rows, which of them are wide, and capacities: alone, in pairs, in crowds, in any order."""
    generator = np.random.default_rng(9)
    for row in (0, 7, 20):
        yield [row], [], 40, 40
        yield [row], [row], 40, 40
    for count in (2, 3, 5, 8, 16, 21):
        rows = generator.permutation(21)[:count].tolist()
        yield rows, [], 33, 64
        yield rows, rows[::2], 48, 31
        yield rows, rows, 40, 40


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("precision", ["fused", "integer"])
def test_a_row_has_the_same_bits_in_any_company(
    precision: Literal["fused", "integer"], threads: int, request: pytest.FixtureRequest
) -> None:
    """Log-probabilities of a row are bit-equal alone, with others, as a beam, in any place, with any capacity."""
    traced: Traced = request.getfixturevalue(precision)
    decoder = open_graph(traced.directory / "decoder.onnx", threads=threads)
    int8 = precision == "integer"
    state = random_rows(traced.model.config, 21, longest_past=30, longest_source=30, seed=6, int8=int8)
    together = step(decoder, state, range(21))[names.LOG_PROBS]
    assert len(np.unique(together[:, 5])) == 21
    for rows, wide, capacity, source_capacity in companies():
        found = step(decoder, state, rows, wide=wide, capacity=capacity, source_capacity=source_capacity)
        np.testing.assert_array_equal(found[names.LOG_PROBS], together[rows])


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("precision", ["fused", "integer"])
def test_a_sentence_encodes_to_the_same_bits_at_any_width(
    precision: Literal["fused", "integer"], threads: int, request: pytest.FixtureRequest
) -> None:
    """Cross keys and values are bit-equal alone and padded, from one token up, whatever the padding holds."""
    traced: Traced = request.getfixturevalue(precision)
    encoder = open_graph(traced.directory / "encoder.onnx", threads=threads)
    generator = np.random.default_rng(8)
    lengths = np.array([1, 2, 3, 5, 8, 13, 21], np.int32)
    ids = generator.integers(3, 700, (7, 21))
    together = encoder.run([names.CROSS], {names.INPUT_IDS: ids, names.LENGTHS: lengths})[0]
    for row, length in enumerate(lengths.tolist()):
        for padding in (0, 1, 6):
            alone = np.full((1, length + padding), 11)
            alone[0, :length] = ids[row, :length]
            feeds = {names.INPUT_IDS: alone, names.LENGTHS: lengths[row : row + 1]}
            found = encoder.run([names.CROSS], feeds)[0]
            np.testing.assert_array_equal(found[:, 0, :, :length], together[:, row, :, :length])


def test_per_tensor_dynamic_quantization_would_break_this(fused: Traced, tmp_path: Path) -> None:
    """The invariance test can fail: with one activation scale per batch, as quantize_dynamic makes it, rows differ."""
    extra = {"DefaultTensorType": onnx.TensorProto.FLOAT}
    quantize_dynamic(
        fused.directory / "decoder.onnx", tmp_path / "dynamic.onnx", weight_type=QuantType.QInt8, extra_options=extra
    )
    decoder = open_graph(tmp_path / "dynamic.onnx", threads=1)
    state = random_rows(fused.model.config, 5, longest_past=30, longest_source=30, seed=6)
    together = step(decoder, state, range(5))[names.LOG_PROBS]
    alone = step(decoder, state, [3])[names.LOG_PROBS]
    assert not np.array_equal(alone[0], together[3])


def in_int8(state: Rows, model: TranslationModel) -> Rows:
    """The same rows with their caches in the calibrated steps of `model`."""
    precision = integer_precision(model)
    own = [step for layer in decoder_layers(model) for step in precision.cache_steps(layer.self_attention)]
    cross = [step for layer in decoder_layers(model) for step in precision.cache_steps(layer.cross_attention)]

    def stored(cache: FloatArray, step: Tensor) -> npt.NDArray[np.int8]:
        _, heads, _, size = cache.shape
        steps = np.rint(cache / step.numpy().reshape(heads, 1, size))
        clipped: npt.NDArray[np.int8] = np.clip(steps, -128, 127).astype(np.int8)
        return clipped

    return dataclasses.replace(
        state,
        caches=[stored(*pair) for pair in zip(state.caches, own, strict=True)],
        cross=[stored(*pair) for pair in zip(state.cross, cross, strict=True)],
    )


def test_int8_stays_close_to_fp32(fused: Traced, integer: Traced) -> None:
    """Quantized log-probabilities differ from PyTorch's a little, and the products really are quantized."""
    case = decoding(fused)
    decoder = open_graph(integer.directory / "decoder.onnx", threads=1)
    found = step(decoder, in_int8(case.state, integer.model), range(5))[names.LOG_PROBS]
    difference = np.abs(found[:, 3:700] - case.log_probs[:, 3:])
    assert 0.0 < difference.mean() < 0.1 * case.log_probs[:, 3:].std()
    assert integer.decoder.operators()["com.microsoft::MatMulIntegerToFloat"] == 13
    assert integer.encoder.operators()["com.microsoft::MatMulIntegerToFloat"] == 9
    assert not {"MatMul", "Gemm"} & set(integer.decoder.operators())


def test_every_attention_is_one_fused_node(fused: Traced, plain: Traced) -> None:
    """Each attention of each layer is fused and counted, and an unfused graph is refused as such."""
    assert fused.encoder.operators()["com.microsoft::MultiHeadAttention"] == 2
    assert fused.decoder.operators()["com.microsoft::GroupQueryAttention"] == 6
    assert "Softmax" not in fused.decoder.operators() | fused.encoder.operators()
    check_fused(fused.decoder, 6)
    with pytest.raises(ExportError, match="0 fused attention nodes and 6 loose ones, expected 6"):
        check_fused(plain.decoder, 6)


def test_bans_can_be_written_in_place(fused: Traced) -> None:
    """The runtime reuses memory only between values of one known shape: both sides of the bans have it in the file."""
    graph = onnx.load(fused.directory / "decoder.onnx", load_external_data=False).graph
    (ban,) = [node for node in graph.node if node.op_type == "ScatterElements"]
    dimensions = {info.name: info.type.tensor_type.shape.dim for info in graph.value_info}
    before, after = dimensions[ban.input[0]], dimensions[ban.output[0]]
    assert [each.dim_param or each.dim_value for each in before] == ["rows", 768]
    assert [each.dim_param or each.dim_value for each in after] == ["rows", 768]


def test_int8_caches_are_named_in_type_and_returned(fused: Traced, integer: Traced) -> None:
    """int8 graphs take and return int8 keys and values, those of sentences too; float ones the rows' own alone."""
    assert fused.decoder.input_type("self_key_0") == "float32"
    assert integer.decoder.input_type("self_key_0") == "int8"
    returned = {output.name for output in open_graph(integer.directory / "decoder.onnx", threads=1).get_outputs()}
    kept = {output.name for output in open_graph(fused.directory / "decoder.onnx", threads=1).get_outputs()}
    assert returned - kept == {*names.narrow_cross_out(2), *names.wide_cross_out(2)}


def test_queries_keys_and_values_are_one_product(fused: Traced) -> None:
    """Six products per decoder layer and the projection; four per encoder layer and one for all cross keys/values."""
    operators = fused.decoder.operators()
    assert operators.get("Gemm", 0) + operators.get("MatMul", 0) == 2 * 6 + 1
    assert fused.encoder.operators()["MatMul"] == 2 * 4 + 1


@pytest.mark.parametrize(("size", "padded"), [(1, 128), (128, 128), (129, 256), (65001, 65024)])
def test_the_vocabulary_is_padded_to_whole_chunks(size: int, padded: int) -> None:
    """Padded sizes are the next multiple of 128."""
    assert padded_vocabulary_size(size) == padded
