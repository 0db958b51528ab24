"""Models with their parameters left out."""

import pytest

from multimodal.models import build as models
from tests.toy import build, toy_config


@pytest.mark.parametrize("family", ["dual_encoder", "uniter"])
def test_a_run_traces_its_parameters_twice_however_often_it_asks(family, monkeypatch):
    settings, made = toy_config(family), []
    kind = models.MODELS[type(settings.model)]

    def counted(*args, **kwargs):
        made.append(kind)
        return kind(*args, **kwargs)

    monkeypatch.setitem(models.MODELS, type(settings.model), counted)
    run = build(settings)  # once for the graph, once for the shapes
    shapes = run.model.shapes()
    shapes.clear()  # the caller's own
    assert run.model.shapes().keys() == run.model.axes.keys()
    assert len(made) == 2
