"""Where a model answers by the configuration, as fingerprints and requests have it."""

from __future__ import annotations

from dataclasses import dataclass

OWN = "default"  # in a fingerprint: the address is the provider's own


@dataclass(frozen=True)
class Place:
    """`endpoint` is the digest of the configured address, which may carry a name and a password;
    None for the provider's own. `source` is the variable or setting with the address; `names` are
    all variables that litellm reads for the provider, of which the first that is set wins.
    `weights` is the digest of a local model's file.

    `before` are the digests of earlier versions for the same configuration: they knew other
    variables, and took a trailing slash for another address. Their results are still up to date.
    """

    endpoint: str | None = None
    source: str = ""
    names: tuple[str, ...] = ()
    before: tuple[str | None, ...] = ()
    weights: str | None = None
    is_provider: bool = True  # False for a local model, and if no model is asked

    @property
    def dependency(self) -> str | None:
        """The `endpoint` of a fingerprint; None if no provider is asked.

        The variable's name is not compared: it says how to see a job as it was built. Letters of
        earlier versions have the digest alone, or nothing for the provider's own address.
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
        """The difference from the place in a fingerprint's `endpoint`."""
        source, digest = _parts(last)
        if digest is None:
            return f"{self.source} was not set when it was built"
        if self.endpoint is not None and source in (None, self.source):
            return f"built with another {self.source}"
        return f"built with {source} set" if source else "built at another address"

    def as_built(self, last: str | None) -> str:
        """How to see a job as it was built, at the place in a fingerprint; empty if no variable of
        this model's provider says it."""
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
    """The source and the digest in a fingerprint's `endpoint`, or None."""
    if dependency is None or dependency == OWN:
        return None, None
    source, _, digest = dependency.rpartition(" ")
    return source or None, digest
