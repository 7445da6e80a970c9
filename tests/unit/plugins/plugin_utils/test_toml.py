from __future__ import annotations

import tomllib
from typing import Any

import pytest
from ansible_collections.tfgrid.gateway.plugins.plugin_utils._toml import to_toml
from hypothesis import given
from hypothesis import strategies as st

TEXT = st.text(st.characters(exclude_categories=["Cs"]))
SCALARS = st.one_of(
    st.booleans(),
    st.integers(-(2**63), 2**63 - 1),
    st.floats(allow_nan=False, allow_infinity=False),
    TEXT,
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.one_of(st.lists(SCALARS), st.dictionaries(TEXT, inner), st.lists(st.dictionaries(TEXT, inner))),
    max_leaves=20,
)


@given(st.dictionaries(TEXT, VALUES))
def test_what_is_written_is_read(tables: dict[str, Any]) -> None:
    assert tomllib.loads(to_toml(tables)) == tables


def test_what_has_no_form_is_refused_by_its_key() -> None:
    with pytest.raises(TypeError, match=r"dns\.ttl: a value of type NoneType"):
        to_toml({"dns": {"ttl": None}})
