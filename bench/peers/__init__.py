"""Servers to compare with. Each runs as `python -m bench.peers.NAME PORT` and reads the sample."""
