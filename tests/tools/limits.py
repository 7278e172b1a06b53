"""Table of all limits of the server, and the writer of docs/limits.md.

A limit is a setting, by its name, or a constant, by its module. `python -m tests.tools.limits`
prints docs/limits.md.
"""

from collections.abc import Iterator
from dataclasses import MISSING, dataclass, fields
from functools import reduce
from importlib import import_module
from pathlib import Path

from server.config.model import Config
from server.core.config_file import write_value
from server.core.settings import Declared, declared_in

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True, slots=True)
class Bound:
    """A limit: `what` is limited by `where`; `beyond` is what happens beyond it, `test` shows it: a
    file below tests/ and a function of it."""

    what: str
    where: str
    beyond: str
    test: str

    @property
    def is_setting(self) -> bool:
        """Whether operators may change it."""
        return self.where in defaults(Config)

    @property
    def default(self) -> str:
        """What it is unless configured, as people write it."""
        return defaults(Config).get(self.where) or _constant(self.where)


def defaults(of: type, path: str = "") -> dict[str, str]:
    """Give the default of every setting of a table, by full name."""
    found: dict[str, str] = {}
    for one in declared_in(of):
        if isinstance(one, Declared):
            found[path + one.name] = write_value(one.kind.write(one.default)).strip('"')
        else:
            found |= defaults(one.type, f"{path}{one.name}.")
    return found


def _constant(name: str) -> str:
    """Give a constant of a module, or the default of a field of a class in it."""
    parts = name.split(".")
    at = next(at for at, part in enumerate(parts) if not part.islower() or part.startswith("_"))
    found: object = import_module(".".join(parts[:at]))
    if len(parts) > at + 1:
        of = getattr(found, parts[at])
        (value,) = [field.default for field in fields(of) if field.name == parts[-1]]
        assert value is not MISSING, name
        found = value
    else:
        found = reduce(getattr, parts[at:], found)
    return f"{found:,}" if isinstance(found, int) else str(found)


_WS, _HTTP = "server.protocols.websocket", "server.protocols.http"
GROUPS: dict[str, tuple[Bound, ...]] = {
    "Connections": (
        Bound(
            "open connections",
            "limits.connections",
            "503 with `Retry-After`, then closed",
            "server/net/test_connection.py::test_too_many_connections_are_refused_at_once",
        ),
        Bound(
            "open connections of one client address, for IPv6 of one /64 (0: a quarter of all); "
            "loopback, Unix sockets and trusted proxies are exempt, WebSockets behind a trusted "
            "proxy count for the client it names",
            "limits.connectionsPerAddress",
            "503 with `Retry-After`, then closed",
            "server/net/test_client_connections.py"
            "::test_a_client_at_its_limit_is_refused_and_others_are_served",
        ),
        Bound(
            "TLS handshakes in progress, which count as connections",
            "limits.connections",
            "closed before anything is read",
            "server/net/test_tls_handshake.py::test_as_many_handshakes_as_connections",
        ),
        Bound(
            "the same of one client address",
            "limits.connectionsPerAddress",
            "closed before anything is read",
            "server/net/test_client_connections.py::test_handshakes_in_progress_count_for_their_client",
        ),
        Bound(
            "time for a TLS handshake",
            "timeouts.head",
            "closed",
            "server/net/test_tls_handshake.py::test_a_handshake_has_its_time",
        ),
        Bound(
            "file descriptors reserved for the server itself",
            "server.system.open_files.RESERVED_FILES",
            "fewer connections than configured, with a warning unless that is the default",
            "server/system/test_open_files.py::test_connections_leave_files_for_the_server",
        ),
        Bound(
            "time for a request's head, from its first byte",
            "timeouts.head",
            "408",
            "server/net/test_connection.py::test_a_byte_at_a_time_gains_no_time",
        ),
        Bound(
            "time for a request's body",
            "timeouts.body",
            "408",
            "server/net/test_connection.py::test_slow_peers_meet_a_deadline",
        ),
        Bound(
            "time between two requests",
            "timeouts.idle",
            "closed",
            "server/net/test_connection.py::test_slow_peers_meet_a_deadline",
        ),
        Bound(
            "time for a client to accept a response",
            "timeouts.write",
            "disconnected; until then no more of its input is read",
            "server/net/test_connection.py::test_a_reader_that_stops_meets_the_deadline_for_taking_an_answer",
        ),
        Bound(
            "graceful shutdown",
            "timeouts.grace",
            "closed",
            "server/net/test_connection.py::test_stop_cuts_off_who_does_not_end",
        ),
        Bound(
            "passkeys of one user",
            "server.auth.strategies.passkey.settings.PasskeySettings.most_keys",
            "412",
            "server/auth/strategies/passkey/test_strategy.py::test_only_so_many_keys",
        ),
        Bound(
            "bytes of an authenticator's data on a new passkey",
            "server.auth.strategies.passkey.verification.MOST_ATTESTATION_BYTES",
            "401",
            "server/auth/strategies/passkey/test_verification.py::test_a_changed_registration",
        ),
        Bound(
            "nesting levels of its CBOR",
            "server.auth.strategies.passkey.cbor.MOST_LEVELS",
            "401",
            "server/auth/strategies/passkey/test_verification.py::test_cbor_is_as_deep_as_it_may_be",
        ),
        Bound(
            "time of a call of a strategy",
            "timeouts.strategy",
            "504",
            "server/auth/strategies/test_sandbox.py::test_one_that_does_not_answer_is_told_to_stop",
        ),
        Bound(
            "time between two steps of a login",
            "timeouts.login",
            "401: begin again",
            "server/auth/login/test_login_steps.py::test_what_is_no_step_of_his_is_refused",
        ),
        Bound(
            "messages and parts of requests parsed before other connections have their turn",
            "protocol.receive_buffer.PIECES_AT_ONCE",
            "the rest waits for the next turn, and no more is read meanwhile",
            "protocol/test_connection_fairness.py::test_a_turn_is_bounded",
        ),
    ),
    "Requests": (
        Bound(
            "requests in progress",
            "limits.inFlight",
            "503 `api.process.overloaded` with `Retry-After`",
            "server/api/test_metrics.py::test_too_many_requests_in_progress",
        ),
        Bound(
            "requests of one connection in progress",
            "limits.pipelined",
            "the next ones are not read until there is room",
            "protocol/test_connection.py::test_requests_in_flight_are_bounded",
        ),
        Bound(
            "their bytes, with their heads and 1,024 bytes for each",
            "protocol.config.ConnectionConfig.in_flight_bytes",
            "the same",
            "protocol/test_connection.py::test_payload_bytes_in_flight_are_bounded",
        ),
        Bound(
            "refused requests (4xx) of one connection in a row; a success resets the count",
            "server.net.refusals.FREE_REFUSALS",
            "it is not read for 0.5 s, then for twice as long each time",
            "server/net/test_refusals.py::"
            "test_a_connection_with_refusals_only_is_not_read_for_a_moment",
        ),
        Bound(
            "those that are forgiven each second",
            "server.net.refusals.REFUSALS_PER_S",
            "the same",
            "server/net/test_refusals.py::test_refusals_now_and_then_never_pause",
        ),
        Bound(
            "longest such pause, in seconds",
            "server.net.refusals.LONGEST_PAUSE_S",
            "pauses get no longer",
            "server/net/test_refusals.py::test_a_budget_spent_at_once_pauses_for_longer_and_longer",
        ),
        Bound(
            "refused HTTP requests of one client of a trusted proxy, counted the same way",
            "server.net.refusals.FREE_REFUSALS",
            "429 `api.process.too_many_requests` with `Retry-After`, unless with a session or to "
            "log in; the proxy's connections go on",
            "server/net/test_refusals.py::test_other_clients_of_the_same_proxy_connection_go_on",
        ),
        Bound(
            "clients whose refusals are counted",
            "server.net.refusals.MAX_REFUSED_CLIENTS",
            "the one refused the longest ago is forgotten",
            "server/net/test_refusals.py::test_counted_clients_are_limited",
        ),
        Bound(
            "seconds for which the store's readiness is cached for `/_ready`",
            "server.api.readiness.KEPT_S",
            "the store is checked again",
            "server/api/test_readiness.py::test_an_answer_is_kept_for_a_moment",
        ),
        Bound(
            "bytes of requests and messages without a response yet, complete or not, of all "
            "connections",
            "limits.unfinishedSize",
            "503 `api.process.overloaded` with `Retry-After`, or a WebSocket close with 1013; with "
            "an incomplete request the connection is closed",
            "protocol/test_byte_budget.py::test_a_budget_at_its_total_and_one_byte_beyond_refuses",
        ),
        Bound(
            "the share of them that one client address may hold, as a divisor; loopback, Unix "
            "sockets and trusted proxies are exempt, but not the client a proxy names",
            "protocol.byte_budget.SHARES",
            "the same",
            "protocol/test_byte_budget.py::test_a_client_at_a_quarter_and_one_byte_beyond_is_refused",
        ),
        Bound(
            "bytes up to which a connection is never refused for them: a body of 16 KiB and its "
            "head",
            "protocol.byte_budget.SMALL_BYTES",
            "the same",
            "protocol/test_byte_budget.py"
            "::test_a_body_of_16_kib_behind_the_longest_head_always_finds_room",
        ),
        Bound(
            "bytes up to which a connection does not count among them",
            "protocol.byte_budget.COUNTED_FROM_BYTES",
            "counted",
            "protocol/test_byte_budget.py::test_requests_in_progress_are_counted_with_their_heads",
        ),
        Bound(
            "bytes of responses that wait for one connection",
            "limits.unsentSizePerConnection",
            "further requests of the connection run once there is room",
            "server/net/test_unsent_answers.py"
            "::test_answers_behind_a_slow_one_at_the_limit_and_one_byte_beyond",
        ),
        Bound(
            "bytes of responses that clients do not read, of all connections",
            "limits.unsentSize",
            "the connection that has waited longest is closed",
            "server/net/test_unsent_answers.py"
            "::test_unsent_answers_at_the_total_stay_and_one_byte_beyond_drops_the_oldest",
        ),
        Bound(
            "the share of them of one client address, as a divisor",
            "protocol.byte_budget.SHARES",
            "the connection of this client that has waited longest is closed",
            "server/net/test_unsent_answers.py"
            "::test_unsent_answers_of_a_client_beyond_a_quarter_drop_its_oldest",
        ),
        Bound(
            "bytes up to which a connection does not count among them, and goes on being read",
            "server.net.unsent_answers.COUNTED_FROM_BYTES",
            "counted, and no more of its input is read until it reads them",
            "server/net/test_unsent_answers.py::test_few_unsent_bytes_are_not_counted",
        ),
        Bound(
            "path with query, in bytes",
            f"{_HTTP}.maxUrlLength",
            "414",
            "protocol/test_connection.py::test_ended_connections",
        ),
        Bound(
            "bytes of a request head",
            f"{_HTTP}.maxHeaderSize",
            "431",
            "protocol/test_connection.py::test_ended_connections",
        ),
        Bound(
            "bytes of a request head that is cached, to recognize its repetition",
            "protocol.connection.KEPT_HEAD_BYTES",
            "read anew each time",
            "protocol/test_connection.py::test_connection_that_falls_silent_keeps_no_long_head",
        ),
        Bound(
            "header fields of a request",
            f"{_HTTP}.maxHeaders",
            "431",
            "protocol/http11/test_head.py::test_as_many_fields_as_allowed_and_one_more",
        ),
        Bound(
            "HTTP body",
            "server.maxRequestSize",
            "413",
            "protocol/test_connection.py::test_ended_connections",
        ),
        Bound(
            "compressed body, once inflated",
            f"{_HTTP}.maxInflatedSize",
            "413 `network.http.request_too_large`",
            "protocol/http11/test_body.py::test_inflated_size_at_the_limit_and_one_past_it",
        ),
        Bound(
            "compression ratio of a body, beyond 64 KiB",
            f"{_HTTP}.maxRatio",
            "413 `network.http.request_too_large`",
            "protocol/http11/test_body.py::test_inflation_at_the_limit_and_one_past_it",
        ),
        Bound(
            "brackets, braces and commas in the JSON of a request or message, or of an argument",
            "limits.jsonValues",
            "400 `api.assert.too_many_arguments`",
            "protocol/http11/test_body.py::test_json_values_at_the_limit_and_one_past_it",
        ),
        Bound(
            "large payloads that are parsed at once",
            "server.api.pipeline.READ_AT_A_TIME",
            "the next ones wait",
            "server/app/test_memory.py::test_memory_after_floods_returns_to_its_level",
        ),
        Bound(
            "layers of compression",
            f"{_HTTP}.maxEncodingLayers",
            "400 `network.http.too_many_encodings`",
            "protocol/http11/test_body.py::test_refused_encodings",
        ),
        Bound(
            "file in a form",
            f"{_HTTP}.maxFormFileSize",
            "413 `network.http.file_too_large`",
            "protocol/http11/test_body.py::test_refused_multiparts",
        ),
        Bound(
            "fields of a form",
            "protocol.http11.body.BodyLimits.form_fields",
            "400 `api.assert.too_many_arguments`",
            "protocol/http11/test_body.py::test_form_fields_at_the_limit_and_one_past_it",
        ),
        Bound(
            "bytes of a urlencoded form",
            "protocol.http11.body.BodyLimits.form_bytes",
            "413 `network.http.request_too_large`",
            "protocol/http11/test_body.py::test_form_bytes_at_the_limit_and_one_past_it",
        ),
        Bound(
            "percent escapes of a urlencoded form",
            "protocol.http11.body.BodyLimits.form_escapes",
            "400 `api.assert.too_many_arguments`",
            "protocol/http11/test_body.py::test_form_escapes_at_the_limit_and_one_past_it",
        ),
        Bound(
            "bytes of the headers of all parts of a multipart form",
            "protocol.http11.body.BodyLimits.part_heads_bytes",
            "400 `api.assert.too_many_arguments`",
            "protocol/http11/test_body.py::test_multipart_bounds",
        ),
        Bound(
            "bytes of the headers of one part",
            "protocol.http11.body._PART_HEAD_BYTES",
            "400 `network.http.body_parse_failed`",
            "protocol/http11/test_body.py::test_refused_multiparts",
        ),
        Bound(
            "header lines of one part",
            "protocol.http11.body._PART_HEAD_LINES",
            "400 `network.http.body_parse_failed`",
            "protocol/http11/test_body.py::test_refused_multiparts",
        ),
        Bound(
            "escapes in the name of a part, and in its file name",
            "protocol.http11.body._PART_ESCAPES",
            "400 `network.http.body_parse_failed`",
            "protocol/http11/test_body.py::test_refused_multiparts",
        ),
        Bound(
            "arguments of a query string",
            "protocol.api.request._QUERY_FIELDS",
            "400 `api.assert.too_many_arguments`",
            "protocol/api/test_request.py::test_bounds_over_http_at_the_limit",
        ),
        Bound(
            "characters of a request id",
            "protocol.api.request._REQUEST_ID_CHARACTERS",
            "400",
            "protocol/api/test_request.py::test_bounds_over_http_at_the_limit",
        ),
        Bound(
            "nesting levels of JSON",
            "protocol.http11.body._NESTING",
            "400",
            "protocol/http11/test_body.py::test_nesting_as_deep_as_allowed_and_one_deeper",
        ),
        Bound(
            "chunks of a body of a mebibyte: 64, and one for each 4 KiB of `server.maxRequestSize`",
            "protocol.http11.chunked.ChunkLimits.chunks",
            "400",
            "protocol/http11/test_chunked.py::test_refused_bodies",
        ),
        Bound(
            "bytes of a chunk's size line",
            "protocol.http11.chunked.ChunkLimits.line_bytes",
            "400",
            "protocol/http11/test_chunked.py::test_refused_bodies",
        ),
        Bound(
            "bytes of trailers",
            "protocol.http11.chunked.ChunkLimits.trailer_bytes",
            "431",
            "protocol/http11/test_chunked.py::test_refused_bodies",
        ),
        Bound(
            "trailers",
            "protocol.http11.chunked.ChunkLimits.trailer_fields",
            "431",
            "protocol/http11/test_chunked.py::test_refused_bodies",
        ),
        Bound(
            "bytes of JSON parsed in the event loop",
            "protocol.api.request.READ_AT_ONCE_BYTES",
            "parsed in a thread",
            "protocol/api/test_request.py::test_large_payloads_are_left_for_another_thread",
        ),
        Bound(
            "patterns in a search that are matched character by character",
            "server.auth.search.terms.MOST_PATTERNS",
            "400 `api.assert.invalid_argument`",
            "server/auth/search/test_queries.py::test_query_patterns_beyond_their_sum_are_refused",
        ),
        Bound(
            "characters and members of classes in all patterns of a search",
            "server.auth.search.terms.MOST_PATTERN_WEIGHT",
            "400 `api.assert.invalid_argument`",
            "server/auth/search/test_queries.py::test_query_patterns_beyond_their_sum_are_refused",
        ),
        Bound(
            "seconds a search takes",
            "server.storage.sqlite.searcher.MOST_S",
            "400 `services.storage.unexpected_bad_request`, no further string is compared",
            "server/storage/sqlite/test_search.py::"
            "test_search_pattern_beyond_its_time_looks_at_no_further_text",
        ),
        Bound(
            "users, roles, profiles or events in one response",
            "limits.documentsFetchCount",
            "413 `services.storage.get_limit_exceeded`",
            "server/api/controllers/test_searches.py::test_the_size_is_bounded_by_the_configuration",
        ),
        Bound(
            "different ids read by one request",
            "limits.documentsFetchCount",
            "the same",
            "server/api/controllers/test_users.py::test_too_many_ids",
        ),
        Bound(
            "different ids deleted by one request",
            "limits.documentsWriteCount",
            "413 `services.storage.write_limit_exceeded`, nothing is deleted",
            "server/api/controllers/test_users.py::test_too_many_ids",
        ),
        Bound(
            "characters of a token",
            "server.auth.sessions.authenticator._MAX_TOKEN_CHARACTERS",
            "401 `security.token.invalid`",
            "server/api/test_auth_actions.py::test_token_that_is_no_good",
        ),
    ),
    "WebSockets": (
        Bound(
            "message, also once inflated",
            "server.maxRequestSize",
            "closed with 1009",
            "protocol/websocket/test_messages.py::test_refused_frames",
        ),
        Bound(
            "frames of a message",
            f"{_WS}.maxFrames",
            "closed with 1009",
            "protocol/websocket/test_messages.py::test_refused_frames",
        ),
        Bound(
            "compression ratio of a message",
            f"{_WS}.maxRatio",
            "closed with 1009",
            "protocol/websocket/test_deflate.py::test_the_ratio_is_bounded_beyond_what_is_free",
        ),
        Bound(
            "messages a second (0: any number)",
            f"{_WS}.rateLimit",
            "429 `network.websocket.ratelimit_exceeded`, not parsed",
            "server/auth/limits/test_rate_limits.py::test_messages_of_a_socket",
        ),
        Bound(
            "pings and pongs a second",
            f"{_WS}.controlRateLimit",
            "closed with 1008",
            "protocol/test_connection_fairness.py::test_control_frames_have_a_budget",
        ),
        Bound(
            "time for a message, from its first byte",
            "timeouts.body",
            "closed with 1008",
            "server/net/test_connection.py::test_a_message_that_never_ends_is_closed",
        ),
        Bound(
            "bytes of a message that is cached, to recognize its repetition",
            "protocol.api.request_template.MOST_BYTES",
            "read anew each time",
            "protocol/test_connection.py::test_socket_that_falls_silent_keeps_nothing_of_a_long_message",
        ),
        Bound(
            "time without any data",
            f"{_WS}.idleTimeout",
            "dropped",
            "server/net/test_connection.py::test_silent_sockets_are_dropped",
        ),
        Bound(
            "bytes of notifications that wait for a client that does not read",
            f"{_WS}.maxUnsent",
            "dropped",
            "server/net/test_floods.py::test_pushes_wait_for_a_peer_up_to_a_bound",
        ),
    ),
    "The log and the settings": (
        Bound(
            "log lines of one kind per second, a fifth of them from one address",
            "logs.maxPerSecond",
            "counted, with one line per second with their number; `logLines` in `server:metrics`",
            "server/system/test_log_limiter.py::"
            "test_limiter_flood_of_refusals_becomes_so_many_lines_and_a_sum",
        ),
        Bound(
            "kinds of log lines",
            "server.system.log_limiter.MAX_KINDS",
            "further kinds are counted as one",
            "server/system/test_log_limiter.py::test_limiter_kinds_beyond_their_number_are_one_kind",
        ),
        Bound(
            "bytes of a file with one secret",
            "server.core.config_file.MAX_SECRET_BYTES",
            "refused at the start",
            "server/app/test_secret_exposures.py::test_secret_in_a_file_that_is_no_good_is_refused",
        ),
    ),
    "Logins and what is kept": (
        Bound(
            "lifetime of the step for a second factor, in ms",
            "server.auth.login.pending.SECOND_MS",
            "401: begin again",
            "server/auth/login/test_mfa.py::test_a_step_has_its_time",
        ),
        Bound(
            "attempts in one such step",
            "server.auth.login.pending.MOST_TRIES",
            "401: begin again",
            "server/auth/strategies/totp/test_strategy.py::test_a_step_has_its_tries",
        ),
        Bound(
            "wrong codes during an enrolment",
            "server.auth.strategies.totp.MOST_TRIES",
            "401: begin again with another seed",
            "server/auth/strategies/totp/test_strategy.py::test_an_enrolment_ends_after_some_tries",
        ),
        Bound(
            "notifications that wait for the operator's program, and for their service",
            "server.auth.audit.notifier.MOST_WAITING",
            "dropped and logged",
            "server/auth/audit/test_notifier.py::test_a_flood_does_not_pile_up",
        ),
        Bound(
            "emails with codes that wait to be delivered",
            "server.auth.strategies.magic.messages.MOST_WAITING",
            "not delivered and logged",
            "server/auth/strategies/magic/test_strategy.py::test_a_flood_does_not_pile_up",
        ),
        Bound(
            "such emails to one address, or of one user who adds addresses",
            "server.auth.strategies.magic.settings.MagicSettings.most_codes",
            "429 with `Retry-After`, longer and longer",
            "server/auth/strategies/magic/test_strategy.py::test_only_so_many_codes",
        ),
        Bound(
            "characters of an address that mail is sent to",
            "server.messaging.smtp.MOST_ADDRESS_CHARACTERS",
            "400",
            "server/messaging/test_smtp.py::test_an_address_is_so_long_at_most",
        ),
        Bound(
            "bytes of a response of the operator's service",
            "server.messaging.delivery.MOST_HEAD_BYTES",
            "the message counts as not delivered",
            "server/messaging/test_delivery.py::test_a_service_that_fails",
        ),
        Bound(
            "logins a second of one connection (0: any number)",
            "limits.loginsPerSecond",
            "429 with `Retry-After`",
            "server/auth/limits/test_rate_limits.py::test_logins_on_one_connection",
        ),
        Bound(
            "logins that wait for a directory",
            "server.auth.strategies.ldap.settings.MOST_WAITING",
            "503 with `Retry-After`",
            "server/auth/strategies/ldap/test_pool.py::test_a_silent_directory_holds_up_nobody_else",
        ),
        Bound(
            "servers of a directory",
            "server.auth.strategies.ldap.settings.MOST_SERVERS",
            "refused at the start",
            "server/auth/strategies/ldap/test_strategy.py::test_what_refuses_to_start",
        ),
        Bound(
            "groups of a directory that are mapped to profiles",
            "server.auth.strategies.ldap.settings.MOST_GROUPS",
            "refused at the start",
            "server/auth/strategies/ldap/test_strategy.py::test_what_refuses_to_start",
        ),
        Bound(
            "failed logins of an account from one address or known device",
            "limits.failedLogins",
            "429 `api.process.too_many_logins_requests` with `Retry-After`, longer and longer",
            "server/auth/limits/test_throttle.py::test_after_the_limit_one_attempt_at_a_time",
        ),
        Bound(
            "times that, from all addresses or known devices",
            "server.auth.limits.throttle.ACCOUNT_FACTOR",
            "the same",
            "server/auth/limits/test_throttle.py::test_many_addresses_on_one_account",
        ),
        Bound(
            "times that, of an IPv4 address or IPv6 /64, of an IPv6 /56 and /48",
            "server.auth.limits.throttle.NETWORK_FACTORS",
            "the same",
            "server/auth/limits/test_throttle.py::test_throttle_many_ipv6_networks_of_one_site_are_limited",
        ),
        Bound(
            "longest wait, in seconds",
            "server.auth.limits.backoff.LONGEST_WAIT_S",
            "a failure is forgiven each 10 minutes",
            "server/auth/limits/test_throttle.py::test_waits_double",
        ),
        Bound(
            "attempts that wait for others of one account or from one address",
            "server.auth.limits.backoff.MOST_WAITING",
            "429 with `Retry-After`",
            "server/auth/limits/test_throttle.py::test_parallel_attempts_do_not_slip_through",
        ),
        Bound(
            "accounts, and as many networks of each prefix length, whose failures are counted",
            "server.auth.limits.throttle.MOST_COUNTERS",
            "the oldest are forgotten",
            "server/auth/limits/test_throttle.py::test_made_up_names_push_no_victim_out",
        ),
        Bound(
            "account names known to belong to an entry of a directory",
            "server.auth.limits.throttle.MOST_ENTRIES",
            "the oldest are forgotten",
            "server/auth/limits/test_throttle.py::test_throttle_remembers_a_limited_number_of_entries_and_of_unlocked_accounts",
        ),
        Bound(
            "unlocked accounts that are remembered",
            "server.auth.limits.throttle.MOST_UNLOCKED",
            "the oldest must wait as before",
            "server/auth/limits/test_throttle.py::test_throttle_remembers_a_limited_number_of_entries_and_of_unlocked_accounts",
        ),
        Bound(
            "accounts in the cookie of a known browser",
            "server.auth.sessions.known_devices.MOST_ACCOUNTS",
            "the one that logged in longest ago is dropped",
            "server/auth/sessions/test_known_devices.py::test_known_device_of_several_accounts",
        ),
        Bound(
            "characters of this cookie",
            "server.auth.sessions.known_devices.MOST_COOKIE_CHARACTERS",
            "further accounts are dropped",
            "server/auth/sessions/test_known_devices.py::test_device_cookie_is_short",
        ),
        Bound(
            "characters of `previousToken`",
            "server.auth.sessions.known_devices.MOST_TOKEN_CHARACTERS",
            "it proves nothing",
            "server/auth/sessions/test_known_devices.py::test_former_token_must_be_a_session_token_of_the_account",
        ),
        Bound(
            "login steps and registrations of one address each minute, without a token",
            "limits.anonymousWrites",
            "429 with `Retry-After`, longer and longer: `api.process.too_many_logins_requests`, "
            "for a registration `api.process.too_many_requests`",
            "server/auth/limits/test_anonymous_writes.py::test_login_steps_begun_by_one_address_are_limited",
        ),
        Bound(
            "times that, of an IPv4 address or IPv6 /64, of an IPv6 /56 and /48",
            "server.auth.limits.anonymous_writes.NETWORK_FACTORS",
            "the same",
            "server/auth/limits/test_anonymous_writes.py::test_anonymous_writes_of_many_ipv6_networks_of_one_site_are_limited",
        ),
        Bound(
            "networks of each prefix length whose steps and registrations are counted",
            "server.auth.limits.anonymous_writes.MOST_ADDRESSES",
            "the oldest are forgotten",
            "server/auth/limits/test_throttle.py::test_made_up_names_push_no_victim_out",
        ),
        Bound(
            "forms of other sites stored temporarily for one address",
            "server.auth.login.pending.MOST_FORMS_OF_ADDRESS",
            "the oldest login is cancelled",
            "server/auth/strategies/oauth/test_windows.py::test_forms_are_few",
        ),
        Bound(
            "such forms in all",
            "server.auth.login.pending.MOST_FORMS",
            "the oldest login is cancelled",
            "server/auth/strategies/oauth/test_windows.py::test_forms_are_few",
        ),
        Bound(
            "bytes of such a form",
            "server.auth.login.pending.MOST_FORM_BYTES",
            "401",
            "server/auth/strategies/oauth/test_windows.py::test_forms_that_are_not_taken",
        ),
        Bound(
            "bytes of a provider's response",
            "server.auth.strategies.oauth.http_client.MOST_ANSWER_BYTES",
            "401",
            "server/auth/strategies/oauth/test_errors.py::test_nonsense",
        ),
        Bound(
            "bytes of a provider's attribute that is stored",
            "server.auth.strategies.attributes.MOST_ATTRIBUTE_BYTES",
            "omitted",
            "server/auth/strategies/oauth/test_strategy.py::test_large_attributes_are_left_out",
        ),
        Bound(
            "characters of a SAML response in base64",
            "server.auth.strategies.saml.response.MOST_RESPONSE_CHARACTERS",
            "401",
            "server/auth/strategies/saml/test_response.py::test_nonsense",
        ),
        Bound(
            "prefixes that a signature in it may name",
            "server.auth.strategies.saml.response.MOST_PREFIXES",
            "401",
            "server/auth/strategies/saml/test_response.py::test_what_lets_nobody_in",
        ),
        Bound(
            "passwords that wait to be hashed",
            "security.passwords.queue",
            "503 with `Retry-After`",
            "server/auth/passwords/test_hasher.py::test_a_full_queue_refuses_at_once_and_opens_again",
        ),
        Bound(
            "share of one account in all places: the queue and one for each thread",
            "server.auth.passwords.fair_queue.ACCOUNT_SHARE",
            "503 `api.process.overloaded` with `Retry-After`, for the one that has hashed the most",
            "server/auth/passwords/test_fair_queue.py::"
            "test_an_account_holds_half_of_the_places_from_however_many_addresses",
        ),
        Bound(
            "shares of an IPv4 address or IPv6 /64, of a /56 and of a /48",
            "server.auth.passwords.fair_queue.NETWORK_SHARES",
            "the same",
            "server/auth/passwords/test_fair_queue.py::"
            "test_an_address_holds_a_share_of_the_places_with_however_many_accounts",
        ),
        Bound(
            "accounts, and as many networks, whose hashing is counted",
            "server.auth.passwords.fair_queue.MAX_TALLIES",
            "the one that hashed the longest ago is forgotten",
            "server/auth/passwords/test_fair_queue.py::test_tallies_are_limited",
        ),
        Bound(
            "bytes of a password",
            "server.auth.passwords.hasher.MOST_PASSWORD_BYTES",
            "400",
            "server/auth/passwords/test_hasher.py::test_a_password_of_the_greatest_length_passes",
        ),
        Bound(
            "bytes of a client certificate",
            "server.auth.strategies.x509.chain.MOST_CERTIFICATE_BYTES",
            "401",
            "server/auth/strategies/x509/test_chain.py::test_oversized_certificates",
        ),
        Bound(
            "intermediate certificates of a chain",
            "server.auth.strategies.x509.chain.MOST_DEPTH",
            "401",
            "server/auth/strategies/x509/test_chain.py::test_a_chain_has_an_end",
        ),
        Bound(
            "certificates from a client, or in a header field, that are read",
            "server.auth.strategies.x509.proxy_header.MOST_CERTIFICATES",
            "further ones are ignored",
            "server/auth/strategies/x509/test_proxy_header.py::test_the_chain_beside",
        ),
        Bound(
            "characters of a header field with a certificate",
            "server.auth.strategies.x509.proxy_header.MOST_FIELD_CHARACTERS",
            "401",
            "server/auth/strategies/x509/test_proxy_header.py::test_what_is_not_exactly_one",
        ),
        Bound(
            "bytes of a file with CA certificates or CRLs",
            "server.auth.strategies.x509.trust_store.MOST_FILE_BYTES",
            "refused at the start; while running, the previous contents stay in use",
            "server/auth/strategies/x509/test_chain.py::test_files_are_bounded",
        ),
        Bound(
            "sessions kept in memory",
            "limits.liveSessions",
            "the oldest is read from the store when it is used again",
            "server/api/test_cached_results.py::test_few_sessions_in_memory",
        ),
        Bound(
            "sessions of one user (0: any number)",
            "security.authToken.maxSessions",
            "the oldest is revoked",
            "server/auth/sessions/test_sessions.py::test_a_further_login_ends_the_oldest_session",
        ),
        Bound(
            "API keys of one user",
            "server.auth.sessions.api_keys.MOST_KEYS",
            "412",
            "server/auth/sessions/test_api_keys.py::test_the_number_of_keys_is_bounded",
        ),
        Bound(
            "profiles of one user",
            "server.auth.identity.user.MOST_PROFILES",
            "400",
            "server/auth/accounts/test_users.py::test_what_is_refused_leaves_nothing",
        ),
        Bound(
            "events of the audit log",
            "security.audit.maxEvents",
            "the oldest of the most frequent kind are deleted",
            "server/auth/audit/test_log.py::test_a_flood_pushes_out_itself",
        ),
        Bound(
            "frames of statistics",
            "stats.ttl",
            "the oldest is dropped",
            "server/api/test_metrics.py::test_frames_are_bounded",
        ),
    ),
}

_INTRODUCTION = """# Limits

This page is generated by `python -m tests.tools.limits`; a test fails when it is out of date, or
when a test it names does not exist.

Everything that a client can make grow has a limit, which is tested at the limit and beyond it.
Settings are those of [configuration.md](configuration.md); limits without a setting are marked as
fixed. 0 means no limit where that is stated.

Timeouts use the monotonic clock. Sessions outlive the server, so their expiry is a time of day. If
the system clock is set while the server runs, the server follows it at no more than a tenth above
or below real time: no expired session becomes valid again, and none expires early by more than
that. A clock that is set while the server is stopped is trusted.

Connections are served in turns: only a limited amount of one connection's input is parsed before
all others have been served, and until then no more of it is read.
"""


_HEADINGS = "| What | Setting | Default | Beyond it | Shown by |\n|---|---|---|---|---|\n"


def page() -> str:
    """Give docs/limits.md."""
    return "".join([_INTRODUCTION, *_tables()])


def _tables() -> Iterator[str]:
    for title, bounds in GROUPS.items():
        yield f"\n## {title}\n\n{_HEADINGS}"
        for bound in bounds:
            where = f"`{bound.where}`" if bound.is_setting else "fixed"
            file, _, name = bound.test.rpartition("::")
            yield (
                f"| {bound.what} | {where} | {bound.default} | {bound.beyond} "
                f"| [{name}](../tests/{file}) |\n"
            )


if __name__ == "__main__":
    print(page(), end="")
