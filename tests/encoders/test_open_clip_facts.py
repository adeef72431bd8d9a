"""What is known of open_clip's models without importing it is what it says itself."""

import json

import numpy as np
import open_clip
import pytest
import torch
from open_clip.constants import OPENAI_DATASET_MEAN, OPENAI_DATASET_STD
from safetensors.torch import save_file
from transformers import ASTConfig

from vaprompt.encoders import open_clip_facts, weights
from vaprompt.encoders.ast_form import ARCHITECTURE, MODEL_TYPE, AstForm
from vaprompt.encoders.clip_form import image_fingerprint
from vaprompt.encoders.recipes import ImageEncoderRecipe


def test_configurations_are_open_clips():
    names = ["ViT-B-16-quickgelu", "ViT-B-32", "RN50", "ViT-SO400M-14-SigLIP", *open_clip.list_models()[::20]]
    for name in names:
        assert open_clip_facts.open_clip_config(name) == open_clip.get_model_config(name)
    assert open_clip_facts.MEAN == OPENAI_DATASET_MEAN
    assert open_clip_facts.STD == OPENAI_DATASET_STD


@pytest.mark.parametrize("tag", ["openai", "laion400m_e32", "nonsense"])
def test_published_weights_are_open_clips_and_are_asked_for_once(cache, monkeypatch, tag):
    theirs = json.loads(json.dumps(open_clip.get_pretrained_cfg("ViT-B-16", tag))) or None
    assert json.loads(json.dumps(open_clip_facts.published("ViT-B-16", tag))) == theirs
    monkeypatch.setattr(open_clip, "get_pretrained_cfg", None)
    assert open_clip_facts.published("ViT-B-16", tag) == theirs


def test_the_form_of_an_ast_has_transformers_defaults():
    config = ASTConfig()
    assert AstForm() == AstForm.model_validate(config.to_dict())
    assert ASTConfig.model_type == MODEL_TYPE
    assert set(ARCHITECTURE) >= set(AstForm.model_fields)


def test_the_digest_of_a_large_file_is_that_of_its_present_content(cache, tmp_path, monkeypatch):
    read = []
    monkeypatch.setattr(
        weights, "tensor_digest", lambda file, real=weights.tensor_digest: read.append(file) or real(file)
    )
    monkeypatch.setattr(weights, "QUICKLY_READ", 0)
    file = tmp_path / "open_clip_model.safetensors"
    recipe = ImageEncoderRecipe(weights=str(tmp_path))
    digests = []
    for value in (0.0, 0.0, 1.0):
        if not digests or value:
            save_file({"x": torch.from_numpy(np.full(9, value, np.float32))}, tmp_path / "new")
            (tmp_path / "new").replace(file)
        digests.append(image_fingerprint(recipe)["weights"])
    assert digests[0] == digests[1] != digests[2]
    assert len(read) == 2
