"""Signatures against the vectors, and the Authorization parser against everything else."""

from __future__ import annotations

import base64
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tfgateway.errors import CryptoError, ParseError
from tfgateway.explorer import signing
from tfgateway.explorer.models import (
    DomainDelegate,
    Gateway4To6,
    PoolOrder,
    Proxy,
    ResultState,
    ReverseProxy,
    Subdomain,
    UnknownWorkload,
    User,
    Workload,
)
from tfgateway.identity.keys import Identity

NODE = "FAe4sisG95oZ42w7buUn5qEE4TAnfTTFPiguZUHmhiF"
DATE = "Mon, 18 Jan 2021 20:00:00 GMT"
SECRET = (
    "000102030405060708090a0b0c0d0e0f10111213141516172be09a83486d"
    "df03ee3d43b444d7517984761064df921b0519dff89daea7d14b76ba93"
)
COMMON = {
    "workload_id": 1,
    "node_id": NODE,
    "pool_id": 42,
    "customer_tid": 7,
    "epoch": 1611000000,
    "metadata": "meta",
}
GATEWAY_SIGNATURE = "j9Q+559j1h+lwMcvgZVlt5IKt7Zwtqu2os6aDOG3lOQFEy1enGYstjmZIxqy+cyEQovZ7nVEetvIxwHkRvVrBQ=="
GO_HEADER = (
    f'Signature keyId="{NODE}",algorithm="ed25519",created="1611000000",expires="\'\ufffd\'",'
    f'headers="(created) date threebot-id",signature="{GATEWAY_SIGNATURE}"'
)

VECTORS = {
    "5-proxy": (
        Proxy(**COMMON, domain="web.alice.example", addr="203.0.113.10", port=80, port_tls=443),
        f"1{NODE}427PROXY1611000000metaweb.alice.example203.0.113.1080443",
        "2801137239c4d8d976fe94929a78c74076ebeb07e8702e644fddaa5ccd992a30",
        "629326bddfab3b11c7351aa8526a173ddfb6ea5feb4476025a96ef68b2314a80"
        "12c2ae559666344578e23d38d97f7e126d060deef4071b174a4fc11ae449450b",
    ),
    "6-reverse-proxy": (
        ReverseProxy(**COMMON, domain="tunnel.alice.example", secret=SECRET),
        f"1{NODE}427REVERSE_PROXY1611000000metatunnel.alice.example{SECRET}",
        "340f7bce11bd542b3f51bcaf6c333542518a2cd49ce6903876addeecdb51a1b8",
        "06685be489e89478cb25b761ab8b631db43b4eb9b01359c759a8c36b002a908e"
        "945209a48af563bad59bf760a43ca8be92dbc06ee258fd0b209403d4a8f56d04",
    ),
    "7-subdomain": (
        Subdomain(**COMMON, domain="www.gw1.example", ips=("203.0.113.5", "2001:db8::5")),
        f"1{NODE}427SUBDOMAIN1611000000metawww.gw1.example203.0.113.52001:db8::5",
        "d4da1b9833a5a0d5bb982d65af8ca19843ab1de4c42015d7ec892804d8928d1f",
        "21532bfb3b61cae3c8f3500a8ae4ca0bb2c855128a6a71dcf980fbbcdf8c77fe"
        "d9e2a97c3fa8982ad06423c43b94c9fcce44f6153bb940299b32a4b71a11c100",
    ),
    "8-delegate": (
        DomainDelegate(**COMMON, domain="alice.example"),
        f"1{NODE}427DOMAIN_DELEGATE1611000000metaalice.example",
        "4c7a9a89d61c03519fc8a235903d1c3ea3237b7e01186ea0d3b1648ba3101009",
        "f54d85693b6c98180f1c9f5a4001e4d8081b93d2af10acbea5f46f6c0eb0d832"
        "55da41530f791d9b4c5049c118ec197d51a9798fee5ba4d96c5f545445a05a02",
    ),
    "9-4to6": (
        Gateway4To6(**COMMON, public_key="eaYx7t4b+cmPEgMs3q3Q56B5OY/HhriMyEbsia+FpRo="),
        f"1{NODE}427GATEWAY4TO61611000000metaeaYx7t4b+cmPEgMs3q3Q56B5OY/HhriMyEbsia+FpRo=",
        "240bb72651e59be7cc7b83d16ae91023bd40127a5c8b36772476e9fb3c1425a3",
        "2997bbd8945cbd5b0dc40c5f0fe3ab23dc3f590c0948010b448dad3d0291c12c"
        "a63588a3122bca0070f391ca27c868a207624f282766f30cdcc7a9df3c44090e",
    ),
}


def _parameters(header: str) -> dict[str, str]:
    pairs = (part.split("=", 1) for part in header.removeprefix("Signature ").split(","))
    return {name: value.strip('"') for name, value in pairs}


def test_vector_3_request_of_a_gateway(gateway: Identity) -> None:
    headers = signing.request_headers(gateway, NODE, 1611000000)
    assert headers["Date"] == DATE
    assert headers["Threebot-Id"] == NODE
    # As the Go client sends it, but for the broken expires, which new clients send as created + 60.
    assert headers["Authorization"] == GO_HEADER.replace("'\ufffd'", "1611000060")


def test_vector_4_request_of_a_user(user: Identity) -> None:
    headers = signing.request_headers(user, "7", 1611000000)
    assert _parameters(headers["Authorization"]) == {
        "keyId": "7",
        "algorithm": "ed25519",
        "created": "1611000000",
        "expires": "1611000060",
        "headers": "(created) date threebot-id",
        "signature": "HrLPtiNvvCYgksRKqossjyOj0nel8WLE4MGQSri46PQqKfgTHrWnbKeODXAmFYk2nFd7PEXshKt/P83oHsFqDA==",
    }


def test_vector_3_go_header_verifies(gateway: Identity) -> None:
    signature = signing.parse_authorization([GO_HEADER])
    assert (signature.key_id, signature.created) == (NODE, 1611000000)
    _verify(signature, gateway.public_key)


def _verify(signature: signing.HttpSignature, key: bytes, headers: Any = None) -> None:
    sent = [("Date", DATE), ("Threebot-Id", NODE), ("Host", "explorer.example"), ("X-Two", "a"), ("X-Two", " b ")]
    signing.verify_request(signature, key, method="GET", target="/x?y=1", headers=headers or sent)


@pytest.mark.parametrize("name", VECTORS)
def test_vectors_5_to_9_challenge_and_customer_signature(name: str, user: Identity) -> None:
    workload, challenge, digest, signature = VECTORS[name]
    assert signing.challenge(workload) == challenge
    assert signing.workload_message(workload).hex() == digest
    assert signing.sign_workload(workload, user).customer_signature == signature


def test_vector_8_without_epoch() -> None:
    members = {name: value for name, value in COMMON.items() if name != "epoch"}
    challenge = signing.challenge(DomainDelegate(**members, domain="alice.example"))
    assert challenge == f"1{NODE}427DOMAIN_DELEGATE-62135596800metaalice.example"


def test_challenge_of_a_type_that_gateways_do_not_serve_covers_the_common_part() -> None:
    workload = UnknownWorkload(**COMMON, workload_type=12)
    assert signing.challenge(workload) == f"1{NODE}427VIRTUAL_MACHINE1611000000meta"


@pytest.mark.parametrize(
    ("word", "epoch", "signature"),
    [
        (
            "provision",
            1611000000,
            "be459719df8f3930ec612d508f11dbfda09813959a2c8a2f359a6c41085186fe"
            "8a253c8aada2cfea7d890f3a6da708b507e1cb3c33858d85a7db7893134d5c07",
        ),
        (
            "delete",
            1611000000,
            "583cf2428e39ec69f9feb771b4b2dba28842857821d0138d083d92649d7f279b"
            "eaa441a3d8d102daae440ee19b46a379a743205735cfd49c7ab6fcb170fd6b0f",
        ),
        (
            "delete",
            1611000003,
            "fdad957dc2d6f9aa0750cb9b1c6da0c6f2353577f71d81e581a98a494ed4eb8f"
            "a1d4a1c13f551768d451d18e7f1255f663e9293a5482016cc3ec12aab5a8b90c",
        ),
    ],
)
def test_vector_10_approvals(word: str, epoch: int, signature: str, user: Identity, replace: Any) -> None:
    workload = replace(VECTORS["7-subdomain"][0], epoch=epoch)
    approval = signing.sign_approval(workload, word, 7, user)
    assert (approval.tid, approval.signature) == (7, signature)


@pytest.mark.parametrize(
    ("state", "message", "data", "signature"),
    [
        (
            ResultState.OK,
            "",
            b"null",
            "dddab7b0efa75819e0da5135940d3818864e3549f7dbcfae6748c183d6a0d8d2"
            "2d30201e96717105f1cdb5f6c738a75691d71cc0952e08f9dc35a5053ad27b0a",
        ),
        (
            ResultState.ERROR,
            "cannot add subdomain www to zone gw1.example: subdomain already reserved",
            b"null",
            "38ee27612d0a8f1fd855c0726f76da2fecd91ec2e5572b0ec369a25184d5d7c4"
            "43fef7e242620c5fd8d0ab44eae8909b0002974eac75082be36801f2659de507",
        ),
        (
            ResultState.OK,
            "",
            b'{"ips":["fdb4:ffcb:2373:7cec:98ef:5ff5:8b86:6409"],"peers":[{"public_key":'
            b'"j0DFrbaPJWJK5bIU6nZ6bslNgp09e14a0bpvPiE4KF8=","endpoint":"198.51.100.7:3443","allowed_ips":["::/0"]}]}',
            "e726d546e4b109d92d4d93d39e272bbb844a788979cfe2963368fc2c62c85546"
            "ddf672b8ab16b263142a84d348cd884d355d52cc41631b824a66f84b1b513f0c",
        ),
    ],
)
def test_vector_11_results(state: ResultState, message: str, data: bytes, signature: str, gateway: Identity) -> None:
    assert signing.sign_result(state, message, data, gateway) == signature


def test_vector_17_pool_order(user: Identity) -> None:
    text, signature = signing.sign_pool_order(PoolOrder(node_ids=(NODE,), currencies=("TFT",)), user)
    assert text == f'{{"pool_id":0,"cus":0,"sus":0,"ipv4us":0,"node_ids":["{NODE}"],"currencies":["TFT"]}}'
    assert signature == (
        "0943ccbd221d020e936fe84b40656b83f88f4a34ae5ad49c058539a073285e0b"
        "8bd745bbdb562e573976d5fca31024a5994d7d87e64df5da3beabb5219d2070d"
    )


def test_vector_17_user_update(user: Identity) -> None:
    changed = User(
        id=7, name="alice.3bot", email="alice@example.com", description="hello", pubkey=user.public_key.hex()
    )
    assert signing.user_update_message(changed).decode() == (
        f"7alice.3botalice@example.comhello{user.public_key.hex()}"
    )
    assert user.sign(signing.user_update_message(changed)).hex() == (
        "eb1c1ecd619835e4d87f05e51fec001e897b7baa2e8b0a23840dd97dcd65e881"
        "1d9daac59566418824002820ac97c629b176d57158a3adf8dc16c87734d6fa0d"
    )


@pytest.mark.parametrize("name", VECTORS)
def test_every_member_that_is_signed_changes_the_signature(name: str, replace: Any) -> None:
    workload: Workload = VECTORS[name][0]
    for member in ("node_id", "reference", "description", "metadata", *workload.signed):
        value = getattr(workload, member)
        other = {str: "other", int: 99, tuple: ("192.0.2.1",)}[type(value)]
        assert signing.workload_message(replace(workload, **{member: other})) != signing.workload_message(workload)


# Authorization


def test_only_the_last_signature_counts() -> None:
    values = [GO_HEADER.replace(NODE, "first"), GO_HEADER, "Basic abc", "signature nothing"]
    assert signing.parse_authorization(values).key_id == NODE
    with pytest.raises(ParseError, match="keyId"):
        signing.parse_authorization([*values, "Signature nothing"])


def test_of_many_signatures_one_is_parsed(monkeypatch: pytest.MonkeyPatch) -> None:
    parsed: list[int] = []

    class Counting:
        def findall(self, text: str, start: int = 0) -> list[tuple[str, str]]:
            parsed.append(len(text))
            return pattern.findall(text, start)

    pattern = signing._PARAMETER
    monkeypatch.setattr(signing, "_PARAMETER", Counting())
    hostile = "Signature " + "a" * 4000
    with pytest.raises(ParseError):
        signing.parse_authorization([hostile] * 100)
    assert parsed == [len(hostile)]
    with pytest.raises(ParseError, match="longer than 4096"):
        signing.parse_authorization([GO_HEADER, "Signature " + "a" * 4087])
    assert parsed == [len(hostile)]


@pytest.mark.parametrize(
    "more", ["x " * 2, "date", "DATE", " ".join(f"x{number}" for number in range(18))], ids=["x", "date", "case", "21"]
)
def test_items_are_few_and_different(more: str) -> None:
    """3900 times one item, with the header sent twenty times, took 2.4 GB before the signature was looked at."""
    header = GO_HEADER.replace("threebot-id", f"threebot-id {more}".rstrip())
    with pytest.raises(ParseError, match="at most 20 items, each once"):
        signing.parse_authorization([header])


def test_twenty_items_are_taken() -> None:
    header = GO_HEADER.replace("threebot-id", " ".join(["threebot-id", *(f"x{number}" for number in range(17))]))
    assert len(signing.parse_authorization([header]).items) == 20


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        (f'keyId="{NODE}",', "", "keyId"),
        ('"ed25519"', '"rsa"', "algorithm"),
        (GATEWAY_SIGNATURE, "not base64!", "signature"),
        ('headers="(created) date threebot-id",', "", r"not signed: \(created\) threebot-id"),
        ("(created) date", "date", r"not signed: \(created\)"),
        ("Signature ", "signature ", "no signature"),
    ],
)
def test_incomplete_authorization(old: str, new: str, reason: str) -> None:
    with pytest.raises(ParseError, match=reason):
        signing.parse_authorization([GO_HEADER.replace(old, new)])


def test_headers_parameter_is_lower_cased() -> None:
    header = GO_HEADER.replace("(created) date threebot-id", "(Created) Date Threebot-ID")
    assert signing.parse_authorization([header]).items == ("(created)", "date", "threebot-id")


def test_missing_created_is_the_zero_time() -> None:
    header = GO_HEADER.replace('created="1611000000",', "")
    assert signing.parse_authorization([header]).created == -62135596800


def test_further_items_are_verified_in_their_order(gateway: Identity) -> None:
    items = "x-two threebot-id (request-target) date (created) host (expires)"
    text = (
        f"x-two: a\nx-two: b\nthreebot-id: {NODE}\n(request-target): get /x?y=1\ndate: {DATE}\n"
        "(created): 1611000000\nhost: explorer.example\n(expires): -62135596800"
    )
    header = GO_HEADER.replace("(created) date threebot-id", items).replace(
        GATEWAY_SIGNATURE, base64.b64encode(gateway.sign(text.encode())).decode()
    )
    _verify(signing.parse_authorization([header]), gateway.public_key)


def test_a_signed_header_that_is_missing(gateway: Identity) -> None:
    header = GO_HEADER.replace("threebot-id", "threebot-id digest")
    with pytest.raises(CryptoError, match="'digest' is missing"):
        _verify(signing.parse_authorization([header]), gateway.public_key)


@pytest.mark.parametrize(
    "headers",
    [
        [("Date", DATE), ("Threebot-Id", "7")],
        [("Date", DATE.replace("20:", "21:")), ("Threebot-Id", NODE)],
        [("Date", DATE), ("Date", DATE), ("Threebot-Id", NODE)],
    ],
)
def test_changed_headers_do_not_verify(headers: list[tuple[str, str]], gateway: Identity) -> None:
    with pytest.raises(CryptoError, match="does not match"):
        _verify(signing.parse_authorization([GO_HEADER]), gateway.public_key, headers)


def test_another_key_does_not_verify(user: Identity) -> None:
    with pytest.raises(CryptoError, match="does not match"):
        _verify(signing.parse_authorization([GO_HEADER]), user.public_key)


_PIECES = st.sampled_from(
    ["Signature ", "keyId=", '"', ",", "=", "algorithm=", "ed25519", "created=", "expires=", "headers=", "signature=",
     "(created) date threebot-id", "date", "9" * 30, "-1", NODE, GATEWAY_SIGNATURE, "\ufffd", "\udcff", "\x00"]
)  # fmt: skip


@given(
    st.lists(st.one_of(st.text(), st.lists(_PIECES).map("".join)), max_size=3),
    st.lists(st.tuples(st.text(), st.text())),
)
def test_authorization_is_a_signature_or_an_error_and_nothing_else(
    values: list[str], headers: list[tuple[str, str]]
) -> None:
    try:
        signature = signing.parse_authorization(values)
    except ParseError:
        return
    assert set(signing.REQUIRED_ITEMS) <= set(signature.items)
    with pytest.raises(CryptoError):
        signing.verify_request(signature, bytes(32), method="GET", target="/", headers=headers)


_HOSTILE = st.lists(
    st.one_of(
        st.tuples(_PIECES, st.integers(1, 3000)).map(lambda piece: piece[0] * piece[1]),
        st.tuples(st.text(), st.integers(1, 300)).map(lambda piece: piece[0] * piece[1]),
    ),
    max_size=8,
).map("".join)


@given(st.lists(st.tuples(st.booleans(), _HOSTILE), max_size=5))
def test_hostile_authorization_is_bounded_before_anything_is_joined(parts: list[tuple[bool, str]]) -> None:
    values = [f"Signature {text}" if prefixed else text for prefixed, text in parts]
    last = next((value for value in reversed(values) if value.startswith("Signature ")), "")
    try:
        signature = signing.parse_authorization(values)
    except ParseError:
        return
    assert len(last) <= 4096
    assert len(signature.items) == len(set(signature.items)) <= 20
    assert sum(map(len, signature.items)) <= len(last)
    assert signature == signing.parse_authorization([last])


@given(_HOSTILE)
def test_parameters_are_what_the_old_pattern_found(text: str) -> None:
    """The old one took quadratic time, the new one must find the same."""
    text = text[:1000]
    assert signing._PARAMETER.findall(text) == re.findall(r'([A-Za-z]+)="([^"]*)"', text)


@given(st.data())
def test_any_change_of_a_valid_header_is_refused_or_means_the_same(data: st.DataObject) -> None:
    position = data.draw(st.integers(0, len(GO_HEADER) - 1))
    changed = GO_HEADER[:position] + data.draw(st.characters()) + GO_HEADER[position + 1 :]
    key = Identity.from_seed(bytes(range(32))).public_key
    original = signing.parse_authorization([GO_HEADER])
    try:
        signature = signing.parse_authorization([changed])
        _verify(signature, key)
    except (ParseError, CryptoError):
        return
    assert (signature.items, signature.created) == (original.items, original.created)
    assert signature.signature == original.signature


@given(st.text())
def test_hex_signatures_are_checked_or_refused(text: str) -> None:
    with pytest.raises(CryptoError):
        signing.verify_hex(bytes(32), b"message", text)


def test_c6_the_newer_purpose_has_a_beginning_of_its_own(gateway: Identity) -> None:
    """What is hashed is 32 bytes, what is not begins with digits, a name, a state or a JSON object."""
    message = signing.key_proof_message(User(name="alice", email="a@example.com", pubkey="00" * 32))
    assert message.startswith(b'["tfgateway key_proof",')
    assert len(message) != 32
    others = [signing.user_update_message(User(id=7, name="alice")), b"\x00message", b"\x01null", b'{"pool_id":0}']
    assert not any(other.startswith(message[:2]) for other in others)
