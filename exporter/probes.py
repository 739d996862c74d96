"""The sentences that an export is calibrated and proved on, with the PyTorch model's own greedy answers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from exporter.calibration import Observer, decode_observed, encode_texts, generated_texts
from exporter.checkpoint import Checkpoint
from service.errors import DataError
from service.tokenizer import Tokenizer

MAX_OUTPUT_TOKENS = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class Probes:
    """Sources (ids with EOS), the output limit of each, EOS counted, and the reference's answers, EOS included."""

    texts: list[str]
    sources: list[list[int]]
    limits: list[int]
    answers: list[list[int]]


def read_lines(path: Path) -> list[str]:
    """Read a UTF-8 text file, one sentence a line, blank lines left out.

    Raises:
        DataError: when it cannot be read or holds nothing.
    """
    try:
        lines = [line.strip() for line in path.read_text(encoding="utf-8").splitlines()]
    except (OSError, UnicodeDecodeError):
        raise DataError(f"{path}: missing or not UTF-8 text") from None
    lines = [line for line in lines if line]
    if not lines:
        raise DataError(f"{path}: holds no sentences")
    return lines


def output_limit(source_tokens: int, *, max_positions: int) -> int:
    """Return how many tokens a probe's answer may have: enough for a translation, not for an endless repetition."""
    return min(2 * source_tokens + 16, MAX_OUTPUT_TOKENS, max_positions)


def make_probes(
    checkpoint: Checkpoint,
    tokenizer: Tokenizer,
    texts: Sequence[str],
    observer: Observer,
    *,
    progress: Callable[[int], None] = lambda sentences: None,
) -> Probes:
    """Encode ``texts``, going round the target languages, and translate them while ``observer`` watches."""
    config = checkpoint.model.config
    tokens = [pair.target_token for pair in checkpoint.description.language_pairs]
    sources = encode_texts(tokenizer, texts, tokens, max_tokens=config.max_positions)
    limits = [output_limit(len(source), max_positions=config.max_positions) for source in sources]
    answers = decode_observed(checkpoint.model, sources, limits, observer, progress=progress)
    return Probes(texts=list(texts), sources=sources, limits=limits, answers=answers)


def probe_texts(directory: Path, *, count: int, max_tokens: int) -> list[str]:
    """Return generated sentences for a checkpoint: a spread of lengths, one of a single word and one of full length."""
    texts = generated_texts(directory / "source.spm", count=max(count - 2, 1), seed=1)
    word = min(texts, key=len).split()[0]
    longest = " ".join(texts)[: 4 * max_tokens]
    return [word, *texts, longest]
