"""What PyTorch says of a checkpoint before it is traced: answers to the probes, int8 scales, heads that align."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from exporter.alignment import (
    LONGEST_PAIR,
    REQUIRED_ANCHORS,
    AnchoredPair,
    HeadScores,
    anchored_pairs,
    score_heads,
    score_two_heads,
)
from exporter.calibration import generated_texts
from exporter.checkpoint import Checkpoint
from exporter.export_options import ExportOptions
from exporter.presets import PRESETS
from exporter.probes import Probes, Questions, answered_by_pytorch, ask, probe_texts
from exporter.quantize import ClippedInputs, InputRanges, Scales, cached_maps, calibrated_scales
from exporter.stages import Stages
from exporter.teacher import observe
from service.bundle import SEPARATE_VOCABULARY_FILE
from service.tokenizer import Tokenizer, Vocabulary

CALIBRATION_SENTENCES = 96
ALIGNMENT_SENTENCES = 200
"""Two heads are tried on no fewer: 64 generated sentences hold about 100 anchors, a standard error of 4 points."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """The checkpoint under export."""

    checkpoint: Checkpoint
    tokenizer: Tokenizer
    directory: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Study:
    """PyTorch's answers, and what the export needs to know of the model."""

    probes: Probes
    heads: HeadScores
    scales: Scales | None
    clipped_share: float | None


def study(subject: Subject, options: ExportOptions, stages: Stages) -> Study:
    """Let PyTorch answer the probes; where the precision needs it, calibrate and count what the scales clip."""
    proof, calibration = proof_texts(subject, options), calibration_texts(subject, options)
    together = answered(subject, [*proof, *calibration], stages)
    probes = together.part(slice(len(proof)))
    scales: Scales | None = None
    clipped: ClippedInputs | None = None
    if calibration:
        scales = calibrated(subject, together.part(slice(len(proof), None)))
        clipped = ClippedInputs(scales.products)
        observe(subject.checkpoint.model, probes.sources, probes.answers, clipped)
    return Study(
        probes=probes,
        heads=scored_heads(subject, probes, options, stages),
        scales=scales,
        clipped_share=None if clipped is None else clipped.share,
    )


def answered(subject: Subject, texts: Sequence[str], stages: Stages) -> Probes:
    """Return ``texts`` as questions with PyTorch's greedy answers, behind a progress bar."""
    return answers_to(subject, ask(subject.checkpoint, subject.tokenizer, texts), stages)


def answers_to(subject: Subject, questions: Questions, stages: Stages) -> Probes:
    """Return ``questions`` with PyTorch's greedy answers, behind a progress bar."""
    with stages.counting(len(questions.sources), "sentence") as progress:
        return answered_by_pytorch(subject.checkpoint.model, questions, progress=progress)


def proof_texts(subject: Subject, options: ExportOptions) -> Sequence[str]:
    """Return the caller's sentences, and generated ones until there are enough."""
    given, longest = options.proof_texts or (), subject.checkpoint.model.config.max_positions
    return probe_texts(subject.directory, given, count=options.proof_sentences, max_tokens=longest)


def calibration_texts(subject: Subject, options: ExportOptions) -> Sequence[str]:
    """Return the caller's sentences or generated ones; none where nothing is calibrated."""
    if not PRESETS[options.precision].integer_weights:
        return ()
    source_model = subject.directory / "source.spm"
    return options.calibration_texts or generated_texts(source_model, count=CALIBRATION_SENTENCES, seed=2)


def calibrated(subject: Subject, probes: Probes) -> Scales:
    """Return the activation scale of each product, from what goes in while ``probes`` are translated."""
    ranges = InputRanges(cached_maps(subject.checkpoint.model))
    observe(subject.checkpoint.model, probes.sources, probes.answers, ranges)
    return calibrated_scales(subject.checkpoint.model, ranges)


def scored_heads(subject: Subject, probes: Probes, options: ExportOptions, stages: Stages) -> HeadScores:
    """Score the cross-attention heads on the probes; where none is good enough, on more of them, and two together."""
    required = options.alignment_accuracy
    model, pairs = subject.checkpoint.model, anchored(subject, probes)
    heads = score_heads(model, pairs)
    if heads.best(required=required) is not None:
        return heads
    if len(probes.sources) < ALIGNMENT_SENTENCES:
        pairs = anchored(subject, enough_probes(subject, probes, stages))
        heads = score_heads(model, pairs)
    if heads.anchors < REQUIRED_ANCHORS or heads.best(required=required) is not None:
        return heads
    return score_two_heads(model, pairs, heads)


def anchored(subject: Subject, probes: Probes) -> list[AnchoredPair]:
    """Return the probes that show where a head should look."""
    separate = subject.directory / SEPARATE_VOCABULARY_FILE
    source_pieces = Vocabulary.load(subject.directory / "vocab.json").pieces
    return anchored_pairs(
        list(zip(probes.sources, probes.answers, strict=True)),
        source_pieces=source_pieces,
        target_pieces=Vocabulary.load(separate).pieces if separate.exists() else source_pieces,
    )


def enough_probes(subject: Subject, probes: Probes, stages: Stages) -> Probes:
    """Return ``probes`` and those sentences that a default export would be proved on and they lack."""
    longest = subject.checkpoint.model.config.max_positions
    texts = probe_texts(subject.directory, count=ALIGNMENT_SENTENCES, max_tokens=longest)
    asked = ask(subject.checkpoint, subject.tokenizer, texts)
    known = set(map(tuple, probes.sources))
    lacking = [
        index
        for index, source in enumerate(asked.sources)
        if tuple(source) not in known and len(source) <= LONGEST_PAIR
    ]
    more = Questions(
        texts=[asked.texts[index] for index in lacking],
        sources=[asked.sources[index] for index in lacking],
        limits=[asked.limits[index] for index in lacking],
    )
    return probes.with_more(answers_to(subject, more, stages))
