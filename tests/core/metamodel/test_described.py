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
    ("text", "said"),
    [
        (b"[]", "one JSON object, in braces"),
        (b" \n", "The file is empty."),
        (b"{", "This is not JSON."),
        (b"\xff\xfe", "This is not JSON."),
        (b"{}", "name is missing: the device's name, a text"),
        (ONE.replace(b"272", b"0"), "bandwidth_gbs cannot be 0: its memory bandwidth in GB/s, a number above 0"),
        (ONE.replace(b"272", b"50001"), "at most 50,000"),
        (ONE.replace(b": 8", b": 2049"), "memory_gib cannot be 2049: its memory in GiB, a number above 0 and at"),
        (ONE.replace(b": 8", b': "8"'), "memory_gib cannot be '8'"),
        (ONE.replace(b": 8", b": true"), "memory_gib cannot be true"),
        (ONE.replace(b"name", b"nmae"), "nmae is no field of it; there are name, memory_gib"),
        (ONE.replace(b'{"name"', b'{"kind": "tpu", "name"'), "one of gpu, integrated_gpu, cpu"),
        (b'{"devices": []}', "devices must be a list of 1 to 16"),
        (b'{"devices": [%s, {"name": "B"}]}' % ONE, "Device 2: memory_gib is missing: its memory in GiB"),
        (b'{"devices": [%s], "cpu_cores": 2.5}' % ONE, "cpu_cores cannot be 2.5: the processor's cores, a whole"),
    ],
)
def test_what_makes_no_sense_is_refused_in_plain_words(text: bytes, said: str) -> None:
    with pytest.raises(DescriptionError) as refused:
        described(text)
    assert said in str(refused.value) and "$" not in str(refused.value)


def test_a_name_cannot_command_the_terminal() -> None:
    found = described(ONE.replace(b"Some GPU", b"Some\\u001b[31m\\u202e GPU\\u0007"))
    assert found.machine.devices[0].name == "Some[31m GPU"
