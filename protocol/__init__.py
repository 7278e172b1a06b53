"""HTTP/1.1 and WebSocket protocol without I/O, clock, randomness or logging (sans-I/O)."""
