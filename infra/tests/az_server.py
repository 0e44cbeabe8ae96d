"""The real az, kept warm: each call is a fork of a process that has imported it already. To import it is most of what a call costs, and the
tests make some hundred calls.

az_server.py SOCKET listens there. A caller sends its arguments, folder and environment as JSON, with its three standard files, and gets the
exit status as one byte.
"""

import importlib
import json
import os
import runpy
import signal
import socket
import sys
import traceback

# What the commands of deploy.sh import.
MODULES = [
    "azure.cli.core.commands.parameters",
    "azure.cli.core.util",
    "azure.cli.command_modules.appservice.custom",
    "azure.cli.command_modules.profile.custom",
    "azure.cli.command_modules.resource.custom",
    "azure.cli.command_modules.role.custom",
    "azure.cli.command_modules.storage.operations.account",
    "azure.mgmt.authorization",
    "azure.mgmt.storage",
    "azure.mgmt.web",
    "msal",
]

CALLER = """#!{python} -ES
import json, os, socket, sys
caller = socket.socket(socket.AF_UNIX)
caller.connect({path!r})
request = json.dumps([sys.argv[1:], os.getcwd(), dict(os.environ)]).encode()
sent = socket.send_fds(caller, [request], [0, 1, 2])
caller.sendall(request[sent:])
caller.shutdown(socket.SHUT_WR)
status = caller.recv(1)
sys.exit(status[0] if status else 1)
"""


def serve(path):
    # The folder of this file has an azure.py of its own.
    sys.path.pop(0)
    for name in MODULES:
        importlib.import_module(name)
    server = socket.socket(socket.AF_UNIX)
    server.bind(path)
    server.listen()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    print("ready", flush=True)
    while True:
        caller, _ = server.accept()
        if os.fork() == 0:
            server.close()
            answer(caller)
        caller.close()


def answer(caller):
    """Runs one call in this process, and ends it."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    request, files, _, _ = socket.recv_fds(caller, 1 << 16, 3)
    while more := caller.recv(1 << 16):
        request += more
    for number, file in enumerate(files):
        os.dup2(file, number)
        os.close(file)
    arguments, folder, environment = json.loads(request)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    sys.argv[:] = ["az", *arguments]
    try:
        runpy.run_module("azure.cli", run_name="__main__", alter_sys=True)
        status = 0
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        traceback.print_exc()
        status = 1
    sys.stdout.flush()
    sys.stderr.flush()
    caller.send(bytes([status & 255]))
    os._exit(status)


if __name__ == "__main__":
    serve(sys.argv[1])
