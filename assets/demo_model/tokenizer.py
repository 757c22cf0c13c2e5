"""The byte-level BPE: learn it, save it. Its split rule is GPT-2's, which the GGUF names too."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from assets.demo_model.chat import SPECIAL_TOKENS

VOCABULARY = 2048


def learn_tokenizer(texts: Iterable[str]) -> Tokenizer:
    """Return a tokenizer of exactly VOCABULARY tokens; the special tokens come first."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=list(SPECIAL_TOKENS),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    if tokenizer.get_vocab_size() != VOCABULARY:
        raise ValueError(f"the corpus gives {tokenizer.get_vocab_size()} tokens, not {VOCABULARY}")
    return tokenizer


def load_tokenizer(path: Path) -> Tokenizer:
    """Read a saved tokenizer."""
    return Tokenizer.from_file(str(path))
