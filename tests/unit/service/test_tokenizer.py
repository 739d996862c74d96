"""The tokenizer: ids through vocab.json, specials that no text can become, unknown characters counted, spans."""

from __future__ import annotations

import itertools
import json
import shutil
from pathlib import Path

import pytest

from exporter.vocabulary import train_vocabulary, write_vocabulary
from service.errors import CheckpointError, InvalidInputError
from service.tokenizer import Tokenizer

_ENGLISH = ["the cat sat on the mat", "a dog and a cat", "I love you.", "the dog sat", "you and I love the cat"] * 4
_GERMAN = ["die Katze saß auf der Matte", "ein Hund und eine Katze", "Ich liebe dich.", "der Hund saß"] * 4


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Tokenizer files of a joint vocabulary."""
    folder = tmp_path_factory.mktemp("tokenizer")
    write_vocabulary(folder, train_vocabulary(_ENGLISH + _GERMAN, size=44, targets=["de", "fr"], threads=1))
    return folder


@pytest.fixture
def tokenizer(directory: Path) -> Tokenizer:
    """The tokenizer of ``directory``."""
    return Tokenizer.load(directory)


def test_text_survives_encoding_and_decoding(tokenizer: Tokenizer) -> None:
    """What is encoded comes back when its ids are decoded."""
    assert tokenizer.decode(tokenizer.encode("the dog and the cat").ids) == "the dog and the cat"


def test_encoding_starts_with_the_target_token_and_ends_with_eos(tokenizer: Tokenizer) -> None:
    """The target token is one id in front; EOS is the last id with and without it."""
    plain = tokenizer.encode("the cat")
    steered = tokenizer.encode("the cat", ">>de<<")
    assert steered.ids == (tokenizer.target_token_id(">>de<<"), *plain.ids)
    assert plain.ids[-1] == tokenizer.eos_id
    assert plain.ids.count(tokenizer.eos_id) == 1


@pytest.mark.parametrize("text", [">>de<<", "</s>", "<pad>", "<unk>", "a >>fr<< cat </s> <pad>", ">>de<< the cat"])
def test_text_never_becomes_a_special_token(tokenizer: Tokenizer, text: str) -> None:
    """User text that spells a special token is encoded as ordinary pieces."""
    special = {tokenizer.eos_id, tokenizer.pad_id, *map(tokenizer.target_token_id, tokenizer.target_tokens)}
    assert not special & set(tokenizer.encode(text).ids[:-1])
    assert not special & set(tokenizer.encode_sources([text])[0][:-1])


def test_an_unknown_target_token_is_refused(tokenizer: Tokenizer) -> None:
    """A token that the model was not trained with, or an ordinary piece, cannot be asked for."""
    for token in (">>xx<<", "the", "</s>"):
        with pytest.raises(InvalidInputError, match="no target token"):
            tokenizer.encode("the cat", token)


def test_unknown_characters_are_counted(tokenizer: Tokenizer) -> None:
    """Each character outside the vocabulary counts once, spaces not."""
    assert tokenizer.encode("the cat").unknown_count == 0
    assert tokenizer.encode("the 猫 cat 漢字").unknown_count == 3


def test_spans_cover_the_text_in_order(tokenizer: Tokenizer) -> None:
    """The spans of the pieces, in code points, join to the whole text; token and EOS stand for nothing."""
    text = "the cat and 😀 the dog"
    encoding = tokenizer.encode(text, ">>de<<")
    assert len(encoding.spans) == len(encoding.ids)
    assert encoding.spans[0] == (0, 0)
    assert encoding.spans[-1] == (len(text), len(text))
    inner = encoding.spans[1:-1]
    assert "".join(text[start:end] for start, end in inner) == text
    assert all(left[1] == right[0] for left, right in itertools.pairwise(inner))


def test_empty_text_is_only_eos(tokenizer: Tokenizer) -> None:
    """Nothing to say is encoded as EOS alone."""
    assert tokenizer.encode("").ids == (tokenizer.eos_id,)
    assert tokenizer.decode([tokenizer.eos_id]) == ""


def test_ids_come_from_the_vocabulary_file_not_from_sentencepiece(directory: Path, tmp_path: Path) -> None:
    """With vocab.json numbered backwards every id changes and decoding still gives the text."""
    folder = shutil.copytree(directory, tmp_path / "reversed")
    table = json.loads((folder / "vocab.json").read_text(encoding="utf-8"))
    turned = {piece: len(table) - 1 - index for piece, index in table.items()}
    (folder / "vocab.json").write_text(json.dumps(turned), encoding="utf-8")
    before, after = Tokenizer.load(directory), Tokenizer.load(folder)
    ids = after.encode("the cat", ">>fr<<").ids
    assert ids == tuple(len(table) - 1 - index for index in before.encode("the cat", ">>fr<<").ids)
    assert after.decode(ids) == "the cat"


def test_source_and_target_models_are_not_mixed_up(directory: Path, tmp_path: Path) -> None:
    """With two different SentencePiece models and tables, text is split by the source's and joined by the target's."""
    folder = shutil.copytree(directory, tmp_path / "separate")
    write_vocabulary(tmp_path / "target", train_vocabulary(_GERMAN, size=31, targets=[], threads=1))
    shutil.copyfile(tmp_path / "target" / "target.spm", folder / "target.spm")
    shutil.copyfile(tmp_path / "target" / "vocab.json", folder / "target_vocab.json")
    mixed, target = Tokenizer.load(folder), Tokenizer.load(tmp_path / "target")
    assert mixed.encode("the cat").ids == Tokenizer.load(directory).encode("the cat").ids
    assert mixed.encode_targets(["Ich liebe dich."]) == target.encode_targets(["Ich liebe dich."])
    assert mixed.decode(target.encode("Ich liebe dich.").ids) == "Ich liebe dich."


def test_decoding_hides_specials_and_shows_unknown_tokens(tokenizer: Tokenizer) -> None:
    """Padding, EOS and target tokens vanish from text; an unknown token leaves a visible mark."""
    ids = tokenizer.encode("the cat").ids
    decorated = [tokenizer.pad_id, tokenizer.target_token_id(">>de<<"), *ids, tokenizer.pad_id]
    assert tokenizer.decode(decorated) == "the cat"
    assert "⁇" in tokenizer.decode([tokenizer.unk_id])


def test_sampled_segmentations_differ_but_say_the_same(tokenizer: Tokenizer) -> None:
    """Subword sampling splits a sentence in several ways, all of which decode to it."""
    rows = {tuple(tokenizer.encode_sources(["the cat sat on the mat"], sampling=0.1)[0]) for _ in range(30)}
    assert len(rows) > 1
    assert {tokenizer.decode(row) for row in rows} == {"the cat sat on the mat"}


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("vocab.json", b"{"),
        ("vocab.json", b"[1, 2]"),
        ("vocab.json", b'{"</s>": 0, "<pad>": 2, "<unk>": 1, "a": 9}'),
        ("vocab.json", b'{"a": 0, "b": 1}'),
        ("source.spm", b"not a model"),
        ("target.spm", None),
    ],
)
def test_a_damaged_file_is_named(directory: Path, tmp_path: Path, name: str, content: bytes | None) -> None:
    """A tokenizer file that is missing or damaged gives one clear line with its name."""
    folder = shutil.copytree(directory, tmp_path / "damaged")
    (folder / name).unlink()
    if content is not None:
        (folder / name).write_bytes(content)
    with pytest.raises(CheckpointError, match=name.replace(".", r"\.")) as caught:
        Tokenizer.load(folder)
    assert "\n" not in str(caught.value)
