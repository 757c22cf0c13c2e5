"""Everything a user may change, with its limits; to and from TOML.

Never reads the environment: the composition root reads the file and hands the value on.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import msgspec

from core.job import QualityClass
from core.offer import MAX_WINDOW_TOKENS

Percent = Annotated[int, msgspec.Meta(ge=1, le=100)]
Port = Annotated[int, msgspec.Meta(ge=0, le=65535)]
HubEndpoint = Annotated[str, msgspec.Meta(pattern=r"^https?://[^\s/@?#]+(/[^\s@?#]*)?$", max_length=200)]
Amount = Annotated[int, msgspec.Meta(ge=0, le=(1 << 63) - 1)]


class ShareModels(StrEnum):
    """Which model files other peers may have of us."""

    FREE = "free"
    ALL = "all"
    NONE = "none"


class SettingsError(Exception):
    """The settings file says something that is not allowed; the message names the place."""


class Settings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One peer's settings. Prices are smallest units per 1M tokens; the tariff is in smallest units per kWh.

    storage_cap_gb is how much the model files may take together (0: what the disk gives): over it, the longest unused
    goes, and a model that may have no other copy only with drop_only_copies. hub_endpoint: what `models install` asks.
    max_power_w: no plan is chosen whose device is expected to draw more while it serves (0: no limit).
    explore_when_idle: other plans are tried for seconds while nobody wants anything. learn_from_peers: they are asked
    for their speeds; share_measurements: they are told ours, without a name, an id or a model title. listen_ws_port:
    browsers may dial here too, by WebSocket (0: they may not). share_models: which model files peers may have of us:
    free, those whose licence plainly allows it; all; none. upload_limit_mbps: megabits a second to all peers together
    (0: no limit); share_while_paused: even while the owner has paused work. find_on_lan: peers of the
    same network on the LANs that we listen on are found, and find us (never with a listen_ip of this computer alone).
    audit_budget: what a requester of this home may spend, each time it runs, on asking two peers the same and comparing
    their answers, in smallest units (0: it does not).
    """

    network: str = ""
    listen_ip: str = "127.0.0.1"
    listen_port: Port = 0
    listen_ws_port: Port = 0
    model: str = ""
    quality: QualityClass = QualityClass.STANDARD
    join_at_start: bool = False
    max_memory_percent: Percent = 98
    max_power_w: Annotated[float, msgspec.Meta(ge=0, le=100_000)] = 0.0
    max_temperature_c: Annotated[int, msgspec.Meta(ge=40, le=110)] = 90
    pause_on_battery: bool = True
    tariff_per_kwh: Amount = 250_000
    floor_per_mtok: Amount = 500_000
    window_tokens: Annotated[int, msgspec.Meta(ge=8, le=MAX_WINDOW_TOKENS)] = 64
    unsecured_credit: Amount = 100_000
    redeem_at: Amount = 20_000
    storage_cap_gb: Annotated[float, msgspec.Meta(ge=0, le=1_000_000)] = 0.0
    drop_only_copies: bool = False
    hub_endpoint: HubEndpoint = "https://huggingface.co"
    explore_when_idle: bool = True
    learn_from_peers: bool = True
    share_measurements: bool = False
    share_models: ShareModels = ShareModels.FREE
    upload_limit_mbps: Annotated[float, msgspec.Meta(ge=0, le=1_000_000)] = 100.0
    share_while_paused: bool = False
    find_on_lan: bool = True
    audit_budget: Amount = 0
    theme: str = "system"
    reduce_motion: bool = False


def load_settings(text: bytes) -> Settings:
    """Settings from TOML; what is absent keeps its default. Raises SettingsError."""
    try:
        return msgspec.toml.decode(text, type=Settings)
    except msgspec.MsgspecError as error:
        raise SettingsError(f"The settings file is not usable: {error}.") from error


def dump_settings(settings: Settings) -> bytes:
    """The TOML of these settings."""
    lines = [f"{name} = {_toml(value)}" for name, value in msgspec.to_builtins(settings).items()]
    return ("\n".join(lines) + "\n").encode()


def _toml(value: object) -> str:
    return msgspec.json.encode(value).decode()
