"""A reload in which one step goes wrong: carried out, and what has to be true afterwards."""

from __future__ import annotations

import itertools
import json
import resource
import shutil
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import dns.message

from tests.support import failing, procfs, waiting
from tests.support.faults import Fault

LIMIT = 120.0
"""Seconds after which something that does not happen is a failure."""
HOOK = """
sys.path.insert(0, "{here}")
import failing
from pathlib import Path
failing.begin(Path("{directory}"))
"""

_QUIET = 2.0
"""Seconds for which a worker that drains waits for a query over TCP: see ``tfgateway.dns.server.tcp``."""
_MAY_LOSE = {"the oldest worker is killed", "the youngest worker is killed"}
"""What a killed worker had read is not answered; it is one exchange at most that was under way."""


class Asker(threading.Thread):
    """Asks without pause, one query at a time, and never twice: each is answered."""

    def __init__(self, port: int) -> None:
        super().__init__(daemon=True)
        self.answered = 0
        self.lost: list[str] = []
        self._address = ("127.0.0.1", port)
        self._done = threading.Event()

    def run(self) -> None:
        while not self._done.wait(0.05):
            try:
                self._ask()
                self.answered += 1
            except (OSError, AssertionError, IndexError) as error:
                self.lost.append(repr(error))

    def _ask(self) -> None:
        query = dns.message.make_query("www.gw1.example", "A").to_wire()
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
            udp.settimeout(LIMIT)
            udp.connect(self._address)
            udp.send(query)
            assert udp.recv(512)[3] & 15 == 0
        while not self._answered_over_tcp(len(query).to_bytes(2) + query):
            pass

    def _answered_over_tcp(self, query: bytes) -> bool:
        """False: the connection was idle for so long that a worker that drains may end it (RFC 7766, 6.2.3)."""
        with socket.socket() as tcp:
            tcp.settimeout(LIMIT)
            began = time.monotonic()
            tcp.connect(self._address)
            tcp.sendall(query)
            idle = time.monotonic() - began
            try:
                assert tcp.recv(512)[5] & 15 == 0
            except (OSError, IndexError):
                if idle < _QUIET:
                    raise
                return False
        return True

    def stop(self) -> None:
        self._done.set()
        self.join()


class Rig:
    """One node with a query under way all the time, and the record of its reloads."""

    def __init__(self, node: Any, *, workers: int) -> None:
        self.node = node
        node.hook = HOOK.format(here=Path(failing.__file__).parent, directory=node.directory)
        node.configure(workers=workers)
        for name in ("one", "two"):
            self._release(name)
        self.process = node.start()
        self.asker = Asker(node.port)
        self.asker.start()
        self.outcomes: Counter[str] = Counter()

    def steps(self) -> list[str]:
        """Of a reload in which nothing goes wrong."""
        record = self.node.directory / "steps"
        self.node.switch("two")
        self.node.reloaded()
        self._settled()
        return record.read_text().splitlines()

    def try_out(self, fault: Fault) -> None:
        """A reload with the fault: one generation serves with its metrics page, and what is said is true."""
        self._release("two")
        self.node.switch("two")
        configuration = self.node.config.read_text()

        def ask() -> tuple[str, str]:
            (self.node.directory / "order").write_text(json.dumps({"step": fault.step, "with": fault.what}))
            answer = self._ask_reload()
            assert (self.node.directory / "carried-out").exists(), f"{fault}: not reached\n{self.process.log[-8000:]}"
            (self.node.directory / "carried-out").unlink()
            self.node.config.write_text(configuration)
            self._release("two")
            return answer

        self._check(str(fault), ask, may_lose=fault.what in _MAY_LOSE)

    def run_out_of_descriptors(self) -> int:
        """Reloads with fewer descriptors than needed, one more each time; how many it takes for one to be done."""
        self.node.switch("two")
        pid = self.process.pid
        limits = resource.prlimit(pid, resource.RLIMIT_NOFILE)
        for left in itertools.count():

            def ask(left: int = left) -> tuple[str, str]:
                with socket.socket(socket.AF_UNIX) as caller:
                    self._connect(caller)
                    taken = {int(path.name) for path in Path(f"/proc/{pid}/fd").iterdir()}
                    free = (number for number in itertools.count() if number not in taken)
                    limit = next(itertools.islice(free, left + 1, None))  # one is for the caller
                    resource.prlimit(pid, resource.RLIMIT_NOFILE, (limit, limits[1]))
                    try:
                        return self._question(caller)
                    finally:
                        resource.prlimit(pid, resource.RLIMIT_NOFILE, limits)

            if self._check(f"{left} descriptors left", ask) == "done":
                return left
        raise AssertionError

    def _check(self, what: str, ask: Callable[[], tuple[str, str]], *, may_lose: bool = False) -> str:
        """Whether all is true that a reload shows and says; how it ended."""
        process = self.process
        before, descriptors, lost = self._settled(), len(procfs.descriptors(process.pid)), len(self.asker.lost)
        verdict, text = ask()
        after = self._settled()
        context = f"{what}\n{verdict} {text}\n{process.status}\n{process.log[-8000:]}"
        assert verdict in ("done", "failed"), context
        failed = verdict == "failed"
        assert after["failed"] - before["failed"] == failed, context
        assert after["done"] - before["done"] == (not failed), context
        assert after["generation"] - before["generation"] == (not failed), context
        remark = text.partition("; ")[2]
        if failed:
            assert f"reload failed: {text}" in process.status, context
        else:
            assert f"generation {after['generation']:.0f}: {after['workers']:.0f} workers of two" in text, context
            assert "failed" not in process.status, context
            assert remark in process.status, context
            assert bool(remark) == ("the supervisor is" in process.status), context
        assert len(self.asker.lost) - lost <= may_lose, f"{self.asker.lost}\n{context}"
        waiting.until(lambda: len(procfs.descriptors(process.pid)) <= descriptors, f"descriptors: {context}", LIMIT)
        assert {path.name for path in self.node.directory.joinpath("run").iterdir()} == {"control"}, context
        outcome = "failed" if failed else "done, supervisor kept" if remark else "done"
        self.outcomes[outcome] += 1
        return outcome

    def end(self) -> None:
        """After a last reload that goes well."""
        self.node.switch("one")
        assert "; " not in self.node.reloaded()
        self._settled()
        self.asker.stop()
        assert self.asker.answered > 10
        unexpected = [line for line in self.process.log.splitlines() if "Traceback" in line]
        assert all("can't start new thread" in line for line in unexpected), unexpected
        assert self.process.stop() == 0

    def _release(self, name: str) -> None:
        directory = self.node.directory / "releases" / name
        if name == "one" or not (directory / "bin" / "python").is_symlink():
            shutil.rmtree(directory, ignore_errors=True)
            self.node.release(name)

    def _ask_reload(self) -> tuple[str, str]:
        """As the command `reload` does, without another interpreter."""
        with socket.socket(socket.AF_UNIX) as caller:
            self._connect(caller)
            return self._question(caller)

    def _connect(self, caller: socket.socket) -> None:
        caller.settimeout(LIMIT)
        caller.connect(str(self.node.directory / "run" / "control"))

    def _question(self, caller: socket.socket) -> tuple[str, str]:
        caller.sendall(b"reload\n")
        verdict, _, text = caller.makefile().read().strip().partition(" ")
        return verdict, text

    def _settled(self) -> dict[str, float]:
        """Figures when nobody starts or ends any more, and no reload is under way."""

        def look() -> dict[str, float] | None:
            if "reloading" in self.process.status or "finishing" in self.process.status:
                return None  # without making the page, which takes the processes' time
            shown = self.node.figures()
            page = {name: shown[f'tfgateway_{key}{{{labels}plane="dns"}}'] for name, key, labels in _PAGE}
            quiet = page["serving"] == page["workers"] == len(self.process.workers) and not page["draining"]
            return page if quiet else None

        return waiting.until(look, f"{self.process.status}\n{self.process.log}", LIMIT)


class Rigs:
    """Several nodes that try out at the same time."""

    def __init__(self, rigs: list[Rig]) -> None:
        self._rigs = rigs

    def steps(self) -> list[str]:
        """Of a reload in which nothing goes wrong."""
        return self._rigs[0].steps()

    def run_out_of_descriptors(self) -> int:
        """See ``Rig``."""
        return self._rigs[0].run_out_of_descriptors()

    def try_out(self, chosen: list[Fault]) -> Counter[str]:
        """Each, by whichever node is free; how often a reload ended how. All that is not as it should be is shown."""
        waiting, wrong = list(reversed(chosen)), []

        def work(rig: Rig) -> None:
            while waiting:
                fault = waiting.pop()
                try:
                    rig.try_out(fault)
                except (AssertionError, OSError) as error:
                    wrong.append(f"{fault}: {error}")
            try:
                rig.end()
            except (AssertionError, OSError) as error:
                wrong.append(f"afterwards: {error}")

        with ThreadPoolExecutor(len(self._rigs)) as pool:
            for done in [pool.submit(work, rig) for rig in self._rigs]:
                done.result()
        assert not wrong, "\n\n".join(wrong)
        return sum((rig.outcomes for rig in self._rigs), Counter())


_PAGE = (
    ("serving", "workers_serving", ""),
    ("workers", "workers", ""),
    ("draining", "workers_draining", ""),
    ("generation", "generation", ""),
    ("done", "reloads_total", 'outcome="done",'),
    ("failed", "reloads_total", 'outcome="failed",'),
)
