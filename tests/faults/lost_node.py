"""A label job on a cluster of three nodes on this machine, of which one is lost once the first chunks are written.

python tests/faults/lost_node.py FLAGS OF jobs/label_dataset.py
"""

import os
import sys
import threading
import time
from pathlib import Path

os.environ["RAY_AUTH_MODE"] = "disabled"  # before ray is imported

import ray
from ray.cluster_utils import Cluster

from gaugan.config import parse
from jobs import label_dataset


def main() -> None:
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    nodes = [cluster.add_node(num_cpus=2) for _ in range(2)]
    ray.init(address=cluster.address, log_to_driver=False)
    config = parse(label_dataset.Config)
    output = Path(config.output)

    def lose() -> None:
        while not list(output.glob(".work/*/*.parquet")):
            time.sleep(0.05)
        cluster.remove_node(nodes[0], allow_graceful=False)
        print("a node is lost", flush=True)

    thread = threading.Thread(target=lose, daemon=True)
    thread.start()
    stats = label_dataset.main(config)
    thread.join(timeout=30)
    print(f"{stats['labelled_now']} labelled, {len([node for node in ray.nodes() if node['Alive']])} nodes alive")
    sys.stdout.flush()
    ray.shutdown()
    cluster.shutdown()


if __name__ == "__main__":
    main()
