"""The reference page of all actions, made from the action table.

`python -m tests.tools.action_docs` prints docs/api/actions.md.
"""

import re
from collections.abc import Iterator

import server.app.application  # noqa: F401  (its controllers fill the table)
from server.api.actions import TABLE, Action, Route

_INTRODUCTION = """# Actions

This page is made by `python -m tests.tools.action_docs`; a test fails when it is out of date.

Every action can be called over HTTP by its routes and by
[`POST /_query`](transport.md#the-query-endpoint), and over WebSocket by `controller` and `action`.
Parameters of a path (`:_id`) are arguments of the same name elsewhere. *Roles* are the built-in
roles that may call the action [at first](security.md#default-rights); `admin` may call every
action. *Arguments* are named beside those in the path; what is in the body is described on the page
of the controller. A route in parentheses is [deprecated](transport.md#deprecated-routes). The same
list, for programs, is answered by [`server:publicApi`](server.md#publicapi) and
[`server:openapi`](server.md#openapi). An action whose description is longer than a sentence has the
whole of it below the table.
"""
_PAGES = {"auth": "auth.md", "security": "security.md", "server": "server.md"}
_OTHER_PAGE = "strategies.md#password-reset"
_ROUTELESS = "only by `controller` and `action`"
# A full stop before a space and a capital letter or a name in code.
_SENTENCE_END = re.compile(r"(?<=\.)\s+(?=[A-Z`\"])")


def page() -> str:
    """Return docs/api/actions.md."""
    return "".join(_lines())


def _lines() -> Iterator[str]:
    yield _INTRODUCTION
    for controller in sorted(TABLE, key=lambda name: (name not in _PAGES, name)):
        target = _PAGES.get(controller, _OTHER_PAGE)
        yield f"\n## {controller}\n\nDetails: [{target.partition('#')[0]}]({target}).\n\n"
        yield "| Action | Routes | Roles | Arguments | |\n|---|---|---|---|---|\n"
        actions = [TABLE[controller][name] for name in sorted(TABLE[controller])]
        yield from map(_row, actions)
        yield from map(_section, filter(_has_more, actions))


def _row(action: Action) -> str:
    routes = "<br>".join(map(_route, action.routes)) or _ROUTELESS
    roles = ", ".join(f"`{role}`" for role in action.granted)
    if action.while_no_admin:
        roles = f"{roles}{', ' if roles else ''}anyone until there is an administrator"
    arguments = ", ".join(f"`{name}`" for name in action.query)
    name = f"`{action.full_name}`"
    if _has_more(action):
        name = f"[{name}](#{re.sub(r'[^a-z0-9_-]', '', action.full_name.lower())})"
    cells = (name, routes, roles, arguments, describe(action))
    return f"| {' | '.join(cells)} |\n"


def _has_more(action: Action) -> bool:
    return describe(action) != _text(action)


def _section(action: Action) -> str:
    return f"\n### {action.full_name}\n\n{_text(action)}\n"


def _text(action: Action) -> str:
    return " ".join(action.text.split())


def _route(route: Route) -> str:
    shown = f"`{route.verb} {route.path}`"
    return f"({shown})" if route.is_deprecated else shown


def describe(action: Action) -> str:
    """Return the first sentence of an action's published text, on one line."""
    return _SENTENCE_END.split(_text(action), maxsplit=1)[0].replace("|", "\\|")


if __name__ == "__main__":
    print(page(), end="")
