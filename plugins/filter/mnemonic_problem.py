# Copyright: tfgrid.gateway maintainers
# SPDX-License-Identifier: Apache-2.0
"""Filter ``tfgrid.gateway.mnemonic_problem``: what is wrong with the words of an identity."""

from __future__ import annotations

from typing import Any

from ansible.errors import AnsibleFilterError

DOCUMENTATION = r"""
name: mnemonic_problem
short_description: What is wrong with the words of an identity
version_added: 0.1.0
author:
  - tfgrid.gateway maintainers (@tfgrid)
description:
  - Checks number, spelling and checksum of BIP39 words, and says what is wrong without repeating a word.
requirements:
  - mnemonic, on the controller
options:
  _input:
    description: The words, separated by white space.
    type: str
    required: true
"""

EXAMPLES = r"""
- name: The words are words of an identity
  ansible.builtin.assert:
    that: (identity_words | tfgrid.gateway.mnemonic_problem) == ""
    fail_msg: "identity_words of {{ inventory_hostname }}: {{ identity_words | tfgrid.gateway.mnemonic_problem }}"
"""

RETURN = r"""
_value:
  description: A sentence, or an empty string when nothing is wrong.
  type: str
  sample: no BIP39 word at place 24
"""

WORDS = 24


def mnemonic_problem(words: str) -> str:
    """Empty when ``words`` are 24 BIP39 words with a right checksum, else a sentence that repeats none of them."""
    try:
        from mnemonic import Mnemonic
    except ImportError as error:
        raise AnsibleFilterError("the Python of Ansible has no package mnemonic: pip install mnemonic") from error
    listed = str(words).split()
    if len(listed) != WORDS:
        return f"{len(listed)} words, {WORDS} are needed"
    bip39 = Mnemonic("english")
    unknown = [str(place) for place, word in enumerate(listed, 1) if word not in bip39.wordlist]
    if unknown:
        return f"no BIP39 word at place {', '.join(unknown)}"
    if not bip39.check(" ".join(listed)):
        return "the checksum is wrong: a word is mistaken or out of order"
    return ""


class FilterModule:
    """The filters of this file, by name."""

    def filters(self) -> dict[str, Any]:
        return {"mnemonic_problem": mnemonic_problem}
