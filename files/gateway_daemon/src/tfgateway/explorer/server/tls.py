"""The explorer's own TLS."""

from __future__ import annotations

import ssl
from pathlib import Path

from tfgateway.errors import ConfigError
from tfgateway.telemetry.logs import logger

_log = logger("explorer")


class Certificate:
    """A certificate (with its chain) and its key, PEM files; ``context`` serves them. Errors: ``ConfigError``."""

    def __init__(self, certificate: Path, key: Path) -> None:
        self._files = (certificate, key)
        self.context = self._loaded()

    def reload(self) -> None:
        """Serve what the files hold now; connections stay open, and an invalid new pair leaves the old one in use."""
        try:
            self._loaded()
            self.context.load_cert_chain(*self._files)
        except (ConfigError, OSError) as error:
            _log.error("certificate not renewed, the old one is served", reason=str(error))
        else:
            _log.info("certificate loaded")

    def _loaded(self) -> ssl.SSLContext:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        certificate, key = self._files
        try:
            # A service cannot ask for a password.
            context.load_cert_chain(certificate, key, password="")
        except OSError as error:  # SSLError is one
            raise ConfigError(f"TLS certificate {certificate} with key {key}: {error}") from error
        return context
