"""``python -m exporter inspect``: show what is in a bundle."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from pathlib import Path

from exporter.report import describe_beams, tried_heads
from service.bundle import REPORT_FILE, Alignment, Bundle, Graph

Row = tuple[str, str]


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the ``inspect`` subcommand."""
    parser = subparsers.add_parser("inspect", help="show what is in a bundle")
    parser.set_defaults(run=run)
    parser.add_argument("bundle", type=Path, metavar="BUNDLE", help="the bundle's directory")


def run(args: argparse.Namespace) -> int:
    """Check the bundle and print its table."""
    bundle = Bundle.load(args.bundle)
    rows = [*identity_rows(bundle), *shape_rows(bundle), *graph_rows(bundle), *file_rows(bundle), *report_rows(bundle)]
    width = max(len(label) for label, _ in rows)
    for label, text in rows:
        print(f"{label:<{width}}  {text}")
    return 0


def identity_rows(bundle: Bundle) -> Iterator[Row]:
    """Say what the bundle is."""
    manifest = bundle.manifest
    yield "model", f"{manifest.model_id} {manifest.version} (format {manifest.format_version}, {manifest.precision})"
    for pair in manifest.language_pairs:
        yield "languages", f"{pair.source} -> {pair.target}{f' by {pair.target_token}' if pair.target_token else ''}"
    yield "licence", manifest.licence
    yield "attribution", manifest.attribution


def shape_rows(bundle: Bundle) -> Iterator[Row]:
    """Say how big the model is."""
    manifest = bundle.manifest
    shape = manifest.dimensions
    yield "layers", f"{shape.encoder_layers} encoder, {shape.decoder_layers} decoder"
    yield "width", f"{shape.d_model} ({shape.heads} heads of {shape.head_size})"
    yield "vocabulary", f"{shape.source_vocabulary_size} source, {shape.vocabulary_size} target ids"
    yield (
        "tokens",
        f"at most {manifest.max_source_tokens} source (trusted to {manifest.trusted_source_tokens}), "
        f"{manifest.max_target_tokens} target",
    )
    yield "alignment", alignment_text(manifest.alignment)


def alignment_text(alignment: Alignment | None) -> str:
    """Say which heads align and how well."""
    return "none" if alignment is None else f"{alignment}, accuracy {alignment.accuracy:.1%}"


def graph_rows(bundle: Bundle) -> Iterator[Row]:
    """Say what the graphs are made of."""
    graphs = bundle.manifest.graphs
    named: tuple[tuple[str, Graph], ...] = (("encoder", graphs.encoder), ("decoder", graphs.decoder))
    for name, graph in named:
        yield (
            name,
            f"{sum(graph.operators.values())} nodes, opset {graph.opset}, {graph.fused_attention} fused attention",
        )
        common = sorted(graph.operators.items(), key=lambda item: (-item[1], item[0]))[:8]
        yield f"{name} nodes", ", ".join(f"{count} {operator.split('::')[-1]}" for operator, count in common)


def file_rows(bundle: Bundle) -> Iterator[Row]:
    """List the files."""
    files = bundle.manifest.files
    for name, entry in files.items():
        yield name, f"{entry.bytes / 2**20:.2f} MiB, sha256 {entry.sha256[:12]}"
    yield "all files", f"{sum(entry.bytes for entry in files.values()) / 2**20:.1f} MiB"


def report_rows(bundle: Bundle) -> Iterator[Row]:
    """Say what was measured at export, where the report is there."""
    try:
        report = json.loads((bundle.directory / REPORT_FILE).read_text(encoding="utf-8"))
        if tried := tried_heads(report.get("alignment")):
            yield "alignment, tried", tried
        proof = report["proof"]
        if isinstance(proof, str):
            yield "proof", proof
            return
        worst = max(float(case["largest_difference"]) for case in proof["logits"])
        greedy = proof["greedy"]
        yield "proof", f"largest log-probability difference {worst:.2g} from PyTorch"
        yield "greedy", f"{len(greedy['differing'])} of {greedy['sentences']} answers differ from the reference's"
        yield "beams", describe_beams(proof.get("beam", "not run"))
        for name, quality in report.get("quality", {}).items():
            yield f"quality, {name}", f"BLEU {quality['bleu']:.2f}, chrF {quality['chrf']:.2f}"
    except (OSError, ValueError, KeyError, TypeError):
        yield "report", "none that can be read"
