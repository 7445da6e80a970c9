#!/usr/bin/python
# Copyright: tfgrid.gateway maintainers
# SPDX-License-Identifier: Apache-2.0

from __future__ import absolute_import, division, print_function

__metaclass__ = type

DOCUMENTATION = r"""
module: unpack
short_description: Unpack an archive of the controller on a host that may have no Python
version_added: 0.1.0
author:
  - tfgrid.gateway maintainers (@tfgrid)
description:
  - Copies a C(.tar.gz) archive to the host, compares its digest there, and unpacks it, completely or not at all.
  - The host needs a shell, C(sha256sum) and C(tar) with gzip, and no Python.
  - The first component of the names in the archive is left out.
options:
  src:
    description: The archive on the controller.
    type: path
    required: true
  dest:
    description: Directory on the host; it is replaced when it was unpacked from another archive.
    type: path
    required: true
  sha256:
    description: SHA-256 of the archive, in hexadecimal digits.
    type: str
    required: true
attributes:
  check_mode:
    description: Can run in check mode and return what it would without it.
    support: full
  diff_mode:
    description: Returns details on what has changed when in diff mode.
    support: full
  platform:
    description: Target operating systems.
    support: full
    platforms: posix
  action:
    description: Has a corresponding action plugin, so some parts run on the controller.
    support: full
notes:
  - The digest of what is there is kept in the file C(.complete) of the directory.
"""

EXAMPLES = r"""
- name: Bring an interpreter
  tfgrid.gateway.unpack:
    src: /var/cache/cpython-3.12.16.tar.gz
    dest: /opt/tfgateway/interpreters/6a9e62dad033
    sha256: 6a9e62dad033790aef722dbd370e0ce76ce17b73627ba3ae679f537049350b39
"""

RETURN = r"""
"""
