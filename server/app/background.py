"""Background jobs of a running server."""

import asyncio
import logging
from email.utils import formatdate

from protocol.config import ConnectionConfig
from server.api.context import AppContext
from server.storage.base import Unavailable

_LOG = logging.getLogger("manykeys.app")
_AUDIT_S = 1.0
_SWEEP_S = 60.0
_DATE_S = 1.0
_ENDS_S = 0.1


async def keep_date(wire: ConnectionConfig) -> None:
    """Update the Date header of responses once a second."""
    while True:
        wire.set_date(formatdate(usegmt=True))
        await asyncio.sleep(_DATE_S)


async def sweep(services: AppContext) -> None:
    """Delete expired sessions periodically."""
    while True:
        await asyncio.sleep(_SWEEP_S)
        try:
            await services.tokens.write_uses()
            await services.tokens.sweep()
            await services.trail.sweep()
        except Unavailable as reason:
            _LOG.warning("session cleanup failed: %s", reason)


async def keep_trail(services: AppContext) -> None:
    """Write pending audit events to the database."""
    while True:
        await asyncio.sleep(_AUDIT_S)
        try:
            await services.trail.flush()
        except Unavailable as reason:
            _LOG.warning("audit log write failed, retrying: %s", reason)


async def tell_ends(services: AppContext) -> None:
    """Notify WebSockets whose tokens have expired."""
    while True:
        await asyncio.sleep(_ENDS_S)
        services.links.tick()
