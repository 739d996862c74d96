"""``python -m exporter export``: turn a checkpoint into a bundle, proved before it is put in place."""

from __future__ import annotations

import argparse
import dataclasses
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version as distribution_version
from pathlib import Path

import torch
from tqdm import tqdm

from exporter.alignment import REQUIRED_ACCURACY, HeadScores, score_heads
from exporter.attention_forms import FusedAttention, PlainAttention
from exporter.calibration import generated_texts
from exporter.checkpoint import Checkpoint
from exporter.graphs import AlignmentHead, DecoderStepGraph, EncoderGraph
from exporter.packaging import Contents, fused_attention, staged, write_bundle
from exporter.presets import PRESETS, graph_precision
from exporter.probes import Probes, answer_greedily, ask, probe_texts, read_lines, with_eos
from exporter.proof import Proof, prove, refuse_beyond_ties
from exporter.quantize import ClippedInputs, InputRanges, Scales, activation_scales
from exporter.reference import REQUIRED_AGREEMENT, prove_beams, require_transformers
from exporter.scoring import score
from exporter.serving import BundleEngine, bundle_engine, open_runner
from exporter.sources import Corrections, checkpoint_directory, is_marian, read_checkpoint
from exporter.stages import Stages
from exporter.teacher import Difference, Observer, disagreements, ignored
from exporter.trace import TracedGraph, trace_decoder, trace_encoder
from service.bundle import REPORT_FILE, SEPARATE_VOCABULARY_FILE, Alignment, Bundle, Precision, canonical_json
from service.errors import ConfigError, DataError, ExportError
from service.tokenizer import Tokenizer, Vocabulary

CALIBRATION_SENTENCES = 96
PROOF_SENTENCES = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportOptions:
    """How to export; texts are the caller's sentences, None where the exporter makes its own."""

    precision: Precision = "fp32"
    fused: bool = True
    calibration_texts: Sequence[str] | None = None
    proof_texts: Sequence[str] | None = None
    proof_references: Sequence[str] | None = None
    proof_sentences: int = PROOF_SENTENCES
    alignment_accuracy: float = REQUIRED_ACCURACY
    proof_beams: int = 0
    threads: int = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """The checkpoint under export."""

    checkpoint: Checkpoint
    tokenizer: Tokenizer
    directory: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Reference:
    """What the fp32 graphs answered, what PyTorch thinks of it, and what both say of the model."""

    probes: Probes
    preferred_otherwise: list[Difference]
    heads: HeadScores
    scales: Scales | None
    clipped_share: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Exported:
    """A bundle in place and what its report says."""

    bundle: Bundle
    report: dict[str, object]


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the ``export`` subcommand."""
    parser = subparsers.add_parser("export", help="turn a checkpoint into a bundle that the service loads")
    parser.set_defaults(run=run)
    add = parser.add_argument
    add("--checkpoint", required=True, metavar="DIR", help="checkpoint of ours or in the Marian layout, or a hub name")
    add("--output", required=True, type=Path, metavar="DIR", help="where the bundle goes")
    purposes = "; ".join(f"{name}: {preset.purpose}" for name, preset in PRESETS.items())
    add("--precision", choices=tuple(PRESETS), default="fp32", help=purposes)
    add("--calibration-text", type=Path, metavar="FILE", help="source sentences that set int8 activation scales")
    add("--proof-text", type=Path, metavar="FILE", help="source sentences to prove the bundle on")
    add("--proof-references", type=Path, metavar="FILE", help="their translations, to report BLEU and chrF")
    add("--proof-sentences", type=int, default=PROOF_SENTENCES, metavar="N", help="sentences made where none are given")
    add("--proof-beams", type=int, default=0, metavar="N", help="compare beam 4 of N sentences with transformers' (0)")
    text = "least share of anchors that the alignment head must get right; the manifest records it (%(default)s)"
    add("--alignment-accuracy", type=float, default=REQUIRED_ACCURACY, metavar="SHARE", help=text)
    add("--unfused", action="store_true", help="write attention as plain products, for comparison")
    add("--threads", type=int, default=2, metavar="N", help="CPU threads (2)")
    for name in ("name", "source", "target", "licence", "attribution"):
        add(f"--{name}", help=f"{name} of the model where its files do not say")


def run(args: argparse.Namespace) -> int:
    """Export as the arguments say and print a summary."""
    references = read_lines(args.proof_references) if args.proof_references else None
    options = ExportOptions(
        precision=args.precision,
        fused=not args.unfused,
        calibration_texts=read_lines(args.calibration_text) if args.calibration_text else None,
        proof_texts=read_lines(args.proof_text) if args.proof_text else None,
        proof_references=references,
        proof_sentences=args.proof_sentences,
        alignment_accuracy=args.alignment_accuracy,
        proof_beams=args.proof_beams,
        threads=args.threads,
    )
    corrections = Corrections(
        name=args.name,
        source=args.source,
        target=args.target,
        licence=args.licence,
        attribution=args.attribution,
    )
    exported = export(checkpoint_directory(args.checkpoint), args.output, options, corrections)
    print(summary(exported))
    return 0


def check_options(options: ExportOptions) -> None:
    """Refuse options that contradict each other.

    Raises:
        ConfigError: naming the option.
    """
    if options.proof_sentences < 8:
        raise ConfigError("--proof-sentences must be at least 8")
    if options.proof_beams > 0:
        require_transformers()
    if not 0.0 <= options.alignment_accuracy <= 1.0:
        raise ConfigError("--alignment-accuracy must be 0 to 1")
    if options.threads < 1:
        raise ConfigError("--threads must be at least 1")
    if options.calibration_texts is not None and not PRESETS[options.precision].integer_weights:
        raise ConfigError(f"--calibration-text has no effect with --precision {options.precision}")
    if options.proof_references is not None:
        if options.proof_texts is None:
            raise ConfigError("--proof-references needs --proof-text")
        if len(options.proof_references) != len(options.proof_texts):
            raise DataError(
                f"{len(options.proof_texts)} proof sentences but {len(options.proof_references)} references"
            )


def export(directory: Path, output: Path, options: ExportOptions, corrections: Corrections | None = None) -> Exported:
    """Export the checkpoint in ``directory`` to ``output``, which appears whole or not at all.

    Raises:
        CheckpointError: when the checkpoint is not usable.
        ExportError: when an attention is not fused, the proof fails or the disk is full.
        ConfigError: when the options contradict each other or ``output`` is in the way.
    """
    check_options(options)
    begin = time.monotonic()
    torch.set_num_threads(options.threads)
    with staged(output) as stage, Stages(6) as stages:
        stages.enter("read the checkpoint")
        checkpoint, tokenizer = read_checkpoint(directory, corrections or Corrections())
        subject = Subject(checkpoint=checkpoint, tokenizer=tokenizer, directory=directory)
        with tempfile.TemporaryDirectory(prefix=".reference-", dir=stage.parent) as scratch:
            reference = refer(subject, Path(scratch), options, stages)
        stages.enter(f"trace {options.precision}")
        bundle = write_bundle(contents_of(subject, options, reference), stage)
        stages.enter("prove")
        proof = proved(bundle, subject, reference, options)
        beams = beams_proved(bundle, subject, reference, options, stages)
        report = full_report(subject, reference, proof, options) | beams
        (stage / REPORT_FILE).write_text(canonical_json(report), encoding="utf-8")
    tqdm.write(f"exported in {time.monotonic() - begin:.0f} s")
    return Exported(bundle=Bundle(directory=output, manifest=bundle.manifest), report=report)


def refer(subject: Subject, scratch: Path, options: ExportOptions, stages: Stages) -> Reference:
    """Let fp32 graphs answer the probes and PyTorch check every step; calibrate and score the heads on the way.

    Raises:
        ExportError: when PyTorch would have answered otherwise.
    """
    stages.enter("trace fp32")
    fp32 = dataclasses.replace(options, precision="fp32", fused=True)
    with bundle_engine(write_bundle(contents_of(subject, fp32, None), scratch), threads=options.threads) as engine:
        stages.enter("check with PyTorch")
        scales: Scales | None = None
        observer: Observer = ignored
        clipped: ClippedInputs | None = None
        if PRESETS[options.precision].integer_weights:
            scales = calibrated(engine, subject, options, stages)
            observer = clipped = ClippedInputs(scales)
        questions = ask(subject.checkpoint, subject.tokenizer, proof_texts(subject, options))
        answers = with_eos(answer_greedily(engine, questions), subject.checkpoint.model.config.eos_id)
    probes = Probes(questions=questions, answers=answers)
    differences = checked(subject, probes, observer, stages)
    refuse_beyond_ties(differences)
    return Reference(
        probes=probes,
        preferred_otherwise=differences,
        heads=scored_heads(subject, probes),
        scales=scales,
        clipped_share=None if clipped is None else clipped.share,
    )


def calibrated(engine: BundleEngine, subject: Subject, options: ExportOptions, stages: Stages) -> Scales:
    """Return the activation scale of each product, from what goes in while the calibration text is translated."""
    texts = options.calibration_texts or generated_texts(
        subject.directory / "source.spm", count=CALIBRATION_SENTENCES, seed=2
    )
    questions = ask(subject.checkpoint, subject.tokenizer, texts)
    answers = with_eos(answer_greedily(engine, questions), subject.checkpoint.model.config.eos_id)
    ranges = InputRanges()
    checked(subject, Probes(questions=questions, answers=answers), ranges, stages)
    return activation_scales(subject.checkpoint.model, ranges)


def proof_texts(subject: Subject, options: ExportOptions) -> Sequence[str]:
    """Return the caller's sentences or generated ones."""
    longest = subject.checkpoint.model.config.max_positions
    return options.proof_texts or probe_texts(subject.directory, count=options.proof_sentences, max_tokens=longest)


def checked(subject: Subject, probes: Probes, observer: Observer, stages: Stages) -> list[Difference]:
    """Return the steps at which PyTorch prefers another token, behind a progress bar."""
    with stages.counting(len(probes.answers), "sentence") as progress:
        return disagreements(
            subject.checkpoint.model,
            probes.sources,
            probes.answers,
            probes.questions.limits,
            observer,
            progress=progress,
        )


def scored_heads(subject: Subject, probes: Probes) -> HeadScores:
    """Score the cross-attention heads on the probes."""
    separate = subject.directory / SEPARATE_VOCABULARY_FILE
    source_pieces = Vocabulary.load(subject.directory / "vocab.json").pieces
    return score_heads(
        subject.checkpoint.model,
        list(zip(probes.sources, probes.answers, strict=True)),
        source_pieces=source_pieces,
        target_pieces=Vocabulary.load(separate).pieces if separate.exists() else source_pieces,
    )


def contents_of(subject: Subject, options: ExportOptions, reference: Reference | None) -> Contents:
    """Trace both graphs; without a ``reference`` they have no alignments and cannot be int8.

    Raises:
        ExportError: when an attention is not one fused node.
    """
    model = subject.checkpoint.model
    precision = graph_precision(options.precision, reference.scales if reference else None)
    form = FusedAttention() if options.fused else PlainAttention()
    alignment = reference.heads.best(required=options.alignment_accuracy) if reference else None
    head = None if alignment is None else AlignmentHead(alignment.layer, alignment.head)
    encoder = trace_encoder(EncoderGraph(model, precision, form))
    decoder = trace_decoder(DecoderStepGraph(model, precision, form, head), model.config, precision.dtype)
    if options.fused:
        check_fused(encoder, model.config.encoder_layers)
        check_fused(decoder, 3 * model.config.decoder_layers)
    return Contents(
        checkpoint=subject.checkpoint,
        tokenizer_directory=subject.directory,
        precision=options.precision,
        encoder=encoder,
        decoder=decoder,
        alignment=alignment,
    )


def check_fused(graph: TracedGraph, expected: int) -> None:
    """Refuse a graph whose attention is not ``expected`` fused nodes and nothing else.

    Raises:
        ExportError: with both numbers.
    """
    operators = graph.operators()
    fused, softmax = fused_attention(operators), operators.get("Softmax", 0)
    if fused != expected or softmax:
        raise ExportError(
            f"the {graph.name} has {fused} fused attention nodes and {softmax} loose ones, expected {expected}"
        )


def proved(bundle: Bundle, subject: Subject, reference: Reference, options: ExportOptions) -> Proof | None:
    """Prove the bundle, unless it is for a provider that this machine does not have.

    Raises:
        ExportError: when the proof fails.
    """
    if PRESETS[options.precision].provider != "cpu":
        return None
    runner = open_runner(bundle, threads=options.threads)
    proof = prove(runner, subject.checkpoint.model, reference.probes, reference.preferred_otherwise)
    proof.check(exact=options.precision == "fp32", fused=options.fused)
    return proof


def beams_proved(
    bundle: Bundle, subject: Subject, reference: Reference, options: ExportOptions, stages: Stages
) -> dict[str, object]:
    """Return the report's fields on beam search, none where it was not asked for.

    Raises:
        ConfigError: when the checkpoint is not in the Marian layout, for which alone there is a reference.
        ExportError: when an fp32 bundle's beams are not the reference's.
    """
    if options.proof_beams <= 0 or PRESETS[options.precision].provider != "cpu":
        return {}
    if not is_marian(subject.directory):
        raise ConfigError(f"{subject.directory}: --proof-beams has a reference for Marian checkpoints only")
    sources = reference.probes.sources[: options.proof_beams]
    longest = subject.checkpoint.model.config.max_positions
    with bundle_engine(bundle, threads=options.threads) as engine, stages.counting(len(sources), "sentence") as bar:
        proof = prove_beams(engine, subject.directory, sources, max_positions=longest, progress=bar)
    if options.precision == "fp32" and proof.agreement < REQUIRED_AGREEMENT:
        raise ExportError(
            f"proof failed: beam search agrees with transformers on {proof.agreement:.1%} of sentences only"
        )
    return {"beam": dataclasses.asdict(proof)}


def full_report(
    subject: Subject, reference: Reference, proof: Proof | None, options: ExportOptions
) -> dict[str, object]:
    """Return the fields of ``report.json``."""
    best = reference.heads.best(required=options.alignment_accuracy)
    report: dict[str, object] = {
        "made_with": {name: distribution_version(name) for name in ("onnxruntime", "torch", "onnxscript")},
        "proof_text": "given" if options.proof_texts is not None else "generated",
        "proof": "not run: needs a CUDA device" if proof is None else proof.to_report(),
        "alignment": {
            "anchors": reference.heads.anchors,
            "best": None if best is None else best.model_dump(mode="json"),
            "accuracy": reference.heads.accuracy.round(4).tolist(),
        },
    }
    if reference.clipped_share is not None:
        text = "given" if options.calibration_texts is not None else "generated"
        report["calibration"] = {"text": text, "clipped_share": reference.clipped_share}
    if options.proof_references is not None and proof is not None:
        decode = subject.tokenizer.decode
        answers = {"reference": reference.probes.answers, "bundle": proof.answers}
        report["quality"] = {
            name: dataclasses.asdict(score([decode(ids) for ids in found], options.proof_references))
            for name, found in answers.items()
        }
    return report


def summary(exported: Exported) -> str:
    """Return what a person wants to know of a finished export, a few lines."""
    manifest = exported.bundle.manifest
    size = sum(entry.bytes for entry in manifest.files.values()) / 2**20
    lines = [
        f"{exported.bundle.directory}: {manifest.model_id} {manifest.version}, {manifest.precision}, {size:.1f} MiB",
        f"  attention  {manifest.graphs.encoder.fused_attention} fused nodes in the encoder, "
        f"{manifest.graphs.decoder.fused_attention} in the decode step",
        f"  alignment  {describe_alignment(manifest.alignment)}",
    ]
    proof = exported.report["proof"]
    if isinstance(proof, dict):
        worst = max(case["largest_difference"] for case in proof["logits"])
        greedy = proof["greedy"]
        lines.append(
            f"  parity     largest log-probability difference {worst:.2g}; {len(greedy['differing'])} of "
            f"{greedy['sentences']} greedy answers differ from the reference's"
        )
        lines.append(f"  speed      {greedy['tokens_per_second']:.0f} target tokens/s greedy, one worker, here and now")
    else:
        lines.append(f"  parity     {proof}")
    beam = exported.report.get("beam")
    if isinstance(beam, dict):
        different = len(beam["differences"])
        lines.append(f"  beam       {different} of {beam['sentences']} answers differ from transformers', beam 4")
    quality = exported.report.get("quality")
    if isinstance(quality, dict):
        lines += [
            f"  quality    {name}: BLEU {each['bleu']:.2f}, chrF {each['chrf']:.2f}" for name, each in quality.items()
        ]
    return "\n".join(lines)


def describe_alignment(alignment: Alignment | None) -> str:
    """Say which head aligns."""
    if alignment is None:
        return "no head is good enough: this model gives no alignments"
    return f"layer {alignment.layer}, head {alignment.head}, right for {alignment.accuracy:.0%} of copied words"
