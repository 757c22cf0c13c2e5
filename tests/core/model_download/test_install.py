"""Laws of fetching a model from the hub, with the real library in its real child and a hub on this computer."""

from __future__ import annotations

import hashlib
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio

from core.model_download import link
from core.model_download.source import hub_model
from core.model_files import joint_sha256
from core.model_store import ModelStore
from core.model_trouble import BadModelFile, HubTrouble, NoSpace
from tests.hub import Hub, open_hub_server
from tests.models import write_tiny_gguf

REPO = "someone/tiny"
ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """Some megabytes, so that there is something to cut short."""
    return write_tiny_gguf(tmp_path_factory.mktemp("models") / "tiny.gguf", hidden=512).read_bytes()


@pytest.fixture
def hub(model: bytes, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    for name in ("HF_TOKEN", "HF_HUB_OFFLINE", "HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    with open_hub_server() as hub:
        hub.repos[REPO] = {"tiny-F16.gguf": model}
        yield hub


def store_at(folder: Path, hub: Hub) -> ModelStore:
    return ModelStore(folder, endpoint=hub.endpoint)


def incomplete(folder: Path) -> list[Path]:
    return sorted((folder / "_downloads").rglob("*.incomplete"))


async def test_an_installed_model_is_what_the_hub_has(tmp_path: Path, hub: Hub, model: bytes) -> None:
    store = store_at(tmp_path, hub)
    heard: list[float] = []
    card = await store.install(hub_model(REPO), on_progress=lambda f, _: heard.append(f))
    assert card.source_sha256 == hashlib.sha256(model).hexdigest()
    assert store.path_of(card.model, "F16").read_bytes() == model
    assert card.origin == f"{REPO}:tiny-F16.gguf"
    assert heard == sorted(heard) and heard[-1] == 1.0 and len(heard) > 3
    assert not list((tmp_path / "_downloads").iterdir())


async def test_a_model_that_is_there_is_not_fetched_again(tmp_path: Path, hub: Hub) -> None:
    store = store_at(tmp_path, hub)
    first = await store.install(hub_model(REPO))
    assert await store.install(hub_model(f"{REPO}:F16")) == first
    assert len(hub.ranges()) == 1


async def test_a_damaged_model_is_fetched_again(tmp_path: Path, hub: Hub, model: bytes) -> None:
    store = store_at(tmp_path, hub)
    card = await store.install(hub_model(REPO))
    store.path_of(card.model, "F16").write_bytes(model[:-1] + b"x")
    assert (await store.verify(card.model, "F16")).damaged == ("F16.gguf",)
    assert (await store.install(hub_model(card.origin))).model == card.model
    assert store.path_of(card.model, "F16").read_bytes() == model


async def test_a_line_that_breaks_is_taken_up_where_it_broke(tmp_path: Path, hub: Hub, model: bytes) -> None:
    hub.cut_at = 2 << 20
    store = store_at(tmp_path, hub)
    with pytest.raises(HubTrouble, match="Run the same line again"):
        await store.install(hub_model(REPO))
    left = incomplete(tmp_path)[0].stat().st_size
    assert 0 < left <= 2 << 20
    hub.cut_at = None
    hub.asked.clear()
    await store_at(tmp_path, hub).install(hub_model(REPO))
    assert hub.ranges() == [f"bytes={left}-"]


async def test_a_cancelled_download_goes_on_where_it_was(tmp_path: Path, hub: Hub) -> None:
    hub.pause_s = 0.01
    with trio.CancelScope() as scope:
        await store_at(tmp_path, hub).install(
            hub_model(REPO), on_progress=lambda f, t: scope.cancel() if t.startswith("Fetching") and f > 0.3 else None
        )
    assert scope.cancelled_caught
    left = incomplete(tmp_path)[0].stat().st_size
    assert left > 0
    hub.asked.clear()
    await store_at(tmp_path, hub).install(hub_model(REPO))
    assert hub.ranges() == [f"bytes={left}-"]


async def test_a_killed_program_leaves_a_download_to_go_on_with(tmp_path: Path, hub: Hub, model: bytes) -> None:
    hub.pause_s = 0.02
    (tmp_path / "settings.toml").write_text(f'hub_endpoint = "{hub.endpoint}"\n')
    words = [sys.executable, "-m", "app", "models", "install", REPO, "--home", str(tmp_path)]
    killed = await trio.lowlevel.open_process(words, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    with trio.fail_after(60):
        while not (parts := incomplete(tmp_path / "models")) or parts[0].stat().st_size < 1 << 20:
            await trio.sleep(0.02)
    killed.kill()
    await killed.wait()
    hub.pause_s = 0.0
    hub.asked.clear()
    store = store_at(tmp_path / "models", hub)
    assert store.cards() == ()
    card = await store.install(hub_model(REPO))
    assert hub.ranges()[0].startswith("bytes=") and hub.ranges() != ["bytes=0-"]
    assert store.path_of(card.model, "F16").read_bytes() == model


async def test_a_new_version_is_never_mixed_with_the_old_one(tmp_path: Path, hub: Hub) -> None:
    store = store_at(tmp_path, hub)
    hub.cut_at = 2 << 20
    with pytest.raises(HubTrouble):
        await store.install(hub_model(REPO))
    hub.cut_at = None
    newer = write_tiny_gguf(tmp_path / "newer.gguf", hidden=512, seed=9).read_bytes()
    hub.repos[REPO] = {"tiny-F16.gguf": newer}
    hub.asked.clear()
    card = await store.install(hub_model(REPO))
    assert hub.ranges() == [""] and store.path_of(card.model, "F16").read_bytes() == newer


async def test_a_hub_without_ranges_is_read_from_the_start(tmp_path: Path, hub: Hub, model: bytes) -> None:
    store = store_at(tmp_path, hub)
    hub.cut_at = 2 << 20
    with pytest.raises(HubTrouble):
        await store.install(hub_model(REPO))
    hub.cut_at, hub.has_ranges = None, False
    card = await store.install(hub_model(REPO))
    assert store.path_of(card.model, "F16").read_bytes() == model


async def test_what_has_another_hash_than_promised_is_thrown_away(tmp_path: Path, hub: Hub) -> None:
    hub.lies.add("tiny-F16.gguf")
    store = store_at(tmp_path, hub)
    with pytest.raises(HubTrouble, match="not what the hub promised"):
        await store.install(hub_model(REPO))
    assert store.cards() == () and incomplete(tmp_path) == []


async def test_a_fetched_file_is_looked_at_like_any_stranger_s(tmp_path: Path, hub: Hub, model: bytes) -> None:
    hub.repos[REPO] = {"half-Q8_0.gguf": model[: len(model) // 2]}
    store = store_at(tmp_path, hub)
    with pytest.raises(BadModelFile, match="damaged, incomplete"):
        await store.install(hub_model(REPO))
    assert store.cards() == ()


async def test_a_hub_out_of_reach_is_one_sentence(tmp_path: Path, hub: Hub) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    store = ModelStore(tmp_path, endpoint=f"http://127.0.0.1:{port}")
    with pytest.raises(HubTrouble, match="cannot be reached: is this computer online"):
        await store.install(hub_model(REPO))


@pytest.mark.parametrize(
    ("repo", "status", "sentence"),
    [
        ("someone/else", 0, "There is no someone/else at http"),
        (REPO, 404, "There is no someone/tiny at the hub"),
        (REPO, 403, "does not let HF_TOKEN"),
        (REPO, 500, "trouble of its own"),
    ],
)
async def test_each_refusal_of_the_hub_has_its_sentence(
    tmp_path: Path, hub: Hub, repo: str, status: int, sentence: str
) -> None:
    hub.status = status
    with pytest.raises(HubTrouble, match=sentence):
        await store_at(tmp_path, hub).install(hub_model(repo))


async def test_an_answer_that_makes_no_sense_is_one_sentence(tmp_path: Path, hub: Hub) -> None:
    for answer in (b"", b"[]", b"not json", b'{"siblings": 3}', b'{"id": "a/b", "siblings": [{}]}'):
        hub.answer = answer
        with pytest.raises(HubTrouble, match="makes no sense|no GGUF"):
            await store_at(tmp_path, hub).install(hub_model(REPO))


async def test_downloads_that_nobody_goes_on_with_are_given_up(tmp_path: Path, hub: Hub) -> None:
    hub.cut_at = 1 << 20
    store = store_at(tmp_path, hub)
    with pytest.raises(HubTrouble):
        await store.install(hub_model(REPO))
    left = incomplete(tmp_path)[0]
    store.clean()
    assert store.unfinished_bytes() == left.stat().st_size > 0
    os.utime(left, (0, 0))
    store_at(tmp_path, hub).clean()
    assert store.unfinished_bytes() == 0


async def test_a_gated_model_is_said_to_be_gated_and_comes_with_a_token(
    tmp_path: Path, hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.gated.add(REPO)
    store = store_at(tmp_path, hub)
    with pytest.raises(HubTrouble, match="is gated: accept its terms"):
        await store.install(hub_model(REPO))
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    assert (await store.install(hub_model(REPO))).model == "tiny-random"
    assert "Bearer hf_secret" in hub.tokens("/someone")
    assert hub.tokens("/cdn") == {""}


def test_a_token_is_not_sent_in_the_clear_over_a_network(monkeypatch: pytest.MonkeyPatch) -> None:
    check = "from core.model_download.child import _token; print(_token('http://hub.example'), _token('https://hub.example'))"
    said = subprocess.run(
        [sys.executable, "-c", check], cwd=ROOT, env={**os.environ, "HF_TOKEN": "t"}, capture_output=True, check=True
    )
    assert said.stdout.decode().split() == ["False", "t"]


async def test_a_disk_that_becomes_full_is_one_sentence_and_what_is_there_stays(tmp_path: Path, hub: Hub) -> None:
    small = tmp_path / "small"
    small.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(small)]
    if subprocess.run(mount, capture_output=True, check=False).returncode != 0:
        pytest.skip("mounting a small file system is not allowed here")
    try:
        async with link.open_hub(hub.endpoint) as asked:
            listed = await asked.list_files(REPO)
            with pytest.raises(NoSpace, match="disk became full"):
                await asked.fetch(listed.files[0], small / "x.incomplete", of=listed, tell=lambda _: None)
        with pytest.raises(NoSpace, match="GB are needed"):
            await store_at(small / "store", hub).install(hub_model(REPO))
    finally:
        subprocess.run(["umount", "-l", str(small)], check=False)


async def test_all_shards_come_and_are_one_model(tmp_path: Path, hub: Hub) -> None:
    write_tiny_gguf(tmp_path / "tiny-F16.gguf", shard_tensors=8)
    shards = {f"F16/{path.name}": path.read_bytes() for path in sorted(tmp_path.glob("*.gguf"))}
    hub.repos[REPO] = {**shards, "tiny-Q8_0.gguf": b"other", "mmproj-F16.gguf": b"eyes"}
    store = store_at(tmp_path / "store", hub)
    card = await store.install(hub_model(f"{REPO}:f16"))
    assert card.source is not None and len(card.source.shards) == len(shards) == 3
    assert card.source_sha256 == joint_sha256([hashlib.sha256(body).hexdigest() for body in shards.values()])
    assert (await store.ensure_variant(card.model, "Q4_0")).file_bytes > 0


async def test_the_engine_s_side_never_loads_the_hub_s_library(tmp_path: Path, hub: Hub) -> None:
    await store_at(tmp_path, hub).install(hub_model(REPO))
    check = "import sys, core.model_store, core.engine as e; print(*({'huggingface_hub', 'httpx2'} & set(sys.modules)))"
    said = subprocess.run([sys.executable, "-c", check], cwd=ROOT, capture_output=True, check=True)
    assert said.stdout.split() == []
