"""``python -m exporter verify``: hold a bundle beside the checkpoint it is said to come from."""

from __future__ import annotations

import argparse
import hashlib
from collections.abc import Sequence
from pathlib import Path

import torch

from exporter.checkpoint import Checkpoint
from exporter.export_options import PROOF_SENTENCES
from exporter.probes import answered_by_pytorch, ask, probe_texts, read_lines
from exporter.proof import Proof, beyond_ties, proved
from exporter.report import describe_beams
from exporter.serving import open_runner
from exporter.sources import Corrections, checkpoint_directory, read_checkpoint
from service.bundle import SEPARATE_VOCABULARY_FILE, TOKENIZER_FILES, Bundle
from service.errors import BundleError, ConfigError


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the ``verify`` subcommand."""
    parser = subparsers.add_parser("verify", help="compare a bundle with the checkpoint it was made from")
    parser.set_defaults(run=run)
    add = parser.add_argument
    add("--bundle", required=True, type=Path, metavar="DIR", help="the bundle")
    add("--checkpoint", required=True, metavar="DIR", help="the checkpoint it was exported from, or its hub name")
    add("--text", type=Path, metavar="FILE", help="source sentences to compare on, beside generated ones")
    add(
        "--sentences",
        type=int,
        default=PROOF_SENTENCES,
        metavar="N",
        help="sentences at least, generated where fewer are given (%(default)s)",
    )
    add("--beams", type=int, metavar="N", help="compare beam 4 on N of the sentences only, or none: 0 (all)")
    add("--threads", type=int, default=2, metavar="N", help="CPU threads (2)")
    for name in ("source", "target"):
        add(f"--{name}", help=f"{name} language, where it was given to export")


def run(args: argparse.Namespace) -> int:
    """Verify as the arguments say and print what was found."""
    if args.sentences < 8 or args.threads < 1 or (args.beams or 0) < 0:
        raise ConfigError("--sentences must be at least 8, --threads at least 1 and --beams 0 or more")
    torch.set_num_threads(args.threads)
    texts = read_lines(args.text) if args.text else ()
    bundle = Bundle.load(args.bundle)
    directory = checkpoint_directory(args.checkpoint)
    proof = verify(
        bundle,
        directory,
        Corrections(source=args.source, target=args.target),
        texts=texts,
        sentences=args.sentences,
        beams=args.beams,
        threads=args.threads,
    )
    worst = max(case.largest_difference for case in proof.logits)
    print(f"{args.bundle}: files as the manifest says, largest log-probability difference {worst:.2g}")
    otherwise = len(beyond_ties(proof.greedy.preferred_otherwise))
    print(f"{otherwise} steps of {proof.greedy.sentences} greedy answers are not what PyTorch prefers, ties left out")
    if proof.beams is not None:
        print(describe_beams(proof.beams.to_report()))
    return 0


def verify(
    bundle: Bundle,
    directory: Path,
    corrections: Corrections,
    *,
    texts: Sequence[str],
    sentences: int,
    beams: int | None,
    threads: int,
) -> Proof:
    """Prove ``bundle`` against the checkpoint in ``directory``; ``beams`` as in ``ExportOptions.proof_beams``.

    Raises:
        BundleError: when the bundle was made from a model of another shape, vocabulary or languages.
        ExportError: when the proof fails.
    """
    checkpoint, tokenizer = read_checkpoint(directory, corrections)
    config, dimensions = checkpoint.model.config, bundle.manifest.dimensions
    ours = (config.target_vocabulary_size, config.vocabulary_size, config.d_model, config.heads, config.decoder_layers)
    theirs = (
        dimensions.vocabulary_size,
        dimensions.source_vocabulary_size,
        dimensions.d_model,
        dimensions.heads,
        dimensions.decoder_layers,
    )
    if ours != theirs:
        raise BundleError(f"{bundle.directory}: made from a model of another shape than {directory}")
    refuse_other_words(bundle, directory, checkpoint)
    asked = probe_texts(directory, texts, count=sentences, max_tokens=config.max_positions)
    probes = answered_by_pytorch(checkpoint.model, ask(checkpoint, tokenizer, asked))
    return proved(
        open_runner(bundle, threads=threads),
        checkpoint.model,
        probes,
        exact=bundle.manifest.precision == "fp32",
        fused=bundle.manifest.graphs.decoder.fused_attention > 0,
        explain=True,
        beams=beams,
    )


def refuse_other_words(bundle: Bundle, directory: Path, checkpoint: Checkpoint) -> None:
    """Refuse a bundle that reads or writes text otherwise than the checkpoint in ``directory``, whatever its graphs do.

    Raises:
        BundleError: naming the file or the languages.
    """
    for name in (*TOKENIZER_FILES, SEPARATE_VOCABULARY_FILE):
        entry, path = bundle.manifest.files.get(name), directory / name
        digest = hashlib.sha256(path.read_bytes()).hexdigest() if path.exists() else None
        if (None if entry is None else entry.sha256) != digest:
            raise BundleError(f"{bundle.directory}: {name} is not that of {directory}")
    ours = {(pair.source, pair.target, pair.target_token) for pair in checkpoint.description.language_pairs}
    theirs = {(pair.source, pair.target, pair.target_token) for pair in bundle.manifest.language_pairs}
    if ours != theirs:
        raise BundleError(f"{bundle.directory}: made for other languages than {directory}")
