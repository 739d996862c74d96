"""Guided attention: the loss is what it says, a model's head looks where it is told, and bad links are refused."""

from __future__ import annotations

import math
import random
import stat
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from exporter.__main__ import main
from exporter.align import agreed, write_links
from exporter.batching import Example, collate, join
from exporter.checkpoint import load_checkpoint
from exporter.data import Corpus, read_lines, read_pairs
from exporter.guided_alignment import (
    Links,
    alignment_matrix,
    guided_loss,
    links_of_corpora,
    placed,
    read_links,
)
from service.errors import DataError, InvalidInputError
from service.tokenizer import Tokenizer

_WORDS = {"one": "eins", "two": "zwei", "red": "rot", "cat": "katze", "dog": "hund", "sun": "sonne", "sea": "meer"}
_SMALL = [
    *("--vocabulary-size", "36", "--d-model", "32", "--heads", "2", "--encoder-layers", "1", "--decoder-layers", "2"),
    *("--encoder-ffn", "64", "--decoder-ffn", "64", "--precision", "fp32", "--threads", "1", "--dropout", "0"),
    *("--batch-tokens", "300", "--warmup-updates", "20", "--learning-rate", "0.004"),
]


def _links(*pairs: tuple[int, int]) -> Links:
    return np.array(pairs, dtype=np.int32).reshape(-1, 2)


def _ids(*ids: int) -> np.ndarray[tuple[int, ...], np.dtype[np.int32]]:
    return np.array(ids, dtype=np.int32)


def _corpus(path: Path) -> Corpus:
    return Corpus(source="en", target="de", path=path)


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with pairs of a toy language that reverses the words, and a vocabulary trained on them."""
    folder = tmp_path_factory.mktemp("toy")
    generator = random.Random(1)
    lines = []
    for _ in range(400):
        words = generator.choices(list(_WORDS), k=generator.randint(2, 5))
        lines.append(" ".join(words) + "\t" + " ".join(_WORDS[word] for word in reversed(words)) + "\n")
    (folder / "train.tsv").write_text("".join(lines), encoding="utf-8")
    assert main([*_command(folder, folder / "first"), "--max-updates", "1"]) == 0
    return folder


def _command(folder: Path, run: Path) -> list[str]:
    return ["train", "--data", f"en-de={folder / 'train.tsv'}", "--run-directory", str(run), *_SMALL]


def _write_forward_links(folder: Path) -> Path:
    """Tell every target piece that it comes from the first source piece, which no translation would suggest."""
    tokenizer = Tokenizer.load(folder / "first")
    targets = tokenizer.encode_targets(read_pairs(folder / "train.tsv").targets)
    lines = [" ".join(f"0-{step}" for step in range(len(target) - 1)) + "\n" for target in targets]
    (folder / "links").write_text("".join(lines), encoding="ascii")
    return folder / "links"


def test_the_loss_is_the_cross_entropy_of_linked_positions() -> None:
    """A row with two links wants half on each; a row without any costs nothing; a perfect row costs its entropy."""
    alignment = alignment_matrix([_links((1, 0), (2, 0), (0, 2))], target_length=3, source_length=3)
    assert alignment is not None
    assert alignment.tolist() == [[[0.0, 0.5, 0.5], [0.0, 0.0, 0.0], [1.0, 0.0, 0.0]]]
    weights = torch.tensor([[[0.5, 0.25, 0.25], [0.1, 0.1, 0.8], [0.5, 0.5, 0.0]]])
    assert float(guided_loss(weights, alignment)) == pytest.approx(math.log(4) + math.log(2))
    perfect = torch.tensor([[[0.0, 0.5, 0.5], [0.1, 0.1, 0.8], [1.0, 0.0, 0.0]]])
    assert float(guided_loss(perfect, alignment)) == pytest.approx(math.log(2))


def test_a_batch_without_links_has_no_alignment() -> None:
    """Pairs of a corpus without links, and pairs whose links are empty, ask nothing of the head."""
    bare = Example(_ids(3, 5, 1), _ids(6, 1))
    assert collate([bare], pad_id=0, start_id=0).alignment is None
    assert collate([Example(bare.source, bare.target, _links())], pad_id=0, start_id=0).alignment is None
    mixed = collate([bare, Example(bare.source, bare.target, _links((1, 0)))], pad_id=0, start_id=0).alignment
    assert mixed is not None
    assert mixed.tolist() == [[[0, 0, 0], [0, 0, 0]], [[0, 1, 0], [0, 0, 0]]]


def test_links_move_with_the_pairs_that_are_joined() -> None:
    """After joining, each link joins the same two ids as before."""
    first = Example(_ids(3, 10, 11, 1), _ids(20, 21, 22, 1), _links((1, 2), (2, 0)))
    second = Example(_ids(3, 12, 13, 1), _ids(23, 24, 1), _links((1, 1), (2, 0)))
    together = join(first, second)
    assert together.links is not None
    linked = [(int(together.source[a]), int(together.target[b])) for a, b in together.links]
    assert linked == [(10, 22), (11, 20), (12, 24), (13, 23)]
    half = join(Example(first.source, first.target), second)
    assert half.links is not None
    assert [(int(half.source[a]), int(half.target[b])) for a, b in half.links] == [(12, 24), (13, 23)]
    assert join(Example(first.source, first.target), Example(second.source, second.target)).links is None


def test_links_count_pieces_behind_the_target_token() -> None:
    """Source positions move behind the target token; a link at a target token, EOS or beyond is refused."""
    source, target = _ids(3, 10, 11, 1), _ids(20, 21, 22, 1)
    assert placed(_links((0, 0), (1, 2)), source=source, target=target, where="here").tolist() == [[1, 0], [2, 2]]
    for beyond in ((2, 0), (0, 3)):
        with pytest.raises(DataError, match="here: a link points beyond the 2 and 3 pieces"):
            placed(_links(beyond), source=source, target=target, where="here")


@pytest.mark.parametrize("line", ["0-", "0-1 x", "1", "0-1,2-3", "-1-0", "0-1  2-2", "9999999-0"])
def test_ragged_links_are_refused_with_their_line(tmp_path: Path, line: str) -> None:
    """One line names the file, the line and what was expected; an empty line is a pair without links."""
    (tmp_path / "links").write_text(f"0-0 1-2\n\n{line}\n", encoding="ascii")
    with pytest.raises(DataError, match=r"links:3: expected links such as 0-0 1-2"):
        read_links(tmp_path / "links")
    (tmp_path / "links").write_text("0-0 1-2\n\n", encoding="ascii")
    assert [row.tolist() for row in read_links(tmp_path / "links")] == [[[0, 0], [1, 2]], []]


def test_each_file_of_links_belongs_to_one_corpus(tmp_path: Path) -> None:
    """The n-th file goes with the n-th corpus of its direction; one line per pair; one without a corpus is refused."""
    (tmp_path / "a").write_text("0-0\n", encoding="ascii")
    (tmp_path / "b").write_text("0-0\n1-1\n", encoding="ascii")
    corpora = [_corpus(tmp_path / "first.tsv"), _corpus(tmp_path / "second.tsv"), _corpus(tmp_path / "third.tsv")]
    files = [_corpus(tmp_path / "a"), _corpus(tmp_path / "b")]
    found = links_of_corpora(corpora, [1, 2, 5], files)
    assert [None if rows is None else len(rows) for rows in found] == [1, 2, None]
    with pytest.raises(DataError, match=r"a: 1 lines, but .*first.tsv has 2 pairs"):
        links_of_corpora(corpora, [2, 2, 5], files)
    with pytest.raises(InvalidInputError, match="no --data of this direction is left"):
        links_of_corpora(corpora[:1], [1], files)


def test_a_head_learns_to_look_where_it_is_told(toy: Path, tmp_path: Path) -> None:
    """The head looks at the first word at every step, though the translation reverses the words; the other does not."""
    links = _write_forward_links(toy)
    guided = ["--alignments", f"en-de={links}", "--alignment-weight", "0.3", "--alignment-layer", "0"]
    command = [*_command(toy, tmp_path / "run"), *guided, "--alignment-head", "1", "--concatenate", "0"]
    assert main([*command, "--max-updates", "150", "--vocabulary-from", str(toy / "first"), "--average", "1"]) == 0
    model = load_checkpoint(tmp_path / "run/checkpoint").model
    tokenizer = Tokenizer.load(tmp_path / "run/checkpoint")
    source = torch.tensor(tokenizer.encode_sources(["red cat sun sea"], target_token=">>de<<"))
    target = torch.tensor([[0, *tokenizer.encode_targets(["meer sonne katze rot"])[0][:-1]]])
    with torch.inference_mode():
        cross = model.attention_weights(source, torch.ones_like(source, dtype=torch.bool), target).cross[0]
    on_first_word = cross[0, :, :-1, 1]
    assert float(on_first_word[1].min()) > 0.9
    assert float(on_first_word[0].mean()) < 0.7


def test_without_links_training_is_what_it_was(toy: Path, tmp_path: Path) -> None:
    """Links that are all empty give the same weights, bit for bit, as no links."""
    pairs = len(read_pairs(toy / "train.tsv").sources)
    (tmp_path / "empty").write_text("\n" * pairs, encoding="ascii")
    weights = []
    for name, options in (("plain", []), ("empty", ["--alignments", f"en-de={tmp_path / 'empty'}"])):
        command = [*_command(toy, tmp_path / f"run-{name}"), "--vocabulary-from", str(toy / "first"), *options]
        assert main([*command, "--max-updates", "4", "--concatenate", "0.3"]) == 0
        weights.append(load_file(tmp_path / f"run-{name}" / "checkpoint" / "model.safetensors"))
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--alignment-head", "2"], "the decoder has 2 layers of 2 heads"),
        (["--alignment-layer", "2"], "the decoder has 2 layers of 2 heads"),
        (["--alignment-weight", "0"], "--alignment-weight must be above 0"),
        (["--subword-sampling", "0.1"], "--alignments link the pieces of one segmentation"),
        (["--alignments", "nonsense"], "--alignments takes SOURCE-TARGET=FILE"),
        (["--alignments", "en-de@0.5=missing"], "--alignments en-de: a share belongs to --data"),
        (["--alignments", "en-fr=missing"], "missing: no --data of this direction is left"),
    ],
)
def test_what_cannot_be_guided_is_refused_in_one_line(
    toy: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], options: list[str], message: str
) -> None:
    """Exit code 2 and one line on stderr that names the fault."""
    links = _write_forward_links(toy)
    command = [*_command(toy, tmp_path / "run"), "--vocabulary-from", str(toy / "first"), "--max-updates", "1"]
    assert main([*command, "--alignments", f"en-de={links}", *options]) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1
    assert message in lines[0]


def test_links_are_written_whole_or_not_at_all(tmp_path: Path) -> None:
    """What was there stays when the directions do not match, and nothing lies beside it; equal links, equal bytes."""
    path = tmp_path / "links.gz"
    assert write_links(path, [["1-0", "2-1"], []]) == 2
    first = path.read_bytes()
    assert list(read_lines(path)) == ["1-0 2-1", ""]
    with pytest.raises(DataError, match="different number of lines"):
        write_links(path, agreed(["0-0", "1-1"], ["0-0"]))
    assert path.read_bytes() == first
    assert list(tmp_path.iterdir()) == [path]
    write_links(tmp_path / "others.gz", [["1-0", "2-1"], []])
    assert (tmp_path / "others.gz").read_bytes() == first


def test_links_that_both_directions_have_are_kept() -> None:
    """The intersection, in the forward order; directions of unlike length are refused."""
    assert list(agreed(["0-0 1-2 2-1", ""], ["2-1 0-0", "0-0"])) == [["0-0", "2-1"], []]
    with pytest.raises(DataError, match="different number of lines"):
        list(agreed(["0-0"], ["0-0", "1-1"]))


def test_the_align_command_runs_an_aligner_over_pieces(
    toy: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It hands pieces to the program, writes one line per pair, and says in one line what is wrong with a program."""
    program = tmp_path / "aligner"
    program.write_text(
        '#!/bin/sh\nsed -E "s/.*/0-0 0-1/" "$2" > "$4"\nsed -E "s/.*/0-0/" "$2" > "$6"\n', encoding="ascii"
    )
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    output = tmp_path / "links.gz"
    data = ["--data", f"en-de={toy / 'train.tsv'}", "--vocabulary-from", str(toy / "first")]
    assert main(["align", *data, "--output", str(output), "--aligner", str(program)]) == 0
    assert list(read_lines(output)) == ["0-0"] * len(read_pairs(toy / "train.tsv").sources)
    program.write_text("#!/bin/sh\necho out of memory >&2\nexit 3\n", encoding="ascii")
    assert main(["align", *data, "--output", str(output), "--aligner", str(program)]) == 2
    assert "failed with exit code 3: out of memory" in capsys.readouterr().err
    assert main(["align", *data, "--output", str(output), "--aligner", str(tmp_path / "none")]) == 2
    assert "no such program" in capsys.readouterr().err
    assert main(["align", *data, "--output", str(tmp_path / "links")]) == 2
    assert "must end with .gz" in capsys.readouterr().err
