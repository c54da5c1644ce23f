"""What synthetic rooms say of their things: colours and materials by area, in published words."""

from __future__ import annotations

from dataclasses import replace

import pytest

from open3dsg.datasets.builtin_words import builtin_words
from open3dsg.datasets.synth.attributes import attributes_of
from open3dsg.datasets.synth.formats_3rscan import object_of
from open3dsg.datasets.synth.mesh import Material, Paint, box, join
from open3dsg.datasets.synth.room import Instance, build_room


@pytest.fixture(scope="module")
def thing() -> Instance:
    return build_room(3).instances[0]


def painted(thing: Instance, label: str, *sides: tuple[float, Paint]) -> Instance:
    """A thing of cubes, each with its side in metres."""
    cubes = [box((2.0 * at, 0, 0), (side, side, side), paint) for at, (side, paint) in enumerate(sides)]
    return replace(thing, label=label, mesh=join(cubes))


WHITE, RED, STEEL = (236, 235, 230), (196, 60, 50), (168, 170, 174)


def test_colours_count_by_area(thing: Instance) -> None:
    # A cube of 0.55 has 23 % of the area of both, one of 0.6 has 26 %.
    small = painted(thing, "box", (0.55, Paint(RED)), (1.0, Paint(WHITE)))
    larger = painted(thing, "box", (0.6, Paint(RED)), (1.0, Paint(WHITE)))
    assert attributes_of(small) == {"color": ["white"]}
    assert attributes_of(larger) == {"color": ["white", "red"]}


def test_materials_count_by_area(thing: Instance) -> None:
    # A cube of 0.45 has 17 % of the area of both, one of 0.55 has 23 %.
    wood, plain = Paint((112, 72, 42), Material.WOOD), (1.0, Paint(WHITE))
    assert "material" not in attributes_of(painted(thing, "table", (0.45, wood), plain))
    assert attributes_of(painted(thing, "table", (0.55, wood), plain))["material"] == ["wooden"]


@pytest.mark.parametrize(
    ("label", "paint", "said"),
    [
        ("table", Paint((112, 72, 42), Material.WOOD), {"color": ["brown"], "material": ["wooden"]}),
        ("table", Paint((112, 72, 42)), {"color": ["brown"]}),
        ("lamp", Paint(STEEL, Material.METAL), {"color": ["silver"], "material": ["metal"]}),
        ("lamp", Paint(STEEL), {"color": ["gray"]}),
        ("towel", Paint(RED, Material.CARPET), {"color": ["red"]}),
        ("carpet", Paint(RED, Material.CARPET), {"color": ["red"], "material": ["carpet"]}),
        ("toilet", Paint(WHITE, Material.GLOSSY), {"color": ["white"], "material": ["ceramic"]}),
        ("cup", Paint(WHITE, Material.GLOSSY), {"color": ["white"]}),
        ("mirror", Paint((200, 210, 214), Material.MIRROR), {"material": ["glass"]}),
        ("picture", Paint(RED, Material.PICTURE), {}),
    ],
)
def test_materials_are_said_where_they_are_known(
    label: str, paint: Paint, said: dict[str, list[str]], thing: Instance
) -> None:
    assert attributes_of(painted(thing, label, (1.0, paint))) == said


@pytest.mark.parametrize(
    ("colour", "word"),
    [
        ((60, 130, 90), "green"),
        ((50, 96, 160), "blue"),
        ((222, 160, 50), "yellow"),
        ((120, 70, 120), "purple"),
        ((34, 34, 36), "black"),
        ((216, 186, 146), "beige"),
        ((230, 160, 170), "pink"),
        ((9, 121, 134), "blue"),
        ((44, 154, 182), "blue"),
        ((20, 130, 125), "green"),
        ((125, 175, 50), "green"),
        # By sRGB, or without its gamma, these were yellow, brown or orange.
        ((100, 130, 40), "green"),
        ((175, 115, 160), "purple"),
        ((220, 100, 85), "red"),
    ],
)
def test_paints_have_the_names_people_give_them(
    colour: tuple[int, int, int], word: str, thing: Instance
) -> None:
    assert attributes_of(painted(thing, "box", (1.0, Paint(colour)))) == {"color": [word]}


def test_rooms_say_published_words_alone() -> None:
    words = {"color": set(builtin_words("colours").words), "material": set(builtin_words("materials").words)}
    for seed in range(2):
        for instance in build_room(seed).instances:
            said = attributes_of(instance)
            assert said.keys() <= words.keys()
            for kind, found in said.items():
                assert found
                assert set(found) <= words[kind]


def test_an_object_is_as_3dssg_has_it(thing: Instance) -> None:
    found = object_of(replace(thing, number=12, label="floor"), {"floor": 40})
    assert found.keys() == {"global_id", "id", "label", "ply_color", "affordances", "attributes"}
    assert (found["global_id"], found["id"], found["label"]) == ("40", "12", "floor")
    assert len(found["ply_color"]) == 7
