"""Numbers of the DNS protocol that this server treats by name (IANA "DNS Parameters")."""

from __future__ import annotations

from typing import Final

A: Final = 1
NS: Final = 2
CNAME: Final = 5
SOA: Final = 6
PTR: Final = 12
MX: Final = 15
TXT: Final = 16
AAAA: Final = 28
SRV: Final = 33
OPT: Final = 41
DS: Final = 43
SSHFP: Final = 44
TLSA: Final = 52
SVCB: Final = 64
HTTPS: Final = 65
TSIG: Final = 250
IXFR: Final = 251
AXFR: Final = 252
ANY: Final = 255
CAA: Final = 257

CLASS_IN: Final = 1
CLASS_CH: Final = 3
CLASS_NONE: Final = 254
CLASS_ANY: Final = 255

OPCODE_QUERY: Final = 0
OPCODE_NOTIFY: Final = 4
OPCODE_UPDATE: Final = 5

AUTHORITATIVE: Final = 0x0400
"""The AA bit among a header's flags."""

NOERROR: Final = 0
FORMERR: Final = 1
SERVFAIL: Final = 2
NXDOMAIN: Final = 3
NOTIMP: Final = 4
REFUSED: Final = 5
# Of updates (RFC 2136 §2.2).
YXDOMAIN: Final = 6
YXRRSET: Final = 7
NXRRSET: Final = 8
NOTAUTH: Final = 9
NOTZONE: Final = 10
BADVERS: Final = 16
"""RFC 6891 §6.1.3: the first one that needs the OPT record's upper eight bits."""
BADCOOKIE: Final = 23

OPTION_NSID: Final = 3
OPTION_COOKIE: Final = 10
OPTION_KEEPALIVE: Final = 11
OPTION_EDE: Final = 15

# Extended DNS Errors (RFC 8914 §4).
EDE_STALE_ANSWER: Final = 3
EDE_NOT_READY: Final = 14
EDE_PROHIBITED: Final = 18
EDE_NOT_AUTHORITATIVE: Final = 20
EDE_NOT_SUPPORTED: Final = 21

TYPE_NAMES: Final = {
    A: "A",
    NS: "NS",
    CNAME: "CNAME",
    SOA: "SOA",
    PTR: "PTR",
    MX: "MX",
    TXT: "TXT",
    AAAA: "AAAA",
    SRV: "SRV",
    DS: "DS",
    SSHFP: "SSHFP",
    48: "DNSKEY",
    TLSA: "TLSA",
    SVCB: "SVCB",
    HTTPS: "HTTPS",
    IXFR: "IXFR",
    AXFR: "AXFR",
    ANY: "ANY",
    CAA: "CAA",
}
RCODE_NAMES: Final = {
    NOERROR: "NOERROR",
    FORMERR: "FORMERR",
    SERVFAIL: "SERVFAIL",
    NXDOMAIN: "NXDOMAIN",
    NOTIMP: "NOTIMP",
    REFUSED: "REFUSED",
    YXDOMAIN: "YXDOMAIN",
    YXRRSET: "YXRRSET",
    NXRRSET: "NXRRSET",
    NOTAUTH: "NOTAUTH",
    NOTZONE: "NOTZONE",
    BADVERS: "BADVERS",
    BADCOOKIE: "BADCOOKIE",
}


def type_name(kind: int) -> str:
    """The mnemonic of a type, or ``TYPE`` and its number (RFC 3597 §5), in lower case: for messages about elements."""
    return TYPE_NAMES.get(kind, f"TYPE{kind}").lower()
