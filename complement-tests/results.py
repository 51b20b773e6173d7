#!/usr/bin/env python3
"""Condenses the output of `go test -json` to one line a test and compares it with the recorded results.

What is recorded may only improve: a test that passed before and doesn't now is an error.
"""

import argparse
import json
import sys
from pathlib import Path

MODULE = "github.com/matrix-org/complement/"
OUTCOMES = ("pass", "fail", "skip")


class RunFailed(Exception):
    """The suite didn't run: nothing can be said about the tests."""


def package_name(import_path):
    """`tests/csapi` is csapi, as on the command line of `run`."""
    return import_path.removeprefix(MODULE).removeprefix("tests/")


def condense(lines):
    """Returns the outcome by (package, test), the packages that ran to their end, and the output by test."""
    outcomes, finished, output = {}, set(), {}
    for line in lines:
        try:
            event = json.loads(line)
        except ValueError:
            raise RunFailed(f"not the output of go test -json: {line.strip()[:200]}") from None
        if event["Action"] == "build-fail":
            raise RunFailed(f"{event['ImportPath']} doesn't compile")
        if "Package" not in event:
            continue
        package = package_name(event["Package"])
        key = (package, event.get("Test", ""))
        if event["Action"] == "output":
            output.setdefault(key, []).append(event["Output"])
        elif event["Action"] in OUTCOMES:
            if "Test" in event:
                outcomes[key] = event["Action"]
            else:
                finished.add(package)
    return outcomes, finished, output


def check_complete(outcomes, output, finished, selection):
    """A package without any test is one that broke before its first, unless a pattern selected none of it."""
    if not finished:
        raise RunFailed("no package ran")
    silent = sorted(finished - {package for package, _ in outcomes})
    broken = [package for package in silent if not selection or "FAIL" in "".join(output.get((package, ""), []))]
    if broken:
        text = "".join(output.get((broken[0], ""), []))
        raise RunFailed(f"no test ran in {', '.join(broken)}: {text[-2000:].strip()}")
    if not outcomes:
        raise RunFailed("no test matches")


def top_level(test):
    return test.split("/", 1)[0]


def covered_by_run(recorded, outcomes, finished, selection):
    """The recorded tests that this run was to repeat: of whole packages, or of the tests a pattern selected."""
    ran = {(package, top_level(test)) for package, test in outcomes}
    return {
        (package, test): outcome
        for (package, test), outcome in recorded.items()
        if (not selection and package in finished) or (package, top_level(test)) in ran
    }


def compare(recorded, outcomes, finished, selection):
    """Returns what got worse, as (key, outcome now), and what passes for the first time."""
    before = covered_by_run(recorded, outcomes, finished, selection)
    worse = [(key, outcomes.get(key, "absent")) for key in sorted(before)
             if before[key] == "pass" and outcomes.get(key) != "pass"]
    better = [key for key in sorted(outcomes) if outcomes[key] == "pass" and recorded.get(key) != "pass"]
    return worse, better


def read(path):
    if not path.exists():
        return {}
    entries = (json.loads(line) for line in path.read_text().splitlines())
    return {(entry["package"], entry["test"]): entry["result"] for entry in entries}


def write(path, results):
    lines = (json.dumps({"package": package, "test": test, "result": result}, ensure_ascii=False)
             for (package, test), result in sorted(results.items()))
    path.write_text("".join(f"{line}\n" for line in lines))


def write_failures(path, outcomes, output):
    """The output of every failed test, for whoever looks for the cause."""
    with path.open("w") as log:
        for key in sorted(outcomes):
            if outcomes[key] == "fail":
                log.write(f"===== {' '.join(key)}\n{''.join(output.get(key, []))}\n")


def print_summary(outcomes):
    print(f"{'package':<10} {'tests':>5} {'pass':>5} {'fail':>5} {'skip':>5}   {'subtests':>8} {'pass':>5}")
    for package in sorted({package for package, _ in outcomes}):
        own = {test: outcome for (name, test), outcome in outcomes.items() if name == package}
        tops = [outcome for test, outcome in own.items() if "/" not in test]
        subs = [outcome for test, outcome in own.items() if "/" in test]
        counts = " ".join(f"{tops.count(outcome):>5}" for outcome in OUTCOMES)
        print(f"{package:<10} {len(tops):>5} {counts}   {len(subs):>8} {subs.count('pass'):>5}")


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("output", type=Path, help="what go test -json printed")
    parser.add_argument("recorded", type=Path, help="the recorded results")
    parser.add_argument("--selection", action="store_true", help="a pattern left out some tests of the packages")
    parser.add_argument("--failures", type=Path, help="where the output of failed tests goes")
    parser.add_argument("--record", action="store_true")
    parser.add_argument("--force", action="store_true")
    return parser.parse_args()


def main():
    arguments = parse_arguments()
    try:
        with arguments.output.open() as lines:
            outcomes, finished, output = condense(lines)
        check_complete(outcomes, output, finished, arguments.selection)
    except RunFailed as error:
        print(f"Complement did not run: {error}", file=sys.stderr)
        return 2

    print_summary(outcomes)
    if arguments.failures:
        write_failures(arguments.failures, outcomes, output)
        print(f"output of failed tests: {arguments.failures}")

    recorded = read(arguments.recorded)
    worse, better = compare(recorded, outcomes, finished, arguments.selection)
    for package, test in better:
        print(f"newly passing: {package} {test}")
    for (package, test), outcome in worse:
        print(f"WORSE: {package} {test}: passed before, now {outcome}")

    if arguments.record and (arguments.force or not worse):
        stale = covered_by_run(recorded, outcomes, finished, arguments.selection)
        write(arguments.recorded, {key: recorded[key] for key in recorded.keys() - stale.keys()} | outcomes)
        print(f"recorded in {arguments.recorded}")
        return 0
    return 1 if worse else 0


if __name__ == "__main__":
    sys.exit(main())
