"""What a model must do before it serves: answer in its directions, with finite scores, alone as in company."""

from __future__ import annotations

import math
from collections.abc import Sequence

from service.engine import DecodingOptions, DecodingResult, Ticket
from service.errors import BundleError, DragomanError
from service.translator import ServedModel

_SECONDS = 120.0
_TEXTS = ("1, 2, 3.", "2026", "A, b, c, d, e, f: 1, 2, 3, 4, 5, 6, 7, 8, 9.")
_TOKENS = 8
_PAIRS = 8
"""Directions that are tried of a model with many."""
_BEAM = 4


def self_test(model: ServedModel) -> None:
    """Decodes a few sentences alone, in company and by beams, which also does all first-time work.

    Raises BundleError, with one line, for a model that fails, gives no number or another answer in company.
    """
    try:
        for pair in model.pairs[:_PAIRS]:
            sources = [model.tokenizer.encode(text, pair.target_token).ids for text in _TEXTS]
            alone = [_answer(_submit(model, source, beam_size=1)) for source in sources]
            beam = min(_BEAM, model.engine.model.row_slots)
            company = [_submit(model, source, beam_size=size) for source in sources for size in (1, beam)]
            together = [_answer(ticket) for ticket in company]
            if model.repeatable and [_ids(result) for result in alone] != [_ids(result) for result in together[::2]]:
                raise BundleError(f"model {model.id} failed its self-test: an answer depends on its company")
            _check_scores(model, [*alone, *together])
    except TimeoutError:
        raise BundleError(f"model {model.id} failed its self-test: no answer within {_SECONDS:.0f} s") from None
    except BundleError:
        raise
    except DragomanError as error:
        raise BundleError(f"model {model.id} failed its self-test: {error}") from None


def _submit(model: ServedModel, source: Sequence[int], *, beam_size: int) -> Ticket:
    limit = min(_TOKENS, model.max_target_tokens)
    return model.engine.submit(source, DecodingOptions(max_output_tokens=limit, beam_size=beam_size))


def _answer(ticket: Ticket) -> DecodingResult:
    return ticket.future.result(timeout=_SECONDS)


def _ids(result: DecodingResult) -> tuple[int, ...]:
    return result.hypotheses[0].ids


def _check_scores(model: ServedModel, results: Sequence[DecodingResult]) -> None:
    if not all(math.isfinite(hypothesis.score) for result in results for hypothesis in result.hypotheses):
        raise BundleError(f"model {model.id} failed its self-test: a score is not a number")
