"""Servers to compare with. Each runs as `python -m bench.peers.NAME PORT` and knows nothing of ours but the sample."""
