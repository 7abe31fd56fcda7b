"""TensorFlow's checkpoints: arrays, and the graph of the objects that hold them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Checkpoint:
    """One object of a checkpoint.

    Attributes:
        number: Its number in `nodes`.
        nodes: All objects.
        arrays: What reads an array by its key.
    """

    number: int
    nodes: Any
    arrays: Any

    @property
    def children(self) -> dict[str, Checkpoint]:
        """The objects that it holds, by the name of the attribute."""
        found = self.nodes[self.number].children
        return {child.local_name: Checkpoint(child.node_id, self.nodes, self.arrays) for child in found}

    def read(self) -> Any:
        """The array of a variable.

        Raises:
            ValueError: It is no variable.
        """
        keys = [attribute.checkpoint_key for attribute in self.nodes[self.number].attributes]
        if len(keys) != 1:
            raise ValueError("its checkpoint lacks weights")
        return self.arrays.get_tensor(keys[0])


def open_checkpoint(prefix: Path) -> Checkpoint:
    """Open a checkpoint, which holds no code, at its outermost object.

    Args:
        prefix: Its files without what comes after the ".".
    """
    import tensorflow as tf
    from tensorflow.core.protobuf.trackable_object_graph_pb2 import TrackableObjectGraph

    arrays = tf.train.load_checkpoint(str(prefix))
    graph = TrackableObjectGraph.FromString(arrays.get_tensor("_CHECKPOINTABLE_OBJECT_GRAPH"))
    return Checkpoint(0, graph.nodes, arrays)
