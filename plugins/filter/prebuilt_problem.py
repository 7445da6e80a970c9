# Copyright: tfgrid.gateway maintainers
# SPDX-License-Identifier: Apache-2.0
"""Filter ``tfgrid.gateway.prebuilt_problem``: why prebuilt releases cannot be used by this collection."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

DOCUMENTATION = r"""
name: prebuilt_problem
short_description: Why prebuilt releases cannot be used by this collection
version_added: 0.1.0
author:
  - tfgrid.gateway maintainers (@tfgrid)
description:
  - Compares every file of the artefact with the checksum that the collection's tarball carries.
  - As role P(tfgrid.gateway.release#role) does before it uses one of them.
options:
  _input:
    description: The value of C(gateway_prebuilt), a tar or a directory on the controller; empty has no problem.
    type: str
    required: true
"""

EXAMPLES = r"""
- name: The prebuilt releases are those of this collection
  ansible.builtin.assert:
    that: gateway_prebuilt | tfgrid.gateway.prebuilt_problem == ''
"""

RETURN = r"""
_value:
  description: What is wrong and what to do about it; empty when nothing is.
  type: str
  sample: ""
"""

PROGRAM = Path(__file__).resolve().parents[2] / "roles" / "release" / "files" / "prebuilt.py"


def prebuilt_problem(artefact: str) -> str:
    """See the documentation above."""
    if not artefact:
        return ""
    command = [sys.executable, "-B", str(PROGRAM), f"--artefact={artefact}"]
    done = subprocess.run(  # noqa: S603 - every argument is ours
        command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )
    return done.stderr.strip() if done.returncode else ""


class FilterModule:
    """The filters of this file, by name."""

    def filters(self) -> dict[str, Any]:
        return {"prebuilt_problem": prebuilt_problem}
