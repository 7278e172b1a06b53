"""What rows start from: users, their tokens, and ways to log in. Each has a docstring that says
what it makes."""

from collections.abc import Mapping
from typing import cast

from server.storage.base import DeleteAll, Update
from server.storage.rows import Table
from tests.server.api.auth_table.rows import Maker, World
from tests.support.sample_strategy import Badge
from tests.support.server import PASSWORD, Envelope

NEW = "battery staple"
ANNS = {"username": "ann", "password": PASSWORD}
"""Ann's credentials."""


async def admin(world: World) -> str:
    """The administrator's session."""
    return await world.server.create_admin()


async def ann(world: World) -> str:
    """The session of Ann, a user of the default profile."""
    return await world.server.create_user(str(await world.get(admin)), "ann")


async def unlogged_ann(world: World) -> None:
    """Ann, made by the administrator, who has not logged in."""
    body = {"content": {"profileIds": ["default"]}, "credentials": {"local": ANNS}}
    token = str(await world.get(admin))
    made = await world.server.call(
        "query", "security:createUser", token=token, body=body, _id="ann"
    )
    assert made["status"] == 200, made


async def two_days_later(world: World) -> None:
    """Ann, and two days that have passed."""
    await world.get(ann)
    world.clock.now_ms += 2 * 86_400_000


async def anns_other(world: World) -> str:
    """A second session of Ann's."""
    await world.get(ann)
    return await world.server.login("ann")


async def endless(world: World) -> str:
    """A session of Ann's without end."""
    await world.get(ann)
    return await world.server.login("ann", expiresIn=-1)


async def short(world: World) -> str:
    """A session of Ann's for half a second."""
    await world.get(ann)
    return await world.server.login("ann", expiresIn=500)


async def expired(world: World) -> str:
    """A session of Ann's that is over."""
    await world.get(ann)
    token = await world.server.login("ann", expiresIn="10s")
    world.clock.now_ms += 10_000
    return token


async def refreshed(world: World) -> str:
    """A session of the administrator's that he has just refreshed."""
    token = str(await world.get(admin))
    await _result(world, "refreshToken", token)
    return token


async def refreshed_before(world: World) -> str:
    """A session of the administrator's that he refreshed longer ago than the grace period."""
    token = await refreshed(world)
    world.clock.now_ms += 1000
    return token


async def logged_out(world: World) -> str:
    """A session Ann has ended."""
    token = str(await world.get(anns_other))
    await _result(world, "logout", token)
    return token


async def single_use(world: World) -> str:
    """The administrator's token for one request."""
    made = await _result(world, "createToken", await world.get(admin), args={"singleUse": True})
    return str(made["token"])


async def used_up(world: World) -> str:
    """A token for one request that there was."""
    token = await single_use(world)
    assert await world.is_good("query", token)
    return token


async def key(world: World) -> str:
    """The administrator's API key, with the id `his`."""
    return await _make_key(world, await world.get(admin), "his")


async def anns_key(world: World) -> str:
    """An API key an administrator made for Ann, with the id `hers`."""
    await world.get(ann)
    answer = await world.server.call(
        "query",
        "security:createApiKey",
        token=str(await world.get(admin)),
        body={"description": "hers"},
        userId="ann",
        _id="hers",
    )
    return str(answer["result"]["_source"]["token"])


async def deleted_key(world: World) -> str:
    """An API key the administrator had."""
    token = await _make_key(world, await world.get(admin), "gone")
    await _result(world, "deleteApiKey", await world.get(admin), args={"_id": "gone"})
    return token


async def expired_key(world: World) -> str:
    """An API key of the administrator's that is over."""
    token = await _make_key(world, await world.get(admin), "old", expiresIn="10s")
    world.clock.now_ms += 10_000
    return token


async def deleted_user(world: World) -> str:
    """A session of Ann, who was deleted."""
    token = str(await world.get(ann))
    await _delete_ann(world)
    return token


async def deleted_users_key(world: World) -> str:
    """An API key of Ann, who was deleted."""
    token = str(await world.get(anns_key))
    await _delete_ann(world)
    return token


async def disabled_user(world: World) -> str:
    """A session of Ann, who was disabled."""
    token = str(await world.get(ann))
    await world.server.app.services.storage.apply(
        [Update(Table.USERS, {"kuid": "ann"}, {"disabled": 1})]
    )
    world.server.app.services.tokens.forget_all()
    return token


async def reset_token(world: World) -> str:
    """A token with which Ann may set a new password."""
    await world.get(ann)
    answer = await world.server.call(
        "query",
        "kuzzle-plugin-auth-passport-local/password:getResetPasswordToken",
        token=str(await world.get(admin)),
        _id="ann",
    )
    return str(answer["result"]["resetToken"])


async def passwordless(world: World) -> None:
    """Ann has no credentials any more."""
    await world.get(ann)
    await world.server.app.services.storage.apply([DeleteAll(Table.CREDENTIALS, {"kuid": "ann"})])


async def anns_badge(world: World) -> None:
    """Ann may also log in with a badge, number b-7."""
    await world.get(badges)
    await _result(
        world,
        "createMyCredentials",
        await world.get(ann),
        body={"number": "b-7"},
        args={"strategy": "badge"},
    )


async def documented_ann(world: World) -> None:
    """Ann's document has something in it."""
    content = {"a": {"b": 1}, "tags": [1, 2]}
    await _result(world, "updateSelf", await world.get(ann), body=content)


async def a_login_before(world: World) -> None:
    """Somebody has just tried to log in on the same connection."""
    await world.ask("websocket", "login", body=ANNS, args={"strategy": "local"})


def badge_that_says(outcome: object, kind: type[Badge] = Badge) -> Maker:
    """Give what registers a badge."""

    async def register(world: World) -> None:
        """The strategy `badge`."""
        services = world.server.app.services
        services.strategies.register("badge", kind(services.storage, outcome))

    return register


badges = badge_that_says(None)


async def _make_key(world: World, token: object, key_id: str, **args: object) -> str:
    made = await _result(
        world, "createApiKey", token, body={"description": "x"}, args={"_id": key_id, **args}
    )
    return str(made["_source"]["token"])


async def _delete_ann(world: World) -> None:
    admins = str(await world.get(admin))
    answer = await world.server.call("query", "security:deleteUser", token=admins, _id="ann")
    assert answer["status"] == 200, answer


async def _result(
    world: World,
    action: str,
    token: object,
    *,
    body: object = None,
    args: Mapping[str, object] | None = None,
) -> Envelope:
    answer = await world.ask("query", action, token, body, args)
    assert answer["status"] == 200, answer
    return cast(Envelope, answer["result"])
