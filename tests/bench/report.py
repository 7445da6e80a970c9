"""Figures as a table for people and as JSON for machines."""

from __future__ import annotations

import json
import os
import platform
import sys
import sysconfig
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

ROOT = Path(__file__).resolve().parents[2]
DIRECTORY = ROOT / ".cache" / "bench"


@dataclass(frozen=True, slots=True)
class Figure:
    """One measured value; ``limit``: what it must stay below, ``floor``: what it must reach, ``goal``: what is wanted.

    None of them: it is told for its own sake.
    """

    name: str
    value: float
    unit: str
    limit: float | None = None
    floor: float | None = None
    goal: float | None = None

    @property
    def kept(self) -> bool:
        return (self.limit is None or self.value < self.limit) and (self.floor is None or self.value >= self.floor)

    @property
    def bounds(self) -> str:
        """As the table shows them."""
        parts = [
            f"{sign} {bound:g}"
            for sign, bound in (("<", self.limit), (">=", self.floor), ("goal", self.goal))
            if bound is not None
        ]
        return f"{', '.join(parts)} {self.unit}" if parts else ""

    @property
    def verdict(self) -> str:
        """In rich's markup."""
        if self.limit is None and self.floor is None:
            return ""
        if not self.kept:
            return "[red]missed[/]"
        reached = self.goal is not None and (self.value <= self.goal if self.floor is None else self.value >= self.goal)
        return "[green]goal[/]" if reached else "[green]kept[/]"


def interpreter() -> str:
    """Version and kind of build: one that is not optimised (PGO) makes what is ours slower."""
    options = str(sysconfig.get_config_var("CONFIG_ARGS") or "")
    home = Path(sys.base_prefix, "bin", f"python{sysconfig.get_python_version()}").resolve()
    if "--enable-optimizations" in options:
        build = "optimised, with LTO" if "--with-lto" in options else "optimised"
    elif home.parent == Path("/usr/bin"):
        # Debian optimises (its changelog says so), and keeps the flags out of sysconfig.
        build = "the distribution's build"
    else:
        build = "not optimised"
    return f"{platform.python_implementation()} {platform.python_version()}, {build}"


def publish(part: str, conditions: Mapping[str, object], figures: list[Figure]) -> bool:
    """Print the table, write ``.cache/bench/PART.json``; True when every bound is kept."""
    machine = {"cpus": os.cpu_count(), "python": interpreter(), "kernel": platform.release()}
    told = ", ".join(f"{name} {value}" for name, value in {**conditions, **machine}.items())
    table = Table(title=f"{part}: {told}", title_justify="left", box=None, header_style="bold")
    table.add_column("figure")
    for column in ("value", "bounds"):
        table.add_column(column, justify="right")
    table.add_column("")
    for figure in figures:
        digits = 2 if abs(figure.value) < 10 else 1
        table.add_row(figure.name, f"{figure.value:,.{digits}f} {figure.unit}", figure.bounds, figure.verdict)
    console = Console(width=110)
    console.print(table)
    DIRECTORY.mkdir(parents=True, exist_ok=True)
    path = DIRECTORY / f"{part}.json"
    data = {
        "part": part,
        "machine": machine,
        "conditions": conditions,
        "figures": [{**asdict(figure), "kept": figure.kept} for figure in figures],
    }
    path.write_text(json.dumps(data, indent=2) + "\n")
    console.print(f"as JSON: {path.relative_to(ROOT)}\n")
    return all(figure.kept for figure in figures)
