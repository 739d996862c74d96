"""Reading pairs, batches under a budget, joined pairs and evaluation tables."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pytest
import torch

from exporter.batching import Example, collate, concatenate_some, group_by_length
from exporter.checkpoint import LanguagePair
from exporter.data import parse_corpus, read_pairs
from exporter.evaluation_set import pairs_set, table_sets
from exporter.noise import noised
from service.errors import DataError, InvalidInputError


def _example(source: list[int], target: list[int]) -> Example:
    return Example(np.array(source, dtype=np.int32), np.array(target, dtype=np.int32))


def test_pairs_are_read_from_plain_and_gzip_files(tmp_path: Path) -> None:
    """Both kinds give the same pairs in file order, whatever the line ends."""
    text = "one\teins\r\ntwo\tzwei\n"
    (tmp_path / "a.tsv").write_text(text, encoding="utf-8", newline="")
    (tmp_path / "a.tsv.gz").write_bytes(gzip.compress(text.encode()))
    for name in ("a.tsv", "a.tsv.gz"):
        pairs = read_pairs(tmp_path / name)
        assert (pairs.sources, pairs.targets, pairs.bad_line_count) == (["one", "two"], ["eins", "zwei"], 0)


@pytest.mark.parametrize(
    ("line", "fault"), [("alone", "1 column"), ("a\tb\tc", "3 columns"), ("\tb", "an empty side"), ("", "1 column")]
)
def test_a_ragged_line_is_refused_with_its_number(tmp_path: Path, line: str, fault: str) -> None:
    """The error is one line that names the file, the line, what was found and how many lines are bad."""
    path = tmp_path / "ragged.tsv"
    path.write_text(f"one\teins\n{line}\ntwo\tzwei\nlast\n", encoding="utf-8")
    with pytest.raises(DataError) as caught:
        read_pairs(path)
    message = str(caught.value)
    assert message.startswith(f"{path}:2: ")
    assert fault in message
    assert "2 bad lines" in message
    assert "\n" not in message
    skipped = read_pairs(path, skip_bad_lines=True)
    assert (skipped.sources, skipped.bad_line_count) == (["one", "two"], 2)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("missing.tsv", None, "No such file"),
        ("empty.tsv", b"", "no pairs"),
        ("latin.tsv", b"caf\xe9\tKaffee\n", ":1: not UTF-8"),
        ("cut.tsv.gz", gzip.compress(b"one\teins\n" * 1000, mtime=0)[:-20], "gzip"),
        ("fake.tsv.gz", b"not gzip", "gzip"),
    ],
)
def test_an_unreadable_file_gives_one_clear_line(
    tmp_path: Path, name: str, content: bytes | None, message: str
) -> None:
    """Missing, empty, mis-encoded and truncated files are named, not crashed over."""
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=message):
        read_pairs(tmp_path / name)


@pytest.mark.parametrize(
    ("text", "source", "target"),
    [
        ("en-de=f", "en", "de"),
        ("en-zh-Hans=f", "en", "zh-Hans"),
        ("zh-Hant-pt-BR@0.5=f", "zh-Hant", "pt-BR"),
        ("es-419-en=f", "es-419", "en"),
    ],
)
def test_scripts_and_regions_belong_to_their_language(text: str, source: str, target: str) -> None:
    """As the languages of checkpoints are written."""
    corpus = parse_corpus(text)
    assert (corpus.source, corpus.target) == (source, target)


def test_a_corpus_is_named_on_the_command_line() -> None:
    """Direction, share and path are read; anything else is refused."""
    corpus = parse_corpus("en-de@0.5=data/x.tsv.gz")
    assert (corpus.direction, corpus.share, corpus.path) == ("en-de", 0.5, Path("data/x.tsv.gz"))
    assert parse_corpus("en-fr=a=b").path == Path("a=b")
    for text in ("x.tsv", "en=x.tsv", "en-de@2=x.tsv", "en-de@1.2.3=x.tsv", "en-de="):
        with pytest.raises(InvalidInputError, match="--data"):
            parse_corpus(text)


def test_batches_hold_every_pair_once_within_the_budget() -> None:
    """No pair is lost or repeated, and rows times longest side fits unless a pair alone exceeds the budget."""
    generator = np.random.default_rng(0)
    examples = [
        _example([1] * int(generator.integers(1, 30)), [1] * int(generator.integers(1, 30))) for _ in range(500)
    ]
    examples.append(_example([1] * 200, [1] * 3))
    batches = group_by_length(examples, budget=100, generator=generator)
    assert sorted(index for batch in batches for index in batch) == list(range(501))
    for batch in batches:
        longest = max(max(len(examples[index].source), len(examples[index].target)) for index in batch)
        assert longest * len(batch) <= 100 or len(batch) == 1


def test_the_same_seed_draws_the_same_batches() -> None:
    """Batches depend on the generator's state alone."""
    examples = [_example([1] * (1 + index % 7), [1] * (1 + index % 5)) for index in range(100)]
    first, again, other = (group_by_length(examples, budget=40, generator=np.random.default_rng(n)) for n in (1, 1, 2))
    assert first == again
    assert first != other


def test_collating_shifts_targets_behind_the_start_token() -> None:
    """The decoder reads start and the labels but the last; masks are true at real tokens."""
    batch = collate([_example([5, 6, 1], [7, 1]), _example([5, 1], [8, 9, 1])], pad_id=0, start_id=3)
    assert batch.source_ids.tolist() == [[5, 6, 1], [5, 1, 0]]
    assert batch.target_ids.tolist() == [[3, 7, 1], [3, 8, 9]]
    assert batch.labels.tolist() == [[7, 1, 0], [8, 9, 1]]
    assert batch.label_mask.tolist() == [[True, True, False], [True, True, True]]
    assert batch.target_tokens == 5
    assert batch.source_mask.dtype == torch.bool


def test_joined_pairs_keep_all_tokens_and_one_frame() -> None:
    """Joining loses no word: one target token and one EOS remain for each joined text, and none grows too long."""
    examples = [_example([9, 20 + index, 1], [40 + index, 1]) for index in range(50)]
    drawn = concatenate_some([examples], share=0.6, longest=6, generator=np.random.default_rng(0))
    assert len(drawn) < 50
    for example in drawn:
        source, target = example.source.tolist(), example.target.tolist()
        assert (source[0], source[-1], source.count(9), source.count(1)) == (9, 1, 1, 1)
        assert (target[-1], target.count(1)) == (1, 1)
        assert [word + 20 for word in source[1:-1]] == target[:-1]
        assert len(source) <= 6
    words = sorted(word for example in drawn for word in example.target.tolist() if word != 1)
    assert words == [40 + index for index in range(50)]


_SENTENCE = "The quick brown fox jumps over the lazy dog in Berlin on 21 May."


def test_noise_touches_letters_of_some_words_only() -> None:
    """Numbers stay, most words stay, no word appears or goes, and the same generator state gives the same text."""
    drawn = [noised(_SENTENCE, np.random.default_rng(seed)) for seed in range(300)]
    assert drawn == [noised(_SENTENCE, np.random.default_rng(seed)) for seed in range(300)]
    assert all("21" in text and len(text.split()) == len(_SENTENCE.split()) for text in drawn)
    before = _SENTENCE.lower().rstrip(".").split()
    changed = [sum(a != b for a, b in zip(before, text.lower().rstrip(".").split(), strict=True)) for text in drawn]
    assert 0.05 < sum(changed) / (len(before) * len(drawn)) < 0.15
    assert {text.islower() for text in drawn} == {text.endswith(".") for text in drawn} == {True, False}


@pytest.mark.parametrize("text", ["", ".", "a", "?!", "42", "我爱你。"])
def test_noise_leaves_something_of_every_text(text: str) -> None:
    """What consists of marks or of single letters is not emptied."""
    assert all(bool(noised(text, np.random.default_rng(seed))) == bool(text) for seed in range(50))


_PAIRS = [LanguagePair("en", "de", ">>de<<"), LanguagePair("en", "fr", ">>fr<<")]


def test_a_table_gives_a_set_for_each_direction(tmp_path: Path) -> None:
    """Columns are found by their header; a language that the model does not know is left aside."""
    path = tmp_path / "table.tsv"
    path.write_text("en\tit\tfr\tde\nyes\tsì\toui\tja\n", encoding="utf-8")
    sets = table_sets(path, _PAIRS)
    assert [(data.direction, data.sources, data.references) for data in sets] == [
        ("en-de", ["yes"], ["ja"]),
        ("en-fr", ["yes"], ["oui"]),
    ]


def test_a_ragged_table_is_refused(tmp_path: Path) -> None:
    """A row without all its cells is named by its line."""
    path = tmp_path / "table.tsv"
    path.write_text("en\tde\nyes\tja\nno\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"table\.tsv:3: expected 2 filled columns"):
        table_sets(path, _PAIRS)


def test_a_direction_the_model_lacks_is_refused(tmp_path: Path) -> None:
    """The error lists the directions that the model does have."""
    with pytest.raises(InvalidInputError, match="en-de, en-fr"):
        pairs_set(f"en-es={tmp_path / 'x.tsv'}", _PAIRS)


def test_the_projects_own_sentences_are_whole(repository: Path) -> None:
    """At least 100 sentences of 2 to 40 words with a reference in each of the three languages."""
    pairs = [LanguagePair("en", target, None) for target in ("de", "fr", "es")]
    sets = table_sets(repository / "evaluation" / "sentences.tsv", pairs)
    assert len(sets) == 3
    lengths = [len(source.split()) for source in sets[0].sources]
    assert len(lengths) >= 100
    assert (min(lengths), max(lengths)) == (2, 40)
    assert len(set(sets[0].sources)) == len(lengths)
