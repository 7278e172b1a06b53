"""Permissions: roles and profiles compiled into the rights of each set of profiles.

Kuzzle's rule, in short: a request is allowed if any policy of any of the user's profiles allows it.
`false` in a role only means that this role does not grant the action.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType

from protocol.errors import error
from server.auth.access.builtin import builtin_profiles, builtin_roles
from server.core.ids import ADMIN, is_id
from server.storage.base import Entry, EventKind, Storage
from server.storage.rows import Table

# Two names of one controller: a role that names either means both.
_ALIASES = {"ms": "memoryStorage", "memoryStorage": "ms"}
_NO_ARGS: Mapping[str, object] = MappingProxyType({})
_NO_ACTIONS: Mapping[str, bool] = MappingProxyType({})
# Sets of profiles in use at one time; far more than any installation needs, and little memory.
_MAX_COMPILED = 1024
# Of actions and collections in all of them, some 100 MiB: one role may have tens of thousands.
_MAX_NAMES = 500_000
# Of all combinations of action and place that a user's rights are listed as.
_MAX_LISTED = 50_000

Controllers = Mapping[str, Mapping[str, bool]]
_EVERYTHING: Controllers = {"*": {"*": True}}
Places = Mapping[str, frozenset[str]]
"""Index to collections. No index: everywhere. An index without collections: all of it."""


@dataclass(frozen=True, slots=True)
class _Policy:
    """One role of a profile, and the places where it is valid."""

    controllers: Controllers
    places: Places

    def grants(self, controller: str, action: str) -> bool:
        """An exact name overrides `*`, even where it does not mention this action."""
        actions = self.controllers.get(controller)
        if actions is None and controller in _ALIASES:
            actions = self.controllers.get(_ALIASES[controller])
        if actions is None:
            actions = self.controllers.get("*", _NO_ACTIONS)
        return actions.get(action, actions.get("*", False))

    def names(self) -> int:
        """Count the names it keeps."""
        actions = sum(map(len, self.controllers.values()))
        return actions + sum(map(len, self.places.values())) + len(self.places)

    def size(self) -> int:
        """Count the entries it is listed as."""
        places = sum(max(1, len(collections)) for collections in self.places.values())
        return max(1, places) * sum(len(actions) for actions in self.controllers.values())


def _covers(places: Places, index: object, collection: object) -> bool:
    if not places or index is None or index == "":
        return True
    collections = places.get(index) if isinstance(index, str) else None
    if collections is None:
        return False
    if not collections or collection is None or collection == "":
        return True
    return isinstance(collection, str) and collection in collections


@dataclass(frozen=True, slots=True)
class Rights:
    """Rights of the users with a set of profiles. `rate_limit` is in requests per second, 0 for
    none; `names` counts the actions and collections that are kept."""

    rate_limit: int = 0
    is_admin: bool = False
    names: int = 0
    _policies: tuple[_Policy, ...] = ()
    # Granted by name and everywhere, or all at once: most requests are decided by this alone.
    _granted: frozenset[tuple[str, str]] = frozenset()
    _grants_all: bool = False

    def allows(self, controller: str, action: str, args: Mapping[str, object] = _NO_ARGS) -> bool:
        """Return whether a request is allowed; `index`, `collection` and `targets` of `args` say
        where it acts."""
        targets = args.get("targets")
        if not targets and (self._grants_all or (controller, action) in self._granted):
            return True
        granting = [policy for policy in self._policies if policy.grants(controller, action)]
        index, collection = args.get("index"), args.get("collection")
        if not any(_covers(policy.places, index, collection) for policy in granting):
            return False
        return not targets or _all_covered(targets, [policy.places for policy in granting])

    def limited_to(self, names: Iterable[tuple[str, str]]) -> "Rights":
        """Return these rights limited to these actions (controller, name)."""
        wanted = frozenset(names)
        policies = []
        for policy in self._policies:
            controllers: dict[str, dict[str, bool]] = {}
            for controller, action in wanted:
                if policy.grants(controller, action):
                    controllers.setdefault(controller, {})[action] = True
            policies.append(_Policy(controllers, policy.places))
        granted = frozenset(
            (controller, action)
            for policy in policies
            if not policy.places
            for controller, actions in policy.controllers.items()
            for action in actions
        )
        return Rights(self.rate_limit, False, self.names, tuple(policies), granted)

    def listed(self) -> list[dict[str, object]]:
        """Return all rights as the API lists them: once each, "allowed" where any policy allows it.

        ApiError 413 where actions times places are more than a response may contain.
        """
        if sum(policy.size() for policy in self._policies) > _MAX_LISTED:
            raise error("services.storage.get_limit_exceeded")
        values: dict[tuple[str, str, str, str], bool] = {}
        for policy in self._policies:
            places = [
                (index, collection)
                for index, collections in (policy.places or {"*": frozenset()}).items()
                for collection in (collections or {"*"})
            ]
            for controller, actions in policy.controllers.items():
                for action, allowed in actions.items():
                    for index, collection in places:
                        key = (controller, action, index, collection)
                        values[key] = values.get(key, False) or allowed
        return [
            {
                "action": action,
                "collection": collection,
                "controller": controller,
                "index": index,
                "value": "allowed" if values[controller, action, index, collection] else "denied",
            }
            for controller, action, index, collection in sorted(values)
        ]


def _all_covered(targets: object, allowed: Iterable[Places]) -> bool:
    """Return whether each target lies within the places of some policy. Incomplete targets are
    skipped; a `*` in a name, or anything but a list of targets, is refused."""
    missing = _read_targets(targets)
    if missing is None:
        return False
    for places in allowed:
        if not places:
            return True
        for index in missing.keys() & places.keys():
            collections = places[index]
            # The smaller of two sets is what this costs: a policy may name very many.
            covered = missing[index] & collections if collections else frozenset(missing[index])
            missing[index] -= covered | {""}  # no collection is any
    return not any(missing.values())


def _read_targets(targets: object) -> dict[str, set[str]] | None:
    """Return the collections that targets name, by index; None if they are not valid targets."""
    named: dict[str, set[str]] = {}
    if not isinstance(targets, list | tuple):
        return None
    for target in targets:
        if not isinstance(target, Mapping):
            return None
        index, collections = target.get("index"), target.get("collections")
        if not index or not collections:
            continue
        if not isinstance(index, str) or not isinstance(collections, list | tuple):
            return None
        if "*" in index or not all(isinstance(one, str) and "*" not in one for one in collections):
            return None
        named.setdefault(index, set()).update(collections)
    return named


def compile_rights(
    profile_ids: Iterable[str],
    profiles: Mapping[str, Mapping[str, object]],
    roles: Mapping[str, Mapping[str, object]],
) -> Rights:
    """Compile the rights of these profiles from the documents by ID; an unknown one grants
    nothing."""
    wanted = tuple(profile_ids)
    bodies = [profiles[profile_id] for profile_id in wanted if profile_id in profiles]
    controllers_of = {role_id: _read_controllers(role) for role_id, role in roles.items()}
    unplaced: dict[str, Controllers] = {}
    policies = []
    for body in bodies:
        for role_id, places in _read_policies(body):
            if role_id not in controllers_of or (not places and role_id in unplaced):
                continue  # the same role everywhere, repeated, grants nothing more
            if not places:
                unplaced[role_id] = controllers_of[role_id]
            policies.append(_Policy(controllers_of[role_id], places))
    limits = [_read_rate_limit(body) for body in bodies]
    granted = {
        (controller, action)
        for controllers in unplaced.values()
        for controller, actions in controllers.items()
        for action, allowed in actions.items()
        if allowed
    }
    rate_limit = 0 if 0 in limits else max(limits, default=0)
    grants_all = _Policy(_EVERYTHING, {}) in policies
    names = sum(policy.names() for policy in policies)
    is_admin = ADMIN in wanted
    return Rights(rate_limit, is_admin, names, tuple(policies), frozenset(granted), grants_all)


def _read_rate_limit(profile: Mapping[str, object]) -> int:
    limit = profile.get("rateLimit")
    return limit if isinstance(limit, int) else 0


def _read_policies(profile: Mapping[str, object]) -> list[tuple[str, Places]]:
    """Return role IDs and places. A stored document that validation would not accept grants
    nothing."""
    read = []
    policies = profile.get("policies")
    for policy in policies if isinstance(policies, list) else ():
        role_id = policy.get("roleId") if isinstance(policy, dict) else None
        if isinstance(role_id, str):
            places = _read_places(policy.get("restrictedTo"))
            if places is not None:
                read.append((role_id, places))
    return read


def _read_places(restrictions: object) -> Places | None:
    """Unite the collections of each index; "all of it" only where no entry for the index names
    collections."""
    places: dict[str, set[str]] = {}
    if restrictions is None:
        return {}
    if not isinstance(restrictions, list):
        return None
    for restriction in restrictions:
        index = restriction.get("index") if isinstance(restriction, dict) else None
        if not isinstance(index, str):
            return None
        collections = restriction.get("collections", [])
        if not isinstance(collections, list) or not all(isinstance(c, str) for c in collections):
            return None
        places.setdefault(index, set()).update(collections)
    return {index: frozenset(collections) for index, collections in places.items()}


def _read_controllers(role: Mapping[str, object]) -> Controllers:
    """Return the actions of each controller; only `true` itself allows."""
    read: dict[str, Mapping[str, bool]] = {}
    controllers = role.get("controllers")
    for name, controller in controllers.items() if isinstance(controllers, dict) else ():
        actions = controller.get("actions") if isinstance(controller, dict) else None
        if isinstance(actions, dict):
            read[name] = {action: value is True for action, value in actions.items()}
        else:
            read[name] = _NO_ACTIONS
    return read


@dataclass(slots=True, eq=False)
class _Documents:
    """The documents that one compilation has read so far; built-in documents of open mode are there
    from the start."""

    profiles: dict[str, Mapping[str, object]] = field(default_factory=dict)
    roles: dict[str, Mapping[str, object]] = field(default_factory=dict)


class PermissionCompiler:
    """Compiles roles and profiles from the store, and caches the result until one of them changes.

    In open mode the built-in roles and profiles allow everything to everyone, whatever the store
    says of them. `generation` grows with every change: rights may be cached as long as it stays the
    same.
    """

    def __init__(self, storage: Storage, *, open_mode: bool = False) -> None:
        self.generation = 0
        self._storage = storage
        self._overlay = _Documents()
        if open_mode:
            self._overlay.profiles.update(builtin_profiles(open_mode=True))
            self._overlay.roles.update(builtin_roles((), open_mode=True))
        self._compiled: dict[tuple[str, ...], Rights] = {}

    async def rights_of(self, profile_ids: Sequence[str]) -> Rights:
        """Return the rights of a user with these profiles."""
        wanted = tuple(profile_ids)
        while True:
            rights = self._compiled.get(wanted)
            if rights is not None:
                return rights
            generation = self.generation
            rights = await self._compile(wanted)
            # What was read before a change must not outlive it, so it is read again.
            if generation == self.generation:
                self._remember(wanted, rights)

    def _remember(self, wanted: tuple[str, ...], rights: Rights) -> None:
        """Keep what was compiled, in place of as many older ones as its size requires."""
        kept = self._compiled
        names = sum(older.names for older in kept.values()) + rights.names
        while kept and (len(kept) >= _MAX_COMPILED or names > _MAX_NAMES):
            names -= kept.pop(next(iter(kept))).names
        kept[wanted] = rights

    def notice(self, entry: Entry) -> None:
        """Follow the journal: forget everything compiled when a role or profile has changed. When
        strategies are added or removed, every user is read again too: their cache shows them."""
        if entry.noted in (EventKind.RIGHTS, EventKind.STRATEGY, EventKind.LOST):
            self.generation += 1
            self._compiled.clear()

    async def profile_exists(self, profile_id: str) -> bool:
        """Return whether users can have this profile."""
        if profile_id in self._overlay.profiles:
            return True
        return is_id(profile_id) and await self._storage.exists(Table.PROFILES, id=profile_id)

    async def _compile(self, profile_ids: tuple[str, ...]) -> Rights:
        documents = _Documents(dict(self._overlay.profiles), dict(self._overlay.roles))
        for profile_id in profile_ids:
            await self._read(Table.PROFILES, profile_id, documents.profiles)
            for role_id, _ in _read_policies(documents.profiles.get(profile_id, {})):
                await self._read(Table.ROLES, role_id, documents.roles)
        return compile_rights(profile_ids, documents.profiles, documents.roles)

    async def _read(self, table: Table, name: str, into: dict[str, Mapping[str, object]]) -> None:
        if name not in into:
            row = await self._storage.get(table, id=name)
            body = row["body"] if row is not None else None
            if isinstance(body, dict):
                into[name] = body


async def check_profiles_exist(rulebook: PermissionCompiler, profile_ids: Iterable[str]) -> None:
    """Raise ApiError 404 for an unknown profile."""
    for profile_id in profile_ids:
        if not await rulebook.profile_exists(profile_id):
            raise error("security.profile.not_found", profile_id)
