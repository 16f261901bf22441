#!/usr/bin/env python3
"""Tests of gate1.py: what it reads out of outputs, and when an item counts."""

import re
import sys
import tempfile
import tomllib
import unittest
from pathlib import Path

from gate1 import ROOT, execute, judge, markdown, parse

LIBTEST = """
running 4 tests
test a::passes ... ok
test a::panics - should panic ... ok
test a::fails ... FAILED
test a::rests ... ignored, no network here

test result: FAILED. 2 passed; 1 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.01s
"""
MIMIC = """
running 3 tests
test [no CUDA device] live::b/cuda:0  ... ignored
test                  live::b/cpu     ... ok
test [slow]           live::c         ... FAILED

test result: FAILED. 1 passed; 1 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.5s
"""


def result(output, device=None):
    tests, problem = parse(output)
    return {"tests": tests, "problem": problem, "device": device}


def item(*patterns):
    return {"id": 1, "name": "an item", "tests": list(patterns)}


def status(patterns, output, device=None):
    judged, vanished = judge(item(*patterns), {"x": result(output, device)})
    return judged["status"], judged["detail"], vanished


class Parses(unittest.TestCase):
    def test_libtest(self):
        tests, problem = parse(LIBTEST)
        self.assertIsNone(problem)
        self.assertEqual([test["outcome"] for test in tests], ["ok", "ok", "failed", "ignored"])
        self.assertEqual(tests[3]["reason"], "no network here")

    def test_libtest_mimic(self):
        tests, problem = parse(MIMIC)
        self.assertIsNone(problem)
        names = [(test["name"], test["outcome"], test["reason"]) for test in tests]
        self.assertEqual(names, [("live::b/cuda:0", "ignored", "no CUDA device"), ("live::b/cpu", "ok", ""),
                                 ("live::c", "failed", "slow")])

    def test_an_output_that_breaks_off_is_incomplete(self):
        self.assertEqual(parse("test a ... ok\n")[1], "ended before its last test")

    def test_a_test_that_is_counted_and_not_named_is_missed(self):
        self.assertIn("names [1, 1, 1]", parse(LIBTEST.replace("test a::passes ... ok\n", ""))[1])


class Judges(unittest.TestCase):
    def test_all_passed(self):
        self.assertEqual(status([{"run": "x", "names": "passes|panics"}], LIBTEST), ("passed", "", []))

    def test_one_failed(self):
        self.assertEqual(status([{"run": "x", "names": "^a::"}], LIBTEST)[:2],
                         ("failed", "1 failed: a::fails; 1 of 4 ignored: no network here"))

    def test_one_ignored(self):
        self.assertEqual(status([{"run": "x", "names": "passes|rests"}], LIBTEST)[0], "skipped")

    def test_one_ignored_that_may_be(self):
        patterns = [{"run": "x", "names": "passes"}, {"run": "x", "names": "rests", "may_skip": "it is offline"}]
        self.assertEqual(status(patterns, LIBTEST), ("passed", "ignored, as it may be: it is offline", []))

    def test_none_ran(self):
        self.assertEqual(status([{"run": "x", "names": "rests"}], LIBTEST)[0], "failed")
        self.assertEqual(status([{"run": "x", "names": "rests", "may_skip": "no"}], LIBTEST)[0], "failed")
        self.assertEqual(judge(item(), {})[0]["status"], "failed")

    def test_one_vanished(self):
        how, detail, vanished = status([{"run": "x", "names": "passes"}, {"run": "x", "names": "renamed"}], LIBTEST)
        self.assertEqual((how, detail, vanished), ("failed", *[vanished[0]], vanished))
        self.assertEqual(vanished, ["no test of x is named like renamed"])

    def test_an_executable_that_did_not_run_or_end(self):
        judged, vanished = judge(item({"run": "y", "names": "a"}), {})
        self.assertEqual((judged["status"], judged["detail"], vanished), ("failed", "y was not run; no test ran", []))
        self.assertEqual(status([{"run": "x", "names": "a"}], "test a ... ok\n")[0], "failed")

    def test_a_gpu_test_counts_on_a_gpu_alone(self):
        patterns = [{"run": "x", "names": "passes", "gpu": True}]
        self.assertEqual(status(patterns, LIBTEST, "H100")[0], "passed")
        self.assertEqual(status(patterns, LIBTEST)[0], "failed")

    def test_a_test_of_two_patterns_is_one(self):
        patterns = [{"run": "x", "names": "passes"}, {"run": "x", "names": "^a::passes$"}]
        self.assertEqual(len(judge(item(*patterns), {"x": result(LIBTEST)})[0]["tests"]), 1)


class Runs(unittest.TestCase):
    def execute(self, script, limit=20):
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "script"
            path.write_text("#!/bin/sh\n" + script)
            path.chmod(0o755)
            return execute("script", path, folder, {}, limit, Path(folder))

    def test_what_ends_well(self):
        ran = self.execute("echo 'test a ... ok'; echo 'test result: ok. 1 passed; 0 failed; 0 ignored; 0 measured'")
        self.assertEqual((len(ran["tests"]), ran["problem"]), (1, None))

    def test_what_hangs_is_killed_with_its_children(self):
        self.assertEqual(self.execute("sleep 60 & echo 'test a ... ok'; wait", limit=1)["problem"],
                         "was still running after 1 s")

    def test_what_crashes(self):
        self.assertEqual(self.execute("kill -SEGV $$")["problem"], "ended before its last test")


class Table(unittest.TestCase):
    def test_it_has_the_twenty_items_with_patterns_that_compile(self):
        items = tomllib.loads((ROOT / "tests/gate1.toml").read_text())["item"]
        self.assertEqual([one["id"] for one in items], list(range(1, 21)))
        for one in items:
            self.assertTrue(one["tests"], one)
            for pattern in one["tests"]:
                self.assertLessEqual({"run", "names"}, pattern.keys())
                self.assertLessEqual(pattern.keys(), {"run", "names", "gpu", "may_skip"})
                re.compile(pattern["names"])

    def test_the_report_tells_each_item(self):
        judged, _ = judge(item({"run": "x", "names": "^a::"}), {"x": result(LIBTEST)})
        text = markdown({"device": "no GPU", "driver": None, "commit": "abc", "notes": ["7 bytes"], "items": [judged]})
        for part in ["There is no GPU here", "| 1 | an item | failed | 4 |", "`a::fails` failed", "x (4)"]:
            self.assertIn(part, text)


if __name__ == "__main__":
    sys.exit(unittest.main())
