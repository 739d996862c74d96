"""The check of KServe's objects finds what KServe's own models do not know."""

from __future__ import annotations

from pathlib import Path

import pytest

from deploy.check.kserve import errors_of

SPEC = """
class V1alpha1ServingRuntimeSpec:
    openapi_types = {'containers': 'list[V1Container]', 'multi_model': 'bool', 'formats': 'list[V1alpha1Format]'}
    attribute_map = {'containers': 'containers', 'multi_model': 'multiModel', 'formats': 'formats'}
"""
FORMAT = """
class V1alpha1Format:
    openapi_types = {'name': 'str'}
    attribute_map = {'name': 'name'}
"""


@pytest.fixture
def models(tmp_path: Path) -> Path:
    """A folder with two models, as KServe's client has them."""
    (tmp_path / "v1alpha1_serving_runtime_spec.py").write_text(SPEC)
    (tmp_path / "v1alpha1_format.py").write_text(FORMAT)
    return tmp_path


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ({"containers": [{"anything": 1}], "multiModel": False, "formats": [{"name": "x"}]}, []),
        ({"multi_model": False}, ["spec: no field multi_model"]),
        ({"multiModel": "no"}, ["spec.multiModel: not of type bool"]),
        ({"formats": [{"name": "x", "nam": "y"}]}, ["spec.formats[0]: no field nam"]),
        ({"formats": {"name": "x"}}, ["spec.formats: not a list"]),
        ([], ["spec: not an object"]),
    ],
)
def test_unknown_fields_and_wrong_types_are_named(models: Path, spec: object, expected: list[str]) -> None:
    """With their place; what is Kubernetes' own is left to its own schema."""
    assert errors_of(spec, "V1alpha1ServingRuntimeSpec", models, "spec") == expected
