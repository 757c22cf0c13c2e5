"""Open a model for torch through transformers: a folder of safetensors with its config, or one GGUF file.

Strangers' files: no code of theirs is run, no pickle is read, nothing is fetched. transformers is imported here and
only when a model is opened: that takes seconds.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import torch

from core.runtimes import torch_attention
from core.runtimes.runtime import RuntimeFault
from core.runtimes.torch_place import speaks_of_memory
from core.runtimes.torch_progress import Tell, told_progress
from core.worker.messages import FaultKind

MAX_CONFIG_BYTES = 4 << 20
CONFIG, INDEX = "config.json", "model.safetensors.index.json"
# Each of these would make transformers read other files, run other kernels or need other packages.
UNWANTED = ("quantization_config", "transformers_weights", "fusion_config", "kernel_config", "speculators_config")
LOCAL = {"local_files_only": True, "trust_remote_code": False}


def open_model(path: Path, dtype: torch.dtype, *, tell: Tell) -> Any:
    """The model in the host's memory, ready to infer. Raises RuntimeFault (BAD_FILE), MemoryError or what torch raises
    when memory runs out."""
    _stay_offline()
    from transformers import AttentionInterface

    AttentionInterface.register(torch_attention.NAME, torch_attention.attend)
    try:
        model, gaps = _open_gguf(path, dtype, tell=tell) if path.is_file() else _open_folder(path, dtype, tell=tell)
    except RuntimeFault:
        raise
    except Exception as error:  # noqa: BLE001  a stranger's file in another's parser: whatever it raises ends here
        if speaks_of_memory(error):
            raise
        sentence = f"The model cannot be opened by torch: {_reason(error, path)}."
        raise RuntimeFault(FaultKind.BAD_FILE, sentence) from error
    missing = sorted(gaps["missing_keys"]) + sorted(str(key) for key in gaps["mismatched_keys"])
    if missing:
        sentence = f"The model lacks {len(missing)} of its tensors, {missing[0][:80]} among them."
        raise RuntimeFault(FaultKind.BAD_FILE, sentence)
    return model.eval()


def folder_of(path: str) -> Path:
    """What to open for a path: a GGUF file, or the folder that a safetensors or config file lies in."""
    given = Path(path)
    is_part = given.is_file() and given.suffix in (".safetensors", ".json")
    return given.parent if is_part else given


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object from a file of bearable size. Raises RuntimeFault (BAD_FILE)."""
    try:
        if path.stat().st_size > MAX_CONFIG_BYTES:
            raise RuntimeFault(FaultKind.BAD_FILE, f"{path.name} is too large.")
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise RuntimeFault(FaultKind.BAD_FILE, f"{path.name} cannot be read.") from error
    if not isinstance(found, dict):
        raise RuntimeFault(FaultKind.BAD_FILE, f"{path.name} is not a JSON object.")
    return found


def _stay_offline() -> None:
    """Before transformers and its hub client are imported, which read this once."""
    os.environ.update({"HF_HUB_OFFLINE": "1", "HF_HUB_DISABLE_TELEMETRY": "1", "TOKENIZERS_PARALLELISM": "false"})


def _open_folder(folder: Path, dtype: torch.dtype, *, tell: Tell) -> tuple[Any, dict[str, Any]]:
    from transformers import AutoConfig, AutoModelForCausalLM

    _check_folder(folder)
    config = AutoConfig.from_pretrained(folder, **LOCAL)
    with told_progress(tell):
        found: tuple[Any, dict[str, Any]] = AutoModelForCausalLM.from_pretrained(
            folder,
            config=config,
            dtype=dtype,
            use_safetensors=True,
            output_loading_info=True,
            attn_implementation=torch_attention.NAME,
            **LOCAL,
        )
    return found


def _open_gguf(path: Path, dtype: torch.dtype, *, tell: Tell) -> tuple[Any, dict[str, Any]]:
    from transformers import AutoConfig, AutoModelForCausalLM

    from core.runtimes.torch_gguf import read_tensors

    config = AutoConfig.from_pretrained(path.parent, gguf_file=path.name, **LOCAL)
    with torch.device("meta"):
        outline = AutoModelForCausalLM.from_config(config)
    tensors = read_tensors(path, outline, dtype=dtype, tell=tell)
    with told_progress(tell):
        found: tuple[Any, dict[str, Any]] = type(outline).from_pretrained(
            None,
            config=config,
            state_dict=tensors,
            dtype=dtype,
            output_loading_info=True,
            attn_implementation=torch_attention.NAME,
        )
    return found


def _check_folder(folder: Path) -> None:
    config = read_json(folder / CONFIG)
    unwanted = [key for key in UNWANTED if config.get(key)]
    if unwanted:
        raise RuntimeFault(FaultKind.BAD_FILE, f"The torch runtime does not open models with a {unwanted[0]}.")
    shards = read_json(folder / INDEX).get("weight_map", {}) if (folder / INDEX).exists() else {}
    strange = [name for name in shards.values() if Path(str(name)).name != name or not name.endswith(".safetensors")]
    if strange:
        raise RuntimeFault(FaultKind.BAD_FILE, f"{INDEX} names a file that is no safetensors file of this folder.")


def _reason(error: Exception, path: Path) -> str:
    lines = str(error).replace(str(path), path.name).strip().splitlines()
    return lines[0][:200].rstrip(".!") if lines else type(error).__name__
