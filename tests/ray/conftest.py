"""A real Ray cluster of two nodes on this machine, for all tests here."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from typing import Any

import pytest

pytest.importorskip("ray", reason="Ray is not installed")

# Nothing is reported about these tests, and no thread looks for something to report.
os.environ["RAY_USAGE_STATS_ENABLED"] = "0"

import ray
from ray.cluster_utils import Cluster

OBJECT_STORE_BYTES = 400 << 20
NODE_CPUS = 4


@pytest.fixture(scope="session")
def cluster() -> Iterator[Any]:
    """Two nodes, which this process has joined; tests may add more, and take those away again."""
    node = {"num_cpus": NODE_CPUS, "object_store_memory": OBJECT_STORE_BYTES, "include_dashboard": False}
    # That a node is gone is noticed in a few seconds, not in fifteen; one that is only slow has as long as ever.
    noticing = {"health_check_initial_delay_ms": 0, "health_check_period_ms": 500}
    cluster = Cluster(initialize_head=True, head_node_args={**node, "_system_config": noticing})
    try:
        cluster.add_node(**node)
        ray.init(address=cluster.address, log_to_driver=False, include_dashboard=False)
        yield cluster
    finally:
        ray.shutdown()
        left = cluster.head_node.get_session_dir_path()
        cluster.shutdown()
        shutil.rmtree(left, ignore_errors=True)  # Ray leaves its logs behind.
