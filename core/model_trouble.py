"""What can stand between an owner and a model file, each as one sentence.

Types only: never raised here, and never the place where the sentence is made.
"""

from __future__ import annotations


class ModelStoreError(Exception):
    """The store could not do it; the message is one sentence for the owner."""


class BadModelFile(ModelStoreError):
    """The file is no whole GGUF model, or not the one that was promised."""


class NoSpace(ModelStoreError):
    """The disk, or what the owner gives to models, has too little room; nothing was changed."""


class UnknownModel(ModelStoreError):
    """The store has no such model, or not in this quantization."""


class HubTrouble(ModelStoreError):
    """The hub cannot be reached, or does not give what was asked; what was fetched so far is kept."""
