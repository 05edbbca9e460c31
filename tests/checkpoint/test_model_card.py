import dataclasses
import json

import pytest

from mixer.checkpoint.model_card import ModelCard
from mixer.errors import BadInput

CARD = ModelCard(
    model={"name": "BiT-R50x1", "num_blocks": (3, 4, 6, 3)},
    image_size=(224, 192),
    transform="resize",
    classes=("cat", "dog"),
    dataset="photos",
    multi_label=True,
)


def test_a_card_survives_a_json_round_trip():
    assert ModelCard.from_json(json.loads(json.dumps(dataclasses.asdict(CARD)))) == CARD


def test_an_older_card_gets_defaults_and_a_newer_one_is_refused():
    content = dataclasses.asdict(CARD)
    older = {key: value for key, value in content.items() if key not in ("imports", "multi_label")}
    assert ModelCard.from_json(older) == dataclasses.replace(CARD, multi_label=False)
    with pytest.raises(BadInput, match="newer version of this program, whose cards also have tint"):
        ModelCard.from_json(content | {"tint": "blue"})
