"""Every export proves its beam search, or says that it did not; what fails leaves no bundle."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from exporter.__main__ import main
from exporter.beam import BeamAnswer
from exporter.beam_proof import BEAM_SIZE, BeamProof, spread
from exporter.export import export
from exporter.export_options import PROOF_SENTENCES, ExportOptions, check_options
from exporter.probes import ask, probe_texts
from exporter.serving import Answers, BundleEngine
from exporter.sources import Corrections, read_checkpoint
from service.engine import DecodingOptions
from service.errors import ConfigError, ExportError
from tests.doubles.marian_checkpoints import VARIANTS, make_checkpoint
from tests.tiny_model import write_tiny_checkpoint

TEXTS = ["I love you.", "the train station", "we will buy three keys", "a good friend", "you see it all", "water"]


def proof_with(differing: int, *, of: int) -> BeamProof:
    """A proof in which some of the answers are others."""
    reference = [BeamAnswer([5, 6], -0.5)] * of
    answers = [BeamAnswer([5, 7], -0.75)] * differing + reference[differing:]
    return BeamProof(sentences=tuple(range(of)), answers=answers, reference=reference)


def beam_field(bundle: Path) -> Any:
    """What a bundle's report says of beam search."""
    return json.loads((bundle / "report.json").read_text(encoding="utf-8"))["proof"]["beam"]


def test_a_marian_bundle_decodes_as_the_reference_does(tmp_path: Path) -> None:
    """A multi-target model in fp32: greedy tokens and the best of the beams are PyTorch's."""
    directory, _ = make_checkpoint(tmp_path, VARIANTS[4])
    options = ExportOptions(proof_sentences=24, threads=1)
    exported = export(directory, tmp_path / "bundle", options, Corrections(source="en"))
    assert [pair.target_token for pair in exported.bundle.manifest.language_pairs] == [">>fra<<", ">>pt_BR<<"]
    report = json.loads((tmp_path / "bundle" / "report.json").read_text())
    assert report["proof"]["greedy"]["differing"] == []
    beam = report["proof"]["beam"]
    assert beam == {"sentences": 24, "beam_size": BEAM_SIZE, "agreement": 1.0, "differences": []}


def test_a_model_with_two_vocabularies_goes_through(tmp_path: Path) -> None:
    """Separate vocabularies and an untied output: three tables in the bundle, and every answer is PyTorch's."""
    directory, _ = make_checkpoint(tmp_path, VARIANTS[3])
    exported = export(directory, tmp_path / "bundle", ExportOptions(proof_sentences=8, precision="int8", threads=1))
    assert (tmp_path / "bundle" / "target_vocab.json").exists()
    assert exported.report["proof"]


def test_our_own_bundles_prove_all_their_sentences(
    tiny_bundle: Path, tiny_int8_bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without being asked, in fp32 without a difference and in int8 with a count of them; inspect shows both."""
    exact, integer = beam_field(tiny_bundle), beam_field(tiny_int8_bundle)
    assert exact["sentences"] == integer["sentences"] == 8
    assert exact["differences"] == []
    assert integer["agreement"] == 1.0 - len(integer["differences"]) / 8
    assert main(["inspect", str(tiny_bundle)]) == 0
    assert "0 of 8 answers with beam 4 differ from the reference's" in capsys.readouterr().out


def test_a_bundle_without_the_proof_says_so(
    tiny_checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The report, the export's summary and inspect: none keeps silent."""
    output = tmp_path / "bundle"
    command = ["export", "--checkpoint", str(tiny_checkpoint), "--output", str(output), "--threads", "1"]
    assert main([*command, "--proof-sentences", "8", "--proof-beams", "0"]) == 0
    assert "beam       not run: --proof-beams 0" in capsys.readouterr().out
    assert beam_field(output) == "not run: --proof-beams 0"
    assert main(["inspect", str(output)]) == 0
    assert "not run: --proof-beams 0" in capsys.readouterr().out


def test_quality_of_beams_stands_beside_the_references(tmp_path: Path) -> None:
    """With the caller's text and translations, beams are scored as greedy answers are, on the sentences they had; the
    generated ones beside them, one token and full length among these, have no translations and no part in it."""
    options = ExportOptions(proof_texts=TEXTS, proof_references=TEXTS, proof_sentences=11, proof_beams=6, threads=1)
    checkpoint = write_tiny_checkpoint(tmp_path / "checkpoint", targets=("de",))
    report: dict[str, Any] = export(checkpoint, tmp_path / "bundle", options).report
    assert report["proof_text"] == {"given": 6, "generated": 5}
    assert (report["proof"]["greedy"]["sentences"], report["proof"]["beam"]["sentences"]) == (11, 6)
    assert {name: scores["sentences"] for name, scores in report["quality"].items()} == {
        "reference": 6,
        "bundle": 6,
        "reference, beam 4": 3,
        "bundle, beam 4": 3,
    }
    assert report["quality"]["bundle, beam 4"] == report["quality"]["reference, beam 4"]


def test_beams_that_are_not_the_references_leave_no_bundle(
    tiny_checkpoint: Path, tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Greedy answers are right and one beam is not: the export fails, nothing is written, and verify fails too."""
    decode = BundleEngine.decode

    def spoiled(engine: BundleEngine, sources: Sequence[Sequence[int]], options: Sequence[DecodingOptions]) -> Answers:
        wrong = [*sources[:-1], sources[0]] if options[0].beam_size == BEAM_SIZE else sources
        return decode(engine, wrong, options)

    monkeypatch.setattr(BundleEngine, "decode", spoiled)
    with pytest.raises(ExportError, match=r"proof failed: beam 4 agrees with PyTorch's on 87\.5% of sentences only"):
        export(tiny_checkpoint, tmp_path / "bundle", ExportOptions(proof_sentences=8, threads=1))
    assert list(tmp_path.iterdir()) == []
    command = ["verify", "--bundle", str(tiny_bundle), "--sentences", "8", "--threads", "1"]
    assert main([*command, "--checkpoint", str(tiny_checkpoint)]) == 2
    assert main([*command, "--checkpoint", str(tiny_checkpoint), "--beams", "0"]) == 0


def test_a_default_export_is_proved_on_one_token_and_on_full_length(repository: Path) -> None:
    """200 sentences, the first a target token, one token and EOS, the last as long as the model takes."""
    directory = repository / "models" / "en-defres"
    checkpoint, tokenizer = read_checkpoint(directory, Corrections())
    longest = checkpoint.model.config.max_positions
    texts = probe_texts(directory, count=PROOF_SENTENCES, max_tokens=longest)
    lengths = [len(source) for source in ask(checkpoint, tokenizer, texts).sources]
    assert (len(lengths), lengths[0], lengths[-1]) == (200, 3, longest)


def test_a_share_of_others_is_refused_in_fp32_and_told_in_int8() -> None:
    """One sentence in a hundred may differ, and is listed with both scores; two may not."""
    one, two = proof_with(1, of=100), proof_with(2, of=100)
    one.check(exact=True)
    two.check(exact=False)
    with pytest.raises(ExportError, match=r"98\.0%"):
        two.check(exact=True)
    assert one.to_report()["differences"] == [{"sentence": 0, "score": -0.75, "reference_score": -0.5}]


def test_fewer_sentences_are_spread_over_all() -> None:
    """The first, a single word, and the last, of full length, are always among them."""
    assert spread(200, most=None) == spread(200, most=300) == list(range(200))
    assert spread(200, most=0) == []
    assert spread(200, most=1) == [0]
    assert spread(200, most=3) == [0, 99, 199]
    with pytest.raises(ConfigError, match="--proof-beams"):
        check_options(ExportOptions(proof_beams=-1))
