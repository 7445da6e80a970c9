"""Which gateways a farm's owner admits to it, and with which managed domains."""

from __future__ import annotations

from tfgateway.explorer import wire
from tfgateway.explorer.models import AdmittedGateway
from tfgateway.explorer.server.storage import rows, tables
from tfgateway.explorer.server.storage.connection import DatabaseConnection


def find(connection: DatabaseConnection, farm_id: int, node_id: str) -> AdmittedGateway | None:
    """The owner's consent for a gateway; None: there is none."""
    body = tables.find(connection, "admission", farm_id=farm_id, node_id=node_id)
    return None if body is None else rows.read(body, AdmittedGateway)


def count(connection: DatabaseConnection, farm_id: int) -> int:
    """The number of gateways that a farm admits."""
    row = connection.execute("SELECT count(*) FROM admission WHERE farm_id = ?", (farm_id,)).fetchone()
    return int(row[0])


def write(connection: DatabaseConnection, admission: AdmittedGateway) -> None:
    """Record consent, in place of what was given before."""
    remove(connection, admission.farm_id, admission.node_id)
    tables.insert(
        connection,
        "admission",
        farm_id=admission.farm_id,
        node_id=admission.node_id,
        body=wire.encode(admission),
    )


def remove(connection: DatabaseConnection, farm_id: int, node_id: str) -> None:
    """Forget consent; harmless when there is none."""
    connection.execute("DELETE FROM admission WHERE farm_id = ? AND node_id = ?", (farm_id, node_id))
