"""`server:openapi`: a valid document, made from the action table (docs/api/server.md#openapi,
"openapi")."""

import json
from dataclasses import replace

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from openapi_spec_validator import OpenAPIV2SpecValidator

from server.api.actions import Route, all_actions
from server.api.openapi import SCOPES, Published, write_document
from server.api.yaml import write_yaml
from tests.support.errors import told
from tests.support.server import TRANSPORTS, Answer, Running

PLUGIN = "kuzzle-plugin-auth-passport-local/password"


async def fetch(server: Running, query: str = "") -> Answer:
    """Get the document without a token: everybody may (docs/api/security.md#default-rights)."""
    return await (await server.connect()).ask("GET", f"/_openapi{query}")


def operations(document: dict) -> dict[tuple[str, str], dict]:
    """Give a document's operations by verb and path."""
    return {
        (verb, path): operation
        for path, item in document["paths"].items()
        for verb, operation in item.items()
    }


@pytest.mark.parametrize("scope", SCOPES)
def test_documents_are_valid(scope: str) -> None:
    """Swagger 2.0, as somebody else's validator reads it."""
    OpenAPIV2SpecValidator(write_document(all_actions(), scope)).validate()


def test_every_route_is_described_once() -> None:
    """docs/api/server.md: one item for each route, `:p` written `{p}`; plugins have their own
    document."""
    found = [operations(write_document(all_actions(), scope)) for scope in SCOPES]
    assert not found[0].keys() & found[1].keys()
    expected = {}
    for entry in all_actions():
        for route in entry.routes:
            parts = [f"{{{p[1:]}}}" if p[:1] == ":" else p for p in route.path.split("/")]
            expected[route.verb.lower(), "/".join(parts)] = (entry.controller, route.is_deprecated)
    assert {
        key: (operation["tags"][0], operation.get("deprecated", False))
        for one in found
        for key, operation in one.items()
    } == expected


def test_an_operation() -> None:
    """docs/api/server.md: description, summary, parameters, answers, tags."""
    document = write_document(all_actions(), "kuzzle")
    assert document["swagger"] == "2.0"
    assert {"name": "auth", "description": "Controller auth"} in document["tags"]
    found = operations(document)
    user = found["get", "/users/{_id}"]
    assert (user["tags"], user["operationId"]) == (["security"], "security:getUser")
    assert (user["summary"], user["description"]) == ("Return a user", "Return a user.")
    assert user["parameters"] == [{"name": "_id", "in": "path", "required": True, "type": "string"}]
    assert {"200", "400", "401", "403", "404", "412", "413", "429", "503"} <= user[
        "responses"
    ].keys()
    stats = found["get", "/_getStats"]
    assert stats["parameters"] == [
        {"name": "startTime", "in": "query", "type": "string"},
        {"name": "stopTime", "in": "query", "type": "string"},
    ]
    assert stats["deprecated"] is True
    body = found["post", "/_login/{strategy}"]["parameters"][-1]
    assert body == {"name": "body", "in": "body", "schema": {"type": "object"}}
    key = found["post", "/users/{userId}/api-keys/_create"]["parameters"]
    assert [(one["name"], one["in"]) for one in key] == [
        ("userId", "path"),
        ("_id", "query"),
        ("expiresIn", "query"),
        ("body", "body"),
    ]
    assert found["get", "/_openapi"]["produces"] == ["application/json", "application/yaml"]


def test_an_argument_in_the_path_is_not_asked_for_again() -> None:
    """An action may take the same argument either way, by its route."""
    routes = (Route("GET", "/some"), Route("GET", "/some/:_id"))
    entry = replace(all_actions()[0], routes=routes, query=("_id",))
    found = operations(write_document([entry], "kuzzle"))
    for path, place in (("/some", "query"), ("/some/{_id}", "path")):
        assert [(p["name"], p["in"]) for p in found["get", path]["parameters"]] == [("_id", place)]


@pytest.mark.parametrize(
    ("query", "content_type", "described"),
    [
        ("", "application/json", "/_me"),
        ("?format=json&scope=kuzzle", "application/json", "/_me"),
        ("?format=yaml", "application/yaml", "/_me"),
        ("?format=YAML&scope=app", "application/yaml", "/_/password/reset"),
        ("?format=x%0D%0ASet-Cookie:%20a=b", "application/yaml", "/_me"),
        ("?scope=app", "application/json", "/_/password/reset"),
        ("?pretty", "application/json", "/_me"),
    ],
)
async def test_over_http(server: Running, query: str, content_type: str, described: str) -> None:
    """docs/api/server.md: no envelope; any format but `json` is YAML, and names no header."""
    answer = await fetch(server, query)
    assert (answer.status, answer.headers["content-type"]) == (200, content_type)
    assert "set-cookie" not in answer.headers
    read = json.loads if content_type == "application/json" else yaml.safe_load
    assert described in read(answer.body)["paths"]


async def test_both_forms_say_the_same(server: Running) -> None:
    """JSON and YAML hold the same document."""
    asked, written = await fetch(server), await fetch(server, "?format=yaml")
    assert yaml.safe_load(written.body) == asked.json


async def test_over_websocket(server: Running) -> None:
    """docs/api/transport.md#raw-results: an object gets its `room`; YAML is a text, as the
    reference sends it."""
    socket = await server.open_socket()
    asked = {"controller": "server", "action": "openapi", "requestId": "r1"}
    answer = await socket.ask(asked)
    assert (answer.pop("room"), answer) == ("r1", (await fetch(server)).json)
    await socket.send({**asked, "format": "yaml"})
    assert yaml.safe_load(await socket.read()) == answer


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_bad_scope(server: Running, transport: str) -> None:
    """docs/api/server.md, with the values the reference gives."""
    answer = await server.call(transport, "server:openapi", scope="foo")
    assert told(answer, "id", "code", "status", "props") == {
        "id": "api.assert.unexpected_argument",
        "code": 33619975,
        "status": 400,
        "props": ["foo", ["kuzzle", "app"]],
    }


@pytest.mark.parametrize("name", ["scope", "format"])
async def test_arguments_of_the_wrong_type(server: Running, name: str) -> None:
    """docs/api/transport.md#arguments."""
    answer = await server.call("websocket", "server:openapi", **{name: ["json"]})
    assert told(answer, "id", "status") == {"id": "api.assert.invalid_type", "status": 400}


def test_a_document_is_made_once() -> None:
    """Whoever asks again and again costs us no more than sending it."""
    published = Published(all_actions())
    assert published.document("kuzzle") is published.document("kuzzle")
    assert published.yaml("app") is published.yaml("app")


TEXTS = st.text() | st.sampled_from(["yes", "No", "null", "1", "1e3", "~", "", "a: b", "- a", "#"])
TREES = st.recursive(
    st.none() | st.booleans() | st.integers() | TEXTS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=4),
    max_leaves=20,
)


@given(st.dictionaries(TEXTS, TREES, max_size=4))
def test_yaml_is_read_as_it_was_meant(tree: dict) -> None:
    """Somebody else's reader finds each text, whole number and nesting again."""
    assert yaml.safe_load(write_yaml(tree)) == tree


def test_yaml_is_for_people() -> None:
    """Block style; quotes where a text could be something else."""
    tree = {"a": {"b": [1, "two words", {}]}, "no": [[True, None]], "200": "plain"}
    assert write_yaml(tree) == (
        'a:\n  b:\n    - 1\n    - "two words"\n    - {}\n'
        '"no":\n  -\n    - true\n    - null\n"200": plain\n'
    )
