"""What tests compare of an error answer."""


def told(answer: dict, *names: str) -> dict:
    """Give what an error says of itself: id, code and status unless other members are named."""
    assert answer["error"] is not None, answer
    return {name: answer["error"][name] for name in names or ("id", "code", "status")}
