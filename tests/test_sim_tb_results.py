"""Reports: the printed line and JUnit XML."""

from dataclasses import replace
from xml.etree import ElementTree

from sim_tb.results import Check, NormReport, UnitReport, read_cocotb_results, write_junit

GOOD = UnitReport(
    site="blocks.0.norm1",
    name="blocks_0_norm1",
    lanes=1,
    latency_cycles=5,
    codes_checked=65536,
    mismatches=0,
    stall_beats=4096,
    replay_beats=4352,
    float_path_ties=12,
    float_path_differences=0,
    seconds=1.5,
    checks=tuple(
        Check(name, "passed")
        for name in ("float_path", "every_code", "stated_latency", "random_stalls", "replay")
    ),
)


def test_line_of_a_good_unit():
    assert GOOD.passed
    assert GOOD.line(16) == (
        "blocks.0.norm1    codes checked 65536  mismatches 0  stalls 4096 beats ok  "
        "replay 4352 beats ok  latency 5  float path 0 differences (12 ties)"
    )


def test_line_of_a_bad_unit_says_what_failed():
    bad = replace(
        GOOD,
        mismatches=3,
        float_path_ties=1,
        checks=(
            Check("every_code", "failed", "differs"),
            Check("stated_latency", "failed", "late"),
            Check("random_stalls", "failed", "lost"),
            Check("replay", "skipped", "none"),
        ),
    )
    assert not bad.passed
    assert bad.line() == (
        "blocks.0.norm1  codes checked 65536  mismatches 3  stalls 4096 beats FAILED  "
        "replay skipped  latency 5 FAILED  float path 0 differences (1 tie)  FAILED"
    )
    assert [check.name for check in bad.failures()] == ["every_code", "stated_latency", "random_stalls"]


NORM = NormReport(
    site="norm1",
    name="norm1",
    lanes=1,
    latency_cycles=212,
    mismatches=0,
    stall_beats=4608,
    replay_beats=0,
    seconds=20.0,
    channels=192,
    rows_checked=1018,
    interval_cycles=192,
    error_lsb=0.53124,
    bound_lsb=0.57461,
    checks=(
        *(Check(name, "passed") for name in ("error_bound", "every_row", "stated_latency", "random_stalls")),
        Check("replay", "skipped", "no recorded activations"),
    ),
)


def test_line_of_a_norm():
    assert NORM.line() == (
        "norm1  rows checked 1018 (192 channels)  mismatches 0  stalls 4608 beats ok  replay skipped  "
        "latency 212  interval 192 cycles a row  error against float64 0.531 LSB (bound 0.575)"
    )
    bad = replace(
        NORM,
        error_lsb=0.6,
        replay_beats=768,
        moved={"replay": {"cycles": 980}},
        checks=(Check("error_bound", "failed", "0.6"), Check("replay", "passed")),
    )
    assert "replay 768 beats ok  latency 212 FAILED  interval 192 cycles a row  replay took 980" in bad.line()
    assert bad.line().endswith("error against float64 0.600 LSB (bound 0.575) FAILED  FAILED")


def test_cocotb_results_are_read(tmp_path):
    path = tmp_path / "results.xml"
    path.write_text(
        "<testsuites><testsuite name='t'><testcase name='a' time='0.5'/>"
        "<testcase name='b' time='1'><failure message='not\\n good'/></testcase>"
        "<testcase name='c'><error>no\n idea</error></testcase></testsuite></testsuites>".replace("\\n", "\n")
    )
    assert read_cocotb_results(path) == [
        Check("a", "passed", "", 0.5),
        Check("b", "failed", "not good", 1.0),
        Check("c", "failed", "no idea", 0.0),
    ]


def test_a_test_that_was_skipped_did_not_pass(tmp_path):
    path = tmp_path / "results.xml"
    path.write_text('<testsuite><testcase name="random_stalls"><skipped/></testcase></testsuite>')
    assert read_cocotb_results(path) == [Check("random_stalls", "failed", "skipped, no reason given")]


def test_missing_or_torn_cocotb_results_are_none(tmp_path):
    assert read_cocotb_results(tmp_path / "results.xml") == []
    (tmp_path / "results.xml").write_text("<testsuites><tests")
    assert read_cocotb_results(tmp_path / "results.xml") == []


def test_junit_counts_and_names(tmp_path):
    bad = replace(GOOD, site="norm", checks=(Check("a", "failed", "x < y"), Check("b", "skipped", "why")))
    write_junit(tmp_path / "junit.xml", [GOOD, bad])
    first, second = ElementTree.parse(tmp_path / "junit.xml").getroot()
    assert (first.get("name"), first.get("tests"), first.get("failures")) == ("blocks.0.norm1", "5", "0")
    assert (second.get("name"), second.get("failures"), second.get("skipped")) == ("norm", "1", "1")
    assert second[0].find("failure").get("message") == "x < y"
    assert second[1].find("skipped").get("message") == "why"
