"""The command line: parse, call, print, exit code. Importing it loads no heavy library.

Exit codes: 0 done, 1 a problem with data, files or results, 2 wrong usage, 130, 143 and 129
stopped by Ctrl-C, SIGTERM and SIGHUP (a closed terminal).
"""

from __future__ import annotations

from abaw_emi.cli.app import main

__all__ = ["main"]
