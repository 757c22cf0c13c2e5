"""The laws of a described computer: what is left out is usual, what makes no sense is refused with its place."""

from __future__ import annotations

from pathlib import Path

import pytest

from core.device import DeviceKind
from core.metamodel.described import GIB, DescriptionError, described

EXAMPLES = Path(__file__).parents[3] / "assets" / "metamodel" / "devices"
ONE = b'{"name": "Some GPU", "memory_gib": 8, "bandwidth_gbs": 272, "matrix_tflops": 60}'


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.json")), ids=lambda path: path.stem)
def test_every_example_can_be_read(path: Path) -> None:
    found = described(path.read_bytes())
    assert found.machine.devices[0].kind is DeviceKind.GPU
    assert set(found.nominal) == {device.device_id for device in found.machine.devices}


def test_one_device_alone_is_a_computer_with_a_usual_processor() -> None:
    machine = described(ONE).machine
    assert [device.device_id for device in machine.devices] == ["CUDA0", "CPU"]
    assert 0.9 * 8 * GIB < machine.devices[0].free_bytes < 8 * GIB


def test_two_devices_of_a_backend_have_names_of_their_own() -> None:
    machine = described(b'{"devices": [%s, %s]}' % (ONE, ONE)).machine
    assert [device.device_id for device in machine.devices] == ["CUDA0", "CUDA1", "CPU"]


def test_no_more_is_free_than_there_is() -> None:
    found = described(ONE.replace(b'"memory_gib": 8', b'"memory_gib": 8, "free_gib": 12'))
    assert found.machine.devices[0].free_bytes == 8 * GIB


@pytest.mark.parametrize(
    ("text", "place"),
    [
        (b"[]", "devices"),
        (b"{", "not usable"),
        (ONE.replace(b"272", b"0"), "bandwidth_gbs"),
        (ONE.replace(b"name", b"nmae"), "nmae"),
        (b'{"devices": []}', "devices"),
    ],
    ids=["a list", "half an object", "no bandwidth", "a wrong word", "no device"],
)
def test_what_makes_no_sense_is_refused_with_its_place(text: bytes, place: str) -> None:
    with pytest.raises(DescriptionError, match=place):
        described(text)
