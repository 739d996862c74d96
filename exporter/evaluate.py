"""``python -m exporter evaluate``: BLEU and chrF of a checkpoint or a bundle, per direction and by length."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from exporter.arguments import at_least_one
from exporter.checkpoint import LanguagePair, write_json
from exporter.evaluation_set import BUCKETS, EvaluationSet, pairs_set, table_sets
from exporter.scoring import Score, score
from exporter.sources import Corrections, checkpoint_directory, read_checkpoint
from exporter.translate import GreedyTranslator, Translator
from service.errors import InvalidInputError

DEFAULT_SET = Path("evaluation/sentences.tsv")

TranslatorFor = Callable[[LanguagePair], Translator]
"""Gives the translator of one direction."""


@dataclass(frozen=True, slots=True)
class Evaluated:
    """A system under evaluation: the directions it knows and its translators."""

    pairs: Sequence[LanguagePair]
    translator_for: TranslatorFor


@dataclass(frozen=True, slots=True)
class Bucket:
    """The score of the sentences of some length; ``words`` reads like ``6-10`` or ``41+``."""

    words: str
    score: Score


@dataclass(frozen=True, slots=True)
class Evaluation:
    """The score of one set in one direction, whole and by source length, and how long translating took."""

    set_name: str
    direction: str
    score: Score
    buckets: list[Bucket]
    seconds: float
    translations: list[str]


def evaluate(translate: Translator, data: EvaluationSet) -> Evaluation:
    """Translate a set and score it."""
    started = time.monotonic()
    translations = translate(data.sources)
    seconds = time.monotonic() - started
    buckets = []
    for first, last in BUCKETS:
        indices = data.bucket(first, last)
        if indices:
            part = score([translations[index] for index in indices], [data.references[index] for index in indices])
            buckets.append(Bucket(f"{first}-{last}" if last else f"{first}+", part))
    return Evaluation(data.name, data.direction, score(translations, data.references), buckets, seconds, translations)


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the ``evaluate`` subcommand."""
    parser = subparsers.add_parser("evaluate", help="score a checkpoint or a bundle with BLEU and chrF")
    parser.set_defaults(run=run)
    system = parser.add_mutually_exclusive_group(required=True)
    system.add_argument("--checkpoint", metavar="DIR", help="translate greedily with the PyTorch model")
    system.add_argument("--bundle", type=Path, metavar="DIR", help="translate with the engine that serves bundles")
    add = parser.add_argument
    add("--data", action="append", default=[], metavar="en-de=FILE", help="pairs to score; repeatable")
    add(
        "--evaluation-set",
        type=Path,
        metavar="FILE",
        help=f"table with a column per language; {DEFAULT_SET} where no --data is given",
    )
    add("--limit", type=int, help="score only the first sentences of each set")
    add("--noised", action="store_true", help="misspell the sources, as --noised-copies of training does")
    add("--beam-size", type=at_least_one, default=1, help="with --bundle: beam search of this width (1)")
    add("--threads", type=at_least_one, default=2, help="CPU threads (2)")
    add("--json", type=Path, metavar="FILE", help="also write all scores as JSON")
    add("--translations", type=Path, metavar="DIR", help="also write source, reference and translation of each set")


def run(args: argparse.Namespace) -> int:
    """Score every set that the arguments name and print a table."""
    if args.limit is not None and args.limit < 1:
        raise InvalidInputError("--limit must be at least 1")
    if args.json is not None and not args.json.parent.is_dir():
        raise InvalidInputError(f"--json {args.json}: there is no folder {args.json.parent}")
    with _system(args) as system:
        table = args.evaluation_set or (None if args.data else DEFAULT_SET)
        sets = [pairs_set(text, system.pairs) for text in args.data]
        sets += table_sets(table, system.pairs) if table else []
        evaluations = []
        for data in sets:
            limited = data.first(args.limit)
            limited = limited.noised() if args.noised else limited
            evaluation = evaluate(system.translator_for(data.pair), limited)
            print(describe(evaluation), flush=True)
            if args.translations is not None:
                _write_translations(args.translations, limited, evaluation)
            evaluations.append(evaluation)
    print("BLEU", evaluations[0].score.bleu_signature)
    print("chrF", evaluations[0].score.chrf_signature)
    if args.json is not None:
        write_json(args.json, [_as_json(evaluation) for evaluation in evaluations])
    return 0


@contextlib.contextmanager
def _system(args: argparse.Namespace) -> Iterator[Evaluated]:
    if args.bundle is not None:
        with bundle_system(args.bundle, beam_size=args.beam_size, threads=args.threads) as system:
            yield system
        return
    if args.beam_size != 1:
        raise InvalidInputError("--beam-size needs --bundle: the PyTorch model decodes greedily")
    torch.set_num_threads(args.threads)
    yield checkpoint_system(args.checkpoint)


def checkpoint_system(name: str) -> Evaluated:
    """Read a checkpoint of either layout and translate with the PyTorch model."""
    checkpoint, tokenizer = read_checkpoint(checkpoint_directory(name), Corrections())
    return Evaluated(
        checkpoint.description.language_pairs,
        lambda pair: GreedyTranslator(checkpoint.model, tokenizer, target_token=pair.target_token),
    )


@contextlib.contextmanager
def bundle_system(directory: Path, *, beam_size: int, threads: int) -> Iterator[Evaluated]:
    """Load a bundle and translate with the engine that serves it."""
    from exporter.serving import BundleTranslator, bundle_engine
    from service.bundle import Bundle
    from service.tokenizer import Tokenizer

    bundle = Bundle.load(directory)
    tokenizer = Tokenizer.load(directory)
    with bundle_engine(bundle, threads=threads) as engine:
        yield Evaluated(
            [LanguagePair(pair.source, pair.target, pair.target_token) for pair in bundle.manifest.language_pairs],
            lambda pair: BundleTranslator(
                engine,
                tokenizer,
                target_token=pair.target_token,
                max_source_tokens=bundle.manifest.max_source_tokens,
                beam_size=beam_size,
            ),
        )


def describe(evaluation: Evaluation) -> str:
    """Return the lines of a table: the whole set, then each range of source words."""
    lines = [
        f"{evaluation.direction}  {evaluation.set_name}  {evaluation.seconds:.0f} s",
        f"  {'words':>6} {'sentences':>9} {'BLEU':>6} {'chrF':>6}",
    ]
    for words, part in [("all", evaluation.score), *((bucket.words, bucket.score) for bucket in evaluation.buckets)]:
        lines.append(f"  {words:>6} {part.sentences:>9} {part.bleu:>6.1f} {part.chrf:>6.1f}")
    return "\n".join(lines)


def _as_json(evaluation: Evaluation) -> dict[str, object]:
    fields = dataclasses.asdict(evaluation)
    del fields["translations"]
    return fields


def _write_translations(directory: Path, data: EvaluationSet, evaluation: Evaluation) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    rows = zip(data.sources, data.references, evaluation.translations, strict=True)
    lines = "".join("\t".join(row) + "\n" for row in rows)
    (directory / f"{data.name}.{data.direction}.tsv").write_text(lines, encoding="utf-8")
