"""A task over many items, as a table: which items a change makes run, which it asks about, what is
said of it, and what it makes of the task that reads them all."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import truth
from provider import Reply, Request, default_answer
from truth import Change, Row, Table, another_root, both, edit, new, nothing, remove, touched
from workspace import MODEL, Workspace

# The job `first`, whose seed has rows with the IDs 1, 2 and 3, and words without IDs:
#
#   rate   over the rows: prints item.text and seed.data.tone; answers with a label and a reason
#   place  over the rows: prints item.text and position
#   high   over the rows of which item.stars is above 2, by a condition: prints item.note
#   word   over the words, without a key: prints item
#   sum    needs rate; loops over its items and prints their labels
#   keys   needs rate; prints the keys of its items
#
# `rate` answers with the label "+" for "good" and "fine", else with "-".
TEXT = """
change                                     | runs                  | asks                  | code

nothing                                    |                       |                       | 0
field of one item, where read              | rate rate-2 place place-2 sum | rate-good place-good sum | 0
    rate place: seed:/data/rows/*/text changed
field of one item, the label is the same   | rate rate-1 place place-1 | rate-fine place-fine | 0
    rate place: seed:/data/rows/*/text changed
field of one item that only one task reads | high high-3           | high-third!           | 0
    high: seed:/data/rows/*/note changed
field of an item that no prompt reads      |                       |                       | 0
field of an item appears                   |                       |                       | 0
field of one item of another type          | high high-3           |                       | 0
    high: seed:/data/rows/*/stars changed
item is added at the end                   | rate rate-4 place place-4 high high-4 sum keys | rate-new place-new high-fourth sum keys | 0
    rate place: seed-length:/data/rows changed; seed:/data/rows/*/id changed; seed:/data/rows/*/text changed
"""
