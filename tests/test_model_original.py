import dataclasses
from pathlib import Path

import pytest
import timm
import torch
from timm.layers import DropPath

from sw.config import ModelConfig, TrainConfig, from_dict, load
from sw.ir.errors import InputError
from sw.model import original
from sw.model.original import STAGE, create, merge_separate_biases
from sw.model.preprocessing import preprocessing_of
from sw.model.sites import find_sites
from sw.model.weights import save_weights
from sw.run_dir import RunDir

ROOT = Path(__file__).parents[1]
SMALL = {"img_size": 32, "depth": 1, "embed_dim": 16, "num_heads": 2, "num_classes": 5}
TINY = SMALL | {"img_size": 8, "patch_size": 4, "in_chans": 1, "num_classes": 10}


def test_unknown_model_wrong():
    with pytest.raises(
        InputError, match=r"^model.name must be a timm model, not 'vit_tiny_patch16_225'; did you mean "
    ):
        create(ModelConfig(name="vit_tiny_patch16_225"))


def test_random_weights_are_said(tmp_path, capsys):
    body = {"name": "a", "model": {"name": "vit_tiny_patch16_224", "kwargs": TINY}}
    for epochs, said in ((0, True), (1, False)):
        config = from_dict(body | {"train": {"epochs": epochs}, "runs_dir": str(tmp_path / str(epochs))})
        STAGE.run(RunDir.create(config))
        text = "weights are random: model.checkpoint, model.pretrained and train.epochs are not set\n"
        assert (text in capsys.readouterr().out) == said


@pytest.mark.parametrize(("rate", "own"), [(0.0, {}), (0.3, {}), (0.25, {"drop_path_rate": 0.25})])
def test_drop_path_is_that_of_the_configuration(tmp_path, rate, own):
    kwargs = {"img_size": 32, "patch_size": 4, "window_size": 4, "embed_dim": 16, "num_classes": 10}
    kwargs |= {"depths": [1, 1], "num_heads": [1, 2], **own}
    body = {"name": "a", "model": {"name": "swin_tiny_patch4_window7_224", "kwargs": kwargs}}
    run = RunDir.create(from_dict(body | {"runs_dir": str(tmp_path)}))
    save_weights(run.original, create(run.config.model))
    model = original.load_original(run, drop_path=0.0 if own else rate)
    rates = [module.drop_prob for module in model.modules() if isinstance(module, DropPath)]
    assert rates
    assert max(rates) == pytest.approx(rate)


def test_argument_that_the_model_does_not_take_wrong():
    rule = r"^model 'vit_tiny_patch16_224' does not take model.kwargs.wings$"
    with pytest.raises(InputError, match=rule):
        create(ModelConfig(name="vit_tiny_patch16_224", kwargs=SMALL | {"wings": 2}))


@pytest.mark.parametrize(
    ("key", "value"), [("depth", "two"), ("depth", -2), ("patch_size", 0), ("act_layer", "nope")]
)
def test_value_that_the_model_cannot_be_built_with_wrong(key, value):
    rule = rf"^model.kwargs.{key} must be a value that model 'vit_tiny_patch16_224' can be built with, "
    with pytest.raises(InputError, match=rf"{rule}not {value!r}: .+$"):
        create(ModelConfig(name="vit_tiny_patch16_224", kwargs=SMALL | {key: value}))


def test_values_that_do_not_fit_each_other_wrong():
    kwargs = SMALL | {"num_heads": 5}  # without its own number of heads the model would have three
    rule = r"^model 'vit_tiny_patch16_224' cannot be built with its model.kwargs: dim should be divisible by"
    with pytest.raises(InputError, match=rule):
        create(ModelConfig(name="vit_tiny_patch16_224", kwargs=kwargs))


@pytest.mark.parametrize("name", ["beit_base_patch16_224", "eva02_base_patch14_448"])
def test_separate_biases_merge_without_a_change_of_logits(name):
    torch.manual_seed(0)
    size = 28 if "eva" in name else 32
    model = timm.create_model(name, **(SMALL | {"img_size": size})).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    images = torch.randn(2, 3, size, size)
    with torch.no_grad():
        before = model(images)
        merge_separate_biases(model)
        after = model(images)
    torch.testing.assert_close(after, before)
    assert "blocks.0.attn.q_bias" not in model.state_dict()


@pytest.fixture
def from_checkpoint(tmp_path):
    torch.manual_seed(0)
    path = tmp_path / "w.safetensors"
    save_weights(path, timm.create_model("vit_tiny_patch16_224", **TINY))
    settings = {"name": "vit_tiny_patch16_224", "kwargs": TINY, "checkpoint": str(path)}
    return RunDir.create(from_dict({"runs_dir": str(tmp_path), "model": settings}))


def test_another_checkpoint_in_the_same_place_is_loaded(from_checkpoint):
    run = from_checkpoint
    assert STAGE.run(run) is True
    assert STAGE.run(run) is False
    before = run.original.read_bytes()
    save_weights(Path(run.config.model.checkpoint), timm.create_model("vit_tiny_patch16_224", **TINY))
    assert STAGE.run(run) is True
    assert run.original.read_bytes() != before


def test_missing_checkpoint_wrong(from_checkpoint):
    STAGE.run(from_checkpoint)
    Path(from_checkpoint.config.model.checkpoint).unlink()
    with pytest.raises(InputError, match=r"^checkpoint '.*w.safetensors' does not exist$"):
        STAGE.run(from_checkpoint)


def test_training_does_not_go_on_from_another_checkpoint(from_checkpoint, monkeypatch):
    keys = []
    monkeypatch.setattr(original, "fit", lambda *_, kept, **__: keys.append(kept.key))
    run = RunDir.create(dataclasses.replace(from_checkpoint.config, train=TrainConfig(epochs=1)))
    STAGE.run(run)
    save_weights(Path(run.config.model.checkpoint), timm.create_model("vit_tiny_patch16_224", **TINY))
    STAGE.run(run)
    assert len(set(keys)) == 2


@pytest.mark.parametrize(
    ("name", "sites", "mean"),
    [
        ("digits", 9, None),
        ("glyphs", 25, None),
        ("deit_tiny_imagenet", 25, 0.485),
        ("vit_base_imagenet", 25, 0.5),
        ("vit_large_imagenet", 49, 0.5),
    ],
)
def test_configurations_that_come_along_are_of_models_that_can_be_built(name, sites, mean):
    config = load(ROOT / f"configs/{name}.toml")
    with torch.device("meta"):
        model = timm.create_model(config.model.name, **config.model.kwargs)
    assert len(find_sites(model, config.model.keep_layernorm)) == sites
    assert mean is None or preprocessing_of(model)["mean"][0] == mean
