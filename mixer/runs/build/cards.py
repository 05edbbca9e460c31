"""What is known of weights that no run of ours has trained."""

import dataclasses

from ml_collections import ConfigDict

from mixer import errors
from mixer.checkpoint.card import Card
from mixer.checkpoint.located import locate
from mixer.data import sources
from mixer.loading import card_of_folder, card_of_published
from mixer.runs.build.at_size import RANDOM, pretrained_size_of
from mixer.runs.build.data import class_names, data_dir, reading_of, training_split
from mixer.runs.build.parts import evaluation_transform, image_size_of


def card_of_config(config: ConfigDict) -> Card:
    """Of `config.init_from`: a published name and a folder bring theirs, a file has the config's.

    Raises:
      BadInput: nothing usable there.
    """
    located = None if config.init_from == RANDOM else locate(config.init_from)
    if located and located.entry:
        return _renamed(config, card_of_published(located.entry))
    if located and located.folder:
        size, pretrained_size = image_size_of(config), pretrained_size_of(config)
        card = card_of_folder(located.folder, size, pretrained_size)
        return _renamed(config, _completed(config, card))
    classes, several = _classes_of_data(config)
    return Card(
        model=config.model.to_dict() | {"num_classes": len(classes)},
        image_size=image_size_of(config),
        transform=evaluation_transform(config),
        classes=classes,
        dataset="",  # nobody says what it was trained on
        imports=config.imports,
        multi_label=several,
    )


def _classes_of_data(config: ConfigDict) -> tuple[tuple[str, ...], bool]:
    """The names that are given, else the dataset's; and whether an image may have several."""
    if names := class_names(config):
        return names, False
    # They need no names, so no dataset need give them.
    if config.run in ("fewshot", "convert", "figures"):
        return (), False
    dataset, split = config.dataset, training_split(config)
    if dataset.startswith("folder:"):  # which need not have a training split
        split = sources.split_to_measure(dataset)
    source = sources.open_source(dataset, split, data_dir(config), reading_of(config, dataset))
    by = " of their names as text" if dataset.startswith("folder:") else ""
    print(
        f"{config.init_from} names no classes: taken for those of {dataset}, in order{by}: "
        f"{errors.shown(source.classes)}; config.input.class_names=FILE gives others",
        flush=True,
    )
    return tuple(source.classes), sources.max_labels(source) > 0


def _renamed(config: ConfigDict, card: Card) -> Card:
    """With the class names that are given, if any."""
    names, outputs = class_names(config), card.model["num_classes"]
    if names and len(names) != outputs:
        raise errors.BadInput(
            f"config.input.class_names={config.input.class_names} has {len(names):,} names, and "
            f"{config.init_from} {outputs:,} outputs: expected a name for each"
        )
    return dataclasses.replace(card, classes=names) if names else card


def _completed(config: ConfigDict, card: Card) -> Card:
    """What a folder does not say is the config's, and that is said."""
    if len(card.classes) != card.model["num_classes"]:
        classes, several = _classes_of_data(config)
        fields = card.model | {"num_classes": len(classes) or card.model["num_classes"]}
        card = dataclasses.replace(card, model=fields, classes=classes, multi_label=several)
    if not card.transform:
        print(f"{config.init_from} does not say how images are resized: as the config says")
        card = dataclasses.replace(card, transform=evaluation_transform(config))
    return card
