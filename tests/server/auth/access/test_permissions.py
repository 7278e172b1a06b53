"""What rights allow (docs/api/security.md#rights), how they are listed (§5), and that the rulebook
forgets in time."""

import tracemalloc

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protocol.errors import ApiError
from server.auth.access.builtin import install
from server.auth.access.permissions import PermissionCompiler, Rights, compile_rights
from server.storage.base import Entry, EventKind, JournalEvent, Put
from server.storage.rows import Table
from server.storage.sqlite.storage import SqliteStorage
from tests.support import permissions_model as plain_rights


def role(**controllers: dict[str, object]) -> dict[str, object]:
    return {"controllers": {name: {"actions": actions} for name, actions in controllers.items()}}


def rights(*policies: dict[str, object], **roles: dict[str, object]) -> Rights:
    """Rights of one profile whose policies are these."""
    return compile_rights(["p"], {"p": {"policies": list(policies), "rateLimit": 0}}, roles)


READ = role(document={"get": True})
ON_I = {"roleId": "r", "restrictedTo": [{"index": "i", "collections": ["a", "b"]}, {"index": "j"}]}

ROLES = (  # controllers of a role, controller asked for, action asked for, allowed
    ({"auth": {"login": True}}, "auth", "login", True),
    ({"auth": {"login": True}}, "auth", "logout", False),
    ({"auth": {"login": True}}, "server", "login", False),
    ({"auth": {"login": False}}, "auth", "login", False),
    ({"auth": {"login": 1}}, "auth", "login", False),
    ({"auth": {"*": True}}, "auth", "login", True),
    ({"auth": {"*": True, "login": False}}, "auth", "login", False),
    ({"*": {"*": True}}, "auth", "login", True),
    ({"*": {"*": True}, "auth": {"logout": True}}, "auth", "login", False),
    ({"*": {"*": True}, "auth": {}}, "auth", "login", False),
    ({"ms": {"get": True}}, "memoryStorage", "get", True),
    ({"memoryStorage": {"get": True}}, "ms", "get", True),
    ({"*": {"*": True}, "ms": {}}, "memoryStorage", "get", False),
    ({"*": {"*": True}}, "ms", "get", True),
)


@pytest.mark.parametrize(("controllers", "controller", "action", "allowed"), ROLES)
def test_an_exact_name_hides_the_star(controllers, controller, action, allowed):
    compiled = rights({"roleId": "r"}, r=role(**controllers))
    assert compiled.allows(controller, action) is allowed


PLACES = (  # arguments of a request, allowed under ON_I
    ({}, True),
    ({"index": None}, True),
    ({"index": ""}, True),
    ({"index": "i"}, True),
    ({"index": "i", "collection": "a"}, True),
    ({"index": "i", "collection": "c"}, False),
    ({"index": "j", "collection": "c"}, True),
    ({"index": "k"}, False),
    ({"index": "*"}, False),
    ({"index": 5}, False),
    ({"index": ["i"]}, False),
    ({"index": "i", "collection": {"a": 1}}, False),
    ({"collection": "c"}, True),
    ({"targets": []}, True),
    (
        {"targets": [{"index": "i", "collections": ["a"]}, {"index": "j", "collections": ["x"]}]},
        True,
    ),
    ({"targets": [{"index": "i", "collections": ["a", "c"]}]}, False),
    (
        {"targets": [{"index": "i", "collections": ["a"]}, {"index": "k", "collections": ["a"]}]},
        False,
    ),
    (
        {"targets": [{"index": "k"}, {"collections": ["a"]}, {"index": "k", "collections": []}]},
        True,
    ),
    ({"targets": [{"index": "j", "collections": ["*"]}]}, False),
    ({"targets": [{"index": "j*", "collections": ["a"]}]}, False),
    ({"targets": [{"index": "i", "collections": ["a"]}], "index": "k"}, False),
    ({"targets": "i"}, False),
    ({"targets": ["i"]}, False),
    ({"targets": [{"index": ["i"], "collections": ["a"]}]}, False),
    ({"targets": [{"index": "i", "collections": "a"}]}, False),
    ({"targets": [{"index": "i", "collections": [["a"]]}]}, False),
)


@pytest.mark.parametrize(("args", "allowed"), PLACES)
def test_restrictions_say_where(args, allowed):
    assert rights(ON_I, r=READ).allows("document", "get", args) is allowed


@pytest.mark.parametrize("args", [{"targets": [{}]}, {"targets": [{"index": "i"}]}, {"index": "i"}])
def test_skipped_targets_grant_nothing(args):
    assert not rights({"roleId": "r"}, r=READ).allows("document", "delete", args)


def test_without_restriction_a_star_in_a_target_is_refused_all_the_same():
    compiled = rights({"roleId": "r"}, r=READ)
    assert compiled.allows("document", "get", {"targets": [{"index": "i", "collections": ["a"]}]})
    assert not compiled.allows(
        "document", "get", {"targets": [{"index": "i", "collections": ["*"]}]}
    )


def test_collections_of_one_index_are_united_and_narrow_the_whole():
    places = [
        {"index": "i"},
        {"index": "i", "collections": ["a"]},
        {"index": "i", "collections": ["b"]},
    ]
    compiled = rights({"roleId": "r", "restrictedTo": places}, r=READ)
    allowed = [
        c for c in "abc" if compiled.allows("document", "get", {"index": "i", "collection": c})
    ]
    assert allowed == ["a", "b"]


@pytest.mark.parametrize(
    "restricted", ["i", {"index": "i"}, [{}], [{"index": "i", "collections": "a"}], 0]
)
def test_a_restriction_that_cant_be_read_grants_nothing(restricted):
    compiled = rights({"roleId": "r", "restrictedTo": restricted}, r=READ)
    assert not compiled.allows("document", "get")


@pytest.mark.parametrize(
    "body", [{}, {"policies": None}, {"policies": ["r"]}, {"policies": [{"roleId": 1}]}]
)
def test_a_profile_that_cant_be_read_grants_nothing(body):
    assert not compile_rights(["p"], {"p": body}, {"r": READ}).allows("document", "get")


@pytest.mark.parametrize(
    "body", [{}, {"controllers": 1}, {"controllers": {"document": {"get": True}}}]
)
def test_a_role_that_cant_be_read_grants_nothing(body):
    assert not rights({"roleId": "r"}, r=body).allows("document", "get")


def test_what_is_not_there_grants_nothing():
    assert not Rights().allows("document", "get")
    assert not rights({"roleId": "other"}, r=READ).allows("document", "get")
    assert not compile_rights(["q"], {}, {"r": READ}).allows("document", "get")


@pytest.mark.parametrize(
    ("limits", "expected"),
    [([10, 200], 200), ([10, 0], 0), ([None], 0), ([7], 7), ([], 0)],
)
def test_the_most_generous_rate_limit_counts(limits, expected):
    profiles = {str(n): {"policies": [], "rateLimit": limit} for n, limit in enumerate(limits)}
    assert compile_rights([*profiles, "absent"], profiles, {}).rate_limit == expected


def test_whoever_has_the_profile_admin_is_one():
    assert compile_rights(["default", "admin"], {}, {}).is_admin
    assert not compile_rights(["administrator"], {"administrator": {}}, {}).is_admin


def test_targets_lie_within_the_policies_together():
    """The widest of several policies counts for each index, in whatever order they come."""
    narrow = {"roleId": "r", "restrictedTo": [{"index": "i", "collections": ["a"]}]}
    other = {"roleId": "r", "restrictedTo": [{"index": "i", "collections": ["b"]}]}
    wide = {"roleId": "r", "restrictedTo": [{"index": "i"}]}
    everywhere = {"roleId": "r"}
    rows = [
        ([narrow, other], ["a", "b"]),
        ([narrow, wide, other], ["a", "b", "c"]),
        ([wide, narrow], ["a", "b", "c"]),
        ([narrow, everywhere, other], ["a", "b", "c"]),
    ]
    for policies, expected in rows:
        compiled = rights(*policies, r=READ)
        targets = {c: [{"index": "i", "collections": [c]}] for c in "abc"}
        allowed = [c for c in "abc" if compiled.allows("document", "get", {"targets": targets[c]})]
        assert allowed == expected


def test_targets_cost_no_more_than_they_say():
    """Whoever may name targets does so in every request, however many places he has."""
    policies = [
        {
            "roleId": "r",
            "restrictedTo": [{"index": "i", "collections": [f"{n}-{at}" for at in range(200)]}],
        }
        for n in range(100)
    ]
    compiled = rights(*policies, r=READ)
    targets = [{"index": "i", "collections": ["0-0", "99-199"]}]
    tracemalloc.start()
    try:
        assert compiled.allows("document", "get", {"targets": targets})
        peak_bytes = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak_bytes < 100_000  # all 20,000 names together take two megabytes


def test_what_nobody_could_read_is_not_listed(monkeypatch):
    monkeypatch.setattr("server.auth.access.permissions._MAX_LISTED", 6)
    two = role(document={"get": True, "delete": False})
    assert len(rights(ON_I, r=two).listed()) == 6
    with pytest.raises(ApiError) as refused:
        rights(ON_I, {"roleId": "r"}, r=two).listed()
    assert refused.value.status == 413


def test_the_same_role_said_again_costs_nothing():
    """A hundred profiles with a hundred policies each may name one large role."""
    large = role(document={f"a{number}": True for number in range(1000)})
    profiles = {name: {"policies": [{"roleId": "r"}] * 100} for name in ("p", "q")}
    compiled = compile_rights(profiles, profiles, {"r": large})
    assert len(compiled.listed()) == 1000  # 200,000 items are refused
    assert compiled.allows("document", "a999")


controllers = st.sampled_from(["auth", "ms", "memoryStorage", "document"])
actions = st.sampled_from(["get", "create"])
indexes, collections = st.sampled_from(["i", "j"]), st.sampled_from(["a", "b", "c"])
roles = st.dictionaries(
    controllers | st.just("*"),
    st.fixed_dictionaries({"actions": st.dictionaries(actions | st.just("*"), st.booleans())}),
).map(lambda controllers: {"controllers": controllers})
restrictions = st.lists(
    st.fixed_dictionaries(
        {"index": indexes}, optional={"collections": st.lists(collections, max_size=2)}
    ),
    max_size=3,
)
policies = st.fixed_dictionaries(
    {"roleId": st.sampled_from(["r", "s", "absent"])}, optional={"restrictedTo": restrictions}
)
profiles = st.lists(st.fixed_dictionaries({"policies": st.lists(policies, max_size=3)}), max_size=3)
targets = st.lists(
    st.fixed_dictionaries(
        {},
        optional={
            "index": indexes | st.just("*"),
            "collections": st.lists(collections | st.just("*"), max_size=2),
        },
    ),
    max_size=2,
)
requests = st.fixed_dictionaries(
    {}, optional={"index": indexes, "collection": collections, "targets": targets}
)


@settings(deadline=None)
@given(profiles, st.fixed_dictionaries({"r": roles, "s": roles}), controllers, actions, requests)
def test_compiled_rights_decide_as_the_contract_says(profiles, roles, controller, action, args):
    by_id = {str(n): profile for n, profile in enumerate(profiles)}
    compiled = compile_rights(by_id, by_id, roles)
    assert compiled.allows(controller, action, args) == plain_rights.allows(
        list(by_id), by_id, roles, controller, action, args
    )


def item(controller: str, action: str, value: str, index: str = "*", collection: str = "*"):
    return {
        "action": action,
        "collection": collection,
        "controller": controller,
        "index": index,
        "value": value,
    }


def test_each_right_is_listed_once_and_allowed_wins():
    profiles = {
        "p": {"policies": [{"roleId": "no"}, {"roleId": "yes"}, {"roleId": "no"}]},
        "q": {"policies": [{"roleId": "all"}, {"roleId": "no"}]},
    }
    roles = {
        "no": role(auth={"login": False, "logout": False}),
        "yes": role(auth={"login": True}),
        "all": role(**{"*": {"*": True}}),
    }
    assert compile_rights(["p", "q"], profiles, roles).listed() == [
        item("*", "*", "allowed"),
        item("auth", "login", "allowed"),
        item("auth", "logout", "denied"),
    ]


def test_rights_are_listed_by_place():
    assert rights(ON_I, r=READ).listed() == [
        item("document", "get", "allowed", "i", "a"),
        item("document", "get", "allowed", "i", "b"),
        item("document", "get", "allowed", "j", "*"),
    ]


def test_nobody_has_nothing_to_list():
    assert Rights().listed() == []


class Book(SqliteStorage):
    """A store that counts its reads, and can let something happen while a role is on its way."""

    reads = 0
    during = None

    async def get(self, table, **key):
        row = await super().get(table, **key)
        self.reads += 1
        if self.during is not None and table is Table.ROLES:
            happen, self.during = self.during, None
            await happen()
        return row


@pytest.fixture
async def storage():
    made = Book(":memory:", clock_ms=lambda: 0)
    await made.open()
    yield made
    await made.close()


def follow(storage: Book, rulebook: PermissionCompiler) -> PermissionCompiler:
    storage.follow(lambda entries: [rulebook.notice(entry) for entry in entries])
    return rulebook


async def write(storage: Book, name: str, actions: dict[str, object]) -> None:
    """Write a role and the profile with only this role, as a controller would."""
    body = role(auth=actions)
    profile = {"policies": [{"roleId": name}], "rateLimit": 5}
    rows = ((Table.ROLES, body), (Table.PROFILES, profile))
    puts = [Put(table, {"id": name, "body": content, "info": {}}) for table, content in rows]
    await storage.apply([*puts, JournalEvent(EventKind.RIGHTS, name)])


async def test_rights_are_read_once_and_again_after_a_change(storage):
    rulebook = follow(storage, PermissionCompiler(storage))
    await write(storage, "p", {"login": True})
    before = rulebook.generation
    first = await rulebook.rights_of(["p"])
    reads = storage.reads
    assert first.allows("auth", "login") and first.rate_limit == 5
    assert await rulebook.rights_of(("p",)) is first
    assert (storage.reads, rulebook.generation) == (reads, before)
    await write(storage, "p", {"logout": True})
    second = await rulebook.rights_of(["p"])
    assert rulebook.generation > before
    assert second.allows("auth", "logout") and not second.allows("auth", "login")


async def test_a_change_costs_the_same_however_many_have_the_role(storage):
    """Who uses a profile is read at his next request, and the profile once for all of them."""
    rulebook = follow(storage, PermissionCompiler(storage))
    await write(storage, "p", {"login": True})
    for people in (1, 1000):
        for _ in range(people):
            await rulebook.rights_of(["p"])
        reads = storage.reads
        await write(storage, "p", {"login": True})
        assert storage.reads == reads
        for _ in range(people):
            await rulebook.rights_of(["p"])
        assert storage.reads == reads + 2  # the profile and its role


SEEN = (EventKind.RIGHTS, EventKind.STRATEGY, EventKind.LOST)
"""After these everybody is read again."""


@pytest.mark.parametrize("noted", [noted for noted in EventKind if noted not in SEEN])
async def test_other_news_changes_no_rights(storage, noted):
    rulebook = PermissionCompiler(storage)
    rulebook.notice(Entry(1, noted, "p"))
    assert rulebook.generation == 0


async def test_what_was_read_before_a_change_does_not_outlive_it(storage):
    rulebook = follow(storage, PermissionCompiler(storage))
    await write(storage, "p", {"login": True})
    storage.during = lambda: write(storage, "p", {})
    assert not (await rulebook.rights_of(["p"])).allows("auth", "login")
    assert not (await rulebook.rights_of(["p"])).allows("auth", "login")


async def test_the_number_of_remembered_sets_is_bounded(storage, monkeypatch):
    monkeypatch.setattr("server.auth.access.permissions._MAX_COMPILED", 2)
    rulebook = PermissionCompiler(storage)
    first = await rulebook.rights_of(["a"])
    second = await rulebook.rights_of(["b"])
    await rulebook.rights_of(["c"])
    assert await rulebook.rights_of(["b"]) is second
    assert await rulebook.rights_of(["a"]) is not first


async def test_the_names_in_remembered_sets_are_bounded(storage, monkeypatch):
    """Many profiles may have one large role, and each set of profiles is compiled for itself."""
    monkeypatch.setattr("server.auth.access.permissions._MAX_NAMES", 25)
    rulebook = PermissionCompiler(storage)
    for name in "abc":
        await write(storage, name, {f"a{number}": True for number in range(10)})
    first, second = [await rulebook.rights_of([name]) for name in "ab"]
    assert await rulebook.rights_of(["a"]) is first
    third = await rulebook.rights_of(["c"])
    assert await rulebook.rights_of(["b"]) is second
    assert await rulebook.rights_of(["c"]) is third
    assert await rulebook.rights_of(["a"]) is not first
    await write(storage, "large", {f"a{number}": True for number in range(100)})
    assert (await rulebook.rights_of(["large"])).allows("auth", "a99")


async def test_open_mode_lets_everybody_do_everything_and_leaves_the_store_alone(storage):
    await install(storage, (), lambda: 0)
    await write(storage, "own", {"login": True})
    opened, closed = PermissionCompiler(storage, open_mode=True), PermissionCompiler(storage)
    for name in ("anonymous", "default", "admin"):
        rights = await opened.rights_of([name])
        assert rights.allows("security", "deleteUser") and rights.rate_limit == 0
    assert not (await opened.rights_of(["own"])).allows("security", "deleteUser")
    assert not (await closed.rights_of(["default"])).allows("security", "deleteUser")
    row = await storage.get(Table.ROLES, id="anonymous")
    assert row["body"] == {"controllers": {}}


async def test_a_profile_exists_once_it_is_written(storage):
    rulebook = PermissionCompiler(storage)
    assert not await rulebook.profile_exists("p")
    assert not await rulebook.profile_exists("\ud800")
    await write(storage, "p", {})
    assert await rulebook.profile_exists("p")
    assert await PermissionCompiler(storage, open_mode=True).profile_exists("default")
