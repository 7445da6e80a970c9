# Copyright: tfgrid.gateway maintainers
# SPDX-License-Identifier: Apache-2.0
"""Controller's side of ``files``: makes texts of templates, as ``ansible.builtin.template`` does."""

from __future__ import annotations

import os
from collections.abc import Mapping

from ansible.errors import AnsibleError, AnsibleActionFail
from ansible.module_utils.parsing.convert_bool import boolean
from ansible.plugins.action import ActionBase
from ansible.template import generate_ansible_template_vars

try:
    from ansible.template import trust_as_template
except ImportError:  # ansible-core before 2.19, which trusts every text
    trust_as_template = None


class ActionModule(ActionBase):
    """Render the templates, then call the module."""

    _VALID_ARGS = frozenset(("files", "owner", "group"))

    def run(self, tmp=None, task_vars=None):
        """The result of the task."""
        result = super().run(tmp, task_vars)
        files = [dict(entry) for entry in self._task.args.get("files") or () if isinstance(entry, Mapping)]
        files = [entry for entry in files if boolean(entry.pop("wanted", True), strict=False)]
        for entry in files:
            name, variables = entry.pop("template", None), entry.pop("vars", None) or {}
            if name:
                entry["content"] = self._render(name, entry.get("path"), {**task_vars, **variables})
        arguments = {**self._task.args, "files": files}
        result.update(
            self._execute_module(module_name="tfgrid.gateway.files", module_args=arguments, task_vars=task_vars)
        )
        return result

    def _render(self, name, path, variables):
        """The text of a role's template."""
        try:
            source = self._find_needle("templates", name)
        except AnsibleError as error:
            raise AnsibleActionFail(str(error)) from error
        with open(source, encoding="utf-8") as file:
            text = file.read()
        managed = generate_ansible_template_vars(name, source, path)
        found = [os.path.join(place, "templates") for place in variables.get("ansible_search_path", [])]
        templar = self._templar.copy_with_new_env(
            searchpath=[*found, os.path.dirname(source)], available_variables={**managed, **variables}
        )
        if trust_as_template:
            return templar.template(trust_as_template(text), escape_backslashes=False)
        return templar.do_template(text, preserve_trailing_newlines=True, escape_backslashes=False)
