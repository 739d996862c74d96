"""The bundle: what the exporter writes and the service loads, described and checked by its manifest."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Annotated, Literal, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    PositiveInt,
    SerializerFunctionWrapHandler,
    ValidationError,
    model_serializer,
    model_validator,
)

from service.errors import BundleError
from service.graph_names import CHUNK

FORMAT_VERSION = 1
MANIFEST_FILE = "manifest.json"
REPORT_FILE = "report.json"
"""What was measured at export; outside the content hash."""
TOKENIZER_FILES = ("source.spm", "target.spm", "vocab.json")
SEPARATE_VOCABULARY_FILE = "target_vocab.json"
VERSION_DIGITS = 12

Identifier = Annotated[int, Field(ge=0)]
Precision = Literal["fp32", "fp16", "int8"]
CacheType = Literal["float32", "float16", "int8"]
"""How the graphs keep keys and values."""


class Part(BaseModel):
    """A part of the manifest: frozen, and nothing unknown in it."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class LanguagePair(Part):
    """One direction the model translates, by BCP-47 codes, and the token that asks for it, if it needs one."""

    source: str = Field(min_length=2)
    target: str = Field(min_length=2)
    target_token: str | None


class Dimensions(Part):
    """Shapes of the graphs; ``vocabulary_size`` is the target's."""

    vocabulary_size: PositiveInt
    padded_vocabulary_size: PositiveInt
    source_vocabulary_size: PositiveInt
    d_model: PositiveInt
    heads: PositiveInt
    head_size: PositiveInt
    encoder_layers: PositiveInt
    decoder_layers: PositiveInt

    @model_validator(mode="after")
    def _fit(self) -> Self:
        if self.heads * self.head_size != self.d_model:
            raise ValueError("heads times head_size is not d_model")
        if self.padded_vocabulary_size % CHUNK or self.padded_vocabulary_size < self.vocabulary_size:
            raise ValueError(f"padded_vocabulary_size must be a multiple of {CHUNK} that holds the vocabulary")
        return self


class SpecialIds(Part):
    """Target ids with a meaning of their own."""

    pad: Identifier
    eos: Identifier
    unk: Identifier
    decoder_start: Identifier


class Graph(Part):
    """One ONNX file: its opset, how many nodes of each operator it has, and how many of them are fused attention."""

    file: str
    opset: PositiveInt
    operators: dict[str, PositiveInt]
    fused_attention: Annotated[int, Field(ge=0)]


class Graphs(Part):
    """The graphs of a bundle; ``copy_positions`` moves keys and values on a GPU, and a CPU needs none."""

    encoder: Graph
    decoder: Graph
    copy_positions: Graph | None = None

    @property
    def files(self) -> tuple[str, ...]:
        """Names of the graphs' files."""
        return tuple(graph.file for graph in (self.encoder, self.decoder, self.copy_positions) if graph is not None)


class Head(Part):
    """A cross-attention head of the decoder."""

    layer: Identifier
    head: Identifier


class Alignment(Head):
    """The cross-attention head that aligns, and the share of test tokens that were put in the right place.

    Where there is a ``shifted`` head, the weights of a token are the product of the first head's in the step that chose
    it and of this one's in the next step, which takes it as input.
    """

    accuracy: Annotated[float, Field(ge=0, le=1)]
    shifted: Head | None = None

    @property
    def heads(self) -> tuple[Head, ...]:
        """The head, and the shifted one where there is one: the order of their queries in the graph."""
        return (self,) if self.shifted is None else (self, self.shifted)

    def __str__(self) -> str:
        heads = " times ".join(f"layer {each.layer}, head {each.head}" for each in self.heads)
        return heads + (" one step later" if self.shifted else "")

    @model_serializer(mode="wrap")
    def _only_what_is_there(self, handler: SerializerFunctionWrapHandler) -> dict[str, object]:
        """Leave a missing ``shifted`` out: services that know one head only refuse fields they do not know."""
        fields: dict[str, object] = handler(self)
        return {name: value for name, value in fields.items() if value is not None}


class FileEntry(Part):
    """What a file must be."""

    sha256: str = Field(pattern="^[0-9a-f]{64}$")
    bytes: Annotated[int, Field(ge=0)]


class Manifest(Part):
    """All that the service must know of a model before it opens a graph."""

    format_version: Literal[1]
    model_id: str = Field(min_length=1)
    version: str = Field(pattern=f"^[0-9a-f]{{{VERSION_DIGITS}}}$")
    language_pairs: tuple[LanguagePair, ...] = Field(min_length=1)
    language_aliases: dict[str, str]
    dimensions: Dimensions
    special_ids: SpecialIds
    max_source_tokens: PositiveInt
    max_target_tokens: PositiveInt
    trusted_source_tokens: PositiveInt
    precision: Precision
    cache_type: CacheType | None = None  # older bundles do not say: the type of their activations
    graphs: Graphs
    alignment: Alignment | None
    files: dict[str, FileEntry]
    licence: str
    attribution: str

    @model_validator(mode="after")
    def _fit(self) -> Self:
        for name, value in self.special_ids.model_dump().items():
            if value >= self.dimensions.vocabulary_size:
                raise ValueError(f"special id {name} lies outside the vocabulary")
        dimensions = self.dimensions
        for head in self.alignment.heads if self.alignment else ():
            if head.layer >= dimensions.decoder_layers or head.head >= dimensions.heads:
                raise ValueError("the alignment head does not exist")
        pairs = [(pair.source, pair.target) for pair in self.language_pairs]
        if len(set(pairs)) != len(pairs):
            raise ValueError("a language pair is listed twice")
        if self.trusted_source_tokens > self.max_source_tokens:
            raise ValueError("trusted_source_tokens exceeds max_source_tokens")
        for name in (*self.graphs.files, *TOKENIZER_FILES):
            if name not in self.files:
                raise ValueError(f"{name} is not among the files")
        for name in self.files:
            if not is_plain_name(name):
                raise ValueError(f"file {name!r} does not lie in the bundle")
        return self

    @property
    def alignment_query_size(self) -> int:
        """Numbers in a row of the decoder graph's alignment queries; 0 where nothing aligns."""
        return len(self.alignment.heads) * self.dimensions.head_size if self.alignment else 0

    @property
    def cache_item_bytes(self) -> int:
        """Bytes of one number among the keys and values."""
        kept = self.cache_type or ("float16" if self.precision == "fp16" else "float32")
        return {"float32": 4, "float16": 2, "int8": 1}[kept]

    def to_json(self) -> str:
        """Return the text of ``manifest.json``."""
        unsaid = {"cache_type"} if self.cache_type is None else set()
        return canonical_json(self.model_dump(mode="json", exclude=unsaid))


def is_plain_name(name: str) -> bool:
    """Tell whether ``name`` is that of a file directly in the bundle, the manifest and the report left out."""
    plain = PurePosixPath(name).name == name and "\\" not in name and "\0" not in name
    return plain and name not in ("", ".", "..", MANIFEST_FILE, REPORT_FILE)


def canonical_json(fields: Mapping[str, object]) -> str:
    """Return the one way in which these fields are written."""
    return json.dumps(fields, ensure_ascii=False, indent=2, sort_keys=True) + "\n"


def content_version(fields: Mapping[str, object]) -> str:
    """Return the short hash of a manifest's fields, ``version`` left out; files enter through their own hashes."""
    content = {name: value for name, value in fields.items() if name != "version"}
    return hashlib.sha256(canonical_json(content).encode()).hexdigest()[:VERSION_DIGITS]


def file_entry(path: Path) -> FileEntry:
    """Hash and measure one file."""
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return FileEntry(sha256=digest, bytes=path.stat().st_size)


@dataclass(frozen=True, slots=True)
class Bundle:
    """A bundle on disk whose every file is what its manifest says."""

    directory: Path
    manifest: Manifest

    @staticmethod
    def load(directory: Path | str) -> Bundle:
        """Read and check a bundle.

        Raises:
            BundleError: when it is missing, incomplete, changed, of another format, or reaches outside its directory.
        """
        directory = Path(directory)
        manifest = _read_manifest(directory / MANIFEST_FILE)
        for name, expected in manifest.files.items():
            _check_file(directory, name, expected)
        return Bundle(directory=directory, manifest=manifest)

    @property
    def encoder_path(self) -> Path:
        """The encoder graph."""
        return self.directory / self.manifest.graphs.encoder.file

    @property
    def decoder_path(self) -> Path:
        """The decode-step graph."""
        return self.directory / self.manifest.graphs.decoder.file

    @property
    def copy_positions_path(self) -> Path | None:
        """The graph that moves keys and values on a device; None in a bundle that has none."""
        graph = self.manifest.graphs.copy_positions
        return None if graph is None else self.directory / graph.file


def _read_manifest(path: Path) -> Manifest:
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        raise BundleError(f"{path}: no readable manifest, so this is not a bundle") from None
    try:
        fields = json.loads(text)
    except ValueError:
        raise BundleError(f"{path}: not JSON") from None
    if not isinstance(fields, dict):
        raise BundleError(f"{path}: not a JSON object")
    if fields.get("format_version") != FORMAT_VERSION:
        found = fields.get("format_version")
        raise BundleError(f"{path}: bundle format {found!r}, this version reads {FORMAT_VERSION}")
    try:
        manifest = Manifest.model_validate_json(text)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(str(part) for part in first["loc"])
        raise BundleError(f"{path}: {place + ': ' if place else ''}{first['msg']}") from None
    if content_version(fields) != manifest.version:
        raise BundleError(f"{path}: the manifest was changed after the export")
    return manifest


def _check_file(directory: Path, name: str, expected: FileEntry) -> None:
    path = directory / name
    try:
        if path.resolve(strict=True).parent != directory.resolve() or not path.is_file():
            raise BundleError(f"{path}: not a file in the bundle")
        if path.stat().st_size != expected.bytes:
            raise BundleError(f"{path}: {path.stat().st_size} bytes, the manifest says {expected.bytes}")
        if file_entry(path).sha256 != expected.sha256:
            raise BundleError(f"{path}: content differs from the manifest's hash")
    except (OSError, RuntimeError):
        raise BundleError(f"{path}: missing or not readable") from None
