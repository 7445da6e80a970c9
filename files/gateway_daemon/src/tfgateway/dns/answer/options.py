"""Settings of replies that do not depend on zones. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from tfgateway.dns.answer.transfer import Allowed
from tfgateway.dns.wire.cookies import Cookies
from tfgateway.dns.wire.names import Name
from tfgateway.dns.wire.tsig import Keys


@dataclass(frozen=True, slots=True)
class ServerOptions:
    """What is the same for every query of a process."""

    udp_size: int = 1232
    """Bytes of UDP payload that are sent at most, and that are advertised to clients."""
    cookies: Cookies | None = None
    """None: COOKIE options are ignored."""
    cookies_required: bool = False
    """Over UDP, only clients with a valid cookie get an answer; others are sent to fetch one, or to TCP."""
    nsid: bytes = b""
    """The name server identifier that is sent on request (RFC 5001); empty: none."""
    chaos: Mapping[Name, bytes] = field(default_factory=dict)
    """Folded name -> text that is answered in class CHAOS (RFC 4892)."""
    keys: Keys = field(default_factory=dict)
    """TSIG keys that requests may be signed with."""
    transfers: Sequence[Allowed] = ()
    """Networks and keys that may transfer zones; empty: none."""
    tcp_idle: float = 10.0
    """Seconds that an idle connection is kept."""
