"""The users of redis as role tfredis writes them, for a redis-server of a test."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import yaml
from jinja2 import Environment, StrictUndefined
from jinja2.nativetypes import NativeEnvironment

ROLE = Path(__file__).parents[2] / "roles" / "tfredis"
_VARIABLES = ("_tfredis_dns_settings", "_tfredis_zones", "_tfredis_follow", "_tfredis_pushes", "_tfredis_users")


def password(secret: str) -> str:
    """The password in ``<secret>.secret``."""
    return f"the-password-of-{secret}"


def users() -> list[dict[str, Any]]:
    """name, secret, rows, channels, commands of each, but for ``health``, which may only ask for an answer."""
    raw = yaml.safe_load((ROLE / "vars" / "main.yml").read_text())
    known: dict[str, Any] = {}
    for name in _VARIABLES:
        known[name] = _resolved(raw[name], known)
    found: list[dict[str, Any]] = known["_tfredis_users"]
    return found


def write(directory: Path, *, channels: bool = True) -> Path:
    """users.conf in this directory. channels: as for redis 6.2 and newer."""
    path = directory / "users.conf"
    path.write_text(render("users.conf.j2", _tfredis_knows_channels=channels, tfredis_group=""))
    return path


def render(template: str, **variables: object) -> str:
    """A template of the role, for these users and the passwords above."""
    environment = Environment(undefined=StrictUndefined, keep_trailing_newline=True, trim_blocks=True)
    environment.filters["bool"] = bool
    secrets = {*(user["secret"] for user in users()), "replica", "sentinel"}
    digests = {secret: hashlib.sha256(password(secret).encode()).hexdigest() for secret in secrets}
    text: str = environment.from_string((ROLE / "templates" / template).read_text()).render(
        ansible_managed="of a test", _tfredis_users=users(), _tfredis_digests=digests, **variables
    )
    return text


def write_secret(directory: Path, secret: str) -> Path:
    """A directory with this one password, as a unit sees it."""
    own = directory / secret
    own.mkdir(exist_ok=True)
    (own / f"{secret}.secret").write_text(password(secret))
    return own


def _resolved(value: Any, known: dict[str, Any]) -> Any:
    if isinstance(value, dict):
        return {name: _resolved(one, known) for name, one in value.items()}
    if isinstance(value, list):
        return [_resolved(one, known) for one in value]
    if isinstance(value, str) and "{{" in value:
        return NativeEnvironment().from_string(value).render(**known)
    return value
