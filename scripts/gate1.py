#!/usr/bin/env python3
"""Runs the tests behind the twenty items of Gate 1 (tests/gate1.toml) and reports what they say.

An item is passed when all its tests ran and passed, skipped when one was ignored, and failed when one failed, when none
ran, or when a pattern of the table finds nothing. Tests run where they are: built here by cargo, or beforehand by
scripts/bundle.sh (--bundle). What was recorded elsewhere at the same commit (--record) can be merged (--merge)."""

import argparse
import json
import os
import re
import signal
import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
# libtest: "test NAME ... ok"; libtest-mimic pads names and puts a kind before them: "test [KIND] NAME   ... ignored".
LINE = re.compile(r"^test +(?:\[([^\]]*)\] +)?(\S.*?) +\.\.\. (ok|FAILED|ignored)(?:, (.*))?$")
SUMMARY = re.compile(r"^test result: \S+ (\d+) passed; (\d+) failed; (\d+) ignored")
OUTCOMES = {"ok": "ok", "FAILED": "failed", "ignored": "ignored"}


def parse(output):
    """The tests that an executable's output names, and what makes the output incomplete, if anything does."""
    tests, summary = [], None
    for line in output.splitlines():
        if found := LINE.match(line):
            kind, name, outcome, reason = found.groups()
            tests.append({"name": name, "outcome": OUTCOMES[outcome], "reason": reason or kind or ""})
        elif found := SUMMARY.match(line):
            summary = [int(number) for number in found.groups()]
    counts = [sum(test["outcome"] == outcome for test in tests) for outcome in ("ok", "failed", "ignored")]
    if summary is None:
        return tests, "ended before its last test"
    if summary != counts:
        return tests, f"says {summary} passed, failed, ignored, and names {counts}"
    return tests, None


def judge(item, results):
    """An item's part of the report, and those of its patterns that find nothing."""
    tests, problems, vanished, unknown = {}, [], [], set()
    for pattern in item["tests"]:
        run, names = pattern["run"], pattern["names"]
        result = results.get(run)
        if result is None:
            unknown.add(run)
            continue
        if result["problem"] and f"{run} {result['problem']}" not in problems:
            problems.append(f"{run} {result['problem']}")
        matched = [test for test in result["tests"] if re.search(names, test["name"])]
        if not matched and not result["problem"]:
            vanished.append(f"no test of {run} is named like {names}")
        for test in matched:
            if pattern.get("gpu") and test["outcome"] == "ok" and not result["device"]:
                problems.append(f"{test['name']} needs a GPU and passed without one")
            tests.setdefault((run, test["name"]), {**test, "executable": run, "may_skip": pattern.get("may_skip")})
    problems += [f"{run} was not run" for run in sorted(unknown)] + vanished

    tests = list(tests.values())
    failed = [test for test in tests if test["outcome"] == "failed"]
    ignored = [test for test in tests if test["outcome"] == "ignored"]
    executed = len(tests) - len(ignored)
    if failed:
        problems.append(f"{len(failed)} failed: " + ", ".join(test["name"] for test in failed[:5]))
    if not executed:
        problems.append("no test ran")
    skipped = [test for test in ignored if not test["may_skip"]]
    detail = list(problems)
    if skipped:
        reasons = sorted({test["reason"] or "no reason given" for test in skipped})
        detail.append(f"{len(skipped)} of {len(tests)} ignored: " + ", ".join(reasons))
    detail += sorted({f"ignored, as it may be: {test['may_skip']}" for test in ignored if test["may_skip"]})
    status = "failed" if problems else "skipped" if skipped else "passed"
    kept = [{key: test[key] for key in ("executable", "name", "outcome")} for test in tests]
    judged = {"id": item["id"], "name": item["name"], "status": status, "tests": kept, "detail": "; ".join(detail)}
    return judged, vanished


def gpu():
    """Name and driver of the first GPU, or nothing."""
    query = ["nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader"]
    try:
        lines = subprocess.run(query, capture_output=True, text=True, timeout=60).stdout.splitlines()
        name, driver = lines[0].split(", ")
        return name, driver
    except (OSError, subprocess.TimeoutExpired, IndexError, ValueError):
        return None, None


def built_by_cargo():
    """Test executables by the names that scripts/bundle.sh gives them, each with its package's folder."""
    build = ["cargo", "test", "--workspace", "--all-features", "--no-run", "--message-format=json"]
    output = subprocess.run(build, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True).stdout
    executables = {}
    for message in map(json.loads, output.splitlines()):
        if message.get("executable") and message["profile"]["test"]:
            folder, target = Path(message["manifest_path"]).parent, message["target"]
            package = "worker-orcd" if folder == ROOT else folder.name
            name = f"{package}-{target['kind'][0]}-{target['name']}"
            executables[name] = (Path(message["executable"]), folder)
    return executables


def in_bundle(bundle):
    return {path.name: (path, bundle) for path in (bundle / "tests").iterdir()}


def environment(bundle, device, out):
    env = dict(os.environ)
    env.setdefault("WORKER_ORCD_TRANSCRIPT", str(out))
    if device:
        # What is absent fails, where it would be ignored.
        env.setdefault("WORKER_ORCD_REQUIRE", "cuda,model,faults")
    if bundle:
        env.update(WORKER_ORCD_TEST_DATA=str(bundle / "golden"), WORKER_ORCD_PAPER=str(bundle / "paper"))
        env["WORKER_ORCD_EXE"] = str(bundle / "worker-orcd")
    return env


def execute(name, path, folder, env, limit, logs):
    """Runs all tests of an executable; its output stays in `logs`."""
    if name == "worker-orcd-test-integration" and (Path(folder) / "worker-orcd-faults").exists():
        env = {**env, "WORKER_ORCD_EXE": str(Path(folder) / "worker-orcd-faults")}
    env = {**env, "CARGO_MANIFEST_DIR": str(folder)}
    out, err = logs / f"{name}.out", logs / f"{name}.err"
    late = False
    with open(out, "wb") as stdout, open(err, "wb") as stderr:
        child = subprocess.Popen([path], cwd=folder, env=env, stdin=subprocess.DEVNULL, stdout=stdout, stderr=stderr,
                                 start_new_session=True)
        try:
            child.wait(limit)
        except subprocess.TimeoutExpired:
            late = True
            os.killpg(child.pid, signal.SIGKILL)
            child.wait()
    tests, problem = parse(out.read_text(errors="replace"))
    if late:
        problem = f"was still running after {limit} s"
    elif child.returncode and not problem and all(test["outcome"] != "failed" for test in tests):
        problem = f"exited with {child.returncode}"
    # "note: WHAT: ...", unlike what a panic says.
    told = re.findall(r"^note: (\w+: .*)", err.read_text(errors="replace"), re.MULTILINE)
    return {"tests": tests, "problem": problem, "notes": told}


def markdown(report):
    items = report["items"]
    count = {status: sum(item["status"] == status for item in items) for status in ("passed", "skipped", "failed")}
    driver = f", driver {report['driver']}" if report["driver"] else ""
    lines = ["# Gate 1: the twenty items", "", f"Commit {report['commit']}. Device: {report['device']}{driver}.", ""]
    lines += ["**" + ", ".join(f"{number} {status}" for status, number in count.items()) + ".**", ""]
    if report["device"] == "no GPU":
        lines += ["There is no GPU here: what needs one did not run, and its items are not passed.", ""]
    lines += ["Written by `scripts/generate_gate1_report.sh`; `tests/gate1.toml` says which tests are behind an item.", ""]
    lines += ["| item | | status | tests | why not |", "|---|---|---|---|---|"]
    for item in items:
        detail = item["detail"].replace("|", "\\|")
        lines.append(f"| {item['id']} | {item['name']} | {item['status']} | {len(item['tests'])} | {detail} |")
    if report["notes"]:
        lines += ["", "What tests measured on their way:", ""] + [f"- {note}" for note in report["notes"]]
    lines += ["", "## The tests"]
    for item in items:
        lines += ["", f"**{item['id']} {item['name']}**", ""]
        for run in dict.fromkeys(test["executable"] for test in item["tests"]):
            of = [test for test in item["tests"] if test["executable"] == run]
            told = [f"`{t['name']}`" + ("" if t["outcome"] == "ok" else f" {t['outcome']}") for t in of]
            lines.append(f"- {run} ({len(of)}): {', '.join(told)}")
    return "\n".join(lines) + "\n"


def options():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bundle", type=Path, help="the unpacked bundle whose executables run")
    parser.add_argument("--out", type=Path, help="folder for gate1.md and gate1.json; reports/ unless given")
    parser.add_argument("--logs", type=Path, help="folder for the executables' output")
    parser.add_argument("--limit", type=int, default=1800, help="seconds that an executable may take")
    parser.add_argument("--only", help="run these executables alone, such as api,compile_fail")
    parser.add_argument("--record", type=Path, help="write what they said to a file, and no report")
    parser.add_argument("--merge", type=Path, action="append", default=[], help="take what was recorded; may be repeated")
    args = parser.parse_args()
    if args.only and not args.record:
        parser.error("--only goes with --record: a report is about all items")
    home = args.bundle.resolve() if args.bundle else ROOT
    args.bundle = args.bundle and home
    args.out = (args.out or home / "reports").resolve()
    args.logs = (args.logs or home / ("gate1-logs" if args.bundle else "target/gate1-logs")).resolve()
    return args, home


def refuse(why):
    print(f"error: {why}", file=sys.stderr)
    sys.exit(2)


def merged(files, commit):
    results = {}
    for file in files:
        record = json.loads(file.read_text())
        if record["commit"] != commit:
            refuse(f"{file} is of commit {record['commit']}, not {commit}")
        for name, result in record["results"].items():
            if name in results:
                refuse(f"{name} was recorded twice, at last in {file}")
            results[name] = result
    return results


def main():
    args, home = options()
    table = home / "gate1.toml" if args.bundle else ROOT / "tests/gate1.toml"
    items = tomllib.loads(table.read_text())["item"]
    if args.bundle:
        commit = (home / "COMMIT").read_text().strip()
    else:
        describe = ["git", "describe", "--always", "--dirty"]
        commit = subprocess.run(describe, cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip()
    device, driver = gpu()
    results = merged(args.merge, commit)

    needed = dict.fromkeys(pattern["run"] for item in items for pattern in item["tests"])
    wanted = [name for name in needed if name not in results]
    if args.only:
        words = args.only.split(",")
        wanted = [name for name in wanted if any(name == word or name.endswith("-" + word) for word in words)]
    args.logs.mkdir(parents=True, exist_ok=True)
    args.out.mkdir(parents=True, exist_ok=True)
    executables = (in_bundle(home) if args.bundle else built_by_cargo()) if wanted else {}
    env = environment(args.bundle, device, args.out)
    for name in wanted:
        if name not in executables:
            print(f"{name}: not here", flush=True)
            continue
        result = execute(name, *executables[name], env, args.limit, args.logs)
        results[name] = {"device": device, "driver": driver, **result}
        counts = {outcome: sum(t["outcome"] == outcome for t in result["tests"]) for outcome in OUTCOMES.values()}
        told = ", ".join(f"{number} {outcome}" for outcome, number in counts.items())
        print(f"{name}: {told}" + (f"; {result['problem']}" if result["problem"] else ""), flush=True)

    if args.record:
        args.record.write_text(json.dumps({"commit": commit, "results": results}, indent=1) + "\n")
        return 0
    # The report is of the machine with the GPU, wherever it is put together.
    on_gpu = [result for result in results.values() if result["device"]]
    devices = {(result["device"], result["driver"]) for result in on_gpu}
    if len(devices) > 1:
        refuse(f"the results are of several GPUs: {devices}")
    device, driver = devices.pop() if devices else ("no GPU", None)
    judged = [judge(item, results) for item in items]
    notes = [note for result in results.values() for note in result.get("notes", [])]
    report = {"device": device, "driver": driver, "commit": commit, "notes": notes, "items": [item for item, _ in judged]}
    (args.out / "gate1.json").write_text(json.dumps(report, indent=1) + "\n")
    (args.out / "gate1.md").write_text(markdown(report))
    for item in report["items"]:
        print(f"{item['id']:>2} {item['status']:<7} {item['name']}" + (f": {item['detail']}" if item["detail"] else ""))
    vanished = [problem for _, problems in judged for problem in problems]
    for problem in vanished:
        print(f"error: {problem}", file=sys.stderr)
    if vanished:
        return 2
    return 0 if all(item["status"] == "passed" for item in report["items"]) else 1


if __name__ == "__main__":
    sys.exit(main())
