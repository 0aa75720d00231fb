"""Triangle meshes: normals, smoothing, and turning every face outwards."""

from __future__ import annotations

import numpy as np


def normals(vertices: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """Unit vertex normals of a mesh, area-weighted, (V, 3)."""
    corners = vertices[faces]
    face_normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    result = np.stack(
        [np.bincount(faces.ravel(), np.repeat(face_normals[:, c], 3), len(vertices)) for c in range(3)], axis=1
    )
    return result / (np.linalg.norm(result, axis=1, keepdims=True) + 1e-12)


def relaxed(vertices: np.ndarray, faces: np.ndarray, fixed: np.ndarray) -> np.ndarray:
    """A few steps of Laplacian smoothing where palm, webs and thumb meet (with the inverse step against shrinking)."""
    edges = np.unique(np.sort(np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]]), axis=1), axis=0)
    for step in (0.5, -0.35) * 4:
        total, count = np.zeros_like(vertices), np.zeros((len(vertices), 1))
        for end, other_end in ((0, 1), (1, 0)):
            np.add.at(total, edges[:, end], vertices[edges[:, other_end]])
            np.add.at(count, edges[:, end], 1)
        moved = vertices + step * (total / count - vertices)
        vertices = np.where(fixed[:, None], vertices, moved)
    return vertices


def outwards(vertices: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """Make neighbouring faces agree, walking over shared edges, then choose the side with positive volume."""
    by_edge: dict[tuple[int, int], list[int]] = {}
    for index, face in enumerate(faces.tolist()):
        for a, b in zip(face, face[1:] + face[:1], strict=True):
            by_edge.setdefault((min(a, b), max(a, b)), []).append(index)
    result = faces.copy()
    done = np.zeros(len(faces), dtype=bool)
    done[0] = True
    queue = [0]
    while queue:
        index = queue.pop()
        face = result[index].tolist()
        for a, b in zip(face, face[1:] + face[:1], strict=True):
            for other in by_edge[(min(a, b), max(a, b))]:
                if not done[other]:
                    other_face = result[other].tolist()
                    if (a, b) in zip(other_face, other_face[1:] + other_face[:1], strict=True):
                        result[other] = result[other][::-1]
                    done[other] = True
                    queue.append(other)
    centred = vertices - vertices.mean(0)
    corners = centred[result]
    volume = np.einsum("fi,fi->", corners[:, 0], np.cross(corners[:, 1], corners[:, 2]))
    return result if volume > 0 else result[:, ::-1].copy()
