"""Driving a machine over its serial console: start it, wait for text, type, run commands."""

import os
import re
import select
import signal
import subprocess
import time

ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|\x1b[()][A-Z0-9]|\x1b[=>c78]|\x1b\][^\x07]*\x07")


class ConsoleError(Exception):
    """The machine did not do what was waited for."""


class Console:
    """A machine whose serial port is its standard input and output."""

    def __init__(self, command, log=None, echo=None):
        """`log`: path of a file that gets everything the machine says; `echo`: a stream too."""
        self.command = command
        self.text = ""
        self.position = 0
        self.started = time.monotonic()
        self._echo = echo
        self._log = open(log, "wb") if log else None
        self._marker = 0
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        """Ends the machine if it still runs."""
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        self.process.stdin.close()
        self.process.stdout.close()
        if self._log:
            self._log.close()

    @property
    def seconds(self):
        """Since the machine was started."""
        return time.monotonic() - self.started

    @property
    def processor_seconds(self):
        """What the machine took of the host's processors: says more than time on a busy host."""
        with open(f"/proc/{self.process.pid}/stat") as file:
            fields = file.read().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")  # utime, stime

    def _read(self, deadline):
        """Takes in more text; False at its end."""
        left = deadline - time.monotonic()
        ready = select.select([self.process.stdout], [], [], max(left, 0))[0] if left > 0 else []
        if not ready:
            return None
        data = os.read(self.process.stdout.fileno(), 65536)
        if not data:
            return False
        if self._log:
            self._log.write(data)
            self._log.flush()
        if self._echo:
            self._echo.write(data.decode(errors="replace"))
            self._echo.flush()
        self.text = self.text[:self.position] + ESCAPES.sub(
            "", self.text[self.position:] + data.decode(errors="replace"))
        return True

    def expect(self, pattern, timeout):
        """Waits for a regular expression in what comes from now on; returns the match."""
        deadline = time.monotonic() + timeout
        regex = re.compile(pattern)
        while True:
            match = regex.search(self.text, self.position)
            if match:
                self.position = match.end()
                return match
            more = self._read(deadline)
            if more is None:
                raise ConsoleError(f"no {pattern!r} within {timeout} s")
            if more is False:
                status = self.process.wait()
                raise ConsoleError(f"the machine ended with status {status} before {pattern!r}")

    def type(self, text):
        """Types, as a person would."""
        self.process.stdin.write(text.encode())
        self.process.stdin.flush()

    def wait_for_login(self, timeout):
        """Waits for getty's prompt. What the kernel or systemd say at that moment may stand before
        it, behind it or in its middle; an empty line makes getty ask again."""
        deadline = time.monotonic() + timeout
        asks = False
        while True:
            left = deadline - time.monotonic()
            try:
                seen = self.expect(r"\w login: |Login Prompts|Kernel panic.*",
                                   min(left, 30) if asks else left).group()
            except ConsoleError:
                if not asks or left <= 30 or self.process.poll() is not None:
                    raise
                self.type("\n")
                continue
            if seen.startswith("Kernel panic"):
                raise ConsoleError(f"the guest's kernel gave up: {seen}")
            if seen.endswith("login: "):
                return
            asks = True

    def log_in(self, user, password, timeout):
        """From the login prompt, which was seen, to a plain shell prompt."""
        self.type(f"{user}\n")
        self.expect(r"[Pp]assword: ", timeout)
        self.type(f"{password}\n")
        self.expect(r"~[#$] ", timeout)
        self.type("stty -echo cols 400; bind 'set enable-bracketed-paste off'; PS1=; export TERM=dumb\n")
        self.run("true", timeout)

    def run(self, command, timeout):
        """Runs a shell command; returns its exit status and output."""
        self._marker += 1
        begin, end = f"<{self._marker}<", f">{self._marker}>"
        # The quotes keep the markers out of an echo of what is typed.
        self.type(f"echo '<'{self._marker}'<'; {command}; echo '>'{self._marker}'>'$?\n")
        self.expect(re.escape(begin), timeout)
        start = self.position
        match = self.expect(re.escape(end) + r"(\d+)\r?\n", timeout)
        output = self.text[start:match.start()].replace("\r", "").strip("\n")
        return int(match.group(1)), output

    def wait(self, timeout):
        """Reads on until the machine ends; returns its exit status."""
        deadline = time.monotonic() + timeout
        while True:
            more = self._read(deadline)
            if more is None:
                raise ConsoleError(f"the machine did not end within {timeout} s")
            if more is False:
                return self.process.wait()

    def signal(self, number=signal.SIGTERM):
        """Sends a signal to the machine's process."""
        self.process.send_signal(number)
