"""Timestamp formatting."""

from datetime import UTC, datetime


def write_time(at_ms: int) -> str:
    """Format a time to the second, in UTC."""
    return datetime.fromtimestamp(at_ms // 1000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
