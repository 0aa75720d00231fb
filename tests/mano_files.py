"""Random files with the keys and shapes of MANO_RIGHT.pkl, and random poses."""

import pickle

import numpy as np
import scipy.sparse
import torch

PARENTS = [-1, 0, 1, 2, 0, 4, 5, 0, 7, 8, 0, 10, 11, 0, 13, 14]


def random_file(seed=0):
    """The keys and shapes of MANO_RIGHT.pkl around random numbers."""
    rng = np.random.default_rng(seed)
    regressor = np.where(rng.random((16, 778)) < 0.02, rng.random((16, 778)), 0.0) + np.eye(16, 778)
    weights = rng.random((778, 16)) ** 8
    kintree = np.stack((np.array(PARENTS, dtype=np.int64) % 2**32, np.arange(16)))
    return {
        "v_template": rng.normal(0, 0.05, (778, 3)),
        "f": rng.integers(0, 778, (1538, 3)).astype(np.uint32),
        "shapedirs": rng.normal(0, 0.005, (778, 3, 10)),
        "posedirs": rng.normal(0, 0.005, (778, 3, 135)),
        "J_regressor": scipy.sparse.csc_matrix(regressor / regressor.sum(1, keepdims=True)),
        "weights": weights / weights.sum(1, keepdims=True),
        "kintree_table": kintree,
        "hands_mean": rng.normal(0, 0.3, 45),
        "hands_components": np.linalg.qr(rng.normal(size=(45, 45)))[0],
        "bs_style": "lbs",
        "bs_type": "lrotmin",
    }


def write(tmp_path, content, protocol=2):
    path = tmp_path / "MANO_RIGHT.pkl"
    path.write_bytes(pickle.dumps(content, protocol))
    return path


def random_pose(count, seed=0, dtype=torch.float64):
    """Pose (B, 48) rad and betas (B, 10)."""
    rng = np.random.default_rng(seed)
    pose, betas = rng.normal(0, 0.6, (count, 48)), rng.normal(0, 1, (count, 10))
    return torch.tensor(pose, dtype=dtype), torch.tensor(betas, dtype=dtype)
