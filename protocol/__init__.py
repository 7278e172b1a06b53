"""HTTP/1.1 and WebSocket as pure functions of bytes: no I/O, clock, randomness or logging."""
