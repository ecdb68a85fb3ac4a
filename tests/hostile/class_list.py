"""Checks SECURITY.md's list of bug classes: every class has a rule and names tests, and these exist.

usage: class_list.py SOURCE_ROOT
"""

import pathlib
import re
import sys

CLASSES = 19


def main():
    root = pathlib.Path(sys.argv[1])
    problems = []
    tests = {}
    for path in sorted((root / "tests").rglob("*.cpp")):
        for number in re.findall(r'TEST_CASE\("\[class (\d+)\]', path.read_text()):
            tests.setdefault(int(number), set()).add(path.relative_to(root).as_posix())
    rows = {}
    for row in re.findall(r"^\| *\d+ *\|.*\|$", (root / "SECURITY.md").read_text(), re.M):
        number, name, rule, where = (cell.strip() for cell in row.strip("|").split("|"))
        rows[int(number)] = (rule, set(re.findall(r"`([^`]+)`", where)), where)
    for number in range(1, CLASSES + 1):
        if number not in rows:
            problems.append(f"SECURITY.md has no row for class {number}")
            continue
        rule, named, where = rows[number]
        if not rule:
            problems.append(f"class {number} has no rule")
        found = tests.get(number, set())
        if named != found:
            problems.append(f"class {number}: SECURITY.md names {sorted(named)}, tests are in {sorted(found)}")
        if not found and not where.startswith("none:"):
            problems.append(f"class {number} has no test, and no reason (\"none: ...\")")
    for number in sorted(set(tests) | set(rows)):
        if not 1 <= number <= CLASSES:
            problems.append(f"there is no class {number}")
    print("\n".join(problems) or f"{CLASSES} classes, {sum(map(len, tests.values()))} places of tests")
    return 1 if problems else 0


sys.exit(main())
