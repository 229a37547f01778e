"""Storage addresses in MLflow's words (`models:/…`, `runs:/…`, `mlflow-artifacts:/…`), turned into those that can be fetched.

An alias and a stage are looked up when a revision is made; a service does not follow them when they move.
"""

from __future__ import annotations

from goldenloop.control.world import World
from goldenloop.standards.mlflow.addresses import PROXIED, is_tracked
from goldenloop.tracking.places import TREE, folder_of, path_in_tree


def fetchable(world: World, address: str) -> str:
    """The address of the same files for whoever fetches them. Raises NotFoundError, InvalidSpecError."""
    if not is_tracked(address):
        return address
    with world.database.read() as transaction:
        folder = folder_of(transaction, address)
    if not folder.startswith(f"{PROXIED}:"):
        return folder
    return world.artifacts.tree(TREE).address(path_in_tree(folder))
