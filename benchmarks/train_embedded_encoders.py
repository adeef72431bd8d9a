"""Trains the miniature CLIP and the miniature AST that come with the package, on drawn faces and made-up voices alone.

    python benchmarks/train_embedded_encoders.py [--out DIR] [--seed 0] [--only clip|ast] [--share 1.0] [--threads N]

Pictures are trained against the regions' sentences (soft targets by the distance in the valence-arousal plane, as in
the paper's section 3.3), and besides to tell the expression's parameters, so that the embedding keeps more than the
regions. Sound is trained to tell the voice's parameters at each of its time steps. The people come from the namespace
"encoders" of the generator and so occur in no data set. The same seed and one thread give the same weights on like
processors; all takes about three quarters of an hour on two idle cores. Figures on people held out are printed and
written to embedded_encoders.json beside this script.

Axes: N pictures or sounds, H, W pixels, K regions, D embedding, E expression parameters, L samples, F frames of 10 ms,
M mel bins, S time steps, P voice parameters.
"""

from __future__ import annotations

import argparse
import json
import math
import multiprocessing
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import open_clip
import torch
import torch.nn.functional as nnf
from PIL import Image
from safetensors.torch import save_file
from sentences import TRAINING_TEMPLATES, paraphrases
from torch import Tensor, nn
from transformers import ASTConfig, ASTModel

from vaprompt.datasets.synthetic.scene import CROP, Scene
from vaprompt.datasets.synthetic.speech import PARAMETERS
from vaprompt.encoders import embedded
from vaprompt.media.logmel import log_mel
from vaprompt.metrics import ccc
from vaprompt.regions import PHRASES, TEMPLATES, RegionRecipe, soft_labels

NAMESPACE = "encoders"
EXPRESSION = ("valence", "arousal", "smile", "mouth_open", "brow_raise", "brow_tilt", "eye_open", "cheek")
FIRST_LISTENER = 1_000_000
"""Sounds are of other people than pictures."""
WINDOW = 10.0
"""Seconds of sound the AST is given."""
SLACK = 3.0
"""Seconds by which a drawn sound is longer than a window, so that windows begin anywhere."""
Draw = Callable[[int, int, int], tuple[np.ndarray, np.ndarray]]
"""Draws examples from seed, person and count; returns them and what is to be told of them."""


def main() -> None:
    """Train both, write weights and figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path(embedded.__file__).parent, help="folder of the weights")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", choices=("clip", "ast"), help="train one of the two")
    parser.add_argument("--share", type=float, default=1.0, help="part of the people and steps, for a quick look")
    parser.add_argument("--threads", type=int, default=1, help="of the training; 1 made the shipped weights")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.use_deterministic_algorithms(True)
    options.out.mkdir(parents=True, exist_ok=True)

    report_file = Path(__file__).with_name("embedded_encoders.json")
    for name, train in (("clip", train_clip), ("ast", train_ast)):
        if options.only in (None, name):
            started = time.perf_counter()
            torch.manual_seed(options.seed)
            weights, figures = train(options.seed, options.share)
            figures["minutes"] = round((time.perf_counter() - started) / 60, 1)
            target = options.out / f"{name}.safetensors"
            save_file(weights, target, metadata={"made by": Path(__file__).name})
            target.chmod(0o644)
            print(json.dumps({name: figures}, indent=2), flush=True)
            if options.share == 1.0:
                report = json.loads(report_file.read_text(encoding="utf-8")) if report_file.exists() else {}
                report_file.write_text(json.dumps({**report, name: figures}, indent=2) + "\n", encoding="utf-8")


# --- pictures ---------------------------------------------------------------------------------------------------


def draw_pictures(seed: int, person: int, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Return `count` pictures of one person, uint8 (N H W 3), and its expression parameters (N E)."""
    scene = Scene(NAMESPACE, seed=seed, number=person, seconds=20.0, surroundings="any")
    random = np.random.default_rng([seed, person])
    time_N = np.sort(random.uniform(0, scene.seconds, count))
    affect_N2 = scene.affect(time_N)
    picture_NHWC = np.empty((count, CROP, CROP, 3), np.uint8)
    parameter_NE = np.empty((count, len(EXPRESSION)), np.float32)
    for row, (shot, seen) in enumerate(zip(scene.shots(time_N), scene.expressions(time_N), strict=True)):
        # A quarter as whole video frames, which `predict` may be given: smaller faces, more of the room.
        picture_NHWC[row] = np.asarray(shot.crop()) if random.random() < 0.75 else whole_frame(shot.rgb_HWC)
        parameter_NE[row] = (*affect_N2[row], *(getattr(seen, name) for name in EXPRESSION[2:]))
    return picture_NHWC, parameter_NE


def whole_frame(rgb_HWC: np.ndarray) -> np.ndarray:
    """Return the middle square of a video frame as the encoder would be given it."""
    height, width, _ = rgb_HWC.shape
    left = (width - height) / 2
    box = (left, 0, left + height, height)
    return np.asarray(Image.fromarray(rgb_HWC).resize((CROP, CROP), Image.Resampling.BICUBIC, box=box))


def drawn(draw: Draw, seed: int, first: int, people: int, count: int) -> tuple[Tensor, Tensor]:
    """Draw everybody on all processors; return what `draw` returns, joined."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(mp_context=context) as pool:
        numbers = range(first, first + people)
        parts = list(pool.map(draw, [seed] * people, numbers, [count] * people, chunksize=16))
    return tuple(torch.from_numpy(np.concatenate(arrays)) for arrays in zip(*parts, strict=True))


def normalised(picture_NHWC: Tensor) -> Tensor:
    """Return pictures (N 3 H W) as the image tower takes them."""
    settings = embedded.clip_config()["preprocess_cfg"]
    mean, std = (torch.tensor(settings[key]).view(1, 3, 1, 1) for key in ("mean", "std"))
    picture_NCHW = (picture_NHWC.permute(0, 3, 1, 2).float() / 255 - mean) / std
    return picture_NCHW.contiguous(memory_format=torch.channels_last)


def varied(picture_NHWC: Tensor, generator: torch.Generator) -> Tensor:
    """Return a batch of pictures shifted by a few pixels, mirrored half the time, in other light."""
    count, height, width, _ = picture_NHWC.shape
    margin = 6
    padded = nnf.pad(picture_NHWC.permute(0, 3, 1, 2).float(), (margin,) * 4, mode="replicate")
    out = torch.empty(count, 3, height, width)
    shift_N2 = torch.randint(0, 2 * margin + 1, (count, 2), generator=generator).tolist()
    mirror_N = (torch.rand(count, generator=generator) < 0.5).tolist()
    for row, ((down, right), mirrored) in enumerate(zip(shift_N2, mirror_N, strict=True)):
        cut = padded[row, :, down : down + height, right : right + width]
        out[row] = cut.flip(2) if mirrored else cut
    light = 1 + 0.3 * (torch.rand(count, 1, 1, 1, generator=generator) - 0.5)
    tint = 1 + 0.1 * (torch.rand(count, 3, 1, 1, generator=generator) - 0.5)
    return (out * light * tint).clamp(0, 255).permute(0, 2, 3, 1)


def train_clip(seed: int, share: float) -> tuple[dict[str, Tensor], dict[str, object]]:
    """Train image and text tower together; return fp16 weights and figures on people held out."""
    people, held, each, steps, batch = int(2000 * share), 120, 16, int(1200 * share), 128
    picture_NHWC, parameter_NE = drawn(draw_pictures, seed, 0, people + held, each)
    print(f"drew {len(picture_NHWC)} pictures", flush=True)
    known = people * each
    # A third faster on a processor than the usual order of the axes.
    model = open_clip.CLIP(**embedded.clip_config()["model_cfg"]).to(memory_format=torch.channels_last)
    teller = nn.Linear(embedded.clip_config()["model_cfg"]["embed_dim"], len(EXPRESSION))
    mean_E, std_E = parameter_NE[:known].mean(0), parameter_NE[:known].std(0)
    target_NK = torch.from_numpy(soft_labels(parameter_NE[:, :2].numpy().astype(np.float64))).float()
    optimiser, schedule = optimiser_for([model, teller], steps, rate=2e-3)

    generator = torch.Generator().manual_seed(seed)
    random = np.random.default_rng(seed)
    model.train()
    for step in range(steps):
        row_N = torch.randint(0, known, (batch,), generator=generator)
        image_ND = model.encode_image(normalised(varied(picture_NHWC[row_N], generator)))
        text_KD = model.encode_text(embedded.tokenize(sentences(random)))
        logit_NK = model.logit_scale.exp() * nnf.normalize(image_ND, dim=-1) @ nnf.normalize(text_KD, dim=-1).T
        alignment = nnf.kl_div(logit_NK.log_softmax(-1), target_NK[row_N], reduction="batchmean")
        told = nnf.mse_loss(teller(image_ND), (parameter_NE[row_N] - mean_E) / std_E)
        optimiser.zero_grad()
        (alignment + told).backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        schedule.step()
        if step % 50 == 0 or step == steps - 1:
            print(f"clip {step}/{steps} alignment {alignment.item():.3f} told {told.item():.3f}", flush=True)

    weights = halved(model)
    model.load_state_dict({name: value.float() for name, value in weights.items()})
    figures = judged_clip(model.eval(), picture_NHWC[known:], parameter_NE[known:])
    return weights, {"people": people, "pictures": known, "steps": steps, "held out": figures}


def sentences(random: np.random.Generator) -> list[str]:
    """Return one sentence a region: half the time the paper's own words, else a paraphrase."""
    chosen = []
    for phrase in PHRASES:
        other = paraphrases(phrase)
        words = phrase if random.random() < 0.5 else other[random.integers(len(other))]
        pool = TEMPLATES if random.random() < 0.7 else TRAINING_TEMPLATES
        chosen.append(pool[random.integers(len(pool))].replace("{}", words))
    return chosen


@torch.inference_mode()
def judged_clip(model: nn.Module, picture_NHWC: Tensor, parameter_NE: Tensor) -> dict[str, float]:
    """Return how well single pictures of people held out are told by the nearest sentences, untrained ("zero-shot")."""
    regions = RegionRecipe()
    text_PD = nnf.normalize(model.encode_text(embedded.tokenize(regions.prompts())), dim=-1)
    text_KD = nnf.normalize(text_PD.unflatten(0, (-1, len(TEMPLATES))).mean(1), dim=-1)
    image_ND = torch.cat([model.encode_image(normalised(part)) for part in picture_NHWC.split(256)])
    logit_NK = model.logit_scale.exp() * nnf.normalize(image_ND, dim=-1) @ text_KD.T
    truth_N2, centre_K2 = parameter_NE[:, :2].double().numpy(), regions.centres_K2()
    expected_N2 = logit_NK.softmax(-1).double().numpy() @ centre_K2
    nearest_N = np.square(truth_N2[:, None] - centre_K2).sum(-1).argmin(1)
    return {
        "pictures": len(picture_NHWC),
        "region accuracy": round(float((logit_NK.argmax(-1).numpy() == nearest_N).mean()), 3),
        "ccc valence": round(float(ccc(expected_N2[:, 0], truth_N2[:, 0])), 3),
        "ccc arousal": round(float(ccc(expected_N2[:, 1], truth_N2[:, 1])), 3),
    }


# --- sounds -----------------------------------------------------------------------------------------------------


def draw_sound(seed: int, person: int, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Return one person's sound as log-Mel picture, float16 (1 F M), and its parameters 100 times a second (1 F P)."""
    torch.set_num_threads(1)
    seconds = WINDOW + SLACK
    scene = Scene(NAMESPACE, seed=seed, number=FIRST_LISTENER + person, seconds=seconds, surroundings="any")
    recipe = embedded.log_mel_recipe().model_copy(update={"frames": count})
    mel_NFM = log_mel(torch.from_numpy(scene.sound())[None], recipe)
    centre_F = np.arange(count) / 100 + 0.0125
    return mel_NFM.half().numpy(), scene.speech.parameters(centre_F)[None].astype(np.float32)


def train_ast(seed: int, share: float) -> tuple[dict[str, Tensor], dict[str, object]]:
    """Train the sound tower; return fp16 weights and figures on people held out."""
    people, held, steps, batch = int(1800 * share), 150, int(1500 * share), 16
    frames = round((WINDOW + SLACK) * 100) - 2
    mel_NFM, parameter_NFP = drawn(draw_sound, seed, 0, people + held, frames)
    print(f"drew {len(mel_NFM)} sounds", flush=True)
    model = ASTModel(ASTConfig(**embedded.ast_config()))
    teller = nn.Linear(embedded.ast_config()["hidden_size"], len(PARAMETERS))
    mean_P, std_P = parameter_NFP[:people].mean((0, 1)), parameter_NFP[:people].std((0, 1))
    optimiser, schedule = optimiser_for([model, teller], steps, rate=1.2e-3)

    generator = torch.Generator().manual_seed(seed)
    model.train()
    for step in range(steps):
        row_N = torch.randint(0, people, (batch,), generator=generator)
        mel_NSM, parameter_NSP, heard_NS = windows(mel_NFM[row_N], parameter_NFP[row_N], generator)
        error_NSP = (teller(steps_of(model, mel_NSM)) - (parameter_NSP - mean_P) / std_P).square()
        told = (error_NSP.mean(-1) * heard_NS).sum() / heard_NS.sum()
        optimiser.zero_grad()
        told.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        schedule.step()
        if step % 50 == 0 or step == steps - 1:
            print(f"ast {step}/{steps} told {told.item():.3f}", flush=True)

    weights = halved(model)
    model.load_state_dict({name: value.float() for name, value in weights.items()})
    figures = judged_ast(model.eval(), teller, mel_NFM[people:], parameter_NFP[people:], mean_P, std_P)
    return weights, {"people": people, "steps": steps, "held out": figures}


def windows(mel_NFM: Tensor, parameter_NFP: Tensor, generator: torch.Generator | None) -> tuple[Tensor, Tensor, Tensor]:
    """Return 10 s of each sound padded to the AST's length, each time step's mean parameters, and which steps to score.

    With a generator, windows begin anywhere, and a third begin with digital silence, as those at a video's start do.
    """
    recipe = embedded.log_mel_recipe()
    count, inside, width = len(mel_NFM), 998, embedded.ast_config()["time_stride"]
    zero, silence = (
        -recipe.mean / (2 * recipe.std),
        (math.log(torch.finfo(torch.float32).eps) - recipe.mean) / (2 * recipe.std),
    )
    out = torch.full((count, recipe.frames, recipe.bins), zero)
    parameter = torch.zeros(count, recipe.frames, parameter_NFP.shape[-1])
    heard = torch.zeros(count, recipe.frames)
    slack = mel_NFM.shape[1] - inside + 1
    for row in range(count):
        start = 0 if generator is None else int(torch.randint(0, slack, (1,), generator=generator))
        quiet = 0
        if generator is not None and torch.rand(1, generator=generator) < 0.33:
            quiet = int(torch.randint(0, inside, (1,), generator=generator))
        out[row, :inside] = mel_NFM[row, start : start + inside].float()
        out[row, :quiet] = silence
        parameter[row, :inside] = parameter_NFP[row, start : start + inside]
        heard[row, quiet:inside] = 1

    def by_step(value: Tensor) -> Tensor:
        return value.unflatten(1, (-1, width)).mean(2)

    return out, by_step(parameter), (by_step(heard[..., None])[..., 0] == 1).float()


def steps_of(model: ASTModel, mel_NFM: Tensor) -> Tensor:
    """Return one embedding a time step (N S D): the mean over the frequency bands of its patches."""
    patch_NPD = model(mel_NFM).last_hidden_state[:, 2:]
    bands = embedded.ast_config()["num_mel_bins"] // embedded.ast_config()["frequency_stride"]
    return patch_NPD.unflatten(1, (bands, -1)).mean(1)


@torch.inference_mode()
def judged_ast(
    model: ASTModel, teller: nn.Linear, mel_NFM: Tensor, parameter_NFP: Tensor, mean_P: Tensor, std_P: Tensor
) -> dict[str, float]:
    """Return the share of each voice parameter's variance that is told for people held out."""
    told, truth = [], []
    for mel, parameter in zip(mel_NFM.split(16), parameter_NFP.split(16), strict=True):
        mel_NSM, parameter_NSP, heard_NS = windows(mel, parameter, None)
        told.append((teller(steps_of(model, mel_NSM)) * std_P + mean_P)[heard_NS > 0])
        truth.append(parameter_NSP[heard_NS > 0])
    told_TP, truth_TP = torch.cat(told), torch.cat(truth)
    unexplained_P = (told_TP - truth_TP).square().mean(0) / truth_TP.var(0, correction=0)
    return {f"r2 {name}": round(1 - float(left), 3) for name, left in zip(PARAMETERS, unexplained_P, strict=True)}


# --- both -------------------------------------------------------------------------------------------------------


def optimiser_for(
    modules: list[nn.Module], steps: int, *, rate: float
) -> tuple[torch.optim.Optimizer, torch.optim.lr_scheduler.LRScheduler]:
    """Return AdamW, and a learning rate that rises over a twentieth of the steps and falls to zero as a cosine."""
    parameters = [parameter for module in modules for parameter in module.parameters()]
    groups = [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": 0.05},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]
    optimiser = torch.optim.AdamW(groups, lr=rate, betas=(0.9, 0.98))
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, rate, total_steps=steps, pct_start=0.05, cycle_momentum=False
    )
    return optimiser, schedule


def halved(model: nn.Module) -> dict[str, Tensor]:
    """Return the weights in half precision, as they are shipped."""
    return {name: value.half().contiguous() for name, value in model.state_dict().items()}


if __name__ == "__main__":
    main()
