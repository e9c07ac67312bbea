#!/usr/bin/env python3
"""Which files are compiled as one."""

import pathlib
import sys
import tempfile
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).parents[2] / "cmake"))
import bundles


def unnamed(text):
    return f"namespace limen {{\nnamespace {{\n{text}\n}}  // namespace\n}}  // namespace limen\n"


class Bundles(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)

    def write(self, name, text):
        path = self.folder / name
        path.write_text(text, encoding="utf-8")
        return path

    def bundles(self, **texts):
        sources = [bundles.Source(self.write(f"{name}.cc", text)) for name, text in texts.items()]
        return ["".join(source.path.stem for source in bundle) for bundle in bundles.bundles_of(sources)]

    def test_files_without_a_name_in_common_go_together(self):
        self.assertEqual(self.bundles(a=unnamed("int one() { return 1; }"), b=unnamed("int two() { return 2; }"),
                                      c="int three() { return 3; }\n"), ["abc"])

    def test_a_name_of_a_file_s_own_is_not_used_beside_it(self):
        for text in ("int one() { return 1; }", "constexpr int two = 2, kOne = 1;", "class kOne final : public Base {",
                     "enum { two, kOne };", "constexpr std::array<int, 1> kOne = {1};", "#define kOne 1"):
            self.assertEqual(self.bundles(a=unnamed(text), b="int f() { return one(kOne); }\n"), ["a", "b"], text)

    def test_comments_and_strings_have_no_names(self):
        text = '// one\nconst char* two = "one" R"(one)"; /* one */\n'
        self.assertEqual(self.bundles(a=unnamed("int one() { return 1; }"), b=text), ["ab"])

    def test_a_base_class_is_not_a_name_of_its_own(self):
        self.assertEqual(self.bundles(a=unnamed("class One : public Base {\n};"),
                                      b=unnamed("class Two : public Base {\n};")), ["ab"])

    def test_a_name_from_elsewhere_means_the_same_in_all(self):
        self.assertEqual(self.bundles(a=unnamed("using x86::Segment;"), b=unnamed("using x86::Segment;")), ["ab"])
        self.assertEqual(self.bundles(a=unnamed("using x86::Segment;"), b=unnamed("using soft::Segment;")), ["a", "b"])
        self.assertEqual(self.bundles(a=unnamed("using x86::Segment;"), b="Segment f();\n"), ["a", "b"])
        self.assertEqual(self.bundles(a="using namespace std;\n", b="int f();\n"), ["a", "b"])

    def test_a_header_does_not_bring_another_s_names(self):
        self.write("deep.h", "class One {\n};\n")
        self.write("header.h", '#include "deep.h"\n')
        one = unnamed("class One {\n};")
        self.assertEqual(self.bundles(a=one, b='#include "header.h"\n'), ["a", "b"])
        self.assertEqual(self.bundles(a='#include "deep.h"\n' + one, b='#include "header.h"\n'), ["ab"])

    def test_files_with_conditions_stay_alone(self):
        self.assertEqual(self.bundles(a="#if LIMEN_WEB\nint f();\n#endif\n", b="int g();\n"), ["a", "b"])

    def test_a_bundle_has_its_headers_first(self):
        header = self.write("header.h", "")
        sources = [bundles.Source(self.write(f"{name}.cc", '#include "header.h"\n')) for name in "ab"]
        path = self.folder / "bundle.cc"
        bundles.write_bundle(path, sources)
        self.assertEqual(bundles.INCLUDE.findall(path.read_text(encoding="utf-8")),
                         [str(header), *(str(source.path) for source in sources)])
        self.assertEqual(bundles.sources_in_bundle(path), [source.path for source in sources])


if __name__ == "__main__":
    unittest.main()
