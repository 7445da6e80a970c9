#!/usr/bin/python
# Copyright: tfgrid.gateway maintainers
# SPDX-License-Identifier: Apache-2.0

from __future__ import absolute_import, division, print_function

__metaclass__ = type

DOCUMENTATION = r"""
module: files
short_description: Files, directories and symlinks of a role, in one call
version_added: 0.1.0
author:
  - tfgrid.gateway maintainers (@tfgrid)
description:
  - Makes what is listed, in its order, and stops at the first that fails. Does in one call what
    M(ansible.builtin.copy), M(ansible.builtin.template) and M(ansible.builtin.file) need one or two for each.
  - A file is replaced in one step, with its owner and mode, after it was validated.
options:
  files:
    description: What should be there.
    type: list
    elements: dict
    required: true
    suboptions:
      path:
        description: Where.
        type: path
        required: true
      wanted:
        description: V(false) leaves it out.
        type: bool
        default: true
      state:
        description: What it is. A directory is made with those above it.
        type: str
        choices: [file, directory, link]
        default: file
      content:
        description: Text of a file.
        type: str
      template:
        description: Name of the template that the text of a file is made of, as M(ansible.builtin.template) does.
        type: str
      vars:
        description: Variables for the template, besides those of the task.
        type: dict
      sensitive:
        description: No diff shows the text.
        type: bool
        default: false
      validate:
        description: Command that a new text has to pass before it replaces the file, with V(%s) for its path.
        type: str
      target:
        description: Where a link leads. Unless this is check mode, it must be there.
        type: str
      force:
        description: A link may replace a file. It never replaces a directory.
        type: bool
        default: false
      owner:
        description: Its owner, by default that of the list; not of a link.
        type: str
      group:
        description: Its group, by default that of the list; not of a link.
        type: str
      mode:
        description: Its mode, by default V(0644) for files and V(0755) for directories; not of a link.
        type: raw
  owner:
    description: Owner of files and directories that name none; by default who runs the module.
    type: str
  group:
    description: Group of files and directories that name none; by default that of who runs the module.
    type: str
extends_documentation_fragment:
  - tfgrid.gateway.attributes
  - tfgrid.gateway.attributes.changes
attributes:
  action:
    description: Has a corresponding action plugin, so some parts run on the controller.
    support: full
notes:
  - Neither the result nor the host's journal shows a text, except for the diff of one that is not sensitive.
"""

EXAMPLES = r"""
- name: Configuration and unit
  tfgrid.gateway.files:
    owner: root
    group: root
    files:
      - path: /etc/example
        state: directory
      - path: /etc/example/secrets.toml
        template: secrets.toml.j2
        group: example
        mode: "0640"
        sensitive: true
      - path: /etc/systemd/system/example.service
        template: service.j2
        vars: {description: An example}
      - path: /usr/local/bin/example
        state: link
        target: /opt/example/current/bin/example
  register: example
  notify: Restart example
"""

RETURN = r"""
changed_paths:
  description: Paths of what was changed, or would be in check mode.
  returned: always
  type: list
  elements: str
  sample: [/etc/systemd/system/example.service]
"""

import os
import tempfile

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.common.text.converters import to_bytes, to_text
from ansible_collections.tfgrid.gateway.plugins.module_utils._attributes import forget_unknown

_ENTRY = dict(
    path=dict(type="path", required=True),
    wanted=dict(type="bool", default=True),
    state=dict(type="str", choices=["file", "directory", "link"], default="file"),
    content=dict(type="str", no_log=True),
    template=dict(type="str"),
    vars=dict(type="dict"),
    sensitive=dict(type="bool", default=False),
    validate=dict(type="str"),
    target=dict(type="str"),
    force=dict(type="bool", default=False),
    owner=dict(type="str"),
    group=dict(type="str"),
    mode=dict(type="raw"),
)
_MODES = {"file": "0644", "directory": "0755"}


class Failure(Exception):
    """An entry cannot be made; the text is for an operator."""


class Writer(object):
    """Makes entries; ``diffs`` of what differed, in the form of Ansible's callbacks."""

    def __init__(self, module):
        self._module = module
        self._dry = module.check_mode
        self.diffs = []

    def make(self, entry):
        """Make it unless it is there already; whether it was not. Errors: Failure, OSError."""
        return {"file": self._file, "directory": self._directory, "link": self._link}[entry["state"]](entry)

    def _file(self, entry):
        path, text = entry["path"], to_bytes(entry["content"])
        before = self._text(path)
        if before == text:
            return self._attributes(entry, path)
        if entry["sensitive"]:
            self.diffs.append({"prepared": "%s: a sensitive text, which is not shown\n" % path})
        else:
            self._differs(path, to_text(before or b"", errors="surrogate_then_replace"), entry["content"])
        if not self._dry:
            self._replace(entry, text)
        return True

    def _text(self, path):
        """What a regular file holds; None if there is none. Errors: Failure."""
        if os.path.isdir(path) and not os.path.islink(path):
            raise Failure("%s is a directory" % path)
        if os.path.islink(path) or not os.path.exists(path):
            return None
        with open(path, "rb") as file:
            return file.read()

    def _replace(self, entry, text):
        path = entry["path"]
        handle, draft = tempfile.mkstemp(prefix=".%s." % os.path.basename(path), dir=os.path.dirname(path))
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(text)
            if entry["validate"]:
                self._validate(entry["validate"], path, draft)
            self._apply(entry, draft)
            os.rename(draft, path)
        except BaseException:
            os.unlink(draft)
            raise

    def _validate(self, command, path, draft):
        if "%s" not in command:
            raise Failure("%s: validate must contain %%s: %s" % (path, command))
        rc, out, err = self._module.run_command(command % draft)
        if rc != 0:
            raise Failure("%s: the new text is not valid: %s" % (path, (err or out).strip().replace(draft, path)))

    def _directory(self, entry):
        path = entry["path"]
        if os.path.isdir(path):
            return self._attributes(entry, path)
        if os.path.lexists(path):
            raise Failure("%s is there and no directory" % path)
        self._differs(path, "", "directory\n")
        if not self._dry:
            missing = [path]
            while not os.path.isdir(os.path.dirname(missing[-1])):
                missing.append(os.path.dirname(missing[-1]))
            for one in reversed(missing):
                os.mkdir(one, 0o700)
                self._apply(entry, one)
        return True

    def _link(self, entry):
        path, target = entry["path"], entry["target"]
        before = os.readlink(path) if os.path.islink(path) else None
        if before == target:
            return False
        if before is None and os.path.isdir(path):
            raise Failure("%s is a directory" % path)
        if before is None and os.path.lexists(path) and not entry["force"]:
            raise Failure("%s is a file, which only force replaces by a link" % path)
        self._differs(path, "%s\n" % before if before else "", "%s\n" % target)
        if self._dry:
            return True
        if not os.path.exists(os.path.join(os.path.dirname(path), target)):
            raise Failure("%s would lead nowhere: there is no %s" % (path, target))
        place = tempfile.mkdtemp(prefix=".%s." % os.path.basename(path), dir=os.path.dirname(path))
        try:
            os.symlink(target, os.path.join(place, "link"))
            os.rename(os.path.join(place, "link"), path)
        finally:
            os.rmdir(place)
        return True

    def _differs(self, path, before, after):
        self.diffs.append({"before_header": path, "after_header": path, "before": before, "after": after})

    def _attributes(self, entry, path):
        """Correct owner and mode of what is there; whether one was wrong."""
        wanted = self._module.load_file_common_arguments(entry, path=path)
        unknown = forget_unknown(wanted) if self._dry else False
        difference = {}
        changed = self._module.set_fs_attributes_if_different(wanted, unknown, difference)
        if changed and difference:
            self.diffs.append(dict(difference, before_header=path, after_header=path))
        return changed

    def _apply(self, entry, path):
        """Owner and mode of what was just made at ``path``."""
        self._module.set_fs_attributes_if_different(self._module.load_file_common_arguments(entry, path=path), True)


def complete(entry, params):
    """An entry with owner, group and mode."""
    given = {name: entry[name] if entry[name] is not None else params[name] for name in ("owner", "group")}
    return dict(entry, mode=_MODES.get(entry["state"]) if entry["mode"] is None else entry["mode"], **given)


def main():
    module = AnsibleModule(
        argument_spec=dict(
            files=dict(
                type="list",
                elements="dict",
                required=True,
                options=_ENTRY,
                mutually_exclusive=[("content", "template")],
                # Of a template the controller has made the content.
                required_if=[("state", "file", ["content"]), ("state", "link", ["target"])],
            ),
            owner=dict(type="str"),
            group=dict(type="str"),
        ),
        supports_check_mode=True,
    )
    # The host's journal has seen none. Of the result, a diff shows those that are not sensitive.
    module.no_log_values -= {entry["content"] for entry in module.params["files"] if not entry["sensitive"]}
    writer = Writer(module)
    entries = [complete(entry, module.params) for entry in module.params["files"] if entry["wanted"]]
    result = dict(changed=False, changed_paths=[])
    result["invocation"] = dict(module_args=dict(files=[entry["path"] for entry in entries]))
    for entry in entries:
        try:
            if writer.make(entry):
                result["changed_paths"].append(entry["path"])
        except (Failure, EnvironmentError) as error:
            module.fail_json(msg=str(error), **result)
        result["changed"] = bool(result["changed_paths"])
    if module._diff:
        result["diff"] = writer.diffs
    module.exit_json(**result)


if __name__ == "__main__":
    main()
