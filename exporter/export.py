"""``python -m exporter export``: turn a checkpoint into a bundle, proved before it is put in place."""

from __future__ import annotations

import argparse
import dataclasses
import time
from dataclasses import dataclass
from pathlib import Path

import torch
from tqdm import tqdm

from exporter.alignment import REQUIRED_ACCURACY
from exporter.assembly import contents_of
from exporter.export_options import PROOF_SENTENCES, ExportOptions, check_options, check_references
from exporter.packaging import staged, write_bundle
from exporter.presets import PRESETS
from exporter.probes import read_line_pairs, read_lines
from exporter.proof import Proof, proved
from exporter.report import full_report, summary
from exporter.serving import open_runner
from exporter.sources import Corrections, checkpoint_directory, read_checkpoint
from exporter.stages import Stages
from exporter.study import Study, Subject, study
from exporter.tuning import check_tunable, tune, tuning_table
from service.bundle import REPORT_FILE, Bundle, canonical_json
from service.errors import ConfigError


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
    add(
        "--proof-text", type=Path, metavar="FILE", help="source sentences to prove the bundle on, beside generated ones"
    )
    add("--proof-references", type=Path, metavar="FILE", help="their translations, to report BLEU and chrF")
    text = "prove on N sentences at least, generated where fewer are given (%(default)s)"
    add("--proof-sentences", type=int, default=PROOF_SENTENCES, metavar="N", help=text)
    add("--proof-beams", type=int, metavar="N", help="prove beam 4 on N of the sentences only, or none: 0 (all)")
    text = "least share of anchors that a head, or two together, must get right; the manifest records it (%(default)s)"
    add("--alignment-accuracy", type=float, default=REQUIRED_ACCURACY, metavar="SHARE", help=text)
    add("--tune", action="store_true", help="time other nodes for the preset here and propose what is faster")
    add("--unfused", action="store_true", help="write attention as plain products, for comparison")
    add("--threads", type=int, default=2, metavar="N", help="CPU threads (2)")
    for name in ("name", "source", "target", "licence", "attribution"):
        add(f"--{name}", help=f"{name} of the model where its files do not say")


def run(args: argparse.Namespace) -> int:
    """Export as the arguments say and print a summary."""
    texts, references = proof_lines(args.proof_text, args.proof_references)
    options = ExportOptions(
        precision=args.precision,
        fused=not args.unfused,
        calibration_texts=read_lines(args.calibration_text) if args.calibration_text else None,
        proof_texts=texts,
        proof_references=references,
        proof_sentences=args.proof_sentences,
        alignment_accuracy=args.alignment_accuracy,
        proof_beams=args.proof_beams,
        tune=args.tune,
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
    print(summary(exported.bundle, exported.report))
    return 0


def proof_lines(text: Path | None, references: Path | None) -> tuple[list[str] | None, list[str] | None]:
    """Return the caller's sentences and their translations, None for what was not given."""
    if references is None:
        return (None if text is None else read_lines(text)), None
    if text is None:
        raise ConfigError("--proof-references needs --proof-text")
    return read_line_pairs(text, references)


def export(directory: Path, output: Path, options: ExportOptions, corrections: Corrections | None = None) -> Exported:
    """Export the checkpoint in ``directory`` to ``output``, which appears whole or not at all.

    Raises:
        CheckpointError: when the checkpoint is not usable.
        ExportError: when an attention is not fused, the proof fails or the disk is full.
        ConfigError: when the options contradict each other or ``output`` is in the way.
    """
    check_options(options)
    if options.tune:
        check_tunable(options)
    begin = time.monotonic()
    torch.set_num_threads(options.threads)
    with staged(output) as stage, Stages(5 if options.tune else 4) as stages:
        stages.enter("read the checkpoint")
        checkpoint, tokenizer = read_checkpoint(directory, corrections or Corrections())
        check_references(options, checkpoint.description.language_pairs)
        subject = Subject(checkpoint=checkpoint, tokenizer=tokenizer, directory=directory)
        stages.enter("ask PyTorch")
        studied = study(subject, options, stages)
        stages.enter(f"trace {options.precision}")
        bundle = write_bundle(contents_of(subject, options, studied), stage)
        stages.enter("prove")
        proof = proof_of(bundle, subject, studied, options, stages)
        tuning = tuned(bundle, subject, studied, options, stages)
        report = full_report(subject, studied, proof, options) | tuning
        (stage / REPORT_FILE).write_text(canonical_json(report), encoding="utf-8")
    tqdm.write(f"exported in {time.monotonic() - begin:.0f} s")
    return Exported(bundle=Bundle(directory=output, manifest=bundle.manifest), report=report)


def proof_of(bundle: Bundle, subject: Subject, studied: Study, options: ExportOptions, stages: Stages) -> Proof | None:
    """Prove the bundle, unless it is for a provider that this machine does not have.

    Raises:
        ExportError: when the proof fails.
    """
    if PRESETS[options.precision].provider != "cpu":
        return None
    runner = open_runner(bundle, threads=options.threads)
    exact = options.precision == "fp32"
    with stages.counting(len(studied.probes.sources), "sentence") as progress:
        return proved(
            runner,
            subject.checkpoint.model,
            studied.probes,
            exact=exact,
            fused=options.fused,
            explain=exact,
            beams=options.proof_beams,
            progress=progress,
        )


def tuned(
    bundle: Bundle, subject: Subject, studied: Study, options: ExportOptions, stages: Stages
) -> dict[str, object]:
    """Return the report's field on other forms of the nodes, none where it was not asked for."""
    if not options.tune:
        return {}
    stages.enter("tune")
    alternatives = tune(subject, options, studied, bundle)
    tqdm.write("\n".join(tuning_table(alternatives)))
    return {"tuning": [dataclasses.asdict(each) | {"proposed": each.proposed} for each in alternatives]}
