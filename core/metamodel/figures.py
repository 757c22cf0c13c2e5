"""Published figures as cases: reads the project's own CSV files and fills in what a source left out.

Only training and evaluation read them; nothing that serves does. Fills are physics or plain typical shapes, never fits.
"""

from __future__ import annotations

import csv
import re
from math import log
from pathlib import Path

import msgspec

from core.metamodel.features import Case
from core.metamodel.own_runs import typical_shape
from core.metamodel.predictor import Phase
from core.metamodel.quantizations import quantization

_TIERS = {"bench": 1.0, "crowd": 0.7, "crowd-unverified": 0.4}
_ACTIVE = re.compile(r"a(\d+(?:\.\d+)?)b(?![a-z])|a(\d+)m(?![a-z])", re.IGNORECASE)
_SPARSE = (("gpt-oss-120b", 5.1), ("gpt-oss-20b", 3.6))
_SPARSE_FAMILIES = (("35b", 3.0, 34.0), ("26b", 4.0, 25.0), ("nemotron-3-nano-30b", 3.0, 29.0), ("cascade", 3.0, 29.0))
_BITS = re.compile(r"(\d)(?:\.\d+)?[-_]?bit|int(\d)|q(\d)", re.IGNORECASE)
_SHARED_LAYER_RUNTIMES = ("tgis", "vllm", "torch(gpt-fast)", "mlc-llm")
_RUNTIMES = {"ollama": "llama.cpp", "ollama/llama.cpp": "llama.cpp", "ipex-llm llama.cpp": "llama.cpp"}
_DEFAULT_PROMPT = 512.0
_SLACK = 1.1
_OVERHEAD_BYTES = 0.6 * 2**30


class Figure(msgspec.Struct, frozen=True):
    """One published speed, tokens per second over the batch. weight is how far its source is trusted, 0 to 1."""

    device: str
    source: str
    model: str
    phase: Phase
    case: Case
    tokens_per_s: float
    weight: float
    gpus: int
    settings: str


class Load(msgspec.Struct, frozen=True):
    """One published attempt to load a model wholly onto GPUs, and whether it ran out of memory."""

    file_bytes: float
    kv_bytes: float
    memory_bytes: float
    gpus: int
    out_of_memory: bool


class Hardware(msgspec.Struct, frozen=True):
    """Datasheet values of one device; None where the table has none."""

    memory_gib: float | None
    bandwidth_gbs: float | None
    matrix_tflops: float | None
    unified: bool


def read_hardware(path: Path) -> dict[str, Hardware]:
    """Devices by name. Raises OSError, KeyError or ValueError on a file of another shape."""
    with path.open(newline="", encoding="utf-8") as file:
        return {
            row["hardware"]: Hardware(
                memory_gib=_number(row["vram_gib"]),
                bandwidth_gbs=_number(row["mem_bandwidth_gbs"]),
                matrix_tflops=_number(row["fp16_tflops"]),
                unified=row["unified"] == "1",
            )
            for row in csv.DictReader(file)
        }


def read_figures(path: Path, hardware: dict[str, Hardware]) -> list[Figure]:
    """Every possible row, once, that names a speed and a device whose bandwidth is known."""
    with path.open(newline="", encoding="utf-8") as file:
        found = (_figure(row, hardware.get(row["hardware"])) for row in csv.DictReader(file))
        return list(dict.fromkeys(figure for figure in found if figure is not None))


def read_loads(path: Path, hardware: dict[str, Hardware]) -> list[Load]:
    """Attempts of benches with a known file size on GPUs of known memory; crowd rows do not say what was offloaded."""
    with path.open(newline="", encoding="utf-8") as file:
        found = (_load(row, hardware.get(row["hardware"])) for row in csv.DictReader(file))
        return list(dict.fromkeys(load for load in found if load is not None))


def is_possible(figure: Figure) -> bool:
    """False for what physics forbids: cached prompts counted as read, several tokens guessed per step, a wrong size."""
    c = figure.case
    if figure.phase is Phase.PREFILL:
        return figure.tokens_per_s <= _SLACK * c.matrix_tflops * 1e12 * figure.gpus / (2 * c.active_parameters)
    bound = c.bandwidth_gbs * 1e9 * figure.gpus / c.active_bytes
    return figure.tokens_per_s <= _SLACK * bound * c.batch


def _figure(row: dict[str, str], device: Hardware | None) -> Figure | None:
    speed = _number(row["tokens_per_s"])
    able = _rates(row, device)
    if speed is None or speed <= 0 or row["oom"] == "1" or able is None:
        return None
    figure = Figure(
        device=row["hardware"],
        source=row["source"],
        model=row["model"],
        phase=Phase.PREFILL if row["phase"] == "pp" else Phase.DECODE,
        case=_case(row, able, device=device),
        tokens_per_s=speed,
        weight=_TIERS.get(row["tier"], 0.4),
        gpus=int(_number(row["n_gpus"]) or 1),
        settings=row["settings"],
    )
    return figure if is_possible(figure) else None


def _load(row: dict[str, str], device: Hardware | None) -> Load | None:
    memory = _number(row["vram_gib"]) or (device.memory_gib if device is not None else None)
    if row["tier"] != "bench" or memory is None or row["n_gpu_layers"] == "0" or row["backend"] in ("cpu", ""):
        return None
    size, bits = _number(row["size_gib"]), _number(row["bits_per_weight"])
    if size is None and bits is None:
        return None
    parameters = 1e9 * (_number(row["params_b"]) or 7.0)
    layers, hidden = _shape(row, parameters)
    tokens = (_number(row["batch"]) or 1.0) * ((_number(row["depth"]) or 0.0) + (_number(row["n_prompt"]) or 0.0) + 128)
    return Load(
        file_bytes=size * 2**30 if size is not None else parameters * (bits or 16.0) / 8,
        kv_bytes=tokens * layers * hidden,
        memory_bytes=memory * 2**30,
        gpus=max(1, int(_number(row["n_gpus"]) or 1)),
        out_of_memory=row["oom"] == "1",
    )


def _rates(row: dict[str, str], device: Hardware | None) -> tuple[float, float] | None:
    """(bandwidth, matrix rate); a missing rate is that of a device with 25 FLOP per byte, usual for Apple's GPUs."""
    bandwidth = _number(row["mem_bandwidth_gbs"]) or (device.bandwidth_gbs if device is not None else None)
    if bandwidth is None:
        return None
    rate = _number(row["fp16_tflops"]) or (device.matrix_tflops if device is not None else None)
    return bandwidth, rate or bandwidth * 0.025


def _case(row: dict[str, str], able: tuple[float, float], *, device: Hardware | None) -> Case:
    parameters = 1e9 * (_number(row["params_b"]) or 7.0)
    active = min(parameters, 1e9 * _active_billions(row))
    bits = _bits(row)
    size = _number(row["size_gib"])
    weights = size * 2**30 if size else parameters * bits / 8
    layers, hidden = _shape(row, parameters)
    decoding = row["phase"] != "pp"
    prompt = _number(row["n_prompt"]) or (0.0 if decoding else _DEFAULT_PROMPT)
    depth = _number(row["depth"])
    generated = _number(row["n_gen"]) or 128.0
    return Case(
        bandwidth_gbs=able[0],
        matrix_tflops=able[1],
        file_bytes=weights,
        active_bytes=weights * active / parameters,
        parameters=parameters,
        active_parameters=active,
        layers=layers,
        hidden=hidden,
        bits=8 * weights / parameters,
        dequant_class=_dequant_class(row["quant"]),
        kv_bytes_per_token=layers * hidden,
        batch=_number(row["batch"]) or 1.0,
        depth=(depth if depth is not None else prompt) + generated / 2 if decoding else depth or 0.0,
        prompt_tokens=max(1.0, prompt) if not decoding else _DEFAULT_PROMPT,
        host_share=_host_share(row, device, weights=weights),
        gpus=_sharing(row),
        unified=device is not None and device.unified,
        backend=row["backend"] or ("metal" if "Apple" in row["hardware"] else "vulkan"),
        runtime=_RUNTIMES.get(row["runtime"], row["runtime"]),
    )


def _active_billions(row: dict[str, str]) -> float:
    total = _number(row["params_b"]) or 7.0
    stated = _number(row["params_active_b"])
    if stated is not None:
        return stated
    name = row["model"].lower().replace(" ", "-").replace(":", "-")
    for part, billions in _SPARSE:
        if part in name:
            return billions
    found = _ACTIVE.search(name)
    if found is not None:
        return float(found[1]) if found[1] else float(found[2]) / 1000
    for part, billions, least in _SPARSE_FAMILIES:
        if part in name and total >= least:
            return billions
    return total / 2 if "flan" in name or "mt0" in name else total


def _bits(row: dict[str, str]) -> float:
    stated = _number(row["bits_per_weight"])
    if stated is not None:
        return stated
    known = quantization(row["quant"].removeprefix("UD-").replace("_XL", "_M"))
    found = _BITS.search(row["quant"] or row["model"])
    if known is not None:
        return known.bits
    return float(next(g for g in found.groups() if g)) + 0.5 if found is not None else 4.9


def _dequant_class(name: str) -> int:
    known = quantization(name.removeprefix("UD-").removesuffix("?").replace("_XL", "_M"))
    if known is not None:
        return known.dequant_class
    return 2 if "K" in name else 0 if "16" in name else 1


def _shape(row: dict[str, str], parameters: float) -> tuple[float, float]:
    layers, hidden = typical_shape(parameters)
    return _number(row["n_layers"]) or layers, _number(row["hidden"]) or hidden


def _host_share(row: dict[str, str], device: Hardware | None, *, weights: float) -> float:
    """What cannot be on the GPU: all with zero GPU layers, else what its memory does not hold (it ran all the same)."""
    if row["backend"] == "cpu" or (device is not None and device.unified):
        return 0.0
    if row["n_gpu_layers"] == "0":
        return 1.0
    memory = _number(row["vram_gib"]) or (device.memory_gib if device is not None else None)
    if memory is None:
        return 0.0
    room = max(0.0, memory * 2**30 - _OVERHEAD_BYTES) * max(1.0, _number(row["n_gpus"]) or 1.0)
    return max(0.0, 1 - room / weights)


def _sharing(row: dict[str, str]) -> int:
    """GPUs that share each layer's work: only where the runtime is tensor parallel; llama.cpp's take turns."""
    gpus = int(_number(row["n_gpus"]) or 1)
    parallel = row["runtime"] in _SHARED_LAYER_RUNTIMES or "sm=tensor" in row["settings"]
    return max(1, gpus) if parallel else 1


def _number(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if value == value and abs(value) < float("inf") else None


def log_speed(figure: Figure) -> float:
    """What is learned: the natural logarithm of tokens per second."""
    return log(figure.tokens_per_s)
