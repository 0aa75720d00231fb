"""The surface of the stand-in hand: 778 vertices and 1538 faces, a disc of quads that is open at the wrist.

Built by construction from published anthropometry: a palm of rings with 28 columns, four finger tubes that grow out of
its last ring, a thumb tube that grows out of a hole in its radial side. Not MANO and not derived from it: only the
counts, the axes (fingers along -x, palm towards -y, thumb towards +z) and the ids of the finger tips agree.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np

from hojoint.hand.stand_in.anatomy import BONES, FINGERS, KNUCKLES, cross_section, finger_frame, finger_joints, to_model
from hojoint.hand.stand_in.surfaces import outwards, relaxed

RINGS = {"index": 11, "middle": 11, "ring": 11, "pinky": 11, "thumb": 12}
TIP_IDS = {  # the vertex at the very tip, then ids that other code bases use for the same finger
    "thumb": (728, 745, 744),
    "index": (353, 317, 320, 333),
    "middle": (442, 444, 443, 445),
    "ring": (576, 556, 554, 555),
    "pinky": (694, 673, 671, 672, 657),
}
WEB = 0.019  # how far the webs lie beyond the knuckles
COLUMNS = 28  # of a palm ring: 13 dorsal from radial to ulnar, ulnar side, 13 palmar from ulnar to radial, radial side
PALM_RINGS = 7
ACROSS = ("index", "middle", "ring", "pinky")


@dataclass(frozen=True, eq=False)
class HandMesh:
    """The rest surface, with what the skinning and the shape directions need of each vertex."""

    vertices: np.ndarray  # (778, 3) m, model frame
    faces: np.ndarray  # (1538, 3), counter-clockwise from outside
    joints: np.ndarray  # (16, 3) m, MANO order
    chain: np.ndarray  # (778, 5) in [0, 1]: how much of each finger's chain moves the vertex
    along: np.ndarray  # (778, 5) m: position along each finger's chain, zero at its first joint
    wrist_ring: np.ndarray  # (16,) vertices of the opening, in order


def build() -> HandMesh:
    """The complete surface; the same on every machine."""
    return _Builder().finish()


class _Builder:
    """Collects vertices and quads; each vertex remembers the fingers it belongs to."""

    def __init__(self) -> None:
        self.points: list[np.ndarray] = []
        self.faces: list[tuple[int, int, int]] = []
        self.owners: list[dict[str, float]] = []
        self.apex: dict[str, int] = {}
        self.tip_rings: dict[str, list[int]] = {}

    def finish(self) -> HandMesh:
        wrist = self._wrist()
        palm = self._palm()
        self._zip(wrist, palm[0])
        hole = self._palm_faces(palm)
        webs = self._webs(palm)
        for index, finger in enumerate(ACROSS):
            base = palm[-1]
            back, palm_side = base[3 * index : 3 * index + 4], base[23 - 3 * index : 27 - 3 * index]
            loop = [*back, webs[index + 1], *palm_side, webs[index]]
            self._tube(finger, loop, np.deg2rad([36, 72, 108, 144, 180, 216, 252, 288, 324, 0]))
        self._tube("thumb", hole, None)
        vertices = np.array(self.points)
        faces = np.array(self.faces)
        vertices = relaxed(vertices, faces, fixed=self._fixed(wrist))
        return self._ordered(vertices, faces, wrist)

    def _add(self, point: np.ndarray, owners: dict[str, float]) -> int:
        self.points.append(np.asarray(point, dtype=float))
        self.owners.append(owners)
        return len(self.points) - 1

    def _wrist(self) -> list[int]:
        angles = np.linspace(0, 2 * np.pi, 16, endpoint=False) + np.deg2rad(20)
        points = np.stack([np.full(16, -0.006), 0.0275 * np.cos(angles), 0.0195 * np.sin(angles)], axis=1)
        return [self._add(point, {}) for point in points]

    def _palm(self) -> list[list[int]]:
        """Seven rings from above the wrist to the webs; three profiles, blended."""
        angles = np.concatenate([np.linspace(18, 162, 13), [180], np.linspace(198, 342, 13), [360]])
        cosine, sine = np.cos(np.deg2rad(angles)), np.sin(np.deg2rad(angles))
        wrist = np.stack([np.full(COLUMNS, 0.006), 0.029 * cosine, 0.0195 * sine], axis=1)
        knuckles = self._across(0.0, 1.16)
        web = self._across(WEB, 1.0)
        rings: list[list[int]] = []
        for share in (0.02, 0.20, 0.40, 0.60, 0.80, 1.0, None):
            points = web if share is None else (1 - share) * wrist + share * knuckles
            if share is not None:
                points = points + self._palm_bulge(points, share)
            rings.append(self._palm_ring(points, hole=len(rings) == 2))
        return rings

    def _palm_ring(self, points: np.ndarray, hole: bool) -> list[int]:
        """One ring; the two vertices inside the thumb's hole are left out."""
        skip = (26, 27) if hole else ()
        return [-1 if c in skip else self._add(point, self._palm_owners(c)) for c, point in enumerate(points)]

    @staticmethod
    def _palm_bulge(points: np.ndarray, share: float) -> np.ndarray:
        """The balls of the thumb and of the little finger, and the hollow between them."""
        palmar = points[:, 2] < 0
        hill = np.sin(np.pi * np.clip(share, 0, 1)) ** 1.2
        thenar = np.exp(-(((points[:, 1] - 0.018) / 0.012) ** 2))
        hypothenar = np.exp(-(((points[:, 1] + 0.024) / 0.011) ** 2))
        bulge = np.zeros_like(points)
        bulge[:, 2] = -hill * palmar * (0.0065 * thenar + 0.004 * hypothenar - 0.002)
        return bulge

    def _across(self, beyond: float, swell: float) -> np.ndarray:
        """(28, 3) profile through the four fingers, ``beyond`` their knuckles; neighbours share their common points."""
        total, count = np.zeros((COLUMNS, 3)), np.zeros((COLUMNS, 1))
        for index, finger in enumerate(ACROSS):
            ring = cross_section(finger, beyond, np.deg2rad([36, 72, 108, 144, 216, 252, 288, 324]), swell)
            columns = [*range(3 * index, 3 * index + 4), *range(14 + 9 - 3 * index, 14 + 13 - 3 * index)]
            total[columns] += ring
            count[columns] += 1
        total[27], count[27] = cross_section("index", beyond, np.array([0.0]), swell)[0], 1
        total[13], count[13] = cross_section("pinky", beyond, np.array([np.pi]), swell)[0], 1
        return total / count

    @staticmethod
    def _palm_owners(column: int) -> dict[str, float]:
        if column in (27, 13):
            return {"index" if column == 27 else "pinky": 1.0}
        finger_column = column if column < 13 else 26 - column
        left, right = ACROSS[max(0, (finger_column - 1) // 3)], ACROSS[min(3, finger_column // 3)]
        return {left: 1.0} if left == right else {left: 0.5, right: 0.5}

    def _palm_faces(self, palm: list[list[int]]) -> list[int]:
        """Quads of the palm but for the thumb's hole, whose boundary is returned in order."""
        hole_columns, hole_rings = (25, 26, 27), (1, 2)  # between the columns 25..28=0
        for ring in range(PALM_RINGS - 1):
            for column in range(COLUMNS):
                if column in hole_columns and ring in hole_rings:
                    continue
                after = (column + 1) % COLUMNS
                self._quad(palm[ring][column], palm[ring][after], palm[ring + 1][after], palm[ring + 1][column])
        lower = [palm[1][c] for c in (25, 26, 27, 0)]
        upper = [palm[3][c] for c in (0, 27, 26, 25)]
        return [*lower, palm[2][0], *upper, palm[2][25]]

    def _webs(self, palm: list[list[int]]) -> list[int]:
        """The middle points between neighbouring fingers, with the palm's two sides at the ends."""
        webs = [palm[-1][27]]
        for left, right in itertools.pairwise(ACROSS):
            points = cross_section(left, WEB, np.array([np.pi]), 1.0) + cross_section(right, WEB, np.array([0.0]), 1.0)
            webs.append(self._add(points[0] / 2 - np.array([0.002, 0, 0]), {left: 0.5, right: 0.5}))
        return [*webs, palm[-1][13]]

    def _tube(self, finger: str, loop: list[int], angles: np.ndarray | None) -> None:
        """Rings from ``loop`` to the tip, and the tip itself."""
        middle, last = BONES[finger][0], BONES[finger][0] + BONES[finger][1]
        tip = last + BONES[finger][2] + 0.002
        thumb = angles is None
        if angles is None:
            angles = np.deg2rad(36.0 * np.arange(10))
            positions = [0.026, 0.032, middle - 0.006, middle, middle + 0.007]
        else:
            positions = [WEB + (middle - WEB) * 0.40, middle - 0.006, middle, middle + 0.006, (middle + last) / 2]
        positions += [last - 0.005, last, last + 0.005]
        positions += [last + (tip - last) * share for share in (0.52, 0.80, 0.95)]
        for index, position in enumerate(_padded(positions, RINGS[finger])):
            ring = [self._add(point, {finger: 1.0}) for point in cross_section(finger, position, angles, 1.0)]
            self._bridge(loop, ring, free=thumb and index == 0)
            angles = angles if index or not thumb else _angles_of(finger, np.array([self.points[v] for v in ring]))
            loop = ring
            self.tip_rings.setdefault(finger, []).extend(ring)
        along, _, _ = finger_frame(finger)
        self.apex[finger] = self._add(np.array(KNUCKLES[finger]) + along * tip, {finger: 1.0})
        for vertex, after in zip(loop, [*loop[1:], loop[0]], strict=True):
            self.faces.append((vertex, after, self.apex[finger]))

    def _bridge(self, lower: list[int], upper: list[int], free: bool) -> None:
        """Quads between two loops of equal length; ``free``: turn the upper one to where it fits best."""
        if free:
            points = np.array(self.points)
            turns = [(np.roll(order, turn).tolist()) for order in (upper, upper[::-1]) for turn in range(len(upper))]
            best = min(turns, key=lambda turn: float(((points[lower] - points[turn]) ** 2).sum()))
            upper[:] = best
        for index in range(len(lower)):
            after = (index + 1) % len(lower)
            self._quad(lower[index], lower[after], upper[after], upper[index])

    def _zip(self, small: list[int], large: list[int]) -> None:
        """Triangles between two rings of different length, by angle around the palm's axis."""
        points = np.array(self.points)

        def angle(vertex: int) -> float:
            return float(np.arctan2(points[vertex][2] / 0.0195, points[vertex][1] / 0.029) % (2 * np.pi))

        small = sorted(small, key=angle)
        large = sorted(large, key=angle)
        i = j = 0
        while i < len(small) or j < len(large):
            next_small = angle(small[(i + 1) % len(small)]) + 2 * np.pi * (i + 1 >= len(small))
            next_large = angle(large[(j + 1) % len(large)]) + 2 * np.pi * (j + 1 >= len(large))
            small_vertex, large_vertex = small[i % len(small)], large[j % len(large)]
            if j >= len(large) or (i < len(small) and next_small <= next_large):
                self.faces.append((small_vertex, small[(i + 1) % len(small)], large_vertex))
                i += 1
            else:
                self.faces.append((small_vertex, large[(j + 1) % len(large)], large_vertex))
                j += 1

    def _quad(self, a: int, b: int, c: int, d: int) -> None:
        self.faces += [(a, b, c), (a, c, d)]

    def _fixed(self, wrist: list[int]) -> np.ndarray:
        """Vertices that smoothing must not move: the opening and the outer parts of the fingers."""
        fixed = np.zeros(len(self.points), dtype=bool)
        fixed[wrist] = True
        for finger, ring in self.tip_rings.items():
            fixed[ring[20 if finger == "thumb" else 10 :]] = True
            fixed[self.apex[finger]] = True
        return fixed

    def _ordered(self, vertices: np.ndarray, faces: np.ndarray, wrist: list[int]) -> HandMesh:
        """Give the finger tips the ids that the field's code bases expect, and turn every face outwards."""
        number = np.full(len(vertices), -1)
        for finger, ids in TIP_IDS.items():
            near = self.tip_rings[finger][::-1]
            for tip_id, vertex in zip(ids, [self.apex[finger], *near[1::3]], strict=False):
                number[vertex] = tip_id
        free = sorted(set(range(len(vertices))) - set(number[number >= 0].tolist()))
        number[number < 0] = free
        order = np.argsort(number)
        model = to_model(vertices)[order]
        faces = number[faces]
        chain, along = self._chains(vertices)
        joints = np.concatenate([np.zeros((1, 3)), *[finger_joints(finger)[:3] for finger in FINGERS]])
        return HandMesh(
            vertices=model,
            faces=outwards(model, faces),
            joints=to_model(joints),
            chain=chain[order],
            along=along[order],
            wrist_ring=number[np.array(wrist)],
        )

    def _chains(self, vertices: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        chain = np.zeros((len(vertices), 5))
        along = np.zeros((len(vertices), 5))
        for index, finger in enumerate(FINGERS):
            axis = finger_frame(finger)[0]
            along[:, index] = (vertices - np.array(KNUCKLES[finger])) @ axis
            chain[:, index] = [owner.get(finger, 0.0) for owner in self.owners]
        return chain, along


def _padded(positions: list[float], count: int) -> list[float]:
    """Insert positions into the widest gaps until there are ``count``."""
    positions = list(positions)
    while len(positions) < count:
        gaps = np.diff(positions)
        widest = int(np.argmax(gaps))
        positions.insert(widest + 1, positions[widest] + gaps[widest] / 2)
    return positions


def _angles_of(finger: str, points: np.ndarray) -> np.ndarray:
    """Angles around the finger of the points of a ring; the inverse of ``cross_section``, up to its thickness."""
    _, radial, back = finger_frame(finger)
    offset = points - points.mean(0)
    turn = np.arctan2(offset @ back / 0.93, offset @ radial)
    return np.asarray(np.round(np.rad2deg(turn) / 36) * np.deg2rad(36))
