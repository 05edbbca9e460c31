"""Imports what a run imports, then forks a child that runs main.py for each request.

Starting Python and importing take longer than most of the tests' runs. `runs_command` sends the
requests.
"""

import json
import os
import runpy
import socket
import sys
import threading


def serve(asked: socket.socket) -> None:
    """Forks for each request, [environment, arguments], until the other end is closed.

    With a request come the child's standard output and error, and a pipe that is written its exit
    code once it has ended.
    """
    while True:
        message, pipes, *_ = socket.recv_fds(asked, 2**20, 3)
        if not message:
            return
        environment, arguments = json.loads(message)
        out, err, ended = pipes
        child = os.fork()
        if child == 0:
            asked.close()
            os.close(ended)
            os.dup2(out, 1)
            os.dup2(err, 2)
            os.close(out)
            os.close(err)
            os.environ.clear()
            os.environ.update(environment)
            sys.argv = ["main.py", *arguments]
            sys.path[0] = os.getcwd()
            runpy.run_path("main.py", run_name="__main__")
            return
        os.close(out)
        os.close(err)
        threading.Thread(target=_wait, args=(child, ended), daemon=True).start()
        asked.send(str(child).encode())


def _wait(child: int, ended: int) -> None:
    _, status = os.waitpid(child, 0)
    os.write(ended, str(os.waitstatus_to_exitcode(status)).encode())
    os.close(ended)


if __name__ == "__main__":
    import sklearn.datasets  # noqa: F401
    from ml_collections import config_flags  # noqa: F401

    from mixer.runs import evaluate, fewshot, predict, prepare, sweep, train, vtab  # noqa: F401

    serve(socket.socket(fileno=int(sys.argv[1])))
