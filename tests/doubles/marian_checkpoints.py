"""Small random checkpoints in the Hugging Face Marian layout, one per variant that OPUS-MT models come in."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import sentencepiece
import torch
from transformers import MarianConfig, MarianMTModel

SOURCE_TEXT = (
    "the cat sat on the mat",
    "we saw 12 boats in 1995",
    "Anna gave Peter three red apples",
    "rain fell all night on the old town",
    "how many people live in Paris",
)
TARGET_TEXT = (
    "die Katze lag auf dem Teppich",
    "wir haben 1995 zwölf Boote gesehen",
    "Anna schenkte Peter drei rote Äpfel",
    "die ganze Nacht fiel Regen auf die Altstadt",
    "wie viele Menschen wohnen in Paris",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Variant:
    """What differs between Marian checkpoints."""

    name: str
    separate_vocabularies: bool = False
    tied_output: bool = True
    target_tokens: Sequence[str] = ()
    activation: str = "swish"
    d_model: int = 32
    heads: int = 4
    encoder_layers: int = 2
    decoder_layers: int = 2
    pickled: bool = False
    half: bool = False
    scale_embedding: bool = True


VARIANTS = (
    Variant(name="opus-mt-en-de"),
    Variant(name="untied-en-de", tied_output=False),
    Variant(name="separate-en-de", separate_vocabularies=True),
    Variant(name="separate-untied-en-de", separate_vocabularies=True, tied_output=False, activation="relu"),
    Variant(name="opus-mt-en-ROMANCE", target_tokens=(">>fra<<", ">>pt_BR<<")),
    Variant(name="big-en-de", d_model=64, heads=16, activation="relu"),
    Variant(name="shallow-en-de", encoder_layers=3, decoder_layers=1, activation="gelu"),
    Variant(name="pickled-en-de", pickled=True),
    Variant(name="half-en-de", half=True, scale_embedding=False),
)


def train_pieces(sentences: Sequence[str], *, size: int) -> bytes:
    """Train a SentencePiece model the way OPUS-MT's come: no padding piece, ids that mean nothing."""
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(list(sentences) * 4),
        model_writer=model,
        vocab_size=size,
        hard_vocab_limit=False,
        split_digits=True,
        minloglevel=2,
    )
    return model.getvalue()


def vocabulary(models: Sequence[bytes], *, extra: Sequence[str], size: int | None = None) -> dict[str, int]:
    """Number the pieces as Marian does: EOS and unknown first, padding last."""
    pieces = ["</s>", "<unk>", *extra]
    for model in models:
        processor = sentencepiece.SentencePieceProcessor(model_proto=model)
        names = [processor.id_to_piece(index) for index in range(processor.get_piece_size())]
        pieces += sorted({name for name in names if name not in ("<unk>", "<s>", "</s>")} - set(pieces))
    pieces += [f"filler{index}" for index in range((size or 0) - len(pieces) - 1)]
    return {piece: index for index, piece in enumerate([*pieces, "<pad>"])}


def write_tokenizer(directory: Path, variant: Variant) -> tuple[int, int]:
    """Write two different SentencePiece models and their tables; return the source and target vocabulary sizes."""
    source, target = train_pieces(SOURCE_TEXT, size=60), train_pieces(TARGET_TEXT, size=70)
    (directory / "source.spm").write_bytes(source)
    (directory / "target.spm").write_bytes(target)
    if variant.separate_vocabularies:
        separate = vocabulary([target], extra=())
        table = vocabulary([source], extra=variant.target_tokens, size=len(separate))
        (directory / "target_vocab.json").write_text(json.dumps(separate, ensure_ascii=False), encoding="utf-8")
    else:
        table = separate = vocabulary([source, target], extra=variant.target_tokens)
    (directory / "vocab.json").write_text(json.dumps(table, ensure_ascii=False), encoding="utf-8")
    return len(table), len(separate)


def make_checkpoint(parent: Path, variant: Variant) -> tuple[Path, MarianMTModel]:
    """Write a random checkpoint of ``variant`` under ``parent``; return its directory and the model in fp32."""
    directory = parent / variant.name
    directory.mkdir(parents=True)
    source_size, target_size = write_tokenizer(directory, variant)
    torch.manual_seed(7)
    config = MarianConfig(
        vocab_size=source_size,
        decoder_vocab_size=target_size,
        d_model=variant.d_model,
        encoder_layers=variant.encoder_layers,
        decoder_layers=variant.decoder_layers,
        encoder_attention_heads=variant.heads,
        decoder_attention_heads=variant.heads,
        encoder_ffn_dim=48,
        decoder_ffn_dim=40,
        activation_function=variant.activation,
        max_position_embeddings=64,
        scale_embedding=variant.scale_embedding,
        share_encoder_decoder_embeddings=not variant.separate_vocabularies,
        tie_word_embeddings=variant.tied_output,
        pad_token_id=target_size - 1,
        eos_token_id=0,
        forced_eos_token_id=0,
        decoder_start_token_id=target_size - 1,
        init_std=0.3,
    )
    model = MarianMTModel(config).eval()  # type: ignore[no-untyped-call]
    torch.nn.init.normal_(model.final_logits_bias, std=0.5)
    if variant.pickled:
        config.save_pretrained(directory)
        torch.save(model.state_dict(), directory / "pytorch_model.bin")
        return directory, model
    (model.half() if variant.half else model).save_pretrained(directory)
    loaded = MarianMTModel.from_pretrained(directory, dtype=torch.float32)
    return directory, loaded.eval()  # type: ignore[no-untyped-call]
