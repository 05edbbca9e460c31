"""The names of ImageNet's classes: their order, and what is shown for a class."""

import tensorflow_datasets as tfds

from mixer.evaluation.imagenet_subsets import CLASSES
from mixer.weights import class_names
from mixer.weights.class_names import readable, synsets


def test_the_order_is_that_of_the_labels():
    file = tfds.core.tfds_path("datasets/imagenet2012/labels.txt")
    assert list(synsets("imagenet2012")) == file.read_text().split()
    whole, part = synsets("imagenet21k"), synsets("imagenet21k_p")
    assert (len(whole), len(part)) == (21_843, 11_221) and set(part) < set(whole)
    assert list(whole) == sorted(whole) and list(part) == sorted(part)
    # A teddy is the only one of the thousand that ImageNet-21k lacks.
    (lacking,) = set(synsets("imagenet2012")) - set(whole)
    assert readable([lacking, "x"])[0].startswith("teddy")
    both = class_names._lines("imagenet2012"), class_names._lines("imagenet21k")
    assert all(both[1].get(name, words) == words for name, words in both[0].items())
    assert all(words and words == words.strip() for lines in both for words in lines.values())


def test_names_to_read():
    names = readable(synsets("imagenet2012"))
    assert len(set(names)) == 1000 and names[207] == "golden retriever" and names[0] == "tench"
    assert {name for name in names if "(" in name} == {
        *("crane (n02012849)", "crane (n03126707)", "maillot (n03710637)", "maillot (n03710721)")
    }
    # Numbers that other people published for words that are in these names.
    known = {1: "goldfish", 105: "koala", 292: "tiger", 340: "zebra", 954: "banana", 963: "pizza"}
    assert {number: names[number] for number in known} == known
    assert {names[i] for i in CLASSES["imagenet_a"]} > {"junco", "guacamole", "banana"}


def test_only_imagenets_classes_get_other_names():
    assert readable(("cat", "n0", "n99999999")) == ("cat", "n0", "n99999999")
    assert readable(("cat", "n02099601")) == ("cat", "golden retriever")
    numbers = tuple(map(str, range(21_843)))
    assert readable(numbers) == readable(numbers[:1000], "imagenet21k") + numbers[1000:] == numbers
    shown = readable(numbers, "imagenet21k")
    assert shown[synsets("imagenet21k").index("n02099601")] == "golden retriever"
    assert len(set(shown)) == len(shown) and shown == readable(synsets("imagenet21k"))
    part = readable(numbers[:11_221], "imagenet21k_p")
    assert part[synsets("imagenet21k_p").index("n02099601")] == "golden retriever"
