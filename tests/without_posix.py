"""A process in which the modules are missing that only POSIX systems have, as on Windows.

It imports every module of hebm and its plugins, and then runs commands: each argument is one, its words split by "|".
"""

import importlib
import pkgutil
import sys

POSIX_ONLY = ("crypt", "fcntl", "grp", "nis", "pty", "pwd", "resource", "spwd", "syslog", "termios", "tty")

if __name__ == "__main__":
    sys.modules.update(dict.fromkeys(POSIX_ONLY))  # None: importing it is an ImportError
    import hebm
    import hebm_plugins
    from hebm.cli.main import main

    for package in (hebm, hebm_plugins):
        for found in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            importlib.import_module(found.name)
            print(f"imported {found.name}")
    for command in sys.argv[1:]:
        if main(command.split("|"), prog_name="hebm", standalone_mode=False):
            sys.exit(f"hebm {command} failed")
    print(f"still missing: {all(sys.modules[name] is None for name in POSIX_ONLY)}")
