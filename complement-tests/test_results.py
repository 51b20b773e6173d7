"""Tests of results.py: `python3 -m unittest discover complement-tests`."""

import json
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

PACKAGE = "github.com/matrix-org/complement/tests/csapi"
SCRIPT = Path(__file__).with_name("results.py")


def events(**outcomes):
    """The output of a run of csapi; `TestA__b` stands for the subtest TestA/b."""
    lines = [{"Action": outcome, "Package": PACKAGE, "Test": test.replace("__", "/")}
             for test, outcome in outcomes.items()]
    return lines + [{"Action": "fail", "Package": PACKAGE}]


class ResultsTest(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.output = Path(folder.name, "output.jsonl")
        self.recorded = Path(folder.name, "results.jsonl")

    def run_script(self, lines, *options):
        self.output.write_text("".join(json.dumps(line) + "\n" for line in lines))
        command = [sys.executable, str(SCRIPT), *options, str(self.output), str(self.recorded)]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    def results(self):
        lines = (json.loads(line) for line in self.recorded.read_text().splitlines())
        return {line["test"]: line["result"] for line in lines}

    def test_results_are_recorded_sorted_and_only_on_request(self):
        self.run_script(events(TestB="fail", TestA="pass", TestA__sub="pass"))
        self.assertFalse(self.recorded.exists())
        self.run_script(events(TestB="fail", TestA="pass", TestA__sub="pass"), "--record")
        self.assertEqual(list(self.results().items()), [("TestA", "pass"), ("TestA/sub", "pass"), ("TestB", "fail")])

    def test_a_test_that_no_longer_passes_fails_the_run_and_is_not_recorded(self):
        self.run_script(events(TestA="pass", TestB="pass"), "--record")
        result = self.run_script(events(TestA="pass", TestB="skip"), "--record")
        self.assertEqual(result.returncode, 1)
        self.assertIn("WORSE: csapi TestB: passed before, now skip", result.stdout)
        self.assertEqual(self.results()["TestB"], "pass")

    def test_a_test_that_vanished_fails_the_run(self):
        self.run_script(events(TestA="pass", TestB="pass"), "--record")
        result = self.run_script(events(TestA="pass"))
        self.assertEqual(result.returncode, 1)
        self.assertIn("TestB: passed before, now absent", result.stdout)

    def test_a_selection_is_judged_by_the_tests_it_ran(self):
        self.run_script(events(TestA="pass", TestA__sub="pass", TestB="pass"), "--record")
        self.assertEqual(self.run_script(events(TestB="pass"), "--selection", "--record").returncode, 0)
        self.assertEqual(self.results()["TestA/sub"], "pass")
        self.assertEqual(self.run_script(events(TestA="pass"), "--selection").returncode, 1)

    def test_an_improvement_is_listed_and_recorded(self):
        self.run_script(events(TestA="fail"), "--record")
        result = self.run_script(events(TestA="pass"), "--record")
        self.assertEqual(result.returncode, 0)
        self.assertIn("newly passing: csapi TestA", result.stdout)
        self.assertEqual(self.results(), {"TestA": "pass"})

    def test_what_got_worse_can_be_recorded_by_force(self):
        self.run_script(events(TestA="pass"), "--record")
        self.assertEqual(self.run_script(events(TestA="fail"), "--record", "--force").returncode, 0)
        self.assertEqual(self.results(), {"TestA": "fail"})

    def test_a_run_without_tests_is_not_taken_for_success(self):
        broken = [{"Action": "output", "Package": PACKAGE, "Output": "FAIL: no image\n"},
                  {"Action": "fail", "Package": PACKAGE}]
        for lines in ([], broken, [{"Action": "build-fail", "ImportPath": PACKAGE}]):
            self.assertEqual(self.run_script(lines).returncode, 2)
        self.assertEqual(self.run_script(broken, "--selection").returncode, 2)


if __name__ == "__main__":
    unittest.main()
