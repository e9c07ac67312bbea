#!/usr/bin/env python3
"""Runs clang-tidy on files, several at a time, and those that go together as one (cmake/bundles.py). A bundle
that does not compile is done again file by file.

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

sys.path.insert(0, str(pathlib.Path(__file__).parents[2] / "cmake"))
from bundles import Source, bundles_of, sources_in_bundle, write_bundle

TIDY = ["clang-tidy-19", "--quiet", "--extra-arg=-Wno-everything"]
# A bundle includes .cc files: that is its purpose. To clang-tidy they are headers, which it has to be asked for.
BUNDLED = ["--checks=-bugprone-suspicious-include", "--header-filter=/(src|bench)/"]


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


def compiled_by(entry):
    """The files that an entry of compile_commands.json compiles: more than one if the build has bundles, too."""
    path = pathlib.Path(entry["file"])
    return sources_in_bundle(path) if path.parent.parent.name == "bundles" else [path]


def main():
    folder = pathlib.Path(sys.argv[1]).resolve()
    entries = json.loads((folder / "compile_commands.json").read_text(encoding="utf-8"))
    commands = {path: entry for entry in entries for path in compiled_by(entry)}
    here = pathlib.Path.cwd()

    def options_of(path):
        return commands.get(path, {}).get("command", "").partition(" -o ")[0]

    groups = collections.defaultdict(list)
    for name in sys.argv[2:]:
        source = Source(here / name)
        groups[pathlib.Path(name).parent.parts[:2], options_of(source.path)].append(source)
    work, database = [], []

    def add(path, like):
        database.append({"directory": commands[like]["directory"], "file": str(path),
                         "command": f"{options_of(like)} -c {path}"})

    for sources in groups.values():
        for bundle in bundles_of(sources):
            path = None
            if len(bundle) > 1:
                path = folder / f"bundle_{len(work)}.cc"
                write_bundle(path, bundle)
                add(path, bundle[0].path)
            for source in bundle:
                if source.path in commands:
                    add(source.path, source.path)
            work.append((bundle, path))
    (folder / "compile_commands.json").write_text(json.dumps(database), encoding="utf-8")
    work.sort(key=lambda item: -sum(source.path.stat().st_size for source in item[0]))
    failed = False
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        for clean, said in pool.map(lambda item: check(folder, *item), work):
            failed |= not clean
            sys.stdout.write(said)
    sys.exit(failed)


if __name__ == "__main__":
    main()
