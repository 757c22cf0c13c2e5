"""Published figures as cases: reads the project's own CSV files and fills in what a source left out.

Only training and evaluation read them; nothing that serves does. Fills are physics or plain typical shapes, never fits.
"""

from __future__ import annotations

import re
from math import log, sqrt
from pathlib import Path

import msgspec

from core.metamodel.features import UNKNOWN_FLASH, Case
from core.metamodel.own_runs import typical_shape
from core.metamodel.predictor import Phase
from core.metamodel.quantizations import Quantization, kv_type, quantization
from core.metamodel.tables import Row, number, positive, rows

_TIERS = {"bench": 1.0, "crowd": 0.7, "crowd-unverified": 0.4}
_OTHER_TIER = 0.7
_WEAK_HOST = 0.4
_BOARD = re.compile(r"\bPi\b")
_PHASES = {"pp": Phase.PREFILL, "tg": Phase.DECODE}
_ACTIVE = re.compile(r"a(\d+(?:\.\d+)?)b(?![a-z])|a(\d+)m(?![a-z])", re.IGNORECASE)
# Active parameters in billions of sparse models whose names do not say, and how large a model of that name must be.
_SPARSE = (
    ("gpt-oss-120b", 5.1, 0.0), ("gpt-oss-20b", 3.6, 0.0), ("mixtral-8x22b", 39.0, 0.0), ("mixtral", 12.9, 40.0),
    ("dots.llm1", 14.0, 100.0), ("deepseek-v3", 37.0, 600.0), ("deepseek-r1", 37.0, 600.0), ("kimi-k2", 32.0, 900.0),
    ("deepseek-v2-lite", 2.4, 15.0), ("scout", 17.0, 100.0), ("maverick", 17.0, 390.0), ("glm-4.5-air", 12.0, 100.0),
    ("glm-4.7-flash", 3.0, 29.0), ("glm-4", 32.0, 350.0), ("minimax-m2", 10.0, 220.0), ("phi-3.5-moe", 6.6, 40.0),
    ("olmoe", 1.3, 6.0), ("35b", 3.0, 34.0), ("26b", 4.0, 25.0), ("nemotron-3-nano-30b", 3.0, 29.0),
    ("nemotron-3-super", 12.0, 100.0), ("cascade", 3.0, 29.0),
)  # fmt: skip
_BITS = re.compile(r"(\d)(?:\.\d+)?[-_]?bit|int(\d)|q(\d)", re.IGNORECASE)
_FLASH = re.compile(r"\bfa ?=?(0|1|true|false)\b", re.IGNORECASE)
_UBATCH = re.compile(r"\bub ?=?(\d+)\b|\bb=-b (\d+)\b")
_KV = re.compile(r"\bkv=(\w+)")
_SHARED_LAYER_RUNTIMES = ("tgis", "vllm", "torch(gpt-fast)", "mlc-llm")
# What runs llama.cpp under another name, and what other names backends go by.
_LLAMA = re.compile(r"llama\.?cpp|llama-bench|ollama|llamafile|koboldcpp|lm ?studio", re.IGNORECASE)
_BACKENDS = {"hip": "rocm", "hipblas": "rocm", "cublas": "cuda", "mtl": "metal", "blas": "cpu"}
_NVIDIA = re.compile(r"geforce|nvidia|tesla|quadro|titan|jetson|\b(?:rtx|gtx|gb10|[abhltv]\d{1,3}[a-z]?)\b")
_DEFAULT_PROMPT = 512.0
_DEFAULT_CHUNK = 512.0
_TFLOP_PER_GB, _APPLE_TFLOP_PER_GB = 0.08, 0.025
_SLACK = 1.1
_DENSE = 0.8
_SPARSE_DEPTH = 1.2
_MATRIX_SLACK = 2.2
_OVERHEAD_BYTES = 0.6 * 2**30
_METAL_SHARES = ((36.0, 0.75), (0.0, 0.667))


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
    date: str = ""


class Load(msgspec.Struct, frozen=True):
    """One published attempt to load a model wholly onto GPUs, and whether it ran out of memory.

    memory_bytes is what one GPU may use: of Apple's memory Metal lends a GPU two thirds, three quarters from 36 GB on.
    """

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
    """Devices by name. Raises ValueError, in words, on a file of another shape."""
    return {
        row["hardware"]: Hardware(
            memory_gib=positive(row["vram_gib"]),
            bandwidth_gbs=positive(row["mem_bandwidth_gbs"]),
            matrix_tflops=positive(row["fp16_tflops"]),
            unified=row["unified"] == "1",
        )
        for row in rows(path, ("hardware", "mem_bandwidth_gbs"))
    }


def read_figures(path: Path, hardware: dict[str, Hardware]) -> list[Figure]:
    """Every possible row, once, that names a speed and a device whose bandwidth is known. Raises ValueError."""
    table = rows(path, ("hardware", "phase", "tokens_per_s"))
    found = (_figure(row, hardware.get(row["hardware"])) for row in table)
    return list(dict.fromkeys(figure for figure in found if figure is not None))


def read_loads(path: Path, hardware: dict[str, Hardware]) -> list[Load]:
    """Attempts with a known file size on GPUs of known memory; crowd rows that ran do not say what was offloaded."""
    table = rows(path, ("hardware", "phase", "tokens_per_s"))
    found = (_load(row, hardware.get(row["hardware"])) for row in table)
    return list(dict.fromkeys(load for load in found if load is not None))


def is_possible(figure: Figure) -> bool:
    """False for what physics forbids: cached prompts counted as read, several tokens guessed per step, a wrong size.

    Datasheets give the half-precision rate; integer kernels on quantized weights reach up to twice that.
    """
    c = figure.case
    if figure.phase is Phase.PREFILL:
        return figure.tokens_per_s <= _MATRIX_SLACK * c.matrix_tflops * 1e12 * figure.gpus / (2 * c.active_parameters)
    bound = c.bandwidth_gbs * 1e9 * figure.gpus / c.active_bytes
    return figure.tokens_per_s <= _SLACK * bound * c.batch


def log_speed(figure: Figure) -> float:
    """What is learned: the natural logarithm of tokens per second."""
    return log(figure.tokens_per_s)


def _figure(row: Row, device: Hardware | None) -> Figure | None:
    speed = positive(row["tokens_per_s"])
    able = _rates(row, device)
    phase = _PHASES.get(row["phase"])
    if speed is None or row["oom"] == "1" or able is None or phase is None:
        return None
    figure = Figure(
        device=row["hardware"],
        source=row["source"],
        model=row["model"],
        phase=phase,
        case=_case(row, able, device=device),
        tokens_per_s=speed,
        weight=_weight(row),
        gpus=_gpus(row),
        settings=row["settings"],
        date=row["source_date"],
    )
    return figure if is_possible(figure) else None


def _load(row: Row, device: Hardware | None) -> Load | None:
    memory = _memory_gib(row, device)
    ran_out = row["oom"] == "1"
    told = not row["tier"].startswith("crowd") or ran_out
    if not told or memory is None or row["n_gpu_layers"] == "0" or row["backend"] in ("cpu", ""):
        return None
    known = _quantization(row)
    size, bits = positive(row["size_gib"]), positive(row["bits_per_weight"]) or (known.bits if known else None)
    if size is None and bits is None:
        return None
    parameters = _parameters(row)
    layers, hidden = _shape(row, min(parameters, 1e9 * _active_billions(row)))
    before = (number(row["depth"]) or 0.0) + (number(row["n_prompt"]) or 0.0)
    tokens = (positive(row["batch"]) or 1.0) * (before + (positive(row["n_gen"]) or 128.0))
    return Load(
        file_bytes=size * 2**30 if size is not None else parameters * (bits or 16.0) / 8,
        kv_bytes=max(0.0, tokens) * layers * hidden,
        memory_bytes=memory * 2**30 * _usable(row, memory),
        gpus=_gpus(row),
        out_of_memory=ran_out,
    )


def _usable(row: Row, memory_gib: float) -> float:
    if row["backend"] != "metal":
        return 1.0
    return next(share for least, share in _METAL_SHARES if memory_gib >= least)


def _memory_gib(row: Row, device: Hardware | None) -> float | None:
    return positive(row["vram_gib"]) or (device.memory_gib if device is not None else None)


def _weight(row: Row) -> float:
    """Trust in the source. A GPU on a single-board computer waits for its host, which says little of usual peers."""
    trust = _TIERS.get(row["tier"], _OTHER_TIER)
    return min(trust, _WEAK_HOST) if _BOARD.search(row["settings"]) else trust


def _rates(row: Row, device: Hardware | None) -> tuple[float, float] | None:
    """(bandwidth, matrix rate); a missing rate is that of a device with 80 FLOP per byte, of Apple's GPUs with 25."""
    bandwidth = positive(row["mem_bandwidth_gbs"]) or (device.bandwidth_gbs if device is not None else None)
    if bandwidth is None:
        return None
    rate = positive(row["fp16_tflops"]) or (device.matrix_tflops if device is not None else None)
    usual = _APPLE_TFLOP_PER_GB if "apple" in row["hardware"].lower() else _TFLOP_PER_GB
    return bandwidth, rate or bandwidth * usual


def _case(row: Row, able: tuple[float, float], *, device: Hardware | None) -> Case:
    parameters = _parameters(row)
    active = min(parameters, 1e9 * _active_billions(row))
    size = positive(row["size_gib"])
    weights = size * 2**30 if size else parameters * _bits(row) / 8
    layers, hidden = _shape(row, active)
    decoding = row["phase"] != "pp"
    prompt = positive(row["n_prompt"]) or (0.0 if decoding else _DEFAULT_PROMPT)
    flash = _FLASH.search(row["settings"])
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
        dequant_class=_dequant_class(row),
        kv_bytes_per_token=layers * hidden * _kv_bits(row) / 16,
        batch=max(1.0, positive(row["batch"]) or 1.0),
        depth=_depth(row, prompt, decoding=decoding),
        prompt_tokens=max(1.0, prompt) if not decoding else _DEFAULT_PROMPT,
        chunk_tokens=_chunk(row),
        host_share=_host_share(row, device, weights=weights),
        gpus=_sharing(row),
        unified=device is not None and device.unified,
        flash=UNKNOWN_FLASH if flash is None else float(flash[1].lower() in ("1", "true")),
        backend=_backend(row),
        runtime="llama.cpp" if _LLAMA.search(row["runtime"]) else row["runtime"],
    )


def _parameters(row: Row) -> float:
    return 1e9 * (positive(row["params_b"]) or 7.0)


def _gpus(row: Row) -> int:
    return max(1, int(positive(row["n_gpus"]) or 1))


def _depth(row: Row, prompt: float, *, decoding: bool) -> float:
    """Tokens in the cache before a prompt, or half way through an answer."""
    stated = number(row["depth"])
    before = max(0.0, stated) if stated is not None else prompt if decoding else 0.0
    return before + (positive(row["n_gen"]) or 128.0) / 2 if decoding else before


def _chunk(row: Row) -> float:
    """Prompt tokens in one step: what the settings say, else llama.cpp's default."""
    found = _UBATCH.search(row["settings"])
    return max(1.0, float(found[1] or found[2])) if found is not None else _DEFAULT_CHUNK


def _kv_bits(row: Row) -> float:
    found = _KV.search(row["settings"])
    known = kv_type(found[1].upper()) if found is not None else None
    return known.bits if known is not None else 16.0


def _backend(row: Row) -> str:
    """The backend's name; where the source gives none, the usual one of the device's maker."""
    given, name = row["backend"].lower(), row["hardware"].lower()
    if given:
        return _BACKENDS.get(given, given)
    if name.startswith("cpu"):
        return "cpu"
    return "metal" if "apple" in name else "cuda" if _NVIDIA.search(name) else "vulkan"


def _active_billions(row: Row) -> float:
    total = positive(row["params_b"]) or 7.0
    stated = positive(row["params_active_b"])
    if stated is not None:
        return stated
    name = row["model"].lower().replace(" ", "-").replace(":", "-")
    found = _ACTIVE.search(name)
    if found is not None:
        return (float(found[1]) if found[1] else float(found[2]) / 1000) or total
    for part, billions, least in _SPARSE:
        if part in name and total >= least:
            return billions
    return total / 2 if "flan" in name or "mt0" in name else total


def _bits(row: Row) -> float:
    stated = positive(row["bits_per_weight"])
    if stated is not None:
        return stated
    known = _quantization(row)
    found = _BITS.search(row["quant"] or row["model"])
    if known is not None:
        return known.bits
    return float(next(g for g in found.groups() if g)) + 0.5 if found is not None else 4.9


def _quantization(row: Row) -> Quantization | None:
    """The row of our table under any of the names that sources use for it."""
    name = row["quant"].upper().removeprefix("UD-").removesuffix("?").replace("_XL", "_M").replace("FP", "F")
    return quantization(name) or quantization(f"{name}_M")


def _dequant_class(row: Row) -> int:
    known, name = _quantization(row), row["quant"].upper()
    if known is not None:
        return known.dequant_class
    return 3 if name.startswith("IQ") else 2 if "K" in name else 0 if "16" in name else 1


def _shape(row: Row, active: float) -> tuple[float, float]:
    """Layers and width: the source's, else those usual for as many active parameters; experts make a model deeper and
    narrower."""
    layers, hidden = typical_shape(active)
    if active < _DENSE * _parameters(row):
        layers = round(_SPARSE_DEPTH * layers)
        hidden = sqrt(active / (12 * layers))
    return positive(row["n_layers"]) or layers, positive(row["hidden"]) or hidden


def _host_share(row: Row, device: Hardware | None, *, weights: float) -> float:
    """What cannot be on the GPU: all with zero GPU layers, else what its memory does not hold (it ran all the same)."""
    if row["backend"] == "cpu" or (device is not None and device.unified):
        return 0.0
    if row["n_gpu_layers"] == "0":
        return 1.0
    memory = _memory_gib(row, device)
    if memory is None:
        return 0.0
    room = max(0.0, memory * 2**30 - _OVERHEAD_BYTES) * _gpus(row)
    return max(0.0, 1 - room / weights)


def _sharing(row: Row) -> int:
    """GPUs that share each layer's work: only where the runtime is tensor parallel; llama.cpp's take turns."""
    parallel = row["runtime"] in _SHARED_LAYER_RUNTIMES or "sm=tensor" in row["settings"]
    return _gpus(row) if parallel else 1
