"""prediction: in the order of the data, whatever the batch; hands without objects; precision."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from labelled import draw_world

from hojoint import config as settings
from hojoint.datasets.freihand import FreiHAND
from hojoint.datasets.ho3d import HO3D
from hojoint.hand.factory import hand_layer
from hojoint.model.network import HOJoint
from hojoint.training import prediction


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    return draw_world(tmp_path_factory.mktemp("world"))


def test_predictions_are_in_the_order_of_the_data(world):
    reader = HO3D(world.data.ho3d, "evaluation", world.crop)
    network, layer = HOJoint(world.model).eval(), hand_layer(world.mano)
    predictions = prediction.predict(network, reader, world, layer, models=reader.models, batch_size=1)
    both = prediction.predict(network, reader, world, layer, models=reader.models, batch_size=8)
    part = prediction.predict(network, reader, world, layer, rows=range(1, 2))
    assert predictions.names == tuple(reader.names)
    np.testing.assert_allclose(predictions.vertices, both.vertices, atol=1e-5)
    np.testing.assert_allclose(part.joints, both.joints[1:2], atol=1e-5)
    assert np.abs(predictions.joints[:, 0]).max() < 1e-6  # wrist-centred
    assert np.isfinite(predictions.object_pose).all()
    assert np.isnan(part.object_pose).all()
    np.testing.assert_allclose(both.true_object_pose[1], reader[1].object_pose)
    joints, _ = reader.truth()
    px = joints.astype(np.float64) @ both.camera.transpose(0, 2, 1)
    px = px[..., :2] / px[..., 2:]
    assert (px > 0).all()  # the crop holds the hand: the camera is the crop's, at the published 512 px
    assert (px < prediction.PUBLISHED_INPUT_PX).all()
    assert px.max() > world.model.input_px


def test_hands_without_objects_are_predicted_too(world):
    reader = FreiHAND(world.data.freihand, "evaluation", world.crop)
    network, layer = HOJoint(world.model).eval(), hand_layer(world.mano)
    predictions = prediction.predict(network, reader, world, layer, models={})
    assert predictions.joints.shape == (3, 21, 3)
    assert np.isfinite(predictions.joints_error_px).all()
    assert np.isnan(predictions.object_pose).all()
    assert not predictions.object_solved.any()


def test_evaluation_is_in_float32_on_a_gpu_too(world, monkeypatch):
    config = settings.changed(world, train={"mixed_precision": True})
    reader = FreiHAND(world.data.freihand, "evaluation", world.crop)
    network, layer = HOJoint(world.model), hand_layer(world.mano)
    halved = []
    network.register_forward_pre_hook(lambda *_: halved.append(torch.is_autocast_enabled("cuda")))
    prepare = prediction.prepare  # the tensors stay on the CPU: the test needs no GPU
    monkeypatch.setattr(prediction, "prepare", lambda batch, of, draws, device: prepare(batch, of, draws, "cpu"))
    prediction.predict(network, reader, config, layer, device="cuda")
    assert halved == [False]
