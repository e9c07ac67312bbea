#!/usr/bin/env python3
"""Measures the same work natively, under Limen and under QEMU's TCG, interleaved, and compares."""

import argparse
import fnmatch
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from bench_machines import (Machine, copy_disk, machine_command, make_scratch_disk,  # noqa: E402
                            make_tools_disk, program_version, start_native)
from bench_plot import plot  # noqa: E402
from bench_results import PLACES, geometric_means, markdown, show_time, summarize  # noqa: E402
from bench_rows import BOOT, GROUPS, ROWS, RowError  # noqa: E402
from console import ConsoleError  # noqa: E402

ROW_TIMEOUT = 300
BOOT_TIMEOUT = 900
# --quick promises five minutes: no row begins later than this.
QUICK_SECONDS = 270
# Beyond these a figure is doubtful, and a note says so.
CLOCK_TOLERANCE = 0.05
IDLE_TOLERANCE = 0.05


def say(text):
    print(f"==> {text}", file=sys.stderr, flush=True)


def processor_model():
    with open("/proc/cpuinfo") as file:
        for line in file:
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor()


class Benchmark:
    """A run: the figures by row and place, and what is to be said beside them."""

    def __init__(self, words):
        self.words = words
        self.rows = [row for row in ROWS if row.group in words.groups
                     and any(fnmatch.fnmatch(row.name, pattern) for pattern in words.rows)]
        self.measured = {row.name: {} for row in self.rows}
        self.notes = []
        self.memory_mib = None
        self.late = []
        self.deadline = time.monotonic() + (QUICK_SECONDS if words.quick else float("inf"))
        self.accelerators = {"limen": words.limen_accel, "tcg": "tcg"}

    def note(self, text):
        if text not in self.notes:
            self.notes.append(text)
            say(f"note: {text}")

    def add(self, row, place, nanoseconds):
        if row.name in self.measured:
            self.measured[row.name].setdefault(place, []).append(nanoseconds)

    def boot(self, place, number, processors, work):
        """A machine, or None with a note if it does not come up."""
        words = self.words
        disks = []
        for source in (os.path.join(words.guest, "disk.raw"), os.path.join(work, "tools.raw"),
                       os.path.join(work, "scratch.raw")):
            # Each machine has its own: an emulator locks what it uses.
            disks.append(os.path.join(work, f"{place}-{processors}-{os.path.basename(source)}"))
            copy_disk(source, disks[-1])
        command = machine_command(getattr(words, place), self.accelerators[place], words.guest,
                                  disks, processors)
        log = os.path.join(words.output, f"console-{place}-{number}-{processors}.log")
        try:
            machine = Machine(place, command, log, BOOT_TIMEOUT)
        except (ConsoleError, OSError) as error:
            with open(log, errors="replace") as file:
                last = file.read().strip().splitlines()[-1:]
            self.note(f"{place} with {processors} processor(s) did not boot: {error}"
                      f"{': ' + last[0] if last else ''} (console: {log})")
            return None
        say(f"{place}, {processors} processor(s): multi-user.target after {machine.boot_seconds:.1f} s")
        if processors == 1:
            self.add(BOOT, place, machine.boot_seconds * 1e9)
        return machine

    def measure(self, row, sessions):
        """One row in every session, one after the other."""
        if time.monotonic() > self.deadline:
            self.late.append(row.name)
            return
        shown = []
        for place in PLACES:
            session = sessions.get(place)
            if session is None:
                continue
            others = [other for other in sessions.values() if other not in (None, session)]
            idle = sum(other.processor_seconds() for other in others)
            started = time.monotonic()
            command = row.command(self.words.seconds)
            if place == "native":
                # A machine's processors are bounded by its -smp.
                command = f"taskset -c {','.join(self.words.processors[:row.processors])} {command}" \
                    if row.group == "smp" else command
            try:
                status, output = session.run(command, ROW_TIMEOUT)
                if status != 0:
                    raise RowError(f"status {status}: {output.strip()}")
                value = row.read(output)
            except RowError as error:
                self.note(f"{row.name}: {place}: {error}")
                continue
            except ConsoleError as error:
                self.note(f"{row.name}: {place}: {error}; nothing more is measured there in this round")
                session.close()
                sessions[place] = None
                continue
            spent = time.monotonic() - started
            idle = sum(other.processor_seconds() for other in others) - idle
            if spent >= 0.5 and idle > IDLE_TOLERANCE * spent + 0.02:
                self.note(f"{row.name}: {place}: the idle machines used {idle / spent:.0%} of a processor")
            self.add(row, place, value)
            shown.append(f"{place} {show_time(value)}")
        say(f"{row.name}: {', '.join(shown)}")

    def round(self, number, work):
        """Boots the machines, runs every row in each, and ends them."""
        sessions = {"native": start_native(self.words.tree, self.words.tools,
                                           os.path.join(work, "scratch.raw"))}
        doubles = {}
        try:
            for place in ("limen", "tcg"):
                sessions[place] = self.boot(place, number, 1, work)
            for row in self.rows:
                if row is not BOOT and row.group != "smp":
                    self.measure(row, sessions)
            smp = [row for row in self.rows if row.group == "smp"]
            if smp:
                doubles["native"] = sessions["native"]
                for place in ("limen", "tcg"):
                    doubles[place] = self.boot(place, number, 2, work) if sessions[place] else None
                for row in smp:
                    self.measure(row, sessions if row.processors == 1 else doubles)
            if self.late:
                self.note(f"left out for want of time: {', '.join(self.late)}")
            if sessions["limen"]:
                self.memory_mib = max(self.memory_mib or 0, sessions["limen"].memory_mib())
            for session in {*sessions.values(), *doubles.values()} - {None}:
                if session.clock_error > CLOCK_TOLERANCE:
                    self.note(f"{session.name}: its clock and the host's differ by up to "
                              f"{session.clock_error:.0%}")
        finally:
            for session in {*sessions.values(), *doubles.values()} - {None}:
                session.close()

    def results(self):
        words = self.words
        rows = [summarize(row, self.measured[row.name]) for row in self.rows]
        machine = {
            "processor": processor_model(), "processors": os.cpu_count(),
            "memory_mib": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") >> 20,
            "kernel": platform.release(), "limen": program_version(words.limen),
            "tcg": program_version(words.tcg), "rounds": words.rounds, "quick": words.quick,
            "seconds_per_row": words.seconds, "limen_memory_mib": self.memory_mib,
        }
        return {"machine": machine, "rows": rows, "geomean": geometric_means(rows)}

    def write(self):
        """results.json, results.md and results.svg; returns the table."""
        results = self.results()
        table = markdown(results, self.notes)
        for name, content in (("results.json", json.dumps(results, indent=2) + "\n"),
                              ("results.md", table), ("results.svg", plot(results["rows"]))):
            path = os.path.join(self.words.output, name)
            with open(path + ".new", "w") as file:
                file.write(content)
            os.replace(path + ".new", path)
        return table

    def run(self):
        words = self.words
        load = os.getloadavg()[0]
        if load > 0.5:
            self.note(f"the host was busy with other work at the start: load average {load:.1f}")
        with tempfile.TemporaryDirectory(dir=words.work, prefix="bench.") as work:
            make_tools_disk(words.tools, os.path.join(work, "tools.raw"))
            make_scratch_disk(os.path.join(work, "scratch.raw"))
            for number in range(1, words.rounds + 1):
                say(f"round {number} of {words.rounds}")
                self.round(number, work)
                self.write()
        return self.write()


def parse_words():
    parser = argparse.ArgumentParser(prog="scripts/bench", description=__doc__)
    parser.add_argument("--quick", action="store_true",
                        help="one round, shorter work and no smp rows: at most five minutes")
    parser.add_argument("--rounds", type=int, help="3, or 1 with --quick")
    parser.add_argument("--seconds", type=float, help="for each row of our own: 0.5, or 0.1 with --quick")
    parser.add_argument("--groups", help="of cpu, system, smp; separated by commas")
    parser.add_argument("--rows", action="append", metavar="PATTERN",
                        help="only rows named so, as in 'pointer *'; may be given more than once")
    parser.add_argument("--limen-accel", default="soft", help="as in soft,stats=on (soft)")
    for name in ("limen", "guest", "tree", "tools", "work", "output"):
        parser.add_argument(f"--{name}", help=argparse.SUPPRESS, required=True)
    parser.add_argument("--tcg", default="qemu-system-x86_64", help=argparse.SUPPRESS)
    words = parser.parse_args()
    words.rounds = words.rounds or (1 if words.quick else 3)
    words.seconds = words.seconds or (0.1 if words.quick else 0.5)
    words.groups = (words.groups or ("cpu,system" if words.quick else "cpu,system,smp")).split(",")
    for group in words.groups:
        if group not in GROUPS:
            parser.error(f"no group '{group}'; valid choices: {', '.join(GROUPS)}")
    words.rows = words.rows or ["*"]
    words.processors = [str(number) for number in sorted(os.sched_getaffinity(0))]
    if not any(fnmatch.fnmatch(row.name, pattern) for row in ROWS for pattern in words.rows):
        parser.error(f"no row is named so; there are: {', '.join(row.name for row in ROWS)}")
    return words


def main():
    words = parse_words()
    os.makedirs(words.output, exist_ok=True)
    for program in (words.limen, words.tcg, "unshare", "mke2fs"):
        if not shutil.which(program):
            print(f"bench: error: there is no {program} here", file=sys.stderr)
            return 1
    benchmark = Benchmark(words)
    if "smp" in words.groups and len(words.processors) < 2:
        benchmark.rows = [row for row in benchmark.rows if row.group != "smp"]
        benchmark.note("the smp rows are left out: this host has one processor")
    started = time.monotonic()
    try:
        print(benchmark.run())
    except (ConsoleError, OSError, subprocess.CalledProcessError) as error:
        print(f"bench: error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("bench: interrupted", file=sys.stderr)
        return 130
    say(f"took {time.monotonic() - started:.0f} s; also in {words.output}: results.json, results.svg")
    return 0


if __name__ == "__main__":
    sys.exit(main())
