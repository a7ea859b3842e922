import dataclasses

import pytest

import sw.stage
from sw.config import from_dict
from sw.files import write_text
from sw.ir.errors import InputError, VerificationError
from sw.run_dir import RunDir
from sw.stage import Stage, code_digest, guarded, read_stamp, report_run
from sw.stages import before


def make(seed=0, generations=1):
    body = {"name": "mine", "seed": seed, "model": {"name": "vit"}, "evolve": {"generations": generations}}
    return RunDir.create(from_dict(body))


def copying_stage(sections=()):
    def copy(run):
        write_text(run.root / "out", (run.root / "in").read_text())

    return Stage(
        name="copy",
        help="copies",
        sections=sections,
        inputs=lambda run: [run.root / "in"],
        outputs=lambda run: [run.root / "out"],
        body=copy,
    )


def test_a_stage_runs_once_and_again_when_something_changed():
    stage, run = copying_stage(("evolve",)), make()
    write_text(run.root / "in", "a")
    assert stage.run(run)
    assert not stage.run(run)
    assert not stage.run(make())
    assert stage.run(run, force=True)
    write_text(run.root / "in", "b")
    assert stage.run(run)
    (run.root / "out").unlink()
    assert stage.run(run)
    (run.root / "out").write_text("changed by hand")
    assert stage.run(run)
    assert stage.run(make(generations=2))
    assert stage.run(make(generations=2, seed=1))
    assert (run.root / "out").read_text() == "b"


def test_forced_work_begins_from_nothing():
    parts = []
    stage, run = dataclasses.replace(copying_stage(), forget=lambda run: parts.append("forgotten")), make()
    write_text(run.root / "in", "a")
    assert stage.run(run)
    assert not parts
    assert stage.run(run, force=True)
    assert parts == ["forgotten"]


def test_stale_means_changed_inputs_not_changed_outputs():
    stage, run = copying_stage(("evolve.generations",)), make()
    write_text(run.root / "in", "a")
    assert stage.is_stale(run)
    stage.run(run)
    assert not stage.is_stale(run)
    (run.root / "out").write_text("changed by hand")
    assert not stage.is_stale(run)
    assert stage.is_stale(make(generations=2))
    (run.root / "out").unlink()
    assert stage.is_stale(make())


def test_stale_means_also_that_files_go_elsewhere_now():
    stage, run = copying_stage(), make()
    write_text(run.root / "in", "a")
    stage.run(run)
    moved = dataclasses.replace(stage, outputs=lambda run: [run.root / "in"])
    assert moved.is_stale(run)


def test_hardware_is_made_of_what_settles_last():
    for name in ("hdl", "verify", "synth", "rivals"):
        assert "align" in before(name, settled=True)
    assert "align" not in before("synth")
    assert before("align", settled=True) == before("align")


def test_changed_code_makes_a_stage_run_again(monkeypatch):
    stage, run = copying_stage(), make()
    write_text(run.root / "in", "a")
    stage.run(run)
    assert not stage.run(run)
    monkeypatch.setattr(sw.stage, "code_digest", lambda *packages: "another version")
    assert stage.run(run)


def test_the_code_of_other_packages_counts_where_a_stage_runs_it(monkeypatch):
    asked = []
    monkeypatch.setattr(sw.stage, "code_digest", lambda *packages: asked.append(packages) or "d")
    stage, run = dataclasses.replace(copying_stage(), code=("sw.model",)), make()
    write_text(run.root / "in", "a")
    stage.run(run)
    assert asked[0][1:] == ("sw.ir", "sw.model")


def test_the_digest_of_code_is_of_its_source(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "some_package").mkdir()
    digests = set()
    for text in ("a = 1", "a = 2", "a = 1"):
        (tmp_path / "some_package/__init__.py").write_text(text)
        code_digest.cache_clear()
        digests.add(code_digest("some_package"))
    assert len(digests) == 2
    for name, counts in (("page.html", True), ("notes.txt", False)):
        (tmp_path / "some_package" / name).write_text("text")
        code_digest.cache_clear()
        assert (code_digest("some_package") not in digests) == counts
        digests.add(code_digest("some_package"))


def test_inputs_may_lie_outside_the_run(tmp_path):
    outside = tmp_path / "weights.pth"
    stage, run = copying_stage(), make()
    stage = dataclasses.replace(stage, inputs=lambda run: [run.root / "in", outside])
    write_text(run.root / "in", "a")
    with pytest.raises(InputError, match=r"stage 'copy' needs '.*weights\.pth', which is not there$"):
        stage.run(run)
    outside.write_text("1")
    assert stage.run(run)
    assert not stage.run(run)
    outside.write_text("2")
    assert stage.run(run)


def test_a_section_that_a_stage_does_not_read_is_no_reason():
    stage, run = copying_stage(), make()
    write_text(run.root / "in", "a")
    assert stage.run(run)
    assert not stage.run(make(generations=2))


def test_a_missing_input_is_named():
    rule = r"stage 'copy' needs 'runs/mine/in', which is not there; 'normforge copy CONFIG --missing' "
    with pytest.raises(InputError, match=rule):
        copying_stage().run(make())
    assert not (make().root / "config.toml").exists()


def test_a_stage_that_fails_is_not_done():
    def fail(run):
        raise InputError("no")

    run = make()
    write_text(run.root / "in", "a")
    stage = copying_stage()
    stage.run(run)
    broken = Stage(
        name="copy",
        help="",
        sections=(),
        inputs=stage.inputs,
        outputs=stage.outputs,
        body=fail,
    )
    with pytest.raises(InputError, match=r"^no$"):
        broken.run(run, force=True)
    assert stage.run(run)


def test_a_check_that_fails_is_a_result_and_is_made_again_when_it_is_asked_for():
    checks = []

    def fail(run):
        checks.append(1)
        write_text(run.root / "out", "1 of 3")
        raise VerificationError("1 of 3 does not hold")

    run = make()
    write_text(run.root / "in", "a")
    stage = dataclasses.replace(copying_stage(), body=fail)
    for _ in range(2):
        with pytest.raises(VerificationError, match=r"^1 of 3 does not hold$"):
            stage.run(run)
    assert len(checks) == 2
    assert read_stamp(run, "copy")["failed"] == "1 of 3 does not hold"
    assert not stage.is_stale(run), "a report of it can be made"
    write_text(run.root / "in", "b")
    assert stage.is_stale(run)


@pytest.mark.parametrize(
    ("error", "status", "said"),
    [
        (InputError("bad value"), 2, "normforge: bad value\n"),
        (VerificationError("not equal"), 1, "normforge: not equal\n"),
        (
            PermissionError(13, "Permission denied", "a.json"),
            2,
            "normforge: 'a.json' cannot be used: Permission denied\n",
        ),
        (OSError(5, "Input/output error"), 2, "normforge: a file cannot be used: Input/output error\n"),
        (KeyboardInterrupt(), 130, "normforge: stopped; the same command goes on from here\n"),
    ],
)
def test_guarded_turns_errors_into_a_line_and_a_status(capsys, error, status, said):
    def action():
        raise error

    assert guarded(action, debug=False) == status
    assert capsys.readouterr().err == said


def test_guarded_keeps_our_own_bugs_and_debug_tracebacks():
    def bug():
        raise ZeroDivisionError

    def bad():
        raise InputError("bad")

    with pytest.raises(ZeroDivisionError):
        guarded(bug, debug=False)
    with pytest.raises(InputError):
        guarded(bad, debug=True)
    assert guarded(lambda: 0, debug=False) == 0


def test_only_stages_that_train_run_in_several_processes(monkeypatch, capsys):
    monkeypatch.setenv("WORLD_SIZE", "2")
    run, stage = make(), copying_stage()
    write_text(run.root / "in", "a")
    with pytest.raises(
        InputError, match=r"^stage 'copy' must run in one process, not 2; start it without torchrun$"
    ):
        report_run(stage, run)
    together = dataclasses.replace(stage, parallel=True)
    monkeypatch.setenv("RANK", "1")
    report_run(together, run)
    assert capsys.readouterr().out == ""
    assert not (run.root / "out").exists()  # the first process leaves it
    monkeypatch.setenv("RANK", "0")
    report_run(together, run)
    assert (run.root / "out").read_text() == "a"
    assert "[copy]" in capsys.readouterr().out
