"""HTTP/1.1 and WebSocket as pure functions of bytes: no I/O, no clock, no randomness, no logging."""
