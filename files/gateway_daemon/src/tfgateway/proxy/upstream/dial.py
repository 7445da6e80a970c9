"""Dialling: a connection to a target, begun without waiting, or the reason why there is none."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Collection

from tfgateway.net.addresses import IPAddress, IPNetwork, denied_reason
from tfgateway.net.sockets import close, send_at_once
from tfgateway.proxy.own_addresses import OwnAddresses
from tfgateway.proxy.refusals import DIAL_FAILED, TARGET_DENIED, TOO_MANY, Refused

_MOST_VERDICTS = 10_000  # addresses, the check of which is remembered while this host's addresses are the same
_OUT_OF_DESCRIPTORS = (errno.EMFILE, errno.ENFILE)
_IPV4, _IPV6 = int(socket.AF_INET), int(socket.AF_INET6)
_STREAM = int(socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
_UNDER_WAY = (0, errno.EINPROGRESS)


class Dialler:
    """Connects to targets. What a tenant chose is checked each time: data may be older than the rule (T-15)."""

    def __init__(
        self,
        *,
        allowed: Collection[IPNetwork],
        own_addresses: OwnAddresses,
    ) -> None:
        self._allowed = allowed
        self._own_addresses = own_addresses
        self._own: Collection[IPAddress] = ()
        self._verdicts: dict[str, str | None] = {}

    def dial(self, address: str, port: int, *, by_operator: bool) -> socket.SocketType:
        """A non-blocking socket whose connection is under way; the caller waits for it and closes it.

        Keepalive (T-20) is not set yet: it is of no use before the connection has lasted a while.

        Errors: ``Refused``.
        """
        if not by_operator:
            reason = self._denied(address)
            if reason is not None:
                raise Refused(TARGET_DENIED, reason)
        try:
            sock = socket.SocketType(_IPV6 if ":" in address else _IPV4, _STREAM)
        except OSError as error:
            raise refused(error) from error
        try:
            send_at_once(sock)
            # The head follows at once and acknowledges what a packet of its own would.
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 0)
            status = sock.connect_ex((address, port))
            if status not in _UNDER_WAY:
                raise OSError(status, os.strerror(status))
        except OSError as error:
            close(sock)
            raise refused(error) from error
        return sock

    def _denied(self, address: str) -> str | None:
        """Errors: ``Refused``: this host's addresses are not known, and a tenant must not get at what they are."""
        try:
            own = self._own_addresses.get()
        except OSError as error:
            raise refused(error) from error
        if own is not self._own or len(self._verdicts) >= _MOST_VERDICTS:
            self._own = own
            self._verdicts.clear()
        try:
            return self._verdicts[address]
        except KeyError:
            verdict = self._verdicts[address] = denied_reason(address, self._allowed, own)
            return verdict


def refused(error: OSError) -> Refused:
    """How a connection that failed is refused to the visitor."""
    refusal = TOO_MANY if error.errno in _OUT_OF_DESCRIPTORS else DIAL_FAILED
    return Refused(refusal, os.strerror(error.errno or 0))
