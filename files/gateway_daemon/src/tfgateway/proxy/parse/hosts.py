"""Host names as they come in, normalised to the one form that services are looked up by."""

from __future__ import annotations

import ipaddress
import re
from functools import lru_cache

from tfgateway.errors import ParseError
from tfgateway.net.idn import to_ascii

_LONGEST = 255  # bytes of a name (RFC 1035 §2.3.4)
# reg-name of RFC 3986 §3.2.2; digits and dots cover IPv4 literals too.
_REG_NAME = re.compile(rb"(?:[A-Za-z0-9\-._~!$&'()*+,;=]|%[0-9A-Fa-f]{2})+")
# uri-host [ ":" port ] of RFC 9112 §3.2; the port may be empty.
_AUTHORITY = re.compile(rb"(?:\[([^\[\]]*)\]|([^:\[\]]*))(?::[0-9]{0,5})?")


@lru_cache(maxsize=4096)
def host_name(raw: bytes) -> str:
    """A name or IP literal (IPv6 without brackets) in lower case, without its final dot, IPv6 in canonical form.

    Errors: ``ParseError`` for anything that is no host by RFC 3986 §3.2.2, for an IPv6 zone, and above 255 bytes.
    """
    if len(raw) > _LONGEST:
        raise ParseError("host name is too long")
    if b":" in raw:
        return _ipv6(raw)
    if not _REG_NAME.fullmatch(raw) or raw == b".":
        raise ParseError("not a host name")
    return raw.decode("ascii").lower().removesuffix(".")


@lru_cache(maxsize=4096)
def authority_host(raw: bytes) -> str:
    """The host of ``host[:port]``, as ``host_name`` gives it; "" when ``raw`` is empty. Errors: ``ParseError``."""
    if not raw:
        return ""
    parts = _AUTHORITY.fullmatch(raw)
    if not parts:
        raise ParseError("not host[:port]")
    literal, name = parts.groups()
    return host_name(name) if literal is None else _ipv6(literal)


def a_label(name: str) -> str:
    """A host name as it is asked for: lower case, no final dot, internationalised labels as ``xn--`` (RFC 5890).

    Errors: ``ParseError`` for what is no host name.
    """
    return host_name(to_ascii(name).encode("ascii"))


def _ipv6(raw: bytes) -> str:
    try:
        address = ipaddress.IPv6Address(raw.decode("ascii"))
    except ValueError:
        raise ParseError("not an IPv6 address") from None
    if address.scope_id is not None:
        raise ParseError("IPv6 address with a zone")
    return str(address)
