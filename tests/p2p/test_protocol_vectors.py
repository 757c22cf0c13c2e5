"""The golden vectors that strangers' programs are held to are what this program writes, reads, signs and refuses."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest

from core.framing import FrameDecoder, FramingError, encode_frame
from core.payments.voucher import BadSignature, EscrowDomain, Voucher, recover_signer
from p2p.identity import is_signed_by
from p2p.messages import Propose, offer_bytes, proposal_fault
from tests.protocol import samples as s
from tests.protocol.spoken import PROTOCOLS, Spoken
from tests.protocol.vectors import FOLDER, vectors


def file_of(name: str) -> Any:
    return json.loads((FOLDER / f"{name}.json").read_bytes())


def decoder(spoken: Spoken, says: str) -> FrameDecoder[Any]:
    voice = spoken.asks if says == "asks" else spoken.answers
    return FrameDecoder(voice.says, max_frame_bytes=voice.most)


@pytest.mark.parametrize("name", sorted(path.stem for path in FOLDER.glob("*.json")))
def test_the_files_are_what_the_command_writes(name: str) -> None:
    assert json.loads(msgspec.json.encode(vectors()[name])) == file_of(name), "run `python -m tests.protocol`"


def test_no_file_is_missing() -> None:
    assert {path.stem for path in FOLDER.glob("*.json")} == set(vectors())


@pytest.mark.parametrize("spoken", PROTOCOLS, ids=lambda spoken: spoken.key)
def test_every_kind_of_message_has_a_vector(spoken: Spoken) -> None:
    shown = {one["value"]["type"] for one in file_of(spoken.key)["good"]}
    assert shown == {kind.__struct_config__.tag for kind in (*spoken.asks.kinds, *spoken.answers.kinds)}


@pytest.mark.parametrize("spoken", PROTOCOLS, ids=lambda spoken: spoken.key)
def test_good_frames_are_read_and_written_to_the_byte(spoken: Spoken) -> None:
    for one in file_of(spoken.key)["good"]:
        frame = bytes.fromhex(one["frame"])
        (message,) = decoder(spoken, one["says"]).feed(frame)
        assert encode_frame(message) == frame
        assert json.loads(msgspec.json.encode(message)) == one["value"]


@pytest.mark.parametrize("spoken", PROTOCOLS, ids=lambda spoken: spoken.key)
def test_bad_frames_are_refused(spoken: Spoken) -> None:
    for one in file_of(spoken.key)["bad"]:
        with pytest.raises(FramingError):
            decoder(spoken, one["says"]).feed(bytes.fromhex(one["frame"]))


def test_bad_proposals_are_well_formed_and_refused_with_the_reason_that_is_told() -> None:
    job = next(spoken for spoken in PROTOCOLS if spoken.key == "job")
    for one in file_of("job")["refused_proposals"]:
        (propose,) = decoder(job, "asks").feed(bytes.fromhex(one["frame"]))
        assert isinstance(propose, Propose)
        assert proposal_fault(propose) == one["reason"] is not None


def test_signatures_are_believed_only_where_the_file_says_so() -> None:
    signed = file_of("signed")
    for one in signed["good"]:
        assert is_signed_by(signed["peer_id"], bytes.fromhex(one["bytes"]), signature=one["signature"])
    for one in signed["bad"]:
        kind = type(s.OFFER if one["kind"] == "offer" else s.QUOTE)
        value = msgspec.convert(one["value"], kind)
        raw = offer_bytes(value) if one["kind"] == "offer" else bytes.fromhex(one["bytes"])  # type: ignore[arg-type]
        assert not is_signed_by(signed["peer_id"], raw, signature=one["signature"]), one["why"]


def test_vouchers_are_believed_only_where_the_file_says_so() -> None:
    told = file_of("payments")
    domain = msgspec.convert(told["domain"], EscrowDomain)
    for one in told["vouchers"]:
        assert recover_signer(domain, msgspec.convert(one["voucher"], Voucher)) == one["signer"] == told["payer"]["hot"]
    for one in told["bad"]:
        try:
            signer = recover_signer(domain, msgspec.convert(one["voucher"], Voucher))
        except BadSignature:
            continue
        assert signer != told["payer"]["hot"], one["why"]
