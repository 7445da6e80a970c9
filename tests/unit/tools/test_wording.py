"""The word list: finds words in prose and in identifiers, and exceptions that are not needed any more."""

from __future__ import annotations

from pathlib import Path

import pytest

from tools import wording

NONE: dict[tuple[str, str], tuple[int, str]] = {}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("A connection, until he hangs up.", ["he"]),
        ("def _tell_all() -> None:", ["tell"]),
        ("class CrewMember:", ["crew"]),
        ("_REHEARSAL = 1", ["rehearsal"]),
        ('{"control_fd": "desk_fd"}', ["desk"]),
        ("the shell of this helper, on a dashboard", []),
    ],
)
def test_a_word_is_found_in_prose_and_as_a_part_of_a_name(text: str, words: list[str]) -> None:
    assert wording.found(f"\n{text}") == [(2, word) for word in words]


@pytest.fixture
def package(tmp_path: Path) -> Path:
    (tmp_path / "cli").mkdir()
    (tmp_path / "cli" / "legacy.py").write_text('"""Said."""\nNAME = "former"\n')
    return tmp_path


def test_a_problem_says_where_it_is_and_what_to_write(package: Path) -> None:
    (line,) = wording.problems(package, [Path("cli")], NONE)
    assert line == f"cli/legacy.py:2: 'former': write {wording.INSTEAD['former']}"


def test_exceptions_hold_for_their_number_of_words(package: Path) -> None:
    assert wording.problems(package, [Path("cli")], {("cli/legacy.py", "former"): (1, "deployed")}) == []
    (package / "cli" / "legacy.py").write_text('"""Said."""\n')
    (line,) = wording.problems(package, [Path("cli")], {("cli/legacy.py", "former"): (1, "deployed")})
    assert line.endswith("legacy.py: 'former' stands there 0 times, allowed are 1")
