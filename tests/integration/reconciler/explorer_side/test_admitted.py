"""A gateway at a closed explorer, from the refusal that its operator sees to the consent of its farm's owner."""

from __future__ import annotations

import json
from typing import Any

from tests.integration.reconciler.conftest import Fleet
from tests.support.waiting import until

REFUSED = "tfgateway_reconciler_directory_refused"


def test_a_gateway_that_is_not_admitted_says_so_and_is_listed_once_it_is(fleet: Fleet) -> None:
    fleet.call(lambda client: client.withdraw(1, fleet.node_id), "farmer")
    process = fleet.start()
    until(lambda: fleet.metric(REFUSED) == 1, "a refusal")
    command = f"tfgateway reserve farm admit --farm 1 --node {fleet.node_id} --managed-domain gw1.example"
    reason = f"farm 1 has not admitted this gateway: its owner has to run `{command}`"
    state = fleet.state()
    assert state["reconciler"]["directory"] == {"state": "refused", "reason": reason, "pin": ""}
    assert f"the explorer refuses this gateway's entry in its directory: {reason}" in state["problems"]
    assert not state["in_sync"]
    assert reason in fleet.run("state").stdout
    assert info(fleet) == {"state": "refused", "reason": reason, "pin": ""}
    assert f"directory        refused {reason}" in fleet.run("info").stdout
    assert reason in process.log

    fleet.admit()
    until(lambda: fleet.metric(REFUSED) == 0, "listed")
    # Nothing of it was ever signed otherwise, so that it is pinned at once.
    until(lambda: info(fleet) == {"state": "listed", "reason": "", "pin": "set"}, "pinned")
    assert [entry.node_id for entry in fleet.call(lambda client: client.gateways())] == [fleet.node_id]
    # One that starts anew says nothing that the one before has found out.
    process.stop()
    fleet.explorer.stop()
    fleet.start()
    until(lambda: info(fleet)["state"] == "unavailable", "no answer")
    with fleet.redis() as client:
        client.shutdown(nosave=True)
    assert info(fleet) is None


def info(fleet: Fleet) -> Any:
    return json.loads(fleet.run("info", "--json").stdout)["directory"]
