"""Evaluation: scores, length buckets, the greedy translator and the command."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from exporter.__main__ import main
from exporter.checkpoint import LanguagePair, load_checkpoint
from exporter.evaluate import describe, evaluate
from exporter.evaluation_set import EvaluationSet
from exporter.scoring import score
from exporter.translate import GreedyTranslator
from service.tokenizer import Tokenizer

_PAIR = LanguagePair("en", "de", ">>de<<")


def _words(count: int) -> str:
    return " ".join(f"word{index}" for index in range(count))


def test_a_perfect_translation_scores_100_with_signatures() -> None:
    """Equal texts score 100 in both; the signatures say how sacrebleu was set up."""
    references = ["the cat sat on the mat today", "a dog barked at the old man"]
    result = score(references, references)
    assert (round(result.bleu, 6), round(result.chrf, 6), result.sentences) == (100.0, 100.0, 2)
    assert "tok:13a" in result.bleu_signature
    assert "nc:6" in result.chrf_signature
    assert score(["the cat sat"] * 2, references).bleu < 50


def test_scores_need_a_reference_for_each_sentence() -> None:
    """Lists of unequal length are our own mistake and refused."""
    with pytest.raises(ValueError, match="1 hypotheses for 2 references"):
        score(["a"], ["a", "b"])


def test_sentences_fall_into_buckets_by_their_words() -> None:
    """Each sentence is in exactly one bucket, empty buckets are left out, and the order of answers is kept."""
    lengths = [3, 50, 5, 6, 20, 41]
    data = EvaluationSet("made up", _PAIR, [_words(length) for length in lengths], [_words(n) for n in lengths])
    result = evaluate(lambda texts: list(texts), data)
    assert [(bucket.words, bucket.score.sentences) for bucket in result.buckets] == [
        ("1-5", 2),
        ("6-10", 1),
        ("11-20", 1),
        ("41+", 2),
    ]
    assert round(result.score.bleu, 6) == 100.0
    assert "41+" in describe(result)


def test_the_greedy_translator_keeps_order_and_company_changes_nothing(tiny_checkpoint: Path) -> None:
    """Texts of unequal length come back in order, each as it is translated alone."""
    checkpoint = load_checkpoint(tiny_checkpoint)
    tokenizer = Tokenizer.load(tiny_checkpoint)
    translate = GreedyTranslator(checkpoint.model, tokenizer, target_token=">>fr<<", max_new_tokens=12, token_budget=40)
    texts = ["I love you.", "", "the old man would like a new house and the book.", "you see it all", "x " * 300]
    assert translate(texts) == [translate([text])[0] for text in texts]


def _read_scores(path: Path) -> Sequence[dict[str, object]]:
    loaded: list[dict[str, object]] = json.loads(path.read_text(encoding="utf-8"))
    return loaded


def test_the_command_scores_every_direction_of_the_own_set(
    tiny_checkpoint: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    repository: Path,
) -> None:
    """Without --data the project's sentences are scored in all directions; JSON and translations are written."""
    monkeypatch.chdir(repository)
    scores, texts = tmp_path / "scores.json", tmp_path / "texts"
    command = ["evaluate", "--checkpoint", str(tiny_checkpoint), "--limit", "2", "--threads", "1"]
    assert main([*command, "--json", str(scores), "--translations", str(texts)]) == 0
    assert [entry["direction"] for entry in _read_scores(scores)] == ["en-de", "en-fr", "en-es"]
    assert "translations" not in _read_scores(scores)[0]
    assert len((texts / "sentences.tsv.en-de.tsv").read_text(encoding="utf-8").splitlines()) == 2
    printed = capsys.readouterr().out
    assert "BLEU nrefs:1" in printed
    assert "chrF nrefs:1" in printed


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--checkpoint", "nowhere"], "nowhere: no such checkpoint directory"),
        (["--checkpoint", "CHECKPOINT", "--data", "en-it=x.tsv"], "the model translates en-de, en-fr, en-es"),
        (["--checkpoint", "CHECKPOINT", "--evaluation-set", "x.tsv"], "x.tsv: No such file"),
        (["--checkpoint", "CHECKPOINT", "--limit", "0"], "--limit must be at least 1"),
        (["--checkpoint", "CHECKPOINT", "--beam-size", "4"], "--beam-size needs --bundle"),
        (["--bundle", "nowhere"], "nowhere"),
    ],
)
def test_what_cannot_be_evaluated_is_refused_in_one_line(
    tiny_checkpoint: Path, capsys: pytest.CaptureFixture[str], options: list[str], message: str
) -> None:
    """Exit code 2 and one line on stderr that names the fault."""
    given = [str(tiny_checkpoint) if option == "CHECKPOINT" else option for option in options]
    assert main(["evaluate", "--threads", "1", *given]) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1
    assert message in lines[0]
