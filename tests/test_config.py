import dataclasses
import re
import tomllib
import typing
from pathlib import Path

import pytest
import tomli_w

from sw.config import RunConfig, digest, from_dict, load, reference
from sw.config.checks import CHOICES, RANGES, RATES
from sw.ir.errors import InputError

SMALL = '[model]\nname = "vit_tiny_patch16_224"\n'


def written(tmp_path, text):
    path = tmp_path / "run.toml"
    path.write_text(text)
    return path


def test_load_over_defaults(tmp_path):
    config = load(written(tmp_path, SMALL + '[data]\ndataset = "imagefolder"\nroot = "pictures"\n'))
    assert config.name == "run"
    assert config.model.name == "vit_tiny_patch16_224"
    assert config.data.root == str(tmp_path / "pictures")
    assert config.unit.in_width == 16


def test_overrides_win(tmp_path):
    config = load(
        written(tmp_path, SMALL), ("evolve.generations=3", "model.name=deit", "align.lr=1e-5", "seed=7")
    )
    assert (config.evolve.generations, config.model.name, config.align.lr, config.seed) == (
        3,
        "deit",
        1e-5,
        7,
    )


def test_a_written_configuration_reads_back(tmp_path):
    config = load(written(tmp_path, SMALL + '[model.kwargs]\nimg_size = 8\n[synth]\nfamilies = ["ecp5"]\n'))
    assert from_dict(tomllib.loads(tomli_w.dumps(config.to_dict()))) == config


def test_digest_follows_only_its_sections(tmp_path):
    a, b = (load(written(tmp_path, SMALL), (f"evolve.generations={n}",)) for n in (3, 4))
    assert digest(a, "evolve") != digest(b, "evolve")
    assert digest(a, "model", "seed") == digest(b, "model", "seed")
    assert digest(a) != digest(b)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (SMALL + "[evolve]\ngeneratons = 3", r"'evolve\.generatons'; did you mean 'evolve\.generations'\?"),
        (SMALL + "[evolve]\nzzz = 3", r"unknown configuration key 'evolve\.zzz'; there are: population, "),
        ("nmae = 'x'\n" + SMALL, r"unknown configuration key 'nmae'; did you mean 'name'\?"),
        ("", r"configuration lacks the key 'model'"),
        ("[model]", r"configuration lacks the key 'model\.name'"),
        ("model = 3", r"configuration key 'model' must be a table, not 3"),
        (SMALL + "[evolve]\njobs = 'two'", r"key 'evolve\.jobs' must be a whole number, not 'two'"),
        (SMALL + "[evolve]\njobs = true", r"key 'evolve\.jobs' must be a whole number, not True"),
        (SMALL + "[align]\nlr = 'x'", r"configuration key 'align\.lr' must be a number, not 'x'"),
        (SMALL + "[unit]\nfaithful = 1", r"configuration key 'unit\.faithful' must be true or false, not 1"),
        (SMALL + "[synth]\nfamilies = 'xc7'", r"key 'synth\.families' must be a list of strings"),
        (SMALL + "[synth]\nfamilies = ['xc9']", r"must hold only xc7, ecp5, ice40, not 'xc9'"),
        (SMALL + "[unit]\nin_width = 17", r"configuration key 'unit\.in_width' must be 2\.\.16, not 17"),
        (SMALL + "[synth]\nfamilies = []", r"'synth\.families' must hold some of xc7, ecp5, ice40, not"),
        (SMALL + "[align]\nlr = -1", r"configuration key 'align\.lr' must be above 0 and finite, not -1\.0"),
        (SMALL + "[train]\nlr = inf", r"configuration key 'train\.lr' must be above 0 and finite, not inf"),
        ('name = "a\\u0000"\n' + SMALL, r"key 'name' must be a plain folder name, not 'a\\x00'"),
        ('runs_dir = "a\\u0000"\n' + SMALL, r"configuration key 'runs_dir' must be a path, not 'a\\x00'"),
        (
            SMALL + "[model.kwargs]\nwhen = 2020-01-01",
            r"configuration key 'model\.kwargs' must hold numbers, texts, lists and tables, not \{'when'",
        ),
        (SMALL + "[align]\nregime = 'E'", r"configuration key 'align\.regime' must be one of A, F, D, D\+"),
        (SMALL + "[evolve]\nweights = 'sensitivity'", r"weights' must be none where capture\.sensitivity is"),
        (SMALL + "[align]\nregime = 3", r"configuration key 'align\.regime' must be a string, not 3"),
        (SMALL + "[align]\nrefit = 'all'", r"'align\.refit' must be one of none, .*, writers, not 'all'"),
        (SMALL + "[align]\ndrop_path = 1", r"configuration key 'align\.drop_path' must be 0\.\.0\.99, not"),
        (SMALL + "[unit]\nrealize = 'magic'", r"'unit\.realize' must be one of auto, .*, not 'magic'"),
        (SMALL + "[data]\nsplit_seed = -1", r"configuration key 'data\.split_seed' must be 0\.\."),
        ("seed = -1\n" + SMALL, r"configuration key 'seed' must not be negative, not -1"),
        (SMALL + "[evolve]\nchoose = 'first'", r"'evolve\.choose' must be one of knee, .*, not 'first'"),
        ("name = 'a/b'\n" + SMALL, r"configuration key 'name' must be a plain folder name, not 'a/b'"),
        (SMALL + "\n[unit]\nprefix = '2nd'", r"'unit.prefix' must be letters, digits and underscores, "),
        (SMALL + "\n[unit]\nprefix = 'a b'", r"no digit first, not 'a b'$"),
        ("model = [", r"configuration '.*run\.toml' is not TOML: "),
    ],
)  # fmt: skip
def test_load_wrong(tmp_path, text, message):
    with pytest.raises(InputError, match=message) as caught:
        load(written(tmp_path, text))
    assert "\n" not in str(caught.value)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(InputError, match=r"configuration '.*none\.toml' cannot be read: No such file"):
        load(tmp_path / "none.toml")


@pytest.mark.parametrize("override", ["seed", "=3"])
def test_override_wrong(tmp_path, override):
    with pytest.raises(InputError, match=r"override must look like 'section\.key=value', not "):
        load(written(tmp_path, SMALL), (override,))


def test_override_of_a_key_as_a_section(tmp_path):
    with pytest.raises(InputError, match=r"override 'model\.name\.x=1' must name a section and a key in it"):
        load(written(tmp_path, SMALL), ("model.name.x=1",))


@pytest.mark.parametrize(
    ("regime", "published"),
    [
        ("A", {"trained": "affine", "lr": 1e-3, "schedule": "constant", "kd_weight": 0.0, "drop_path": 0.0}),
        ("F", {"trained": "all", "lr": 1e-5, "schedule": "cosine", "kd_weight": 0.0, "weight_decay": 0.0}),
        ("D", {"trained": "all", "lr": 1e-5, "schedule": "cosine", "kd_weight": 0.5, "temperature": 4.0,
               "weight_decay": 0.05, "drop_path": 0.2}),
    ],
)  # fmt: skip
def test_a_regime_fills_in_what_is_not_given(tmp_path, regime, published):
    align = load(written(tmp_path, SMALL + f"[align]\nregime = '{regime}'")).align
    assert {key: getattr(align, key) for key in published} == published
    assert (align.epochs, align.refit) == (20, "none")
    own = load(written(tmp_path, SMALL + f"[align]\nregime = '{regime}'\nlr = 0.5\nrefit = 'affine'")).align
    assert (own.lr, own.refit, own.trained) == (0.5, "affine", published["trained"])
    again = from_dict(load(written(tmp_path, SMALL + f"[align]\nregime = '{regime}'")).to_dict())
    assert again.align == align


def test_another_regime_on_the_command_line_fills_in_its_own_settings(tmp_path):
    """A run's own file holds every key of the regime that it had."""
    own = load(written(tmp_path, SMALL + "[align]\nepochs = 3\nclip_norm = 0.5"))
    file = written(tmp_path, tomli_w.dumps(own.to_dict()))
    other = load(file, ("align.regime=A", "align.lr=0.5"))
    assert (other.align.trained, other.align.refit, other.align.schedule) == ("affine", "none", "constant")
    assert (other.align.epochs, other.align.lr, other.align.clip_norm) == (3, 0.5, 0.5)
    assert load(file, ("align.regime=D+",)) == load(file) == own
    back = load(written(tmp_path, tomli_w.dumps(other.to_dict())), ("align.regime=D+",))
    assert (back.align.trained, back.align.refit, back.align.lr) == ("all", "writers", 0.5)


def test_our_own_regime_is_the_default(tmp_path):
    assert load(written(tmp_path, SMALL + "[align]\nregime = 'D+'")) == load(written(tmp_path, SMALL))


PAGE = (Path(__file__).parents[1] / "docs/configuration.md").read_text()


def test_the_page_of_keys_is_what_is_generated():
    assert reference.page() == PAGE, "python -m sw.config.reference > docs/configuration.md"


def test_the_page_has_every_key_with_its_meaning():
    rows = {m[1]: m[2].split(" | ") for m in re.finditer(r"^\| `([a-z_.]+)` \| (.*) \|$", PAGE, re.MULTILINE)}
    keys = set()
    for section, hint in typing.get_type_hints(RunConfig).items():
        inner = [f.name for f in dataclasses.fields(hint)] if dataclasses.is_dataclass(hint) else []
        keys |= {f"{section}.{name}" for name in inner} or {section}
    assert set(rows) == keys
    assert all(len(cells) == 3 and all(cells) for cells in rows.values())
    assert {*RANGES, *CHOICES, *RATES} <= keys


def test_defaults_on_the_page_are_read_as_such(tmp_path):
    given = re.findall(r"^\| `([a-z_]+\.[a-z_]+)` \| `(.*?)` \|", PAGE, re.MULTILINE)
    overrides = tuple(f"{key}={value}" for key, value in given)
    assert load(written(tmp_path, SMALL), overrides) == load(written(tmp_path, SMALL))
    assert len(given) > 70
