"""The real load generator beside what a test does: at its end everything was answered."""

from __future__ import annotations

import re
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import dns.exception
import dns.message
import dns.query

ANSWERED = 10
"""Seconds after which dnsperf takes a query for lost."""


@contextmanager
def dnsperf(node: Any, directory: Path, mode: str) -> Iterator[None]:
    """The real load generator beside the block; at its end everything was answered, with NOERROR."""
    (directory / "queries").write_text("www.gw1.example A\nwww.gw1.example AAAA\n")
    command = ["dnsperf", "-s", "127.0.0.1", "-p", str(node.port), "-d", str(directory / "queries"), "-m", mode]
    command += ["-c", "16", "-Q", "400", "-l", "300", "-t", str(ANSWERED)]
    load = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    time.sleep(0.5)
    yield
    time.sleep(ANSWERED + 0.5)  # what is unanswered until then counts as lost
    load.send_signal(signal.SIGINT)
    said, _ = load.communicate(timeout=60)
    completed = re.search(r"Queries completed:\s+(\d+)", said)
    lost = re.search(r"Queries lost:\s+(\d+)", said)
    assert completed and lost, said
    assert int(completed[1]) > 100, said
    assert int(lost[1]) == 0, said
    assert re.search(r"Response codes:\s+NOERROR \d+ \(100.00%\)", said), said


@contextmanager
def connections(node: Any) -> Iterator[None]:
    """A TCP connection for each query, one after the other, beside the block; none is refused, cut or unanswered."""
    query = dns.message.make_query("www.gw1.example", "A")
    ended, failures, answered = threading.Event(), [], 0

    def ask() -> None:
        nonlocal answered
        while not ended.is_set():
            try:
                reply = dns.query.tcp(query, "127.0.0.1", ANSWERED, node.port)
                assert reply.answer, reply
                answered += 1
            except (OSError, EOFError, dns.exception.DNSException, AssertionError) as error:
                failures.append(repr(error))
            time.sleep(0.005)

    client = threading.Thread(target=ask, daemon=True)
    client.start()
    yield
    ended.set()
    client.join(ANSWERED + 5)
    assert not failures
    assert answered > 50
