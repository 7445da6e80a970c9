"""A client of the explorer's API, for gateways and for users.

Every call either returns or raises one of two errors: ``ExplorerUnavailable`` (network, time-out, 5xx, 408, 429, an
answer that is not the explorer's: worth trying again) or ``ExplorerRefused`` (the explorer's own 4xx: it is not). Calls
may run at the same time.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Self
from urllib.parse import quote

import aiohttp
import msgspec

from tfgateway import gojson, version
from tfgateway.aio import Backoff
from tfgateway.errors import ExplorerRefused, ExplorerUnavailable, IdentityError
from tfgateway.explorer import answers, clocks, signing, wire
from tfgateway.explorer.answers import ExplorerAnswer
from tfgateway.explorer.models import (
    AdmittedGateway,
    Approval,
    Farm,
    Gateway,
    Pool,
    PoolOrder,
    Result,
    Undecodable,
    User,
    Workload,
    WorkloadCounts,
    decode_workload,
)
from tfgateway.explorer.request_signer import RequestSigner
from tfgateway.explorer.urls import api_url
from tfgateway.identity.keys import Identity
from tfgateway.telemetry.text import printable

_PAGE_SIZE = 1000
_PASSING = frozenset({408, 425, 429})
_REPEATABLE = frozenset({"GET", "PUT", "DELETE"})
_FIRST_PAUSE = 0.5
_LONGEST_PAUSE = 4.0
_AWAY = 30.0
"""Seconds for which an explorer that says that it can do nothing now is asked again, by those who retry at all."""
_UNAUTHORIZED = 401
_OVERLOADED = 503
_NO_IDENTITY = "this call has to be signed, and no identity was given"


@dataclass(frozen=True, slots=True)
class PollPage:
    """One poll: workloads of the node (each decoded on its own, P-2) and the id after which to go on."""

    items: tuple[Workload | Undecodable, ...]
    last_id: int


class ExplorerClient:
    """Async context manager around one HTTP session.

    url: the explorer's; a path that does not end in ``/api/v1`` is replaced by it. identity and key_id (node id, or a
    user's decimal tid): who signs; without identity only unsigned calls work. timeout: seconds for one whole request,
    waiting of a long poll excluded. max_answer: bytes of one answer. retries: how often a call that may be repeated (of
    POST only one to which the explorer says that nothing was done: its answer may be what got lost) is tried again by
    itself, for those who do not come again anyway. clock: Unix
    seconds.
    """

    def __init__(
        self,
        url: str,
        *,
        identity: Identity | None = None,
        key_id: str = "",
        timeout: float = 15.0,
        max_answer: int = 16 * 1024 * 1024,
        retries: int = 0,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._base = api_url(url)
        self._identity = identity
        self._request_signer = RequestSigner(identity, key_id, clock) if identity else None
        self._timeout = timeout
        self._max_answer = max_answer
        self._retries = retries
        self._clock = clock
        self._clock_ahead: float | None = None
        self._pin = ""
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(
            # Encodings would let a small answer grow; a bound on what is read is a bound on what was sent.
            headers={"User-Agent": f"tfgateway/{version()}", "Accept-Encoding": "identity"},
            cookie_jar=aiohttp.DummyCookieJar(),
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._session is not None:
            await self._session.close()

    @property
    def clock_ahead(self) -> float | None:
        """Seconds by which our clock is ahead of the explorer's, below 0 behind, by its last answer; None: unknown.

        Good to about a second; ``clocks.in_words`` says it. An explorer refuses what was signed minutes away (E-2).
        """
        return self._clock_ahead

    @property
    def pin(self) -> str:
        """What the explorer said last of the signer's pin, see ``signing.Pin``; empty: nothing."""
        return self._pin

    # Gateways

    async def register_gateway(self, gateway: Gateway) -> None:
        """Create or replace the gateway's entry; uptime and counters drop to what is given here."""
        await self._call("POST", "/gateways", expect=201, body=gateway, sign=True)

    async def gateway(self, node_id: str) -> Gateway:
        """One entry of the directory. Errors: ``ExplorerRefused`` with 404 when there is none."""
        return answers.struct(await self._call("GET", f"/gateways/{_part(node_id)}"), Gateway)

    async def gateways(self, *, farm_id: int | None = None, country: str = "", city: str = "") -> list[Gateway]:
        """All gateways that match, by id; entries that cannot be decoded are left out."""
        wanted = {"farm_id": "" if farm_id is None else str(farm_id), "country": country, "city": city}
        query = {name: value for name, value in wanted.items() if value}
        return answers.structs(await self._all("/gateways", query), Gateway)

    async def send_uptime(self, node_id: str, seconds: int) -> None:
        """The heartbeat; refused with 404 when the explorer does not know the gateway (any more)."""
        await self._call("POST", f"/gateways/{_part(node_id)}/uptime", body={"uptime": seconds}, sign=True)

    async def send_counters(self, node_id: str, counts: WorkloadCounts) -> None:
        """Workloads by kind; a gateway uses no compute or storage."""
        body = {"cru": 0, "mru": 0, "hru": 0, "sru": 0} | msgspec.structs.asdict(counts)
        await self._call("POST", f"/gateways/{_part(node_id)}/reserved_resources", body=body, sign=True)

    async def pin_gateway(self, node_id: str, *, pin: bool) -> None:
        """Have only bound signatures of the gateway accepted, or others again."""
        await self._call("PUT" if pin else "DELETE", f"/gateways/{_part(node_id)}/pin", sign=True)

    async def take_pin(self, node_id: str) -> None:
        """As ``pin_gateway``, if that is still offered. Errors: ``ExplorerRefused`` with 409 when it is not."""
        await self._call("PUT", f"/gateways/{_part(node_id)}/pin", query={"offered": "1"}, sign=True)

    async def poll(self, node_id: str, from_id: int, wait: float = 0) -> PollPage:
        """Workloads with ids from ``from_id`` on and queued ones, at most 200; go on with ``last_id + 1``.

        Queued items come again with every poll until they are answered, and may carry ``next_action`` 0.
        wait: seconds that the explorer may hold the answer back until something changes. Old ones ignore it and
        answer at once: ``poll_delay.delay`` says when to come again.
        """
        query = {"from": str(from_id)} | ({"wait": f"{wait:g}"} if wait else {})
        path = f"/reservations/nodes/{_part(node_id)}/workloads"
        answer = await self._call("GET", path, query=query, wait=wait)
        last = answer.headers.get("x-last-id", "")
        if not (last.isascii() and last.isdigit() and len(last) < 19):
            raise ExplorerUnavailable("the answer to a poll has no usable x-last-id header")
        return PollPage(tuple(decode_workload(item) for item in answers.items(answer)), int(last))

    async def node_workload(self, gwid: str) -> Workload:
        """One workload by its global id."""
        return answers.workload(await self._call("GET", f"/reservations/nodes/workloads/{_part(gwid)}"))

    async def put_result(self, node_id: str, gwid: str, result: Result) -> None:
        """Post the signed result of a workload."""
        path = f"/reservations/nodes/{_part(node_id)}/workloads/{_part(gwid)}"
        await self._call("PUT", path, expect=201, body=result, sign=True)

    async def delete_reservation(self, node_id: str, gwid: str) -> None:
        """Report that a workload is gone from the gateway."""
        await self._call("DELETE", f"/reservations/nodes/{_part(node_id)}/workloads/{_part(gwid)}", sign=True)

    # Users

    async def user(self, tid: int) -> User:
        """One user; the e-mail is blank unless the call is signed by a user."""
        return answers.struct(await self._call("GET", f"/users/{tid}"), User)

    async def pin_user(self, tid: int, *, pin: bool) -> None:
        """Have only bound signatures of the user accepted, or others again."""
        await self._call("PUT" if pin else "DELETE", f"/users/{tid}/pin", sign=True)

    async def register_user(self, user: User, identity: Identity) -> User:
        """Create a user from name, email and pubkey, with proof that the key is ours; the answer has the tid."""
        proof = identity.sign(signing.key_proof_message(user)).hex()
        body = {"name": user.name, "email": user.email, "pubkey": user.pubkey, "key_proof": proof}
        return answers.struct(await self._call("POST", "/users", expect=201, body=body), User)

    async def users(self, name: str) -> list[User]:
        """Users of exactly this name, e-mail blank: one or none."""
        return answers.structs(await self._all("/users", {"name": name}), User)

    async def farms(self, name: str) -> list[Farm]:
        """Farms of exactly this name: one or none."""
        return answers.structs(await self._all("/farms", {"name": name}), Farm)

    async def create_farm(self, farm: Farm) -> int:
        """Create a farm, signed by its owner; its id."""
        return await self._created("/farms", farm, "id", sign=True)

    async def admissions(self, farm_id: int) -> list[AdmittedGateway]:
        """The gateways that a farm admits."""
        return answers.structs(await self._all(f"/farms/{farm_id}/gateways"), AdmittedGateway)

    async def admit(self, admission: AdmittedGateway) -> None:
        """Admit a gateway to a farm of the signer's, with the managed domains of ``admission`` and no others."""
        path = f"/farms/{admission.farm_id}/gateways/{_part(admission.node_id)}"
        await self._call("PUT", path, body=admission, sign=True)

    async def withdraw(self, farm_id: int, node_id: str) -> None:
        """Take back the consent to a gateway."""
        await self._call("DELETE", f"/farms/{farm_id}/gateways/{_part(node_id)}", sign=True)

    async def create_pool(self, order: PoolOrder, tid: int) -> int:
        """Reserve a pool; the id of the reservation, which for a new pool is the pool's."""
        order = msgspec.structs.replace(order, nonce=signing.new_nonce())
        text, signature = signing.sign_pool_order(order, self._signer())
        body = {"json": text, "data_reservation": order, "customer_tid": tid, "customer_signature": signature}
        return await self._created("/reservations/pools", body, "reservation_id")

    async def pools(self, tid: int) -> list[Pool]:
        """A user's pools."""
        return answers.structs(await self._all(f"/reservations/pools/owner/{tid}"), Pool)

    async def create_workload(self, workload: Workload) -> int:
        """Post a signed workload; its id."""
        return await self._created("/reservations/workloads", workload, "reservation_id", sign=True)

    async def workload(self, workload_id: int) -> Workload:
        """One workload by the explorer's id, as signatures of approval cover it."""
        return answers.workload(await self._call("GET", f"/reservations/workloads/{workload_id}"))

    async def list_workloads(
        self, *, customer_tid: int | None = None, next_action: int | None = None, workload_type: int | None = None
    ) -> list[Workload | Undecodable]:
        """All workloads that match, by id."""
        wanted = {"customer_tid": customer_tid, "next_action": next_action, "workload_type": workload_type}
        query = {name: str(value) for name, value in wanted.items() if value is not None}
        return [decode_workload(item) for item in await self._all("/reservations/workloads", query)]

    async def sign(self, workload_id: int, word: str, approval: Approval) -> None:
        """Post a signature of approval; ``word`` is ``provision`` or ``delete``."""
        body = {"tid": approval.tid, "signature": approval.signature}
        await self._call("POST", f"/reservations/workloads/{workload_id}/sign/{word}", expect=201, body=body)

    # Requests

    def _signer(self) -> Identity:
        if self._identity is None:
            raise IdentityError(_NO_IDENTITY)
        return self._identity

    async def _created(self, path: str, body: object, member: str, *, sign: bool = False) -> int:
        answer = await self._call("POST", path, expect=201, body=body, sign=sign)
        try:
            return msgspec.convert(gojson.decode_object(answer.body)[member], type=int)
        except (ValueError, KeyError) as error:
            raise ExplorerUnavailable(f"the answer to POST {path} has no usable '{member}'") from error

    async def _all(self, path: str, query: Mapping[str, str] | None = None) -> list[object]:
        """All pages of a list: as many as the first answer says."""
        items: list[object] = []
        page = pages = 1
        while page <= pages:
            answer = await self._call("GET", path, query={**(query or {}), "page": str(page), "size": str(_PAGE_SIZE)})
            header = answer.headers.get("Pages", "")
            pages = int(header) if header.isascii() and header.isdigit() and len(header) < 10 else page
            found = answers.items(answer)
            items += found
            # An explorer that announces more pages than it has must not keep us busy.
            page = page + 1 if found else pages + 1
        return items

    async def _call(
        self,
        method: str,
        path: str,
        *,
        expect: int = 200,
        body: object = None,
        query: Mapping[str, str] | None = None,
        sign: bool = False,
        wait: float = 0,
    ) -> ExplorerAnswer:
        data = None if body is None else wire.encode(body) + b"\n"
        attempt, backoff = 0, Backoff(_FIRST_PAUSE, _LONGEST_PAUSE)
        away_until = time.monotonic() + _AWAY
        while True:
            try:
                answer = await self._exchange(method, path, query, data, sign=sign, wait=wait)
                if answer.status != expect:
                    raise self._failure(method, path, answer)
            except ExplorerUnavailable as error:
                if error.nothing_done and self._retries and time.monotonic() < away_until:
                    pass  # its database is away, as during a failover
                elif attempt >= self._retries or not (error.nothing_done or method in _REPEATABLE):
                    raise
            else:
                return answer
            await asyncio.sleep(backoff.failed())
            attempt += 1

    async def _exchange(
        self,
        method: str,
        path: str,
        query: Mapping[str, str] | None,
        data: bytes | None,
        *,
        sign: bool,
        wait: float,
    ) -> ExplorerAnswer:
        """One request and its answer, whatever its status. Errors: ``ExplorerUnavailable``."""
        if self._session is None:
            raise RuntimeError("the client is used outside of its context")
        middlewares: tuple[aiohttp.ClientMiddlewareType, ...] = ()
        if sign:
            if self._request_signer is None:
                raise IdentityError(_NO_IDENTITY)
            middlewares = (self._request_signer.middleware(data or b""),)
        try:
            async with self._session.request(
                method,
                self._base + path,
                params=query,
                data=data,
                headers={"Content-Type": "application/json"},
                middlewares=middlewares,
                timeout=aiohttp.ClientTimeout(total=self._timeout + wait),
                # A signed request must not follow a redirect.
                allow_redirects=False,
            ) as response:
                self._clock_ahead = clocks.ahead(self._clock(), response.headers)
                if sign:
                    self._pin = response.headers.get(signing.PIN, "")
                return ExplorerAnswer(response.status, response.headers, await self._read(response))
        except TimeoutError as error:
            raise ExplorerUnavailable(f"{method} {path}: no answer in {self._timeout + wait:g} s") from error
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise ExplorerUnavailable(f"{method} {path}: {printable(error) or type(error).__name__}") from error

    async def _read(self, response: aiohttp.ClientResponse) -> bytes:
        body = bytearray()
        async for chunk in response.content.iter_chunked(65536):
            body += chunk
            if len(body) > self._max_answer:
                raise ExplorerUnavailable(f"an answer is larger than {self._max_answer} bytes")
        return bytes(body)

    def _failure(self, method: str, path: str, answer: ExplorerAnswer) -> ExplorerRefused | ExplorerUnavailable:
        """Only the explorer's own error form is a refusal: a proxy's 404 page says nothing about a workload."""
        words = clocks.in_words(self._clock_ahead) if answer.status == _UNAUTHORIZED else ""
        hint = f"; {words}" if words else ""
        try:
            text = str(gojson.decode_object(answer.body)["error"])
        except (ValueError, KeyError):
            return ExplorerUnavailable(f"{method} {path}: unexpected answer with status {answer.status}{hint}")
        if 400 <= answer.status < 500 and answer.status not in _PASSING:
            return ExplorerRefused(answer.status, printable(text, 1000) + hint)
        message = f"{method} {path}: status {answer.status}: {printable(text)}"
        return ExplorerUnavailable(
            message, nothing_done=answer.status == _OVERLOADED and "Retry-After" in answer.headers
        )


def _part(text: str) -> str:
    """Quote one path segment."""
    return quote(text, safe="")
