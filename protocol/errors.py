"""What can go wrong: id, code, class and text of every error, and the exceptions that carry them.

The rows are those of contract/06, in the order of their codes, and some of our own, whose codes end
in 0x10 and above; ids that nothing raises here are reserved. Texts are for people: short, naming
the argument and what would be accepted. Programs tell errors apart by id and status. Longer than
other modules because it is one table.
"""

import re
from dataclasses import dataclass
from math import isfinite

PARTIAL = "PartialError"
BAD_REQUEST = "BadRequestError"
MULTIPLE = "MultipleErrorsError"
UNAUTHORIZED = "UnauthorizedError"
FORBIDDEN = "ForbiddenError"
NOT_FOUND = "NotFoundError"
PRECONDITION = "PreconditionError"
SIZE_LIMIT = "SizeLimitError"
TOO_MANY = "TooManyRequestsError"
INTERNAL = "InternalError"
EXTERNAL = "ExternalServiceError"
PLUGIN = "PluginImplementationError"
UNAVAILABLE = "ServiceUnavailableError"
TIMEOUT = "GatewayTimeoutError"

STATUS = {
    PARTIAL: 206,
    BAD_REQUEST: 400,
    MULTIPLE: 400,
    UNAUTHORIZED: 401,
    FORBIDDEN: 403,
    NOT_FOUND: 404,
    PRECONDITION: 412,
    SIZE_LIMIT: 413,
    TOO_MANY: 429,
    INTERNAL: 500,
    EXTERNAL: 500,
    PLUGIN: 500,
    UNAVAILABLE: 503,
    TIMEOUT: 504,
}

Row = tuple[int, str, str, str]

# By the names of domain and subdomain, with the two bytes they put in front of a code. In a text,
# {0} stands for the first of the values (props) the error is raised with.
FAMILIES: dict[tuple[str, int], tuple[Row, ...]] = {
    ("core.fatal", 0x0000): (
        (0x01, INTERNAL, "unexpected_error", "Unexpected error: {0}"),
        (0x02, EXTERNAL, "service_unavailable", "A service is not available: {0}"),
        (0x05, INTERNAL, "assertion_failed", "Internal check failed: {0}"),
    ),
    ("services.storage", 0x0101): (
        (0x01, PRECONDITION, "unknown_index", 'No index "{0}"'),
        (0x02, PRECONDITION, "unknown_collection", 'No collection "{1}" in index "{0}"'),
        (0x03, SIZE_LIMIT, "get_limit_exceeded", "Page over limits.documentsFetchCount"),
        (0x04, SIZE_LIMIT, "write_limit_exceeded", "More ids than limits.documentsWriteCount"),
        (0x09, PARTIAL, "incomplete_delete", 'Some documents could not be deleted: see "errors"'),
        (0x0B, NOT_FOUND, "not_found", 'No document "{0}"'),
        (0x0E, NOT_FOUND, "unknown_scroll_id", "This scroll is unknown or expired: search again"),
        (0x0F, BAD_REQUEST, "search_as_an_id", '"_search" can not be an identifier'),
        (0x11, BAD_REQUEST, "document_already_exists", "A document with this id exists already"),
        (0x12, BAD_REQUEST, "missing_argument", '"{0}" is required'),
        (0x13, BAD_REQUEST, "invalid_argument", '"{0}" is not acceptable: expected {1}'),
        (0x15, BAD_REQUEST, "invalid_mapping", "The mapping can not be read: {0}"),
        (0x18, EXTERNAL, "not_connected", "The storage can not be reached"),
        (0x1A, BAD_REQUEST, "cannot_change_mapping", 'The type of field "{0}" can not be changed'),
        (0x1D, BAD_REQUEST, "invalid_mapping_type", '"{0}" is no type of field'),
        (0x1E, BAD_REQUEST, "wrong_mapping_property", 'The mapping value "{0}" can not be read'),
        (0x20, EXTERNAL, "too_many_changes", "The document is changing too fast: try again"),
        (0x21, BAD_REQUEST, "unexpected_bad_request", "The storage refuses this request: {0}"),
        (0x22, NOT_FOUND, "unexpected_not_found", "Not in the storage: {0}"),
        (0x23, EXTERNAL, "unexpected_error", "The storage failed: {0}"),
        (0x28, BAD_REQUEST, "invalid_search_query", '"{0}" is not allowed at the root of a search'),
        (0x2C, BAD_REQUEST, "scroll_duration_too_great", 'A scroll may not live as long as "{0}"'),
        (0x2D, BAD_REQUEST, "unknown_query_keyword", '"{0}" is no clause of a query'),
        (0x2F, BAD_REQUEST, "invalid_query_keyword", '"{0}" is not allowed in a query'),
    ),
    ("services.cache", 0x0103): (
        (0x02, INTERNAL, "read_failed", "The session store could not be read"),
        (0x03, UNAVAILABLE, "not_connected", "The session store can not be reached"),
        (0x04, INTERNAL, "write_failed", "The session store could not be written"),
    ),
    ("services.koncorde", 0x0105): (
        (0x01, BAD_REQUEST, "elastic_translation_error", "This filter can not be translated: {0}"),
    ),
    ("api.assert", 0x0201): (
        (0x01, BAD_REQUEST, "invalid_type", '"{0}" has the wrong type: expected {1}'),
        (0x02, BAD_REQUEST, "invalid_argument", '"{0}" is not acceptable: expected {1}'),
        (0x03, BAD_REQUEST, "missing_argument", '"{0}" is required'),
        (0x04, BAD_REQUEST, "empty_argument", '"{0}" must not be empty'),
        (0x05, BAD_REQUEST, "mutually_exclusive", '"{0}" and "{1}" exclude each other'),
        (0x06, BAD_REQUEST, "too_many_arguments", '"{0}" holds too many values: at most {1}'),
        (0x07, BAD_REQUEST, "unexpected_argument", '"{0}" is not known here: accepted are {1}'),
        (0x08, BAD_REQUEST, "body_required", "A body is required"),
        (0x09, INTERNAL, "unexpected_type_assertion", 'No check for arguments of type "{0}"'),
        (0x0A, BAD_REQUEST, "invalid_id", '"{0}" is no identifier: it must not begin with "_"'),
        (0x0B, BAD_REQUEST, "forbidden_argument", '"{0}" is not allowed for this action'),
        (0x0C, BAD_REQUEST, "koncorde_unknown_keyword", '"{0}" is not a keyword of Koncorde'),
        (0x0D, BAD_REQUEST, "koncorde_restricted_keyword", 'A search can not use the {0} "{1}"'),
        (0x0E, BAD_REQUEST, "koncorde_dsl_error", "Bad Koncorde filter: {0}"),
        (0x0F, INTERNAL, "forbidden_stream", "A stream can only be answered over HTTP"),
        (0x10, INTERNAL, "unsupported_protocol", "This action can not be called over {0}"),
    ),
    ("api.process", 0x0202): (
        (0x01, PRECONDITION, "action_locked", '"{0}" is running already: try again later'),
        (0x02, UNAVAILABLE, "overloaded", "Too many requests are waiting: try again later"),
        (0x03, BAD_REQUEST, "connection_dropped", "The client left before its request was run"),
        (0x04, NOT_FOUND, "controller_not_found", 'No controller "{0}"'),
        (0x05, NOT_FOUND, "action_not_found", 'No action "{1}" in controller "{0}"'),
        (0x06, BAD_REQUEST, "incompatible_sdk_version", "Incompatible SDK client {0}: use {1}"),
        (0x07, UNAVAILABLE, "shutting_down", "This node is stopping: use another one"),
        (0x08, TOO_MANY, "too_many_requests", "Too many requests from this user: slow down"),
        (0x09, PRECONDITION, "admin_exists", "An administrator exists already"),
        (0x0A, MULTIPLE, "incomplete_multiple_request", 'Some requests failed: see "errors"'),
        (0x0B, UNAVAILABLE, "not_enough_nodes", "Too few nodes are running: try again later"),
        (0x0C, UNAUTHORIZED, "unauthorized_origin", 'Origin "{0}" is not allowed here'),
        (0x0D, TOO_MANY, "too_many_logins_requests", "Too many login attempts: try again later"),
        (0x0E, PLUGIN, "forbidden_embedded_sdk_action", "Only clients can call {0}:{1}"),
    ),
    ("network.http", 0x0301): (
        (0x01, SIZE_LIMIT, "request_too_large", "The request is larger than server.maxRequestSize"),
        (0x02, BAD_REQUEST, "unexpected_error", "Malformed request: {0}"),
        (0x03, BAD_REQUEST, "too_many_encodings", "Content-Encoding: at most {0} layers"),
        (0x04, BAD_REQUEST, "unsupported_compression", 'Encoding "{0}": use gzip or deflate'),
        (0x05, BAD_REQUEST, "compression_disabled", "Compressed bodies are turned off"),
        (0x06, BAD_REQUEST, "unsupported_verb", 'No route for the verb "{0}"'),
        (0x07, NOT_FOUND, "url_not_found", 'No route for "{0}"'),
        (0x08, BAD_REQUEST, "unsupported_content", 'Content-Type "{0}": use application/json'),
        (0x09, BAD_REQUEST, "unsupported_charset", 'Charset "{0}" is not known: send utf-8'),
        (0x0A, INTERNAL, "duplicate_url", 'Route "{0}" is declared twice'),
        (0x0B, BAD_REQUEST, "volatile_parse_failed", "X-Kuzzle-Volatile must be a JSON object"),
        (0x0C, BAD_REQUEST, "body_parse_failed", "The body can not be read: {0}"),
        (0x0D, SIZE_LIMIT, "file_too_large", "A file of the form is too large"),
        (0x0E, INTERNAL, "stream_closed", "The stream ended too early"),
        (0x0F, INTERNAL, "stream_errored", "The stream failed"),
    ),
    ("network.mqtt", 0x0302): (
        (0x01, BAD_REQUEST, "unexpected_error", "Malformed MQTT packet: {0}"),
    ),
    ("network.websocket", 0x0303): (
        (0x01, BAD_REQUEST, "unexpected_error", "The message is not JSON: {0}"),
        (0x02, TOO_MANY, "ratelimit_exceeded", "Too many messages on this socket: slow down"),
    ),
    ("network.entrypoint", 0x0304): (
        (0x01, INTERNAL, "unexpected_event", 'Unknown event "{0}"'),
        (0x02, INTERNAL, "invalid_port", '"{0}" is no port: expected 0 to 65535'),
        (0x03, UNAVAILABLE, "shutting_down", "This node is stopping: use another one"),
    ),
    ("plugin.kuzzle-plugin-auth-passport-local", 0x0400): (
        (0x01, UNAUTHORIZED, "expired_password", "The password is too old: choose another one"),
        (0x02, UNAUTHORIZED, "expired_token", "The reset token is expired: ask for another one"),
        (0x03, BAD_REQUEST, "invalid_token", "The reset token is invalid"),
        (0x04, BAD_REQUEST, "login_in_password", "The password must not contain the username"),
        (0x05, UNAUTHORIZED, "must_change_password", "Choose a password of your own first"),
        (0x06, BAD_REQUEST, "reused_password", "The password was used before: choose another one"),
        (0x07, BAD_REQUEST, "weak_password", "The password does not follow the rules"),
    ),
    ("plugin.assert", 0x0401): (
        (0x01, INTERNAL, "invalid_plugins_dir", 'The plugin directory "{0}" can not be read'),
        (0x02, PLUGIN, "cannot_load", 'Plugin "{0}" can not be loaded: {1}'),
        (0x03, PLUGIN, "invalid_hook", 'Plugin "{0}": hook "{1}" must be a function'),
        (0x04, PLUGIN, "invalid_pipe", 'Plugin "{0}": pipe "{1}" must be a function'),
        (0x05, PLUGIN, "init_not_found", 'Plugin "{0}" has no init method'),
        (0x06, PLUGIN, "privileged_not_supported", 'Plugin "{0}" has no privileged mode'),
        (0x07, PLUGIN, "privileged_not_set", 'Plugin "{0}" needs the privileged mode'),
        (0x08, PLUGIN, "not_a_constructor", 'Plugin "{0}" must be a class'),
        (0x09, PLUGIN, "name_already_exists", 'A plugin "{0}" exists already'),
        (0x0A, PLUGIN, "invalid_plugin_name", 'Plugin "{0}": use small letters, digits, dashes'),
        (0x0B, PLUGIN, "no_name_provided", "A plugin without a name of its own must be given one"),
        (0x0C, PLUGIN, "invalid_controller_definition", 'Controller "{0}" is badly defined: {1}'),
        (0x0D, PLUGIN, "invalid_application_name", '"{0}": use small letters, digits, dashes'),
        (0x0E, PLUGIN, "duplicated_api_definition", 'Plugin "{0}": give "api" or "controllers"'),
        (0x0F, NOT_FOUND, "plugin_not_found", 'No plugin "{0}"'),
        (0x10, PLUGIN, "invalid_openapi_schema", 'Controller "{0}": bad OpenAPI for action "{1}"'),
    ),
    ("plugin.runtime", 0x0402): (
        (0x01, PLUGIN, "failed_init", 'Plugin "{0}" failed to start: {1}'),
        (0x02, PLUGIN, "unexpected_error", "Unexpected error: {0}"),
        (0x03, TIMEOUT, "pipe_timeout", 'Pipe "{0}" took too long'),
        (0x04, UNAVAILABLE, "too_many_pipes", "Too many pipes are running: try again later"),
        (0x05, PLUGIN, "already_started", '"{0}" can only be used before the start'),
        (0x06, PLUGIN, "unavailable_before_start", '"{0}" can only be used after the start'),
        (0x07, PLUGIN, "unknown_pipe", 'No pipe "{0}"'),
        (0x08, PLUGIN, "unexpected_installation_error", 'Installation "{0}" failed: {1}'),
        (0x09, PLUGIN, "incompatible", '"{0}" and "{1}" can not be used together'),
    ),
    ("plugin.strategy", 0x0403): (
        (0x01, PLUGIN, "invalid_description", 'Strategy "{1}" of "{0}" must be an object'),
        (0x02, PLUGIN, "invalid_methods", 'Strategy "{1}" of "{0}": "methods" must be an object'),
        (0x03, PLUGIN, "invalid_method_type", 'Strategy "{1}" of "{0}": name "{2}" by a string'),
        (0x04, PLUGIN, "missing_method_function", 'Strategy "{1}" of "{0}": no method "{2}"'),
        (0x05, PLUGIN, "invalid_config", 'Strategy "{1}" of "{0}": "config" must be an object'),
        (0x06, PLUGIN, "unexpected_constructor", 'Strategy "{1}" of "{0}": give "authenticator"'),
        (0x07, PLUGIN, "invalid_constructor", 'Strategy "{1}" of "{0}": not a class'),
        (0x08, PLUGIN, "invalid_authenticator", 'Strategy "{1}" of "{0}": name an authenticator'),
        (0x09, PLUGIN, "unknown_authenticator", 'Strategy "{1}" of "{0}": no authenticator "{2}"'),
        (0x0A, PLUGIN, "invalid_option", 'Strategy "{1}" of "{0}": option "{2}" must be an object'),
        (0x0B, PLUGIN, "invalid_fields", 'Strategy "{1}" of "{0}": "fields" must be an array'),
        (0x0C, PLUGIN, "invalid_definition", 'The strategies of "{0}" must be a non-empty object'),
        (0x0D, PLUGIN, "failed_registration", 'Strategy "{1}" of "{0}" can not be started: {2}'),
        (0x0E, PLUGIN, "invalid_verify_return", 'Strategy "{1}" of "{0}": "verify" must be async'),
        (0x0F, PLUGIN, "invalid_verify_resolve", 'Strategy "{0}": "verify" must give an outcome'),
        (0x10, PLUGIN, "invalid_kuid", 'Strategy "{0}": "verify" must give the id of a user'),
        (0x11, PLUGIN, "unknown_kuid", 'Strategy "{0}" gave a user that does not exist'),
        (0x12, PLUGIN, "unauthorized_removal", 'Strategy "{0}" belongs to another plugin'),
        (0x13, NOT_FOUND, "strategy_not_found", 'No strategy "{0}"'),
        (0x14, UNAUTHORIZED, "missing_user", "{0}"),
        (0x15, PLUGIN, "missing_optional_method", 'Strategy "{1}" has no method "{0}"'),
    ),
    ("plugin.controller", 0x0404): (
        (0x01, PLUGIN, "invalid_description", 'Controller "{1}" of "{0}" must be an object'),
        (0x02, PLUGIN, "invalid_action", 'Action "{2}" of controller "{1}" must be a function'),
        (0x03, PLUGIN, "unexpected_route_property", 'A route of "{0}" has the unknown key "{1}"'),
        (0x04, PLUGIN, "invalid_route_property", 'A route of "{0}" has nothing under "{1}"'),
        (0x05, PLUGIN, "undefined_controller", 'A route of "{0}" leads to no controller "{1}"'),
        (0x06, PLUGIN, "undefined_action", 'A route of "{0}" leads to no action "{1}"'),
        (0x07, PLUGIN, "unsupported_verb", 'A route of "{0}" has the unknown verb "{1}"'),
        (0x08, PLUGIN, "unserializable_response", "The result can not be written as JSON"),
        (0x09, PLUGIN, "invalid_action_response", "Action {0}:{1} must be async"),
        (0x0A, PLUGIN, "invalid_openapi_schema", "The OpenAPI part of {0}:{1} can not be read"),
    ),
    ("plugin.context", 0x0406): (
        (0x01, PLUGIN, "missing_collection", "A repository needs a collection"),
        (0x02, PLUGIN, "unavailable_realtime", "{0} can not be called from inside the server"),
        (0x03, PLUGIN, "invalid_user", "Expected a user to act for"),
        (0x04, PLUGIN, "invalid_callback", "The callback must be a function, not {0}"),
        (0x05, PLUGIN, "missing_request", "A request is required"),
        (0x06, PLUGIN, "missing_request_data", "A request needs data"),
        (0x07, PLUGIN, "invalid_event", '"{0}" is no event'),
        (0x08, PLUGIN, "missing_authenticator", 'Strategy "{1}" of "{0}" needs an authenticator'),
    ),
    ("plugin.authenticators", 0x0407): (
        (0x01, PLUGIN, "not_an_object", 'The authenticators of "{0}" must be an object'),
        (0x02, PLUGIN, "invalid_authenticator", 'Authenticator "{1}" of "{0}" must be a class'),
    ),
    ("security.token", 0x0701): (
        (0x01, UNAUTHORIZED, "invalid", "The token is invalid, expired or revoked: log in again"),
        (0x02, INTERNAL, "unknown_user", "A token needs a user"),
        (0x03, INTERNAL, "unknown_connection", "A token needs a connection"),
        (0x04, BAD_REQUEST, "ttl_exceeded", '"expiresIn" is longer than the longest life allowed'),
        (0x05, INTERNAL, "generation_failed", "The token could not be signed"),
        (0x06, UNAUTHORIZED, "expired", "The token is expired: log in again"),
        (0x07, INTERNAL, "verification_error", "The token could not be verified: {0}"),
        (0x08, UNAUTHORIZED, "refresh_forbidden", "This token can not be refreshed: {0}"),
        (0x09, BAD_REQUEST, "invalid_expiration", '"{0}" is no lifetime for this token: {1}'),
    ),
    ("security.credentials", 0x0702): (
        (0x01, BAD_REQUEST, "unknown_strategy", 'No strategy "{0}"'),
        (0x02, PLUGIN, "database_inconsistency", 'New user "{0}" has credentials already'),
        (0x03, BAD_REQUEST, "rejected", "Credentials refused: {0}"),
    ),
    ("security.rights", 0x0703): (
        (0x01, UNAUTHORIZED, "unauthorized", "Anonymous may not call {0}:{1}: log in first"),
        (0x02, FORBIDDEN, "forbidden", 'User "{2}" may not call {0}:{1}'),
        (0x03, FORBIDDEN, "failsafe_mode_admin_only", "Only administrators may log in now"),
        (0x10, FORBIDDEN, "second_factor_required", "Log in again, with a second factor"),
        (0x11, FORBIDDEN, "recent_login_required", "Only soon after a login: log in again"),
        (0x12, FORBIDDEN, "api_key_forbidden", "API keys may not change how users log in"),
    ),
    ("security.user", 0x0704): (
        (0x01, PRECONDITION, "already_exists", 'User "{0}" exists already'),
        (0x02, NOT_FOUND, "not_found", 'No user "{0}"'),
        (0x03, BAD_REQUEST, "anonymous_profile_required", "The anonymous user keeps its profile"),
        (0x04, INTERNAL, "cannot_hydrate", 'User "{0}" has a profile that does not exist'),
        (0x05, INTERNAL, "uninitialized", 'User "{0}" is not loaded'),
        (0x06, BAD_REQUEST, "prevent_overwrite", 'Some users exist: set "onExistingUsers"'),
        (0x07, INTERNAL, "no_profile", 'User "{0}" has no profile'),
    ),
    ("security.role", 0x0705): (
        (0x01, NOT_FOUND, "not_found", 'No role "{0}"'),
        (0x02, BAD_REQUEST, "login_required", 'The role "anonymous" must allow auth:login'),
        (0x03, BAD_REQUEST, "cannot_delete", 'Role "{0}" is protected and can not be deleted'),
        (0x04, PRECONDITION, "in_use", 'Role "{0}" is used by a profile'),
        (0x05, INTERNAL, "uninitialized", 'Role "{0}" is not loaded'),
        (0x06, BAD_REQUEST, "invalid_rights", 'The rights of role "{0}" can not be read'),
        (0x07, BAD_REQUEST, "closure_exec_failed", 'The condition of role "{0}" failed'),
        (0x08, BAD_REQUEST, "closure_missing_test", 'The condition of role "{0}" has no test'),
        (0x09, BAD_REQUEST, "unknown_controller", 'Role "{0}": no controller "{1}"'),
        (0x0A, BAD_REQUEST, "unknown_action", 'Role "{0}": controller "{2}" has no action "{1}"'),
    ),
    ("security.profile", 0x0706): (
        (0x01, NOT_FOUND, "not_found", 'No profile "{0}"'),
        (0x02, BAD_REQUEST, "cannot_delete", 'Profile "{0}" is protected and can not be deleted'),
        (0x03, PRECONDITION, "in_use", "The profile is assigned to a user"),
        (0x04, INTERNAL, "cannot_hydrate", 'Profile "{0}" has a role that does not exist'),
        (0x05, BAD_REQUEST, "missing_anonymous_role", 'Profile "anonymous" keeps role "anonymous"'),
        (0x06, INTERNAL, "uninitialized", 'Profile "{0}" is not loaded'),
    ),
    ("security.cookie", 0x0707): (
        (0x01, UNAUTHORIZED, "invalid", "The Cookie header can not be read"),
        (0x02, INTERNAL, "unsupported", "Cookies are turned off: see http.cookieAuthentication"),
    ),
}

_HOLE = re.compile(r"\{([0-9])\}")
_NOT_GIVEN = "?"
_MOST_NESTING = 8
_MOST_BITS = 1024
_TOO_MUCH = "…"


@dataclass(frozen=True, slots=True)
class Kind:
    """One row of the table: what is fixed about an error."""

    id: str
    code: int
    type: str
    status: int
    text: str


class ApiError(Exception):
    """The caller's fault, or a fault he is told about: answered, with the connection going on.

    `id`, `code` and `props` are None for the errors the contract leaves without an id. `more` holds
    members beyond the usual ones (`resetToken`, `document`, `reason`), `nested` the errors that an
    error about several things sums up. `limit` names the limit that was met, to be counted.
    """

    def __init__(
        self,
        message: str,
        *,
        status: int,
        kind: Kind | None = None,
        props: tuple[object, ...] | None = None,
        retry_after_s: int | None = None,
        nested: tuple["ApiError", ...] = (),
        more: dict[str, object] | None = None,
        limit: str | None = None,
    ) -> None:
        super().__init__(message)
        self.id = None if kind is None else kind.id
        self.code = None if kind is None else kind.code
        self.message = message
        self.status = status
        self.props = props
        self.retry_after_s = retry_after_s
        self.nested = nested
        self.more = more or {}
        self.limit = limit

    def as_data(self) -> "ApiError":
        """Cut it off from where it was raised, and give it: whatever keeps an error as a value
        takes it through here.

        Its traceback holds the frames it came through, and these the request, its body and mostly
        the error itself: a cycle that only the cycle collector would find.
        """
        self.__traceback__ = self.__context__ = self.__cause__ = None
        for one in self.nested:
            one.as_data()
        return self

    def as_json(self) -> dict[str, object]:
        """Give the error object of an answer, keys in the wire's order."""
        written: dict[str, object] = {}
        if self.id is not None:
            written = {"code": self.code, "id": self.id}
        written["message"] = self.message
        if self.props is not None:
            written["props"] = list(self.props)
        written["status"] = self.status
        written.update(self.more)
        if self.nested:
            written["errors"] = [one.as_json() for one in self.nested]
            written["count"] = len(self.nested)
        return written


class ProtocolError(Exception):
    """The peer broke the protocol: the connection ends.

    `status` is what HTTP answers last, `close_code` what a WebSocket says (RFC 6455 §7.4.1).
    """

    def __init__(self, reason: str, *, status: int = 400, close_code: int = 1002) -> None:
        super().__init__(reason)
        self.reason = reason
        self.status = status
        self.close_code = close_code


class LocalError(Exception):
    """Our own fault: logged in full, answered with a fixed text."""


def error(
    error_id: str,
    /,
    *props: object,
    message: str | None = None,
    status: int | None = None,
    retry_after_s: int | None = None,
    nested: tuple[ApiError, ...] = (),
    more: dict[str, object] | None = None,
    limit: str | None = None,
) -> ApiError:
    """Make the error with this id; `message` and `status` replace what the table says, `limit` is
    the name of the limit that was met.

    An id the table does not know is a programming error and raises KeyError.
    """
    kind = ERRORS[error_id]
    safe = tuple(_as_json_value(prop) for prop in props)
    return ApiError(
        _fill(kind.text, safe) if message is None else message,
        status=kind.status if status is None else status,
        kind=kind,
        props=safe,
        retry_after_s=retry_after_s,
        nested=nested,
        more=more,
        limit=limit,
    )


def plain_error(status: int, message: str) -> ApiError:
    """Make one of the errors that have no id (contract/06, "raised directly by class")."""
    return ApiError(message, status=status)


def _fill(text: str, props: tuple[object, ...]) -> str:
    """Put the values in, in one walk over the text: braces inside a value mean nothing."""

    def written(hole: re.Match[str]) -> str:
        place = int(hole[1])
        return _as_text(props[place]) if place < len(props) else _NOT_GIVEN

    return _HOLE.sub(written, text)


def _as_text(value: object) -> str:
    match value:
        case None:
            return "null"
        case bool():
            return "true" if value else "false"
        case list():
            return ", ".join(_as_text(item) for item in value)
        case _:
            return str(value)


def _as_json_value(value: object, depth: int = 0) -> object:
    """Give the value itself where orjson writes it, else the nearest thing it does write."""
    match value:
        case None | bool():
            return value
        case str():
            return value.encode("utf-8", "replace").decode()
        case int() if -(2**63) <= value < 2**63:
            return value
        case float() if isfinite(value):
            return value
        case int() if value.bit_length() > _MOST_BITS:
            return _TOO_MUCH
        case bytes():
            return value.decode("utf-8", "replace")
        case list() | tuple() if depth < _MOST_NESTING:
            return [_as_json_value(item, depth + 1) for item in value]
        case dict() if depth < _MOST_NESTING:
            return {
                str(_as_json_value(str(key))): _as_json_value(item, depth + 1)
                for key, item in value.items()
            }
        case list() | tuple() | dict():
            return _TOO_MUCH
        case _:
            return str(value).encode("utf-8", "replace").decode()


def read_table(families: dict[tuple[str, int], tuple[Row, ...]]) -> dict[str, Kind]:
    """Give the rows by id; ValueError where an id or a code is there twice or out of its range."""
    table: dict[str, Kind] = {}
    codes: set[int] = set()
    for (family, prefix), rows in families.items():
        for number, kind, name, text in rows:
            error_id, code = f"{family}.{name}", prefix << 16 | number
            if not 0 < number <= 0xFFFF or not 0 <= prefix <= 0xFFFF:
                raise ValueError(f"{error_id} has a number out of range")
            if error_id in table or code in codes:
                raise ValueError(f"{error_id} or its code 0x{code:08x} is there twice")
            if kind not in STATUS:
                raise ValueError(f"{error_id} has the unknown class {kind}")
            table[error_id] = Kind(error_id, code, kind, STATUS[kind], text)
            codes.add(code)
    return table


ERRORS = read_table(FAMILIES)
