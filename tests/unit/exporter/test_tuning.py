"""``export --tune`` measures other forms of the preset's nodes, proposes what is faster, and changes nothing."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from exporter.export import export
from exporter.export_options import ExportOptions
from exporter.node_forms import NodeForms
from exporter.tuning import Alternative, Times, compared, other_forms, tuning_table
from service.errors import ConfigError
from tests.doubles.marian_checkpoints import VARIANTS, make_checkpoint


def alternative(*, many: float, one: float) -> Alternative:
    """One with given times over the preset's."""
    return Alternative(node="swish", form="other", encoder=1.0, step_of_one_row=one, step_of_many_rows=many)


def test_every_other_form_is_measured_and_the_bundle_stays_the_presets(tmp_path: Path) -> None:
    """A post-norm swish model has another form of each node; the report holds their times, the graphs none of them."""
    directory, _ = make_checkpoint(tmp_path, VARIANTS[0])
    options = ExportOptions(proof_sentences=8, threads=1, tune=True)
    operators = export(directory, tmp_path / "bundle", options).bundle.manifest.graphs.decoder.operators
    found = json.loads((tmp_path / "bundle" / "report.json").read_text())["tuning"]
    assert {(each["node"], each["form"]) for each in found} == {
        ("swish", "Sigmoid, Mul"),
        ("residual", "SkipLayerNormalization"),
    }
    assert all(each["step_of_many_rows"] > 0.0 for each in found)
    assert operators["com.microsoft::QuickGelu"] == 2
    assert "com.microsoft::SkipLayerNormalization" not in operators


def test_only_what_is_faster_with_many_rows_and_not_slower_with_one_is_proposed() -> None:
    """A gain at 32 rows that costs a lone row is not proposed, and the table says so in words."""
    assert alternative(many=0.9, one=0.98).proposed
    assert not alternative(many=0.9, one=1.1).proposed
    assert not alternative(many=0.99, one=0.9).proposed
    assert "proposed" in tuning_table([alternative(many=0.9, one=0.98)])[1]
    assert "nothing to change" in tuning_table([alternative(many=1.2, one=1.0)])[-1]


def test_times_are_compared_with_the_presets_own() -> None:
    """The ratio is the other form's time over the preset's."""
    other = Times(encoder=2.0, step_of_one_row=1.0, step_of_many_rows=3.0)
    own = Times(encoder=4.0, step_of_one_row=1.0, step_of_many_rows=2.0)
    found = compared("swish", "other", other, own)
    assert (found.encoder, found.step_of_one_row, found.step_of_many_rows) == (0.5, 1.0, 1.5)


def test_the_presets_own_forms_are_not_among_the_others() -> None:
    """From any preset, only what it does not have is an alternative."""
    assert {form for _, form, _ in other_forms(NodeForms(swish="Sigmoid, Mul"))} == {
        "QuickGelu",
        "SkipLayerNormalization",
    }


@pytest.mark.parametrize("options", [ExportOptions(precision="fp16", tune=True), ExportOptions(fused=False, tune=True)])
def test_what_cannot_run_here_is_not_tuned(options: ExportOptions, tiny_checkpoint: Path, tmp_path: Path) -> None:
    """Graphs for another provider, and unfused ones, are refused before any work."""
    with pytest.raises(ConfigError, match="--tune"):
        export(tiny_checkpoint, tmp_path / "bundle", options)
    assert list(tmp_path.iterdir()) == []
