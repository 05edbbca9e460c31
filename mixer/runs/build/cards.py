"""What is known of weights that no run of ours has trained."""

import dataclasses

from ml_collections import ConfigDict

from mixer import errors
from mixer.checkpoint import hub_config, pretrained, zoo
from mixer.checkpoint.card import Card
from mixer.checkpoint.located import locate
from mixer.data import sources
from mixer.models import registry
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
        return _renamed(config, card_of_folder(config, located.folder))
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


def card_of_published(entry: zoo.Published) -> Card:
    """The model, the preprocessing and the classes of a published file."""
    named = {"num_classes": entry.classes, "patch_size": entry.patch_size, "gelu": entry.gelu}
    return Card(
        model={"name": entry.model} | registry.model_fields(entry.model) | named,
        image_size=entry.image_size,
        transform=entry.transform,
        classes=entry.class_names or tuple(map(str, range(entry.classes))),
        dataset=entry.dataset,
    )


def card_of_folder(config: ConfigDict, folder: hub_config.Folder) -> Card:
    """The model, the preprocessing and the classes of a folder of the Hub.

    What it does not say is the config's, and that is said.
    """
    registered = registry.model_fields(folder.model)
    model = registry.create_model(folder.model, 0)
    stored = pretrained.read(folder.name, model)
    sizes = {k: v for k, v in stored.sizes(model).items() if registered[k] != v}
    if sizes:
        changed = ", ".join(f"{field}={size}" for field, size in sizes.items())
        print(f"{folder.name}: a {folder.model} with {changed}, as its arrays are")
    head = stored.arrays.get("head/bias")
    outputs = 0 if head is None else head.size
    classes, several = folder.class_names, False
    if len(classes) != outputs:
        if classes:
            print(f"{folder.name}: {len(classes)} label_names for {outputs} outputs: not used")
        classes, several = _classes_of_data(config)
    if not folder.transform:
        print(f"{folder.name} does not say how images are resized: as the config says")
    fields = registered | sizes | {"num_classes": len(classes) or outputs}
    fields |= {"gelu": folder.gelu} if "gelu" in fields else {}
    model, size = registry.create_model(folder.model, **fields), image_size_of(config)
    patch = getattr(model, "patch_size", 1)
    if any(side % patch for side in size):  # the recipe's, for another model: then it is the square
        size = (patch, patch)
    return Card(
        model={"name": folder.model} | fields,
        image_size=stored.size(model, size, pretrained_size_of(config)),
        transform=folder.transform or evaluation_transform(config),
        classes=classes,
        dataset="",
        multi_label=several,
    )
