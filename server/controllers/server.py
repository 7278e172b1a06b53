"""The `server` controller: what the server is and how it does (contract/04)."""

import os
import platform
import resource

from protocol.errors import error
from protocol.messages import Json, Request
from server.actions import Outcome, action
from server.arguments import read_names
from server.auth.callers import Caller
from server.describe import API_VERSION, program_version, public_api
from server.services import Services

_STORE_SERVICES = ("internalCache", "memoryStorage", "storageEngine")


@action("server:now", "GET /_now")
async def now(services: Services, caller: Caller, request: Request) -> Json:
    """Tell the server's time, in ms since 1970."""
    return {"now": services.clock_ms()}


@action("server:adminExists", "GET /_adminExists", while_no_admin=True)
async def admin_exists(services: Services, caller: Caller, request: Request) -> Json:
    """Tell whether there is an administrator."""
    return {"exists": await services.users.admin_exists()}


@action("server:publicApi", "GET /_publicApi", granted=("default", "anonymous"))
async def show_public_api(services: Services, caller: Caller, request: Request) -> Json:
    """List every controller and action with its HTTP routes."""
    return public_api()


@action("server:info", "GET /", "GET /_serverInfo")
async def info(services: Services, caller: Caller, request: Request) -> Json:
    """Tell versions, routes and the state of the process."""
    used_bytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    page_bytes, pages = os.sysconf("SC_PAGE_SIZE"), os.sysconf("SC_PHYS_PAGES")
    free_pages = os.sysconf("SC_AVPHYS_PAGES")
    uptime_s = (services.clock_ms() - services.started_at_ms) / 1000
    store = {"type": "sqlite", "status": "green" if await services.storage.check() else "red"}
    return {
        "serverInfo": {
            "kuzzle": {
                "api": {"routes": public_api()},
                "memoryUsed": used_bytes,
                "nodeVersion": f"Python {platform.python_version()}",
                "plugins": {},
                "system": {
                    "cpus": [{"model": platform.machine()}] * (os.cpu_count() or 1),
                    "memory": {"free": free_pages * page_bytes, "total": pages * page_bytes},
                },
                "uptime": f"{uptime_s:.3f}s",
                "version": API_VERSION,
            },
            "manykeys": {"version": program_version()},
            "services": dict.fromkeys(
                ("internalCache", "internalStorage", "memoryStorage", "publicStorage"), store
            ),
        }
    }


@action("server:healthCheck", "GET /_healthCheck")
async def health_check(services: Services, caller: Caller, request: Request) -> Json | Outcome:
    """Tell whether the store answers; `services` names the checks that are wanted, all by
    default."""
    names: list[str] = list(_STORE_SERVICES)
    if "services" in request.args:
        wanted = read_names(request, "services")
        names = [name for name in names if name in wanted]
    color = "green" if await services.storage.check() else "red"
    state = color if names else "green"
    result = {"services": dict.fromkeys(names, color), "status": state}
    if state == "green":
        return result
    refused = error("core.fatal.service_unavailable", ", ".join(names))
    return Outcome(result, status=refused.status, error=refused)
