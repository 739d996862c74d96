"""Bundles that several integration tests share."""

from pathlib import Path

import pytest

from exporter.assembly import contents_of
from exporter.export_options import ExportOptions
from exporter.packaging import write_bundle
from exporter.sources import Corrections, read_checkpoint
from exporter.study import Subject
from service.bundle import Bundle


@pytest.fixture(scope="session")
def tiny_half_bundle(tiny_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """The tiny model in fp16, the precision for CUDA; ONNX Runtime's CPU provider runs it through casts."""
    checkpoint, tokenizer = read_checkpoint(tiny_checkpoint, Corrections())
    subject = Subject(checkpoint=checkpoint, tokenizer=tokenizer, directory=tiny_checkpoint)
    contents = contents_of(subject, ExportOptions(precision="fp16", threads=1), None)
    return write_bundle(contents, tmp_path_factory.mktemp("half"))
