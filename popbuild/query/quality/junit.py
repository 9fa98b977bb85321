"""Tests as JUnit XML, which the pages of CI servers show."""

from __future__ import annotations

from collections.abc import Sequence
from xml.sax.saxutils import quoteattr

from popbuild.base.errors import printable
from popbuild.query.quality.judged import JudgedTest


def junit_xml(tests: Sequence[JudgedTest]) -> str:
    """A suite for each test, a case for each check. It has no times, so that the same results are
    the same file."""
    lines = ['<?xml version="1.0" encoding="UTF-8"?>', f"<testsuites{_counts(tests)}>"]
    for test in tests:
        lines.append(f"  <testsuite name={_said(test.title)}{_counts([test])}>")
        for check in test.checks:
            head = f"    <testcase classname={_said(test.title)} name={_said(check.name)}"
            if check.passed:
                lines.append(f"{head}/>")
            else:
                lines.append(f"{head}>")
                lines.append(f"      <failure message={_said(check.found)}/>")
                lines.append("    </testcase>")
        lines.append("  </testsuite>")
    return "\n".join([*lines, "</testsuites>", ""])


def _counts(tests: Sequence[JudgedTest]) -> str:
    checks = [check for test in tests for check in test.checks]
    failed = sum(not check.passed for check in checks)
    return f' tests="{len(checks)}" failures="{failed}"'


def _said(text: str) -> str:
    return quoteattr(printable(text))
