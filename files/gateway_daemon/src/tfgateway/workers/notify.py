"""The service manager's notification protocol (sd_notify(3)): one datagram an assignment."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping

from tfgateway.telemetry.logs import logger

_log = logger("workers")


class Notifier:
    """Reports the state of the process to systemd. Without NOTIFY_SOCKET every call is a no-op; none ever raises."""

    def __init__(self, environ: Mapping[str, str] = os.environ) -> None:
        path = environ.get("NOTIFY_SOCKET", "")
        # "@name" is the abstract namespace; a kernel name begins with a zero byte there.
        self._address = "\0" + path[1:] if path.startswith("@") else path

    def send(self, assignment: str) -> None:
        """Send one ``KEY=value``; control characters become spaces, since a line feed would start another key."""
        if not self._address:
            return
        message = "".join(c if c.isprintable() else " " for c in assignment)
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as link:
                link.setblocking(False)
                link.sendto(message.encode(), self._address)
        except OSError as error:
            # A service manager that is busy or gone must not stop the service.
            _log.warning("service manager not notified", assignment=message, reason=str(error))


def watchdog_interval(environ: Mapping[str, str] = os.environ) -> float | None:
    """Seconds between two pings: half of WATCHDOG_USEC; None when no watchdog waits for this process."""
    try:
        microseconds = int(environ.get("WATCHDOG_USEC", ""))
        process = int(environ.get("WATCHDOG_PID") or os.getpid())
    except ValueError:
        return None
    if microseconds <= 0 or process != os.getpid():
        return None
    return microseconds / 2_000_000
