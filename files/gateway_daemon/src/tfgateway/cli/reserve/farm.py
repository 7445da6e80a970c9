"""``tfgateway reserve farm``: farms, and the gateways that their owners admit."""

from __future__ import annotations

import click

from tfgateway.cli.reserve.target import ReserveOptions, as_json_option, show, table
from tfgateway.errors import ConfigError, IdentityError
from tfgateway.explorer import user
from tfgateway.explorer.models import AdmittedGateway
from tfgateway.explorer.servable import canonical_domain, domain_refusal
from tfgateway.identity.keys import node_id_to_public_key
from tfgateway.telemetry.text import printable


@click.group()
def farm() -> None:
    """Create a farm, needed to run gateways of your own, and admit gateways to it."""


_farm = click.option("--farm", "farm_id", type=click.IntRange(min=1), required=True, metavar="ID", help="The farm.")
_node = click.option("--node", "node_id", required=True, metavar="ID", help="The gateway.")


@farm.command()
@click.option("--name", required=True)
@click.option("--wallet", default="none", show_default=True, help="Where it is paid; an own fleet needs none.")
@as_json_option
@click.pass_obj
def create(target: ReserveOptions, name: str, wallet: str, as_json: bool) -> None:
    """Create a farm; doing it again is harmless."""
    account = target.account()
    number = target.run(lambda client: user.farm(client, account.tid, name, wallet), account)
    show(as_json, {"id": number}, f"farm {printable(name)} has id {number}")


@farm.command()
@_farm
@_node
@click.option(
    "--managed-domain",
    "domains",
    multiple=True,
    metavar="DOMAIN",
    help="Managed domain that the gateway may have; repeatable. Those that are not named it may not have any more.",
)
@as_json_option
@click.pass_obj
def admit(target: ReserveOptions, farm_id: int, node_id: str, domains: tuple[str, ...], *, as_json: bool) -> None:
    """Admit a gateway to a farm of yours, so that it can register; doing it again is harmless.

    An explorer whose registration is closed refuses it before. The gateway tries again by itself.
    """
    wanted = AdmittedGateway(farm_id=farm_id, node_id=_checked(node_id), managed_domains=_canonical(domains))
    changed = target.run(lambda client: user.admit(client, wanted), target.account())
    data = {"farm": farm_id, "node_id": node_id, "managed_domains": wanted.managed_domains, "changed": changed}
    having = f" with {', '.join(wanted.managed_domains)}" if wanted.managed_domains else ""
    show(as_json, data, f"farm {farm_id} admits {node_id}{having}{'' if changed else ' already'}")


@farm.command()
@_farm
@_node
@as_json_option
@click.pass_obj
def withdraw(target: ReserveOptions, farm_id: int, node_id: str, *, as_json: bool) -> None:
    """Take back that a gateway may be in a farm of yours.

    An explorer whose registration is closed takes it out of its directory: nothing new is reserved on it then.
    """
    _checked(node_id)
    changed = target.run(lambda client: user.withdraw(client, farm_id, node_id), target.account())
    data = {"farm": farm_id, "node_id": node_id, "changed": changed}
    show(as_json, data, f"farm {farm_id} {'does not admit' if changed else 'did not admit'} {node_id}")


@farm.command("list")
@_farm
@as_json_option
@click.pass_obj
def list_(target: ReserveOptions, farm_id: int, *, as_json: bool) -> None:
    """List the gateways that a farm admits."""
    found = target.run(lambda client: client.admissions(farm_id))
    rows = [(one.node_id, " ".join(one.managed_domains)) for one in found]
    show(as_json, found, table(("node id", "managed domains"), rows))


def _checked(node_id: str) -> str:
    try:
        node_id_to_public_key(node_id)
    except IdentityError as error:
        raise ConfigError(f"--node: {error}") from error
    return node_id


def _canonical(domains: tuple[str, ...]) -> tuple[str, ...]:
    for domain in domains:
        if problem := domain_refusal(canonical_domain(domain)):
            raise ConfigError(f"--managed-domain: {problem}")
    return tuple(sorted({canonical_domain(domain) for domain in domains}))
