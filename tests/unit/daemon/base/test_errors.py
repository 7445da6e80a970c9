from __future__ import annotations

import inspect

from tfgateway import errors


def test_there_is_one_tree() -> None:
    found = [item for _, item in inspect.getmembers(errors, inspect.isclass) if item.__module__ == errors.__name__]
    assert len(found) > 5
    assert all(issubclass(item, errors.GatewayError) for item in found)


def test_worth_trying_again_or_not_is_decided_by_class() -> None:
    assert issubclass(errors.ExplorerUnavailable, errors.ExplorerError)
    assert issubclass(errors.ExplorerRefused, errors.ExplorerError)
    assert not issubclass(errors.ExplorerRefused, errors.ExplorerUnavailable)
    refused = errors.ExplorerRefused(404, "no such workload")
    assert (refused.status, refused.message) == (404, "no such workload")
    assert str(refused) == "explorer refused (404): no such workload"


def test_what_is_parsed_may_be_caught_as_value_error_too() -> None:
    assert issubclass(errors.ParseError, ValueError)
