"""The farmer of a fleet: registers a user and a farm at the explorer, since a gateway registers for a farm."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import msgspec
from tfgateway.errors import ExplorerUnavailable, GatewayError
from tfgateway.explorer.client import ExplorerClient
from tfgateway.explorer.models import Farm as FarmEntry
from tfgateway.explorer.models import User, WalletAddress
from tfgateway.identity import seedfile, words
from tfgateway.identity.keys import Identity

from demo.errors import DemoError
from demo.fleet import Fleet

_PATIENCE = 30.0  # seconds for the explorer to come up


class Farm(msgspec.Struct):
    """What the fleet keeps about its farmer; 0: not known yet."""

    words: str
    node_words: str
    """Identity of the fleet's first node."""
    threebot_id: int = 0
    farm_id: int = 0


def ensure(fleet: Fleet) -> Farm:
    """The farm, registered unless the fleet's state says that it is. Errors: ``DemoError``."""
    path = fleet.directory / "farm.json"
    if path.exists():
        farm = msgspec.json.decode(path.read_bytes(), type=Farm)
        if farm.farm_id:
            return farm
    else:
        farm = Farm(words=_new_words(), node_words=_new_words())
        _save(path, farm)
    try:
        asyncio.run(_register(fleet, farm, path))
    except GatewayError as error:
        raise DemoError(f"the farm could not be registered at {fleet.explorer_url}: {error}") from error
    return farm


async def _register(fleet: Fleet, farm: Farm, path: Path) -> None:
    identity = Identity.from_seed(words.seed_from_words(farm.words))
    name = f"{fleet.prefix}-farmer"
    async with ExplorerClient(fleet.explorer_url) as explorer:
        if not farm.threebot_id:
            await _wait(explorer)
            user = User(name=name, email=f"{name}@farm.example", pubkey=identity.public_key.hex())
            farm.threebot_id = (await explorer.register_user(user)).id
            _save(path, farm)
        wallet = WalletAddress(asset="TFT", address=identity.node_id)
        entry = FarmEntry(name=f"{fleet.prefix}-farm", threebot_id=farm.threebot_id, wallet_addresses=(wallet,))
        farm.farm_id = await explorer.create_farm(entry)
        _save(path, farm)


async def _wait(explorer: ExplorerClient) -> None:
    """Until the explorer answers. Errors: the explorer's, when it does not in time."""
    deadline = time.monotonic() + _PATIENCE
    while True:
        try:
            await explorer.gateways()
            return
        except ExplorerUnavailable:
            if time.monotonic() > deadline:
                raise
        await asyncio.sleep(0.2)


def _new_words() -> str:
    return words.words_from_seed(seedfile.generate_seed())


def _save(path: Path, farm: Farm) -> None:
    partial = path.with_suffix(".partial")
    partial.touch(mode=0o600)
    partial.write_bytes(msgspec.json.encode(farm))
    partial.rename(path)
