"""reverse_proxy through plan and apply."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tfgateway.explorer.models import ResultState, Workload
from tfgateway.identity.keys import Identity
from tfgateway.identity.sealing import encrypt_ecdh, seal
from tfgateway.reconciler.planning import render
from tfgateway.redis_schema.keys import RESERVATIONS, service_key
from tfgateway.redis_schema.reservations import Recorded, encode_reservation
from tfgateway.redis_schema.services import Service, decode_service, encode_service

OK = (ResultState.OK, "")
DOMAIN = "tunnel.alice.example"
KEY = service_key(DOMAIN)
PLAIN = "7:s3cr3t-tunnel-key"
ALICE, BOB = (Identity.from_seed(bytes(range(start, start + 32))) for start in (32, 64))


@pytest.fixture(scope="module")
def known(vectors: Callable[[str], dict[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = vectors("identity")["secret"]
    return found


@pytest.fixture
def node(make_node: Callable[..., Any]) -> Any:
    """The gateway of the vectors, which knows user 7 (of the vectors) and user 8."""
    made = make_node("gw1.example")
    made.users = {"7": ALICE.public_key, "8": BOB.public_key, "9": None}
    return made


def secret(node: Any, plain: str | bytes = PLAIN, by: Identity = ALICE) -> str:
    plain = plain.encode() if isinstance(plain, str) else plain
    return encrypt_ecdh(plain, by.seed, node.identity.public_key).hex()


def service(node: Any) -> Service | None:
    raw = node.get(KEY)
    return None if raw is None else decode_service(raw)


def refused(node: Any, workload: Workload) -> str:
    text = node.refusal(workload)
    assert not node.recorded(workload)
    return str(text)


def test_vector_12_a_reverse_proxy_is_written_as_the_old_gateway_writes_it(node: Any, known: dict[str, Any]) -> None:
    workload = node.reverse_proxy(313, DOMAIN, known["ecdh"])
    node.settle()
    assert node.answer(workload) == OK
    # as an original gateway has written it
    assert node.text(KEY) == (
        '{"Key":"/tcprouter/service/tunnel.alice.example","Value":"eyJhZGRyIjoiIiwiY2xpZW50c2VjcmV0IjoiNzpzM2NyM3QtdHVu'
        'bmVsLWtleSIsInRsc3BvcnQiOjAsImh0dHBwb3J0IjowLCJ1c2VyIjoiNyJ9"}'
    )
    node.delete(workload)
    node.settle()
    assert node.get(KEY) is None


def test_vector_13_a_sealed_secret_of_version_0_needs_no_key_of_the_user(node: Any, known: dict[str, Any]) -> None:
    node.users = {}
    workload = node.reverse_proxy(313, DOMAIN, known["sealed"], version=0)
    node.settle()
    assert node.answer(workload) == OK
    assert service(node) == Service(clientsecret=PLAIN, user="7")


def test_the_record_keeps_the_secret_encrypted(node: Any, known: dict[str, Any]) -> None:
    node.reverse_proxy(313, DOMAIN, known["ecdh"])
    made = node.settle()
    raw = node.text(RESERVATIONS, "313-1")
    assert f'"data":{{"domain":"{DOMAIN}","secret":"{known["ecdh"]}"}}' in raw
    assert PLAIN not in raw
    assert PLAIN not in render.as_text(made) + str(render.as_data(made))


@pytest.mark.parametrize("size", [*range(1, 24), 24, 39, 40])
def test_p1_a_short_secret_is_an_error_result(node: Any, size: int) -> None:
    workload = node.reverse_proxy(313, DOMAIN, "ab" * size)
    other = node.subdomain(314, "www.gw1.example", "203.0.113.5")
    node.settle()
    assert refused(node, workload).startswith("failed to decrypt secret: decryption error: ")
    assert node.answer(other) == OK


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ("", "secret cannot be empty"),
        ("zz", "failed to decrypt secret: it is not hex"),
        ("abc", "failed to decrypt secret: it is not hex"),
        ("ab cd", "failed to decrypt secret: it is not hex"),
        ("\u00e9\u00e9", "failed to decrypt secret: it is not hex"),
    ],
)
def test_a_secret_that_is_no_ciphertext_is_refused(node: Any, given: str, why: str) -> None:
    workload = node.reverse_proxy(313, DOMAIN, given)
    node.settle()
    assert refused(node, workload) == why


@pytest.mark.parametrize(
    ("plain", "why"),
    [
        ("", "secret cannot be empty"),
        ("no-tid", "secret must follow the format 'threebotID:random'"),
        ("77:random", "secret must follow the format 'threebotID:random'"),
        ("7:", "secret must follow the format 'threebotID:random'"),
        (b"7:\xff\xfe", "failed to decrypt secret: it is not text"),
        ("7:" + "x" * 4095, "secret is longer than 4096 bytes"),
    ],
)
def test_what_is_encrypted_must_be_a_secret_of_the_user(node: Any, plain: str | bytes, why: str) -> None:
    workload = node.reverse_proxy(313, DOMAIN, secret(node, plain))
    node.settle()
    assert refused(node, workload) == why
    assert service(node) is None


def test_the_longest_secret_is_one_that_the_proxy_can_read(node: Any) -> None:
    plain = "7:" + "\0" * 4094
    workload = node.reverse_proxy(313, DOMAIN, secret(node, plain))
    node.settle()
    assert node.answer(workload) == OK
    assert service(node) == Service(clientsecret=plain, user="7")


def test_c2_the_secret_of_another_user_is_of_no_use(node: Any) -> None:
    copied = node.reverse_proxy(313, DOMAIN, secret(node), tid=8)
    forged = node.reverse_proxy(314, "other.example", secret(node, PLAIN, BOB), tid=8)
    node.settle()
    assert refused(node, copied).startswith("failed to decrypt secret: decryption error: ")
    assert refused(node, forged) == "secret must follow the format 'threebotID:random'"


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(given=st.one_of(st.binary(max_size=80).map(bytes.hex), st.text(max_size=20)), version=st.integers(0, 2))
def test_p1_no_secret_stops_anything(make_node: Callable[..., Any], given: str, version: int) -> None:
    node = make_node("gw1.example")
    node.users = {"7": ALICE.public_key}
    workload = node.reverse_proxy(313, DOMAIN, given, version=version)
    node.settle()
    assert refused(node, workload)
    assert node.plan().problems == ()


class TestKeyOfTheUser:
    def test_p3_until_it_is_told_nothing_is_answered(self, node: Any) -> None:
        node.users = {}
        workload = node.reverse_proxy(313, DOMAIN, secret(node))
        made = node.settle()
        assert made.unknown_users == ("7",)
        assert made.problems == ("313-1 waits: the explorer has not given the public key of user 7",)
        assert node.answer(workload) is None
        node.users = {"7": ALICE.public_key}
        made = node.settle()
        assert (made.unknown_users, made.problems) == ((), ())
        assert node.answer(workload) == OK

    def test_a_user_whom_the_explorer_does_not_know_is_refused(self, node: Any) -> None:
        workload = node.reverse_proxy(313, DOMAIN, secret(node), tid=9)
        node.settle()
        assert refused(node, workload) == (
            "failed to decrypt secret: failed to retrieve user 9 public key: the explorer has none"
        )

    @pytest.mark.parametrize("users", [{}, {"7": None}])
    def test_p3_without_it_what_is_deployed_stays(self, node: Any, users: dict[str, bytes | None]) -> None:
        workload = node.reverse_proxy(313, DOMAIN, secret(node))
        node.settle()
        node.acknowledge()
        node.users = users
        made = node.settle()
        assert (made.steps, made.problems) == ((), ())
        assert service(node) == Service(clientsecret=PLAIN, user="7")
        assert node.recorded(workload)

    def test_drift_is_repaired_once_it_is_known(self, node: Any) -> None:
        node.reverse_proxy(313, DOMAIN, secret(node))
        node.settle()
        for foreign in (None, Service(clientsecret="7:other", user="7"), Service(addr="203.0.113.1")):
            if foreign is None:
                node.strings.clear()
            else:
                node.put(KEY, None, encode_service(DOMAIN, foreign).decode())
            node.settle()
            assert service(node) == Service(clientsecret=PLAIN, user="7")

    def test_an_entry_that_is_gone_waits_for_it(self, node: Any) -> None:
        node.reverse_proxy(313, DOMAIN, secret(node))
        node.settle()
        node.acknowledge()
        node.users = {}
        node.strings.clear()
        made = node.settle()
        assert made.unknown_users == ("7",)
        assert service(node) is None
        node.users = {"7": ALICE.public_key}
        node.settle()
        assert service(node) == Service(clientsecret=PLAIN, user="7")


@pytest.mark.parametrize(
    ("domain", "why"),
    [
        ("", "domain cannot be empty"),
        ("CATCH_ALL", "domain 'catch_all' name is invalid"),
        ("a b.example", "domain 'a b.example' name is invalid"),
        ("gw1.example", "cannot add reverse proxy from gw1.example: unauthorized error: it is a managed domain"),
        (
            "taken.gw1.example",
            "cannot add reverse proxy from taken.gw1.example: unauthorized error: "
            "taken.gw1.example belongs to another user",
        ),
        (
            "www.bob.example",
            "cannot add reverse proxy from www.bob.example: unauthorized error: "
            "zone bob.example belongs to somebody else",
        ),
    ],
)
def test_p6_a_name_has_to_be_the_users_or_free(node: Any, domain: str, why: str) -> None:
    node.delegate(1, "bob.example", tid=8)
    node.subdomain(2, "taken.gw1.example", "203.0.113.8", tid=8)
    node.settle()
    workload = node.reverse_proxy(313, domain, secret(node))
    node.settle()
    assert refused(node, workload) == why


@pytest.mark.parametrize("first_is_reverse", [True, False])
def test_p13_proxy_and_reverse_proxy_do_not_overwrite_each_other(node: Any, first_is_reverse: bool) -> None:
    def reserve(number: int, *, reverse: bool) -> Workload:
        made = node.reverse_proxy(number, DOMAIN, secret(node)) if reverse else node.proxy(number, DOMAIN)
        assert isinstance(made, Workload)
        return made

    first = reserve(312, reverse=first_is_reverse)
    node.settle()
    before = service(node)
    second = reserve(313, reverse=not first_is_reverse)
    node.settle()
    kind = "proxy" if first_is_reverse else "reverse proxy"
    assert refused(node, second) == (
        f"cannot add {kind} from {DOMAIN}: unauthorized error: the domain is taken by reservation 312-1"
    )
    assert service(node) == before
    node.delete(second)
    node.settle()
    assert service(node) == before
    node.acknowledge()
    node.delete(first)
    third = reserve(314, reverse=not first_is_reverse)
    node.settle()
    assert node.answer(third) == OK
    assert service(node) not in (None, before)


def test_p13_what_an_old_gateway_overwrote_settles_on_the_newest(node: Any) -> None:
    node.settle()
    for number, kind, data in [
        (312, "proxy", {"domain": DOMAIN, "addr": "203.0.113.10", "port": 80, "port_tls": 443}),
        (313, "reverse_proxy", {"domain": DOMAIN, "secret": secret(node)}),
    ]:
        record = Recorded(f"{number}-1", node.node_id, "7", kind, data, "2021-01-18T20:00:03Z")
        node.hashes.setdefault(RESERVATIONS, {})[f"{number}-1"] = encode_reservation(record)
    old = node.proxy(312, DOMAIN)
    node.settle()
    assert service(node) == Service(clientsecret=PLAIN, user="7")
    node.delete(old)
    node.settle()
    assert service(node) == Service(clientsecret=PLAIN, user="7")


def test_an_entry_made_by_hand_is_not_taken_over(node: Any) -> None:
    node.put(KEY, None, encode_service(DOMAIN, Service(addr="203.0.113.1")).decode())
    workload = node.reverse_proxy(313, DOMAIN, secret(node))
    node.settle()
    assert refused(node, workload) == f"cannot add reverse proxy from {DOMAIN}: unauthorized error"
    assert service(node) == Service(addr="203.0.113.1")


def test_a_sealed_secret_for_somebody_else_is_refused(node: Any) -> None:
    workload = node.reverse_proxy(313, DOMAIN, seal(PLAIN.encode(), BOB.public_key).hex(), version=0)
    node.settle()
    assert refused(node, workload).startswith("failed to decrypt secret: decryption error: ")


def test_the_gateways_policy_does_not_print_its_seed(node: Any) -> None:
    assert node.identity.seed.hex() not in repr(replace(node.policy))
