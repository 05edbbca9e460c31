import itertools
import pickle

import numpy as np
import pytest

from mixer import errors
from mixer.data import sources
from mixer.data.sources.subset import Subset, fraction_of


class Numbers:
    """Example i has label i."""

    name, split = "numbers", "train"

    def __init__(self, size=1000):
        self.classes = range(size)

    def __len__(self):
        return len(self.classes)

    def __getitem__(self, index):
        return {"image": b"", "label": self.classes[index]}

    def where(self, index):
        return f"numbers, example {index}"


def labels(source):
    return [source[i]["label"] for i in range(len(source))]


FRACTIONS = (0.001, 0.03, 0.1, 0.3, 0.55, 0.999, 1.0)


@pytest.mark.parametrize("seed", range(5))
def test_smaller_parts_lie_within_larger_ones(seed):
    parts = [labels(fraction_of(Numbers(), fraction, seed)) for fraction in FRACTIONS]
    for fraction, part in zip(FRACTIONS, parts, strict=True):
        assert len(part) == len(set(part)) == round(fraction * 1000)
    for small, large in itertools.pairwise(parts):
        assert set(small) < set(large)
        steps = np.diff(small) % 1000
        assert (steps == 1).all(), "a range, which may wrap around"


def test_seeds_determine_where_it_starts():
    starts = [labels(fraction_of(Numbers(), 0.03, seed))[0] for seed in range(400)]
    counts = np.bincount(np.array(starts) // 100, minlength=10)
    assert (np.abs(counts - 40) < 4 * np.sqrt(40)).all()
    wrapped = [labels(fraction_of(Numbers(), 0.5, seed)) for seed in range(20)]
    assert any(0 in part[1:] for part in wrapped), "some wrap around to the beginning"


def test_a_part_has_the_attributes_of_the_whole(data_dir):
    whole = sources.open_source("jft", "full", data_dir)
    part = pickle.loads(pickle.dumps(fraction_of(whole, 0.5, 3)))
    assert (part.name, part.split, part.max_labels) == ("jft", "full", 3)
    assert tuple(part.classes) == whole.classes
    names = [whole.where(i) for i in range(len(whole))]
    for i in range(len(part)):
        at = names.index(part.where(i))
        assert part[i]["image"] == whole[at]["image"]
        assert list(part[i]["label"]) == list(whole[at]["label"])
    assert sources.max_labels(fraction_of(Numbers(), 0.5, 0)) == 0


def test_fingerprints_distinguish_parts(image_folder):
    whole = sources.open_source(f"folder:{image_folder}", "train")
    seeds = [fraction_of(whole, 0.5, seed) for seed in (0, 1)]
    sizes = [fraction_of(whole, fraction, 0) for fraction in (0.4, 0.6)]
    prints = {sources.fingerprint(source) for source in (whole, *seeds, *sizes)}
    assert len(prints) == 5
    assert fraction_of(whole, 1.0, 7) is whole
    assert sources.fingerprint(fraction_of(whole, 0.5, 0)) == sources.fingerprint(seeds[0])
    before = sources.fingerprint(seeds[0])
    (image_folder / "train" / "cat" / "0.png").rename(image_folder / "train" / "cat" / "new.png")
    again = sources.open_source(f"folder:{image_folder}", "train")
    assert sources.fingerprint(fraction_of(again, 0.5, 0)) != before


def test_a_part_without_examples_is_refused():
    with pytest.raises(errors.BadInput, match="fraction=0.0001 of 1,000 examples.* 0.001 or more"):
        fraction_of(Numbers(), 0.0001, 0)


def test_a_part_is_read_in_ranges_of_the_whole(data_dir):
    whole = sources.open_source("jft", "full", data_dir)
    asked = []

    class Counted(type(whole)):
        def read(self, start, stop):
            asked.append((start, stop))
            return super().read(start, stop)

        def stage(self, share):
            asked.append(share)

    counted = Counted(**vars(whole))
    part = Subset(counted, start=len(whole) - 3, count=8)  # around the end
    got = [example["image"] for example in part.read(1, 7)]
    assert got == [part[i]["image"] for i in range(1, 7)]
    size = len(whole)
    assert asked == [(size - 2, size), (0, 4)]
    part.stage([range(8)])
    assert asked[-1] == [range(size - 3, size), range(5)]
    part.read(3, 5)
    assert asked[-1] == (0, 2), "beyond the end only"
    assert not hasattr(Subset(Numbers(), 0, 5), "read")
