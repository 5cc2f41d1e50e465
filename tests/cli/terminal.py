"""The command at a terminal: a pseudo-terminal whose other end a test types on."""
import fcntl
import os
import pty
import select
import struct
import termios
import time

import cli


class Terminal:
    """Runs the command; `with` ends it in any case."""

    def __init__(self, *args, **env):
        self.shown = b""  # all that came so far
        self.at = 0       # how far expect() has read
        environment = cli.environment(**{**env, "TERM": "xterm", "LC_ALL": "C.UTF-8"})
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            os.execve(cli.EXE, [cli.EXE, *map(os.fspath, args)], environment)
        fcntl.ioctl(self.fd, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 200, 0, 0))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        os.close(self.fd)
        try:
            os.kill(self.pid, 9)
            os.waitpid(self.pid, 0)
        except (ProcessLookupError, ChildProcessError):
            pass

    def type(self, text):
        os.write(self.fd, text if isinstance(text, bytes) else text.encode())

    def _more(self, until):
        ready, _, _ = select.select([self.fd], [], [], max(0, until - time.monotonic()))
        if not ready:
            return False
        try:
            data = os.read(self.fd, 65536)
        except OSError:  # the other end is closed
            data = b""
        self.shown += data
        return bool(data)

    def expect(self, text):
        """Waits until `text` is shown; returns what came before it."""
        text = text if isinstance(text, bytes) else text.encode()
        until = time.monotonic() + 12 * cli.PATIENCE
        while (found := self.shown.find(text, self.at)) < 0:
            if not self._more(until):
                raise AssertionError(f"{text!r} never came; instead: {self.shown[self.at:]!r}")
        before, self.at = self.shown[self.at:found], found + len(text)
        return before

    def edits(self):
        """Waits until the command reads key by key."""
        until = time.monotonic() + 12 * cli.PATIENCE
        while termios.tcgetattr(self.fd)[3] & termios.ICANON:
            if time.monotonic() > until:
                raise AssertionError("it never began to edit a line")
            time.sleep(0.001)

    def ends(self):
        """Waits for the end of the command; returns its exit code."""
        until = time.monotonic() + 12 * cli.PATIENCE
        while self._more(until):
            pass
        while time.monotonic() < until:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                return os.waitstatus_to_exitcode(status)
            time.sleep(0.01)
        raise AssertionError(f"it did not end; last shown: {self.shown[-200:]!r}")
