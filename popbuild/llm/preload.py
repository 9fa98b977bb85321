"""Loads, when it is imported, what litellm would load at its first call: it takes most of a second,
and must not count as that call's time. It differs by release: missing modules are ignored."""

from __future__ import annotations

import contextlib
import importlib

# First: it sets litellm up before any of litellm is imported.
import popbuild.llm.client  # noqa: F401 - its import sets litellm up

_AT_THE_FIRST_CALL = (
    "litellm._service_logger",
    "litellm.llms.openai.chat.gpt_audio_transformation",
    "litellm.llms.vertex_ai.vertex_ai_partner_models.anthropic.transformation",
    "litellm.proxy._types",
    "litellm.proxy.openai_files_endpoints.common_utils",
    "openai.resources.beta",
    "openai.resources.chat",
    "openai.lib.streaming.chat",
    "httpcore",
    "jiter",
)

for _name in _AT_THE_FIRST_CALL:
    with contextlib.suppress(ImportError):
        importlib.import_module(_name)
