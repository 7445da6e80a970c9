"""What all tests share."""

from __future__ import annotations

from hypothesis import settings

# How long an example takes on a busy machine says nothing about the code.
settings.register_profile("untimed", deadline=None)
settings.register_profile("quick", deadline=None, max_examples=20)  # by `make test-fast`
settings.register_profile("long", deadline=None, max_examples=2000)  # by `make test-long`
settings.load_profile("untimed")
