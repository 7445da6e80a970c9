# Copyright: tfgrid.gateway maintainers
# SPDX-License-Identifier: Apache-2.0
"""What the modules have in common in their documentation."""

from __future__ import annotations


class ModuleDocFragment:
    """Fragments by name: ``tfgrid.gateway.attributes``, ``tfgrid.gateway.attributes.changes`` ..."""

    # What every module supports.
    DOCUMENTATION = r"""
options: {}
attributes:
  check_mode:
    description: Can run in check mode and return what it would without it.
    support: full
  platform:
    description: Target operating systems.
    support: full
    platforms: posix
"""

    # For a module that changes something.
    CHANGES = r"""
options: {}
attributes:
  diff_mode:
    description: Returns details on what has changed when in diff mode.
    support: full
"""

    # For a module that only looks.
    LOOKS = r"""
options: {}
attributes:
  diff_mode:
    description: Returns details on what has changed when in diff mode.
    support: none
    details: The module changes nothing.
"""

    # For a module that calls the daemon's command.
    PROGRAM = r"""
options:
  program:
    description: The daemon's command, on the host that the task runs on.
    type: path
    default: /opt/tfgateway/current/bin/tfgateway
"""

    # For one that asks the daemon of a node.
    DAEMON = r"""
options:
  config:
    description: The daemon's configuration on the node.
    type: path
    default: /etc/tfgateway/gateway.toml
notes:
  - Needs the privilege to read the seed file, usually C(become).
"""
