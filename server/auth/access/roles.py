"""Roles: which actions of which controllers are allowed.

Knows nothing of requests; `server.auth.access.permissions` evaluates roles.
"""

from collections.abc import Callable, Container, Iterable, Mapping

from protocol.errors import error
from server.auth.access.builtin import BUILTIN, builtin_profiles
from server.auth.access.documents import (
    Document,
    content_of,
    get_each,
    make_replaced_info,
    read_document,
)
from server.auth.access.permissions import compile_rights
from server.core.documents import make_info
from server.core.ids import ANONYMOUS, check_id
from server.storage.base import (
    Absent,
    Change,
    Delete,
    EventKind,
    Exists,
    Insert,
    JournalEvent,
    Missing,
    Put,
    Storage,
    Update,
)
from server.storage.rows import Row, Table

MOST_CONTROLLERS = 500
"""Of one role."""
MOST_ACTIONS = 1000
"""Of one controller in one role."""
# Kuzzle's controllers that this server does not have: roles written for Kuzzle name them, with
# actions unknown here.
_ELSEWHERE = frozenset(
    "admin bulk cluster collection debug document index memoryStorage ms realtime".split()
)
_NO_SUGGESTION = ""

Native = Mapping[str, Container[str]]
"""The names of the actions, by controller."""


class Roles:
    """Reads, writes and deletes roles. A change applies to all following requests."""

    def __init__(self, storage: Storage, native: Native, *, clock_ms: Callable[[], int]) -> None:
        self._storage = storage
        self._native = native
        self._clock_ms = clock_ms

    async def get(self, role_id: str) -> Document:
        """Return a role; ApiError 404 for an unknown one."""
        role = await read_document(self._storage, Table.ROLES, role_id)
        if role is None:
            raise error("security.role.not_found", role_id)
        return role

    async def get_all(self, role_ids: Iterable[str]) -> list[Document]:
        """Return these roles. ApiError 404 if one is unknown, 413 if they are too large."""
        return await get_each(self.get, role_ids)

    async def create(
        self, role_id: str, given: Mapping[str, object], author: str, *, force: bool
    ) -> Document:
        """Create a role; `force` allows unknown controllers. ApiError 400 for a document that is
        not valid, and for an ID that is taken."""
        info = make_info(author, self._clock_ms())
        role = Document(check_id(role_id), self._check(role_id, given, force), info)
        try:
            await self._write(Insert(Table.ROLES, role.row()), role_id)
        except Exists:
            raise error("services.storage.document_already_exists") from None
        return role

    async def create_or_replace(
        self, role_id: str, given: Mapping[str, object], author: str, *, force: bool
    ) -> Document:
        """Write a role, whether it existed or not."""
        role = self._whole(check_id(role_id), given, author, force)
        await self._write(Put(Table.ROLES, role.row()), role_id)
        return role

    async def replace(
        self, role_id: str, given: Mapping[str, object], author: str, *, force: bool
    ) -> Document:
        """Replace an existing role; ApiError 404 for an unknown one."""
        role = self._whole(check_id(role_id, is_new=False), given, author, force)
        values: Row = {"body": role.body, "info": role.info}
        try:
            await self._write(Update(Table.ROLES, {"id": role_id}, values), role_id)
        except Missing:
            raise error("services.storage.not_found", role_id) from None
        return role

    async def delete(self, role_id: str) -> None:
        """Delete a role that no profile has. ApiError 400 for a built-in one, 404 for an unknown
        one, 412 for one in use."""
        if role_id in BUILTIN:
            raise error("security.role.cannot_delete")
        await self.get(role_id)
        unused = Absent(Table.PROFILE_ROLES, {"role_id": role_id})
        try:
            await self._write(Delete(Table.ROLES, {"id": role_id}), role_id, unused)
        except Missing:
            raise error("security.role.not_found", role_id) from None
        except Exists:
            raise error("security.role.in_use", role_id) from None

    def _whole(
        self, role_id: str, given: Mapping[str, object], author: str, force: bool
    ) -> Document:
        info = make_replaced_info(author, self._clock_ms())
        return Document(role_id, self._check(role_id, given, force), info)

    def _check(self, role_id: str, given: Mapping[str, object], force: bool) -> dict[str, object]:
        return check_role(role_id, given, self._native, force=force)

    async def _write(self, change: Change, role_id: str, *guards: Change) -> None:
        await self._storage.apply([*guards, change, JournalEvent(EventKind.RIGHTS, role_id)])


def check_role(
    role_id: str, given: Mapping[str, object], native: Native, *, force: bool = False
) -> dict[str, object]:
    """Return a role's document, `controllers` first; ApiError 400 if it is not valid."""
    content = content_of(given)
    name = f"{role_id}.controllers"
    if "controllers" in content and content["controllers"] is None:
        raise error("api.assert.missing_argument", name)
    controllers = _full_object(content.pop("controllers", {}), name, MOST_CONTROLLERS)
    for controller, rights in controllers.items():
        members = _full_object(rights, controller)
        if "actions" not in members:
            raise error("api.assert.missing_argument", controller)
        actions = _full_object(members["actions"], f"{controller}.actions", MOST_ACTIONS)
        for action, value in actions.items():
            if not isinstance(value, bool):
                raise error("api.assert.invalid_type", f"{controller}.actions.{action}", "boolean")
        _check_names(role_id, controller, actions, native, force)
    body = {"controllers": controllers, **content}
    if role_id == ANONYMOUS and not _allows_login(body):
        raise error("security.role.login_required")
    return body


def _full_object(value: object, name: str, max_members: int = MOST_ACTIONS) -> dict[str, object]:
    if not isinstance(value, dict):
        raise error("api.assert.invalid_type", name, "object")
    if not value:
        raise error("api.assert.empty_argument", name)
    if len(value) > max_members:
        raise error("api.assert.too_many_arguments", name, max_members)
    return value


def _check_names(
    role_id: str, controller: str, actions: Iterable[str], native: Native, force: bool
) -> None:
    """Refuse unknown names: a misspelt one would grant less, or later more, than its author
    expects."""
    named = [action for action in actions if action != "*"]
    if controller == "*":
        if named:
            raise error("security.role.unknown_action", role_id, named[0], "*")
    elif controller in native:
        for action in named:
            if action not in native[controller]:
                props = (role_id, action, controller, _NO_SUGGESTION)
                raise error("security.role.unknown_action", *props)
    elif controller not in _ELSEWHERE and not force:
        raise error("security.role.unknown_controller", role_id, controller, _NO_SUGGESTION)


def _allows_login(body: dict[str, object]) -> bool:
    """Return whether anonymous clients can log in. Stricter than Kuzzle, which overlooks an exact
    name that overrides a `*`: it would lock every user out permanently."""
    rights = compile_rights([ANONYMOUS], builtin_profiles(), {ANONYMOUS: body})
    return rights.allows("auth", "login")
