"""A bundle whose alignments come from two heads: what the engine returns is PyTorch's product of their attention."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from exporter.alignment import HeadScores
from exporter.assembly import contents_of
from exporter.export_options import ExportOptions
from exporter.model import TranslationModel
from exporter.packaging import write_bundle
from exporter.probes import Probes, ask
from exporter.serving import engine_over
from exporter.sources import Corrections, read_checkpoint
from exporter.study import Study, Subject
from service.bundle import Bundle, Head
from service.engine import DecodingOptions, FinishReason, ModelRunner
from service.runtime import DeviceRunner, OnnxRunner, RuntimeSettings
from service.runtime.alignment import FloatArray
from service.runtime.device_memory import Device
from service.runtime.sessions import open_sessions
from tests.tiny_model import sentences

SETTINGS = RuntimeSettings(row_slots=12, max_source_tokens=40, max_output_tokens=20)
FIRST, SHIFTED = 1, 0
"""Heads of the tiny model's one decoder layer."""


@pytest.fixture(scope="module")
def subject(tiny_checkpoint: Path) -> Subject:
    """The tiny model."""
    checkpoint, tokenizer = read_checkpoint(tiny_checkpoint, Corrections())
    return Subject(checkpoint=checkpoint, tokenizer=tokenizer, directory=tiny_checkpoint)


@pytest.fixture(scope="module")
def bundle(subject: Subject, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """The tiny model in fp32, as if its two heads together had passed."""
    heads = HeadScores(np.array([[0.1, 0.5]]), 100, np.array([[0.6, 0.2]]), 0.9)
    probes = Probes(questions=ask(subject.checkpoint, subject.tokenizer, []), answers=[])
    studied = Study(probes=probes, heads=heads, scales=None, clipped_share=None)
    contents = contents_of(subject, ExportOptions(threads=1), studied)
    return write_bundle(contents, tmp_path_factory.mktemp("two"))


@torch.inference_mode()
def expected(model: TranslationModel, source: list[int], ids: tuple[int, ...]) -> FloatArray:
    """Both heads' attention multiplied, (ids and EOS, source), from one pass of PyTorch over the whole answer."""
    fed = torch.tensor([[model.config.decoder_start_id, *ids]])
    mask = torch.ones(1, len(source), dtype=torch.bool)
    weights = model.attention_weights(torch.tensor([source]), mask, fed).cross[0][0].numpy()
    product: FloatArray = weights[FIRST].copy()
    product[:-1] *= weights[SHIFTED, 1:]
    product /= product.sum(axis=1, keepdims=True)
    return product


@pytest.mark.parametrize("kind", ["cpu", "device"])
def test_the_engine_multiplies_both_heads_of_every_hypothesis(kind: str, subject: Subject, bundle: Bundle) -> None:
    """Greedy, forced prefixes, beams and answers cut at any length, all in one batch, EOS' row included."""
    assert bundle.manifest.alignment is not None
    assert bundle.manifest.alignment.heads[1] == Head(layer=0, head=SHIFTED)
    sessions = open_sessions(bundle, SETTINGS)
    runner: ModelRunner = (
        OnnxRunner(bundle, sessions, SETTINGS)
        if kind == "cpu"
        else DeviceRunner(bundle, sessions, SETTINGS, Device(kind="cpu"))
    )
    sources = ask(subject.checkpoint, subject.tokenizer, sentences()[:24:3]).sources
    shapes = [
        DecodingOptions(return_alignments=True),
        DecodingOptions(return_alignments=True, target_prefix=(9, 7), max_output_tokens=6),
        DecodingOptions(return_alignments=True, beam_size=3, num_hypotheses=3),
        DecodingOptions(return_alignments=True, beam_size=4, num_hypotheses=4, max_output_tokens=1),
    ]
    options = [shapes[index % len(shapes)] for index in range(len(sources))]
    with engine_over(runner) as engine:
        results = engine.decode(sources, options).results
    reasons = set()
    for source, result in zip(sources, results, strict=True):
        for hypothesis in result.hypotheses:
            reasons.add(hypothesis.finish_reason)
            assert hypothesis.alignment is not None
            weights = expected(subject.checkpoint.model, source, hypothesis.ids)
            np.testing.assert_allclose(hypothesis.alignment, weights, atol=2e-5)
    assert FinishReason.LENGTH in reasons
