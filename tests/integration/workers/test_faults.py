"""Workers that die, hang and cannot start; the others serve on."""

from __future__ import annotations

import os
import signal
import socket
import time
from typing import Any

import dns.query
import pytest

from tests.support import procfs

from .conftest import DnsNode


def serving(node: Any) -> float:
    return node.figures()['tfgateway_workers_serving{plane="dns"}']


def all_are_answered(node: DnsNode, count: int) -> None:
    """Ask so many times, each from a socket of its own, and wait for all answers."""
    clients = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(count)]
    for client in clients:
        client.settimeout(60)
        client.connect(("127.0.0.1", node.port))
        client.send(node.query().to_wire())
    for client in clients:
        assert client.recv(512)[3] & 15 == 0
        client.close()


def test_killed_workers_are_replaced_and_what_was_asked_meanwhile_is_answered(dns_node: DnsNode) -> None:
    """The supervisor keeps the sockets: queries wait in them, nobody is refused. Counts do not go backwards."""
    dns_node.start()
    for _ in range(20):
        assert dns_node.answers()
    before = dns_node.asked()
    assert before >= 20
    old = dns_node.process.workers
    assert len(old) == 2
    for pid in old:
        os.kill(pid, signal.SIGKILL)
    all_are_answered(dns_node, 20)
    dns_node.wait_for(lambda: serving(dns_node) == 2, "two workers again")
    assert not set(dns_node.process.workers) & set(old)
    assert dns_node.asked() == before + 20
    assert dns_node.figures()['tfgateway_worker_restarts_total{plane="dns",reason="end"}'] == 2
    assert dns_node.process.stop() == 0


def test_a_worker_that_hangs_is_replaced(dns_node: DnsNode) -> None:
    dns_node.configure(hang_timeout=3)
    dns_node.start()
    victim = dns_node.process.workers[0]
    os.kill(victim, signal.SIGSTOP)
    dns_node.wait_for(lambda: victim not in dns_node.process.workers, "end of the one that hangs")
    dns_node.wait_for(lambda: serving(dns_node) == 2, "two workers again")
    assert dns_node.figures()['tfgateway_worker_restarts_total{plane="dns",reason="hang"}'] == 1
    assert "it hangs" in dns_node.process.log


def test_workers_are_not_blamed_for_a_supervisor_that_did_not_run(dns_node: DnsNode) -> None:
    """As after a pause of the whole machine: no sign of life was read for longer than a worker may be silent."""
    dns_node.configure(hang_timeout=3)
    process = dns_node.start()
    workers = process.workers
    process.send_signal(signal.SIGSTOP)
    assert all(dns_node.answers() for _ in range(20))
    time.sleep(5)
    process.send_signal(signal.SIGCONT)
    dns_node.wait_for(lambda: "supervisor did not run" in process.log, "word of it")
    assert not [name for name in dns_node.figures() if name.startswith("tfgateway_worker_restarts_total")]
    assert process.workers == workers


@pytest.mark.parametrize("how", ["stopped", "killed"])
def test_another_worker_reads_the_sockets_of_one_that_is_silent_or_gone(dns_node: DnsNode, how: str) -> None:
    """Long before it is replaced: here it is not at all, and each query has the same chance to be in its sockets."""
    dns_node.configure(hang_timeout=600)
    dns_node.start()
    victim = dns_node.process.workers[0]
    if how == "killed":
        dns_node.crash.touch()  # nor is its successor of any use
    os.kill(victim, signal.SIGSTOP if how == "stopped" else signal.SIGKILL)
    all_are_answered(dns_node, 30)
    for _ in range(10):
        assert dns.query.tcp(dns_node.query(), "127.0.0.1", timeout=60, port=dns_node.port).answer
    if how == "stopped":
        assert victim in dns_node.process.workers
        os.kill(victim, signal.SIGCONT)
    dns_node.crash.unlink(missing_ok=True)
    dns_node.wait_for(lambda: serving(dns_node) == 2, "two workers again")
    dns_node.reloaded()
    assert dns_node.answers()
    assert dns_node.process.stop() == 0


def test_a_crash_loop_is_told_and_leaves_the_others_alone(dns_node: DnsNode) -> None:
    dns_node.start()
    victim, other = dns_node.process.workers
    dns_node.crash.touch()
    os.kill(victim, signal.SIGKILL)
    dns_node.wait_for(lambda: "ends again and again" in dns_node.process.status, "word of it")
    assert serving(dns_node) == 1
    assert other in dns_node.process.workers
    assert "exit code 7" in dns_node.process.log
    dns_node.crash.unlink()
    dns_node.wait_for(lambda: serving(dns_node) == 2, "recovery")
    assert other in dns_node.process.workers
    dns_node.wait_for(dns_node.answers, "answers")


def test_a_supervisor_that_is_killed_takes_its_workers_with_it(dns_node: DnsNode) -> None:
    """Whoever starts next finds the ports free."""
    process = dns_node.start()
    workers = {pid: started(pid) for pid in process.workers}
    assert None not in workers.values()
    process.kill()
    dns_node.wait_for(lambda: all(started(pid) != at for pid, at in workers.items()), "their end")
    dns_node.start()
    assert dns_node.answers()


def started(pid: int) -> str | None:
    """When this process started, in ticks since boot; numbers are used again. None: there is none, or it has ended."""
    try:
        fields = procfs.fields(pid)
    except OSError:
        return None
    return None if fields[0] == "Z" else fields[19]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_says_when_it_is_ready_and_when_it_stops(dns_node: DnsNode, number: signal.Signals) -> None:
    process = dns_node.start()
    assert process.notifications.index("READY=1") > 0
    assert serving(dns_node) == 2
    process.send_signal(number)
    assert process.wait() == 0
    assert "STOPPING=1" in process.notifications
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", dns_node.port))
