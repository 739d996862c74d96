"""``export --tune``: time the preset's nodes beside their other forms on this machine and propose what is faster."""

from __future__ import annotations

import dataclasses
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

import numpy as np

from exporter.assembly import contents_of
from exporter.export_options import ExportOptions
from exporter.node_forms import NodeForms, ResidualForm, SwishForm
from exporter.packaging import write_bundle
from exporter.presets import PRESETS
from exporter.serving import ROW_SLOTS, open_runner
from exporter.study import Study, Subject
from service.bundle import Bundle
from service.engine import Batch, ModelRunner
from service.errors import ConfigError

ROUNDS = 15
STEPS = 8
"""Decode steps, or one encoder run, in each round."""
SOURCE_TOKENS, PAST_TOKENS = 24, 16
WORTH_PROPOSING = 0.97
"""Time relative to the preset's at which another form is proposed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Alternative:
    """Another form of one node and its times over those of the preset's own form; below 1 is faster."""

    node: str
    form: str
    encoder: float
    step_of_one_row: float
    step_of_many_rows: float

    @property
    def proposed(self) -> bool:
        """Whether many rows are faster with it and a single one is not slower."""
        return self.step_of_many_rows <= WORTH_PROPOSING and self.step_of_one_row <= 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Times:
    """Medians in seconds."""

    encoder: float
    step_of_one_row: float
    step_of_many_rows: float


def check_tunable(options: ExportOptions) -> None:
    """Refuse to tune what cannot run here.

    Raises:
        ConfigError: when the preset is for another provider or attention is not fused.
    """
    if PRESETS[options.precision].provider != "cpu" or not options.fused:
        raise ConfigError("--tune measures fused graphs on this machine's CPU: it goes with fp32 and int8")


def tune(subject: Subject, options: ExportOptions, studied: Study, bundle: Bundle) -> list[Alternative]:
    """Trace the graphs once with each other form and time them turn by turn with those of ``bundle``."""
    preset = PRESETS[options.precision].nodes
    runners = {"preset": open_runner(bundle, threads=options.threads)}
    own_operators = bundle.manifest.graphs.decoder.operators
    with tempfile.TemporaryDirectory() as scratch:
        named: dict[str, tuple[str, str]] = {}
        for node, form, nodes in other_forms(preset):
            directory = Path(scratch) / f"{node}-{len(named)}"
            directory.mkdir()
            other = write_bundle(contents_of(subject, options, studied, nodes), directory)
            if other.manifest.graphs.decoder.operators == own_operators:
                continue  # the model has no such node
            named[directory.name] = (node, form)
            runners[directory.name] = open_runner(other, threads=options.threads)
        times = timed(runners)
    own = times.pop("preset")
    return [compared(*named[name], each, own) for name, each in times.items()]


def other_forms(preset: NodeForms) -> Iterator[tuple[str, str, NodeForms]]:
    """Yield (node, form, the preset with it) for every form that the preset does not have."""
    for swish in get_args(SwishForm):
        if swish != preset.swish:
            yield "swish", swish, dataclasses.replace(preset, swish=swish)
    for residual in get_args(ResidualForm):
        if residual != preset.residual:
            yield "residual", residual, dataclasses.replace(preset, residual=residual)


def compared(node: str, form: str, times: Times, own: Times) -> Alternative:
    """Return the ratios of ``times`` to the preset's ``own``."""
    return Alternative(
        node=node,
        form=form,
        encoder=round(times.encoder / own.encoder, 3),
        step_of_one_row=round(times.step_of_one_row / own.step_of_one_row, 3),
        step_of_many_rows=round(times.step_of_many_rows / own.step_of_many_rows, 3),
    )


def timed(runners: dict[str, ModelRunner]) -> dict[str, Times]:
    """Time all runners turn by turn, so that whatever else the machine does falls on each alike."""
    work: dict[str, Callable[[ModelRunner], None]] = {
        "encoder": encode,
        "step_of_one_row": lambda runner: decode(runner, rows=1),
        "step_of_many_rows": lambda runner: decode(runner, rows=ROW_SLOTS),
    }
    samples: dict[str, dict[str, list[float]]] = {name: {kind: [] for kind in work} for name in runners}
    for turn in range(ROUNDS + 1):
        for kind, run in work.items():
            for name, runner in runners.items():
                begin = time.perf_counter()
                run(runner)
                if turn:  # the first one warms up
                    samples[name][kind].append(time.perf_counter() - begin)
    return {
        name: Times(**{kind: statistics.median(values) for kind, values in kinds.items()})
        for name, kinds in samples.items()
    }


def encode(runner: ModelRunner) -> None:
    """Encode a batch into every sentence slot; it stays there for the steps."""
    count = ROW_SLOTS
    source = np.full(SOURCE_TOKENS, runner.limits.eos_id, np.int32)
    for slot in range(count):
        runner.release(slot)
    runner.encode([source] * count, list(range(count)), [1] * count)


def decode(runner: ModelRunner, *, rows: int) -> None:
    """Run decode steps of ``rows`` rows."""
    limits = runner.limits
    numbers = np.arange(rows, dtype=np.int32)
    batch = Batch(
        last_tokens=np.full(rows, limits.eos_id, np.int32),
        past_lengths=np.full(rows, PAST_TOKENS, np.int32),
        sentence_slots=numbers,
        bans=np.stack([numbers, np.full_like(numbers, limits.pad_id)], axis=1).astype(np.int64),
        best=1,
        full_rows=False,
    )
    for _ in range(STEPS):
        runner.decode_step(batch)


def tuning_table(alternatives: Sequence[Alternative]) -> list[str]:
    """Return lines for a person: time over the preset's own form, and what to change in ``exporter/presets.py``."""
    lines = [f"  tuning     {'':32} encoder   1 row  {ROW_SLOTS} rows  (time over the preset's; below 1 is faster)"]
    for each in alternatives:
        ratios = f"{each.encoder:7.2f} {each.step_of_one_row:7.2f} {each.step_of_many_rows:8.2f}"
        name = f"{each.node}: {each.form}"
        lines.append(f"             {name:<32} {ratios}{'  proposed' if each.proposed else ''}")
    if not any(each.proposed for each in alternatives):
        lines.append("             nothing to change")
    return lines
