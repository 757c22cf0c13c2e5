"""What torch sees of this machine, if it is installed. Never imports it for a processor alone: that takes seconds."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version

from core.device import Device, DeviceKind


def torch_devices(device: Device) -> str:
    """The version and the devices that torch can use, in words; empty when torch is not installed."""
    try:
        installed = version("torch")
    except PackageNotFoundError:
        return ""
    if device.kind is DeviceKind.CPU:
        return f"{installed}, processor"
    return f"{installed}, {', '.join(_accelerators()) or 'processor only'}"


def _accelerators() -> list[str]:
    try:
        import torch
    except (ImportError, OSError):
        return []
    names = [torch.cuda.get_device_name(number) for number in range(torch.cuda.device_count())]
    return [*names, "Metal"] if torch.backends.mps.is_available() else names
