"""The benchmark for GPUs runs as a whole on the CPU provider: whatever is not CUDA's is known to work."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from exporter.layer_parts import padded_vocabulary_size
from loadtests.bench.gpu import __main__ as program
from loadtests.bench.gpu.cases import DETERMINISTIC
from loadtests.bench.gpu.parts import PARTS
from loadtests.bench.gpu.traffic import product_weights
from service.bundle import Bundle


def test_a_quick_run_measures_every_part(tiny_bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Both modes of our engine, all parts, JSON, tables and a picture; peers are named as left out."""
    (tmp_path / "text").write_text("I see the book.\nyou love it all\n\nWe love this garden.\n", encoding="utf-8")
    arguments = ["--provider", "cpu", "--quick", "--bundle", str(tiny_bundle), "--output", str(tmp_path / "out")]
    assert program.main([*arguments, "--text", str(tmp_path / "text")]) == 0
    output = capsys.readouterr().out
    assert "Left out: transformers: no --checkpoint was given" in output
    (path,) = (tmp_path / "out").glob("*-gpu.json")
    fields = json.loads(path.read_text(encoding="utf-8"))
    assert fields["complete"]
    assert fields["parts"] == list(PARTS)
    both = {"dragoman", DETERMINISTIC}
    rows = [(each["search"]["name"], each["rows"], each["system"]) for each in fields["throughput"]]
    cases = [("greedy", 1), ("greedy", 8), ("beam4-normalised", 4), ("beam4-normalised", 8)]
    assert set(rows) == {(*case, system) for case in cases for system in both}
    assert {each["same_tokens_as_ours"] for each in fields["throughput"]} == {1.0}
    assert {each["system"] for each in fields["latency"]} == both
    assert all(each["bytes"] > 2**20 for each in fields["memory"])
    assert len(fields["memory"]) == 4
    assert {(each["graph"], each["mode"], each["rows"]) for each in fields["runs"]} == {
        (graph, mode, count)
        for graph in ("decoder", "encoder")
        for mode in ("fast", "deterministic")
        for count in (1, 8)
    }
    assert {each["mode"]: each["nodes"] > 50 for each in fields["profiles"]} == {"fast": True, "deterministic": True}
    assert fields["ceilings"]["bytes_per_second"] > 0
    assert path.with_suffix(".png").exists()
    assert "| dragoman |" in path.with_suffix(".md").read_text(encoding="utf-8")
    assert list((tmp_path / "out" / "profiles").glob("fast-1*.json"))


def test_the_weights_of_the_products_are_counted(tiny_bundle: Path) -> None:
    """Width 32, feed-forward 64, one layer each: the projection over the vocabulary counts, the embedding does not."""
    bundle = Bundle.load(tiny_bundle)
    layer, feed_forward = 4 * 32 * 32, 2 * 32 * 64
    projection = padded_vocabulary_size(bundle.manifest.dimensions.vocabulary_size) * 32
    assert product_weights(bundle.decoder_path) == layer + 2 * 32 * 32 + feed_forward + projection
    assert product_weights(bundle.encoder_path) == layer + feed_forward + 2 * 32 * 32
