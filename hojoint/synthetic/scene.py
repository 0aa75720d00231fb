"""Shots: which person holds which object, where, through which lens; and a shot's frames as pictures.

A ``Domain`` holds the ranges everything is drawn from. How shots are stored is in ``write``.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass, replace

import cv2
import numpy as np
import torch

from hojoint.hand.layer import ManoLayer
from hojoint.hand.stand_in import mesh as hand_mesh
from hojoint.hand.stand_in.model import stand_in_model
from hojoint.synthetic import looks, motion, render
from hojoint.synthetic.domains import Domain
from hojoint.synthetic.looks import Finish, Subject
from hojoint.synthetic.motion import Track
from hojoint.synthetic.objects import Shape, wild_shape, ycb_shape
from hojoint.synthetic.render import Body, Light, Picture

SEEDS = {"labelled": 1, "wild": 2, "test": 3}


@dataclass(frozen=True, eq=False)
class Hand:
    """The hand of each frame of a shot: right-hand model, camera frame of the unmirrored picture."""

    pose: np.ndarray  # (T, 48) rad
    betas: np.ndarray  # (10,)
    joints: np.ndarray  # (T, 21, 3) m, simple order, camera frame
    vertices: np.ndarray  # (T, 778, 3) m, camera frame
    joints_px: np.ndarray  # (T, 21, 2)
    vertices_px: np.ndarray  # (T, 778, 2)


@dataclass(frozen=True, eq=False)
class Shot:
    """Everything that decides the pixels of T frames."""

    domain: Domain
    subject: Subject
    shape: Shape  # the object
    object_shown: bool
    track: Track
    hand: Hand
    camera: np.ndarray  # (3, 3)
    size: tuple[int, int]  # width, height
    light: Light
    background: np.ndarray  # (H, W, 3) uint8
    finish: Finish
    seed: int  # of the sensor's noise

    @property
    def frames(self) -> int:
        return len(self.track.wrist)


def generator(seed: int, world: str, *index: int) -> np.random.Generator:
    """The random generator of one sequence, video or image; no other shares its draws."""
    return np.random.default_rng([seed, SEEDS[world], *index])


@functools.cache
def _layer() -> ManoLayer:
    return ManoLayer(stand_in_model(), fingertips="ho3d_v2", center=True)


def pose_hand(pose: np.ndarray, betas: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Wrist-centred joints (T, 21, 3) in simple order and vertices (T, 778, 3) of the stand-in hand."""
    with torch.no_grad():
        repeated = torch.from_numpy(np.repeat(betas[None], len(pose), axis=0)).float()
        output = _layer()(torch.from_numpy(pose).float(), repeated)
    return output.joints.numpy().astype(np.float64), output.vertices.numpy().astype(np.float64)


def make_shot(
    rng: np.random.Generator,
    seed: int,
    domain: Domain,
    *,
    story: str,
    frames: int,
    size: tuple[int, int],
    object_name: str | None = None,
    subject: int | None = None,
    room: int | None = None,
) -> Shot:
    """Draw a shot; ``object_name``, ``subject`` and ``room`` fix what is otherwise drawn."""
    person = _subject(seed, domain, int(rng.integers(domain.subjects)) if subject is None else subject)
    shape = ycb_shape(object_name) if object_name else _object(rng, domain)
    camera, middle = _framing(rng, domain, size)
    track = motion.make_track(rng, domain.view, story, shape, frames, middle)
    hand = _hand(track, person, camera)
    if domain.whole_hand:
        track, hand = _kept_inside(track, hand, camera, size)
    room_rng = np.random.default_rng([seed, 91, int(room)]) if room is not None else rng
    light = looks.draw_light(room_rng, domain.lamp, domain.tint, domain.cone)
    background = looks.draw_background(room_rng, size, domain.backgrounds, float(room_rng.uniform(*domain.calm)))
    return Shot(
        domain=domain,
        subject=person,
        shape=shape,
        object_shown=story != "gesture" or bool(rng.random() < 0.5),
        track=track,
        hand=hand,
        camera=camera,
        size=size,
        light=light,
        background=background,
        finish=_finish(rng, domain, size[1]),
        seed=int(rng.integers(2**31)),
    )


def _framing(rng: np.random.Generator, domain: Domain, size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Intrinsics, and where the action is (3,) m so that the hand has its share of the picture."""
    width, height = size
    focal = float(rng.uniform(*domain.focal)) * height
    camera = np.array([[focal, 0, (width - 1) / 2], [0, focal, (height - 1) / 2], [0, 0, 1.0]])
    camera[:2, 2] += rng.normal(0, 0.01, 2) * height
    depth = focal * 0.18 / (float(rng.uniform(*domain.hand_share)) * height)
    aside = np.clip(rng.normal(0, domain.wander, 2), -0.32, 0.32) * height / focal * depth
    return camera, np.array([aside[0], aside[1], max(depth, 0.22)])


def _subject(seed: int, domain: Domain, index: int) -> Subject:
    rng = np.random.default_rng([seed, SEEDS[domain.name], 90, index])
    return looks.draw_subject(rng, domain.tones, domain.shape_spread)


def _object(rng: np.random.Generator, domain: Domain) -> Shape:
    if rng.random() < domain.wild_objects:
        return wild_shape(rng)
    return ycb_shape(str(rng.choice(domain.objects)))


def _finish(rng: np.random.Generator, domain: Domain, height: int) -> Finish:
    tint = np.clip(rng.normal(1, domain.tint, 3), 0.8, 1.2)
    return Finish(
        exposure=float(rng.uniform(*domain.exposure)),
        gamma=float(rng.uniform(0.85, 1.2)) if domain.noise[1] > 0 else 1.0,
        balance=(float(tint[0]), float(tint[1]), float(tint[2])),
        noise=float(rng.uniform(*domain.noise)),
        soft=float(rng.uniform(*domain.soft)) * max(1.0, height / 480),
    )


def _hand(track: Track, person: Subject, camera: np.ndarray) -> Hand:
    joints, vertices = pose_hand(track.pose, person.betas)
    joints, vertices = joints + track.wrist[:, None], vertices + track.wrist[:, None]
    return Hand(track.pose, person.betas, joints, vertices, _flat(joints, camera), _flat(vertices, camera))


def _flat(points: np.ndarray, camera: np.ndarray) -> np.ndarray:
    """Project (..., 3); points behind the camera land far away instead of mirrored."""
    depth = np.maximum(points[..., 2:], 0.05)
    return np.asarray(points[..., :2] / depth * camera[[0, 1], [0, 1]] + camera[:2, 2])


def _kept_inside(track: Track, hand: Hand, camera: np.ndarray, size: tuple[int, int]) -> tuple[Track, Hand]:
    """Shift hand and object sideways so that all joints are inside, with a margin."""
    margin = 0.04 * size[1]
    low, high = hand.joints_px.min(1) - margin, hand.joints_px.max(1) + margin
    inwards = np.maximum(-low, 0) - np.maximum(high - (np.array(size) - 1), 0)
    shift = np.zeros((len(inwards), 3))
    shift[:, :2] = inwards / camera[0, 0] * hand.joints[:, :, 2].max(1)[:, None]
    return _shifted(track, hand, camera, shift)


def _shifted(track: Track, hand: Hand, camera: np.ndarray, shift: np.ndarray) -> tuple[Track, Hand]:
    moved = replace(track, wrist=track.wrist + shift, object_position=track.object_position + shift)
    joints, vertices = hand.joints + shift[:, None], hand.vertices + shift[:, None]
    return moved, Hand(hand.pose, hand.betas, joints, vertices, _flat(joints, camera), _flat(vertices, camera))


def shifted(shot: Shot, shift: np.ndarray) -> Shot:
    """The same action ``shift`` (3,) metres elsewhere in the camera frame."""
    track, hand = _shifted(shot.track, shot.hand, shot.camera, np.repeat(shift[None], shot.frames, axis=0))
    return replace(shot, track=track, hand=hand)


def object_vertices(shot: Shot, frame: int) -> np.ndarray:
    """(V, 3) m, camera frame."""
    return np.asarray(shot.shape.vertices @ shot.track.object_rotation[frame].T + shot.track.object_position[frame])


def bodies(shot: Shot, frame: int) -> list[Body]:
    """The meshes of one frame."""
    result = []
    if shot.track.hand_present[frame]:
        model = stand_in_model()
        hand = Body(render.HAND, shot.hand.vertices[frame], model.faces, shot.subject.skin, gloss=0.10)
        result += [hand, _forearm(shot, frame)]
    if shot.object_shown:
        shape = shot.shape
        white = np.ones((len(shape.vertices), 3))
        result.append(
            Body(render.OBJECT, object_vertices(shot, frame), shape.faces, white, 0.25, shape.uv, shape.texture)
        )
    return result


def _forearm(shot: Shot, frame: int) -> Body:
    """A tube from the opening of the wrist along the arm, bare and then sleeved."""
    ring = shot.hand.vertices[frame][_wrist_ring()]
    centre = ring.mean(0)
    along = shot.track.arm[frame]
    towards = max(-float(along[2]), 1e-6)  # an arm that comes from behind the camera ends before it
    reach = min(0.60, 0.72 * float(centre[2]) / towards)
    shares = reach * np.linspace(0, 1, 15) ** 1.2  # short pieces: the rasteriser pays for bounding boxes
    spread = ring - centre
    sections = [centre + along * share + spread * (1 + 1.6 * min(share, 0.25)) for share in shares]
    sections[0] = ring
    count = len(ring)
    index = np.arange(count)
    faces = []
    for section in range(len(shares) - 1):
        a, b = section * count + index, section * count + (index + 1) % count
        faces += [np.stack([a, b, b + count], axis=1), np.stack([a, b + count, a + count], axis=1)]
    last = (len(shares) - 1) * count
    faces.append(np.stack([np.full(count - 2, last), last + index[1:-1], last + index[2:]], axis=1))
    all_faces = np.concatenate(faces)
    vertices = np.concatenate(sections)
    bare = np.repeat(shares, count) <= shot.subject.sleeve * 0.40
    wrist_skin = shot.subject.skin[_wrist_ring()].mean(0)
    colours = np.where(bare[:, None], wrist_skin, shot.subject.arm)
    return Body(render.ARM, vertices, _arm_faces(all_faces, vertices, along, centre), colours, gloss=0.04)


def _arm_faces(faces: np.ndarray, vertices: np.ndarray, along: np.ndarray, centre: np.ndarray) -> np.ndarray:
    """Turn the tube outwards."""
    corners = vertices[faces]
    normal = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    offset = corners.mean(1) - centre
    radial = offset - np.outer(offset @ along, along)
    return faces if (normal * radial).sum() > 0 else faces[:, ::-1]


@functools.cache
def _wrist_ring() -> np.ndarray:
    return hand_mesh.build().wrist_ring


def picture(shot: Shot, frame: int, *, blur: float = 1.0) -> Picture:
    """Draw one frame; ``blur`` stretches the exposure."""
    layer = render.draw(bodies(shot, frame), shot.camera, shot.size, shot.light)
    path = _speed(shot, frame) * shot.domain.shutter * blur
    rests = bool(np.ptp(shot.track.object_position[max(0, frame - 1) : frame + 2], axis=0).max() < 1e-9)
    still = (render.OBJECT,) if rests else ()
    drawn = render.compose(layer, shot.background, (float(path[0]), float(path[1])), shot.finish.soft, still)
    rng = np.random.default_rng([shot.seed, frame])
    return Picture(looks.finish(drawn.rgb, shot.finish, rng), drawn.depth, drawn.label)


def _speed(shot: Shot, frame: int) -> np.ndarray:
    """Median motion of the hand's joints, px per frame, at most a quarter of the picture."""
    before, after = max(0, frame - 1), min(shot.frames - 1, frame + 1)
    if before == after:
        return np.zeros(2)
    speed = np.median(shot.hand.joints_px[after] - shot.hand.joints_px[before], axis=0) / (after - before)
    limit = shot.size[1] / 4
    return np.asarray(speed * min(1.0, limit / (np.linalg.norm(speed) + 1e-9)))


def hand_box(shot: Shot, frame: int) -> np.ndarray | None:
    """(4,) xyxy px of the hand's mesh, clipped to the picture; None where less than a tenth of it is inside."""
    width, height = shot.size
    px = shot.hand.vertices_px[frame]
    low, high = px.min(0), px.max(0)
    box = np.array([*np.maximum(low, -0.5), *np.minimum(high, [width - 0.5, height - 0.5])])
    full = np.prod(high - low)
    if not shot.track.hand_present[frame] or (box[2:] <= box[:2]).any():
        return None
    return box if np.prod(box[2:] - box[:2]) >= 0.1 * full else None


def object_box(shot: Shot, frame: int) -> np.ndarray | None:
    """The same for the object."""
    width, height = shot.size
    px = render.project(object_vertices(shot, frame), shot.camera)
    box = np.array([*np.maximum(px.min(0), -0.5), *np.minimum(px.max(0), [width - 0.5, height - 0.5])])
    if not shot.object_shown or (box[2:] <= box[:2] + 2).any():
        return None
    return box


def mirrored(image: np.ndarray) -> np.ndarray:
    """The picture of a left hand."""
    return np.ascontiguousarray(cv2.flip(image, 1))
