"""Encode corpora once, and draw from them what each epoch sees."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from exporter.batching import Example, concatenate_some
from exporter.checkpoint import LanguagePair
from exporter.data import Corpus, Pairs
from exporter.guided_alignment import Links, placed
from exporter.noise import noised
from service.errors import DataError
from service.tokenizer import Tokenizer


@dataclass(frozen=True, slots=True)
class LoadedCorpus:
    """A corpus with its text and, where an aligner gave them, the links of each pair's pieces."""

    corpus: Corpus
    pairs: Pairs
    links: list[Links] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class EpochOptions:
    """How an epoch is drawn: sampled segmentations, joined pairs, and the length above which a pair is left out.

    ``noised_copies``, a share of the pairs, come on top with misspelt sources.
    """

    longest: int = 128
    concatenate: float = 0.0
    subword_sampling: float = 0.0
    noised_copies: float = 0.0


class TrainingData:
    """All pairs of all directions; encoded once, or anew in each epoch when segmentations are sampled."""

    def __init__(
        self,
        corpora: Sequence[LoadedCorpus],
        *,
        tokenizer: Tokenizer,
        pairs: Sequence[LanguagePair],
        options: EpochOptions,
        report: Callable[[str], None],
    ) -> None:
        self._corpora = corpora
        self._tokenizer = tokenizer
        self._tokens = {f"{pair.source}-{pair.target}": pair.target_token for pair in pairs}
        self._options = options
        self._encoded = [self._encode(loaded) for loaded in corpora]
        for loaded, examples in zip(corpora, self._encoded, strict=True):
            total = len(loaded.pairs.sources)
            report(
                f"{loaded.corpus.direction} {loaded.corpus.path.name}: {len(examples)} of {total} pairs, "
                f"{total - len(examples)} longer than {options.longest} tokens, {loaded.pairs.bad_line_count} bad lines"
            )
        if not any(self._encoded):
            raise DataError(f"no pair of at most {options.longest} tokens is left to train on")

    def _encode(self, loaded: LoadedCorpus, *, sampling: float = 0.0) -> list[Example]:
        """Encode all pairs of a corpus but those that are too long."""
        token = self._tokens[loaded.corpus.direction]
        sources = self._tokenizer.encode_sources(loaded.pairs.sources, target_token=token, sampling=sampling)
        targets = self._tokenizer.encode_targets(loaded.pairs.targets, sampling=sampling)
        examples: list[Example] = []
        for number, (source, target) in enumerate(zip(sources, targets, strict=True)):
            if max(len(source), len(target)) > self._options.longest:
                continue
            example = Example(np.array(source, dtype=np.int32), np.array(target, dtype=np.int32))
            if loaded.links is not None:
                where = f"links of {loaded.corpus.path}:{number + 1}"
                links = placed(loaded.links[number], source=example.source, target=example.target, where=where)
                example = replace(example, links=links)
            examples.append(example)
        return examples

    def _noised(self, loaded: LoadedCorpus, count: int, generator: np.random.Generator) -> list[Example]:
        """Encode ``count`` pairs of a corpus, drawn at random, with misspelt sources and without links."""
        drawn = generator.integers(len(loaded.pairs.sources), size=count)
        sources = [noised(loaded.pairs.sources[index], generator) for index in drawn]
        targets = [loaded.pairs.targets[index] for index in drawn]
        copies = LoadedCorpus(loaded.corpus, Pairs(sources, targets))
        return self._encode(copies, sampling=self._options.subword_sampling)

    def epoch(self, generator: np.random.Generator) -> list[Example]:
        """Return the examples of one epoch, the same for the same generator state unless segmentations are sampled."""
        options = self._options
        groups: dict[str, list[Example]] = {}
        for loaded, encoded in zip(self._corpora, self._encoded, strict=True):
            examples = encoded
            if options.subword_sampling > 0.0:
                examples = self._encode(loaded, sampling=options.subword_sampling)
            if loaded.corpus.share < 1.0:
                kept = generator.permutation(len(examples))[: max(1, round(loaded.corpus.share * len(examples)))]
                examples = [examples[index] for index in kept]
            copies = self._noised(loaded, round(options.noised_copies * len(examples)), generator)
            groups.setdefault(loaded.corpus.direction, []).extend([*examples, *copies])
        return concatenate_some(
            list(groups.values()), share=options.concatenate, longest=options.longest, generator=generator
        )
