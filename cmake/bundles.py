#!/usr/bin/env python3
"""Puts files that can be compiled as one into bundles.

Most of what it takes to compile a file goes into the headers that it includes. So files that share no name of
their own are put into one bundle, a file that includes them all, and the headers are looked at once.

Usage: bundles.py FOLDER FILE...    Writes what is to be compiled in place of the files: bundles in FOLDER, and
                                    the files that go with no other
"""

import functools
import pathlib
import re
import sys

ROOT = pathlib.Path(__file__).parents[1]
FILES_IN_BUNDLE = 12
WORD = re.compile(r"[A-Za-z_]\w*")
NOISE = re.compile(r'R"(\w*)\(.*?\)\1"|//[^\n]*|/\*.*?\*/|"(?:\\.|[^"\\\n])*"|^\s*#[^\n]*', re.S | re.M)
UNNAMED = re.compile(r"^namespace \{\n(.*?)^\}  // namespace$", re.S | re.M)
# What a file calls something that others may call the same, in the same words.
USING = re.compile(r"^using (?:[\w:]+::)?(\w+)(?: = [^;]*)?;$", re.M)
# At the start of a line: what a declaration, or an enumerator of an unscoped enumeration, calls itself.
TYPE = re.compile(r"^(?:class|struct|union|enum class|enum) (\w+)[^{;]*[{;]", re.M)
DECLARED = re.compile(r"^(?:[A-Za-z_}][^\n(={;]*?)\b([A-Za-z_]\w*)(?:\[[^\]\n]*\])*(?: : [\w:]+)? ?[({=;]", re.M)
# Several in one declaration.
CONSTANT = re.compile(r"\b(k[A-Z]\w*)(?:\[[^\]\n]*\])* ?[={]")
ENUMERATION = re.compile(r"^enum (?!class)[^{;]*\{(.*?)\}", re.S | re.M)
INCLUDE = re.compile(r'^#include "(.*)"', re.M)
CONDITION = re.compile(r"^\s*#\s*if", re.M)
MACRO = re.compile(r"^\s*#\s*define (\w+)", re.M)


def declared_in(text):
    """The names that a part of a file declares outside of types and functions."""
    names = set(CONSTANT.findall(text))
    for body in ENUMERATION.findall(text):
        names.update(WORD.findall(body))
    return names.union(TYPE.findall(text), DECLARED.findall(TYPE.sub("", text)))


def headers_of(path, text):
    """The paths of the project's headers that a file includes."""
    roots = (path.parent, ROOT / "src", ROOT / "tests", ROOT)
    return [next((str(root / name) for root in roots if (root / name).exists()), name)
            for name in INCLUDE.findall(text)]


@functools.cache
def names_in_header(name):
    """The names that a header of the project's declares, and those that it includes."""
    path = pathlib.Path(name)
    if not path.exists():
        return frozenset()
    text = path.read_text(encoding="utf-8")
    return frozenset(declared_in(NOISE.sub(" ", text)).union(*map(names_in_header, headers_of(path, text))))


class Source:
    """A file, with its words, the names that it has for itself, and those that its headers bring."""

    def __init__(self, path):
        self.path = path
        text = path.read_text(encoding="utf-8")
        self.has_conditions = CONDITION.search(text) is not None  # and so may its includes
        self.headers = headers_of(path, text)
        self.names_in_headers = set().union(*map(names_in_header, self.headers))
        self.names = set(MACRO.findall(text))
        for part in UNNAMED.findall(text):
            self.names |= declared_in(USING.sub("", NOISE.sub(" ", part)))
        text = NOISE.sub(" ", text)
        self.words = set(WORD.findall(text))
        self.using = {match[1]: match[0] for match in USING.finditer(text)}
        self.namespaces = set(re.findall(r"^using namespace [^;]*", text, re.M))

    def leaves_alone(self, other):
        new = other.names_in_headers - self.names_in_headers
        return (not self.names & other.words and not self.names & new and not new & self.using.keys()
                and all(other.using.get(name) == line for name, line in self.using.items() if name in other.words))

    def goes_with(self, other):
        return (not self.has_conditions and not other.has_conditions and self.namespaces == other.namespaces
                and self.leaves_alone(other) and other.leaves_alone(self))


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


def write_bundle(path, sources):
    """Headers first: names that a source has for itself mean nothing to them."""
    headers = dict.fromkeys(header for source in sources for header in source.headers)
    # That a type made of unnamed ones is in an included file, where others could include it, too.
    text = '#pragma GCC diagnostic ignored "-Wsubobject-linkage"\n'
    text += "".join(f'#include "{name}"\n' for name in (*headers, *(source.path for source in sources)))
    if not path.exists() or path.read_text(encoding="utf-8") != text:
        path.write_text(text, encoding="utf-8")


def sources_in_bundle(path):
    """The paths of what write_bundle() wrote there."""
    return [pathlib.Path(name) for name in INCLUDE.findall(path.read_text(encoding="utf-8")) if name.endswith(".cc")]


def main():
    folder = pathlib.Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    for number, bundle in enumerate(bundles_of([Source(pathlib.Path(name)) for name in sys.argv[2:]])):
        path = bundle[0].path
        if len(bundle) > 1:
            path = folder / f"bundle_{number}.cc"
            write_bundle(path, bundle)
        print(path)


if __name__ == "__main__":
    main()
