"""Shows what calls have to say while they are made: waits for a provider, troubles of the store."""

from __future__ import annotations

from popbuild.build.events import Events
from popbuild.llm.notices import Notices, ProviderWait


async def show_notices(notices: Notices, events: Events) -> None:
    """Until the calls are closed."""
    while (notice := await notices.get()) is not None:
        if isinstance(notice, ProviderWait):
            events.waiting_for_provider(notice.reason, notice.wait_s)
        else:
            events.store_trouble(notice.text)
