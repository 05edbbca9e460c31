"""SAM as a config: the recipe's words, what is refused, and its cost wherever one is told."""

import types

import pytest

from configs import imagenet, quickstart
from mixer.errors import BadInput
from mixer.runs import estimate
from mixer.runs.bill import Work
from mixer.runs.plan import planned_step


def config(**asked):
    found = quickstart.get_config("smoke", "plan")
    found.sam.update(asked)
    return found


def test_the_words_of_the_recipe():
    plain, sam, gsam = (imagenet.get_config(f"{word}Mixer-B/16") for word in ("", "sam,", "gsam,"))
    assert not plain.sam.rho and sam.sam.rho == 0.6 and sam.sam.rho_min is None
    assert gsam.sam.to_dict() == {"rho": 0.5, "rho_min": 0.2, "alpha": 0.01}
    # big_vision's configs/proj/gsam/vit_i1k_gsam_no_aug.py.
    theirs = imagenet.get_config("gsam,ViT-B/32")
    assert theirs.sam.to_dict() == {"rho": 0.6, "rho_min": 0.1, "alpha": 0.6}
    assert (theirs.schedule.base, theirs.schedule.end) == (0.003, 0.003 * 0.01)
    assert theirs.optimizer.weight_decay == 0.3 and theirs.input.transform.count("|") == 1
    assert not theirs.mixup and not theirs.model.dropout
    with pytest.raises(BadInput, match="value for sam 'Mixer-L/16'.*Known: Mixer-B/16.*sam.rho"):
        imagenet.get_config("sam,Mixer-L/16")


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"rho": -1.0}, r"config.sam.rho=-1.0: expected 0 <= sam.rho"),
        ({"rho": 0.1, "alpha": -1.0}, r"config.sam.alpha=-1.0: expected 0 <="),
        ({"rho": 0.1, "rho_min": 0.2}, r"rho_min=0.2: expected 0 <= rho_min <= 0.1, rho"),
    ],
)
def test_bad_values_are_refused(asked, message, data_dir):
    with pytest.raises(BadInput, match=message):
        planned_step(config(**asked))


def test_a_rho_that_follows_a_constant_rate_is_refused(data_dir):
    asked = config(rho=0.1, rho_min=0.0)
    planned_step(asked)
    asked.schedule.decay = "constant"
    with pytest.raises(BadInput, match="which it does not do here: leave it out"):
        planned_step(asked)


def test_flops_and_estimates_count_both_passes(data_dir):
    plain, twice = planned_step(config()), planned_step(config(rho=0.1))
    assert twice.update.flops_per_image == 2 * plain.update.flops_per_image
    assert (plain.work.passes, twice.work.passes) == (1, 2)
    one, two = (imagenet.get_config(f"{word}Mixer-S/32", "plan") for word in ("", "sam,"))
    core = types.SimpleNamespace(device_kind="TPU v3", num_cores=1, platform="tpu")
    rates = [estimate.images_per_second(asked, [core] * 128) for asked in (one, two)]
    # The optimizer's part of a step does not double.
    assert 1.8 * rates[1] < rates[0] < 2 * rates[1]


def test_an_evaluation_costs_as_much_as_without():
    done = dict(steps=10, batch_size=100, evaluated=3000, unknown=())
    plain, twice = Work(**done).bill(1.0, 1, 0.0), Work(**done, passes=2).bill(2.0, 1, 0.0)
    assert plain.hours * 3600 == pytest.approx(10 + 10)
    assert twice.hours * 3600 == pytest.approx(20 + 10)
