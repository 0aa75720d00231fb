"""Motion of a hand and an object through the frames of a shot: grasps in turn, approach and leave, smooth paths.

A ``Track`` is geometry alone, in the camera frame: no appearance, no pixels. Hand and object move as one between
contact and release; the object rests where it was left.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.interpolate import PchipInterpolator
from scipy.spatial.transform import Rotation, Slerp

from hojoint.hand.stand_in import anatomy
from hojoint.hand.stand_in.angles import clip_angles, draw_angles, pose_from_angles
from hojoint.synthetic import grasps
from hojoint.synthetic.objects import Shape


@dataclass(frozen=True, kw_only=True)
class View:
    """From where hands are seen and how they move; angles in radians."""

    centre: tuple[float, float, float]  # direction from the hand to the camera, hand's rest frame
    cone: float  # half angle around it; pi is every direction
    roll: float  # half range of the turn in the image plane
    turn: float  # how far the hand turns from key to key
    drift: float  # how far it moves from key to key, hand lengths
    key_frames: tuple[int, int]  # frames between the keys of a path
    grasp_frames: tuple[int, int]  # frames between changes of grasp


@dataclass(frozen=True, eq=False)
class Track:
    """T frames of a hand, and of an object that may be absent."""

    pose: np.ndarray  # (T, 48) rad, root in the camera frame
    wrist: np.ndarray  # (T, 3) m, camera frame
    arm: np.ndarray  # (T, 3) unit, from the wrist along the forearm, camera frame
    object_rotation: np.ndarray  # (T, 3, 3) model to camera
    object_position: np.ndarray  # (T, 3) m
    hand_present: np.ndarray  # (T,) bool: the hand takes part (it may still be outside the picture)


def view_rotation(rng: np.random.Generator, view: View) -> np.ndarray:
    """Root rotation (3, 3), hand's rest frame to camera, of one viewpoint; never along the forearm."""
    centre = np.array(view.centre) / np.linalg.norm(view.centre)
    while True:
        direction = rng.normal(size=3)
        direction /= np.linalg.norm(direction)
        if direction @ centre >= np.cos(view.cone) and direction[0] < 0.75:
            break
    forward = -direction  # the camera's z axis, in the hand's frame
    fingers = np.array([-1.0, 0, 0])
    up = fingers - forward * (fingers @ forward)
    if np.linalg.norm(up) < 0.2:
        up = np.array([0, 1.0, 0]) - forward * forward[1]
    down = -up / np.linalg.norm(up)
    right = np.cross(down, forward)
    base = np.stack([right, down, forward])
    return Rotation.from_rotvec([0, 0, rng.uniform(-view.roll, view.roll)]).as_matrix() @ base


def smooth_path(rng: np.random.Generator, frames: int, spacing: tuple[int, int], sigma: np.ndarray) -> np.ndarray:
    """(frames, D): a path through Gaussian keys, without overshoot."""
    keys = [0]
    while keys[-1] < frames - 1:
        keys.append(keys[-1] + int(rng.integers(spacing[0], spacing[1] + 1)))
    values = rng.normal(size=(len(keys), len(sigma))) * sigma
    if len(keys) < 2:
        return np.zeros((frames, len(sigma)))
    return np.asarray(PchipInterpolator(keys, values)(np.arange(frames)))


def _grasp_plan(
    rng: np.random.Generator, shape: Shape, frames: int, spacing: tuple[int, int]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Angles (T, 15, 3) and the object in the hand's rest frame (T, 3, 3), (T, 3), through several grasps.

    Between two grasps the fingers open a little while the object turns over into the next one.
    """
    times, held = [0], [grasps.grasp_object(rng, shape)]
    while times[-1] + spacing[0] < frames:
        times.append(times[-1] + int(rng.integers(spacing[0], spacing[1] + 1)))
        held.append(grasps.grasp_object(rng, shape))
    change = 3 if spacing[0] < 10 else 6
    angles = np.empty((frames, 15, 3))
    rotation, translation = np.empty((frames, 3, 3)), np.empty((frames, 3))
    for frame in range(frames):
        index = max(i for i, time in enumerate(times) if time <= frame)
        grasp, share = held[index], 0.0
        if index + 1 < len(held):
            share = float(np.clip((frame - (times[index + 1] - change)) / change, 0, 1))
        share = share * share * (3 - 2 * share)
        after = held[min(index + 1, len(held) - 1)]
        opening = np.sin(np.pi * share) * 0.55
        closed = grasp.closed + share * (after.closed - grasp.closed)
        opened = grasp.opened + share * (after.opened - grasp.opened)
        angles[frame] = closed + opening * (opened - closed)
        between = Slerp([0, 1], Rotation.from_matrix([grasp.rotation, after.rotation]))
        rotation[frame] = between(share).as_matrix()
        translation[frame] = grasp.translation + share * (after.translation - grasp.translation)
    return angles, rotation, translation


def _free_plan(rng: np.random.Generator, frames: int, spacing: tuple[int, int]) -> np.ndarray:
    """Angles (T, 15, 3) of a hand that holds nothing."""
    keys = [0]
    while keys[-1] < frames - 1:
        keys.append(keys[-1] + int(rng.integers(spacing[0], spacing[1] + 1)))
    values = np.array([draw_angles(rng) for _ in keys])
    if len(keys) < 2:
        return np.repeat(values[:1], frames, axis=0)
    return np.asarray(PchipInterpolator(keys, values)(np.arange(frames)))


def make_track(
    rng: np.random.Generator, view: View, story: str, shape: Shape, frames: int, middle: np.ndarray
) -> Track:
    """A story: 'hold', 'pick', 'place', 'gesture' or 'alone' (no hand). ``middle`` (3,) m: where the action is."""
    base = view_rotation(rng, view)
    turns = Rotation.from_rotvec(smooth_path(rng, frames, view.key_frames, np.full(3, view.turn)))
    rotation = (turns * Rotation.from_matrix(base)).as_matrix()
    length = 0.18
    drift = smooth_path(rng, frames, view.key_frames, view.drift * length * np.array([1, 1, 0.6]))
    hand_centre = rotation @ np.array([-0.085, -0.01, 0.0])  # so that the hand and not its wrist is in the middle
    wrist = middle + drift - hand_centre
    root = anatomy.WRIST
    if story == "gesture":
        angles = _free_plan(rng, frames, view.key_frames)
        held_rotation = np.repeat(np.eye(3)[None], frames, axis=0)
        held_place = np.repeat(root[None], frames, axis=0)
    else:
        angles, held_rotation, held_place = _grasp_plan(rng, shape, frames, view.grasp_frames)
    angles = angles + smooth_path(rng, frames, (4, 9), np.full(45, np.deg2rad(1.5))).reshape(frames, 15, 3)
    object_rotation = rotation @ held_rotation
    object_position = wrist + np.einsum("tij,tj->ti", rotation, held_place - root)
    if story == "gesture":
        object_rotation, object_position = _lying(rng, frames, middle)
    present = np.full(frames, story != "alone")
    if story in ("pick", "place", "alone"):
        moved = _approach(rng, story, rotation, wrist, angles, object_rotation, object_position)
        rotation, wrist, angles, object_rotation, object_position = moved
    angles = clip_angles(angles)
    bend = Rotation.from_rotvec(np.array([0, rng.normal(0, 0.25), rng.normal(0, 0.35)])).as_matrix()
    pose = np.concatenate([Rotation.from_matrix(rotation).as_rotvec(), pose_from_angles(angles)], axis=1)
    arm = _beside_the_camera(rotation @ (bend @ np.array([1.0, 0, 0])))
    return Track(pose, wrist, arm, object_rotation, object_position, present)


def _beside_the_camera(arm: np.ndarray) -> np.ndarray:
    """Bend the wrist where the forearm (T, 3) would come straight at the lens."""
    sideways = arm[:, :2] + [0.0, 0.05]
    sideways = sideways / np.linalg.norm(sideways, axis=1, keepdims=True)
    depth = np.maximum(arm[:, 2:], -0.5)
    return np.concatenate([sideways * np.sqrt(1 - depth**2), depth], axis=1)


def _lying(rng: np.random.Generator, frames: int, middle: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """An object beside and behind the hand, at rest."""
    turn = Rotation.random(rng=rng).as_matrix()
    position = middle + np.array([rng.choice([-1, 1]) * rng.uniform(0.10, 0.2), rng.uniform(-0.05, 0.1), 0.12])
    return np.repeat(turn[None], frames, axis=0), np.repeat(position[None], frames, axis=0)


def _approach(
    rng: np.random.Generator,
    story: str,
    rotation: np.ndarray,
    wrist: np.ndarray,
    angles: np.ndarray,
    object_rotation: np.ndarray,
    object_position: np.ndarray,
) -> tuple[np.ndarray, ...]:
    """Before the contact the object rests and the hand comes from outside, opening; 'place' is that backwards."""
    frames = len(wrist)
    contact = int(rng.integers(frames // 4, max(frames // 4 + 1, frames // 2)))
    if story == "alone":
        contact = frames - 1
    order = slice(None, None, -1) if story == "place" else slice(None)
    rotation, wrist, angles = rotation[order].copy(), wrist[order].copy(), angles[order].copy()
    object_rotation, object_position = object_rotation[order].copy(), object_position[order].copy()
    object_rotation[:contact], object_position[:contact] = object_rotation[contact], object_position[contact]
    away = np.clip((contact - np.arange(frames)) / max(contact, 1), 0, None)[:, None]
    path = rotation[contact] @ np.array([1.0, 0.35, rng.normal(0, 0.3)])
    far = rng.uniform(0.22, 0.42)
    eased = away**1.4
    held = np.arange(frames) < contact
    wrist = np.where(held[:, None], wrist[contact] + eased * far * path, wrist)
    open_hand = clip_angles(0.35 * angles[contact])
    share = np.clip(away * 2.5, 0, 1)[..., None]
    angles = np.where(held[:, None, None], angles[contact] + share * (open_hand - angles[contact]), angles)
    turned = Rotation.from_rotvec(eased * rng.normal(0, 0.35, 3)) * Rotation.from_matrix(rotation[contact])
    rotation = np.where(held[:, None, None], turned.as_matrix(), rotation)
    return tuple(part[order] for part in (rotation, wrist, angles, object_rotation, object_position))
