"""What can be done to a GGUF file without serving it: read what it says it is, and quantize it.

Runs in a throw-away child: a file from a stranger may crash the library. Never renames: the store does.
"""

from __future__ import annotations

import ctypes
import errno
import re
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path

import llama_cpp.llama_cpp as C  # noqa: N812

from core.model_card import MAX_NAME_CHARACTERS, ModelCard
from core.runtimes.llama_log import LlamaLog
from core.runtimes.llama_model import LlamaModel
from core.runtimes.runtime import RuntimeFault
from core.worker.messages import FaultKind, Inspect, Quantize

FILE_TYPES = {
    "F32": C.LLAMA_FTYPE_ALL_F32,
    "F16": C.LLAMA_FTYPE_MOSTLY_F16,
    "BF16": C.LLAMA_FTYPE_MOSTLY_BF16,
    "Q8_0": C.LLAMA_FTYPE_MOSTLY_Q8_0,
    "Q6_K": C.LLAMA_FTYPE_MOSTLY_Q6_K,
    "Q5_K_M": C.LLAMA_FTYPE_MOSTLY_Q5_K_M,
    "Q5_K_S": C.LLAMA_FTYPE_MOSTLY_Q5_K_S,
    "Q5_1": C.LLAMA_FTYPE_MOSTLY_Q5_1,
    "Q5_0": C.LLAMA_FTYPE_MOSTLY_Q5_0,
    "Q4_K_M": C.LLAMA_FTYPE_MOSTLY_Q4_K_M,
    "Q4_K_S": C.LLAMA_FTYPE_MOSTLY_Q4_K_S,
    "Q4_1": C.LLAMA_FTYPE_MOSTLY_Q4_1,
    "Q4_0": C.LLAMA_FTYPE_MOSTLY_Q4_0,
    "IQ4_NL": C.LLAMA_FTYPE_MOSTLY_IQ4_NL,
    "IQ4_XS": C.LLAMA_FTYPE_MOSTLY_IQ4_XS,
    "MXFP4": C.LLAMA_FTYPE_MOSTLY_MXFP4_MOE,
    "Q3_K_L": C.LLAMA_FTYPE_MOSTLY_Q3_K_L,
    "Q3_K_M": C.LLAMA_FTYPE_MOSTLY_Q3_K_M,
    "Q3_K_S": C.LLAMA_FTYPE_MOSTLY_Q3_K_S,
    "IQ3_M": C.LLAMA_FTYPE_MOSTLY_IQ3_M,
    "IQ3_S": C.LLAMA_FTYPE_MOSTLY_IQ3_S,
    "IQ3_XS": C.LLAMA_FTYPE_MOSTLY_IQ3_XS,
    "IQ3_XXS": C.LLAMA_FTYPE_MOSTLY_IQ3_XXS,
    "Q2_K": C.LLAMA_FTYPE_MOSTLY_Q2_K,
    "Q2_K_S": C.LLAMA_FTYPE_MOSTLY_Q2_K_S,
    "IQ2_M": C.LLAMA_FTYPE_MOSTLY_IQ2_M,
    "IQ2_S": C.LLAMA_FTYPE_MOSTLY_IQ2_S,
    "IQ2_XS": C.LLAMA_FTYPE_MOSTLY_IQ2_XS,
    "IQ2_XXS": C.LLAMA_FTYPE_MOSTLY_IQ2_XXS,
    "IQ1_M": C.LLAMA_FTYPE_MOSTLY_IQ1_M,
    "IQ1_S": C.LLAMA_FTYPE_MOSTLY_IQ1_S,
    "TQ2_0": C.LLAMA_FTYPE_MOSTLY_TQ2_0,
    "TQ1_0": C.LLAMA_FTYPE_MOSTLY_TQ1_0,
    "Q2_0": C.LLAMA_FTYPE_MOSTLY_Q2_0,
    "Q1_0": C.LLAMA_FTYPE_MOSTLY_Q1_0,
}
ROWS_BYTES = 1 << 30
_TENSOR_LINE = re.compile(r"\[\s*(\d+)/\s*(\d+)\]\s+(\S+)")


def inspect_file(command: Inspect) -> ModelCard:
    """The card that the file's header makes; hash and variants empty. Raises RuntimeFault (BAD_FILE)."""
    with closing(LlamaLog()) as log, closing(LlamaModel(command.path, log=log)) as model:
        if not C.llama_model_has_decoder(model.handle) or model.vocabulary == 0:
            raise RuntimeFault(FaultKind.BAD_FILE, "The model file cannot be opened: it does not generate text.")
        return _card(model, Path(command.path).stem)


def quantize_file(command: Quantize, on_progress: Callable[[float, str], None]) -> int:
    """Write the target file and give its size in bytes. Raises RuntimeFault; then there is no target left."""
    target = Path(command.target)
    if command.quantization not in FILE_TYPES:
        raise RuntimeFault(FaultKind.BAD_REQUEST, f"There is no quantization {command.quantization}.")
    params = C.llama_model_quantize_default_params()
    params.ftype = FILE_TYPES[command.quantization]
    params.nthread = max(1, command.threads)
    params.allow_requantize = True  # Q8_0 is a source too; what else may be one is the store's to say
    params.max_buf_size = ROWS_BYTES
    try:
        with closing(LlamaLog(lambda line: _tell(line, on_progress))) as log:
            code = C.llama_model_quantize(command.source.encode(), command.target.encode(), ctypes.byref(params))
            if code != 0:
                raise _quantize_fault(target, log.last_error())
        _check_whole(target)
    except RuntimeFault:
        with suppress(PermissionError):  # a confined child may write its target and remove nothing: its engine does
            if target.is_file():
                target.unlink()
        raise
    return target.stat().st_size


def _tell(line: str, on_progress: Callable[[float, str], None]) -> None:
    if found := _TENSOR_LINE.match(line):
        on_progress((int(found[1]) - 1) / int(found[2]), found[3])


def _check_whole(target: Path) -> None:
    """llama.cpp does not notice a full disk while it writes tensors: open the result, which checks every offset."""
    try:
        inspect_file(Inspect(str(target)))
    except RuntimeFault as fault:
        raise _quantize_fault(target, fault.message) from fault


def _quantize_fault(target: Path, said: str) -> RuntimeFault:
    if _is_full(target):
        return RuntimeFault(FaultKind.NO_SPACE, "There is no space left to write the quantized model.")
    reason = said.rpartition("failed to quantize: ")[2].rstrip(".!") or "no reason given"
    if "imatrix" in reason:
        reason = "this type needs an importance matrix, which Starling does not make"
    return RuntimeFault(FaultKind.INTERNAL, f"The model could not be quantized: {reason}.")


def _is_full(target: Path) -> bool:
    try:
        with target.open("ab") as file:
            file.write(bytes(1 << 16))
    except OSError as error:
        return error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
    return False


def _card(model: LlamaModel, stem: str) -> ModelCard:
    architecture = model.meta("general.architecture")
    hidden = C.llama_model_n_embd(model.handle)
    heads = max(1, C.llama_model_n_head(model.handle))
    kv_heads = C.llama_model_n_head_kv(model.handle)
    key_length = model.meta_int(f"{architecture}.attention.key_length") or hidden // heads
    value_length = model.meta_int(f"{architecture}.attention.value_length") or hidden // heads
    return ModelCard(
        model="",
        title=(model.meta("general.name") or stem)[:MAX_NAME_CHARACTERS],
        architecture=architecture,
        parameters=C.llama_model_n_params(model.handle),
        layers=C.llama_model_n_layer(model.handle),
        hidden=hidden,
        feed_forward=model.meta_int(f"{architecture}.feed_forward_length"),
        heads=heads,
        kv_heads=kv_heads,
        kv_width=kv_heads * (key_length + value_length),
        vocabulary=model.vocabulary,
        context_tokens=C.llama_model_n_ctx_train(model.handle),
        source_sha256="",
        source_quantization=_quantization(model),
        license=model.meta("general.license")[:MAX_NAME_CHARACTERS],
    )


def _quantization(model: LlamaModel) -> str:
    file_type = C.llama_model_ftype(model.handle) & ~C.LLAMA_FTYPE_GUESSED
    return next((name for name, number in FILE_TYPES.items() if number == file_type), f"TYPE_{file_type}")
