"""The model that comes with the repository, on the public development sets: the graphs say what PyTorch says."""

from __future__ import annotations

from pathlib import Path

import pytest

from exporter.checkpoint import load_checkpoint
from exporter.evaluation_set import EvaluationSet, pairs_set
from exporter.scoring import score
from exporter.serving import bundle_engine
from exporter.teacher import disagreements
from service.bundle import Bundle
from service.engine import DecodingOptions, DecodingResult
from service.tokenizer import Tokenizer

pytestmark = [pytest.mark.full, pytest.mark.timeout(1800)]
TIE = 1e-4
"""A lead of one logit over another below which either may be chosen."""
LIMIT = 256


@pytest.fixture(scope="module")
def development_sets(repository: Path, test_data: Path) -> list[EvaluationSet]:
    """All dev sentences of the three directions."""
    pairs = load_checkpoint(repository / "models" / "en-defres").description.language_pairs
    folder = test_data / "data" / "tatoeba"
    return [pairs_set(f"en-{pair.target}={folder}/dev.en-{pair.target}.tsv.gz", pairs) for pair in pairs]


def decode(bundle: Path, sets: list[EvaluationSet]) -> tuple[list[tuple[int, ...]], list[DecodingResult]]:
    """Source ids and greedy results of all sentences of all sets, decoded together."""
    loaded = Bundle.load(bundle)
    tokenizer = Tokenizer.load(loaded.directory)
    sources = [tokenizer.encode(text, each.pair.target_token).ids for each in sets for text in each.sources]
    with bundle_engine(loaded) as engine:
        return sources, engine.decode(sources, [DecodingOptions()] * len(sources)).results


def bleu(bundle: Path, sets: list[EvaluationSet], results: list[DecodingResult]) -> dict[str, float]:
    """BLEU of each direction."""
    tokenizer = Tokenizer.load(bundle)
    texts = iter([tokenizer.decode(result.hypotheses[0].ids) for result in results])
    return {each.direction: score([next(texts) for _ in each.sources], each.references).bleu for each in sets}


def test_greedy_graphs_equal_pytorch_on_every_development_sentence(
    repository: Path, bundled_fp32: Path, development_sets: list[EvaluationSet], results: dict[str, object]
) -> None:
    """fp32: wherever PyTorch would have chosen another token, its two best logits are a tie."""
    sources, decoded = decode(bundled_fp32, development_sets)
    model = load_checkpoint(repository / "models" / "en-defres").model.eval()
    eos = model.config.eos_id
    answers = [(*result.hypotheses[0].ids, eos) for result in decoded]
    found = disagreements(model, sources, answers, [LIMIT] * len(sources))
    results["bundled_fp32_greedy"] = {
        "sentences": len(sources),
        "differences": [{"sentence": each.sentence, "step": each.step, "gap": each.gap} for each in found],
    }
    assert [each for each in found if each.gap >= TIE] == []


def test_int8_keeps_the_quality(
    bundled_fp32: Path, bundled_int8: Path, development_sets: list[EvaluationSet], results: dict[str, object]
) -> None:
    """int8 loses at most half a BLEU point against fp32 in each direction, and every direction has at least 15."""
    scores = {
        bundle.name: bleu(bundle, development_sets, decode(bundle, development_sets)[1])
        for bundle in (bundled_fp32, bundled_int8)
    }
    results["bundled_dev_bleu"] = {
        name: {key: round(value, 2) for key, value in each.items()} for name, each in scores.items()
    }
    for direction, reference in scores["fp32"].items():
        assert reference >= 15.0
        assert scores["int8"][direction] >= reference - 0.5
