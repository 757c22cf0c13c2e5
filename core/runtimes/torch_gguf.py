"""Read a GGUF's tensors for torch: dequantized, and named and ordered as transformers' classes want them.

transformers does this too, but only with a further package, and silent for minutes on a large file. Its table of names
and its reordering (llama.cpp interleaves the rows of rotary heads) are used here. Never runs a model.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from gguf import GGUFReader, dequantize
from transformers import modeling_gguf_pytorch_utils as names

from core.runtimes.torch_progress import Tell


def read_tensors(path: Path, outline: Any, *, dtype: torch.dtype, tell: Tell) -> dict[str, torch.Tensor]:
    """Every tensor that the outline, a model without weights, has a place for."""
    parsed: dict[str, Any] = {**names.load_gguf_checkpoint(str(path), return_tensors=False), "tensors": {}}
    reader = GGUFReader(path)
    [architecture] = names.read_field(reader, "general.architecture")
    processor = names.TENSOR_PROCESSORS.get(architecture, names.TensorProcessor)(config=parsed["config"])
    places = names.get_gguf_hf_weights_map(outline, processor)
    found: dict[str, torch.Tensor] = parsed["tensors"]
    for number, tensor in enumerate(reader.tensors):
        tell(number / len(reader.tensors))
        weights = dequantize(tensor.data, tensor.tensor_type)
        read = processor.process(
            weights=weights, name=tensor.name, tensor_key_mapping=places, parsed_parameters=parsed
        )
        if read.name in places:
            found[places[read.name]] = torch.from_numpy(np.copy(read.weights)).to(dtype)
    return found
