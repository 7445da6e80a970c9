"""``tfgateway reserve proof``: the DNS record that proves a domain to a gateway."""

from __future__ import annotations

import click

from tfgateway.cli.reserve.target import ReserveOptions, as_json_option, show
from tfgateway.errors import ConfigError
from tfgateway.explorer import user
from tfgateway.explorer.servable import canonical_domain, domain_refusal


@click.command()
@click.option("--node", "node_id", required=True, metavar="ID", help="The gateway.")
@click.option("--domain", required=True, help="The whole name of the proxy.")
@as_json_option
@click.pass_obj
def proof(target: ReserveOptions, node_id: str, domain: str, *, as_json: bool) -> None:
    """Print the TXT record that says that a domain of yours may be your proxy at a gateway.

    Some gateways ask for it outside their managed domains and the domains that you have delegated to them. It is made
    of your key alone: it can be set before anything is reserved, and nobody is asked.
    """
    served = canonical_domain(domain)
    if (problem := domain_refusal(served)) is not None:
        raise ConfigError(problem)
    name, text = user.proof_record(target.account(), node_id, served)
    if not name:
        raise ConfigError(f"domain '{served}' is too long to have a TXT record below it")
    show(as_json, {"name": name, "type": "TXT", "text": text}, f'{name}. TXT "{text}"')
