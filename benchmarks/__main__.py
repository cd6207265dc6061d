"""`make bench`: all parts, or those that are named, in one table; a whole run of full size also writes RESULTS.md."""

import argparse
import sys
import time

from benchmarks.harness import Row, table
from benchmarks.parts import PARTS, measured
from benchmarks.results import write


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"of {', '.join(PARTS)} [default: all]")
    parser.add_argument("--quick", action="store_true", help="tiny sizes: shows that the parts work, and nothing else")
    options = parser.parse_args()
    chosen = options.parts or PARTS
    if unknown := set(chosen) - set(PARTS):
        parser.error(f"{', '.join(sorted(unknown))}: expected of {', '.join(PARTS)}")
    found = {}
    for part in chosen:
        start = time.monotonic()
        found[part] = measured(part, quick=options.quick)
        print(f"{part}: {time.monotonic() - start:.0f} s", file=sys.stderr)
    rows: list[Row] = [row for part in found.values() for row in part]
    with_goal = [row for row in rows if row.goal]
    print(table(rows))
    print(f"\n{sum(bool(row.met) for row in with_goal)} of {len(with_goal)} goals met")
    if set(found) == set(PARTS) and not options.quick:
        print(f"written: {write(found)}")


if __name__ == "__main__":
    main()
