"""Command line. SIGHUP must not end a server that is starting, so it is ignored before the imports
of the program, which take a while; `serve` handles it once it runs."""

import signal
import sys

if "serve" in sys.argv[1:2] and hasattr(signal, "SIGHUP"):
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
