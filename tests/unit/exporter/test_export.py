"""The export command: whole bundles, reproducible and proved, or nothing at all and one clear line."""

from __future__ import annotations

import errno
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
import pytest
import torch

from exporter import packaging, trace
from exporter.__main__ import main
from exporter.attention_forms import PlainAttention
from exporter.checkpoint import load_checkpoint
from exporter.encoder_graph import EncoderGraph
from exporter.export import export, proof_lines
from exporter.export_options import ExportOptions, check_options
from exporter.serving import bundle_engine
from service.bundle import Bundle
from service.engine import DecodingOptions
from service.errors import ConfigError, DataError, DragomanError, ExportError

QUICK = ExportOptions(proof_sentences=8, threads=1)


def report_of(bundle: Path) -> dict[str, Any]:
    """The report beside a bundle."""
    report: dict[str, Any] = json.loads((bundle / "report.json").read_text(encoding="utf-8"))
    return report


def test_the_same_checkpoint_gives_the_same_bytes(
    tiny_checkpoint: Path, tiny_bundle: Path, repository: Path, tmp_path: Path
) -> None:
    """Exported again by another process, from another place and under another name, every file is the same."""
    copy = shutil.copytree(tiny_checkpoint, tmp_path / "elsewhere" / "copy")
    output = tmp_path / "again"
    command = [sys.executable, "-m", "exporter", "export", "--checkpoint", str(copy), "--output", str(output)]
    command += ["--proof-sentences", "8", "--threads", "1"]
    done = subprocess.run(command, cwd=repository, capture_output=True, text=True, check=True)
    assert f"{output}: " in done.stdout
    assert "fused nodes in the encoder" in done.stdout
    names = {path.name for path in tiny_bundle.iterdir()}
    assert names == {path.name for path in output.iterdir()}
    for name in sorted(names - {"report.json"}):
        assert (output / name).read_bytes() == (tiny_bundle / name).read_bytes(), name


@pytest.mark.parametrize("bundle", ["tiny_bundle", "tiny_int8_bundle"])
def test_graphs_name_no_machine(bundle: str, repository: Path, request: pytest.FixtureRequest) -> None:
    """No local path, source line, doc string or tracing metadata is left in any graph or in the manifest."""
    directory: Path = request.getfixturevalue(bundle)
    traces = [str(repository), str(directory.parent), str(Path.home()), sys.prefix, ".py", "site-packages", "torch"]
    for name in ("encoder.onnx", "decoder.onnx", "manifest.json"):
        content = (directory / name).read_bytes()
        for found in traces:
            assert found.encode() not in content, f"{found} in {name}"
    for name in ("encoder.onnx", "decoder.onnx"):
        model = onnx.load(directory / name, load_external_data=False)
        assert not model.doc_string
        assert not model.metadata_props
        assert not model.graph.doc_string
        assert not any(node.doc_string or node.metadata_props for node in model.graph.node)
        locations = {
            entry.value for t in model.graph.initializer for entry in t.external_data if entry.key == "location"
        }
        assert locations <= {"weights.bin"}


def test_the_report_says_what_was_measured(tiny_bundle: Path, tiny_int8_bundle: Path) -> None:
    """fp32 agrees with PyTorch everywhere; int8 says what its calibration clips; rows are independent in both."""
    exact, integer = report_of(tiny_bundle)["proof"], report_of(tiny_int8_bundle)
    assert {case["name"] for case in exact["logits"]} >= {"one short", "one long", "several padded"}
    assert max(case["largest_difference"] for case in exact["logits"]) < 1e-4
    assert (
        max(case["longest_source"] for case in exact["logits"]) == Bundle.load(tiny_bundle).manifest.max_source_tokens
    )
    assert exact["greedy"]["sentences"] == 8
    assert exact["greedy"]["differing"] == exact["greedy"]["preferred_otherwise"] == []
    assert exact["rows_independent"] is integer["proof"]["rows_independent"] is True
    assert 0.0 <= integer["calibration"]["clipped_share"] < 1e-2


def test_int8_is_a_quarter_of_the_size(tiny_bundle: Path, tiny_int8_bundle: Path) -> None:
    """Each weight takes a byte, biases and norms aside, and the tied table is stored once."""
    config = load_checkpoint(tiny_bundle.parent / "checkpoint").model.config
    table = Bundle.load(tiny_bundle).manifest.dimensions.padded_vocabulary_size * config.d_model
    sizes = [(directory / "weights.bin").stat().st_size for directory in (tiny_bundle, tiny_int8_bundle)]
    assert sizes[1] < 0.5 * sizes[0]
    assert sizes[0] >= 4 * table


def test_a_model_of_random_weights_has_no_alignments(tiny_bundle: Path) -> None:
    """No head passes by luck: the manifest says that there are none, and the graph has no output for them."""
    assert Bundle.load(tiny_bundle).manifest.alignment is None
    model = onnx.load(tiny_bundle / "decoder.onnx", load_external_data=False)
    assert "alignment_query" not in {output.name for output in model.graph.output}


def test_an_unfused_export_translates_the_same(tiny_checkpoint: Path, tiny_bundle: Path, tmp_path: Path) -> None:
    """The same model with plain products gives the same tokens, and its manifest counts no fused attention."""
    options = ExportOptions(proof_sentences=8, threads=1, fused=False)
    plain = export(tiny_checkpoint, tmp_path / "plain", options).bundle
    assert plain.manifest.graphs.decoder.fused_attention == plain.manifest.graphs.encoder.fused_attention == 0
    sources = [[5, 9, 30, 1], [17, 1], [*list(range(20, 45)), 1]]
    asked = [DecodingOptions(max_output_tokens=12)] * 3
    with bundle_engine(plain, threads=1) as one, bundle_engine(Bundle.load(tiny_bundle), threads=1) as other:
        assert one.decode(sources, asked).ids == other.decode(sources, asked).ids


def leftovers(folder: Path) -> list[str]:
    """What an export left in ``folder``."""
    return sorted(path.name for path in folder.iterdir())


def test_a_graph_that_computes_something_else_is_not_written(
    tiny_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An export whose answers are not PyTorch's leaves nothing behind, not even a temporary folder."""
    original = EncoderGraph.__init__

    def spoiled(self: EncoderGraph, *arguments: Any) -> None:
        original(self, *arguments)
        self.positions = torch.zeros_like(self.positions)

    monkeypatch.setattr(EncoderGraph, "__init__", spoiled)
    output = tmp_path / "bundle"
    with pytest.raises(ExportError, match="proof failed"):
        export(tiny_checkpoint, output, QUICK)
    assert leftovers(tmp_path) == []


def test_a_full_disk_is_one_line_and_leaves_nothing(
    tiny_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the weights do not fit, the disk is as it was and the message says why."""

    def full(weights: trace.WeightsFile, data: bytes) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(trace.WeightsFile, "place", full)
    with pytest.raises(ExportError, match="the disk is full; nothing was written"):
        export(tiny_checkpoint, tmp_path / "bundle", QUICK)
    assert leftovers(tmp_path) == []


def test_attention_that_is_not_fused_stops_the_export(
    tiny_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Were the fused form to come out as plain products, the export would say so and write nothing."""
    monkeypatch.setattr("exporter.assembly.FusedAttention", PlainAttention)
    with pytest.raises(ExportError, match="0 fused attention nodes"):
        export(tiny_checkpoint, tmp_path / "bundle", QUICK)
    assert leftovers(tmp_path) == []


def test_a_bundle_is_replaced_whole_and_anything_else_is_left_alone(tiny_bundle: Path, tmp_path: Path) -> None:
    """An old bundle gives way in one step, a failed one keeps the old; a folder of other things is refused."""
    output = shutil.copytree(tiny_bundle, tmp_path / "bundle")
    with pytest.raises(FileNotFoundError), packaging.staged(output) as stage:
        (stage / "manifest.json").rename(stage / "half")
    assert Bundle.load(output).manifest == Bundle.load(tiny_bundle).manifest
    with packaging.staged(output) as stage:
        (stage / "manifest.json").write_text("new")
    assert leftovers(output) == ["manifest.json"]
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "thesis.txt").write_text("irreplaceable")
    with pytest.raises(ConfigError, match="exists and is not a bundle"), packaging.staged(precious):
        pass
    assert leftovers(tmp_path) == ["bundle", "precious"]


def missing(directory: Path) -> None:
    """Take the whole checkpoint away."""
    shutil.rmtree(directory)


def truncated(directory: Path) -> None:
    """Cut the weights short."""
    path = directory / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])


def with_nan(directory: Path) -> None:
    """Fill a weight with NaN."""
    from safetensors.torch import load_file, save_file

    tensors = load_file(directory / "model.safetensors")
    tensors["encoder.layers.0.feed_forward.inner.weight"][:] = float("nan")
    save_file(tensors, directory / "model.safetensors")


def without_tokenizer(directory: Path) -> None:
    """Lose the tokenizer."""
    (directory / "source.spm").unlink()


def bert(directory: Path) -> None:
    """Be another kind of model."""
    (directory / "config.json").write_text('{"model_type": "bert", "hidden_size": 768}')


def other_vocabulary(directory: Path) -> None:
    """Have a vocabulary that does not fit the embedding."""
    table = json.loads((directory / "vocab.json").read_text(encoding="utf-8"))
    (directory / "vocab.json").write_text(json.dumps({**table, "one more": len(table)}))


@pytest.mark.parametrize("damage", [missing, truncated, with_nan, without_tokenizer, bert, other_vocabulary])
def test_a_bad_checkpoint_ends_the_command_with_one_line(
    tiny_checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], damage: Callable[[Path], None]
) -> None:
    """Exit code 2, one line that begins with 'error:', and no output."""
    directory = shutil.copytree(tiny_checkpoint, tmp_path / "checkpoint")
    damage(directory)
    folder = tmp_path / "out"
    folder.mkdir()
    code = main(["export", "--checkpoint", str(directory), "--output", str(folder / "bundle")])
    assert code == 2
    errors = [line for line in capsys.readouterr().err.replace("\r", "\n").splitlines() if line.startswith("error:")]
    assert len(errors) == 1
    assert leftovers(folder) == []


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (ExportOptions(proof_sentences=7), "--proof-sentences"),
        (ExportOptions(threads=0), "--threads"),
        (ExportOptions(calibration_texts=["a"]), "no effect"),
        (ExportOptions(proof_references=["a"]), "needs --proof-text"),
        (ExportOptions(proof_texts=["a", "b"], proof_references=["a"]), "2 proof sentences but 1 references"),
    ],
)
def test_options_that_contradict_each_other_are_refused(options: ExportOptions, message: str) -> None:
    """What cannot be meant is said before any work is done."""
    with pytest.raises((ConfigError, DataError), match=message):
        check_options(options)


def test_references_of_a_model_with_several_targets_are_refused(tiny_checkpoint: Path, tmp_path: Path) -> None:
    """Its proof goes round the languages, and two thirds of the answers would be scored against another one."""
    options = ExportOptions(proof_texts=["I love you."], proof_references=["Ich liebe dich."], proof_sentences=8)
    with pytest.raises(ConfigError, match="goes round de, fr, es"):
        export(tiny_checkpoint, tmp_path / "bundle", options)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("texts", "references", "message"),
    [
        ("a\nb\n", "A\n", "has 2 lines and"),
        ("a\n\nb\n", "A\nB\n\n", "line 2 is blank in"),
        ("\n\n", "\n\n", "holds no sentences"),
    ],
)
def test_lines_that_do_not_belong_to_each_other_are_refused(
    texts: str, references: str, message: str, tmp_path: Path
) -> None:
    """Blank lines left out of each file for itself would score sentences against their neighbours' translations."""
    (tmp_path / "texts").write_text(texts)
    (tmp_path / "references").write_text(references)
    with pytest.raises(DataError, match=message):
        proof_lines(tmp_path / "texts", tmp_path / "references")


def test_lines_end_where_the_file_says_so(tmp_path: Path) -> None:
    """Blank pairs are left out, and a line separator within a sentence is none."""
    (tmp_path / "texts").write_text("a\u2028b\n\nc\r\n", encoding="utf-8", newline="")
    (tmp_path / "references").write_text("A\n\nC")
    assert proof_lines(tmp_path / "texts", tmp_path / "references") == (["a\u2028b", "c"], ["A", "C"])
    with pytest.raises(ConfigError, match="needs --proof-text"):
        proof_lines(None, tmp_path / "references")


def test_verify_tells_another_vocabulary_and_other_languages(
    tiny_checkpoint: Path, tiny_bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The same weights with other words or languages serve something else, whatever the graphs say."""
    command = ["verify", "--bundle", str(tiny_bundle), "--sentences", "8", "--threads", "1", "--checkpoint"]
    shutil.copytree(tiny_checkpoint, tmp_path / "words")
    vocabulary = tmp_path / "words" / "vocab.json"
    vocabulary.write_text(vocabulary.read_text() + "\n")
    assert main([*command, str(tmp_path / "words")]) == 2
    assert "vocab.json is not that of" in capsys.readouterr().err
    from tests.tiny_model import write_tiny_checkpoint

    assert main([*command, str(write_tiny_checkpoint(tmp_path / "languages", targets=("de", "fr")))]) == 2
    assert "made for other languages" in capsys.readouterr().err


def test_inspect_shows_what_is_in_a_bundle(tiny_int8_bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Name, languages, sizes, operators and proof are in the table; a damaged bundle is one line instead."""
    assert main(["inspect", str(tiny_int8_bundle)]) == 0
    table = capsys.readouterr().out
    for expected in ("int8", "en -> fr by >>fr<<", "MatMulIntegerToFloat", "weights.bin", "from PyTorch"):
        assert expected in table
    assert main(["inspect", str(tiny_int8_bundle.parent)]) == 2


def test_verify_tells_a_bundle_from_another_models(
    tiny_checkpoint: Path, tiny_bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A bundle agrees with its own checkpoint and not with one of other weights."""
    from tests.tiny_model import write_tiny_checkpoint

    command = ["verify", "--bundle", str(tiny_bundle), "--sentences", "8", "--threads", "1", "--checkpoint"]
    assert main([*command, str(tiny_checkpoint)]) == 0
    assert "0 steps of 8 greedy answers" in capsys.readouterr().out
    other = write_tiny_checkpoint(tmp_path / "other", seed=2)
    assert main([*command, str(other)]) == 2
    assert "proof failed" in capsys.readouterr().err


def test_every_error_of_an_export_is_ours(tmp_path: Path) -> None:
    """An output that cannot be written is an expected error."""
    blocked = tmp_path / "file"
    blocked.write_text("in the way")
    with pytest.raises(DragomanError), packaging.staged(blocked / "bundle"):
        pass
