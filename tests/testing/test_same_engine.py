"""What is simulated is the product: its engine, unchanged, made of the same modules."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

import groupcomm
from groupcomm.engine import Engine
from groupcomm.testing.cluster import Cluster

CORE = ("wire", "packing", "reliability", "ordering", "membership", "engine")
PACKAGE = Path(groupcomm.__file__).parent

SIMULATED = "from groupcomm.testing.swarm import run_seed; run_seed('1')"
REAL = "import groupcomm.node.service"
TELL = """
import json, sys
print(json.dumps({name: module.__file__ for name, module in sys.modules.items() if name.startswith("groupcomm.")}))
"""


def core_modules(program: str) -> dict[str, str]:
    """The modules of the core, and their files, that a program of its own has loaded."""
    done = subprocess.run(
        [sys.executable, "-c", program + TELL],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        check=True,
        capture_output=True,
        text=True,
    )
    return {name: path for name, path in json.loads(done.stdout).items() if name.split(".")[1] in CORE}


class SameEngineTests(SynchronousTestCase):
    def test_simulation_and_daemon_load_the_same_core(self) -> None:
        """A run of the simulator and a node under the reactor consist of the same modules, from the same files."""
        simulated, real = core_modules(SIMULATED), core_modules(REAL)
        self.assertIn("groupcomm.engine", real)
        self.assertEqual(simulated, real)

    def test_a_simulated_node_runs_the_product_s_engine(self) -> None:
        """It is the engine's own class, no subclass, and none of its methods is replaced."""
        (node,) = Cluster(seed=1).add_nodes("a")
        self.assertIs(type(node.engine), Engine)
        self.assertFalse(getattr(node.engine, "__dict__", {}).keys() & vars(Engine).keys())

    def test_the_core_does_not_know_the_simulator(self) -> None:
        """No module of the core imports the simulator or looks for one."""
        seen = 0
        for room in CORE:
            for path in sorted((PACKAGE / room).rglob("*.py")) or [PACKAGE / f"{room}.py"]:
                seen += 1
                for node in ast.walk(ast.parse(path.read_text("utf-8"))):
                    if isinstance(node, ast.Import | ast.ImportFrom):
                        names = [alias.name for alias in node.names] + [getattr(node, "module", "") or ""]
                        self.assertFalse([name for name in names if "testing" in name], path)
        self.assertGreater(seen, len(CORE))
