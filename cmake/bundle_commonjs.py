#!/usr/bin/env python3
"""Makes one ES module of CommonJS modules: bundle_commonjs.py OUTPUT.js NAME=FILE...

OUTPUT.js exports NAME, a property of what FILE exports. The files that it asks for by a relative
path come along, in functions of their own, as Node.js would run them."""

import json
import pathlib
import re
import sys

REQUIRE = re.compile(r"""\brequire\((["'])(\.[^"']*)\1\)""")
SOURCE_MAP = re.compile(r"^//# sourceMappingURL=.*$", re.MULTILINE)

HEAD = "// Made by cmake/bundle_commonjs.py.\nconst modules = {\n"
LOADER = """};
const loaded = {};
function load(name) {
  if (!(name in loaded)) {
    const module = { exports: {} };
    loaded[name] = module;
    const [names, run] = modules[name];
    run.call(module.exports, module.exports, (wanted) => load(names[wanted]), module);
  }
  return loaded[name].exports;
}
"""


def collect(path, modules):
    """Adds `path` and what it needs to `modules`: by path, the code and the paths it asks for."""
    if path in modules:
        return
    code = SOURCE_MAP.sub("", path.read_text())
    wanted = {}
    modules[path] = (code, wanted)
    for _, name in REQUIRE.findall(code):
        found = (path.parent / name).with_suffix(".js") if not name.endswith(".js") \
            else path.parent / name
        wanted[name] = found.resolve()
        collect(wanted[name], modules)


def main():
    modules, exports = {}, []
    for word in sys.argv[2:]:
        name, _, file = word.partition("=")
        path = pathlib.Path(file).resolve()
        collect(path, modules)
        exports.append((name, path))
    numbers = {path: str(number) for number, path in enumerate(modules)}
    text = HEAD
    for path, (code, wanted) in modules.items():
        names = json.dumps({name: numbers[target] for name, target in wanted.items()})
        text += (f"  {numbers[path]}: [{names}, function (exports, require, module) {{\n{code}\n"
                 "  }],\n")
    text += LOADER
    for name, path in exports:
        text += f"export const {name} = load({numbers[path]}).{name};\n"
    pathlib.Path(sys.argv[1]).write_text(text)


if __name__ == "__main__":
    main()
