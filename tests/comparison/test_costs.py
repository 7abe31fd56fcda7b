"""What a trunk costs."""

import pytest

from fastcls.backend import import_keras
from fastcls.bases.loader import load_base
from fastcls.comparison.costs import Cost
from fastcls.comparison.ranking import find_efficient
from fastcls.cutter import bottleneck_model, cut
from fastcls.specs import BaseSpec


def test_cost__of_mobilenetv2_is_that_of_its_paper():
    """300 M multiply-adds (Sandler et al. 2018, table 4), of which 1.28 M are the classifier's."""
    trunk = bottleneck_model(cut(load_base(BaseSpec("mobilenetv2", weights="random"))))
    cost = Cost.of_model(trunk)
    assert cost.multiply_adds == pytest.approx(300e6, rel=0.01)
    assert cost.parameters == 2_257_984  # keras.applications without its top


def test_cost__a_layer_that_is_called_twice_has_its_parameters_once():
    keras = import_keras()
    image = keras.Input((4,))
    layer = keras.layers.Dense(4)
    assert Cost.of_model(keras.Model(image, layer(layer(image)))) == Cost(2 * 16, 20)


@pytest.mark.parametrize(
    ("costs", "values", "expected"),
    [
        ([3, 1, 2], [0.9, 0.7, 0.8], [True, True, True]),
        ([3, 1, 2], [0.7, 0.9, 0.8], [False, True, False]),
        ([1, 1], [0.5, 0.6], [False, True]),
        ([1, 2], [0.5, 0.5], [True, False]),
        ([1, 1], [0.5, 0.5], [True, True]),
    ],
)
def test_find_efficient__is_the_pareto_front(costs, values, expected):
    assert find_efficient(costs, values) == expected
