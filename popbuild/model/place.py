"""Where a model answers, as far as it is configured: what a fingerprint and a request say of it."""

from __future__ import annotations

from dataclasses import dataclass

OWN = "default"  # in a fingerprint: the address is the provider's own


@dataclass(frozen=True)
class Place:
    """Where a model answers.

    `endpoint` is the digest of the configured address, None for the provider's own. A digest,
    since an address may carry a name and a password. `source` is the variable or the setting that
    the address stands in; `names` are all variables that litellm reads for the provider, the
    first that is set wins. `weights` is the digest of a local model's file.

    `before` are the digests that versions before computed for the same configuration: they knew
    other variables, and took a trailing slash for another address. What they built and stored is
    still up to date.
    """

    endpoint: str | None = None
    source: str = ""
    names: tuple[str, ...] = ()
    before: tuple[str | None, ...] = ()
    weights: str | None = None
    is_provider: bool = True  # False for a local model, and where no model is asked

    @property
    def dependency(self) -> str | None:
        """What a fingerprint has as `endpoint`; None where no provider is asked.

        The name of the variable is written down and not compared: it says how to look at a job as
        it was built. It tells these letters from those of before, which have the digest alone, or
        nothing for the provider's own address.
        """
        if not self.is_provider:
            return None
        return OWN if self.endpoint is None else f"{self.source} {self.endpoint}"

    def is_that_of(self, last: str | None) -> bool:
        """Whether a fingerprint's `endpoint` means this place."""
        source, digest = _parts(last)
        is_of_before = source is None and last != OWN
        return digest == self.endpoint or (is_of_before and digest in self.before)

    def since(self, last: str | None) -> str:
        """What differs from the place that a fingerprint's `endpoint` means."""
        source, digest = _parts(last)
        if digest is None:
            return f"{self.source} was not set when it was built"
        if self.endpoint is not None and source in (None, self.source):
            return f"built with another {self.source}"
        return f"built with {source} set" if source else "built at another address"

    def as_built(self, last: str | None) -> str:
        """How to look at a job as it was built, at the place in a fingerprint; empty where no
        variable of this model's provider says it."""
        source, digest = _parts(last)
        if digest is None:
            return f"unset {self.source}" if self.source in self.names else ""
        if source is None:
            names = " or ".join(self.names)
        else:
            names = source if source in self.names else ""
        return f"set {names} as it was then" if names else ""


NOWHERE = Place(is_provider=False)


def _parts(dependency: str | None) -> tuple[str | None, str | None]:
    """The source and the digest in a fingerprint's `endpoint`, each None where there is none."""
    if dependency is None or dependency == OWN:
        return None, None
    source, _, digest = dependency.rpartition(" ")
    return source or None, digest
