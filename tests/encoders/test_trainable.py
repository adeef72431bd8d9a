"""The networks that learn are those that are frozen, and what is saved of them is read by the frozen ones' loaders."""

import numpy as np
import pytest
import torch
from open_clip.modified_resnet import ModifiedResNet

from vaprompt.encoders.recipes import AudioEncoderRecipe, ImageEncoderRecipe
from vaprompt.encoders.registry import audio_encoder, image_encoder
from vaprompt.encoders.trainable import TrainableAudio, TrainableImage
from vaprompt.media.logmel import log_mel

IMAGE = ImageEncoderRecipe(model="embedded", weights="embedded")
AUDIO = AudioEncoderRecipe(model="embedded", weights="embedded", window=2.0, steps=20)
LOGMEL = AudioEncoderRecipe(kind="logmel", window=2.0, steps=64)


def pictures(size: int, count: int = 3) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, size, size, 3), dtype=np.uint8)


def sounds(seconds: float = 2.0) -> torch.Tensor:
    return 0.1 * torch.randn(2, round(16000 * seconds), generator=torch.Generator().manual_seed(0))


def check_image(recipe: ImageEncoderRecipe, tolerance: float) -> None:
    learning, frozen = TrainableImage(recipe), image_encoder(recipe)
    assert learning.fingerprint == frozen.fingerprint
    assert learning.dim == frozen.dim
    picture_BSSC = pictures(frozen.fingerprint["size"])
    with torch.no_grad():
        embedding_BD = learning.eval()(torch.from_numpy(picture_BSSC))
    torch.testing.assert_close(embedding_BD, frozen.encode(picture_BSSC), atol=tolerance, rtol=tolerance)


def check_audio(recipe: AudioEncoderRecipe, seconds: float, tolerance: float) -> None:
    learning, frozen = TrainableAudio(recipe), audio_encoder(recipe)
    assert learning.fingerprint == frozen.fingerprint
    with torch.no_grad():
        embedding_BSD = learning.eval()(log_mel(sounds(seconds), learning.mel))
    torch.testing.assert_close(embedding_BSD, frozen.encode(sounds(seconds)), atol=tolerance, rtol=tolerance)


def test_they_embed_like_the_frozen_ones():
    check_image(IMAGE, 1e-5)
    check_audio(AUDIO, 2.0, 1e-5)
    check_audio(LOGMEL, 2.0, 1e-6)


@pytest.mark.slow
def test_they_embed_like_the_frozen_ones_at_full_size():
    check_image(ImageEncoderRecipe(weights="random:0"), 1e-4)
    check_audio(AudioEncoderRecipe(weights="random:0"), 10.0, 1e-4)


def test_what_was_changed_and_saved_is_what_a_recipe_loads(tmp_path):
    """Both towers: the text's, too, as the prompts of a store come from the same file."""
    seeing, hearing = TrainableImage(IMAGE).eval(), TrainableAudio(AUDIO).eval()
    with torch.no_grad():
        for network in (seeing.network.visual, hearing.network):
            for parameter in network.parameters():
                parameter.mul_(1.01)
    seeing.save(tmp_path / "image")
    hearing.save(tmp_path / "audio")
    image = image_encoder(IMAGE.model_copy(update={"weights": str(tmp_path / "image")}))
    audio = audio_encoder(AUDIO.model_copy(update={"weights": str(tmp_path / "audio")}))
    picture_BSSC = pictures(image.fingerprint["size"])
    mel_BFM = log_mel(sounds(), hearing.mel)
    with torch.no_grad():
        torch.testing.assert_close(image.encode(picture_BSSC), seeing(torch.from_numpy(picture_BSSC)))
        torch.testing.assert_close(audio.encode(sounds()), hearing(mel_BFM), atol=1e-5, rtol=1e-5)
    texts = ["a face showing joy", "a calm person"]
    torch.testing.assert_close(image.encode_text(texts), image_encoder(IMAGE).encode_text(texts))
    for before, after in ((seeing.fingerprint, image.fingerprint), (hearing.fingerprint, audio.fingerprint)):
        assert after["weights"].startswith("sha256:")
        assert {key for key in before if before[key] != after[key]} == {"weights"}


def test_saving_twice_gives_the_same_bytes(tmp_path):
    for name in ("a", "b"):
        TrainableImage(IMAGE).save(tmp_path / name)
    one, two = (sorted((tmp_path / name).iterdir()) for name in ("a", "b"))
    assert [path.read_bytes() for path in one] == [path.read_bytes() for path in two]


def test_a_transformers_parts_are_known_by_name():
    seeing = TrainableImage(ImageEncoderRecipe(model="ViT-S-32-alt", weights="random:0"))
    names = [name for name, _ in seeing.network.named_parameters() if name.startswith(seeing.anatomy.tower)]
    assert len(seeing.anatomy.blocks) == len(seeing.network.visual.transformer.resblocks)
    known = [name for name in names if name.startswith((*seeing.anatomy.blocks, *seeing.anatomy.behind))]
    # In front of the blocks stand the patches, the class token, the positions and a norm.
    assert sorted(set(names) - set(known)) == [
        "visual.class_embedding",
        "visual.conv1.weight",
        "visual.ln_pre.bias",
        "visual.ln_pre.weight",
        "visual.positional_embedding",
    ]
    assert isinstance(TrainableImage(IMAGE).network.visual, ModifiedResNet)
    assert len(TrainableImage(IMAGE).anatomy.blocks) == 4
