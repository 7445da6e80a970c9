"""Keys for a purpose, against another implementation of HKDF and of certificates."""

from __future__ import annotations

import ssl
from pathlib import Path

import pytest
from click.testing import CliRunner
from cryptography import x509
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from hypothesis import given
from hypothesis import strategies as st
from tfgateway.cli.main import main
from tfgateway.identity import seedfile
from tfgateway.identity.derived import derive, group_certificate

SEED = bytes(range(32))


@pytest.mark.parametrize(
    ("purpose", "key"),
    [
        ("dns cookies", "a8793037f09ad70040527776228cc31cc6435566fc9665c727f872ddbb4fa0b7"),
        ("redis password of reconciler", "c55824ddb99c336c01e3c4a0e78a8e31628190be479e1a0c8d3111d1495e58f3"),
    ],
)
def test_vectors(purpose: str, key: str) -> None:
    assert derive(SEED, purpose).hex() == key


@given(st.binary(min_size=32, max_size=32), st.text(max_size=60))
def test_it_is_hkdf(seed: bytes, purpose: str) -> None:
    other = HKDF(SHA256(), 32, b"tfgateway", purpose.encode()).derive(seed)
    assert derive(seed, purpose) == other


@given(st.binary(min_size=32, max_size=32))
def test_the_certificate_is_of_its_key_and_always_the_same(seed: bytes) -> None:
    text = group_certificate(seed).encode()
    certificate, key = x509.load_pem_x509_certificate(text), load_pem_private_key(text, None)
    assert certificate.public_key() == key.public_key()
    certificate.verify_directly_issued_by(certificate)
    assert certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    assert group_certificate(seed).encode() == text


def test_openssl_trusts_it_and_no_other(tmp_path: Path) -> None:
    own, other = tmp_path / "own.pem", tmp_path / "other.pem"
    own.write_text(group_certificate(SEED))
    other.write_text(group_certificate(bytes(32)))

    def handshake(presented: Path, trusted: Path) -> None:
        """Both sides of one, in memory."""
        sides = []
        there, back = ssl.MemoryBIO(), ssl.MemoryBIO()
        for role, file in ((ssl.PROTOCOL_TLS_SERVER, presented), (ssl.PROTOCOL_TLS_CLIENT, trusted)):
            context = ssl.SSLContext(role)
            context.check_hostname = False
            context.verify_mode = ssl.CERT_REQUIRED
            context.load_cert_chain(file)
            context.load_verify_locations(file)
            server = role is ssl.PROTOCOL_TLS_SERVER
            ways = (there, back) if server else (back, there)
            sides.append(context.wrap_bio(*ways, server_side=server))
        done: set[ssl.SSLObject] = set()
        while len(done) < len(sides):
            for side in sides:
                try:
                    side.do_handshake()
                    done.add(side)
                except ssl.SSLWantReadError:
                    pass

    handshake(own, own)
    with pytest.raises(ssl.SSLError):
        handshake(other, own)


def test_the_commands_print_them(tmp_path: Path) -> None:
    file = tmp_path / "seed"
    seedfile.create(file, SEED)
    for arguments, text in (
        (["derive", "dns cookies"], derive(SEED, "dns cookies").hex() + "\n"),
        (["certificate"], group_certificate(SEED)),
    ):
        done = CliRunner().invoke(main, ["identity", *arguments, "--seed", str(file)])
        assert (done.exit_code, done.output) == (0, text)
