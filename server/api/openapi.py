"""OpenAPI (Swagger 2.0) document of the API, generated from the action table.

A new action needs no change here: its docstring is the published text, its routes are the paths.
"""

from collections.abc import Iterable

from protocol.api.request import Json
from server.api.actions import Action, Route
from server.api.public_api import API_VERSION
from server.api.yaml import write_yaml

SCOPES = ("kuzzle", "app")
"""The scope of a document: the server's own controllers, or those named like a plugin's."""

Document = dict[str, Json]

_JSON = "application/json"
_BODY_VERBS = ("POST", "PUT", "PATCH")
_REFUSALS = {
    400: "Invalid request or argument.",
    401: "The token is missing or not valid.",
    403: "The caller does not have the required permission.",
    404: "The route or a named document does not exist.",
    408: "Request timeout: the request took too long to arrive.",
    412: "Precondition failed: the current state does not allow the action.",
    413: "The request, or the result it asks for, is too large.",
    414: "Path and query are too long.",
    429: "Too many requests. `Retry-After`, if present, is the time to wait.",
    431: "Too many or too long header fields.",
    503: "The server is overloaded or its database is unavailable. `Retry-After` is the time to"
    " wait.",
}
_TEXT: Document = {"type": "string"}
_TEXT_OR_NULL: Document = {**_TEXT, "x-nullable": True}
_OBJECT_OR_NULL: Document = {"type": "object", "x-nullable": True}
_ENVELOPE: Document = {
    "type": "object",
    "required": ["action", "controller", "error", "headers", "node", "requestId", "status"],
    "properties": {
        "action": _TEXT_OR_NULL,
        "controller": _TEXT_OR_NULL,
        "error": {**_OBJECT_OR_NULL, "description": "Null on success, else like `Error`."},
        "headers": {"type": "object"},
        "node": _TEXT,
        "requestId": _TEXT,
        "result": {},
        "status": {"type": "integer"},
        "volatile": _OBJECT_OR_NULL,
    },
}
_ERROR: Document = {
    "type": "object",
    "required": ["message", "status"],
    "properties": {
        "id": {**_TEXT, "description": "Identifies the error, with `status`."},
        "code": {"type": "integer"},
        "message": {**_TEXT, "description": "For people."},
        "props": {"type": "array", "items": {}},
        "status": {"type": "integer"},
        "errors": {"type": "array", "items": {"$ref": "#/definitions/Error"}},
        "count": {"type": "integer"},
    },
}
_FAILURE: Document = {
    "allOf": [
        {"$ref": "#/definitions/Answer"},
        {
            "type": "object",
            "required": ["error"],
            "properties": {"error": {"$ref": "#/definitions/Error"}},
        },
    ]
}


class Published:
    """The documents of these actions, each created at the first request for it."""

    def __init__(self, actions: Iterable[Action]) -> None:
        self._actions = tuple(actions)
        self._documents: dict[str, Document] = {}
        self._yaml: dict[str, str] = {}

    def document(self, scope: str) -> Document:
        """Return the document of one of `SCOPES`."""
        if scope not in self._documents:
            self._documents[scope] = write_document(self._actions, scope)
        return self._documents[scope]

    def yaml(self, scope: str) -> str:
        """Return the same in YAML."""
        if scope not in self._yaml:
            self._yaml[scope] = write_yaml(self.document(scope))
        return self._yaml[scope]


def write_document(actions: Iterable[Action], scope: str) -> Document:
    """Return the document of the actions that belong to this one of `SCOPES`."""
    wanted = [entry for entry in actions if ("/" in entry.controller) == (scope == "app")]
    paths: dict[str, Document] = {}
    for entry in wanted:
        for place, route in enumerate(entry.routes):
            operations = paths.setdefault(_write_path(route), {})
            operations[route.verb.lower()] = _write_operation(entry, route, is_first=place == 0)
    controllers = sorted({entry.controller for entry in wanted})
    return {
        "swagger": "2.0",
        "info": {
            "title": "manykeys",
            "description": "An authentication server that speaks the API of Kuzzle.",
            "contact": {"name": "The operator of this server"},
            "license": {"name": "Apache-2.0"},
            "version": API_VERSION,
        },
        "externalDocs": {
            "description": "The API's reference",
            "url": "https://docs.kuzzle.io/core/2/api/",
        },
        "tags": [{"name": name, "description": f"Controller {name}"} for name in controllers],
        "schemes": ["http", "https"],
        "basePath": "/",
        "consumes": [_JSON],
        "produces": [_JSON],
        "paths": dict(sorted(paths.items())),
        "securityDefinitions": {
            "token": {
                "type": "apiKey",
                "name": "Authorization",
                "in": "header",
                "description": "`Bearer`, a space and a session token or an API key.",
            }
        },
        "definitions": {"Answer": _ENVELOPE, "Error": _ERROR, "Failure": _FAILURE},
        "responses": {
            str(status): {"description": text, "schema": {"$ref": "#/definitions/Failure"}}
            for status, text in _REFUSALS.items()
        },
    }


def _write_path(route: Route) -> str:
    return "/".join(
        f"{{{part[1:]}}}" if part.startswith(":") else part for part in route.path.split("/")
    )


def _write_operation(entry: Action, route: Route, *, is_first: bool) -> Document:
    text = " ".join(entry.text.split())
    operation: Document = {
        "tags": [entry.controller],
        "summary": text.partition(". ")[0].removesuffix("."),
        "description": text,
        "parameters": _write_parameters(entry, route),
        "responses": _write_responses(entry),
        # Without a token a caller may still have the right: roles decide.
        "security": [{"token": []}, {}],
    }
    if is_first:  # ids are unique
        operation["operationId"] = entry.full_name
    if entry.produces:
        operation["produces"] = list(entry.produces)
    if route.is_deprecated:
        operation["deprecated"] = True
    return operation


def _write_parameters(entry: Action, route: Route) -> list[Document]:
    in_path = [part[1:] for part in route.path.split("/") if part.startswith(":")]
    parameters: list[Document] = [
        {"name": name, "in": "path", "required": True, **_TEXT} for name in in_path
    ]
    parameters += [
        {"name": name, "in": "query", **_TEXT} for name in entry.query if name not in in_path
    ]
    if route.verb in _BODY_VERBS:
        parameters.append({"name": "body", "in": "body", "schema": {"type": "object"}})
    return parameters


def _write_responses(entry: Action) -> Document:
    """Return the responses of an action; bulk actions may succeed partially."""
    schema: Document = {"$ref": "#/definitions/Answer"}
    whole = {"type": "object"} if entry.produces else schema
    responses: Document = {"200": {"description": "Success.", "schema": whole}}
    if entry.name[:1] == "m" and entry.name[1:2].isupper():
        responses["206"] = {"description": "Partial success.", "schema": schema}
    return responses | {
        str(status): {"$ref": f"#/responses/{status}"} for status in sorted(_REFUSALS)
    }
