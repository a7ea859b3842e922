"""The cocotb regression under pytest, one test a unit.

::

    pytest sim_tb --manifest runs/digits/hdl/manifest.json
    pytest sim_tb --manifest out/tanh.json

It makes the checks of ``python -m sim_tb.verify``, without its summary and certificates, and may be spread
over processes (``-n 2``). Builds lie in the folder ``sim`` beside the file.
"""

from __future__ import annotations

import pytest

from sim_tb.request import Request, Settings
from sim_tb.verification import verify
from sim_tb.verify import read_requests, results_folder


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """One test a unit of every ``--manifest``."""
    given = [
        (request, Settings(folder=results_folder(path), jobs=1))
        for path in metafunc.config.getoption("manifest")
        for request in read_requests(path)
    ]
    metafunc.parametrize(("unit_request", "settings"), given, ids=[request.site for request, _ in given])


def test_unit(unit_request: Request, settings: Settings) -> None:
    """Every check of a unit passes or says why it was skipped."""
    (report,) = verify([unit_request], settings)
    print(report.line())
    assert report.passed, "; ".join(f"{check.name}: {check.message}" for check in report.failures())
