"""Application: creates the services of a server, runs it and stops it; the composition root."""

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

from protocol.config import ConnectionConfig
from protocol.errors import LocalError
from server.admin.operations import OPERATOR, NoSessions, Operations
from server.api.actions import TABLE, all_actions
from server.api.audited import make_trail
from server.api.context import AppContext

# Importing the controllers fills the action table.
from server.api.controllers import api_keys as apikeys  # noqa: F401
from server.api.controllers import (
    audit,  # noqa: F401
    auth,  # noqa: F401
    mappings,  # noqa: F401
    profiles,  # noqa: F401
    roles,  # noqa: F401
    searches,  # noqa: F401
    server,  # noqa: F401
    sessions,  # noqa: F401
    statistics,  # noqa: F401
)
from server.api.controllers import my_credentials as credentials  # noqa: F401
from server.api.controllers import password_reset as password_actions  # noqa: F401
from server.api.controllers import user_credentials as usercredentials  # noqa: F401
from server.api.controllers import users as user_actions  # noqa: F401
from server.api.dispatcher import Dispatcher
from server.api.login_cookie import LoginBindings
from server.api.metrics import Counting
from server.api.openapi import Published
from server.api.request_log import RequestLog
from server.api.setup_code import SetupCode
from server.app.background import keep_date, keep_trail, sweep, tell_ends
from server.app.build import (
    make_api_keys,
    make_breaches,
    make_cookies,
    make_counting,
    make_devices,
    make_first_admin,
    make_links,
    make_local,
    make_notifier,
    make_password_rules,
    make_passwords,
    make_place,
    make_searches,
    make_signing,
    make_step_up,
    make_timeouts,
    make_tls,
    make_token_limits,
    make_wire,
)
from server.app.operator import opened
from server.app.strategies import add_configured
from server.auth.access import builtin as defaults
from server.auth.access.permissions import PermissionCompiler
from server.auth.access.profiles import Profiles
from server.auth.access.roles import Roles
from server.auth.accounts.credentials import Credentials
from server.auth.accounts.step_up import StepUp
from server.auth.accounts.user_updates import UserChanges
from server.auth.accounts.users import Users
from server.auth.audit.storage import AuditedStorage
from server.auth.limits.anonymous_writes import AnonymousWrites
from server.auth.limits.rate_limits import RateLimits
from server.auth.limits.throttle import LoginThrottle
from server.auth.login.flow import LoginFlow
from server.auth.login.mfa import MfaFlow
from server.auth.login.pending import PendingLogins
from server.auth.passwords.breaches import BreachCheck
from server.auth.passwords.hasher import PasswordHasher
from server.auth.search.mappings import Mappings
from server.auth.sessions.authenticator import Tokens
from server.auth.sessions.expiry_push import ExpiryNotifier
from server.auth.sessions.issuer import Issuer
from server.auth.sessions.keyring import Keyring, open_keyring
from server.auth.sessions.sessions import Sessions
from server.auth.strategies.base import Parts
from server.auth.strategies.registry import Strategies
from server.config.model import Config, Limits
from server.core.addresses import is_loopback
from server.core.clock import SteadyClock
from server.core.limit_counters import Limit
from server.core.request_ids import make_ids
from server.net.bind import shown_address
from server.net.client_address import Addresses
from server.net.client_connections import ClientKeys
from server.net.listener import Listener
from server.net.proxy_protocol import ProxiedConnection
from server.net.tls import Tls
from server.pages.login_result import show_page
from server.storage.base import Entry, Storage, Unavailable
from server.storage.sqlite.server_lock import ServerLock
from server.storage.sqlite.storage import MEMORY, SqliteStorage
from server.system.allocator import keep_returning, return_large_blocks
from server.system.open_files import Exhaustion, make_room
from server.system.service_manager import READY, STOPPING, reloading, tell

_LOG = logging.getLogger("manykeys.app")

OnReady = Callable[[str], None]
"""Called once the server answers, with its address."""


def clock_ms() -> int:
    """Return the time in ms since 1970."""
    return time.time_ns() // 1_000_000


def clock_s() -> float:
    """Return the monotonic time in seconds."""
    return time.monotonic()


@dataclass(slots=True)
class App:
    """A running server."""

    services: AppContext
    listener: Listener
    address: str
    chores: list[asyncio.Task[None]]
    tls: Tls | None = None

    def reload(self) -> None:
        """Reload the TLS certificates, keeping the present ones if the files are not valid; without
        TLS there is nothing to reload."""
        if self.tls is None:
            _LOG.info("SIGHUP: nothing to reload, server.tls is not configured")
            return
        tell(reloading())
        try:
            self.tls.reload()
            _LOG.info("certificates reloaded")
        except (LocalError, OSError) as reason:
            _LOG.error("certificate reload failed, keeping the old ones: %s", reason)
        tell(READY)

    async def stop(self) -> None:
        """Finish requests in progress, store acknowledged writes, and stop."""
        await self.listener.stop()
        await self.services.notifier.finish()
        for chore in self.chores:
            chore.cancel()
        await asyncio.gather(*self.chores, return_exceptions=True)
        with suppress(Unavailable):
            await self.services.tokens.write_uses(is_last=True)
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
    """Run a server until SIGTERM or SIGINT; a second signal stops it at once. SIGHUP reloads the
    certificates. `on_code` shows the operator each setup code: while there is no administrator, and
    again when the last one is gone. `count_left_out_lines` is used for the metrics."""
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()

    app: App | None = None

    def stop() -> None:
        if stopped.is_set() and app is not None:
            app.listener.close_all()
        stopped.set()

    def reload() -> None:
        if app is not None and not stopped.is_set():
            app.reload()
        else:
            _LOG.info("SIGHUP: nothing to reload while the server starts or stops")

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop)
    # Not as a handler of the loop: once the loop is closed, SIGHUP would kill the process.
    before = signal.signal(signal.SIGHUP, lambda number, frame: loop.call_soon_threadsafe(reload))
    clock = SteadyClock(clock_ms)
    app = await start(config, data=data, open_mode=open_mode, clock=clock.read_ms)
    app.chores.append(asyncio.create_task(clock.keep(), name="clock"))
    server_lock = None if data == MEMORY else ServerLock(data)
    if server_lock is not None:
        server_lock.check()
        app.chores.append(asyncio.create_task(server_lock.watch(), name="server lock"))
    app.services.counting.limits.read_from(Limit.LOG_LINES, count_left_out_lines)
    _calm_collector()
    return_large_blocks()
    setup = app.services.first_admin
    if setup.code is not None:
        on_code(setup.code)
    setup.on_code = on_code
    on_ready(app.address)
    tell(READY)
    await stopped.wait()
    tell(STOPPING)
    await app.stop()
    if server_lock is not None:
        server_lock.close()
    signal.signal(signal.SIGHUP, before)


def _calm_collector() -> None:
    """Exclude long-lived objects from Python's garbage collector, and run it less often than in
    every larger request: its default, each 700 objects, costs a tenth of the throughput.

    Nothing depends on it: the objects of a request and a connection are freed by reference counting
    (`tests/server/net/test_cycles.py`). It is still needed for reference cycles in libraries:
    asyncio's own sockets, clients of directories and identity providers. Thresholds beyond the
    first generation are Python's defaults.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 10, 10)


async def create_admin(config: Config, *, name: str, password: str) -> None:
    """Create an administrator with this username and password. ApiError if it is rejected."""
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
    """Open a database for a command, also while servers run on it; LocalError if it does not exist,
    unless `creates`."""
    store = opened(config.server.data, clock_ms=clock_ms, is_roomy=True, creates=creates)
    async with store as kept, AsyncExitStack() as undo:
        storage = AuditedStorage(kept, is_on=config.security.audit.enabled)
        await defaults.install(storage, all_actions(), clock_ms=clock_ms)
        breaches = make_breaches(config)
        if breaches is not None:
            undo.callback(breaches.close)
        passwords, rulebook = make_passwords(config), PermissionCompiler(storage)
        undo.callback(passwords.close)
        strategies = make_strategies(config, storage, passwords, breaches, clock_ms)
        step_up = make_step_up(config, storage, strategies, clock_ms)
        users = Users(storage, rulebook, strategies, step_up, clock_ms=clock_ms)
        notifier = make_notifier(config, users, clock_ms)
        async with notifier.sending(config.security.notify.timeout_ms / 1000):
            yield Operations(
                storage,
                passwords,
                rulebook,
                Roles(storage, TABLE, clock_ms=clock_ms),
                Profiles(storage, clock_ms=clock_ms),
                users,
                UserChanges(storage, users, rulebook, step_up, clock_ms=clock_ms),
                Credentials(storage, strategies, NoSessions(), step_up, clock_ms=clock_ms),
                notifier,
                config.security.mfa.factors,
                clock_ms,
            )


async def start(
    config: Config, *, data: str, open_mode: bool = False, clock: Callable[[], int] | None = None
) -> App:
    """Open the database, create the services and listen. `clock` returns the time in ms, by default
    the system's."""
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
        on_limit = services.counting.limits.count
        wire = make_wire(
            config, services.node, clock_s=clock_s, is_open=open_mode, on_limit=on_limit
        )
        wire.set_date(formatdate(usegmt=True))
        log = RequestLog(config.logs.requests)
        dispatcher = Dispatcher(
            services, wire, log, is_open=open_mode, clock_s=clock_s, show_page=show_page
        )
        tls = make_tls(config)
        listener = make_listener(config, services, wire, dispatcher)
        bound = await listener.listen(make_place(config), tls)
        if open_mode and isinstance(bound, tuple) and not is_loopback(str(bound[0])):
            await listener.stop()
            message = f"--open: cannot listen on {bound[0]}; expected a loopback address"
            raise LocalError(message)
        undo.pop_all()
    chores = [
        asyncio.create_task(keep_date(wire), name="date"),
        asyncio.create_task(services.first_admin.watch(), name="setup code"),
        asyncio.create_task(sweep(services), name="sweep"),
        asyncio.create_task(tell_ends(services), name="ends"),
        asyncio.create_task(services.links.check_lost(services.storage), name="links"),
        asyncio.create_task(services.keyring.keep_fresh(), name="keys"),
        asyncio.create_task(keep_trail(services), name="audit"),
        asyncio.create_task(Exhaustion(clock_s).watch(), name="files"),
        asyncio.create_task(keep_returning(listener.released_bytes), name="memory"),
    ]
    if services.notifier.is_on:
        chores.append(asyncio.create_task(services.notifier.run(), name="notices"))
    if config.stats.enabled:
        frames = services.counting.close_frames(config.stats.stats_interval_s)
        chores.append(asyncio.create_task(frames, name="frames"))
    return App(services, listener, shown_address(bound, is_tls=tls is not None), chores, tls)


def make_listener(
    config: Config, services: AppContext, wire: ConnectionConfig, dispatcher: Dispatcher
) -> Listener:
    """Return the listener."""
    is_proxied = config.server.proxy_protocol
    connections = config.limits.connections
    listener = Listener(
        wire,
        dispatcher.answer,
        dispatcher.try_cached,
        make_timeouts(config),
        connections=make_room(connections, is_asked_for=connections != Limits().connections),
        unsent_bytes=config.server.protocols.websocket.max_unsent_bytes,
        unlink=services.links.unlink,
        on_limit=services.counting.limits.count,
        connections_per_client=config.limits.connections_per_address,
        client_keys=ClientKeys(services.addresses),
        unsent_total_bytes=config.limits.unsent_size_bytes,
        unsent_bytes_per_connection=config.limits.unsent_size_per_connection_bytes,
        is_proxy=services.addresses.is_trusted,
        make_peer=partial(ProxiedConnection, addresses=services.addresses) if is_proxied else None,
    )
    services.counting.watch(listener.count)
    return listener


async def build_services(
    config: Config, storage: Storage, *, open_mode: bool, clock: Callable[[], int] | None = None
) -> AppContext:
    """Create the services for handlers, on an open database; `clock` as for `start`."""
    read_ms = clock or clock_ms
    await defaults.install(storage, all_actions(), clock_ms=read_ms)
    trail = make_trail(config, storage, clock_ms=read_ms)
    storage = AuditedStorage(storage, is_on=trail.is_on, on_event=trail.on_event)
    counting = make_counting(config, clock_ms)
    passwords, breaches = make_passwords(config, counting.limits.count), make_breaches(config)
    strategies = make_strategies(config, storage, passwords, breaches, read_ms)
    rulebook = PermissionCompiler(storage, open_mode=open_mode)
    step_up = make_step_up(config, storage, strategies, read_ms, open_mode=open_mode)
    users = Users(storage, rulebook, strategies, step_up, clock_ms=read_ms)
    keyring = await open_keyring(storage, make_signing(config), clock_ms=read_ms)
    limits = make_token_limits(config)
    field_mappings, own_sessions = Mappings(storage), Sessions(storage, clock_ms=read_ms)
    tokens = Tokens(storage, users, rulebook, keyring, limits, step_up, clock_ms=read_ms)
    addresses = Addresses(config.server.trusted_proxies)
    links = make_links(config, read_ms)
    logins = make_logins(config, storage, strategies, users, step_up, read_ms, counting)
    setup_code = await make_first_admin(config, users, strategies, is_open=open_mode)
    storage.follow(make_follower(rulebook, keyring, tokens, links, setup_code, logins))
    return AppContext(
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
        user_changes=UserChanges(storage, users, rulebook, step_up, clock_ms=read_ms),
        credentials=Credentials(storage, strategies, tokens, step_up, clock_ms=read_ms),
        logins=logins,
        step_up=step_up,
        keyring=keyring,
        issuer=Issuer(storage, keyring, limits, own_sessions, clock_ms=read_ms),
        tokens=tokens,
        api_keys=make_api_keys(config, storage, keyring, step_up, read_ms),
        sessions=own_sessions,
        mappings=field_mappings,
        searches=make_searches(config, storage, field_mappings, counting, read_ms),
        links=links,
        first_admin=setup_code,
        addresses=addresses,
        cookies=make_cookies(config, addresses),
        browsers=LoginBindings(addresses),
        limits=make_request_limits(config, counting.limits.count),
        devices=make_devices(config, storage, keyring, addresses, read_ms),
        request_ids=make_ids(),
        clock_ms=read_ms,
        node=config.server.node,
        started_at_ms=read_ms(),
        counting=counting,
        published=Published(all_actions()),
    )


def make_request_limits(config: Config, on_limit: Callable[[Limit], None]) -> RateLimits:
    """Return the rate limits of requests."""
    logins_per_second = config.limits.logins_per_second
    return RateLimits(logins_per_second=logins_per_second, clock_s=clock_s, on_limit=on_limit)


def make_follower(
    rulebook: PermissionCompiler,
    keyring: Keyring,
    tokens: Tokens,
    links: ExpiryNotifier,
    first_admin: SetupCode,
    logins: LoginFlow,
) -> Callable[[Sequence[Entry]], None]:
    """Return the listener of journal entries that invalidates all caches."""

    def follow(entries: Sequence[Entry]) -> None:
        for entry in entries:
            rulebook.notice(entry)
        if keyring.notice(entries):
            tokens.forget_all()
        tokens.notice(entries)
        links.notice(entries)
        first_admin.notice(entries)
        logins.notice(entries)

    return follow


def make_strategies(
    config: Config,
    storage: Storage,
    passwords: PasswordHasher,
    breaches: BreachCheck | None,
    read_ms: Callable[[], int],
) -> Strategies:
    """Return the built-in strategies that need no configuration."""
    strategies = Strategies(storage, timeout_s=config.timeouts.strategy_ms / 1000)
    rules = make_password_rules(config, breaches)
    strategies.register("local", make_local(config, storage, passwords, rules, read_ms))
    return strategies


def make_logins(
    config: Config,
    storage: Storage,
    strategies: Strategies,
    users: Users,
    step_up: StepUp,
    read_ms: Callable[[], int],
    counting: Counting,
) -> LoginFlow:
    """Return the login flow, with second factors."""
    pending = PendingLogins(storage, clock_ms=read_ms, ttl_ms=config.timeouts.login_ms)
    factors = MfaFlow(strategies, users, pending, step_up)
    throttle = LoginThrottle(config.limits.failed_logins, clock_s=clock_s)
    most, on_limit = config.limits.anonymous_writes, counting.limits.count
    writes = AnonymousWrites(most, clock_s=clock_s, on_limit=on_limit)
    return LoginFlow(strategies, users, throttle, pending, factors, writes, on_limit=on_limit)
