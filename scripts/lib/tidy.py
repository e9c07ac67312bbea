#!/usr/bin/env python3
"""Runs clang-tidy on files, several at a time.

Most of what it takes for one file goes into the headers of the library. So files of one folder and of the
same compiler options that share no name of their own are put into one bundle, a file that includes them all,
and the headers are looked at once. A bundle that does not compile is done again file by file.

Usage: tidy.py FOLDER FILE...    FOLDER has compile_commands.json, and gets the bundles
"""

import collections
import concurrent.futures
import json
import os
import pathlib
import re
import subprocess
import sys

FILES_IN_BUNDLE = 12
TIDY = ["clang-tidy-19", "--quiet", "--extra-arg=-Wno-everything"]
# A bundle includes .cc files: that is its purpose. To clang-tidy they are headers, which it has to be asked for.
BUNDLED = ["--checks=-bugprone-suspicious-include", "--header-filter=/(src|bench)/"]
WORD = re.compile(r"[A-Za-z_]\w*")
NOISE = re.compile(r'R"(\w*)\(.*?\)\1"|//[^\n]*|/\*.*?\*/|"(?:\\.|[^"\\\n])*"|^\s*#[^\n]*', re.S | re.M)
UNNAMED = re.compile(r"^namespace \{\n(.*?)^\}  // namespace$", re.S | re.M)
# At the start of a line: what a declaration, or an enumerator of an unscoped enumeration, calls itself.
DECLARED = re.compile(r"^(?:[A-Za-z_}][^\n(={;]*?)\b([A-Za-z_]\w*)(?:\[[^\]\n]*\])*(?: : [\w:]+)? ?[({=;]", re.M)
ENUMERATION = re.compile(r"^enum (?!class)[^{;]*\{(.*?)\}", re.S | re.M)


class Source:
    """A file, with the words in it and the names that nobody else may use beside it."""

    def __init__(self, path, options):
        self.path, self.options = path, options
        text = path.read_text(encoding="utf-8")
        self.words = set(WORD.findall(NOISE.sub(" ", text)))
        self.names = set()
        for part in UNNAMED.findall(text):
            part = NOISE.sub(" ", part)
            self.names.update(DECLARED.findall(part))
            for body in ENUMERATION.findall(part):
                self.names.update(WORD.findall(body))
        self.uses = set(re.findall(r"^using namespace [^;]*", text, re.M))

    def goes_with(self, other):
        return (self.options == other.options and self.uses == other.uses
                and not self.names & other.words and not other.names & self.words)


def bundles_of(sources):
    """Lists of sources that can be compiled as one."""
    bundles = []
    for source in sources:
        for bundle in bundles:
            if len(bundle) < FILES_IN_BUNDLE and all(map(source.goes_with, bundle)):
                bundle.append(source)
                break
        else:
            bundles.append([source])
    return bundles


def tidy(folder, path, *options):
    """Whether the file is clean, and what was said of it."""
    run = subprocess.run([*TIDY, *options, "-p", str(folder), str(path)], text=True, check=False,
                         stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    # What it counts are findings in headers of the system, which nobody sees.
    said = re.sub(r"^\d+ warnings? generated\.\n", "", run.stdout, flags=re.M)
    return run.returncode == 0, said


def check(folder, bundle, path):
    if path is not None:
        clean, said = tidy(folder, path, *BUNDLED)
        if "[clang-diagnostic-error" not in said:
            return clean, said
    results = [tidy(folder, source.path) for source in bundle]
    return all(clean for clean, _ in results), "".join(said for _, said in results)


def main():
    folder = pathlib.Path(sys.argv[1]).resolve()
    commands = {pathlib.Path(entry["file"]): entry
                for entry in json.loads((folder / "compile_commands.json").read_text(encoding="utf-8"))}
    here = pathlib.Path.cwd()
    rooms = collections.defaultdict(list)
    for name in sys.argv[2:]:
        entry = commands.get(here / name, {})
        options = entry.get("command", "").partition(" -o ")[0]
        rooms[pathlib.Path(name).parent.parts[:2]].append(Source(pathlib.Path(name), options))
    work = []
    for sources in rooms.values():
        for bundle in bundles_of(sources):
            path = None
            if len(bundle) > 1:
                path = folder / f"bundle_{len(work)}.cc"
                path.write_text("".join(f'#include "{here / source.path}"\n' for source in bundle),
                                encoding="utf-8")
                commands[path] = {"directory": commands[here / bundle[0].path]["directory"],
                                  "command": f"{bundle[0].options} -c {path}", "file": str(path)}
            work.append((bundle, path))
    (folder / "compile_commands.json").write_text(json.dumps(list(commands.values())), encoding="utf-8")
    work.sort(key=lambda item: -sum(source.path.stat().st_size for source in item[0]))
    failed = False
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        for clean, said in pool.map(lambda item: check(folder, *item), work):
            failed |= not clean
            sys.stdout.write(said)
    sys.exit(failed)


if __name__ == "__main__":
    main()
