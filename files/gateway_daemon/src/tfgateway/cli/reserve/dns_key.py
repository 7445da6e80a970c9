"""``tfgateway reserve dns-key``: the TSIG key for DNS updates, and configurations of clients that have it."""

from __future__ import annotations

import base64
import socket
from collections.abc import Callable
from dataclasses import dataclass

import click

from tfgateway.cli.reserve.target import ReserveOptions, as_json_option, show
from tfgateway.errors import ConfigError
from tfgateway.explorer import user
from tfgateway.net.addresses import endpoint

_PORT = 53
_LETS_ENCRYPT = "https://acme-v02.api.letsencrypt.org/directory"


@dataclass(frozen=True, slots=True)
class UpdateKey:
    """A user's key at a gateway, and where the gateway takes updates."""

    name: str
    """Absolute domain name."""
    secret: str
    """Base64."""
    host: str
    port: int

    @property
    def address(self) -> str:
        """HOST:PORT, IPv6 in brackets."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def _nsupdate(key: UpdateKey) -> str:
    return f"""# nsupdate -k FILE, with "server {key.host} {key.port}" as the first line of its input
key "{key.name}" {{
  algorithm hmac-sha256;
  secret "{key.secret}";
}};"""


def _certbot(key: UpdateKey) -> str:
    return f"""# certbot certonly --dns-rfc2136 --dns-rfc2136-credentials FILE -d ...
dns_rfc2136_server = {_address_of(key.host)}
dns_rfc2136_port = {key.port}
dns_rfc2136_name = {key.name}
dns_rfc2136_secret = {key.secret}
dns_rfc2136_algorithm = HMAC-SHA256"""


def _lego(key: UpdateKey) -> str:
    return f"""# . FILE; lego --dns rfc2136 ...
export RFC2136_NAMESERVER={key.address}
export RFC2136_TSIG_ALGORITHM=hmac-sha256.
export RFC2136_TSIG_KEY={key.name}
export RFC2136_TSIG_SECRET={key.secret}"""


def _acme_sh(key: UpdateKey) -> str:
    return f"""# . FILE; acme.sh --issue --dns dns_nsupdate -d ...
export NSUPDATE_SERVER={key.host}
export NSUPDATE_SERVER_PORT={key.port}
export NSUPDATE_KEY="$HOME/.tfgateway-tsig.key"
(umask 077; cat > "$NSUPDATE_KEY") <<'END'
key "{key.name}" {{ algorithm hmac-sha256; secret "{key.secret}"; }};
END"""


def _cert_manager(key: UpdateKey) -> str:
    return f"""# kubectl apply -f FILE
apiVersion: v1
kind: Secret
metadata: {{name: tfgateway-tsig, namespace: cert-manager}}
stringData: {{secret: "{key.secret}"}}
---
apiVersion: cert-manager.io/v1
kind: ClusterIssuer
metadata: {{name: tfgateway}}
spec:
  acme:
    server: {_LETS_ENCRYPT}
    privateKeySecretRef: {{name: tfgateway-account}}
    solvers:
      - dns01:
          rfc2136:
            nameserver: "{key.address}"
            tsigKeyName: "{key.name}"
            tsigAlgorithm: HMACSHA256
            tsigSecretSecretRef: {{name: tfgateway-tsig, key: secret}}"""


def _external_dns(key: UpdateKey) -> str:
    return f"""--provider=rfc2136
--rfc2136-host={key.host}
--rfc2136-port={key.port}
--rfc2136-tsig-axfr
--rfc2136-tsig-keyname={key.name.rstrip(".")}
--rfc2136-tsig-secret={key.secret}
--rfc2136-tsig-secret-alg=hmac-sha256"""


def _octodns(key: UpdateKey) -> str:
    return f"""providers:
  tfgateway:
    class: octodns_bind.Rfc2136Provider
    host: "{_address_of(key.host)}"
    port: {key.port}
    key_name: "{key.name}"
    key_secret: "{key.secret}"
    key_algorithm: hmac-sha256"""


_CLIENTS: dict[str, Callable[[UpdateKey], str]] = {
    "certbot": _certbot,
    "lego": _lego,
    "acme.sh": _acme_sh,
    "nsupdate": _nsupdate,
    "cert-manager": _cert_manager,
    "external-dns": _external_dns,
    "octodns": _octodns,
}

server_option = click.option(
    "--server",
    metavar="HOST[:PORT]",
    help="Where the gateway answers DNS [default: the first of its name servers that the explorer knows, port 53].",
)


@click.command("dns-key")
@click.option("--node", "node_id", required=True, metavar="ID", help="The gateway.")
@click.option("--for", "client", type=click.Choice(list(_CLIENTS)), help="Print the configuration of this client.")
@server_option
@as_json_option
@click.pass_obj
def dns_key(target: ReserveOptions, node_id: str, client: str | None, server: str | None, *, as_json: bool) -> None:
    """Print the TSIG key that signs your DNS updates for a gateway. Its secret is to be kept like a password.

    It is made of your key and the gateway's alone, and is good for the names that you hold there.
    """
    name, secret = user.dns_key(target.account(), node_id)
    text = base64.b64encode(secret).decode("ascii")
    data: dict[str, object] = {"name": name, "algorithm": "hmac-sha256", "secret": text}
    if client is None:
        show(as_json, data, f"{name} hmac-sha256 {text}")
        return
    key = UpdateKey(name, text, *server_of(target, node_id, server))
    configuration = _CLIENTS[client](key)
    show(as_json, {**data, "server": key.address, "configuration": configuration}, configuration)


def server_of(target: ReserveOptions, node_id: str, given: str | None) -> tuple[str, int]:
    """Host and port that take updates. Errors: ``ConfigError``, ``ExplorerError``."""
    if given is not None:
        try:
            return endpoint(given) if _has_port(given) else (given.strip("[]"), _PORT)
        except ValueError as error:
            raise ConfigError(f"--server: {error}") from error
    servers = target.run(lambda explorer: explorer.gateway(node_id)).dns_nameserver
    if not servers:
        raise ConfigError("the explorer knows no name server of this gateway: name it with --server")
    return servers[0].rstrip("."), _PORT


def _has_port(text: str) -> bool:
    return text.count(":") == 1 or "]:" in text


def _address_of(host: str) -> str:
    """An address of a host, for clients that take no name. Errors: ``ConfigError``."""
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_DGRAM)
    except OSError as error:
        raise ConfigError(f"'{host}' has no address ({error.strerror}): name one with --server") from error
    return str(found[0][4][0])
