"""Visitors and tunnel clients who come over IPv6."""

from __future__ import annotations

import subprocess
from typing import Any

from tests.integration.proxy.conftest import Services
from tests.support.processes import CommandLine

SECRET = "7:s3cr3t-tunnel-key"


def curl(port: int, url: str, *options: str) -> str:
    command = ["curl", "-sS", "--noproxy", "*", "--max-time", "30", "--connect-to", f"::[::1]:{port}", *options, url]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def test_all_listeners(
    configuration: Any, services: Services, serving: Any, web_server: Any, certificate: Any, tfgateway: CommandLine
) -> None:
    services.put("web.example", secret=SECRET)
    text, ports = configuration()
    for name in ("http", "tls", "tunnels"):
        text = text.replace(f"127.0.0.1:{ports[name]}", f"[::1]:{ports[name]}")
    tested = tfgateway("proxy", config=text)
    plain = f"--local=127.0.0.1:{serving(web_server, 'plain').port}"
    secure = f"--local-tls=127.0.0.1:{serving(web_server, 'secure', certificate.context()).port}"
    remote = f"--remote=[::1]:{ports['tunnels']}"
    client = tfgateway("tunnel", remote, f"--secret={SECRET}", plain, secure, config="")
    assert "STATUS=connected to 1 of 1" in client.notifications
    assert curl(ports["http"], "http://web.example/") == "page of plain"
    assert curl(ports["tls"], "https://web.example/", "--cacert", str(certificate.path)) == "page of secure"
    options = ["-connect", f"[::1]:{ports['tls']}", "-servername", "web.example", "-CAfile", str(certificate.path)]
    done = subprocess.run(["openssl", "s_client", *options], stdin=subprocess.DEVNULL, capture_output=True, check=True)
    assert b"Verify return code: 0 (ok)" in done.stdout
    tested.wait_for(lambda: tested.log.count('"source": "::1"') == 4, "a client and three visitors in the log")
