#!/usr/bin/env python3
"""TPC-H against a running Meridian node and PostgreSQL, in one run: are the rows equal, and how long does each take?

    meridian demo --ephemeral              # in another terminal; or any other cluster
    tests/tpch/run.py --connect 127.0.0.1:26257 --scale 0.1

It makes the data with tpchgen-cli (from PyPI, into a folder of its own), loads both, runs the 22 queries of
sql/tests/tpch on both, in turn, and prints a table. PostgreSQL must be installed; a server of its own is started on a free
port in a folder that is removed at the end. It is a benchmark and no test: it fails only if rows differ.
"""

import argparse
import csv
import io
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal, InvalidOperation

HERE = pathlib.Path(__file__).resolve().parent
QUERIES = HERE.parent.parent / "sql" / "tests" / "tpch"
TABLES = ["region", "nation", "part", "supplier", "partsupp", "customer", "orders", "lineitem"]
BATCH_ROWS = 500
LOADERS = 4


def run(args, **more):
    return subprocess.run(args, check=True, text=True, capture_output=True, **more)


def generate(scale, folder):
    """The tables as CSV files with a head line."""
    tool = shutil.which("tpchgen-cli")
    if tool is None:
        venv = folder / "venv"
        run([sys.executable, "-m", "venv", venv])
        run([venv / "bin" / "pip", "install", "--quiet", "tpchgen-cli"])
        tool = venv / "bin" / "tpchgen-cli"
    out = folder / "data"
    out.mkdir()
    run([tool, "csv", "-s", str(scale), "--output-dir", out])
    return out


class Postgres:
    """A server on a free port, with its defaults, but for memory like the other's."""

    def __init__(self, folder):
        self.data = folder / "pg"
        found = sorted(pathlib.Path("/usr/lib/postgresql").glob("*/bin"))
        self.bin = found[-1] if found else pathlib.Path(shutil.which("postgres")).parent
        with socket.socket() as s:
            s.bind(("127.0.0.1", 0))
            self.port = s.getsockname()[1]
        self.as_user = []
        if os.geteuid() == 0:
            # It refuses to run as root.
            shutil.chown(folder, "postgres")
            self.as_user = ["runuser", "-u", "postgres", "--"]
        run([*self.as_user, self.bin / "initdb", "-D", self.data, "-A", "trust", "-U", "tpch"])
        options = f"-p {self.port} -k {folder} -c listen_addresses=127.0.0.1 -c work_mem=64MB -c shared_buffers=256MB"
        subprocess.run(
            [*self.as_user, self.bin / "pg_ctl", "-D", self.data, "-w", "-l", folder / "pg.log", "-o", options, "start"],
            check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def sql(self, text):
        psql = ["psql", "-X", "-q", "-h", "127.0.0.1", "-p", str(self.port), "-U", "tpch", "-d", "postgres"]
        return run([*psql, "--csv", "-v", "ON_ERROR_STOP=1", "-c", text]).stdout

    def load(self, table, file):
        self.sql(f"\\copy {table} FROM '{file}' WITH (FORMAT csv, HEADER)")

    def stop(self):
        subprocess.run([*self.as_user, self.bin / "pg_ctl", "-D", self.data, "-m", "fast", "stop"],
                       stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False)


class Meridian:
    """A cluster that runs already."""

    def __init__(self, binary, connect):
        self.command = [binary, "sql", "--connect", connect]

    def sql(self, text):
        return run([*self.command, "--format", "csv", "-e", text]).stdout

    def load(self, table, file):
        def insert(rows):
            run([*self.command, "-f", "-"], input=f"INSERT INTO {table} VALUES {','.join(rows)};")

        with open(file, newline="") as source, ThreadPoolExecutor(LOADERS) as pool:
            reader = csv.reader(source)
            next(reader)
            rows, waiting = [], []
            for row in reader:
                rows.append("(" + ",".join("'" + value.replace("'", "''") + "'" for value in row) + ")")
                if len(rows) == BATCH_ROWS:
                    waiting.append(pool.submit(insert, rows))
                    rows = []
                if len(waiting) > 4 * LOADERS:
                    waiting.pop(0).result()
            if rows:
                waiting.append(pool.submit(insert, rows))
            for done in waiting:
                done.result()


def queries():
    """The 22 queries, by number."""
    found, number = {}, None
    for line in (QUERIES / "queries.sql").read_text().splitlines():
        if line.startswith("-- "):
            number = int(line[3:])
            found[number] = ""
        else:
            found[number] += line + "\n"
    return found


def same(a, b):
    """Whether two results are equal: numbers by value, to 12 digits (quotients have as many as each likes to show)."""
    def value(text):
        try:
            return Decimal(text)
        except InvalidOperation:
            return text.rstrip()

    def equal(x, y):
        x, y = value(x), value(y)
        if isinstance(x, Decimal) and isinstance(y, Decimal):
            return abs(x - y) <= Decimal("1e-12") * max(abs(x), abs(y), 1)
        return x == y

    rows = [list(csv.reader(io.StringIO(text)))[1:] for text in (a, b)]
    if len(rows[0]) != len(rows[1]):
        return False
    return all(len(x) == len(y) and all(map(equal, x, y)) for x, y in zip(*rows))


def timed(server, text, times):
    best, answer = None, None
    for _ in range(times):
        begun = time.perf_counter()
        answer = server.sql(text)
        took = time.perf_counter() - begun
        best = took if best is None else min(best, took)
    return best, answer


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--connect", default="127.0.0.1:26257", help="a node of the cluster")
    parser.add_argument("--binary", default=os.environ.get("MERIDIAN", "meridian"))
    parser.add_argument("--scale", type=float, default=0.1)
    parser.add_argument("--times", type=int, default=3, help="the best of so many")
    parser.add_argument("--loaded", action="store_true", help="the cluster has the data already")
    args = parser.parse_args()

    # PostgreSQL must not outlive whoever stops this.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    folder = pathlib.Path(tempfile.mkdtemp(prefix="tpch-"))
    folder.chmod(0o755)
    postgres = None
    try:
        data = generate(args.scale, folder)
        postgres = Postgres(folder)
        meridian = Meridian(args.binary, args.connect)
        schema = (QUERIES / "schema.sql").read_text()
        postgres.sql(schema)
        if not args.loaded:
            run([*meridian.command, "-f", "-"], input=schema)
        for table in TABLES:
            for server in [postgres] + ([] if args.loaded else [meridian]):
                begun = time.perf_counter()
                server.load(table, data / f"{table}.csv")
                took = time.perf_counter() - begun
                print(f"loaded {table} into {type(server).__name__} in {took:.1f} s", file=sys.stderr)
        postgres.sql("ANALYZE")
        print(f"scale {args.scale}, best of {args.times}, wall time of the client process\n")
        print("query  meridian ms  postgres ms   ratio  rows")
        different, total = [], [0.0, 0.0]
        for number, text in queries().items():
            ours, mine = timed(meridian, text, args.times)
            theirs, other = timed(postgres, text, args.times)
            total[0] += ours
            total[1] += theirs
            equal = same(mine, other)
            if not equal:
                different.append(number)
            rows = max(0, other.count("\n") - 1)
            word = "" if equal else "  DIFFERENT"
            print(f"{number:5}  {ours * 1e3:11.1f}  {theirs * 1e3:11.1f}  {ours / theirs:6.2f}  {rows}{word}", flush=True)
        print(f"  all  {total[0] * 1e3:11.1f}  {total[1] * 1e3:11.1f}  {total[0] / total[1]:6.2f}")
        if different:
            print(f"different rows: {different}", file=sys.stderr)
            return 1
        return 0
    finally:
        if postgres:
            postgres.stop()
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main())
