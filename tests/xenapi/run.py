"""XenAPI as clients see it: `run.py RADOND RADON FOLDER SR SR`, the last two being folders for repositories, on XFS with reflinks.

Every message is called, with the SDK from PyPI over TLS and plain HTTP and with both versions of JSON-RPC; at the end of `implicit` the
list of those that were called is held against what the daemon says it serves.
"""

import sys
import time

from cases import events, hosts, messages, networks, roles, sessions, storage, tasks, vms
from cli import cli
from daemon import CALLED, Daemon
from implicit import implicit
from load import killed, together


def main():
    program, command, folder, first, second = sys.argv[1:]
    daemon = Daemon(program, folder)
    daemon.start()
    try:
        started = time.time()
        sessions(daemon)
        roles(daemon)
        sr = storage(daemon, first, second)
        networks(daemon)
        vms(daemon, sr)
        events(daemon)
        tasks(daemon)
        messages(daemon)
        hosts(daemon)
        implicit(daemon, sr)
        print(f"{len(CALLED)} messages called: {time.time() - started:.1f} s")
        cli(daemon, command, sr)
        print("the command line: passed")
        together(daemon, sr)
        killed(daemon, sr, first)
        daemon.login().xenapi.SR.destroy(sr)
        daemon.stop()
    except BaseException:
        daemon.process.kill()
        raise
    print("xenapi: all passed")


main()
