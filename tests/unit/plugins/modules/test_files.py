"""Module ``files`` on real files."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path
from typing import Any

import pytest

from tests.support import ansible_module

SECRET = "a text that nobody shall read"


def run(directory: Path, *files: dict[str, Any], **options: Any) -> dict[str, Any]:
    given = [entry | {"path": str(entry["path"])} for entry in files]
    return ansible_module.run("files", directory, files=given, **options)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.lstat().st_mode)


@pytest.fixture
def place(tmp_path: Path) -> Path:
    return tmp_path / "etc"


def entries(place: Path) -> list[dict[str, Any]]:
    return [
        {"path": place / "example", "state": "directory"},
        {"path": place / "example" / "settings.toml", "content": "a = 1\n"},
        {"path": place / "example" / "secrets.toml", "content": f"{SECRET}\n", "mode": "0640", "sensitive": True},
        {"path": place / "current", "state": "link", "target": "example"},
    ]


def test_all_is_made_once_in_its_order(place: Path) -> None:
    made = run(place.parent, *entries(place))
    assert made["changed_paths"] == [str(entry["path"]) for entry in entries(place)]
    assert (place / "current" / "settings.toml").read_text() == "a = 1\n"
    modes = {path.name: mode(path) for path in [place, *place.rglob("*")] if not path.is_symlink()}
    assert modes == {"etc": 0o755, "example": 0o755, "settings.toml": 0o644, "secrets.toml": 0o640}
    assert sorted(path.name for path in place.iterdir()) == ["current", "example"]  # and no drafts
    again = run(place.parent, *entries(place), diff=True)
    assert (again["changed"], again["changed_paths"], again["diff"]) == (False, [], [])


def test_check_mode_foresees_the_same_and_makes_nothing(place: Path) -> None:
    foreseen = run(place.parent, *entries(place), check=True, diff=True)
    assert foreseen["changed_paths"] == [str(entry["path"]) for entry in entries(place)]
    assert not place.exists()
    assert {diff.get("after") for diff in foreseen["diff"]} == {"directory\n", "a = 1\n", "example\n", None}


def test_only_what_differs_is_changed_and_shown(place: Path) -> None:
    run(place.parent, *entries(place))
    settings, secrets = place / "example" / "settings.toml", place / "example" / "secrets.toml"
    settings.write_text("a = 2\n")
    secrets.chmod(0o644)
    done = run(place.parent, *entries(place), diff=True)
    assert done["changed_paths"] == [str(settings), str(secrets)]
    text, attributes = done["diff"]
    assert (text["before_header"], text["before"], text["after"]) == (str(settings), "a = 2\n", "a = 1\n")
    assert (attributes["before"]["mode"], attributes["after"]["mode"]) == ("0644", "0640")
    assert mode(secrets) == 0o640


def test_check_mode_foresees_a_wrong_mode(place: Path) -> None:
    run(place.parent, *entries(place))
    (place / "example").chmod(0o700)
    assert run(place.parent, *entries(place), check=True)["changed_paths"] == [str(place / "example")]
    assert mode(place / "example") == 0o700


def test_a_sensitive_text_is_shown_nowhere(place: Path) -> None:
    place.mkdir()
    path = place / "secret"
    path.write_text(f"old: {SECRET}")
    entry = {"path": path, "content": SECRET, "sensitive": True}
    results = [run(place, entry, diff=True, check=True), run(place, entry | {"validate": "false %s"}, diff=True)]
    results += [run(place, entry, diff=True), run(place, entry | {"state": "no such state"})]
    assert [result["changed"] for result in results[:3:2]] == [True, True]
    assert path.read_text() == SECRET
    assert SECRET not in json.dumps(results)


def test_a_text_that_is_not_valid_replaces_nothing_and_ends_it(place: Path) -> None:
    run(place.parent, {"path": place, "state": "directory"}, {"path": place / "first", "content": "old"})
    check = "sh -c 'echo bad; test \"$(cat %s)\" != wrong'"
    wanted = [
        {"path": place / "before", "content": "x"},
        {"path": place / "first", "content": "wrong", "validate": check},
        {"path": place / "after", "content": "x"},
    ]
    failed = run(place.parent, *wanted)
    assert failed["failed"]
    assert failed["msg"] == f"{place}/first: the new text is not valid: bad"
    assert failed["changed_paths"] == [str(place / "before")]
    assert sorted(path.name for path in place.iterdir()) == ["before", "first"]
    assert (place / "first").read_text() == "old"
    wanted[1]["content"] = "right"
    assert not run(place.parent, *wanted).get("failed")
    assert (place / "first").read_text() == "right"


def test_validate_needs_a_place_for_the_path(place: Path) -> None:
    place.mkdir()
    failed = run(place, {"path": place / "a", "content": "x", "validate": "true"})
    assert "validate must contain %s" in failed["msg"]
    assert list(place.iterdir()) == []


def test_a_new_file_is_never_readable_by_more_than_it_shall_be(place: Path) -> None:
    """Its draft has the final mode before it gets the name; until then nobody else reads it."""
    place.mkdir()
    seen = place / "seen"
    check = f"sh -c 'stat -c %a %s > {seen}'".replace("%a", "%%a")
    run(place, {"path": place / "a", "content": "x", "mode": "0644", "validate": check})
    assert seen.read_text() == "600\n"


def test_a_link_takes_the_place_of_a_link_and_only_by_force_of_a_file(place: Path) -> None:
    place.mkdir()
    for name in ("one", "two", "file"):
        (place / name).write_text(name)
    entry = {"path": place / "link", "state": "link"}
    for target in ("one", str(place / "two")):
        assert run(place, entry | {"target": target}, diff=True)["changed"]
        assert str((place / "link").readlink()) == target
    over_file = {"path": place / "file", "state": "link", "target": "one"}
    assert "which only force replaces" in run(place, over_file)["msg"]
    assert "which only force replaces" in run(place, over_file, check=True)["msg"]
    assert (place / "file").read_text() == "file"
    assert run(place, over_file | {"force": True})["changed"]
    assert (place / "file").read_text() == "one"
    (place / "directory").mkdir()
    refused = run(place, {"path": place / "directory", "state": "link", "target": "one", "force": True})
    assert refused["msg"] == f"{place}/directory is a directory"
    assert sorted(path.name for path in place.iterdir()) == ["directory", "file", "link", "one", "two"]


def test_a_link_to_nothing_is_only_foreseen(place: Path) -> None:
    place.mkdir()
    entry = {"path": place / "link", "state": "link", "target": "/nowhere/at/all"}
    assert run(place, entry, check=True)["changed"]
    assert "would lead nowhere" in run(place, entry)["msg"]
    assert list(place.iterdir()) == []


@pytest.mark.parametrize(("state", "why"), [("file", "is a directory"), ("directory", "is there and no directory")])
def test_another_kind_of_file_is_never_replaced(place: Path, state: str, why: str) -> None:
    place.mkdir()
    (place / "directory").mkdir()
    (place / "file").touch()
    path = place / ("directory" if state == "file" else "file")
    assert why in run(place, {"path": path, "state": state, "content": "x"})["msg"]


def test_a_text_replaces_a_link_and_leaves_alone_where_that_led(place: Path) -> None:
    place.mkdir()
    (place / "target").write_text("other")
    (place / "link").symlink_to("target")
    assert run(place, {"path": place / "link", "content": "new"})["changed"]
    assert not (place / "link").is_symlink()
    assert (place / "target").read_text() == "other"


def test_an_entry_may_be_left_out(place: Path) -> None:
    place.mkdir()
    done = run(place, {"path": place / "a", "content": "x", "wanted": False}, {"path": place / "b", "content": ""})
    assert done["changed_paths"] == [str(place / "b")]
    assert (place / "b").read_text() == ""


def test_check_mode_on_an_untouched_host_has_neither_owner_nor_group(place: Path) -> None:
    place.mkdir()
    entry = {"path": place / "a", "content": "x"}
    run(place, entry)
    later = entry | {"group": "group-of-later"}
    assert run(place, later, owner="user-of-later", check=True)["changed"]
    assert "failed to look up" in run(place, later)["msg"]


def test_owner_and_group_of_the_list_are_for_those_that_name_none(place: Path) -> None:
    place.mkdir()
    me = {"owner": str(os.getuid()), "group": str(os.getgid())}
    run(place, {"path": place / "a", "content": "x"})
    assert not run(place, {"path": place / "a", "content": "x"}, **me)["changed"]
    assert run(place, {"path": place / "a", "content": "x", "group": str(os.getgid() + 1)}, check=True, **me)["changed"]


@pytest.mark.parametrize(("state", "option"), [("file", "content"), ("link", "target")])
def test_what_a_kind_needs_is_asked_for(place: Path, state: str, option: str) -> None:
    failed = run(place.parent, {"path": place, "state": state})
    assert f"state is {state} but all of the following are missing: {option}" in failed["msg"]
