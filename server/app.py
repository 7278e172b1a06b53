"""Puts a server together and runs it; the only module that knows all parts."""

import asyncio
import gc
import logging
import signal
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from email.utils import formatdate
from functools import partial

from protocol.answers import Wire
from protocol.errors import LocalError
from server.actions import TABLE, all_actions
from server.addresses import Addresses, is_loopback
from server.auditing import make_trail
from server.auth import defaults
from server.auth.breaches import BreachCheck
from server.auth.credentials import Credentials
from server.auth.issuing import Issuer
from server.auth.keyring import Keyring, open_keyring
from server.auth.limits import RequestLimits
from server.auth.links import Links
from server.auth.logins import Logins
from server.auth.mappings import Mappings
from server.auth.mfa import SecondFactors
from server.auth.passwords import Passwords
from server.auth.pending import PendingLogins
from server.auth.profiles import Profiles
from server.auth.recorder import Recorder
from server.auth.rights import Rulebook
from server.auth.roles import Roles
from server.auth.sessions import Sessions
from server.auth.strategies import Parts
from server.auth.strategies.registry import Strategies
from server.auth.throttle import Throttle
from server.auth.tokens import Tokens
from server.auth.userchanges import UserChanges
from server.auth.users import Users
from server.browsers import Browsers
from server.chores import keep_date, keep_trail, sweep, tell_ends
from server.config import Config, Limits
from server.configured import add_configured

# They fill the action table.
from server.controllers import (  # noqa: F401
    apikeys,
    audit,
    auth,
    credentials,
    mappings,
    profiles,
    roles,
    searches,
    server,
    sessions,
    statistics,
    usercredentials,
)
from server.controllers import password as password_actions  # noqa: F401
from server.controllers import users as user_actions  # noqa: F401
from server.dispatch import Dispatcher
from server.firstadmin import FirstAdmin
from server.keycommands import opened
from server.limit_counters import Limit
from server.listener import Listener
from server.logs import RequestLog
from server.notices import READY, STOPPING, reloading, tell
from server.openapi import Published
from server.openfiles import Exhaustion, make_room
from server.operations import OPERATOR, NoSessions, Operations, make_caller
from server.parts import (
    make_api_keys,
    make_breaches,
    make_cookies,
    make_counting,
    make_first_admin,
    make_links,
    make_local,
    make_mfa_policy,
    make_notifier,
    make_password_rules,
    make_passwords,
    make_place,
    make_searches,
    make_signing,
    make_timeouts,
    make_tls,
    make_token_limits,
    make_wire,
)
from server.places import shown_address
from server.proxied import ProxiedPeer
from server.requestids import make_ids
from server.services import Services
from server.steadyclock import SteadyClock
from server.storage.base import Entry, Storage, Unavailable
from server.storage.sqlite import SqliteStorage
from server.tls import Tls

_LOG = logging.getLogger("manykeys.app")

OnReady = Callable[[str], None]
"""Called once the server answers, with its address."""


def clock_ms() -> int:
    """Give the time in ms since 1970."""
    return time.time_ns() // 1_000_000


def clock_s() -> float:
    """Give the time in seconds since some moment, never going back."""
    return time.monotonic()


@dataclass(slots=True)
class App:
    """A running server."""

    services: Services
    listener: Listener
    address: str
    chores: list[asyncio.Task[None]]
    tls: Tls | None = None

    def reload(self) -> None:
        """Read the certificates again, keeping the present ones if the files are not valid; without
        TLS there is nothing to read."""
        if self.tls is None:
            _LOG.info("SIGHUP: nothing to reload, server.tls is not configured")
            return
        tell(reloading())
        try:
            self.tls.reload()
            _LOG.info("certificates read again")
        except (LocalError, OSError) as reason:
            _LOG.error("the certificates stay as they were: %s", reason)
        tell(READY)

    async def stop(self) -> None:
        """Answer what is in progress, keep what was acknowledged, and end."""
        await self.listener.stop()
        await self.services.notifier.finish()
        for chore in self.chores:
            chore.cancel()
        await asyncio.gather(*self.chores, return_exceptions=True)
        with suppress(Unavailable):
            await self.services.tokens.write_uses(0)
            await self.services.trail.flush(is_last=True)
        await self.services.strategies.close()
        self.services.close()
        await self.services.storage.close()


async def serve(
    config: Config,
    *,
    data: str,
    open_mode: bool,
    on_ready: OnReady,
    on_code: Callable[[str], None],
    count_left_out_lines: Callable[[], int] = lambda: 0,
) -> None:
    """Run a server until SIGTERM or SIGINT; a second one does not wait for anybody. SIGHUP reloads
    what can be reloaded. `on_code` shows the operator each setup code: while there is no
    administrator, and again when the last one is gone. `count_left_out_lines` is asked for the
    statistics."""
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()

    app: App | None = None

    def stop() -> None:
        if stopped.is_set() and app is not None:
            app.listener.cut_off()
        stopped.set()

    def reload() -> None:
        if app is not None and not stopped.is_set():
            app.reload()
        else:
            _LOG.info("SIGHUP: nothing to reload while the server starts or stops")

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop)
    # Not as a handler of the loop: when that closes, SIGHUP would end the process again.
    before = signal.signal(signal.SIGHUP, lambda number, frame: loop.call_soon_threadsafe(reload))
    clock = SteadyClock(clock_ms)
    app = await start(config, data=data, open_mode=open_mode, clock=clock.read_ms)
    app.chores.append(asyncio.create_task(clock.keep(), name="clock"))
    app.services.counting.limits.read_from(Limit.LOG_LINES, count_left_out_lines)
    _calm_collector()
    setup = app.services.first_admin
    if setup.code is not None:
        on_code(setup.code)
    setup.on_code = on_code
    on_ready(app.address)
    tell(READY)
    await stopped.wait()
    tell(STOPPING)
    await app.stop()
    signal.signal(signal.SIGHUP, before)


def _calm_collector() -> None:
    """Keep Python's collector away from what lives as long as the server, and from running every
    few requests: answering makes no cycles. A tenth of the throughput in the bench."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 50, 100)


async def create_admin(config: Config, *, name: str, password: str) -> None:
    """Create an administrator who logs in with this name and password. ApiError if that can't
    be."""
    async with operating(config, creates=True) as operations:
        await make_password_rules(config, None, is_strict=True).check(password, name)
        creation = operations.users.create(
            kuid=None,
            kind="human",
            profile_ids=["admin"],
            content={},
            credentials={"local": {"username": name, "password": password}},
            author=OPERATOR,
        )
        await operations.change("create-admin", "", creation)


@asynccontextmanager
async def operating(config: Config, *, creates: bool = False) -> AsyncIterator[Operations]:
    """Open a store for a command, on which servers may run; LocalError if there is none, unless it
    `creates` one."""
    store = opened(config.server.data, clock_ms=clock_ms, is_roomy=True, creates=creates)
    async with store as kept, AsyncExitStack() as undo:
        storage = Recorder(kept, is_on=config.security.audit.enabled)
        await defaults.install(storage, all_actions(), clock_ms=clock_ms)
        breaches = make_breaches(config)
        if breaches is not None:
            undo.callback(breaches.close)
        passwords, rulebook = make_passwords(config), Rulebook(storage)
        undo.callback(passwords.close)
        strategies = make_strategies(config, storage, passwords, breaches, clock_ms)
        users = Users(storage, rulebook, strategies, clock_ms=clock_ms)
        notifier = make_notifier(config, users, clock_ms)
        async with notifier.sending(config.security.notify.timeout_ms / 1000):
            yield Operations(
                storage,
                passwords,
                rulebook,
                Roles(storage, TABLE, clock_ms=clock_ms),
                Profiles(storage, clock_ms=clock_ms),
                users,
                UserChanges(storage, users, rulebook, clock_ms=clock_ms),
                Credentials(storage, strategies, NoSessions()),
                make_caller(),
                notifier,
                config.security.mfa.factors,
                clock_ms,
            )


async def start(
    config: Config, *, data: str, open_mode: bool = False, clock: Callable[[], int] | None = None
) -> App:
    """Open the store, put the parts together and listen. `clock` gives the time in ms, the
    system's unless another one is given."""
    read_ms = clock or clock_ms
    storage = SqliteStorage(data, clock_ms=read_ms)
    async with AsyncExitStack() as undo:
        await storage.open()
        undo.push_async_callback(storage.close)
        services = await build_services(config, storage, open_mode=open_mode, clock=read_ms)
        undo.callback(services.close)
        undo.push_async_callback(services.strategies.close)
        parts = Parts(services.storage, read_ms, config.timeouts.login_ms)
        await add_configured(config, services.strategies, parts)
        wire = make_wire(config, services.node, clock_s=clock_s, is_open=open_mode)
        wire.set_date(formatdate(usegmt=True))
        log = RequestLog(config.logs.requests)
        dispatcher = Dispatcher(services, wire, log, is_open=open_mode)
        tls = make_tls(config)
        listener = make_listener(config, services, wire, dispatcher)
        bound = await listener.listen(make_place(config), tls)
        if open_mode and isinstance(bound, tuple) and not is_loopback(str(bound[0])):
            await listener.stop()
            raise LocalError(f"--open: not on {bound[0]}; expected a loopback address")
        undo.pop_all()
    chores = [
        asyncio.create_task(keep_date(wire), name="date"),
        asyncio.create_task(services.first_admin.watch(), name="setup code"),
        asyncio.create_task(sweep(services), name="sweep"),
        asyncio.create_task(tell_ends(services), name="ends"),
        asyncio.create_task(services.keyring.keep_fresh(), name="keys"),
        asyncio.create_task(keep_trail(services), name="audit"),
        asyncio.create_task(Exhaustion(clock_s).watch(), name="files"),
    ]
    if services.notifier.is_on:
        chores.append(asyncio.create_task(services.notifier.run(), name="notices"))
    if config.stats.enabled:
        frames = services.counting.close_frames(config.stats.stats_interval_s)
        chores.append(asyncio.create_task(frames, name="frames"))
    return App(services, listener, shown_address(bound, is_tls=tls is not None), chores, tls)


def make_listener(
    config: Config, services: Services, wire: Wire, dispatcher: Dispatcher
) -> Listener:
    """Give what will hold the sockets."""
    is_proxied = config.server.proxy_protocol
    connections = config.limits.connections
    listener = Listener(
        wire,
        dispatcher.answer,
        dispatcher.answer_now,
        make_timeouts(config),
        connections=make_room(connections, is_asked_for=connections != Limits().connections),
        unsent_bytes=config.server.protocols.websocket.max_unsent_bytes,
        unlink=services.links.unlink,
        make_peer=partial(ProxiedPeer, addresses=services.addresses) if is_proxied else None,
    )
    services.counting.watch(listener.count)
    return listener


async def build_services(
    config: Config, storage: Storage, *, open_mode: bool, clock: Callable[[], int] | None = None
) -> Services:
    """Put together what handlers use, on an open store; `clock` as for `start`."""
    read_ms = clock or clock_ms
    await defaults.install(storage, all_actions(), clock_ms=read_ms)
    trail = make_trail(config, storage, clock_ms=read_ms)
    storage = Recorder(storage, is_on=trail.is_on, on_event=trail.on_event)
    passwords = make_passwords(config)
    breaches = make_breaches(config)
    strategies = make_strategies(config, storage, passwords, breaches, read_ms)
    rulebook = Rulebook(storage, open_mode=open_mode)
    users = Users(storage, rulebook, strategies, clock_ms=read_ms)
    keyring = await open_keyring(storage, make_signing(config), clock_ms=read_ms)
    limits = make_token_limits(config)
    counting = make_counting(config, clock_ms)
    field_mappings = Mappings(storage)
    own_sessions = Sessions(storage, clock_ms=read_ms)
    tokens = Tokens(storage, users, rulebook, keyring, limits, clock_ms=read_ms)
    addresses = Addresses(config.server.trusted_proxies)
    links = make_links(config, read_ms)
    logins, factors = make_logins(config, storage, strategies, users, read_ms)
    first_admin = await make_first_admin(config, users, strategies, is_open=open_mode)
    storage.follow(make_follower(rulebook, keyring, tokens, links, first_admin))
    return Services(
        config=config,
        storage=storage,
        passwords=passwords,
        breaches=breaches,
        strategies=strategies,
        rulebook=rulebook,
        roles=Roles(storage, TABLE, clock_ms=read_ms),
        profiles=Profiles(storage, clock_ms=read_ms),
        users=users,
        trail=trail,
        notifier=make_notifier(config, users, read_ms),
        user_changes=UserChanges(storage, users, rulebook, clock_ms=read_ms),
        credentials=Credentials(storage, strategies, tokens),
        logins=logins,
        second_factors=factors,
        keyring=keyring,
        issuer=Issuer(storage, keyring, limits, own_sessions, clock_ms=read_ms),
        tokens=tokens,
        api_keys=make_api_keys(config, storage, keyring, read_ms),
        sessions=own_sessions,
        mappings=field_mappings,
        searches=make_searches(config, storage, field_mappings, counting, read_ms),
        links=links,
        first_admin=first_admin,
        addresses=addresses,
        cookies=make_cookies(config, addresses),
        browsers=Browsers(addresses),
        limits=RequestLimits(logins_per_second=config.limits.logins_per_second, clock_s=clock_s),
        request_ids=make_ids(),
        clock_ms=read_ms,
        node=config.server.node,
        started_at_ms=read_ms(),
        counting=counting,
        published=Published(all_actions()),
    )


def make_follower(
    rulebook: Rulebook, keyring: Keyring, tokens: Tokens, links: Links, first_admin: FirstAdmin
) -> Callable[[Sequence[Entry]], None]:
    """Give what tells everybody who keeps something that it is no longer so."""

    def follow(entries: Sequence[Entry]) -> None:
        for entry in entries:
            rulebook.notice(entry)
        if keyring.notice(entries):
            tokens.forget_all()
        tokens.notice(entries)
        links.notice(entries)
        first_admin.notice(entries)

    return follow


def make_strategies(
    config: Config,
    storage: Storage,
    passwords: Passwords,
    breaches: BreachCheck | None,
    read_ms: Callable[[], int],
) -> Strategies:
    """Give the strategies there are whatever the configuration says."""
    strategies = Strategies(storage, timeout_s=config.timeouts.strategy_ms / 1000)
    rules = make_password_rules(config, breaches)
    strategies.register("local", make_local(config, storage, passwords, rules, read_ms))
    return strategies


def make_logins(
    config: Config,
    storage: Storage,
    strategies: Strategies,
    users: Users,
    read_ms: Callable[[], int],
) -> tuple[Logins, SecondFactors]:
    """Give what runs login attempts, and what asks for second factors in them."""
    pending = PendingLogins(storage, clock_ms=read_ms, ttl_ms=config.timeouts.login_ms)
    policy = make_mfa_policy(config)
    factors = SecondFactors(storage, strategies, users, pending, policy, clock_ms=read_ms)
    throttle = Throttle(config.limits.failed_logins, clock_s=clock_s)
    return Logins(strategies, users, throttle, pending, factors), factors
