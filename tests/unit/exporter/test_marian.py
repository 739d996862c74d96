"""Marian checkpoints of every variant import as what ``transformers`` takes them for, and bad ones are refused."""

from __future__ import annotations

import json
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import GenerationConfig

from exporter.checkpoint import Checkpoint, LanguagePair
from exporter.greedy import greedy_decode
from exporter.marian import load_marian
from exporter.sources import Corrections, checkpoint_directory, read_checkpoint
from service.errors import CheckpointError
from service.tokenizer import Tokenizer
from tests.doubles.marian_checkpoints import VARIANTS, Variant, make_checkpoint

SENTENCES = ("the old cat saw 12 boats", "Anna", "how many red apples fell on the town in 1995")


def imported(directory: Path) -> Checkpoint:
    """Import a checkpoint whose name may not say its languages."""
    return read_checkpoint(directory, Corrections(source="en"))[0]


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One undamaged checkpoint."""
    return make_checkpoint(tmp_path_factory.mktemp("marian"), VARIANTS[0])[0]


@pytest.fixture
def directory(plain: Path, tmp_path: Path) -> Path:
    """A copy of it that a test may damage."""
    return shutil.copytree(plain, tmp_path / "opus-mt-en-de")


@pytest.mark.parametrize("variant", VARIANTS, ids=lambda variant: variant.name)
def test_logits_and_greedy_tokens_are_those_of_transformers(variant: Variant, tmp_path: Path) -> None:
    """For padded batches of every variant, logits agree closely and greedy answers exactly."""
    directory, theirs = make_checkpoint(tmp_path, variant)
    ours = imported(directory).model
    tokenizer = Tokenizer.load(directory)
    token = variant.target_tokens[0] if variant.target_tokens else None
    rows = [list(tokenizer.encode(sentence, token).ids) for sentence in SENTENCES]
    pad = ours.config.pad_id
    ids = torch.nn.utils.rnn.pad_sequence([torch.tensor(row) for row in rows], batch_first=True, padding_value=pad)
    mask = torch.arange(ids.shape[1]) < torch.tensor([len(row) for row in rows])[:, None]
    targets = torch.tensor([[pad, 5, 9, 2], [pad, 3, 3, 0], [pad, 11, 2, 30]])
    with torch.inference_mode():
        expected = theirs(input_ids=ids, attention_mask=mask.long(), decoder_input_ids=targets).logits
        torch.testing.assert_close(ours(ids, mask, targets), expected, atol=2e-4, rtol=1e-4)
        settings = GenerationConfig(  # type: ignore[no-untyped-call]
            num_beams=1,
            do_sample=False,
            max_new_tokens=20,
            bad_words_ids=[[pad]],
            forced_eos_token_id=0,
            eos_token_id=0,
            pad_token_id=pad,
            decoder_start_token_id=pad,
        )
        answers = theirs.generate(  # type: ignore[misc]
            ids, attention_mask=mask.long(), generation_config=settings
        )
    found = greedy_decode(ours, ids, mask, max_new_tokens=20)
    for row, answer in enumerate(found):
        assert answers[row, 1 : len(answer) + 1].tolist() == answer


def test_two_different_spm_files_are_not_swapped(plain: Path) -> None:
    """Source text is cut by source.spm and target ids are joined by target.spm."""
    tokenizer = Tokenizer.load(plain)
    assert tokenizer.encode("the cat sat").unknown_count == 0
    pieces = json.loads((plain / "vocab.json").read_text(encoding="utf-8"))
    assert "Ä" in "".join(pieces)
    assert tokenizer.encode("Äpfel").unknown_count > 0


def test_target_tokens_become_language_pairs(tmp_path: Path) -> None:
    """A multi-target model has one pair for each of its tokens, its codes normalised."""
    directory, _ = make_checkpoint(tmp_path, VARIANTS[4])
    assert imported(directory).description.language_pairs == (
        LanguagePair("en", "fr", ">>fra<<"),
        LanguagePair("en", "pt-BR", ">>pt_BR<<"),
    )
    one = load_marian(directory, source="en", target="fra")
    assert one.description.language_pairs == (LanguagePair("en", "fr", ">>fra<<"),)
    with pytest.raises(CheckpointError, match="no target token for 'it'"):
        load_marian(directory, source="en", target="it")


def test_languages_come_from_the_name_the_settings_or_the_caller(directory: Path) -> None:
    """The tokenizer's settings win over the model's name, the caller over both, and none is an error."""
    assert load_marian(directory).description.language_pairs == (LanguagePair("en", "de", None),)
    (directory / "tokenizer_config.json").write_text('{"source_lang": "zho", "target_lang": "eng"}')
    assert load_marian(directory).description.language_pairs == (LanguagePair("zh", "en", None),)
    asked = load_marian(directory, source="fi", target="sv").description.language_pairs
    assert asked == (LanguagePair("fi", "sv", None),)
    (directory / "tokenizer_config.json").unlink()
    with pytest.raises(CheckpointError, match="give --source"):
        load_marian(directory, name="model")


def edit_config(directory: Path, **changes: object) -> None:
    """Change fields of config.json."""
    path = directory / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def bert(directory: Path) -> None:
    """Make it say it is a BERT."""
    edit_config(directory, model_type="bert")


def unknown_activation(directory: Path) -> None:
    """Name an activation nobody has."""
    edit_config(directory, activation_function="gelu_tanh_v7")


def truncated(directory: Path) -> None:
    """Cut the weight file in half."""
    path = directory / "model.safetensors"
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def with_nan(directory: Path) -> None:
    """Put a NaN into a weight."""
    tensors = load_file(directory / "model.safetensors")
    tensors["model.decoder.layers.0.fc1.weight"][3, 3] = float("nan")
    save_file(tensors, directory / "model.safetensors")


def without_tokenizer(directory: Path) -> None:
    """Lose a tokenizer file."""
    (directory / "target.spm").unlink()


def vocabulary_too_long(directory: Path) -> None:
    """Add a piece that has no embedding."""
    table = json.loads((directory / "vocab.json").read_text(encoding="utf-8"))
    table["one more"] = len(table)
    (directory / "vocab.json").write_text(json.dumps(table))


def other_padding(directory: Path) -> None:
    """Let config.json and vocabulary disagree on padding."""
    edit_config(directory, pad_token_id=3)


def without_weights(directory: Path) -> None:
    """Lose the weights."""
    (directory / "model.safetensors").unlink()


def without_config(directory: Path) -> None:
    """Lose the configuration."""
    (directory / "config.json").unlink()


def broken_config(directory: Path) -> None:
    """Damage the configuration."""
    (directory / "config.json").write_text("{")


def wrong_shape(directory: Path) -> None:
    """Claim another width than the weights have."""
    edit_config(directory, encoder_ffn_dim=64)


def missing_layer(directory: Path) -> None:
    """Claim more layers than there are."""
    edit_config(directory, decoder_layers=3)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (bert, "model_type 'bert'"),
        (unknown_activation, "unknown activation 'gelu_tanh_v7'"),
        (truncated, "truncated or not a safetensors file"),
        (with_nan, "NaN or infinite"),
        (without_tokenizer, "target.spm"),
        (vocabulary_too_long, "pieces, the embedding"),
        (other_padding, "<pad> has id"),
        (without_weights, "neither model.safetensors nor pytorch_model.bin"),
        (without_config, "no such file"),
        (broken_config, "not JSON"),
        (wrong_shape, "expected"),
        (missing_layer, "lacks tensor decoder.layers.2"),
    ],
)
def test_a_bad_checkpoint_is_refused_in_one_line(directory: Path, damage: Callable[[Path], None], message: str) -> None:
    """Whatever is wrong with a checkpoint is said in one line that names it."""
    damage(directory)
    with pytest.raises(CheckpointError) as caught:
        imported(directory)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


class Trap:
    """Unpickling one of these creates a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return Path.touch, (self.path,)


@pytest.mark.parametrize("wrapped", [True, False], ids=["torch.save", "bare pickle"])
def test_code_in_a_pickle_is_not_run(directory: Path, tmp_path: Path, *, wrapped: bool) -> None:
    """A weight file with code in it is refused and the code does not run."""
    (directory / "model.safetensors").unlink()
    sprung = tmp_path / "sprung"
    if wrapped:
        torch.save({"weight": Trap(sprung)}, directory / "pytorch_model.bin")
    else:
        (directory / "pytorch_model.bin").write_bytes(pickle.dumps(Trap(sprung)))
    with pytest.raises(CheckpointError, match=r"pytorch_model\.bin"):
        imported(directory)
    assert not sprung.exists()


def test_a_truncated_pickle_is_refused(tmp_path: Path) -> None:
    """Half a pytorch_model.bin is one clear line."""
    directory, _ = make_checkpoint(tmp_path, Variant(name="pickled-en-de", pickled=True))
    path = directory / "pytorch_model.bin"
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(CheckpointError, match=r"pytorch_model\.bin"):
        imported(directory)


def test_a_name_that_is_neither_directory_nor_reachable_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    """A hub name without the hub's client or without a network says what to do instead."""
    with pytest.raises(CheckpointError, match="no such checkpoint directory"):
        checkpoint_directory("nowhere")
    monkeypatch.setitem(__import__("sys").modules, "huggingface_hub", None)
    with pytest.raises(CheckpointError, match=r"dragoman\[hub\]"):
        checkpoint_directory("Helsinki-NLP/opus-mt-en-de")
