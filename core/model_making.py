"""What llama.cpp does to model files: opens them to see what they are, and quantizes them. Each in a throw-away child,
since a stranger's file may crash it.

Never puts a file in place: the store does.
"""

from __future__ import annotations

import os
from pathlib import Path

from core.metamodel.quantizations import quantization as quantization_row
from core.model_card import ModelCard
from core.model_files import Tell
from core.model_trouble import BadModelFile, ModelStoreError, NoSpace
from core.probe import serving_threads
from core.worker.messages import Fault, FaultKind, Inspect, Inspected, Quantize, Quantized
from core.worker.process import run_once

INSPECT_S = 120.0
QUANTIZE_START_S = 600.0
QUANTIZE_BYTES_PER_S = 500_000
SPACE_MARGIN = 1.1
SOURCES = ("F32", "F16", "BF16", "Q8_0")
# Bits per weight of what llama.cpp makes and core.metamodel.quantizations does not list, from its own quantize tool.
_OTHER_BITS = {
    "Q2_K_S": 3.0, "IQ3_S": 3.5, "IQ3_XS": 3.4, "IQ2_S": 2.6, "IQ2_XS": 2.4, "TQ1_0": 1.8, "TQ2_0": 2.2, "Q1_0": 1.5,
    "Q2_0": 2.5,
}  # fmt: skip


async def inspect(path: Path) -> ModelCard:
    """The card that the file's header makes; the hash and the variants are left empty. Raises BadModelFile."""
    report = await run_once(Inspect(str(path)), deadline_s=INSPECT_S)
    match report:
        case Inspected(card=card):
            return card
        case Fault(kind=FaultKind.BAD_FILE, message=message):
            reason = message.rpartition("cannot be opened: ")[2]
            raise BadModelFile(f"{path.name} is damaged, incomplete or no language model: {reason}")
        case Fault(message=message):
            raise BadModelFile(f"{path.name} cannot be opened safely: {message}")
        case _:
            raise ModelStoreError(f"{path.name} was answered by {type(report).__name__}.")


async def quantize(source: Path, target: Path, *, quantization: str, tell: Tell) -> None:
    """Write the quantized model to target, which must not be there. Whatever goes wrong, no target is left but by a
    kill of this process. Raises NoSpace or ModelStoreError."""
    command = Quantize(str(source), str(target), quantization, serving_threads(os.cpu_count() or 1))
    deadline_s = QUANTIZE_START_S + source.stat().st_size / QUANTIZE_BYTES_PER_S
    is_done = False

    def told(fraction: float, tensor: str) -> None:
        tell(fraction, f"Quantizing {tensor}")

    try:
        report = await run_once(command, deadline_s=deadline_s, on_progress=told)
        match report:
            case Quantized():
                is_done = True
            case Fault(kind=FaultKind.NO_SPACE, message=message):
                raise NoSpace(message)
            case Fault(message=message):
                raise ModelStoreError(message)
            case _:
                raise ModelStoreError(f"Quantizing was answered by {type(report).__name__}.")
    finally:
        if not is_done:
            target.unlink(missing_ok=True)


def expected_bytes(source_bytes: int, quantization: str, *, source: str) -> int:
    """How much room a quantization made from this source may take. Raises ModelStoreError when it is not to be made."""
    bits, source_bits = _bits(quantization), _bits(source)
    if bits is None:
        raise ModelStoreError(f"There is no quantization {quantization}. llama.cpp's names are meant, such as Q4_K_M.")
    if source not in SOURCES or source_bits is None:
        listed = ", ".join(SOURCES[:-1])
        raise ModelStoreError(
            f"A {source} model is not quantized again: too little would be left of it. "
            f"Add or install the same model as {listed} or {SOURCES[-1]}."
        )
    if bits > source_bits:
        raise ModelStoreError(f"{quantization} from {source} would be larger and no better: serve {source} as it is.")
    return int(source_bytes * bits / source_bits * SPACE_MARGIN)


def _bits(quantization: str) -> float | None:
    row = quantization_row(quantization)
    return _OTHER_BITS.get(quantization) if row is None else row.bits
