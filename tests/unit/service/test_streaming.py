"""What a stream sends, and what it costs to have many pieces run at a time."""

from __future__ import annotations

from collections.abc import Sequence

from service.translator.preparation import prepare_contents
from service.translator.streaming import DeltaBuilder
from tests.doubles.echo_model import echo_model, tiny_tokenizer


def test_a_piece_is_looked_at_when_its_turn_comes() -> None:
    """Tokens of those behind it are kept, and not decoded; the latest then count."""
    model = echo_model(tiny_tokenizer())
    sentences = ["I love you.", "How are you?", "We are fine."]
    (content,) = prepare_contents([" ".join(sentences)], model, model.pairs[0])
    first, second, third = (ids[:-1] for ids in tiny_tokenizer().encode_targets(sentences))
    deltas, looked_at = DeltaBuilder(content, tiny_tokenizer(), model.pairs[0]), []

    def all_firm(ids: Sequence[int]) -> int:
        looked_at.append(tuple(ids))
        return len(ids)

    for length in range(1, len(second) + 1):
        deltas.add_tokens(1, tuple(second[:length]), all_firm)
        deltas.add_tokens(2, tuple(third[:length]), all_firm)
        assert deltas.take() == ""
    assert looked_at == []
    deltas.add_result(0, tuple(first))
    sent = deltas.take()
    assert looked_at == [tuple(second)]
    assert sent.startswith("I love you. How")
    deltas.add_result(1, tuple(second))
    deltas.add_result(2, tuple(third))
    assert sent + deltas.take() == content.text
