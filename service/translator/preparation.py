"""Contents to pieces that the engine can take: sentences, cut where they are too long, as token ids."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from service.engine import DecodingOptions
from service.errors import InvalidInputError
from service.segmentation import Segment, split_long, split_sentences
from service.tokenizer import Encoding, Tokenizer
from service.translator.catalogue import LanguagePair, ServedModel
from service.translator.translation import TranslationOptions

WORD_START = "\u2581"


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """A sentence, or a part of one, and its tokens; one without anything the model can read is copied."""

    segment: Segment
    encoding: Encoding
    copied: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class PreparedContent:
    """A content and its pieces, in order; only white space lies between them."""

    text: str
    pieces: tuple[Piece, ...]


def prepare_contents(contents: Sequence[str], model: ServedModel, pair: LanguagePair) -> tuple[PreparedContent, ...]:
    """Splits and tokenises every content."""
    return tuple(PreparedContent(text=text, pieces=tuple(_pieces(text, model, pair))) for text in contents)


def _pieces(text: str, model: ServedModel, pair: LanguagePair) -> Iterator[Piece]:
    limit = min(model.trusted_source_tokens, model.max_source_tokens)
    encodings: dict[str, Encoding] = {}

    def encode(content: str) -> Encoding:
        if content not in encodings:
            encodings[content] = model.tokenizer.encode(content, pair.target_token)
        return encodings[content]

    for sentence in split_sentences(text, pair.source):
        for segment in split_long(text, sentence, lambda content: len(encode(content).ids) <= limit):
            encoding = encode(text[segment.start : segment.end])
            yield Piece(segment=segment, encoding=encoding, copied=not _is_readable(encoding, model.tokenizer))
        encodings.clear()


def _is_readable(encoding: Encoding, tokenizer: Tokenizer) -> bool:
    """Whether any token stands for text that the model knows."""
    for index, (start, end) in zip(encoding.ids, encoding.spans, strict=True):
        if end > start and index != tokenizer.unk_id and tokenizer.source_piece(index) != WORD_START:
            return True
    return False


def decoding_options(
    options: TranslationOptions, tokenizer: Tokenizer, *, ordinal: int, is_first: bool
) -> DecodingOptions:
    """The engine's options for the `ordinal`-th piece of a call; `is_first` of those of its content that are not
    copied takes the target prefix.

    Raises: InvalidInputError with a field such as `beam_size`.
    """
    return DecodingOptions(
        beam_size=options.beam_size,
        num_hypotheses=options.num_hypotheses,
        length_penalty=options.length_penalty,
        length_penalty_kind=options.length_penalty_kind,
        stopping_rule=options.stopping_rule,
        max_output_tokens=options.max_output_tokens,
        no_repeat_ngram_size=options.no_repeat_ngram_size,
        sampling=options.sampling,
        temperature=1.0 if options.temperature is None else options.temperature,
        top_k=options.top_k or 0,
        top_p=1.0 if options.top_p is None else options.top_p,
        seed=_piece_seed(options, ordinal),
        target_prefix=_prefix_ids(options.target_prefix, tokenizer) if is_first else (),
        return_alignments=options.return_alignments,
        return_token_scores=options.return_token_scores,
    )


def _piece_seed(options: TranslationOptions, ordinal: int) -> int | None:
    """A seed for each piece, so that equal sentences of a call draw different tokens; None lets the engine choose."""
    if not options.sampling:
        if options.seed is not None:
            raise InvalidInputError("has an effect only with temperature, top_k or top_p", field="seed")
        return None
    if options.seed is None:
        return None
    return (options.seed + ordinal) % 2**63 if options.seed >= 0 else options.seed


def _prefix_ids(prefix: str, tokenizer: Tokenizer) -> tuple[int, ...]:
    return tuple(tokenizer.encode_targets([prefix])[0][:-1]) if prefix.strip() else ()
