"""`popbuild variant` and the commands below it."""

from popbuild.base.paths import MAIN_NAME
from popbuild.cli.options import (
    OLDER_THAN,
    REALLY,
    Command,
    Given,
    argument,
    command,
    flag,
    print_result,
    root_of,
)

_NAME = argument("name", "NAME", help="a variant, as list names it")
_AGAINST = argument("against", "OTHER", "?", help="another variant; base if absent")
_REALLY = flag("--yes", help="really change it")
_NAMES = argument("names", "NAME", "*", help="variants and globs; their draws go too")


@command("list the variants, with their jobs", of_variants=False)
def _list(given: Given) -> int:
    """List the variants: the main one, which is called base, those with files in
    pipeline-config/variants/, and those that --set or --samples made; with how many jobs each
    has in which state."""
    from popbuild.query.variant_list import summaries

    found = summaries(root_of(given))
    width = max(len(each.label) for each in found)
    return print_result(
        given.json,
        lambda: [each.as_json() for each in found],
        lambda: (each.line(width) for each in found),
    )


@command("show in what files and settings two differ", _NAME, _AGAINST, of_variants=False)
def _diff(given: Given) -> int:
    """Show in what files and settings a variant differs from the main one, or from another
    variant."""
    from popbuild.model.config.variants import choose
    from popbuild.query.variant_list import compare_variants

    root = root_of(given)
    found = compare_variants(choose(root, given.against or MAIN_NAME), choose(root, given.name))
    return print_result(given.json, found.as_json, found.lines_of_text)


@command(
    "drop the jobs of variants",
    _NAMES,
    flag("--unnamed", help="those that --set made"),
    OLDER_THAN,
    REALLY,
    of_variants=False,
)
def _drop(given: Given) -> int:
    """Drop the jobs of variants, with all that is kept of them: results before, frozen tasks,
    logs of runs. Without --yes it only says which. Their files in pipeline-config/ stay, and all
    answers in the store: built again, they cost nothing."""
    from popbuild.base.units import seconds_of
    from popbuild.upkeep.drop_variants import drop_variants

    found = drop_variants(
        root_of(given),
        given.names,
        unnamed=given.unnamed,
        older_than_s=None if given.older_than is None else seconds_of(given.older_than),
        really=given.yes,
    )
    return print_result(given.json, found.as_json, found.lines)


@command("make a variant the main one", _NAME, _REALLY, of_variants=False)
def _promote(given: Given) -> int:
    """Copy a variant's files over the main ones, write its settings into pipeline.json, and take
    over its results that are then up to date, each with a line of its own in runs.jsonl. No call
    is made. Without --yes it only shows what would change. Results that they replace are kept as
    after a rebuild."""
    from popbuild.build.promote_variant import promote_variant
    from popbuild.model.config.variants import choose

    found = promote_variant(choose(root_of(given), given.name), really=given.yes)
    return print_result(given.json, found.as_json, found.lines)


_variant = Command(
    "variant",
    "list, compare, drop variants, or make one the main one",
    text="Other prompts and settings for the same seeds: see docs/variants.md.",
    below=(_list, _diff, _drop, _promote),
)
