"""Owner of password hashing work: the account and the client address it is attributed to.

`server.api.dispatcher` sets the owner of everything an action hashes; like audit lines it is passed
in the context of the task, because strategies do not receive the request. A strategy that knows
the account better, like a login, passes an owner to `PasswordHasher`.
"""

import asyncio
from collections.abc import Awaitable
from contextvars import ContextVar, copy_context
from dataclasses import dataclass
from typing import TypeVar

from server.core.ids import ANONYMOUS_ID

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class WorkOwner:
    """An account, by any name that is always the same, and a client's address; "" if there is
    none."""

    account: str
    address: str


UNATTRIBUTED = WorkOwner("", "")
"""Owner of work without a request, like an import from the command line."""
_OWNER: ContextVar[WorkOwner] = ContextVar("owner of hashing", default=UNATTRIBUTED)


def owner_of(user_id: str, address: str) -> WorkOwner:
    """Return the owner of a user's work. Unauthenticated clients at one address share an account,
    those at another address have a different one."""
    account = f"{user_id}\0{address}" if user_id == ANONYMOUS_ID else user_id
    return WorkOwner(account, address)


def current_owner() -> WorkOwner:
    """Return the owner of what is hashed in this context."""
    return _OWNER.get()


async def attribute(owner: WorkOwner, work: Awaitable[T]) -> T:
    """Run work whose hashing belongs to `owner`.

    In a task of its own, whose context ends with it: no other request inherits the owner.
    """
    context = copy_context()
    context.run(_OWNER.set, owner)
    return await asyncio.create_task(_finish(work), context=context)


async def _finish(work: Awaitable[T]) -> T:
    return await work
