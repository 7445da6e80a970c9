"""What a person sees while a fleet is made: one line a step with its time, and the newest detail while it runs."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.status import Status


class Step:
    """A step that is running: ``live`` shows what it does now, ``note`` what stands behind its title at the end."""

    def __init__(self, title: str, log: Path, status: Status | None) -> None:
        self.title = title
        self.log = log
        self.detail = ""
        self._status = status

    def live(self, text: str) -> None:
        """Replace the line behind the spinner; without a terminal nothing is shown."""
        if self._status is not None:
            self._status.update(_running(self.title, text))

    def note(self, text: str) -> None:
        """What to say behind the title when the step is done."""
        self.detail = text


class Progress:
    """Prints steps. ``logs``: directory of the steps' logs, one file a step that has output."""

    def __init__(self, console: Console, logs: Path) -> None:
        self.console = console
        self._logs = logs
        self._started = time.monotonic()

    @property
    def seconds(self) -> float:
        """Since the first step."""
        return time.monotonic() - self._started

    @contextmanager
    def step(self, title: str, log: str = "steps") -> Iterator[Step]:
        """A step; the line is printed when the block ends, with a cross when it raised."""
        self._logs.mkdir(parents=True, exist_ok=True)
        started = time.monotonic()
        status = self.console.status(_running(title, ""), spinner="dots") if self.console.is_terminal else None
        step = Step(title, self._logs / f"{log}.log", status)
        if status is None:
            self.console.print(f"  [dim]...[/] {escape(title)}", soft_wrap=True)
        else:
            status.start()
        mark = "[red]✗[/]"
        try:
            yield step
            mark = "[green]✓[/]"
        finally:
            if status is not None:
                status.stop()
            detail = f" [dim]{escape(step.detail)}[/]" if step.detail else ""
            taken = time.monotonic() - started
            self.console.print(f"  {mark} {escape(title)}{detail} [dim]{taken:.1f} s[/]", soft_wrap=True)


def _running(title: str, text: str) -> str:
    return f"{escape(title)} [dim]{escape(text[:100])}[/]"
