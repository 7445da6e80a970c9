"""The farmer of a fleet: a farm at the explorer has to be there before a gateway registers for it."""

from __future__ import annotations

import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path

from testbed.containers.fleet import Fleet
from testbed.errors import FleetError
from testbed.person import Person, own_words

_PATIENCE = 30.0  # seconds for the explorer to come up


@dataclass(frozen=True, slots=True)
class Farm:
    """What the inventory needs to know."""

    farm_id: int
    threebot_id: int
    """The farmer's tid."""
    node_words: str
    """Identity of the fleet's first node; the others make theirs."""
    seed: Path | None
    """The farmer's, with which provisioning admits the nodes; None: at an open explorer nobody asks."""


def ensure(fleet: Fleet) -> Farm:
    """The farm of the fleet, registered once the explorer answers. Errors: ``FleetError``."""
    _wait(fleet)
    farmer = Person(fleet, "farmer")
    farmer.register()
    farm_id: int = farmer.reserve("farm", "create", "--name", f"{fleet.prefix}-farm")["id"]
    words = own_words(fleet.directory / f"{fleet.nodes[0].name}.words")
    return Farm(farm_id, farmer.tid, words, None if fleet.open_registration else farmer.seed)


def _wait(fleet: Fleet) -> None:
    """Until the explorer answers."""
    deadline = time.monotonic() + _PATIENCE
    while True:
        try:
            urllib.request.urlopen(f"{fleet.explorer_url}/gateways", timeout=5).close()  # noqa: S310  (our own http)
            return
        except (urllib.error.URLError, OSError) as error:
            if time.monotonic() > deadline:
                hint = f"look with: podman logs {fleet.prefix}-explorer"
                raise FleetError(f"the explorer at {fleet.explorer_url} does not answer ({error}); {hint}") from error
        time.sleep(0.2)
