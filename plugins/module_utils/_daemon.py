# Copyright: tfgrid.gateway maintainers
# SPDX-License-Identifier: Apache-2.0
"""Asks the daemon's own command; the modules hold no gateway logic themselves."""

from __future__ import absolute_import, division, print_function

__metaclass__ = type

import json
import os

PROGRAM_OPTION = {"program": {"type": "path", "default": "/opt/tfgateway/current/bin/tfgateway"}}
DAEMON_OPTIONS = dict(PROGRAM_OPTION, config={"type": "path", "default": "/etc/tfgateway/gateway.toml"})


class DaemonError(Exception):
    """The daemon's command could not answer; the text is for an operator."""


def ask(run_command, params, words):
    """The JSON object that ``tfgateway WORDS --json`` prints on a provisioned node.

    run_command: ``AnsibleModule.run_command``; params: a dict with the keys of DAEMON_OPTIONS;
    words: the command and its arguments. Errors: DaemonError.
    """
    for path, what in ((params["program"], "daemon"), (params["config"], "configuration")):
        if not os.path.exists(path):
            raise DaemonError("this node is not provisioned: its %s %s does not exist (run site.yml)" % (what, path))
    answer = call(run_command, [params["program"], "--config", params["config"]] + list(words))
    if not isinstance(answer, dict):
        raise DaemonError("`tfgateway %s` did not print a JSON object" % " ".join(words))
    return answer


def call(run_command, argv, data=None):
    """The JSON value that the command prints. data: its standard input. Errors: DaemonError."""
    argv = list(argv) + ["--json"]
    out = text(run_command, argv, data)
    try:
        return json.loads(out)
    except ValueError:
        raise DaemonError("`%s` did not print JSON: %s" % (" ".join(argv), _last_line(out)))


def text(run_command, argv, data=None):
    """What the command prints. Errors: DaemonError with the command's own words."""
    if not os.path.exists(argv[0]):
        raise DaemonError("the daemon's command %s does not exist here" % argv[0])
    code, out, err = run_command(list(argv), data=data)
    if code != 0:
        raise DaemonError("`%s` failed with exit code %d: %s" % (" ".join(argv), code, _last_line(err)))
    return out


def _last_line(output):
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    return lines[-1] if lines else "no output"
