"""Build the sdist and the wheel, install each into an empty environment outside the tree, and try what it brought.

    python tests/check_packaging.py

Exit status 0 only if from both ``twistd --help`` lists groupcomm, both commands say their version, the types are
marked, and taking the package away again leaves Twisted whole.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LEFT_OUT = (".venv", ".git", "build", "dist", "*.egg-info", "__pycache__", ".*_cache", ".hypothesis", "_trial_temp*")


class Wrong(Exception):
    """Something is not as it must be; the text says what."""


def main() -> int:
    """Check both and return the exit status."""
    with tempfile.TemporaryDirectory(prefix="groupcomm-packaging-") as name:
        work = Path(name)
        try:
            for artefact in build(work):
                check(artefact, work)
        except Wrong as error:
            print(f"packaging: {error}")
            return 1
    return 0


def build(work: Path) -> list[Path]:
    """The sdist, and the wheel made from it."""
    tree, dist = work / "tree", work / "dist"
    shutil.copytree(ROOT, tree, ignore=shutil.ignore_patterns(*LEFT_OUT))
    run(work, sys.executable, "-m", "build", "--outdir", str(dist), str(tree))
    built = sorted(dist.iterdir())
    if [path.name.split("-")[0] for path in built] != ["groupcomm", "groupcomm"]:
        raise Wrong(f"expected one sdist and one wheel, not {', '.join(path.name for path in built)}")
    return built


def check(artefact: Path, work: Path) -> None:
    """Install ``artefact`` into an environment of its own and try it from outside the tree."""
    home = work / f"environment-{artefact.suffix.lstrip('.')}"
    venv.create(home, symlinks=True)
    python, bin_folder = home / "bin" / "python", home / "bin"
    pip = (sys.executable, "-m", "pip", "--python", str(python), "--disable-pip-version-check")
    run(work, *pip, "install", "--quiet", str(artefact))
    version = own_version()
    expect(version, run(work, str(bin_folder / "groupcomm"), "--version"), "groupcomm --version")
    expect("groupcomm ", run(work, str(bin_folder / "twistd"), "--help"), "twistd --help")
    expect("--cluster", run(work, str(bin_folder / "twistd"), "groupcomm", "--help"), "twistd groupcomm --help")
    expect(version, run(work, str(bin_folder / "twistd"), "groupcomm", "--version"), "twistd groupcomm --version")
    installed = run(work, str(python), "-c", "import groupcomm; print(groupcomm.__file__)").strip()
    if not (Path(installed).parent / "py.typed").exists():
        raise Wrong(f"{artefact.name} installs no py.typed beside {installed}")
    run(work, *pip, "uninstall", "--quiet", "--yes", "groupcomm")
    if "groupcomm " in run(work, str(bin_folder / "twistd"), "--help"):
        raise Wrong("twistd still lists groupcomm after it was taken away")
    print(f"{artefact.name}: installed, tried and taken away again")


def expect(text: str, printed: str, command: str) -> None:
    """Raise if ``command`` did not print ``text``."""
    if text not in printed:
        raise Wrong(f"'{command}' says nothing of {text!r}:\n{printed}")


def own_version() -> str:
    """The version of this tree."""
    code = "from groupcomm._version import __version__; print(__version__)"
    return run(ROOT, sys.executable, "-c", code).strip()


def run(folder: Path, *command: str) -> str:
    """What ``command`` prints, run in ``folder``; raises if it fails."""
    done = subprocess.run(
        command, cwd=folder, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    if done.returncode:
        raise Wrong(f"'{' '.join(command)}' ended with status {done.returncode}:\n{done.stdout}")
    return done.stdout


if __name__ == "__main__":
    sys.exit(main())
