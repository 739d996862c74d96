"""What goes into the translator and what comes out: plain values, free of gRPC and of tokens' ids."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from enum import Enum

from service.engine import LengthPenaltyKind, StoppingRule
from service.segmentation import Boundary


@dataclass(frozen=True, slots=True, kw_only=True)
class TranslationOptions:
    """How to decode and what to return; None stands for "not set". The engine checks the ranges."""

    beam_size: int = 1
    num_hypotheses: int = 1
    length_penalty: float = 1.0
    length_penalty_kind: LengthPenaltyKind = LengthPenaltyKind.MARIAN
    stopping_rule: StoppingRule = StoppingRule.REFERENCE
    max_output_tokens: int | None = None
    no_repeat_ngram_size: int = 0
    temperature: float | None = None
    top_k: int | None = None
    top_p: float | None = None
    seed: int | None = None
    target_prefix: str = ""
    return_alignments: bool = False
    return_token_scores: bool = False

    @property
    def sampling(self) -> bool:
        """Whether tokens are drawn instead of searched for."""
        return self.temperature is not None or self.top_k is not None or self.top_p is not None


OPTION_FIELDS = frozenset(option.name for option in fields(TranslationOptions))


@dataclass(frozen=True, slots=True, kw_only=True)
class TranslationRequest:
    """Some texts to translate; an empty `model` stands for the default model of the pair, an empty `model_version` for
    any. Where no model knows the pair, a third language may come between if `allow_pivot` says so."""

    contents: tuple[str, ...]
    source_language: str
    target_language: str
    model: str = ""
    model_version: str = ""
    allow_pivot: bool = True
    options: TranslationOptions = field(default_factory=TranslationOptions)


class SentenceEnd(Enum):
    """Why the translation of a sentence ended."""

    EOS = "eos"
    LENGTH = "length"
    COPIED = "copied"


class Fallback(Enum):
    """Why a sentence was decoded a second time, with a guard: its first output said the same over and over, or was far
    too long for its source."""

    REPETITION = "repetition"
    LENGTH = "length"


@dataclass(frozen=True, slots=True)
class Span:
    """Code points [start, end) of a string."""

    start: int
    end: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Token:
    """A token as its vocabulary writes it, and the part of the text it stands for."""

    text: str
    span: Span


@dataclass(frozen=True, slots=True, kw_only=True)
class Alignment:
    """Attention of each target token over the source tokens; `weights` is row-major (target, source)."""

    source_tokens: tuple[Token, ...]
    target_tokens: tuple[Token, ...]
    weights: tuple[float, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class TextHypothesis:
    """One way to translate something; a higher score is better."""

    text: str
    score: float


@dataclass(frozen=True, slots=True, kw_only=True)
class SentenceTranslation:
    """One sentence, or one piece of a sentence that was cut; spans count code points of content and translation."""

    source_span: Span
    target_span: Span
    end: SentenceEnd
    boundary: Boundary
    score: float = 0.0
    token_scores: tuple[float, ...] = ()
    alignment: Alignment | None = None
    hypotheses: tuple[TextHypothesis, ...] = ()
    unknown_character_count: int = 0
    unknown_output_count: int = 0
    fallback: Fallback | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Translation:
    """The translation of one content; what a caller must know of how it came about is in the sentences."""

    text: str
    sentences: tuple[SentenceTranslation, ...] = ()
    hypotheses: tuple[TextHypothesis, ...] = ()

    @property
    def truncated(self) -> bool:
        """Whether any sentence was stopped by the output limit, or that of a guard."""
        return any(sentence.end is SentenceEnd.LENGTH for sentence in self.sentences)

    @property
    def unknown_character_count(self) -> int:
        """Source characters without a token."""
        return sum(sentence.unknown_character_count for sentence in self.sentences)

    @property
    def fallback_count(self) -> int:
        """Sentences decoded a second time with a guard."""
        return sum(sentence.fallback is not None for sentence in self.sentences)

    @property
    def split_piece_count(self) -> int:
        """Pieces that belong to sentences which were cut: each run of pieces up to a sentence's own end."""
        count, run = 0, 0
        for sentence in self.sentences:
            run += 1
            if sentence.boundary is Boundary.SENTENCE:
                count += run if run > 1 else 0
                run = 0
        return count


@dataclass(frozen=True, slots=True, kw_only=True)
class CallTimings:
    """Where one call's time went, in seconds; engine phases are those of its slowest sentence.

    Of the sentences that may be shared, `cached_sentences` were answered from the cache, `coalesced_sentences` by the
    decoding of an identical one in flight, and `missed_sentences` by one of their own.
    """

    total_seconds: float
    tokenize_seconds: float
    detokenize_seconds: float
    queue_seconds: float = 0.0
    encode_seconds: float = 0.0
    decode_seconds: float = 0.0
    first_token_seconds: float = 0.0
    steps: int = 0
    source_tokens: int = 0
    target_tokens: int = 0
    cached_sentences: int = 0
    coalesced_sentences: int = 0
    missed_sentences: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class TranslationResult:
    """The answer to a TranslationRequest: one translation per content, in order.

    The model is the one that wrote the text; with a `pivot` another one translated before it.
    """

    translations: tuple[Translation, ...]
    model_id: str
    model_version: str
    timings: CallTimings
    pivot: Pivot | None = None

    @property
    def legs(self) -> tuple[TranslationResult, ...]:
        """What each model answered, in the order they worked."""
        return (self,) if self.pivot is None else (self.pivot.first, self.pivot.second)


@dataclass(frozen=True, slots=True, kw_only=True)
class Pivot:
    """The third language that a translation went through, and what the two models answered."""

    language: str
    first: TranslationResult
    second: TranslationResult


@dataclass(frozen=True, slots=True, kw_only=True)
class TextDelta:
    """The next piece of a streamed translation; it is never taken back."""

    text: str
