"""The sentences that an export is calibrated and proved on, with the reference's greedy answers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import sentencepiece

from exporter.calibration import generated_texts
from exporter.checkpoint import Checkpoint
from exporter.greedy import greedy_answers
from exporter.model import TranslationModel
from exporter.serving import MAX_OUTPUT_TOKENS, Answers, BundleEngine
from service.engine import DecodingOptions
from service.errors import DataError
from service.tokenizer import Tokenizer


@dataclass(frozen=True, slots=True, kw_only=True)
class Questions:
    """Sources (ids with EOS) and the output limit of each, EOS counted."""

    texts: list[str]
    sources: list[list[int]]
    limits: list[int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Probes:
    """Questions and the reference's greedy answers, EOS included."""

    questions: Questions
    answers: list[list[int]]

    @property
    def sources(self) -> list[list[int]]:
        """Source ids."""
        return self.questions.sources

    def part(self, which: slice) -> Probes:
        """Return some of the questions with their answers."""
        asked = self.questions
        questions = Questions(texts=asked.texts[which], sources=asked.sources[which], limits=asked.limits[which])
        return Probes(questions=questions, answers=self.answers[which])

    def with_more(self, others: Probes) -> Probes:
        """Return these and ``others``, in this order."""
        ours, theirs = self.questions, others.questions
        questions = Questions(
            texts=ours.texts + theirs.texts, sources=ours.sources + theirs.sources, limits=ours.limits + theirs.limits
        )
        return Probes(questions=questions, answers=self.answers + others.answers)


def read_lines(path: Path) -> list[str]:
    """Read a UTF-8 text file, one sentence a line, blank lines left out.

    Raises:
        DataError: when it cannot be read or holds nothing.
    """
    lines = [line for line in _lines(path) if line]
    if not lines:
        raise DataError(f"{path}: holds no sentences")
    return lines


def read_line_pairs(texts: Path, references: Path) -> tuple[list[str], list[str]]:
    """Read two such files whose lines belong to each other, lines that are blank in both left out.

    Raises:
        DataError: when either cannot be read, they have not as many lines, or one has a line that the other lacks.
    """
    ours, theirs = _lines(texts), _lines(references)
    if len(ours) != len(theirs):
        raise DataError(f"{texts} has {len(ours)} lines and {references} {len(theirs)}")
    for number, (text, reference) in enumerate(zip(ours, theirs, strict=True), start=1):
        if bool(text) != bool(reference):
            raise DataError(f"line {number} is blank in {references if text else texts} only")
    pairs = [(text, reference) for text, reference in zip(ours, theirs, strict=True) if text]
    if not pairs:
        raise DataError(f"{texts}: holds no sentences")
    return [text for text, _ in pairs], [reference for _, reference in pairs]


def _lines(path: Path) -> list[str]:
    try:
        return [line.strip() for line in path.read_text(encoding="utf-8").removesuffix("\n").split("\n")]
    except (OSError, UnicodeDecodeError):
        raise DataError(f"{path}: missing or not UTF-8 text") from None


def probe_texts(directory: Path, given: Sequence[str] = (), *, count: int, max_tokens: int) -> list[str]:
    """Return the sentences ``given``, and generated ones for a checkpoint until there are ``count``.

    Three at least are generated: they are of a spread of lengths, one of one token and one of full length. Where no
    generated word is a single token, the first is the word of fewest.
    """
    source_model = directory / "source.spm"
    texts = generated_texts(source_model, count=max(count - len(given) - 2, 1), seed=1)
    processor = sentencepiece.SentencePieceProcessor(model_proto=source_model.read_bytes())
    word = min((word for text in texts for word in text.split()), key=lambda word: len(processor.encode(word)))
    longest = " ".join(texts * 4)[: 8 * max_tokens]
    return [*given, word, *texts, longest]


def ask(checkpoint: Checkpoint, tokenizer: Tokenizer, texts: Sequence[str]) -> Questions:
    """Encode ``texts``, going round the model's target languages and cut to its longest source.

    An answer may have enough tokens for a translation, not for an endless repetition.
    """
    longest = checkpoint.model.config.max_positions
    tokens = [pair.target_token for pair in checkpoint.description.language_pairs]
    sources: list[list[int]] = [[] for _ in texts]
    for turn, token in enumerate(tokens):
        mine = range(turn, len(texts), len(tokens))
        for index, ids in zip(
            mine, tokenizer.encode_sources([texts[i] for i in mine], target_token=token), strict=True
        ):
            sources[index] = ids if len(ids) <= longest else [*ids[: longest - 1], ids[-1]]
    limits = [min(2 * len(source) + 16, MAX_OUTPUT_TOKENS, longest) for source in sources]
    return Questions(texts=list(texts), sources=sources, limits=limits)


def answered_by_pytorch(
    model: TranslationModel, questions: Questions, *, progress: Callable[[int], None] = lambda sentences: None
) -> Probes:
    """Return ``questions`` with the reference's greedy answers."""
    return Probes(
        questions=questions, answers=greedy_answers(model, questions.sources, questions.limits, progress=progress)
    )


def answer_greedily(engine: BundleEngine, questions: Questions) -> Answers:
    """Decode questions greedily, all together."""
    return engine.decode(questions.sources, [DecodingOptions(max_output_tokens=limit) for limit in questions.limits])


def with_eos(answers: Answers, eos_id: int) -> list[list[int]]:
    """Return best answers with the EOS that each ends with, chosen or forced."""
    return [[*ids, eos_id] for ids in answers.ids]
