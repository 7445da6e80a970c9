"""Identifiers that are all text, as types of their own, so that none can stand where another one is meant."""

from __future__ import annotations

from typing import NewType

NodeId = NewType("NodeId", str)
"""Of a gateway: its public key in base 58."""
Gwid = NewType("Gwid", str)
"""Of a reservation in redis and in a gateway's results: ``12-1``, its id at the explorer and the user's own number."""
Tid = NewType("Tid", str)
"""Of a user or a farmer, decimal. The explorer's API has it as a number."""

NO_GWID = Gwid("")
"""Of what concerns no reservation."""
NO_TID = Tid("")
"""Of what no user is known for."""
