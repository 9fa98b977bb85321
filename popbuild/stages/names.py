"""The eleven stages in order: JSON carries these names, Python functions their snake_case."""

from __future__ import annotations

STAGES = (
    "ingestion",
    "preProcessing",
    "promptTemplating",
    "inference",
    "parsing",
    "validateStructure",
    "validateQuality",
    "critique",
    "refine",
    "finalValidation",
    "integration",
)

FUNCTIONS = {
    "ingestion": "ingestion",
    "preProcessing": "pre_processing",
    "promptTemplating": "prompt_templating",
    "inference": "inference",
    "parsing": "parsing",
    "validateStructure": "validate_structure",
    "validateQuality": "validate_quality",
    "critique": "critique",
    "refine": "refine",
    "finalValidation": "final_validation",
    "integration": "integration",
}
