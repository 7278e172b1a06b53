"""docs/api/security.md#rights, #listed-rights row by row, as plainly as they are written: what the
compiled rights must agree with."""

Documents = dict[str, dict]
"""Roles or profiles by id, as the API shows them."""
ALIASES = {"ms": "memoryStorage", "memoryStorage": "ms"}


def allows(
    profile_ids: list[str],
    profiles: Documents,
    roles: Documents,
    controller: str,
    action: str,
    args: dict,
) -> bool:
    """Tell whether the owner of these profiles may do what a request asks for."""

    def some_policy(index: str | None, collection: str | None) -> bool:
        return any(
            grants(roles[policy["roleId"]]["controllers"], controller, action)
            and passes(policy.get("restrictedTo"), index, collection)
            for policy in policies_of(profile_ids, profiles, roles)
        )

    targets = [t for t in args.get("targets") or [] if t.get("index") and t.get("collections")]
    pairs = [(target["index"], name) for target in targets for name in target["collections"]]
    return (
        some_policy(args.get("index"), args.get("collection"))
        and not any("*" in index or "*" in name for index, name in pairs)
        and all(some_policy(index, name) for index, name in pairs)
    )


def policies_of(profile_ids: list[str], profiles: Documents, roles: Documents) -> list[dict]:
    """Give the policies of the profiles that are there, where their role is there."""
    there = [profiles[profile_id] for profile_id in profile_ids if profile_id in profiles]
    return [
        policy for profile in there for policy in profile["policies"] if policy["roleId"] in roles
    ]


def grants(controllers: dict, controller: str, action: str) -> bool:
    """§3 "Role, controller" and "Role, action"."""
    for name in (controller, ALIASES.get(controller, controller), "*"):
        if name in controllers:
            actions = controllers[name]["actions"]
            return actions.get(action, actions.get("*")) is True
    return False


def passes(restrictions: list | None, index: str | None, collection: str | None) -> bool:
    """§3 "Restrictions" and "Several restrictions on one index"."""
    if not restrictions or index is None:
        return True
    listed = [one for one in restrictions if one["index"] == index]
    if not listed:
        return False
    united = {name for one in listed for name in one.get("collections", [])}
    return not united or collection is None or collection in united


def listed(profile_ids: list[str], profiles: Documents, roles: Documents) -> set[tuple]:
    """§5: (controller, action, index, collection, value) once each; docs/api/differences.md:
    allowed wins."""
    allowed, named = set(), set()
    for policy in policies_of(profile_ids, profiles, roles):
        places = set()
        restrictions = policy.get("restrictedTo") or []
        for index in {one["index"] for one in restrictions}:
            united = {
                c
                for one in restrictions
                if one["index"] == index
                for c in one.get("collections", [])
            }
            places |= {(index, collection) for collection in united or {"*"}}
        for controller, members in roles[policy["roleId"]]["controllers"].items():
            for action, value in members["actions"].items():
                for place in places or {("*", "*")}:
                    named.add((controller, action, *place))
                    if value:
                        allowed.add((controller, action, *place))
    return {(*one, "allowed" if one in allowed else "denied") for one in named}
