"""``mano.layer: manopth``: Hasson's layer, run on our loaded arrays, behind the calls of ``layer.ManoLayer``.

manopth is not on PyPI, is GPL-3 and its own loader needs chumpy, which no longer imports; so none of its code is
here and its loader is not used: during construction the layer gets a loader that returns our arrays.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

import numpy as np
import scipy.sparse
import torch
from torch import Tensor, nn

from hojoint import geometry
from hojoint.errors import InputError
from hojoint.hand.layer import ManoOutput
from hojoint.hand.model import HandModel, fingertip_ids

_LOADER = "mano.webuser.smpl_handpca_wrapper_HAND_only"
_TIPS_SIMPLE = [4, 8, 12, 16, 20]


class ManopthLayer(nn.Module):
    """manopth's ManoLayer as a ``HandLayer``: in metres, centred on the wrist, with the named fingertips; float32."""

    mean_pose: Tensor  # (45,)

    def __init__(self, model: HandModel, *, flat_hand_mean: bool = True, fingertips: str = "ho3d_v2") -> None:
        super().__init__()
        self.faces = model.faces
        self.tips = list(fingertip_ids(fingertips))
        mean = np.zeros(45) if flat_hand_mean else model.hands_mean
        self.register_buffer("mean_pose", torch.tensor(mean, dtype=torch.float32), persistent=False)
        with _arrays_for_loader(model) as module:
            # Always flat: the mean is added below, once for both of our calls.
            self.layer = module.ManoLayer(
                center_idx=0, flat_hand_mean=True, ncomps=45, side="right", use_pca=False, joint_rot_mode="axisang"
            )
        # As in ManoLayer: the model must not travel inside checkpoints.
        self.layer._non_persistent_buffers_set.update(self.layer._buffers)

    def forward(self, pose: Tensor, betas: Tensor) -> ManoOutput:
        """The hand of a pose (B, 48) rad, axis-angle in MANO's joint order, root first, and betas (B, 10)."""
        pose = torch.cat((pose[:, :3], pose[:, 3:] + self.mean_pose), dim=1)
        with torch.autocast(pose.device.type, enabled=False):
            vertices, joints = self.layer(pose.float(), betas.float())[:2]
        vertices, joints = vertices / 1000, joints / 1000  # manopth returns millimetres
        joints = joints.index_copy(1, torch.tensor(_TIPS_SIMPLE, device=joints.device), vertices[:, self.tips])
        return ManoOutput(vertices=vertices, joints=joints)

    def from_rotations(self, rotations: Tensor, betas: Tensor) -> ManoOutput:
        """The hand of rotations (B, 16, 3, 3), root first, and betas (B, 10); the mean pose is not added."""
        pose = geometry.matrix_to_axis_angle(rotations).flatten(1)
        return self(torch.cat((pose[:, :3], pose[:, 3:] - self.mean_pose), dim=1), betas)


class _Chumpy(np.ndarray):
    """An array with chumpy's ``r``, the one attribute of it that the layer reads."""

    @property
    def r(self) -> np.ndarray:
        return np.asarray(self)


@contextmanager
def _arrays_for_loader(model: HandModel) -> Iterator[Any]:
    """manopth's module of the layer, whose file loader returns the arrays of ``model`` while the context lasts."""
    module = _import_layer()
    arrays: dict[str, Any] = {
        "J_regressor": scipy.sparse.csc_matrix(model.J_regressor),
        "f": model.faces,
        "kintree_table": np.stack((model.parents, np.arange(16))),
        "hands_mean": model.hands_mean,
        "hands_components": model.hands_components,
        "betas": np.zeros(10).view(_Chumpy),
    }
    for name in ("v_template", "shapedirs", "posedirs", "weights"):
        arrays[name] = np.array(getattr(model, name)).view(_Chumpy)
    original = module.ready_arguments
    module.ready_arguments = lambda path, *_: dict(arrays)
    try:
        yield module
    finally:
        module.ready_arguments = original


def _import_layer() -> Any:
    try:
        return importlib.import_module("manopth.manolayer")
    except ImportError as error:
        if (error.name or "").partition(".")[0] not in ("mano", "chumpy"):
            raise _not_installed(error) from None
    # manopth exists but its file loader, which needs chumpy, does not: it is not needed either.
    stub = ModuleType(_LOADER)
    stub.ready_arguments = None  # type: ignore[attr-defined]
    names = ("mano", "mano.webuser", _LOADER)
    before = {name: sys.modules.get(name) for name in names}
    sys.modules.update({"mano": ModuleType("mano"), "mano.webuser": ModuleType("mano.webuser"), _LOADER: stub})
    try:
        return importlib.import_module("manopth.manolayer")
    except ImportError as error:
        raise _not_installed(error) from None
    finally:
        for name, module in before.items():
            if module is None:
                sys.modules.pop(name, None)
            else:
                sys.modules[name] = module


def _not_installed(error: ImportError) -> InputError:
    return InputError(
        f"mano.layer=manopth needs the package manopth, which cannot be imported ({error}). Clone "
        "https://github.com/hassony2/manopth (GPL-3) and add the folder to PYTHONPATH; its setup.py asks for chumpy, "
        "which is not needed here. Or set mano.layer=builtin, which computes the same hands."
    )
