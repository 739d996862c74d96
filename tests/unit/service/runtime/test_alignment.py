"""Weights of one alignment head and of two, against a plain softmax."""

from __future__ import annotations

import numpy as np
import pytest

from service.runtime.alignment import FloatArray, attention_weights


def softmax(scores: FloatArray) -> FloatArray:
    """Of one row."""
    exponents = np.exp(scores - scores.max())
    weights: FloatArray = exponents / exponents.sum()
    return weights


@pytest.mark.parametrize("steps", [1, 2, 7])
def test_two_heads_are_the_product_of_both_one_a_step_later(steps: int) -> None:
    """Row by row: the first head now times the second head at the next step; the last row has the first alone."""
    generator = np.random.default_rng(1)
    queries = generator.normal(size=(steps, 8)).astype(np.float32)
    one, two = (generator.normal(size=(5, 4)).astype(np.float32) for _ in range(2))
    found = attention_weights(queries, [one, two])
    assert found.shape == (steps, 5)
    for step in range(steps - 1):
        product = softmax(one @ queries[step, :4]) * softmax(two @ queries[step + 1, 4:])
        np.testing.assert_allclose(found[step], product / product.sum(), rtol=1e-5)
    np.testing.assert_allclose(found[-1], softmax(one @ queries[-1, :4]), rtol=1e-5)


def test_one_head_is_not_shifted() -> None:
    """With one head each row is that step's own attention, keys of any type."""
    generator = np.random.default_rng(2)
    queries = generator.normal(size=(3, 4)).astype(np.float32)
    keys = generator.integers(-9, 9, (6, 4)).astype(np.int8)
    found = attention_weights(queries, [keys])
    for step in range(3):
        np.testing.assert_allclose(found[step], softmax(keys.astype(np.float32) @ queries[step]), rtol=1e-5)
