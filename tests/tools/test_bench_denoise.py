"""The nuisance-regression benchmark runs and its errors are within the limit; no times asserted."""

from __future__ import annotations

from tools.bench.denoise import ERROR_LIMIT, measure


def test_rows_and_errors() -> None:
    found = measure(350)
    methods = [(entry["method"].split(",")[0], entry["volume"]) for entry in found]
    assert methods == [("fcnef", 300), ("naive", 300), ("fcnef", 350)]
    assert all(entry["error_sd"] < ERROR_LIMIT for entry in found if entry["error_sd"] is not None)
    assert all(entry["p99_us"] >= entry["median_us"] > 0 for entry in found)
