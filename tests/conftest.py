"""For all tests: Ctrl-C has its usual meaning.

A shell that runs the tests in the background has SIGINT ignored, and every
process started from there would inherit that; some tests send it.
"""

import signal

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
