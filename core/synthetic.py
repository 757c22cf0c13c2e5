"""Which made-up models a machine is measured with: the shapes of real ones, so that nothing must be downloaded.

Pure. Never writes a file: core.runtimes.synthetic_model does, in a child.
"""

from __future__ import annotations

import msgspec

from core.device import Device, DeviceKind, ModelShape

SPARE = 1.5
_GIB = 1 << 30


class SyntheticShape(msgspec.Struct, frozen=True):
    """The shape of a llama without meaning; heads are as wide as in a real one of its size."""

    name: str
    layers: int
    hidden: int
    feed_forward: int
    heads: int
    kv_heads: int
    vocabulary: int

    @property
    def kv_width(self) -> int:
        """Elements of K plus V for one token and layer."""
        return 2 * self.kv_heads * (self.hidden // self.heads)

    @property
    def parameters(self) -> int:
        """How many weights there are."""
        attention = 2 * self.hidden * self.hidden + self.hidden * self.kv_width
        block = attention + 3 * self.hidden * self.feed_forward + 2 * self.hidden
        return self.layers * block + 2 * self.vocabulary * self.hidden + self.hidden

    @property
    def as_measured(self) -> ModelShape:
        """The part that a benchmark keeps."""
        return ModelShape(self.parameters, self.layers, self.hidden, self.kv_width)


SMALL = SyntheticShape("synthetic-134m", 12, 768, 2048, heads=12, kv_heads=12, vocabulary=32_000)
LARGE = SyntheticShape("synthetic-1.1b", 22, 2048, 5632, heads=32, kv_heads=4, vocabulary=32_000)


def shape_for(device: Device, *, free_disk_bytes: int) -> SyntheticShape:
    """1.1B on a GPU with room for it in F16 and disk to write it to, else 134M: a processor would take minutes."""
    room = min(device.free_bytes, free_disk_bytes)
    is_large = device.kind is DeviceKind.GPU and room >= SPARE * 2 * LARGE.parameters + _GIB
    return LARGE if is_large else SMALL
