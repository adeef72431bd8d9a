"""The miniature encoders are what their configurations say, and see and hear what they were trained for."""

import numpy as np
import open_clip
import pytest
import torch
from safetensors.torch import load_file
from transformers import ASTConfig, ASTModel

from vaprompt.datasets.synthetic.scene import Scene
from vaprompt.encoders import embedded
from vaprompt.encoders.embedded.tokenizer import CONTEXT, END, START, VOCABULARY
from vaprompt.encoders.recipes import AudioEncoderRecipe, ImageEncoderRecipe
from vaprompt.encoders.registry import audio_encoder, image_encoder
from vaprompt.media.logmel import LogMelRecipe
from vaprompt.metrics import ccc
from vaprompt.regions import PHRASES, TEMPLATES, RegionRecipe


def test_they_are_small_half_precision_and_finite() -> None:
    size = 0
    for path in (embedded.CLIP_WEIGHTS, embedded.AST_WEIGHTS):
        size += path.stat().st_size
        for name, value in load_file(path).items():
            assert value.dtype == torch.float16, name
            assert value.isfinite().all(), name
    assert size < 6e6


def test_open_clip_and_transformers_build_them_as_they_stand() -> None:
    clip = open_clip.CLIP(**embedded.clip_config()["model_cfg"])
    clip.load_state_dict(load_file(embedded.CLIP_WEIGHTS), strict=True)
    ast = ASTModel(ASTConfig(**embedded.ast_config()))
    ast.load_state_dict(load_file(embedded.AST_WEIGHTS), strict=True)
    assert embedded.log_mel_recipe() == LogMelRecipe()
    assert embedded.clip_config()["preprocess_cfg"]["size"] == 112


def test_a_text_is_its_bytes_between_two_marks() -> None:
    token_PL = embedded.tokenize(["Ab", "é", "x" * 200, ""])
    assert token_PL.shape == (4, CONTEXT)
    assert token_PL[0, :5].tolist() == [START, ord("a") + 1, ord("b") + 1, END, 0]
    assert token_PL[1, :4].tolist() == [START, 0xC3 + 1, 0xA9 + 1, END]
    assert token_PL[2, -1] == END
    assert token_PL[3, :3].tolist() == [START, END, 0]
    assert token_PL.max() < VOCABULARY
    assert embedded.clip_config()["model_cfg"]["text_cfg"]["vocab_size"] == VOCABULARY
    assert embedded.clip_config()["model_cfg"]["text_cfg"]["context_length"] == CONTEXT


def test_every_prompt_of_the_paper_fits() -> None:
    longest = max(len(template.replace("{}", phrase)) for template in TEMPLATES for phrase in PHRASES)
    assert longest <= CONTEXT - 2
    assert len("a photo of a person who looks ") + 45 <= CONTEXT - 2


def unit(value_ND: torch.Tensor) -> torch.Tensor:
    return torch.nn.functional.normalize(value_ND, dim=-1)


def test_pictures_of_unseen_people_lie_near_the_sentences_that_describe_them() -> None:
    encoder = image_encoder(ImageEncoderRecipe(model="embedded", weights="embedded"))
    pictures, affect = [], []
    for number in range(24):
        scene = Scene("test of the encoders", seed=0, number=number, seconds=20.0, surroundings="any")
        time_N = np.arange(0.5, 20, 3.5)
        pictures += [np.asarray(shot.crop()) for shot in scene.shots(time_N)]
        affect.append(scene.affect(time_N))
    truth_N2, regions = np.concatenate(affect), RegionRecipe()
    prototype_KD = unit(unit(encoder.encode_text(regions.prompts())).unflatten(0, (9, -1)).mean(1))
    similarity_NK = unit(encoder.encode(np.stack(pictures))) @ prototype_KD.T
    expected_N2 = (20 * similarity_NK).softmax(-1).double().numpy() @ regions.centres_K2()
    assert ccc(expected_N2[:, 0], truth_N2[:, 0]) > 0.5
    assert ccc(expected_N2[:, 1], truth_N2[:, 1]) > 0.3


@pytest.mark.parametrize(
    ("other", "phrase"),
    [("happy", PHRASES[7]), ("gloomy and worn out", PHRASES[0]), ("furious and agitated", PHRASES[2])],
)
def test_sentences_of_like_meaning_lie_together(other: str, phrase: str) -> None:
    encoder = image_encoder(ImageEncoderRecipe(model="embedded", weights="embedded"))
    query_1D = unit(encoder.encode_text([f"a face showing {other}"]))
    phrase_KD = unit(encoder.encode_text([f"a face showing {each}" for each in PHRASES]))
    assert PHRASES[int((phrase_KD @ query_1D[0]).argmax())] == phrase


def test_the_sound_tower_hears_pitch_and_loudness_step_by_step() -> None:
    encoder = audio_encoder(AudioEncoderRecipe(model="embedded", weights="embedded"))
    feature, target = [], []
    for number in range(24):
        scene = Scene("test of the encoders", seed=0, number=number, seconds=10.0, surroundings="familiar")
        embedding_SD = encoder.encode(torch.from_numpy(scene.sound())[None])[0].double().numpy()
        centre_S = (np.arange(len(embedding_SD)) + 0.5) * 10.24 / len(embedding_SD)
        inside = centre_S < 9.7
        feature.append(embedding_SD[inside])
        target.append(scene.speech.parameters(centre_S[inside])[:, 1:3])
    train, test = slice(0, 18), slice(18, 24)
    x, y = np.concatenate(feature[train]), np.concatenate(target[train])
    mean = x.mean(axis=0)
    weights = np.linalg.solve((x - mean).T @ (x - mean) + np.eye(x.shape[1]), (x - mean).T @ (y - y.mean(axis=0)))
    told, truth = (np.concatenate(feature[test]) - mean) @ weights + y.mean(axis=0), np.concatenate(target[test])
    assert ccc(told[:, 0], truth[:, 0]) > 0.6
    assert ccc(told[:, 1], truth[:, 1]) > 0.6


def test_they_say_what_they_are() -> None:
    assert "drawn faces" in embedded.NOTE
