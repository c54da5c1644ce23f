"""What belongs into each kind of room, and where."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from open3dsg.datasets.synth.layout import WALL_GAP_M, Placed, Plan
from open3dsg.datasets.synth.mesh import Material, Paint
from open3dsg.datasets.synth.shapes import bath, electronics, fixtures, kitchen, seats, small, tables
from open3dsg.datasets.synth.shapes.base import Colour, pick

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from numpy.random import Generator

    from open3dsg.datasets.synth.shapes.base import Shape

    Maker = Callable[[Generator], Shape]

_WALL_COLOURS: Sequence[Colour] = (
    (226, 222, 212),
    (214, 220, 222),
    (228, 216, 196),
    (206, 214, 200),
    (222, 206, 200),
    (200, 208, 218),
)


def furnish(kind: str, rng: Generator) -> Plan:
    """Lay out a room of `kind`, one of `ROOM_KINDS`."""
    low, high, tiled = _SIZES[kind]
    width, depth = rng.uniform(low, high, 2).tolist()
    plan = Plan(rng, width, depth, float(rng.uniform(2.45, 2.75)))
    wall = Paint(pick(rng, _WALL_COLOURS), Material.WALL_TILES if tiled else Material.PLAIN)
    accent = Paint(pick(rng, _WALL_COLOURS), wall.material)
    floors = [Material.FLOOR_TILES] if tiled else [Material.PLANKS, Material.PLANKS, Material.CARPET]
    tone = pick(
        rng,
        [(176, 174, 168), (120, 118, 116), (200, 192, 178)]
        if tiled
        else [(176, 130, 86), (140, 96, 60), (204, 170, 128), (130, 124, 116)],
    )
    floor = Paint(tone, floors[int(rng.integers(len(floors)))])
    plan.shell(floor, Paint((240, 240, 236)), [wall, wall, accent, wall])
    plan.against_wall(fixtures.door(rng), front=0.8)
    ROOM_KINDS[kind](plan)
    plan.under_ceiling(fixtures.light(rng))
    return plan


def _some(plan: Plan, chance: float) -> bool:
    return bool(plan.rng.random() < chance)


def _windows(plan: Plan, count: int, *, curtains: float) -> None:
    """Windows with a radiator below and drapes at their sides."""
    for _ in range(count):
        window = plan.hang(fixtures.window(plan.rng), (0.95, 1.05))
        if window is None:
            continue
        radiator = fixtures.radiator(plan.rng)
        plan.hang(radiator, (0.12, 0.16), above=window)
        if _some(plan, curtains):
            seed = int(plan.rng.integers(1 << 30))
            for side in (-1, 1):
                _drape(plan, window, side, seed)


def _drape(plan: Plan, window: Placed, side: int, seed: int) -> None:
    drape = fixtures.curtain(np.random.default_rng(seed), height=min(2.3, plan.height - 0.1))
    x = side * (window.shape.size[0] / 2 + drape.size[0] / 2 + 0.01)
    at = window.to_room((x, 0.0, 0.0))
    plan.put(drape, (float(at[0]), float(at[1]), 0.03), window.yaw, window.support or 1)


def _decorate(plan: Plan, makers: Sequence[tuple[float, Maker]]) -> None:
    """Hang pictures, clocks and the like on free wall, each with its chance."""
    for chance, make in makers:
        if _some(plan, chance):
            plan.hang(make(plan.rng), (1.25, 1.55))


def _scatter(plan: Plan, makers: Sequence[tuple[float, Maker]]) -> None:
    """Stand things near corners and along walls, each with its chance."""
    for chance, make in makers:
        if _some(plan, chance):
            plan.in_corner(make(plan.rng)) or plan.against_wall(make(plan.rng))


def _on(plan: Plan, host: Placed | None, makers: Sequence[tuple[float, Maker]], *, surface: int = 0) -> None:
    """Put things on `host`, each with its chance."""
    for chance, make in makers:
        if host is not None and _some(plan, chance):
            plan.on_top(make(plan.rng), host, surface=surface)


def _living_room(plan: Plan) -> None:
    rng = plan.rng
    long_wall = 0 if plan.width > plan.depth else 1
    wall = int(rng.choice([long_wall, long_wall + 2]))
    sofa = plan.against_wall(seats.sofa(rng), walls=[wall, (wall + 2) % 4], front=1.25)
    if sofa is not None:
        _before_sofa(plan, sofa)
        _on(plan, sofa, [(0.95, seats.pillow), (0.7, seats.pillow), (0.3, seats.blanket)])
        plan.hang(fixtures.picture(rng), (1.3, 1.5), above=sofa)
    opposite = [(wall_of(sofa) + 2) % 4] if sofa is not None else [0, 1, 2, 3]
    stand = plan.against_wall(tables.tv_stand(rng), walls=opposite) or plan.against_wall(tables.tv_stand(rng))
    if stand is not None:
        plan.on_top(electronics.tv(rng), stand, spin=0.06)
        _on(plan, stand, [(0.5, small.vase), (0.3, small.book)])
    _windows(plan, 2, curtains=0.8)
    case = plan.against_wall(tables.bookshelf(rng), front=0.4)
    _on(plan, case, [(0.6, small.small_plant), (0.5, small.vase)])
    chair = plan.in_corner(seats.armchair(rng)) or plan.free_floor(seats.armchair(rng))
    _on(plan, chair, [(0.5, seats.pillow)])
    _scatter(
        plan,
        [
            (0.9, small.floor_lamp),
            (0.9, small.plant),
            (0.5, small.basket),
            (0.4, seats.ottoman),
            (0.3, small.cardboard_box),
        ],
    )
    commode = plan.against_wall(tables.commode(rng), front=0.4) if _some(plan, 0.4) else None
    _on(plan, commode, [(0.8, small.table_lamp), (0.5, small.vase)])
    _decorate(
        plan, [(0.8, fixtures.picture), (0.6, fixtures.clock), (0.4, tables.shelf), (0.3, fixtures.mirror)]
    )


def wall_of(sofa: Placed) -> int:
    """Number of the wall that a piece has its back to."""
    return int(np.round(sofa.yaw / (np.pi / 2))) % 4


def _before_sofa(plan: Plan, sofa: Placed) -> None:
    """A rug before the sofa with the coffee table on it, or the table alone."""
    rng = plan.rng
    front = sofa.shape.size[1] / 2
    table = tables.coffee_table(rng)
    rug = small.carpet(rng)
    base = plan.near(rug, sofa, [(0.0, front + rug.size[1] / 2 + 0.08)], 0.0) if _some(plan, 0.75) else None
    distance = front + 0.38 + table.size[1] / 2
    spot = sofa.to_room((0.0, distance, 0.0))
    floor, height = (0, 0.0) if base is None else (base.index, rug.surfaces[0].z + 0.001)
    host = plan.put(table, (float(spot[0]), float(spot[1]), height), sofa.yaw, floor, may_block=True)
    _on(plan, host, [(0.7, small.vase), (0.7, small.book), (0.6, small.cup), (0.3, small.fruit_plate)])


def _bedroom(plan: Plan) -> None:
    rng = plan.rng
    bed = plan.against_wall(seats.bed(rng), front=0.5)
    if bed is not None:
        for side in (-1, 1):
            stand = plan.beside(tables.nightstand(rng), bed, side)
            _on(plan, stand, [(0.85, small.table_lamp), (0.5, small.book), (0.4, small.cup)])
        plan.on_top(seats.bed_pillow(rng), bed, spin=0.1)
        _on(plan, bed, [(0.7, seats.bed_pillow), (0.4, small.stuffed_animal)])
        _on(plan, bed, [(0.7, seats.blanket)], surface=1)
        plan.hang(fixtures.picture(rng), (1.4, 1.6), above=bed)
    plan.against_wall(tables.wardrobe(rng), front=0.5)
    _windows(plan, 1, curtains=0.9)
    if _some(plan, 0.7):
        plan.free_floor(small.carpet(rng), margin=0.05)
    commode = plan.against_wall(tables.commode(rng), front=0.4)
    _on(
        plan, commode, [(0.6, small.vase), (0.4, electronics.tv), (0.5, small.small_plant), (0.4, small.book)]
    )
    _scatter(
        plan,
        [
            (0.7, seats.chair),
            (0.4, seats.armchair),
            (0.5, small.plant),
            (0.5, small.basket),
            (0.5, small.suitcase),
            (0.4, small.cardboard_box),
            (0.4, small.floor_lamp),
            (0.4, seats.ottoman),
            (0.4, seats.backpack),
        ],
    )
    _decorate(
        plan, [(0.8, fixtures.mirror), (0.5, fixtures.clock), (0.5, fixtures.picture), (0.4, tables.shelf)]
    )


def _office(plan: Plan) -> None:
    rng = plan.rng
    plan.hang(fixtures.board(rng), (0.95, 1.1))
    for _ in range(1 + int(_some(plan, 0.6))):
        _workplace(plan)
    _windows(plan, 1, curtains=0.3)
    case = plan.against_wall(tables.bookshelf(rng), front=0.4)
    _on(plan, case, [(0.5, small.small_plant)])
    cabinet = plan.against_wall(tables.cabinet(rng), front=0.4)
    _on(plan, cabinet, [(0.75, electronics.printer), (0.5, small.small_plant), (0.4, small.cardboard_box)])
    _scatter(
        plan,
        [
            (0.9, small.trash_can),
            (0.6, seats.backpack),
            (0.7, small.plant),
            (0.6, small.cardboard_box),
            (0.6, seats.chair),
            (0.3, small.floor_lamp),
            (0.3, small.suitcase),
        ],
    )
    _decorate(plan, [(0.9, fixtures.clock), (0.6, fixtures.picture), (0.4, tables.shelf)])


def _workplace(plan: Plan) -> None:
    """A desk at a wall with its chair, a screen and what lies about on it."""
    rng = plan.rng
    desk = plan.against_wall(tables.desk(rng), front=0.0)
    if desk is None:
        return
    plan.on_top(electronics.monitor(rng), desk, spin=0.12, at_back=True)
    _on(plan, desk, [(0.7, electronics.laptop), (0.7, small.cup), (0.5, small.book), (0.5, small.table_lamp)])
    x_offsets = [0.0, 0.25, -0.25]
    front = desk.shape.size[1] / 2
    plan.near(seats.office_chair(rng), desk, [(x, front + 0.38) for x in x_offsets], np.pi, slack=0.5)
    if _some(plan, 0.5):
        plan.beside(electronics.pc(rng), desk, int(rng.choice([-1, 1])))


def _kitchen(plan: Plan) -> None:
    rng = plan.rng
    run = kitchen.kitchen_run(rng)
    counter = _fitted(plan, run, "kitchen counter")
    if counter is not None:
        wall = wall_of(counter)
        _above_counter(plan, run, counter, wall)
        makers: list[Maker] = [
            kitchen.microwave,
            kitchen.toaster,
            kitchen.kettle,
            kitchen.coffee_machine,
            small.bottle,
        ]
        for index in rng.permutation(len(makers))[:4]:
            _on(plan, counter, [(0.9, makers[index])], surface=int(rng.integers(2)))
    plan.against_wall(kitchen.refrigerator(rng), front=0.5)
    _windows(plan, 1, curtains=0.3)
    _dining(plan)
    _scatter(
        plan,
        [
            (0.9, small.trash_can),
            (0.4, bath.washing_machine),
            (0.5, small.plant),
            (0.3, small.basket),
            (0.4, seats.stool),
            (0.3, small.cardboard_box),
        ],
    )
    if _some(plan, 0.6):
        plan.hang(bath.towel(rng), (0.9, 1.0))
    _decorate(plan, [(0.8, fixtures.clock), (0.5, fixtures.picture), (0.4, tables.shelf)])


def _fitted(plan: Plan, pieces: Mapping[str, Shape], host: str) -> Placed | None:
    """Place pieces that share one frame: the first at a wall, the others where it came to stand."""
    first, *rest = pieces.values()
    base = plan.against_wall(first, front=0.9)
    if base is None:
        return None
    placed = {first.label: base}
    for shape in rest:
        carrier = placed.get(_CARRIED_BY.get(shape.label, first.label), base)
        fitted = plan.put(shape, base.at, base.yaw, carrier.index)
        if fitted is not None:
            placed[shape.label] = fitted
    return placed.get(host)


_CARRIED_BY = {
    "kitchen counter": "kitchen cabinet",
    "sink": "kitchen counter",
    "stove": "kitchen counter",
    "oven": "kitchen cabinet",
}


def _above_counter(plan: Plan, run: Mapping[str, Shape], counter: Placed, wall: int) -> None:
    """The hood over the stove, a pot on it, and wall cabinets left of the hood."""
    rng = plan.rng
    x, y, _ = run["stove"].mesh.vertices.mean(axis=0).tolist()
    pot = kitchen.pot(rng)
    stove = next(placed for placed in plan.placed if placed.shape is run["stove"])
    spot = counter.to_room((x + 0.15, y + 0.12, 0.914))
    if _some(plan, 0.6):
        plan.put(pot, (float(spot[0]), float(spot[1]), float(spot[2])), counter.yaw, stove.index)
    back = -_depth_behind(counter)
    over = counter.to_room((x, back, 1.5))
    plan.put(kitchen.kitchen_hood(rng), (float(over[0]), float(over[1]), 1.5), counter.yaw, 1 + wall)
    width = float(rng.uniform(0.7, 0.9))
    seed = int(rng.integers(1 << 30))
    for step in range(2):
        cabinet = kitchen.wall_cabinet(np.random.default_rng(seed), width)
        at = counter.to_room((x - 0.34 - width * (step + 0.5) - 0.01 * step, back, 0.0))
        plan.put(cabinet, (float(at[0]), float(at[1]), 1.48), counter.yaw, 1 + wall)


def _depth_behind(counter: Placed) -> float:
    """Distance from the origin of a piece at a wall to that wall, less the width of a hair."""
    return -float(counter.shape.mesh.vertices[:, 1].min()) + WALL_GAP_M - 0.001


def _dining(plan: Plan) -> None:
    """A table with chairs or stools drawn up to it, and what is on it."""
    rng = plan.rng
    table = plan.free_floor(tables.table(rng), margin=0.4) or plan.free_floor(tables.table(rng), margin=0.05)
    if table is None:
        return
    width, depth, _ = table.shape.size
    seat = seats.chair(rng)
    spots = [
        ((x, s * (depth / 2 + 0.12)), np.pi if s > 0 else 0.0)
        for s in (-1, 1)
        for x in (-width / 4, width / 4)
    ]
    for spot, turn in spots:
        if _some(plan, 0.8):
            plan.near(seat, table, [spot, (spot[0], spot[1] * 1.35)], turn, slack=0.2)
    if _some(plan, 0.3):
        plan.near(seats.bench(rng), table, [(0, depth / 2 + 0.25), (0, -depth / 2 - 0.25)], 0.0)
    _on(
        plan,
        table,
        [
            (0.7, small.plate),
            (0.6, small.plate),
            (0.7, small.cup),
            (0.5, small.fruit_plate),
            (0.4, small.bottle),
            (0.3, small.vase),
        ],
    )


def _bathroom(plan: Plan) -> None:
    rng = plan.rng
    tub = plan.against_wall(bath.bathtub(rng), front=0.55)
    if tub is not None:
        _on(plan, tub, [(0.7, small.bottle), (0.5, small.bottle)])
        curtain = bath.shower_curtain(rng, plan.height - 0.2 - 0.001)
        width, depth, _ = tub.shape.size
        at = tub.to_room((float(rng.choice([-1, 1])) * (width - curtain.size[0]) / 2, depth / 2 + 0.02, 0.2))
        plan.put(curtain, (float(at[0]), float(at[1]), 0.2), tub.yaw, 5)
        if _some(plan, 0.8):
            mat = bath.bath_mat(rng)
            plan.near(mat, tub, [(0.0, depth / 2 + 0.45), (0.4, depth / 2 + 0.45)], 0.0)
    stand = bath.washstand(rng)
    cabinet = _fitted(plan, stand, "bath cabinet")
    if cabinet is not None:
        plan.hang(fixtures.mirror(rng), (1.2, 1.3), above=cabinet)
        _on(plan, cabinet, [(0.6, small.cup), (0.5, small.bottle)])
        _on(plan, cabinet, [(0.5, small.small_plant), (0.4, small.bottle)], surface=1)
    toilet = plan.against_wall(bath.toilet(rng), front=0.5)
    if toilet is not None:
        plan.near(bath.toilet_brush(rng), toilet, [(0.33, -0.2), (-0.33, -0.2)], 0.0)
        plan.hang(bath.toilet_paper(rng), (0.65, 0.75), walls=[wall_of(toilet)])
    machine = plan.against_wall(bath.washing_machine(rng), front=0.4) if _some(plan, 0.6) else None
    _on(plan, machine, [(0.6, small.basket), (0.4, small.bottle)])
    _windows(plan, 1, curtains=0.0)
    for _ in range(2):
        plan.hang(bath.towel(rng), (0.85, 1.0))
    _scatter(plan, [(0.8, bath.laundry_basket), (0.8, small.trash_can), (0.5, seats.stool)])
    _decorate(plan, [(0.5, tables.shelf), (0.3, fixtures.picture)])


ROOM_KINDS: Mapping[str, Callable[[Plan], None]] = {
    "living room": _living_room,
    "bedroom": _bedroom,
    "office": _office,
    "kitchen": _kitchen,
    "bathroom": _bathroom,
}
# Shortest and longest side in metres, and whether floor and walls are tiled.
_SIZES: Mapping[str, tuple[float, float, bool]] = {
    "living room": (4.0, 5.4, False),
    "bedroom": (3.5, 4.6, False),
    "office": (3.6, 4.8, False),
    "kitchen": (3.6, 4.8, True),
    "bathroom": (2.9, 3.8, True),
}
