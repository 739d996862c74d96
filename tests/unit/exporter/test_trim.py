"""A trimmed checkpoint answers as the whole one would with the outputs that were left out forbidden."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from exporter.__main__ import main
from exporter.greedy import greedy_decode
from exporter.sources import Corrections, read_checkpoint
from exporter.trim import has_letter, trim
from service.tokenizer import Tokenizer
from tests.doubles.marian_checkpoints import VARIANTS, Variant, make_checkpoint

SENTENCES = ("the old cat saw 12 boats", "Anna", "how many red apples fell on the town in 1995")


def test_a_piece_belongs_to_the_scripts_of_its_letters() -> None:
    """Marks, digits and the sign of a word's start belong to none; any letter is enough."""
    assert has_letter("▁ab", {"LATIN"})
    assert has_letter("iPhone手机", {"CJK"})
    assert has_letter("きれい", {"CJK", "HIRAGANA"})
    assert not has_letter("▁ab", {"CJK"})
    assert not has_letter("▁12,。", {"CJK", "LATIN"})


@pytest.mark.parametrize("variant", VARIANTS[:4], ids=lambda variant: variant.name)
def test_answers_are_the_whole_models_with_the_rest_forbidden(variant: Variant, tmp_path: Path) -> None:
    """Shared and separate vocabularies, tied and untied outputs; ids are those of the new vocabularies."""
    directory, _ = make_checkpoint(tmp_path, variant)
    checkpoint, tokenizer = read_checkpoint(directory, Corrections(source="en"))
    pieces = [tokenizer.target_piece(index) for index in range(tokenizer.target_vocabulary_size)]
    trimmed = trim(checkpoint, pieces, without=["LATIN"])
    forbidden = [index for index, piece in enumerate(pieces) if has_letter(piece, ["LATIN"]) and piece[0] != "<"]
    assert 0 < len(trimmed.target_ids) == len(pieces) - len(forbidden)
    whole, short = checkpoint.model, trimmed.checkpoint.model
    whole.final_logits_bias.data[forbidden] = -torch.inf

    rows = [list(tokenizer.encode(sentence).ids) for sentence in SENTENCES]
    new_ids = {old: new for new, old in enumerate(trimmed.source_ids)}
    for row in rows:
        mask = torch.ones(1, len(row), dtype=torch.bool)
        expected = greedy_decode(whole, torch.tensor([row]), mask, max_new_tokens=12)[0]
        (found,) = greedy_decode(short, torch.tensor([[new_ids[old] for old in row]]), mask, max_new_tokens=12)
        assert [trimmed.target_ids[new] for new in found] == expected


def test_the_command_writes_a_checkpoint_of_ours(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It reads back with its tokenizer, cuts text into the same pieces, and says how much was left out."""
    directory, _ = make_checkpoint(tmp_path, VARIANTS[0])
    output = tmp_path / "trimmed"
    command = ["trim", "--checkpoint", str(directory), "--output", str(output), "--without", "LATIN"]
    assert main(command) == 0
    before, after = Tokenizer.load(directory), Tokenizer.load(output)
    checkpoint, _ = read_checkpoint(output, Corrections())
    config = checkpoint.model.config
    assert after.target_vocabulary_size == config.target_vocabulary_size < before.target_vocabulary_size
    assert (after.eos_id, after.unk_id, after.pad_id) == (config.eos_id, config.unk_id, config.pad_id) == (0, 1, 2)
    for sentence in SENTENCES:
        old, new = before.encode(sentence), after.encode(sentence)
        assert [after.source_piece(index) for index in new.ids] == [before.source_piece(index) for index in old.ids]
    assert f"of {before.target_vocabulary_size} output pieces left out" in capsys.readouterr().out
    assert main(command) == 2
    assert "choose another --output" in capsys.readouterr().err


def test_a_script_that_no_output_has_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Nothing would be gained, and a misspelt name would go unnoticed."""
    directory, _ = make_checkpoint(tmp_path, VARIANTS[0])
    command = ["trim", "--checkpoint", str(directory), "--output", str(tmp_path / "trimmed"), "--without", "Latin"]
    assert main(command) == 2
    assert "no output piece has a letter of Latin" in capsys.readouterr().err
    assert not (tmp_path / "trimmed").exists()
