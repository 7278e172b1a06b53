"""Search mappings: types of the fields of users, profiles and roles.

Fields that are not in a mapping are searched too, as keywords. Fields of users that are in the
mapping are indexed.
"""

import asyncio
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import cast

import orjson

from protocol.errors import error
from server.auth.search.clauses import Fields
from server.storage.base import Change, Exists, Insert, Missing, Put, Storage, Unchanged
from server.storage.rows import Row, Table
from server.storage.search import ID, PROFILES, ROLES, USERS, View

MOST_FIELDS = 1000
MOST_LEVELS = 20
MOST_BYTES = 65_536
"""Of the JSON of one mapping."""
_ATTEMPTS = 20
_ROOT = "properties", "dynamic", "_meta", "dynamic_templates"
_DYNAMIC = {True: "true", False: "false", "true": "true", "false": "false", "strict": "strict"}
_TYPES = frozenset(
    (
        "alias binary boolean byte completion date date_nanos date_range dense_vector double "
        "double_range flat_object flattened float float_range geo_point geo_shape half_float "
        "integer integer_range ip ip_range join keyword constant_keyword wildcard long long_range "
        "nested object percolator point rank_feature rank_features scaled_float search_as_you_type "
        "shape short sparse_vector text token_count unsigned_long version"
    ).split()
)
_BY_WORD = frozenset({"text", "search_as_you_type"})
_FAST = frozenset(
    (
        "boolean byte constant_keyword date date_nanos double float half_float integer ip keyword "
        "long scaled_float short unsigned_long version"
    ).split()
)
_KEYWORD, _DATE = {"type": "keyword"}, {"type": "date"}
_INFO = "_kuzzle_info"
_INFO_MAPPING = {
    "properties": {
        "author": _KEYWORD,
        "createdAt": _DATE,
        "updater": _KEYWORD,
        "updatedAt": _DATE,
    }
}
_RESTRICTIONS = {
    "type": "nested",
    "properties": {"index": _KEYWORD, "collections": _KEYWORD},
}
_POLICIES = {"properties": {"roleId": _KEYWORD, "restrictedTo": _RESTRICTIONS}}


@dataclass(frozen=True, slots=True, eq=False)
class Collection:
    """A searchable collection, and its initial mapping."""

    name: str
    view: View
    properties: Mapping[str, object]


def _collection(name: str, view: View, properties: dict[str, object]) -> Collection:
    return Collection(name, view, MappingProxyType(properties | {_INFO: _INFO_MAPPING}))


USER_COLLECTION = _collection("users", USERS, {"profileIds": _KEYWORD})
PROFILE_COLLECTION = _collection("profiles", PROFILES, {"tags": _KEYWORD, "policies": _POLICIES})
ROLE_COLLECTION = _collection("roles", ROLES, {"tags": _KEYWORD})
COLLECTIONS = (USER_COLLECTION, PROFILE_COLLECTION, ROLE_COLLECTION)


class Mappings:
    """Reads and changes mappings, which are kept in the store."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage
        # Avoids retries within this process; the guards in `_merge` are what loses nothing.
        self._updating = asyncio.Lock()

    async def get(self, collection: Collection) -> dict[str, object]:
        """Return a mapping: `dynamic`, `properties`, and `_meta` where set."""
        row = await self._storage.get(Table.SETTINGS, name=_setting(collection))
        return _mapping_of(collection, row)

    async def fields(self, collection: Collection) -> Fields:
        """Return what queries need to know of the fields."""
        types = dict(_types_in(_properties(await self.get(collection))))
        by_word = {name for name, kind in types.items() if kind in _BY_WORD}
        listed = [name for name, kind in types.items() if kind in _BY_WORD or kind == "keyword"]
        return Fields(frozenset(by_word), (ID, *listed))

    async def update(self, collection: Collection, change: dict[str, object]) -> dict[str, object]:
        """Add to a mapping and return the whole of it. ApiError 400 for a change that is not valid,
        and for another type of a field that has one."""
        _check(change)
        async with self._updating:
            mapping = await self._merge(collection, change)
        if collection is USER_COLLECTION:
            types = _types_in(_properties(mapping))
            await self._storage.index_fields(name for name, kind in types if kind in _FAST)
        return mapping

    async def _merge(self, collection: Collection, change: dict[str, object]) -> dict[str, object]:
        """Store a mapping with its additions; another process may do the same at this moment."""
        for _ in range(_ATTEMPTS):
            old = await self._storage.get(Table.SETTINGS, name=_setting(collection))
            mapping = _extended(_mapping_of(collection, old), change)
            row: Row = {"name": _setting(collection), "value": mapping}
            changes: list[Change] = (
                [Insert(Table.SETTINGS, row)]
                if old is None
                else [Unchanged(Table.SETTINGS, old), Put(Table.SETTINGS, row)]
            )
            try:
                await self._storage.apply(changes)
            except (Exists, Missing):
                continue  # another process was faster
            return mapping
        raise error("services.storage.too_many_changes")


def _mapping_of(collection: Collection, row: Row | None) -> dict[str, object]:
    """Return a mapping as stored, or as it is before any change."""
    if row is not None:
        return cast("dict[str, object]", row["value"])
    return {"dynamic": "false", "properties": dict(collection.properties)}


def _extended(mapping: dict[str, object], change: dict[str, object]) -> dict[str, object]:
    """Return a mapping with its additions; ApiError 400 beyond its limits."""
    properties = _merged(_properties(mapping), _properties(change), "", 1)
    extended = {**mapping, "properties": properties}
    if "dynamic" in change:
        extended["dynamic"] = _DYNAMIC[cast(str, change["dynamic"])]
    if "_meta" in change:
        extended["_meta"] = change["_meta"]
    if len(list(_types_in(properties))) > MOST_FIELDS or len(orjson.dumps(extended)) > MOST_BYTES:
        limit = f"at most {MOST_FIELDS} fields and {MOST_BYTES} bytes in all"
        raise error("services.storage.invalid_mapping", limit)
    return extended


def _setting(collection: Collection) -> str:
    return f"mapping.{collection.name}"


def _check(change: dict[str, object]) -> None:
    for name in change:
        if name not in _ROOT:
            raise error("services.storage.invalid_mapping", f"unknown member {name}")
    for name, kind in (("properties", dict), ("_meta", dict), ("dynamic_templates", list)):
        if not isinstance(change.get(name, kind()), kind):
            raise error("services.storage.invalid_mapping", f"{name} has the wrong type")
    dynamic = change.get("dynamic", "false")
    if not isinstance(dynamic, str | bool) or dynamic not in _DYNAMIC:
        reason = 'dynamic must be "true", "false" or "strict"'
        raise error("services.storage.invalid_mapping", reason)


def _properties(mapping: Mapping[str, object]) -> dict[str, object]:
    return cast("dict[str, object]", mapping.get("properties", {}))


def _merged(
    old: Mapping[str, object], new: Mapping[str, object], path: str, level: int
) -> dict[str, object]:
    """Return the definitions of fields with the new ones, objects member by member."""
    if level > MOST_LEVELS:
        raise error("services.storage.invalid_mapping", f"at most {MOST_LEVELS} levels")
    merged = dict(old)
    for name, given in new.items():
        field = f"{path}{name}"
        if not name or not isinstance(given, dict):
            raise error("services.storage.wrong_mapping_property", field)
        kind = _type_of(field, given)
        present = cast("dict[str, object]", merged.get(name, {}))
        if present and _type_of(field, present) != kind:
            raise error("services.storage.cannot_change_mapping", field)
        inner: dict[str, object] = {}
        if "properties" in present or "properties" in given:
            old_ones, new_ones = _properties(present), _properties(given)
            inner["properties"] = _merged(old_ones, new_ones, f"{field}.", level + 1)
        merged[name] = {**present, **given, **inner}
    return merged


def _type_of(field: str, given: dict[str, object]) -> str:
    """Return a field's type; one that only has fields in it is an object."""
    kind = given.get("type", "object" if "properties" in given else None)
    if kind is None or not isinstance(given.get("properties", {}), dict):
        raise error("services.storage.wrong_mapping_property", field)
    if not isinstance(kind, str) or kind not in _TYPES:
        raise error("services.storage.invalid_mapping_type", kind)
    return kind


def _types_in(properties: Mapping[str, object], path: str = "") -> Iterator[tuple[str, str]]:
    """Return the fields with values of their own, as paths, with their types."""
    for name, given in properties.items():
        if isinstance(given, dict):
            if "properties" in given:
                yield from _types_in(_properties(given), f"{path}{name}.")
            else:
                yield f"{path}{name}", str(given.get("type"))
