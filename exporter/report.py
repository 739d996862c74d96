"""What an export measured: the fields of ``report.json`` and the summary a person reads."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from importlib.metadata import version as distribution_version

from exporter.beam_proof import BEAM_SIZE
from exporter.export_options import ExportOptions
from exporter.proof import Proof
from exporter.scoring import Score, score
from exporter.study import Study, Subject
from service.bundle import Alignment, Bundle


def full_report(subject: Subject, studied: Study, proof: Proof | None, options: ExportOptions) -> dict[str, object]:
    """Return the fields of ``report.json``."""
    given = len(options.proof_texts or ())
    report: dict[str, object] = {
        "made_with": {name: distribution_version(name) for name in ("onnxruntime", "torch", "onnxscript")},
        "proof_text": {"given": given, "generated": len(studied.probes.sources) - given},
        "proof": "not run: needs a CUDA device" if proof is None else proof.to_report(),
        "alignment": studied.heads.to_report(required=options.alignment_accuracy),
    }
    if studied.clipped_share is not None:
        text = "given" if options.calibration_texts is not None else "generated"
        report["calibration"] = {"text": text, "clipped_share": studied.clipped_share}
    if options.proof_references is not None and proof is not None:
        report["quality"] = {
            name: dataclasses.asdict(each)
            for name, each in quality(subject, studied, proof, options.proof_references).items()
        }
    return report


def quality(subject: Subject, studied: Study, proof: Proof, references: Sequence[str]) -> dict[str, Score]:
    """Score the reference's answers and the bundle's to the caller's sentences, which are the first: greedy and, where
    these were asked for, of beams."""
    decode, given = subject.tokenizer.decode, len(references)
    answers = {"reference": studied.probes.answers[:given], "bundle": proof.answers[:given]}
    scores = {name: score([decode(ids) for ids in found], references) for name, found in answers.items()}
    beams = proof.beams
    if beams is not None:
        asked = [references[index] for index in beams.sentences if index < given]
        for name, found in (("reference", beams.reference), ("bundle", beams.answers)):
            texts = [decode(answer.ids) for answer in found[: len(asked)]]
            scores[f"{name}, beam {BEAM_SIZE}"] = score(texts, asked)
    return scores


def summary(bundle: Bundle, report: Mapping[str, object]) -> str:
    """Return what a person wants to know of a finished export, a few lines."""
    manifest = bundle.manifest
    size = sum(entry.bytes for entry in manifest.files.values()) / 2**20
    lines = [
        f"{bundle.directory}: {manifest.model_id} {manifest.version}, {manifest.precision}, {size:.1f} MiB",
        f"  attention  {manifest.graphs.encoder.fused_attention} fused nodes in the encoder, "
        f"{manifest.graphs.decoder.fused_attention} in the decode step",
        f"  alignment  {describe_alignment(manifest.alignment, report.get('alignment'))}",
    ]
    proof = report["proof"]
    if isinstance(proof, dict):
        worst = max(case["largest_difference"] for case in proof["logits"])
        greedy = proof["greedy"]
        lines.append(
            f"  parity     largest log-probability difference {worst:.2g}; {len(greedy['differing'])} of "
            f"{greedy['sentences']} greedy answers differ from the reference's"
        )
        lines.append(f"  beam       {describe_beams(proof['beam'])}")
        lines.append(f"  speed      {greedy['tokens_per_second']:.0f} target tokens/s greedy, one worker, here and now")
    else:
        lines.append(f"  parity     {proof}")
    scores = report.get("quality")
    if isinstance(scores, dict):
        lines += [
            f"  quality    {name}: BLEU {each['bleu']:.2f}, chrF {each['chrf']:.2f}" for name, each in scores.items()
        ]
    return "\n".join(lines)


def describe_beams(beam: object) -> str:
    """Say what the proof of beam search found, from the report's field on it."""
    if not isinstance(beam, Mapping):
        return str(beam)
    return (
        f"{len(beam['differences'])} of {beam['sentences']} answers with beam {beam['beam_size']} differ from the "
        "reference's"
    )


def describe_alignment(alignment: Alignment | None, scores: object) -> str:
    """Say which head aligns, or which two, and what was tried; ``scores`` are the report's on alignment."""
    tried = tried_heads(scores)
    if alignment is None:
        return "no head is good enough: this model gives no alignments" + (f" ({tried})" if tried else "")
    return f"{alignment}, right for {alignment.accuracy:.0%} of copied words" + (f" ({tried})" if tried else "")


def tried_heads(scores: object) -> str:
    """Say how well two heads did alone and together, from the report's field on alignment; nothing where untried."""
    tried = scores.get("tried") if isinstance(scores, Mapping) else None
    if not isinstance(tried, Mapping):
        return ""
    head, shifted = tried["head"]["accuracy"], tried["shifted"]["accuracy"]
    return f"best head {head:.1%}, best one step later {shifted:.1%}, their product {tried['product']:.1%}"
