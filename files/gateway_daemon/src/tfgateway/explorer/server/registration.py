"""Who may register what: the two modes, and what the closed one asks of a farm and of a gateway. Pure."""

from __future__ import annotations

from enum import StrEnum

from tfgateway.explorer.models import AdmittedGateway, Farm, Gateway
from tfgateway.explorer.servable import canonical_domain

_LONGEST_OPTIONS = 600  # characters: gateways keep a refusal's first thousand


class RegistrationMode(StrEnum):
    """How much an explorer asks of a client that registers something."""

    OPEN = "open"
    """Anybody creates farms in anybody's name, and any gateway joins any farm: what old clients need."""
    CLOSED = "closed"
    """Users prove their keys, a farm's owner signs its creation, and admits each gateway with its managed domains."""


def farm_refusal(mode: RegistrationMode, posted: Farm, signer: int) -> str | None:
    """Why this user cannot create the farm; None: they can. signer: the tid that signed, 0 for nobody."""
    if mode is RegistrationMode.CLOSED and posted.threebot_id != signer:
        return "threebot_id is the owner, who has to sign the request"
    return None


def gateway_refusal(mode: RegistrationMode, posted: Gateway, admitted: AdmittedGateway | None) -> str | None:
    """Why a gateway cannot join its farm; None: it can. admitted: the owner's consent for it, if there is one."""
    if mode is RegistrationMode.OPEN:
        return None
    wanted = domains(posted.managed_domains)
    if admitted is None:
        lacks = "has not admitted this gateway"
    elif missing := [domain for domain in wanted if domain not in domains(admitted.managed_domains)]:
        lacks = f"has admitted this gateway without managed domain {missing[0]}"
    else:
        return None
    return f"farm {posted.farm_id} {lacks}: its owner has to run `{_command(posted, wanted)}`"


def domains(given: tuple[str, ...]) -> tuple[str, ...]:
    """Managed domains as they are compared: canonical, each once, in order."""
    return tuple(sorted({canonical_domain(domain) for domain in given}))


def _command(posted: Gateway, wanted: tuple[str, ...]) -> str:
    options = " ".join(f"--managed-domain {domain}" for domain in wanted)
    if len(options) > _LONGEST_OPTIONS:  # cut, it would admit fewer
        options = f"--managed-domain ..., once for each of its {len(wanted)} managed domains"
    return f"tfgateway reserve farm admit --farm {posted.farm_id} --node {posted.node_id} {options}".rstrip()
