"""What scripts/bench measures: a row is the same work natively and in the machines."""

import re
from dataclasses import dataclass
from typing import Callable

GROUPS = ("cpu", "system", "smp")

# In every session: where the tools lie, and the disk that may be written to.
TOOLS = "/tmp/tools"
DISK = "$BENCH_DISK"


class RowError(Exception):
    """A row's command printed something else than a figure."""


@dataclass(frozen=True)
class Row:
    """`command(seconds)` is what a shell runs; `read(output)` its nanoseconds per operation."""
    name: str
    group: str
    unit: str
    command: Callable[[float], str]
    read: Callable[[str], float]
    processors: int = 1


def read_line(row, output):
    """The figure in limen-bench's line."""
    match = re.search(rf"^{re.escape(row)} ([0-9.]+) ns per ", output, re.MULTILINE)
    if not match:
        raise RowError(f"no figure for {row} in: {output!r}")
    return float(match.group(1))


def read_openssl(record, output):
    """`+R:COUNT:NAME:SECONDS`, and for RSA `+R1:COUNT:BITS:SECONDS`, of `openssl speed -mr`."""
    match = re.search(rf"^\+{record}:(\d+):[^:]*:([0-9.]+)", output, re.MULTILINE)
    if not match or int(match.group(1)) == 0:
        raise RowError(f"no +{record} in: {output!r}")
    return float(match.group(2)) * 1e9 / int(match.group(1))


def program(name, group, unit, row, argument="", processors=1):
    """A row of limen-bench's own."""
    return Row(name, group, f"ns per {unit}",
               lambda seconds: f"{TOOLS}/limen-bench --seconds {seconds} {row} {argument}".strip(),
               lambda output: read_line(row, output), processors)


def command(name, group, text):
    """A whole program, run again and again."""
    return program(name, group, "run", "command", text)


def openssl(name, unit, words, record="R"):
    return Row(name, "cpu", f"ns per {unit}",
               lambda seconds: f"openssl speed -elapsed -seconds {max(1, round(seconds))} -mr {words}",
               lambda output: read_openssl(record, output))


# Its seconds are those from the start of the process to the target, and nobody boots natively.
BOOT = Row("boot to multi-user.target", "system", "ns per boot", lambda _: "", lambda _: 0.0)

ROWS = (
    program("integer loop", "cpu", "iteration", "integer-loop"),
    program("scalar double", "cpu", "iteration", "scalar-double"),
    program("SSE loop", "cpu", "pass over 4096 floats", "sse-loop"),
    program("AVX2 loop", "cpu", "pass over 4096 floats", "avx2-loop"),
    program("recursive calls", "cpu", "call", "recursive-calls"),
    program("indirect calls", "cpu", "call", "indirect-calls"),
    program("qsort", "cpu", "sort of 20000 numbers", "qsort"),
    program("pointer chase 16 KiB", "cpu", "hop", "chase-16k"),
    program("pointer chase 1 MiB", "cpu", "hop", "chase-1m"),
    program("pointer chase 64 MiB", "cpu", "hop", "chase-64m"),
    program("memcpy 256 B", "cpu", "copy", "memcpy-256"),
    program("memcpy 1 MiB", "cpu", "copy", "memcpy-1m"),
    program("bytecode interpreter", "cpu", "bytecode", "bytecode"),
    openssl("openssl sha256", "16 KiB", "-bytes 16384 -evp sha256"),
    openssl("openssl aes-256-gcm", "16 KiB", "-bytes 16384 -evp aes-256-gcm"),
    openssl("openssl rsa2048", "signature", "rsa2048", "R1"),
    command("7-Zip", "cpu", "sh -c 'rm -f a.7z; 7zz a -mmt1 -mx3 a.7z /usr/bin/openssl'"),
    command("python3", "cpu", f"python3 {TOOLS}/work.py"),
    command("sqlite3", "cpu", f"sqlite3 -init {TOOLS}/work.sql :memory: .quit"),
    command("gcc", "cpu", f"g++ -std=c++17 -O2 -c {TOOLS}/block.cc -o /tmp/block.o"),
    command("perl", "cpu", f"perl {TOOLS}/work.pl"),
    command("zstd", "cpu", "zstd -q -5 -c -T1 /usr/bin/perl"),
    program("getppid", "system", "call", "getppid"),
    program("signal to self", "system", "signal", "signal-self"),
    program("page first touch", "system", "page", "first-touch"),
    program("mmap and munmap", "system", "pair", "mmap-munmap"),
    program("pipe ping-pong", "system", "there and back", "pipe-ping-pong"),
    program("fork and exit", "system", "child", "fork-exit"),
    program("fork and exec", "system", "child", "fork-exec"),
    program("thread create", "system", "thread", "thread-create"),
    program("futex ping-pong", "system", "there and back", "futex-ping-pong"),
    BOOT,
    command("find /usr", "system", "find /usr -newer /etc/hostname"),
    command("shell loop", "system", f"sh {TOOLS}/small_commands.sh"),
    program("block read 4 KiB random", "system", "read", "block-read-4k", DISK),
    program("block write 4 KiB random", "system", "write", "block-write-4k", DISK),
    program("block read 1 MiB sequential", "system", "read", "block-read-1m", DISK),
    program("block write 1 MiB sequential", "system", "write", "block-write-1m", DISK),
    program("parallel program, 1 processor", "smp", "pass over 4096 words", "parallel"),
    program("parallel program, 2 processors", "smp", "pass over 4096 words", "parallel",
            processors=2),
    program("lock-heavy program, 1 processor", "smp", "locked section", "locks"),
    program("lock-heavy program, 2 processors", "smp", "locked section", "locks", processors=2),
)
