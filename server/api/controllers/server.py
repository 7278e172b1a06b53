"""`server` controller: time, version, configuration, health and API description."""

import os
import platform

from protocol.api.request import Json, Request
from protocol.errors import error
from server.api.actions import TABLE, Action, Outcome, action
from server.api.arguments import read_names, read_text
from server.api.context import AppContext
from server.api.openapi import SCOPES
from server.api.public_api import API_VERSION, program_version, public_api
from server.auth.sessions.principal import Caller
from server.core.config_file import shown_tree
from server.system.process import machine_memory_bytes, peak_memory_bytes, used_memory_bytes

_STORE_SERVICES = ("internalCache", "memoryStorage", "storageEngine")
_CACHES = ("internalCache", "memoryStorage")
_STORAGES = ("internalStorage", "publicStorage")
_JSON, _YAML = "application/json", "application/yaml"


@action("server:now", "GET /_now")
async def now(services: AppContext, caller: Caller, request: Request) -> Json:
    """Return the server's time, in ms since 1970."""
    return {"now": services.clock_ms()}


@action("server:adminExists", "GET /_adminExists", while_no_admin=True)
async def admin_exists(services: AppContext, caller: Caller, request: Request) -> Json:
    """Check whether there is an administrator."""
    return {"exists": await services.users.admin_exists()}


@action("server:publicApi", deprecated=("GET /_publicApi",), granted=("default", "anonymous"))
async def show_public_api(services: AppContext, caller: Caller, request: Request) -> Json:
    """List every controller and action with its HTTP routes."""
    return public_api()


@action(
    "server:openapi",
    "GET /_openapi",
    granted=("anonymous",),
    query=("format", "scope"),
    produces=(_JSON, _YAML),
)
async def openapi(services: AppContext, caller: Caller, request: Request) -> Outcome:
    """Describe the API as a Swagger 2.0 document, in JSON or, with any other `format`, in YAML.
    `scope` is `kuzzle` for the server's own controllers, `app` for those of plugins."""
    scope = read_text(request, "scope", SCOPES[0])
    if scope not in SCOPES:
        raise error("api.assert.unexpected_argument", scope, list(SCOPES))
    if read_text(request, "format", "json") == "json":
        document, content_type = services.published.document(scope), _JSON
        return Outcome(document, headers={"content-type": content_type}, is_raw=True)
    yaml = services.published.yaml(scope)
    return Outcome(yaml, headers={"content-type": _YAML}, is_raw=True)


@action("server:capabilities", "GET /_capabilities")
async def capabilities(services: AppContext, caller: Caller, request: Request) -> Json:
    """Return limits, plugins, routes, backend services and the version of the API."""
    store = services.storage.about()
    backend = {"backend": store.name, "version": store.version}
    return {
        "limits": shown_tree(services.config.limits),
        "plugins": {name: {"version": program_version()} for name in _plugins()},
        "routes": public_api(),
        "services": dict.fromkeys(_STORE_SERVICES, backend),
        "version": API_VERSION,
    }


@action("server:getConfig", "GET /_getConfig")
async def get_config(services: AppContext, caller: Caller, request: Request) -> Json:
    """Return the configuration in effect, without secrets and without `security`."""
    shown = shown_tree(services.config)
    del shown["security"]
    # Each process stands alone; Kourou reads this member without asking whether it is there.
    return {"cluster": {"enabled": False}, **shown, "internal": {}, "version": API_VERSION}


@action("server:info", "GET /", "GET /_serverInfo")
async def info(services: AppContext, caller: Caller, request: Request) -> Json:
    """Return versions, routes and the state of the process."""
    free_bytes, total_bytes = machine_memory_bytes()
    uptime_s = (services.clock_ms() - services.started_at_ms) / 1000
    cpu = {"model": platform.processor() or platform.machine()}
    return {
        "serverInfo": {
            "kuzzle": {
                "api": {"routes": public_api()},
                "application": {},
                "memoryUsed": used_memory_bytes(),
                "nodeVersion": f"Python {platform.python_version()}",
                "plugins": {
                    name: _show_plugin(services, name, entries)
                    for name, entries in _plugins().items()
                },
                "system": {
                    "cpus": [cpu] * (os.cpu_count() or 1),
                    "memory": {"free": free_bytes, "total": total_bytes},
                },
                "uptime": f"{uptime_s:.3f}s",
                "version": API_VERSION,
            },
            "manykeys": {"version": program_version()},
            "services": await _show_services(services),
        }
    }


@action("server:healthCheck", "GET /_healthCheck", query=("services",))
async def health_check(services: AppContext, caller: Caller, request: Request) -> Json | Outcome:
    """Check whether the database answers; `services` selects the checks, all by default."""
    names: list[str] = list(_STORE_SERVICES)
    if request.args.get("services") is not None:
        wanted = read_names(request, "services")
        names = [name for name in names if name in wanted]
    color = await _color(services)
    state = color if names else "green"
    result = {"services": dict.fromkeys(names, color), "status": state}
    if state == "green":
        return result
    refused = error("core.fatal.service_unavailable", ", ".join(names))
    return Outcome(result, status=refused.status, error=refused)


async def _color(services: AppContext) -> str:
    return "green" if await services.storage.check() else "red"


def _plugins() -> dict[str, list[Action]]:
    """Return the actions that belong to a plugin in Kuzzle, by plugin: the controller name begins
    with the plugin's."""
    found: dict[str, list[Action]] = {}
    for controller, entries in TABLE.items():
        plugin, slash, _ = controller.partition("/")
        if slash:
            found.setdefault(plugin, []).extend(entries.values())
    return found


def _show_plugin(services: AppContext, name: str, entries: list[Action]) -> Json:
    return {
        "version": program_version(),
        "controllers": sorted({entry.controller for entry in entries}),
        "hooks": [],
        "manifest": {"name": name, "path": ""},
        "pipes": [],
        "routes": [
            {"action": entry.name, "controller": entry.controller, "path": route.path}
            | {"verb": route.verb.lower()}
            for entry in entries
            for route in entry.routes
        ],
        "strategies": services.strategies.names(),
        "imports": [],
    }


async def _show_services(services: AppContext) -> Json:
    """Return the database and this process in the format of Kuzzle's services."""
    store = services.storage.about()
    cache = {
        "memoryPeak": peak_memory_bytes(),
        "memoryUsed": used_memory_bytes(),
        "mode": "standalone",
        "type": store.name,
        "version": store.version,
    }
    storage = {
        "type": store.name,
        "version": store.version,
        "lucene": None,
        "status": await _color(services),
        "spaceUsed": None,
        "nodes": None,
    }
    return dict.fromkeys(_CACHES, cache) | dict.fromkeys(_STORAGES, storage)
