"""``python -m exporter export``: turn a checkpoint into a bundle, proved before it is put in place."""

from __future__ import annotations

import argparse
import dataclasses
import time
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version as distribution_version
from pathlib import Path

import torch
from torch import nn
from tqdm import tqdm

from exporter.alignment import HeadScores, score_heads
from exporter.attention_forms import FusedAttention, PlainAttention
from exporter.calibration import ClippedInputs, LargestInputs, Observer, generated_texts
from exporter.checkpoint import Checkpoint
from exporter.graphs import AlignmentHead, DecoderStepGraph, EncoderGraph
from exporter.packaging import Contents, fused_attention, staged, write_bundle
from exporter.presets import PRESETS, graph_precision
from exporter.probes import Probes, make_probes, probe_texts, read_lines
from exporter.proof import Proof, prove
from exporter.scoring import score
from exporter.sources import Corrections, checkpoint_directory, read_checkpoint
from exporter.trace import TracedGraph, trace_decoder, trace_encoder
from service.bundle import REPORT_FILE, Alignment, Bundle, Precision, canonical_json
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
    threads: int = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """What was learned of the PyTorch model before tracing it."""

    probes: Probes
    heads: HeadScores
    largest_inputs: dict[nn.Module, float] | None
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
    with staged(output) as stage, tqdm(total=6, desc="read", unit="stage", leave=False) as bar:

        def stage_done(following: str) -> None:
            bar.update()
            bar.set_description(following)

        checkpoint, tokenizer = read_checkpoint(directory, corrections or Corrections())
        stage_done("decode with PyTorch")
        measured = measure(checkpoint, tokenizer, directory, options)
        stage_done("trace")
        contents = traced_contents(checkpoint, directory, measured, options)
        stage_done("write")
        bundle = write_bundle(contents, stage)
        stage_done("prove")
        proof = proved(bundle, checkpoint, measured, options)
        stage_done("report")
        report = full_report(checkpoint, tokenizer, measured, proof, options)
        (stage / REPORT_FILE).write_text(canonical_json(report), encoding="utf-8")
        bar.update()
    tqdm.write(f"exported in {time.monotonic() - begin:.0f} s")
    return Exported(bundle=Bundle(directory=output, manifest=bundle.manifest), report=report)


def ignored(module: nn.Linear, states: torch.Tensor) -> None:
    """Observe nothing."""


def measure(checkpoint: Checkpoint, tokenizer: Tokenizer, directory: Path, options: ExportOptions) -> Measured:
    """Translate the probes with PyTorch; on the way calibrate, count what clips and score the attention heads."""
    config = checkpoint.model.config
    texts = options.proof_texts or probe_texts(
        directory, count=options.proof_sentences, max_tokens=config.max_positions
    )
    largest: dict[nn.Module, float] | None = None
    clipped: ClippedInputs | None = None
    observer: Observer = ignored
    if PRESETS[options.precision].integer_weights:
        calibration = options.calibration_texts or generated_texts(
            directory / "source.spm", count=CALIBRATION_SENTENCES, seed=2
        )
        found = LargestInputs()
        translated(checkpoint, tokenizer, calibration, found, "calibrate")
        largest = found.found
        observer = clipped = ClippedInputs(largest)
    probes = translated(checkpoint, tokenizer, texts, observer, "reference")
    separate = directory / "target_vocab.json"
    source_pieces = Vocabulary.load(directory / "vocab.json").pieces
    heads = score_heads(
        checkpoint.model,
        list(zip(probes.sources, probes.answers, strict=True)),
        source_pieces=source_pieces,
        target_pieces=Vocabulary.load(separate).pieces if separate.exists() else source_pieces,
    )
    return Measured(
        probes=probes, heads=heads, largest_inputs=largest, clipped_share=None if clipped is None else clipped.share
    )


def translated(
    checkpoint: Checkpoint, tokenizer: Tokenizer, texts: Sequence[str], observer: Observer, title: str
) -> Probes:
    """Translate ``texts`` with PyTorch behind a progress bar."""
    with tqdm(total=len(texts), desc=title, unit="sentence", leave=False) as bar:

        def advance(count: int) -> None:
            bar.update(count)

        return make_probes(checkpoint, tokenizer, texts, observer, progress=advance)


def traced_contents(checkpoint: Checkpoint, directory: Path, measured: Measured, options: ExportOptions) -> Contents:
    """Trace both graphs.

    Raises:
        ExportError: when an attention is not one fused node.
    """
    model = checkpoint.model
    precision = graph_precision(options.precision, measured.largest_inputs)
    form = FusedAttention() if options.fused else PlainAttention()
    alignment = measured.heads.best()
    head = None if alignment is None else AlignmentHead(alignment.layer, alignment.head)
    encoder = trace_encoder(EncoderGraph(model, precision, form))
    decoder = trace_decoder(DecoderStepGraph(model, precision, form, head), model.config, precision.dtype)
    if options.fused:
        check_fused(encoder, model.config.encoder_layers)
        check_fused(decoder, 3 * model.config.decoder_layers)
    return Contents(
        checkpoint=checkpoint,
        tokenizer_directory=directory,
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


def proved(bundle: Bundle, checkpoint: Checkpoint, measured: Measured, options: ExportOptions) -> Proof | None:
    """Prove the bundle, unless it is for a provider that this machine does not have.

    Raises:
        ExportError: when the proof fails.
    """
    if PRESETS[options.precision].provider != "cpu":
        return None
    with tqdm(total=3, desc="prove", unit="part", leave=False) as bar:

        def advance(part: str) -> None:
            bar.set_description(part)
            bar.update()

        proof = prove(bundle, checkpoint.model, measured.probes, progress=advance, threads=options.threads)
    proof.check(exact=options.precision == "fp32")
    return proof


def full_report(
    checkpoint: Checkpoint, tokenizer: Tokenizer, measured: Measured, proof: Proof | None, options: ExportOptions
) -> dict[str, object]:
    """Return the fields of ``report.json``."""
    best = measured.heads.best()
    report: dict[str, object] = {
        "made_with": {name: distribution_version(name) for name in ("onnxruntime", "torch", "onnxscript")},
        "proof_text": "given" if options.proof_texts is not None else "generated",
        "proof": "not run: needs a CUDA device" if proof is None else proof.to_report(),
        "alignment": {
            "anchors": measured.heads.anchors,
            "best": None if best is None else best.model_dump(mode="json"),
            "accuracy": measured.heads.accuracy.round(4).tolist(),
        },
        "calibration": {
            "text": "given" if options.calibration_texts is not None else "generated",
            "clipped_share": measured.clipped_share,
        },
    }
    if options.proof_references is not None and proof is not None:
        answers = {"pytorch": measured.probes.answers, "bundle": proof.answers}
        report["quality"] = {
            name: dataclasses.asdict(score([tokenizer.decode(ids) for ids in found], options.proof_references))
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
            f"  parity     largest log-probability difference {worst:.2g}; {len(greedy['differences'])} of "
            f"{greedy['sentences']} greedy answers differ from PyTorch's"
        )
        lines.append(f"  speed      {greedy['tokens_per_second']:.0f} target tokens/s greedy, one worker, measured now")
    else:
        lines.append(f"  parity     {proof}")
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
