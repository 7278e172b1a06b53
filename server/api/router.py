"""HTTP router: maps a method and a path to an action."""

from collections.abc import Iterable

from protocol.api.request import split_path
from protocol.config import Match
from protocol.errors import error
from server.api.actions import VERBS, Action

# Answered by the router itself, without rights and without a controller.
ENDPOINTS = {
    ("GET", "/_healthcheck"): "healthcheck",
    ("GET", "/_ready"): "ready",
    ("HEAD", "/"): "root",
    ("POST", "/_query"): "query",
    ("GET", "/.well-known/jwks.json"): "jwks",
}


class _Node:
    """One segment of the route tree."""

    __slots__ = ("children", "leads_to", "param")

    def __init__(self) -> None:
        self.children: dict[str, _Node] = {}
        self.param: _Node | None = None
        self.leads_to: tuple[str | None, str | None, str | None, tuple[str, ...]] | None = None


class Router:
    """Maps a method and a path to an action: a literal segment wins over a parameter, without
    backtracking."""

    def __init__(self, actions: Iterable[Action]) -> None:
        self._roots = {verb: _Node() for verb in VERBS}
        for (verb, path), endpoint in ENDPOINTS.items():
            self._add(verb, path, None, None, endpoint)
        for entry in actions:
            for route in entry.routes:
                self._add(route.verb, route.path, entry.controller, entry.name, None)

    def _add(
        self, verb: str, path: str, controller: str | None, name: str | None, endpoint: str | None
    ) -> None:
        node, names = self._roots[verb], []
        for segment in split_path(path):
            if segment.startswith(":"):
                names.append(segment[1:])
                if node.param is None:
                    node.param = _Node()
                node = node.param
            else:
                node = node.children.setdefault(segment, _Node())
        if node.leads_to is not None:
            raise ValueError(f"route declared twice: {verb} {path}")
        node.leads_to = (controller, name, endpoint, tuple(names))

    def match(self, verb: str, path: str) -> Match:
        """See `protocol.config.Routes`."""
        if verb == "OPTIONS":
            return Match(None, None, {}, "preflight")
        node = self._roots.get(verb)
        if node is None:
            raise error("network.http.unsupported_verb", verb)
        values = []
        for segment in split_path(path):
            child = node.children.get(segment)
            if child is None:
                child = node.param
                values.append(segment)
            if child is None:
                raise error("network.http.url_not_found", path)
            node = child
        if node.leads_to is None:
            raise error("network.http.url_not_found", path)
        controller, name, endpoint, names = node.leads_to
        return Match(controller, name, dict(zip(names, values, strict=True)), endpoint)
