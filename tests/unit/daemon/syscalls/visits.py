"""The kinds of visits whose system calls fail, and what the rules of the proxy allow then."""

from __future__ import annotations

import errno
from collections.abc import Awaitable, Callable
from functools import partial

from tfgateway.proxy import refusals
from tfgateway.proxy.protocol import HTTP, TLS

from tests.support.tls import client_hello
from tests.unit.daemon.syscalls.injector import Fault
from tests.unit.daemon.syscalls.plane import LONG_PAGE, PAGE, Gateway, Outcome, Request, page, request
from tests.unit.daemon.syscalls.runner import Allowed, Visit

_BODY = bytes(300_000)
_HEAD = request("two.example")
_CONTROL = Request((_HEAD,), PAGE)
_THROUGH_TUNNEL = Request((request("tunnel.example"),), PAGE)
_ANY: Allowed = {"served", "refused", "closed"}
_NOT_NOW = (errno.EAGAIN, errno.EALREADY)


def _ask(asked: Request) -> Callable[[Gateway], Awaitable[Outcome]]:
    return lambda gateway: gateway.visit(asked)


def _allowed(asked: Request, others: bool, fault: Fault) -> Allowed:
    """``others``: the service has another target, or its target another address."""
    role, call, number, error = fault
    head = call == "send" and number == 1
    match role, call:
        case (_, "close" | "remove") | ("listener", _) | ("pipe", "pipe2" | "fcntl"):
            return {"served"}
        case "target", "send" if error in _NOT_NOW:
            return {"served"}
        case "target", "socket" | "connect_ex" | "getsockname" | "setsockopt" | "send" if call != "send" or head:
            if others:
                return {"served"}
            if asked.protocol is TLS:
                return {"closed"}
            why = refusals.TOO_MANY if error in (errno.EMFILE, errno.ENFILE) else refusals.DIAL_FAILED
            return {Outcome("refused", why.outcome)}
        case _, "add" | "change":
            return {"served", Outcome("refused", "error"), "closed"}
        case _:
            return {"served", "closed"}


def _proxied(asked: Request, *, others: bool = True, always: tuple[Fault, ...] = ()) -> Visit:
    return Visit(_ask(asked), partial(_allowed, asked, others), _CONTROL, frozenset({"listener"}), always)


def _allowed_in_tunnel(asked: Request, fault: Fault) -> Allowed:
    role, call, _, error = fault
    match role, call:
        case _, "close" | "remove":
            return {"served"}
        case "local", "socket" | "setblocking" | "connect" | "getsockopt" | "setsockopt":
            return {"closed"} if asked.protocol is TLS else {Outcome("refused", refusals.DIAL_FAILED.outcome)}
        case ("local" | "carried", "send" | "sendmsg") if error in _NOT_NOW:
            return {"served"}
        case _:
            return _ANY


def _tunnelled(asked: Request, *skip: str) -> Visit:
    skipped = frozenset({"listener", *skip})
    return Visit(_ask(asked), partial(_allowed_in_tunnel, asked), _THROUGH_TUNNEL, skipped)


PROXIED = {
    "one target": Visit(
        _ask(Request((request("one.example"),), PAGE)),
        partial(_allowed, Request((), b""), False),
        _CONTROL,
    ),
    "two targets": _proxied(_CONTROL),
    "two addresses of a target": _proxied(Request((request("many.example"),), PAGE)),
    "one target, TLS": _proxied(Request((client_hello("one.example"),), PAGE, TLS), others=False),
    "two targets, TLS": _proxied(Request((client_hello("two.example"),), PAGE, TLS)),
    "a head in pieces": _proxied(Request((_HEAD[:9], _HEAD[9:]), PAGE)),
    "a connection that takes its time": _proxied(_CONTROL, always=(Fault("target", "send", 1, errno.EAGAIN),)),
    "targets that are told the source": _proxied(Request((request("told.example"),), PAGE)),
    "a long answer": _proxied(Request((request("two.example", "/long"),), LONG_PAGE)),
    "a long question": _proxied(Request((request("two.example", "/echo"), _BODY), page(_BODY), half_close=True)),
    "a name that nobody has": _proxied(Request((request("none.example"),), refusals.UNKNOWN_HOST.answer(HTTP))),
}
TUNNELLED = {
    "through a tunnel": _tunnelled(_THROUGH_TUNNEL),
    "TLS through a tunnel": _tunnelled(Request((client_hello("tunnel.example"),), PAGE, TLS), "client", "session"),
    "a long answer through a tunnel": _tunnelled(Request((request("tunnel.example", "/long"),), LONG_PAGE)),
    "a long question through a tunnel": _tunnelled(
        Request((request("tunnel.example", "/echo"), _BODY), page(_BODY), half_close=True)
    ),
    "a client that connects": Visit(Gateway.reconnect, lambda _fault: {"served"}, _THROUGH_TUNNEL),
}
