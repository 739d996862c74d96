"""Finds outputs that have run away from their source: those that say the same over and over, and those without an end.

Neural decoders are known for both; Holtzman et al. 2020 (https://arxiv.org/abs/1904.09751) describe it. A token 4-gram
that was there before counts as a repeat, so that short periods count by their overlaps. What does not repeat itself,
such as counting up, shows by its length. The score only tells what is clearly too long from what is wordy: a low one
alone is no sign, as sampled tokens have one too. docs/calling.md has the measurements behind the bounds.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from service.engine import DecodingOptions, FinishReason, Hypothesis
from service.translator.translation import Fallback

_SIZE = 4
_MIN_REPEATS = 8
_MIN_SHARE = 0.4
# What a guarded second decoding may not say twice.
_GUARD_NGRAM_SIZE = 3


@dataclass(frozen=True, slots=True)
class _Bound:
    """So many target tokens for each source token, and some more, as a single word may need a whole phrase."""

    ratio: float
    extra: int

    def of(self, source_length: int) -> int:
        return int(self.ratio * source_length) + self.extra


_ORDINARY = _Bound(1.5, 12)
_LONG = _Bound(2.0, 16)
_LONGEST = _Bound(3.0, 20)
# Mean log-probability of a token below which a long output is none.
_LOW_SCORE = -1.25


def find_runaway(best: Hypothesis, source_ids: Sequence[int], prefix_length: int) -> Fallback | None:
    """Why `best` is to be decoded again; None if it is not. Its first `prefix_length` tokens are the caller's."""
    if is_looping(best.ids, source_ids):
        return Fallback.REPETITION
    free = len(best.ids) - prefix_length
    if free > _LONGEST.of(len(source_ids)):
        return Fallback.LENGTH
    endless = best.finish_reason is FinishReason.LENGTH or _mean_log_prob(best, prefix_length) < _LOW_SCORE
    return Fallback.LENGTH if endless and free > _LONG.of(len(source_ids)) else None


def firm_length(ids: Sequence[int], source_length: int, prefix_length: int) -> int:
    """How many of `ids` a second decoding keeps, were it needed; as they become more, it never falls below what it was
    one token earlier, less one."""
    repeat = first_repeat(ids)
    # Of a repeat the last two tokens are new to whoever has not yet seen the others.
    kept = len(ids) if repeat is None else repeat + _SIZE - 2
    return min(len(ids), max(prefix_length, min(kept, prefix_length + _ORDINARY.of(source_length))))


def guarded_options(options: DecodingOptions, ids: Sequence[int], source_length: int, *, limit: int) -> DecodingOptions:
    """Options for decoding `ids` again: what is firm stays, no 3-gram comes twice, and the output cannot become long.

    `limit` is the model's own, in tokens, EOS counted.
    """
    prefix_length = len(options.target_prefix)
    longest = prefix_length + _LONG.of(source_length) + 1
    return replace(
        options,
        target_prefix=tuple(ids[: firm_length(ids, source_length, prefix_length)]),
        no_repeat_ngram_size=min(options.no_repeat_ngram_size or _GUARD_NGRAM_SIZE, _GUARD_NGRAM_SIZE),
        max_output_tokens=min(options.max_output_tokens or limit, longest),
    )


def first_repeat(ids: Sequence[int]) -> int | None:
    """Where the first 4-gram that was there before begins; None if all are new. What lies before it is no loop."""
    return next(_repeats(ids), None)


def is_looping(ids: Sequence[int], source_ids: Sequence[int]) -> bool:
    """Whether `ids` repeat themselves a lot, and far more than their source does."""
    repeats = sum(1 for _ in _repeats(ids))
    if repeats < _MIN_REPEATS or repeats < _MIN_SHARE * (len(ids) - _SIZE + 1):
        return False
    return repeats > _MIN_REPEATS + 2 * sum(1 for _ in _repeats(source_ids))


def _mean_log_prob(best: Hypothesis, prefix_length: int) -> float:
    """Of each token that the model chose, whatever the length penalty; a prefix and a forced EOS are not chosen."""
    chosen = len(best.ids) - prefix_length + (best.finish_reason is FinishReason.EOS)
    return best.log_prob / max(chosen, 1)


def _repeats(ids: Sequence[int]) -> Iterator[int]:
    seen: set[tuple[int, ...]] = set()
    for start in range(len(ids) - _SIZE + 1):
        ngram = tuple(ids[start : start + _SIZE])
        if ngram in seen:
            yield start
        seen.add(ngram)
