"""Which runs form a curve, and which cannot be in one figure."""

import dataclasses

import numpy as np
import pytest

from mixer import errors
from mixer.paper import series
from mixer.paper.matching import Result

METRICS = {"test/top1": 0.5, "test/nll": 2.0}


def training(path, model="Mixer", seed=0, metrics=METRICS, recipe="data_scaling", **config):
    config = {key.replace("__", "."): value for key, value in config.items()}
    given = {
        "dataset": "cifar10",
        "image_size": [32, 32],
        "input.fraction": 1.0,
        "input.transform": "flip_lr",
        "evaluators.test.transform": "resize",
        "model.name": model,
        "total": "10 steps",
        "runtime.threads": seed,
        "seed": seed,
    }
    results = {"run": "train", "model": model, "seed": seed, "upstream": None, "metrics": metrics}
    results["protocol"] = f"{recipe}:{model}"
    return Result(path, results, given | config)


def part(share, top1, seed=0, **more):
    path = f"{more.get('model', 'Mixer')}-{share}-{seed}"
    metrics = METRICS | {"test/top1": top1}
    seeds = {} if share == 1 else {"input__fraction_seed": 0}
    return training(path, seed=seed, metrics=metrics, input__fraction=share, **seeds, **more)


def test_shares_become_a_curve_with_means_and_deviations():
    runs = [part(1.0, 0.8), part(0.1, 0.4), part(0.1, 0.6, seed=1), part(0.03, 0.2)]
    lines, measure = series.by_share(runs)
    assert measure == "Top-1 on test images"
    line = lines["Mixer"]
    np.testing.assert_allclose(line.x, [0.03, 0.1, 1])
    np.testing.assert_allclose(line.mean, [20, 50, 80])
    np.testing.assert_allclose(line.std, [np.nan, 10 * 2**0.5, np.nan])


def few_shot_of(run, name="fewshot", **metrics):
    upstream = run and {"path": run.path}
    results = {"run": "fewshot", "model": "Mixer", "upstream": upstream, "metrics": metrics}
    return Result(f"{run and run.path}-{name}", results, {})


def test_few_shot_accuracy_is_preferred_even_from_separate_runs():
    runs = [part(1.0, 0.8), part(0.1, 0.4)]
    metric = "fewshot/imagenet2012/5shot"
    few_shot = [few_shot_of(run, **{metric: 0.1 + i / 10}) for i, run in enumerate(runs)]
    neighbours = [few_shot_of(run, "knn", **{"knn/imagenet2012/10nn": 0.9}) for run in runs]
    untrained = few_shot_of(None, **{metric: 0.01})
    lines, measure = series.by_share([*runs, *few_shot, *neighbours, untrained])
    assert measure == "Linear 5-shot top-1 on imagenet2012"
    np.testing.assert_allclose(lines["Mixer"].mean, [20, 10])
    assert series.by_share([*runs, few_shot[0]])[1] == "Top-1 on test images"  # which both have
    again = few_shot_of(runs[0], "again", **{metric: 0.7})
    with pytest.raises(errors.BadInput, match="Mixer-1.0-0-fewshot and Mixer-1.0-0-again both"):
        series.by_share([*runs, *few_shot, again])


def test_a_lambda_is_no_accuracy():
    chosen = {"fewshot/l2/5shot": 1024.0}
    runs = [training(f"{x}", metrics=METRICS | chosen, input__fraction=x) for x in (0.1, 1.0)]
    assert series.by_share(runs)[1] == "Top-1 on test images"


def test_runs_that_cannot_be_compared_are_refused():
    two = [part(1.0, 0.8), part(0.1, 0.4)]
    longer = [part(1.0, 0.8, total="20 steps"), part(0.1, 0.4, total="20 steps")]
    with pytest.raises(errors.BadInput, match="one curve: .* has total='10 steps', .*'20 steps'"):
        series.by_share([*two, *longer])
    others = [part(share, 0.5, model="ViT", dataset="svhn_cropped") for share in (1.0, 0.1)]
    with pytest.raises(errors.BadInput, match="in one figure: .*dataset='cifar10', .*'svhn_cropp"):
        series.by_share([*two, *others])
    with pytest.raises(errors.BadInput, match="again are the same training with seed 0"):
        series.by_share([*two, dataclasses.replace(two[0], path="again")])
    with pytest.raises(errors.BadInput, match="not all have. All have: train/loss"):
        series.by_share(
            [
                dataclasses.replace(r, results=r.results | {"metrics": {"train/loss": 1}})
                for r in two
            ]
        )
    for alone in ([], two[:1], [two[0], longer[1]]):
        with pytest.raises(series.Absent, match="on two parts of a set, otherwise equal: none in"):
            series.by_share(alone)


def test_a_model_trained_only_on_all_images_is_left_out():
    other = part(1.0, 0.9, model="ViT", dataset="svhn_cropped")
    assert list(series.by_share([part(1.0, 0.8), part(0.1, 0.4), other])[0]) == ["Mixer"]


MOVES = {
    "original": "",
    "patches": "|permute_patches(4)",
    "pixels": "|permute_pixels",
}


def moved(case, seed=0, model="Mixer", evaluated=None, **more):
    transforms = {
        "input__transform": f"flip_lr{MOVES[case]}",
        "evaluators__test__transform": f"resize{MOVES[evaluated or case]}",
    }
    return training(f"{model}-{case}-{seed}", model, seed, **(transforms | more))


def log_of(result):
    """metrics.jsonl with evaluations at steps 10 and 20, for seed 1 also at 15, and other lines."""
    at = (10, 15, 20) if result.results["seed"] else (10, 20)
    yield {"step": 5, "train/loss": 1.0}
    for step in at:
        yield {"step": step, "test/top1": step / 100 + result.results["seed"] / 10}


def test_cases_become_curves_at_the_steps_of_all_seeds():
    runs = [moved(case, seed) for case in ("pixels", "original", "patches") for seed in (0, 1)]
    runs.append(moved("original", model="Lonely"))  # in one case alone
    curves, moves, size, measure = series.by_case(runs, log_of)
    assert list(curves) == [("Mixer", case) for case in MOVES]
    assert moves == {case: move.strip("|") for case, move in MOVES.items()} and size == (32, 32)
    line = curves["Mixer", "patches"]
    np.testing.assert_array_equal(line.x, [10, 20])
    np.testing.assert_allclose(line.mean, [15, 25])
    np.testing.assert_allclose(line.std, [10 / 2**0.5] * 2)
    assert measure == "Top-1 on test images"


def test_an_evaluation_with_another_permutation_is_refused():
    runs = [moved("original"), moved("patches", evaluated="original")]
    with pytest.raises(
        errors.BadInput, match=r"trained with permute_patches\(4\) and .* measures with none"
    ):
        series.by_case(runs, log_of)


def test_two_kinds_of_one_case_are_refused():
    other = "|permute_patches(8)"
    runs = [
        moved("original"),
        moved("patches"),
        moved(
            "patches",
            input__transform=f"flip_lr{other}",
            evaluators__test__transform=f"resize{other}",
        ),
    ]
    with pytest.raises(errors.BadInput, match="Mixer: several kinds of permute_patches"):
        series.by_case(runs, log_of)
    with pytest.raises(series.Absent, match="on two cases, moved or not, otherwise equal: none in"):
        series.by_case(runs[:1], log_of)


def ablated(model, top1, seed=0, recipe="ablations", **config):
    metrics = METRICS | {"test/top1": top1}
    return training(f"{model}-{seed}", model, seed, metrics, recipe, model__hidden_dim=8, **config)


def test_variants_are_compared_with_the_mixer():
    grouped = ablated("GroupedMixer-S/32", 0.7, model__token_mixing="grouped", model__groups=4)
    runs = [
        grouped,
        ablated("Mixer-S/32", 0.5),
        ablated("Mixer-S/32", 0.6, seed=1),
        ablated("Mixer-S/32", 0.9, recipe="imagenet"),  # no part of it
    ]
    found, measure = series.by_model(runs)
    assert measure == "Top-1 on test images" and list(found) == ["Mixer-S/32", "GroupedMixer-S/32"]
    np.testing.assert_allclose(found["Mixer-S/32"], (55, 10 / 2**0.5))
    np.testing.assert_allclose(found["GroupedMixer-S/32"], (70, np.nan))
    assert series.by_model([part(1.0, 0.8)]) == ({}, "")


@pytest.mark.parametrize(
    ("runs", "message"),
    [
        ([ablated("UntiedMixer-S/32", 0.5)], "UntiedMixer-S/32 with the Mixer of the same size"),
        ([ablated("Mixer-S/32", 0.5), ablated("Mixer-S/32", 0.6)], "the same training with seed 0"),
        (
            [ablated("Mixer-S/32", 0.5), ablated("ViewsMixer-S/32", 0.6, total="20 steps")],
            "only in token mixing: .* has total='10 steps', .* total='20 steps'",
        ),
    ],
)
def test_runs_that_are_no_ablation_are_refused(runs, message):
    with pytest.raises(errors.BadInput, match=message):
        series.by_model(runs)
