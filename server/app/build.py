"""Factories: create the services of a server, each from its own settings.

Independent of each other; `server.app.application` connects the services.
"""

import logging
import os
from collections.abc import Callable
from functools import partial
from math import ceil
from time import monotonic

from protocol.byte_budget import ByteBudget
from protocol.config import ConnectionConfig
from protocol.errors import LocalError
from protocol.http11.body import BodyLimits
from protocol.http11.chunked import ChunkLimits
from protocol.http11.head import Head, HeadLimits
from protocol.websocket.messages import MessageLimits
from server.api.actions import all_actions
from server.api.cors import make_origin_check, make_trust_check
from server.api.device_cookie import Devices
from server.api.local_origin import find_foreign, is_local_origin
from server.api.metrics import Counting
from server.api.router import Router
from server.api.session_cookie import Cookies
from server.api.setup_code import SetupCode
from server.auth.accounts.step_up import StepUp
from server.auth.accounts.users import Users
from server.auth.assurance import DEFAULT_RECENT_MS, MfaPolicy
from server.auth.audit.notifier import SecurityNotifier
from server.auth.limits.rate_limits import MessageBudget
from server.auth.passwords.breaches import BreachCheck, make_breach_check
from server.auth.passwords.hasher import PasswordHasher
from server.auth.passwords.policies import read_policies, read_whom
from server.auth.passwords.rules import (
    STRICT_LEAST_CHARACTERS,
    STRICT_RESET_MS,
    PasswordRules,
    read_common_passwords,
)
from server.auth.search.mappings import Mappings
from server.auth.search.scrolls import Scrolls
from server.auth.search.service import Searches
from server.auth.sessions.api_keys import ApiKeys
from server.auth.sessions.expiry_push import ExpiryNotifier
from server.auth.sessions.keyring import Keyring, Signing
from server.auth.sessions.known_devices import KnownDevices
from server.auth.sessions.lifetimes import TokenPolicy
from server.auth.strategies.local import Local
from server.auth.strategies.registry import Strategies
from server.config.model import Config
from server.core.durations import NEVER
from server.core.limit_counters import Limit
from server.messaging.delivery import Command, Post, Way, read_url
from server.net.bind import Place, inherited_fd
from server.net.client_address import Addresses
from server.net.timeouts import Timeouts
from server.net.tls import Tls
from server.storage.base import Storage

_LOG = logging.getLogger("manykeys.app")
# Minimum average size of the chunks of a large body: what clients write at a time.
_CHUNK_BYTES, _FREE_CHUNKS = 4096, 64


def make_api_keys(
    config: Config,
    storage: Storage,
    keyring: Keyring,
    step_up: StepUp,
    clock_ms: Callable[[], int],
) -> ApiKeys:
    """Return the API key service."""
    most_ms = int(config.security.api_key.max_ttl_ms)
    return ApiKeys(storage, keyring, step_up, clock_ms=clock_ms, max_ttl_ms=most_ms)


def make_counting(config: Config, clock_ms: Callable[[], int]) -> Counting:
    """Return the metrics; without `stats.enabled` no frames are kept."""
    given = config.stats
    return Counting(frames=ceil(given.ttl_s / given.stats_interval_s), clock_ms=clock_ms)


async def make_first_admin(
    config: Config, users: Users, strategies: Strategies, *, is_open: bool
) -> SetupCode:
    """Return the setup code service: programs on this machine need no code unless there are
    proxies, which make every client look local, or `security.strict` is set. The strict password
    rules always apply to administrators, except with `--open` (`is_open`)."""
    server = config.server
    is_proxied = bool(server.trusted_proxies) or server.proxy_protocol
    first_admin = SetupCode(
        strategies,
        None if is_open else make_password_rules(config, None, is_strict=True),
        accepts_local=not is_proxied and not config.security.strict,
        admin_exists=users.admin_exists,
    )
    await first_admin.refresh()
    return first_admin


def make_signing(config: Config) -> Signing:
    """Return the signing settings of session tokens."""
    given = config.security.auth_token
    return Signing(given.algorithm, given.secret, given.issuer, given.audience)


def make_links(config: Config, clock_ms: Callable[[], int]) -> ExpiryNotifier:
    """Return the service that notifies WebSockets when their tokens expire."""
    warn_before_ms = config.security.auth_token.warn_before_ms
    return ExpiryNotifier(config.server.node, clock_ms=clock_ms, warn_before_ms=warn_before_ms)


def make_searches(
    config: Config,
    storage: Storage,
    field_mappings: Mappings,
    counting: Counting,
    clock_ms: Callable[[], int],
) -> Searches:
    """Return the search service for users, profiles and roles."""
    ttl_ms = int(config.services.storage_engine.defaults.scroll_ttl_ms)
    scrolls = Scrolls(clock_ms=clock_ms, ttl_ms=ttl_ms)
    most_hits = config.limits.documents_fetch_count
    on_limit = counting.limits.count
    return Searches(storage, field_mappings, scrolls, most_hits=most_hits, on_limit=on_limit)


def make_step_up(
    config: Config,
    storage: Storage,
    strategies: Strategies,
    clock_ms: Callable[[], int],
    *,
    open_mode: bool = False,
) -> StepUp:
    """Return the step-up service, which requires second factors and recent logins."""
    policy = make_mfa_policy(config, open_mode=open_mode)
    return StepUp(storage, strategies, policy, clock_ms=clock_ms)


def make_mfa_policy(config: Config, *, open_mode: bool = False) -> MfaPolicy:
    """Return the MFA policy: for whom it is required, the factors, and when a recent login is."""
    given, recent_ms = config.security.mfa, config.security.mfa.recent_login_ms
    return MfaPolicy(
        read_whom(given.required_for),
        given.factors,
        frozenset(given.exempt),
        DEFAULT_RECENT_MS if recent_ms is None else recent_ms,
        keys_need_it=given.api_keys == "require",
        is_portable=given.portable,
        covers_all=config.security.strict or recent_ms is not None,
        keys_change_others=config.security.api_key.credential_changes != "none",
        keys_change_own=config.security.api_key.credential_changes == "all",
        is_open=open_mode,
    )


def make_notifier(config: Config, users: Users, clock_ms: Callable[[], int]) -> SecurityNotifier:
    """Return the notifier, which sends security events to the operator's systems."""
    given = config.security.notify
    timeout_s = given.timeout_ms / 1000
    ways: list[Way] = []
    if given.command:
        ways.append(Command(given.command, timeout_s))
    if given.url:
        ways.append(Post(read_url("security.notify.url", given.url), timeout_s))
    return SecurityNotifier(ways, owner_of=users.owner_of, clock_ms=clock_ms)


def make_passwords(
    config: Config, on_limit: Callable[[Limit], None] = lambda limit: None
) -> PasswordHasher:
    """Return the password hasher; by default one thread for each core this process may use."""
    given = config.security.passwords
    threads = given.threads or _count_cores()
    return PasswordHasher(cost=given.cost, threads=threads, queue=given.queue, on_limit=on_limit)


def _count_cores() -> int:
    # Fewer than the machine has in a container or under taskset; not supported on every system.
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def make_local(
    config: Config,
    storage: Storage,
    passwords: PasswordHasher,
    rules: PasswordRules,
    clock_ms: Callable[[], int],
) -> Local:
    """Return the strategy `local`: usernames and passwords."""
    given = config.plugins.local
    return Local(
        storage,
        passwords,
        clock_ms=clock_ms,
        require_password=given.require_password or config.security.strict,
        rules=rules,
        policies=read_policies(given.password_policies),
        reset_ttl_ms=reset_ttl_ms(config),
    )


def reset_ttl_ms(config: Config) -> float:
    """Return the lifetime of a reset token, in ms; in strict mode it is always limited."""
    given = config.plugins.local.reset_password_expires_in_ms
    return STRICT_RESET_MS if given == NEVER and config.security.strict else given


def make_token_limits(config: Config) -> TokenPolicy:
    """Return the configured lifetimes of session tokens."""
    given = config.security.auth_token
    return TokenPolicy(
        default_ttl_ms=int(given.expires_in_ms),
        max_ttl_ms=int(given.max_ttl_ms),
        max_age_ms=int(given.max_age_ms),
        idle_ms=int(given.idle_ms),
        grace_ms=int(given.grace_period_ms),
        live=config.limits.live_sessions,
        sessions=given.max_sessions,
        prefix=given.prefix,
    )


def make_breaches(config: Config) -> BreachCheck | None:
    """Return the breached password check, None if no source is configured."""
    given = config.security.passwords
    return make_breach_check(given.breach_file, given.breach_url)


def make_password_rules(
    config: Config, breaches: BreachCheck | None, *, is_strict: bool = False
) -> PasswordRules:
    """Return the configured rules for new passwords; `security.strict`, or `is_strict` for the
    passwords of administrators, adds its own."""
    given = config.security.passwords
    if config.security.strict and not is_strict and breaches is None:
        _LOG.warning(
            "security.strict: breached passwords are not detected, set security.passwords.breachUrl"
        )
    is_strict = is_strict or config.security.strict
    least = max(given.min_length, STRICT_LEAST_CHARACTERS if is_strict else 0)
    refuses_common = given.forbid_common or is_strict
    return PasswordRules(
        least_characters=least,
        common=read_common_passwords() if refuses_common else frozenset(),
        forbids_context=given.forbid_context,
        breaches=breaches,
    )


def make_place(config: Config) -> Place:
    """Return the address to listen on."""
    given = config.server
    fd = given.fd if given.fd >= 0 else inherited_fd(os.environ, os.getpid())
    return Place(given.host, given.port, given.uds, fd)


def make_tls(config: Config) -> Tls | None:
    """Return certificate and key, None without TLS."""
    given = config.server.tls
    if not given.cert:
        for name, file in (("key", given.key), ("clientCa", given.client_ca)):
            if file:
                raise LocalError(f"server.tls.{name}: server.tls.cert is required with it")
        return None
    return Tls(given.cert, given.key, given.min_version, given.client_ca)


def make_cookies(config: Config, addresses: Addresses) -> Cookies:
    """Return the reader and writer of the session cookie."""
    return Cookies(
        addresses,
        is_enabled=config.http.cookie_authentication,
        trusts_origin=make_trust_check(config.http),
    )


def make_devices(
    config: Config,
    storage: Storage,
    keyring: Keyring,
    addresses: Addresses,
    clock_ms: Callable[[], int],
) -> Devices:
    """Return the reader and writer of device cookies."""
    known = KnownDevices(storage, keyring, clock_ms=clock_ms)
    return Devices(known, addresses, make_cookies(config, addresses))


def _response_fields(config: Config, node: str) -> bytes:
    """Return the header fields that every HTTP response has."""
    http, protocols = config.http, config.server.protocols
    fields = {
        "X-Kuzzle-Node": node,
        "Accept-Encoding": "gzip,deflate,identity"
        if protocols.http.allow_compression
        else "identity",
        "Access-Control-Allow-Headers": http.access_control_allow_headers,
        "Access-Control-Allow-Methods": http.access_control_allow_methods,
        "X-Content-Type-Options": "nosniff",
    }
    strict_s = int(http.strict_transport_security_ms) // 1000
    if config.server.tls.cert and strict_s:
        fields["Strict-Transport-Security"] = f"max-age={strict_s}"
    return "".join(f"{name}: {value}\r\n" for name, value in fields.items()).encode()


def make_wire(
    config: Config,
    node: str,
    *,
    clock_s: Callable[[], float] = monotonic,
    is_open: bool = False,
    on_limit: Callable[[Limit], None] = lambda limit: None,
) -> ConnectionConfig:
    """Return the settings shared by the connections of a server. With `is_open` only pages of this
    machine are allowed, whatever is configured."""
    http, protocols, limits = config.http, config.server.protocols, config.limits
    most_bytes = config.server.max_request_size_bytes
    return ConnectionConfig(
        routes=Router(all_actions()),
        node=node,
        fields=_response_fields(config, node),
        allows_origin=is_local_origin
        if is_open
        else make_origin_check(
            http.access_control_allow_origin, http.access_control_allow_origin_use_reg_exp
        ),
        trusts_origin=make_trust_check(http),
        head_limits=HeadLimits(
            protocols.http.max_url_length,
            protocols.http.max_header_size_bytes,
            protocols.http.max_headers,
        ),
        body_limits=BodyLimits(
            most_bytes,
            protocols.http.max_form_file_size_bytes,
            protocols.http.max_encoding_layers,
            protocols.http.max_ratio,
            protocols.http.max_inflated_size_bytes,
            json_values=limits.json_values,
            more_types=tuple(protocols.http.additional_content_types),
            allow_compression=protocols.http.allow_compression,
        ),
        chunk_limits=ChunkLimits(_FREE_CHUNKS + most_bytes // _CHUNK_BYTES),
        message_limits=MessageLimits(
            most_bytes, protocols.websocket.max_frames, protocols.websocket.max_ratio
        ),
        compresses_messages=protocols.websocket.compression,
        in_flight=limits.pipelined,
        received=make_received(config, on_limit),
        websocket_enabled=protocols.websocket.enabled,
        accepts_upgrade=_is_local if is_open else lambda head: True,
        message_budget=partial(MessageBudget, protocols.websocket.rate_limit, clock_s)
        if protocols.websocket.rate_limit
        else None,
        control_budget=partial(MessageBudget, protocols.websocket.control_rate_limit, clock_s)
        if protocols.websocket.control_rate_limit
        else None,
    )


def _is_local(head: Head) -> bool:
    return find_foreign(head.headers) is None


def make_received(config: Config, on_limit: Callable[[Limit], None]) -> ByteBudget:
    """Return the byte budget of unanswered requests."""
    refused = partial(on_limit, Limit.UNFINISHED_SIZE)
    return ByteBudget(config.limits.unfinished_size_bytes, on_refusal=refused)


def make_timeouts(config: Config) -> Timeouts:
    """Return the configured deadlines in seconds."""
    given, websocket = config.timeouts, config.server.protocols.websocket
    idle_s, pings = websocket.idle_timeout_ms / 1000, websocket.send_pings_automatically
    return Timeouts(
        head_s=given.head_ms / 1000,
        body_s=given.body_ms / 1000,
        idle_s=given.idle_ms / 1000,
        socket_s=idle_s / 2 if pings else idle_s,
        pong_s=idle_s / 2 if pings else 0.0,
        renews_on_push=websocket.reset_idle_timeout_on_send,
        write_s=given.write_ms / 1000,
        grace_s=given.grace_ms / 1000,
    )
