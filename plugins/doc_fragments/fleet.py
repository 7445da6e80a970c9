# Copyright: tfgrid.gateway maintainers
# SPDX-License-Identifier: Apache-2.0
"""What the filters that show a fleet's report have in common in their documentation."""

from __future__ import annotations


class ModuleDocFragment:
    """Fragment ``tfgrid.gateway.fleet``."""

    # What they are given.
    DOCUMENTATION = r"""
options:
  _input:
    description: What P(tfgrid.gateway.fleet_report#filter) made.
    type: dict
    required: true
"""
