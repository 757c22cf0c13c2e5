"""What a home gives away comes to a peer as it was, unless its owner does not share, or has paused."""

from __future__ import annotations

import time
from pathlib import Path

import trio

from app.shared_models import SharedModels
from core import events as e
from core.journal import Journal
from core.model_store import ModelStore
from core.piece_file import PieceFile
from core.settings import Settings, ShareModels
from core.store import Store
from p2p.model_fetch import FileFetch
from p2p.model_link import ModelLink
from p2p.model_messages import MODEL_PROTOCOL, ModelHere, NotHere
from p2p.model_search import FoundSource, ModelSearch
from tests.models import write_tiny_gguf
from tests.p2p.swarms import Member, a_member, running


async def asked(asker: Member, giver: Member, sha256: str) -> ModelHere | NotHere:
    stream = await asker.swarm.open(giver.peer_id, MODEL_PROTOCOL, addresses=giver.swarm.addresses())
    try:
        return await ModelLink(stream).model(sha256)
    finally:
        await stream.reset()


async def test_a_home_gives_its_models_to_whoever_asks_by_hash(tmp_path: Path) -> None:
    model = write_tiny_gguf(tmp_path / "tiny.gguf")
    models = ModelStore(tmp_path / "models")
    card = await models.add(model)
    journal = Journal(Store(tmp_path / "starling.db"))
    giver, asker = a_member(2), a_member(1)
    shared = SharedModels(journal, models, settings=Settings(upload_limit_mbps=0))
    giver.swarm.serve(MODEL_PROTOCOL, shared.source().serve)
    async with running(giver, asker) as nursery:
        here = await asked(asker, giver, card.source_sha256)
        assert isinstance(here, ModelHere)
        assert (here.model, here.quantization, here.license.lower()) == ("tiny-random", "F16", "apache-2.0")
        nursery.start_soon(shared.run, giver.swarm)
        search = ModelSearch(asker.swarm, card.source_sha256)

        async def find() -> tuple[FoundSource, ...]:
            return await search.look(deadline_s=2)

        sink = PieceFile(tmp_path / "ours.gguf", card.source_sha256)
        with trio.fail_after(10):
            await FileFetch(asker.swarm, here.files[0], sink=sink, on_progress=lambda _: None).run(find)
        assert (tmp_path / "ours.gguf").read_bytes() == model.read_bytes()
        await journal.record(e.WorkPaused(time.time(), "Paused by you.", None))
        assert isinstance(await asked(asker, giver, card.source_sha256), NotHere)


def test_an_owner_who_does_not_share_has_nothing_to_give(tmp_path: Path) -> None:
    journal, models = Journal(Store(tmp_path / "starling.db")), ModelStore(tmp_path / "models")
    shared = SharedModels(journal, models, settings=Settings(share_models=ShareModels.NONE))
    assert shared.model("00" * 32) is None and shared.file("00" * 32) is None
