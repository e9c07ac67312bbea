#!/usr/bin/env python3
"""How scripts/bench reads figures, sums them up and shows them."""

import os
import subprocess
import sys
import unittest
from xml.etree import ElementTree

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "..", "scripts", "lib"))
import bench_plot  # noqa: E402
import bench_results  # noqa: E402
import bench_rows  # noqa: E402
from bench_machines import Session, machine_command, memory_beside  # noqa: E402
from console import Console  # noqa: E402

PROGRAM = os.path.join(os.environ.get("LIMEN_BIN", "build/bin"), "limen-bench")


def row(name, group="cpu", native=None, limen=None, tcg=None):
    definition = bench_rows.Row(name, group, "ns", None, None)
    places = {"native": native, "limen": limen, "tcg": tcg}
    return bench_results.summarize(definition, {p: v for p, v in places.items() if v})


class Rows(unittest.TestCase):
    def test_names_are_unique_and_groups_known(self):
        names = [each.name for each in bench_rows.ROWS]
        self.assertEqual(len(names), len(set(names)))
        self.assertLessEqual({each.group for each in bench_rows.ROWS}, set(bench_rows.GROUPS))

    def test_every_target_names_rows_that_exist(self):
        names = {each.name for each in bench_rows.ROWS}
        for target in bench_results.TARGETS:
            self.assertLessEqual(set(target.rows), names, target.title)

    def test_reads_its_programs_line_among_others(self):
        self.assertEqual(bench_rows.read_line("qsort", "warning\nqsort 12.5 ns per sort\n"), 12.5)

    def test_refuses_output_without_a_figure(self):
        for output in ("", "qsort failed", "chase-1m 3.0 ns per hop"):
            with self.assertRaises(bench_rows.RowError):
                bench_rows.read_line("qsort", output)

    def test_reads_openssl_by_record(self):
        output = ("+DTP:2048:private:rsa:1\n+R1:1877:2048:1.00\n+R2:28504:2048:2.00\n"
                  "+R:500:sha256:2.000000\n")
        self.assertAlmostEqual(bench_rows.read_openssl("R1", output), 1e9 / 1877)
        self.assertAlmostEqual(bench_rows.read_openssl("R2", output), 2e9 / 28504)
        self.assertAlmostEqual(bench_rows.read_openssl("R", output), 4e6)
        with self.assertRaises(bench_rows.RowError):
            bench_rows.read_openssl("R", "+R:0:sha256:1.0\n")

    @unittest.skipUnless(os.path.exists(PROGRAM), "limen-bench is not built with sanitizers")
    def test_its_program_knows_every_row(self):
        known = subprocess.run([PROGRAM, "--help"], capture_output=True, text=True, check=True).stdout
        for each in bench_rows.ROWS:
            words = each.command(0.1).split()
            if words and words[0].endswith("limen-bench"):
                self.assertRegex(known, rf"(?m)^  {words[3]} ", each.name)

    @unittest.skipUnless(os.path.exists(PROGRAM), "limen-bench is not built with sanitizers")
    def test_its_program_prints_what_is_read(self):
        for name in ("integer-loop", "memcpy-256", "fork-exec", "locks"):
            output = subprocess.run([PROGRAM, "--seconds", "0.01", name], capture_output=True,
                                    text=True, check=True).stdout
            self.assertGreater(bench_rows.read_line(name, output), 0)


class Statistics(unittest.TestCase):
    def test_the_median_round_counts(self):
        result = row("a", native=[1.0, 9.0, 2.0], limen=[4.0, 3.0, 30.0], tcg=[8.0])
        self.assertEqual((result["native"], result["limen"], result["tcg"]), (2.0, 4.0, 8.0))
        self.assertEqual((result["limen_over_native"], result["tcg_over_limen"]), (2.0, 2.0))

    def test_what_was_not_measured_has_no_ratio(self):
        result = row("boot", limen=[4.0], tcg=[8.0])
        self.assertIsNone(result["native"])
        self.assertIsNone(result["limen_over_native"])
        self.assertEqual(result["tcg_over_limen"], 2.0)

    def test_geometric_means_by_group(self):
        rows = [row("a", native=[1.0], limen=[2.0], tcg=[4.0]),
                row("b", native=[1.0], limen=[8.0], tcg=[8.0]),
                row("c", "system", limen=[1.0], tcg=[27.0])]
        means = bench_results.geometric_means(rows)
        self.assertAlmostEqual(means["cpu"]["limen_over_native"], 4.0)
        self.assertAlmostEqual(means["cpu"]["tcg_over_limen"], 2 ** 0.5)
        self.assertIsNone(means["system"]["limen_over_native"])
        self.assertAlmostEqual(means["all"]["tcg_over_limen"], 54 ** (1 / 3))
        self.assertNotIn("smp", means)


class Targets(unittest.TestCase):
    def judge(self, title, rows):
        target = next(each for each in bench_results.TARGETS if each.title == title)
        return bench_results.judge(target, {
            "machine": {"limen_memory_mib": 40.5}, "rows": rows,
            "geomean": bench_results.geometric_means(rows)})

    def test_a_bound_from_above_holds_for_every_row(self):
        rows = [row("integer loop", native=[1.0], limen=[1.1], tcg=[2.0]),
                row("scalar double", native=[1.0], limen=[1.2], tcg=[2.0])]
        self.assertEqual(self.judge("integer loop, scalar double", rows),
                         ("not reached", "1.10, 1.20"))
        rows[1]["limen_over_native"] = 1.15
        self.assertEqual(self.judge("integer loop, scalar double", rows)[0], "reached")

    def test_a_bound_from_below(self):
        self.assertEqual(self.judge("pipe ping-pong", [row("pipe ping-pong", limen=[1.0], tcg=[4.9])])[0],
                         "not reached")
        self.assertEqual(self.judge("pipe ping-pong", [row("pipe ping-pong", limen=[1.0], tcg=[5.0])])[0],
                         "reached")

    def test_two_processors_against_one(self):
        rows = [row("parallel program, 1 processor", "smp", limen=[19.0]),
                row("parallel program, 2 processors", "smp", limen=[10.0])]
        self.assertEqual(self.judge("parallel program on two processors", rows), ("reached", "1.90"))

    def test_memory_is_the_machines(self):
        self.assertEqual(self.judge("memory beside guest RAM and code, MiB", []), ("not reached", "40.50"))

    def test_a_missing_figure_is_not_a_success(self):
        self.assertEqual(self.judge("getppid", [])[0], "not measured")
        self.assertEqual(self.judge("geometric mean of the cpu rows", [])[0], "not measured")


class Output(unittest.TestCase):
    def test_times_have_three_digits_and_a_unit(self):
        shown = [bench_results.show_time(value) for value in (0.512, 12.34, 1234.0, 2.5e6, 19.7e9, None)]
        self.assertEqual(shown, ["0.512 ns", "12.3 ns", "1.23 µs", "2.50 ms", "19.7 s", "-"])

    def test_the_table_has_every_row_and_note(self):
        rows = [row("qsort", native=[1.0], limen=[2.0], tcg=[4.0]), row("boot", "system", limen=[1.0])]
        machine = {"processor": "P", "processors": 2, "kernel": "6", "limen": "L", "tcg": "T",
                   "rounds": 1, "quick": True}
        table = bench_results.markdown({"machine": machine, "rows": rows,
                                        "geomean": bench_results.geometric_means(rows)}, ["a note"])
        self.assertIn("| qsort | 1.00 ns | 2.00 ns | 4.00 ns | 2.00 | 2.00 |", table)
        self.assertIn("| boot | - | 1.00 ns | - | - | - |", table)
        self.assertIn("- a note", table)
        self.assertEqual(table.count("not measured"), len(bench_results.TARGETS) - 1)

    def test_the_plot_is_xml_with_a_mark_for_each_figure(self):
        rows = [row("a & b", native=[1.0], limen=[0.2], tcg=[800.0]), row("boot", limen=[1.0], tcg=[2.0])]
        image = ElementTree.fromstring(bench_plot.plot(rows))
        marks = [float(each.get("cx")) for each in image.iter("{http://www.w3.org/2000/svg}circle")]
        self.assertEqual(len(marks), 2 + 2)
        self.assertTrue(all(0 < mark < float(image.get("width")) for mark in marks))


class Sessions(unittest.TestCase):
    def test_memory_leaves_out_guest_ram_and_code(self):
        smaps = ["7f0000000000-7f0040000000 rw-s 00000000 00:01 7   /memfd:limen-ram (deleted)",
                 "Rss:            1024 kB", "Pss:            1024 kB",
                 "7f0040000000-7f0040001000 r-xs 00000000 00:01 8   /memfd:limen-code (deleted)",
                 "Pss:             512 kB",
                 "7f0048000000-7f0048001000 rwxp 00000000 00:00 0 ",
                 "Pss:             256 kB", "ProtectionKey:         1",
                 "7f0050000000-7f0050001000 rw-p 00000000 00:00 0   [heap]",
                 "Rss:            9999 kB", "Pss:            3072 kB", "ProtectionKey:         0", "VmFlags: rd wr"]
        self.assertEqual(memory_beside(smaps, ("limen-ram", "limen-code")), 3.0)

    def test_both_emulators_get_the_same_command(self):
        first = machine_command("limen", "soft", "/g", ["/d,1"], 1)
        second = machine_command("qemu", "tcg", "/g", ["/d,1"], 1)
        different = [pair for pair in zip(first, second) if pair[0] != pair[1]]
        self.assertEqual(different, [("limen", "qemu"), ("soft", "tcg")])
        self.assertIn("file=/d,,1,format=raw,if=virtio", first)

    def test_a_shell_runs_commands_and_its_clock_is_compared(self):
        session = Session("test", Console(["bash"]), "/dev/null")
        try:
            self.assertEqual(session.run("echo one; cat; false", 10), (1, "one\n"))
            self.assertEqual(session.run("sleep 0.6", 10), (0, ""))
            self.assertLess(session.clock_error, 0.05)
            # Without its meaning it is a variable: a clock that jumps to 5.
            session.run("unset EPOCHREALTIME; EPOCHREALTIME=5; sleep 0.6", 10)
            self.assertGreater(session.clock_error, 0.05)
        finally:
            session.close()


if __name__ == "__main__":
    unittest.main()
