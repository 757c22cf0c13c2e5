"""The few functions of ggml that llama-cpp-python does not bind: graphs on one device, for measuring it.

Never decides what to measure: gpu_rates does. Handles are plain addresses, freed by their owner.
"""

from __future__ import annotations

import ctypes

from llama_cpp._ctypes_extensions import load_shared_library
from llama_cpp.llama_cpp import _base_path

F32, F16 = 0, 1
_POINTER, _INT, _SIZE, _LONG = ctypes.c_void_p, ctypes.c_int, ctypes.c_size_t, ctypes.c_int64


class InitParams(ctypes.Structure):
    """struct ggml_init_params of ggml.h."""

    _fields_ = [("mem_size", _SIZE), ("mem_buffer", _POINTER), ("no_alloc", ctypes.c_bool)]


_SIGNATURES: tuple[tuple[str, type | None, tuple[type, ...]], ...] = (
    ("ggml_init", _POINTER, (InitParams,)),
    ("ggml_free", None, (_POINTER,)),
    ("ggml_tensor_overhead", _SIZE, ()),
    ("ggml_graph_overhead_custom", _SIZE, (_SIZE, ctypes.c_bool)),
    ("ggml_new_tensor_2d", _POINTER, (_POINTER, _INT, _LONG, _LONG)),
    ("ggml_mul_mat", _POINTER, (_POINTER, _POINTER, _POINTER)),
    ("ggml_new_graph_custom", _POINTER, (_POINTER, _SIZE, ctypes.c_bool)),
    ("ggml_build_forward_expand", None, (_POINTER, _POINTER)),
    ("ggml_backend_dev_init", _POINTER, (_POINTER, ctypes.c_char_p)),
    ("ggml_backend_alloc_ctx_tensors", _POINTER, (_POINTER, _POINTER)),
    ("ggml_backend_graph_compute", _INT, (_POINTER, _POINTER)),
    ("ggml_backend_synchronize", None, (_POINTER,)),
    ("ggml_backend_tensor_set", None, (_POINTER, _POINTER, _SIZE, _SIZE)),
    ("ggml_backend_buffer_clear", None, (_POINTER, ctypes.c_uint8)),
    ("ggml_backend_buffer_free", None, (_POINTER,)),
    ("ggml_backend_free", None, (_POINTER,)),
)


def open_ggml() -> ctypes.CDLL:
    """ggml's core with these functions' types set. Raises OSError or AttributeError when a build lacks one."""
    library: ctypes.CDLL = load_shared_library("ggml-base", _base_path)
    for name, result, arguments in _SIGNATURES:
        function = getattr(library, name)
        function.restype, function.argtypes = result, list(arguments)
    return library


def device_handle(device_id: str) -> int | None:
    """ggml's handle of this device, or None when there is no such device."""
    registry = load_shared_library("ggml", _base_path)
    registry.ggml_backend_dev_by_name.restype = _POINTER
    registry.ggml_backend_dev_by_name.argtypes = [ctypes.c_char_p]
    handle: int | None = registry.ggml_backend_dev_by_name(device_id.encode())
    return handle
