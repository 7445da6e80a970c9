# Copyright: tfgrid.gateway maintainers
# SPDX-License-Identifier: Apache-2.0
"""Owner and group of a file, in check mode on a host where an earlier task would have made them."""

from __future__ import absolute_import, division, print_function

__metaclass__ = type

import grp
import pwd


def forget_unknown(attributes):
    """Take away owner and group that are not there yet; whether there were any. An earlier task would make them."""
    changed = False
    for name, look in (("owner", pwd.getpwnam), ("group", grp.getgrnam)):
        wanted = attributes[name]
        if wanted is None or wanted.isdigit():
            continue
        try:
            look(wanted)
        except KeyError:
            attributes[name] = None
            changed = True
    return changed
