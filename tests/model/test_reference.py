"""Every module, the paper's and the released code's, against numpy references written from docs/method.md."""

import numpy as np
import pytest
import torch

from tests.model import reference
from vaprompt.model.estimator import Estimator, ModelRecipe
from vaprompt.model.fusion import Fusion, FusionRecipe, GatedFusion, ProjectedGatedFusion
from vaprompt.model.heads import HeadRecipe, RegressionHead
from vaprompt.model.prompts import ClipRegionHead, FusedRegionHead, PromptRecipe
from vaprompt.model.temporal import TemporalRecipe, temporal_encoder
from vaprompt.recipes import read_recipe, shipped, validated
from vaprompt.training.recipe import TrainRecipe

WIDTH, IMAGE, AUDIO, STEPS, SOUND, WINDOWS = 12, 10, 14, 5, 23, 3


def drawn(*shape: int, seed: int = 1) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def weights_of(module: torch.nn.Module) -> dict[str, np.ndarray]:
    """Return a module's weights in double precision, all of them stirred: many begin as zeros or ones."""
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(0.2 * torch.randn(parameter.shape, generator=generator))
    return {name: value.double().numpy() for name, value in module.state_dict().items()}


def close(found: torch.Tensor, expected: np.ndarray) -> None:
    np.testing.assert_allclose(found.detach().double().numpy(), expected, atol=2e-5, rtol=1e-4)


@pytest.mark.parametrize("kind", ["gru", "tcn"])
def test_temporal_encoders(kind):
    recipe = TemporalRecipe(kind=kind, units=9)
    module = torch.nn.Sequential(torch.nn.Linear(IMAGE, WIDTH), temporal_encoder(WIDTH, recipe)).eval()
    weights, sequence_TBI = weights_of(module), drawn(17, WINDOWS, IMAGE)
    found_TBD = module(sequence_TBI)
    for window in range(WINDOWS):
        expected = reference.temporal(weights, sequence_TBI[:, window].double().numpy(), recipe)
        close(found_TBD[:, window], expected)


@pytest.mark.parametrize("gate", ["linear", "projected"])
@pytest.mark.parametrize("kind", ["attention", "gated", "attention+gated"])
def test_fusion(kind, gate):
    recipe = FusionRecipe(kind=kind, gate=gate, heads=3, feedforward=20)
    module = Fusion(WIDTH, recipe).eval()
    weights, image_TBD, audio_SBD = weights_of(module), drawn(STEPS, WINDOWS, WIDTH), drawn(SOUND, WINDOWS, WIDTH)
    found_TBD = module(image_TBD, audio_SBD).sequence_TBD
    for window in range(WINDOWS):
        pair = (image_TBD[:, window].double().numpy(), audio_SBD[:, window].double().numpy())
        close(found_TBD[:, window], reference.fusion(weights, *pair, recipe))


@pytest.mark.parametrize(
    ("module", "expected"),
    [(GatedFusion, reference.paper_gate), (ProjectedGatedFusion, reference.released_gate)],
)
def test_gates(module, expected):
    gate = module(WIDTH)
    weights, attended_TBD, image_TBD = weights_of(gate), drawn(STEPS, 1, WIDTH), drawn(STEPS, 1, WIDTH, seed=2)
    fused_TBD, open_TBD = gate(attended_TBD, image_TBD)
    pair = (attended_TBD[:, 0].double().numpy(), image_TBD[:, 0].double().numpy())
    close(fused_TBD[:, 0], expected(weights, *pair))
    assert 0 < open_TBD.min() < open_TBD.max() < 1


@pytest.mark.parametrize("output", ["window", "sequence"])
def test_the_valence_arousal_head(output):
    module = RegressionHead(WIDTH, HeadRecipe(output=output, hidden=7)).eval()
    weights, fused_TBD = weights_of(module), drawn(STEPS, WINDOWS, WIDTH)
    found = module(fused_TBD)
    for window in range(WINDOWS):
        expected = reference.head(weights, fused_TBD[:, window].double().numpy(), sequence=output == "sequence")
        close(found[window], expected)


@pytest.mark.parametrize(("semantic", "scale"), [("fused", 10.0), ("clip", 10.0), ("clip", 3.0)])
def test_region_heads(semantic, scale):
    recipe = PromptRecipe(semantic=semantic, scale=scale)
    prototype_KE = torch.nn.functional.normalize(drawn(9, IMAGE, seed=3), dim=-1)
    module = (
        FusedRegionHead(WIDTH, prototype_KE, recipe) if semantic == "fused" else ClipRegionHead(prototype_KE, recipe)
    )
    weights, fused_TBD, image_TBI = weights_of(module), drawn(STEPS, WINDOWS, WIDTH), drawn(STEPS, WINDOWS, IMAGE)
    found_BK = module(fused_TBD, image_TBI)
    for window in range(WINDOWS):
        pair = (fused_TBD[:, window].double().numpy(), image_TBI[:, window].double().numpy())
        close(found_BK[window], reference.regions(weights, *pair, recipe))
    assert bool(list(module.parameters())) == (semantic == "fused"), "as released, nothing is learned"


@pytest.mark.parametrize("name", ["paper", "literal"])
@pytest.mark.parametrize("temporal", ["gru", "tcn"])
@pytest.mark.parametrize("output", ["window", "sequence"])
def test_the_whole_network_of_each_recipe(name, temporal, output):
    """The shipped recipe at a smaller width: which module follows which, and which variant it names."""
    shipped_recipe = read_recipe(TrainRecipe, shipped("train", name)).model
    assert shipped_recipe.fusion.gate == ("linear" if name == "paper" else "projected")
    assert shipped_recipe.prompt.semantic == ("fused" if name == "paper" else "clip")
    fields = shipped_recipe.model_dump()
    fields |= {"width": WIDTH}
    fields["temporal"] |= {"kind": temporal, "units": 8}
    fields["fusion"] |= {"feedforward": 20}
    fields["head"] |= {"hidden": 6, "output": output}
    recipe = validated(ModelRecipe, fields, where="test")
    prototype_KE = torch.nn.functional.normalize(drawn(9, IMAGE, seed=3), dim=-1)
    estimator = Estimator(recipe, image_dim=IMAGE, audio_dim=AUDIO, prototype_KE=prototype_KE).eval()
    weights = weights_of(estimator)
    image_BTI, audio_BSA = drawn(WINDOWS, STEPS, IMAGE), drawn(WINDOWS, SOUND, AUDIO)
    found = estimator(image_BTI, audio_BSA)
    for window in range(WINDOWS):
        pair = (image_BTI[window].double().numpy(), audio_BSA[window].double().numpy())
        value, region_K = reference.estimate(weights, *pair, recipe)
        close(found.value[window], value)
        close(found.region_BK[window], region_K)


def test_the_literal_recipe_differs_from_the_papers_where_it_says_so():
    paper, literal = (read_recipe(TrainRecipe, shipped("train", name)).model_dump() for name in ("paper", "literal"))
    assert differences(paper, literal) == {"model.fusion.gate", "model.prompt.semantic"}


def differences(one, two, key="") -> set[str]:
    if isinstance(one, dict):
        return set().union(*(differences(one[name], two[name], f"{key}.{name}".strip(".")) for name in one))
    return set() if one == two else {key}
