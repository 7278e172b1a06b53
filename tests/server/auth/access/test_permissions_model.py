"""Rights through the whole server, against a plain reading of the contract
(docs/api/security.md#rights, #listed-rights; security check S9).

Roles, profiles and users come, change and go in any order, by the actions an administrator has.
After each step every live token must get the answers that the documents of that moment give, and
must get them again from what is kept.
"""

import asyncio
import json
from dataclasses import replace
from itertools import count
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from protocol.api.envelope import PreparedJson
from protocol.api.request import Origin, Request, Response
from protocol.http11.head import NO_HEAD
from server.api.actions import all_actions
from server.api.context import AppContext
from server.api.dispatcher import Dispatcher
from server.api.request_log import RequestLog
from server.app.application import build_services
from server.app.build import make_wire
from server.auth.access.builtin import builtin_profiles, builtin_roles
from server.auth.identity.user import User
from server.auth.limits.rate_limits import RateLimits
from server.storage.base import Delete, EventKind, Insert, JournalEvent, Update
from server.storage.rows import Table
from server.storage.sqlite.storage import SqliteStorage
from tests.support import permissions_model as plain_rights
from tests.support.server import cheap_config

HOUR_MS = 3_600_000
ADMIN = "boss"

role_ids = st.sampled_from(["r", "s", "t"])
profile_ids = st.sampled_from(["p", "q", "o"])
kuids = st.sampled_from(["ann", "bob", "eve"])
indexes, collections = st.sampled_from(["i", "j"]), st.sampled_from(["a", "b", "c"])
# What this server has, what only the reference has, and its two names of one controller.
ACTIONS = {
    "auth": ["getMyRights", "getCurrentUser"],
    "server": ["now"],
    "document": ["get"],
    "ms": ["get"],
    "memoryStorage": ["get"],
}


NAMES = [
    (controller, action) for controller, actions in ACTIONS.items() for action in (*actions, "*")
]


def as_controllers(values: dict[tuple[str, str], bool]) -> dict[str, dict]:
    """Give what a role says for these values of controllers' actions."""
    controllers: dict[str, dict] = {}
    for (controller, action), value in values.items():
        controllers.setdefault(controller, {"actions": {}})["actions"][action] = value
    return controllers


roles = st.dictionaries(
    st.sampled_from([*NAMES, ("*", "*")]), st.booleans(), min_size=1, max_size=8
).map(as_controllers)
restrictions = st.lists(
    st.fixed_dictionaries(
        {"index": indexes}, optional={"collections": st.lists(collections, max_size=2)}
    ),
    max_size=3,
)
policies = st.lists(
    st.fixed_dictionaries({"roleId": role_ids}, optional={"restrictedTo": restrictions}),
    min_size=1,
    max_size=3,
)
owned = st.lists(profile_ids, min_size=1, max_size=2, unique=True)
places = st.one_of(
    st.fixed_dictionaries({}, optional={"index": indexes, "collection": collections}),
    st.fixed_dictionaries(
        {
            "targets": st.lists(
                st.fixed_dictionaries(
                    {},
                    optional={
                        "index": indexes | st.just("*"),
                        "collections": st.lists(collections | st.just("*"), max_size=2),
                    },
                ),
                max_size=3,
            )
        }
    ),
)


def target(index: str, *collections: str) -> dict[str, object]:
    """Give one of a request's targets."""
    return {"index": index, "collections": list(collections)}


PLACES: list[dict[str, Any]] = [
    {},
    *({"index": index} for index in "ijk"),
    *({"index": index, "collection": collection} for index in "ij" for collection in "abc"),
    {"collection": "a"},
    *({"targets": [target(index, "a")]} for index in ("i", "j", "i*", "*")),
    {"targets": [target("i", "a", "b"), target("j", "a"), {"index": "k"}]},
    {"targets": [target("i", "*")]},
    {"targets": [{"collections": ["c"]}]},
]


class Server:
    """The real parts, without sockets."""

    def __init__(self, services: AppContext) -> None:
        config = services.config
        self.services = services
        self.dispatcher = Dispatcher(
            services, make_wire(config, services.node), RequestLog(config.logs.requests)
        )

    @classmethod
    async def start(cls) -> "Server":
        """Give a server with an empty store."""
        storage = SqliteStorage(":memory:", clock_ms=lambda: 0)
        await storage.open()
        services = await build_services(cheap_config(), storage, open_mode=False)
        # A second goes by between any two requests: rate limits are not what is tested here.
        limits = RateLimits(logins_per_second=0, clock_s=count().__next__)
        return cls(replace(services, limits=limits))

    async def stop(self) -> None:
        """Let go of its threads."""
        self.services.close()
        await self.services.storage.close()

    async def ask(self, token: str | None, name: str, body: Any = None, **args: Any) -> Response:
        """Answer as a connection would have it answered."""
        controller, _, action = name.partition(":")
        request = Request(
            Origin.HTTP,
            NO_HEAD,
            controller=controller,
            action=action,
            token=token,
            body=body,
            args=args,
        )
        ready = self.dispatcher.try_cached(request)
        if ready is not None:
            return Response(ready[0], controller, action, ready[1])
        return await self.dispatcher.answer(request)

    async def login(self, kuid: str) -> str:
        """Give a token of a user's."""
        user = await self.services.users.get(kuid)
        assert user is not None
        return (await self.services.issuer.issue(user, HOUR_MS)).token

    async def give_profiles(self, kuid: str, profile_ids: list[str]) -> None:
        """Replace a user's profiles, all of which are there."""
        user: User | None = await self.services.users.get(kuid)
        assert user is not None
        rows = [{"kuid": kuid, "profile_id": profile_id} for profile_id in user.profile_ids]
        changes: list = [Delete(Table.USER_PROFILES, row) for row in rows]
        changes.append(Update(Table.USERS, {"kuid": kuid}, {"profile_ids": profile_ids}))
        for profile_id in profile_ids:
            row = {"kuid": kuid, "profile_id": profile_id}
            changes.append(Insert(Table.USER_PROFILES, row))
        await self.services.storage.apply([*changes, JournalEvent(EventKind.USER, kuid)])


def result_of(response: Response) -> Any:
    """Read a result, kept or not."""
    result = response.result
    return json.loads(result.json) if isinstance(result, PreparedJson) else result


class Rights(RuleBasedStateMachine):
    """The documents as they should be, beside the server that has them."""

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.server = self.run(Server.start())
        self.roles: dict[str, dict] = builtin_roles(all_actions(), False)
        self.profiles: dict[str, dict] = builtin_profiles()
        self.users: dict[str, list[str]] = {}
        self.tokens: dict[str, list[str]] = {}
        self.admin = ""

    def run(self, awaitable: Any) -> Any:
        return self.runner.run(awaitable)

    def teardown(self) -> None:
        self.run(self.server.stop())
        self.runner.close()

    def order(self, action: str, name: str, body: Any = None, **args: Any) -> int:
        """Have the administrator do something; give the status."""
        name_of = f"security:{action}"
        return self.run(self.server.ask(self.admin, name_of, body, _id=name, **args)).status

    @initialize(s=roles, t=roles, p=policies, q=policies)
    def begin(self, s: dict, t: dict, p: list, q: list) -> None:
        async def make_admin() -> str:
            await self.server.services.users.create(
                kuid=ADMIN,
                kind="human",
                profile_ids=["admin"],
                content={},
                credentials={},
                author="-1",
            )
            return await self.server.login(ADMIN)

        self.admin = self.run(make_admin())
        everything = as_controllers(dict.fromkeys(NAMES, True))
        for name, controllers in {"r": everything, "s": s, "t": t}.items():
            self.write_role(name, controllers)
        for name, policies in {"p": p, "q": q}.items():
            self.write_profile(name, policies, "createOrReplace")
        self.create_user("ann", ["p", "q"])
        self.create_user("bob", ["q"])

    @rule(name=role_ids, controllers=roles)
    def write_role(self, name: str, controllers: dict) -> None:
        body = {"controllers": controllers}
        assert self.order("createOrReplaceRole", name, body) == 200
        self.roles[name] = body

    @rule(name=st.sampled_from(["default", "anonymous"]), controllers=roles)
    def change_a_built_in_role(self, name: str, controllers: dict) -> None:
        can_login = plain_rights.grants(controllers, "auth", "login")
        expected = 200 if can_login or name != "anonymous" else 400
        body = {"controllers": controllers}
        assert self.order("updateRole", name, body) == expected
        if expected == 200:
            self.roles[name] = body

    @rule()
    def restrict(self) -> None:
        assert self.order("restrictDefaultRights", "") == 200
        self.roles |= builtin_roles(all_actions(), False)
        self.profiles |= builtin_profiles()

    @rule(name=role_ids)
    def delete_role(self, name: str) -> None:
        bodies = self.profiles.values()
        used = any(name == policy["roleId"] for body in bodies for policy in body["policies"])
        expected = 404 if name not in self.roles else 412 if used else 200
        assert self.order("deleteRole", name) == expected
        if expected == 200:
            del self.roles[name]

    @rule(
        name=profile_ids, policies=policies, action=st.sampled_from(["createOrReplace", "update"])
    )
    def write_profile(self, name: str, policies: list, action: str) -> None:
        is_known = action != "update" or name in self.profiles
        is_sound = is_known and all(policy["roleId"] in self.roles for policy in policies)
        expected = 200 if is_sound else 404
        assert self.order(f"{action}Profile", name, {"policies": policies}) == expected
        if expected == 200:
            self.profiles[name] = {"policies": policies}

    @rule(name=profile_ids, remove=st.booleans())
    def delete_profile(self, name: str, remove: bool) -> None:
        owners = [kuid for kuid, profiles in self.users.items() if name in profiles]
        expected = 404 if name not in self.profiles else 412 if owners and not remove else 200
        args = {"onAssignedUsers": "remove"} if remove else {}
        assert self.order("deleteProfile", name, **args) == expected
        if expected == 200:
            del self.profiles[name]
            for kuid in owners:
                left = [other for other in self.users[kuid] if other != name]
                self.users[kuid] = left or ["anonymous"]

    @rule(kuid=kuids, profiles=owned)
    def create_user(self, kuid: str, profiles: list[str]) -> None:
        are_there = all(profile in self.profiles for profile in profiles)
        expected = 412 if kuid in self.users else 200 if are_there else 404
        body = {"content": {"profileIds": profiles}}
        assert self.order("createUser", kuid, body) == expected
        if expected == 200:
            self.users[kuid] = profiles
            self.tokens[kuid] = [self.run(self.server.login(kuid))]

    @precondition(lambda self: self.users)
    @rule(data=st.data(), profiles=owned)
    def change_user(self, data: st.DataObject, profiles: list[str]) -> None:
        kuid = data.draw(st.sampled_from(sorted(self.users)))
        there = [profile for profile in profiles if profile in self.profiles] or ["default"]
        self.run(self.server.give_profiles(kuid, there))
        self.users[kuid] = there

    @precondition(lambda self: self.users)
    @rule(data=st.data())
    def login_again(self, data: st.DataObject) -> None:
        kuid = data.draw(st.sampled_from(sorted(self.users)))
        self.tokens[kuid] = [*self.tokens[kuid][-1:], self.run(self.server.login(kuid))]

    @precondition(lambda self: self.users)
    @rule(data=st.data())
    def delete_user(self, data: st.DataObject) -> None:
        kuid = data.draw(st.sampled_from(sorted(self.users)))
        assert self.order("deleteUser", kuid) == 200
        del self.users[kuid]
        for token in self.tokens.pop(kuid):
            answer = self.run(self.server.ask(token, "auth:getMyRights"))
            assert answer.error.id == "security.token.invalid"

    @rule(data=st.data(), args=places)
    def ask(self, data: st.DataObject, args: dict) -> None:
        kuid = data.draw(st.sampled_from(["-1", *sorted(self.users)]))
        for token in self.tokens.get(kuid, [None]):
            for controller, action in [name for name in NAMES if name[1] != "*"]:
                answer = self.run(self.server.ask(token, f"{controller}:{action}", **args))
                self.check(kuid, answer, controller, action, args)

    @invariant()
    def everybody_has_the_rights_of_this_moment(self) -> None:
        for kuid, token in [("-1", None), *((k, t) for k in self.users for t in self.tokens[k])]:
            profiles = self.users.get(kuid, ["anonymous"])
            for _ in range(2):
                answer = self.run(self.server.ask(token, "auth:getMyRights"))
                if self.check(kuid, answer, "auth", "getMyRights", {}):
                    hits = result_of(answer)["hits"]
                    names = ("controller", "action", "index", "collection", "value")
                    seen = [tuple(hit[name] for name in names) for hit in hits]
                    assert len(seen) == len(set(seen))
                    assert set(seen) == plain_rights.listed(profiles, self.profiles, self.roles)
                answer = self.run(self.server.ask(token, "auth:getCurrentUser"))
                if self.check(kuid, answer, "auth", "getCurrentUser", {}):
                    assert result_of(answer)["_source"]["profileIds"] == profiles
                answer = self.run(self.server.ask(token, "server:now"))
                self.check(kuid, answer, "server", "now", {})
            self.check_everything(profiles, token)

    def check_everything(self, profiles: list[str], token: str | None) -> None:
        """Compare what may be done where, without doing it."""
        rights = self.run(self.server.services.tokens.verify(token)).person.rights
        for controller, action in NAMES:
            for args in PLACES:
                may = plain_rights.allows(
                    profiles, self.profiles, self.roles, controller, action, args
                )
                assert rights.allows(controller, action, args) is may, (controller, action, args)

    def check(self, kuid: str, answer: Response, controller: str, action: str, args: dict) -> bool:
        """Compare whether somebody could do something with whether he may; tell it."""
        profiles = self.users.get(kuid, ["anonymous"])
        may = plain_rights.allows(profiles, self.profiles, self.roles, controller, action, args)
        refusals = {"security.rights.unauthorized", "security.rights.forbidden"}
        is_refused = answer.error is not None and answer.error.id in refusals
        assert is_refused is not may, (kuid, controller, action, args, answer)
        assert may or answer.status == (401 if kuid == "-1" else 403)
        assert not may or answer.status in (200, 404)
        return may


TestRights = pytest.mark.usefixtures("untraced")(Rights.TestCase)
TestRights.settings = settings(
    max_examples=30,
    stateful_step_count=20,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
