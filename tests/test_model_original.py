import pytest
import timm
import torch

from sw.config import ModelConfig
from sw.ir.errors import InputError
from sw.model.original import create, merge_separate_biases

SMALL = {"img_size": 32, "depth": 1, "embed_dim": 16, "num_heads": 2, "num_classes": 5}


def test_unknown_model_wrong():
    with pytest.raises(
        InputError, match=r"^model.name must be a timm model, not 'vit_tiny_patch16_225'; did you mean "
    ):
        create(ModelConfig(name="vit_tiny_patch16_225"))


def test_argument_that_the_model_does_not_take_wrong():
    with pytest.raises(
        InputError, match=r"^model 'vit_tiny_patch16_224' does not take model.kwargs .*'wings': 2"
    ):
        create(ModelConfig(name="vit_tiny_patch16_224", kwargs={"wings": 2}))


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
