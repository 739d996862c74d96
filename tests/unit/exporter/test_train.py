"""Training: a toy language is learned, runs repeat and resume exactly, and bad input is refused before any work."""

from __future__ import annotations

import json
import math
import random
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from exporter.__main__ import main
from exporter.checkpoint import load_checkpoint
from exporter.gradients import smoothed_loss
from exporter.model import TranslationModel
from exporter.model_config import ModelConfig
from exporter.optimizer import Optimizers, split_parameters
from exporter.schedule import Decay, LearningRateSchedule
from service.errors import CheckpointError

_WORDS = {"one": "eins", "two": "zwei", "red": "rot", "cat": "katze", "dog": "hund", "sun": "sonne", "sea": "meer"}
_SMALL = [
    *("--vocabulary-size", "36", "--d-model", "32", "--heads", "2", "--encoder-layers", "1", "--decoder-layers", "1"),
    *("--encoder-ffn", "64", "--decoder-ffn", "64", "--precision", "fp32", "--threads", "1"),
    *("--batch-tokens", "300", "--warmup-updates", "20", "--learning-rate", "0.004"),
]


def _write_pairs(path: Path, *, count: int, seed: int) -> str:
    """Write sentences of one to five words and their word by word translations, backwards."""
    generator = random.Random(seed)
    lines = []
    for _ in range(count):
        words = generator.choices(list(_WORDS), k=generator.randint(1, 5))
        lines.append(" ".join(words) + "\t" + " ".join(_WORDS[word] for word in reversed(words)) + "\n")
    path.write_text("".join(lines), encoding="utf-8")
    return f"en-de={path}"


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Training pairs of the toy language."""
    return _write_pairs(tmp_path_factory.mktemp("toy") / "train.tsv", count=600, seed=1)


def _train(data: str, directory: Path, *options: str) -> dict[str, torch.Tensor]:
    """Run the train command and return the weights of its checkpoint."""
    assert main(["train", "--data", data, "--run-directory", str(directory), *_SMALL, *options]) == 0
    return load_file(directory / "checkpoint" / "model.safetensors")


def _same(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(first[name], second[name]) for name in first)


def test_a_toy_language_is_learned(data: str, tmp_path: Path) -> None:
    """A small model learns to translate and reverse word order: most sentences it never saw come out right."""
    dev = _write_pairs(tmp_path / "dev.tsv", count=60, seed=2)
    options = ["--dev", dev, "--max-updates", "500", "--validate-updates", "250", "--dropout", "0", "--average", "1"]
    _train(data, tmp_path / "run", *options)
    history = json.loads((tmp_path / "run" / "state.json").read_text(encoding="utf-8"))["history"]
    assert [entry["update"] for entry in history] == [250, 500]
    assert history[-1]["en-de BLEU"] > 60
    scores = tmp_path / "scores.json"
    assert (
        main(["evaluate", "--checkpoint", str(tmp_path / "run/checkpoint"), "--data", dev, "--json", str(scores)]) == 0
    )
    assert json.loads(scores.read_text(encoding="utf-8"))[0]["score"]["bleu"] == pytest.approx(
        history[-1]["en-de BLEU"]
    )


def test_a_resumed_run_equals_an_uninterrupted_one(data: str, tmp_path: Path) -> None:
    """Stopping in the middle of an epoch and resuming gives the same weights, dropout and joined pairs included."""
    options = ["--decay", "inverse-sqrt", "--average", "1", "--concatenate", "0.3", "--accumulate", "2"]
    options += ["--noised-copies", "0.2"]
    whole = _train(data, tmp_path / "whole", *options, "--max-updates", "14")
    early = _train(data, tmp_path / "parts", *options, "--max-updates", "9")
    resumed = _train(data, tmp_path / "parts", *options, "--max-updates", "14", "--resume")
    assert not _same(early, whole)
    assert _same(resumed, whole)


def test_seeds_reproduce_with_any_number_of_workers(data: str, tmp_path: Path) -> None:
    """The same seed gives the same weights whether batches are computed one by one or side by side."""
    options = ["--max-updates", "6", "--accumulate", "3"]
    alone = _train(data, tmp_path / "alone", *options)
    assert _same(alone, _train(data, tmp_path / "beside", *options, "--workers", "2"))
    assert not _same(alone, _train(data, tmp_path / "other", *options, "--seed", "2"))


def test_matrices_may_be_separate(data: str, tmp_path: Path) -> None:
    """Each matrix that is not shared is stored, learns, and is read again."""
    tied = _train(data, tmp_path / "tied", "--max-updates", "2")
    untied = _train(data, tmp_path / "untied", "--max-updates", "2", "--no-share-embeddings", "--no-tie-output")
    assert len(untied) == len(tied) + 2
    model = load_checkpoint(tmp_path / "untied/checkpoint").model
    weights = (model.source_embedding.weight, model.target_embedding.weight, model.output.weight)
    assert len({weight.data_ptr() for weight in weights}) == 3


def test_noised_copies_come_on_top(data: str, tmp_path: Path) -> None:
    """An epoch with as many copies as pairs is twice as long, and other weights come of it."""
    options = ["--max-epochs", "1", "--max-updates", "1000", "--decay", "constant"]
    plain = _train(data, tmp_path / "plain", *options)
    assert not _same(plain, _train(data, tmp_path / "noised", *options, "--noised-copies", "1"))
    states = [json.loads((tmp_path / name / "state.json").read_text(encoding="utf-8")) for name in ("plain", "noised")]
    assert 1.7 < states[1]["update"] / states[0]["update"] < 2.6


def test_averaging_gives_the_mean_of_the_last_weights(data: str, tmp_path: Path) -> None:
    """Without dev data the checkpoint is the mean of the last validations' weights."""
    averaged = _train(data, tmp_path / "run", "--max-updates", "6", "--validate-updates", "2", "--average", "2")
    parts = [load_file(tmp_path / "run" / "weights" / f"{update:08d}.safetensors") for update in (4, 6)]
    for name, tensor in averaged.items():
        torch.testing.assert_close(tensor, (parts[0][name] + parts[1][name]) / 2)
    assert not list((tmp_path / "run" / "weights").glob("*2.safetensors"))


def test_a_run_starts_from_a_checkpoint(data: str, tmp_path: Path) -> None:
    """``--init-from`` takes weights and vocabulary over."""
    _train(data, tmp_path / "first", "--max-updates", "3")
    options = ["--init-from", str(tmp_path / "first/checkpoint"), "--max-updates", "1", "--learning-rate", "0"]
    second = _train(data, tmp_path / "second", *options, "--weight-decay", "0")
    assert _same(second, load_file(tmp_path / "first/checkpoint/model.safetensors"))


def test_training_stops_when_validation_stalls(data: str, tmp_path: Path) -> None:
    """With a learning rate of zero nothing improves, and the run ends after ``--patience`` validations."""
    dev = _write_pairs(tmp_path / "dev.tsv", count=5, seed=3)
    options = ["--dev", dev, "--max-updates", "50", "--validate-updates", "2", "--patience", "3"]
    _train(data, tmp_path / "run", *options, "--learning-rate", "0")
    history = json.loads((tmp_path / "run" / "state.json").read_text(encoding="utf-8"))["history"]
    assert [entry["update"] for entry in history] == [2, 4, 6, 8]


def test_no_pickle_is_written(data: str, tmp_path: Path) -> None:
    """A run leaves safetensors, JSON and SentencePiece files and nothing else."""
    _train(data, tmp_path / "run", "--max-updates", "2", "--optimizer", "muon")
    suffixes = {path.suffix for path in (tmp_path / "run").rglob("*") if path.is_file()}
    assert suffixes == {".safetensors", ".json", ".spm"}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--data", "en-de=missing.tsv", "--max-updates", "1"], "missing.tsv: No such file"),
        (["--data", "missing.tsv", "--max-updates", "1"], "--data takes SOURCE-TARGET=FILE"),
        (["--max-epochs", "1"], "--decay linear needs"),
        ([], "say when to end"),
        (["--max-updates", "1", "--resume"], "nothing to resume"),
        (["--max-updates", "1", "--longest", "1"], "no pair of at most 1 tokens"),
        (["--max-updates", "1", "--vocabulary-size", "5000"], "cannot train a vocabulary of 5000 pieces"),
        (["--max-updates", "1", "--dev", "en-fr=missing.tsv"], "no training data for this direction"),
        (["--max-updates", "1", "--d-model", "33"], "d_model 33 must be a multiple"),
        (["--max-updates", "1", "--noised-copies", "-1"], "--noised-copies must be finite and not below 0"),
    ],
)
def test_what_cannot_be_trained_is_refused_in_one_line(
    data: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], options: list[str], message: str
) -> None:
    """Exit code 2 and one line on stderr that names the fault."""
    given = options if "--data" in options else ["--data", data, *options]
    assert main(["train", "--run-directory", str(tmp_path / "run"), *_SMALL, *given]) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1
    assert message in lines[0]


@pytest.mark.parametrize(
    "option", ["--patience", "--average", "--accumulate", "--validate-updates", "--workers", "--threads"]
)
def test_counts_are_at_least_one(option: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """None of the last validations would be all of them, and nothing can be divided by nothing."""
    with pytest.raises(SystemExit) as ended:
        main(["train", "--run-directory", str(tmp_path), "--data", "en-de=f", "--max-updates", "1", option, "0"])
    assert ended.value.code == 2
    assert f"{option}: must be at least 1, not 0" in capsys.readouterr().err


def test_ragged_lines_are_counted_and_may_be_skipped(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A ragged file is refused with its line number, or trained on without those lines, which are counted."""
    data = _write_pairs(tmp_path / "ragged.tsv", count=100, seed=4)
    with (tmp_path / "ragged.tsv").open("a", encoding="utf-8") as file:
        file.write("no translation\n")
    command = ["train", "--data", data, "--run-directory", str(tmp_path / "run"), *_SMALL, "--max-updates", "1"]
    assert main(command) == 2
    assert "ragged.tsv:101: expected source<TAB>target, found 1 column" in capsys.readouterr().err
    assert main([*command, "--skip-bad-lines"]) == 0
    assert "1 bad lines" in capsys.readouterr().out


def test_label_smoothing_is_the_mixed_cross_entropy() -> None:
    """The loss is (1 - s) of the label's cross-entropy and s of the mean over all tokens; zero smoothing is plain."""
    logits = torch.randn(5, 11, generator=torch.Generator().manual_seed(0))
    labels = torch.tensor([0, 3, 10, 3, 7])
    log_probs = logits.log_softmax(-1)
    plain = -log_probs[torch.arange(5), labels].mean()
    torch.testing.assert_close(smoothed_loss(logits, labels, smoothing=0.0), plain)
    torch.testing.assert_close(smoothed_loss(logits, labels, smoothing=0.1), 0.9 * plain - 0.1 * log_probs.mean())


@pytest.mark.parametrize(
    ("decay", "rates"),
    [("constant", [0.5, 1.0, 1.0, 1.0]), ("linear", [0.45, 0.8, 0.4, 0.0]), ("inverse-sqrt", [0.5, 1.0, 0.5, 0.25])],
)
def test_learning_rates_follow_the_schedule(decay: Decay, rates: list[float]) -> None:
    """Every schedule warms up linearly; then it stays, falls to zero at the end, or falls with the square root."""
    schedule = LearningRateSchedule(peak=1.0, warmup_updates=10, decay=decay)
    points = [(5, 0.1), (10, 0.2), (40, 0.6), (160, 1.0)]
    for (update, progress), rate in zip(points, rates, strict=True):
        assert math.isclose(schedule.rate(update=update, progress=progress), rate)


def test_muon_takes_the_hidden_matrices_only() -> None:
    """Embeddings, output, biases and norms stay with AdamW; foreign optimizer state is refused."""
    config = ModelConfig(
        vocabulary_size=20,
        target_vocabulary_size=20,
        d_model=8,
        heads=2,
        encoder_layers=1,
        decoder_layers=1,
        encoder_ffn=8,
        decoder_ffn=8,
    )
    model = TranslationModel(config)
    hidden, rest = split_parameters(model)
    assert all(parameter.ndim == 2 for parameter in hidden)
    assert len(hidden) == (4 + 2) + (8 + 2)
    assert sum(parameter.numel() for parameter in (*hidden, *rest)) == model.parameter_count()
    optimizers = Optimizers(model, name="muon", weight_decay=0.0, muon_rate_ratio=10.0)
    with pytest.raises(CheckpointError, match="does not fit the model"):
        optimizers.load_state_tensors({"nowhere|exp_avg": torch.zeros(3)})


def test_a_trained_checkpoint_describes_itself(data: str, tmp_path: Path) -> None:
    """Language pairs, target tokens and the longest trusted source are in the checkpoint."""
    _train(data, tmp_path / "run", "--max-updates", "1", "--name", "toy", "--longest", "20", "--licence", "CC0-1.0")
    description = load_checkpoint(tmp_path / "run/checkpoint").description
    assert [(pair.source, pair.target, pair.target_token) for pair in description.language_pairs] == [
        ("en", "de", ">>de<<")
    ]
    assert (description.name, description.trusted_source_tokens, description.licence) == ("toy", 20, "CC0-1.0")
