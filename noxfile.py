"""Every check of this repository: `nox` runs lint, types and tests; `nox -s NAME` any other session.

The default sessions share the environment that nox itself is installed in: torch alone is 5.7 GB.
"""

import sys
import tempfile
from pathlib import Path

import nox

nox.options.sessions = ["lint", "types", "tests"]
nox.options.default_venv_backend = "none"

# Packages that need no torch, and their tests.
LIGHT = [
    *(
        f"{root}/{package}"
        for package in ("config", "core", "data", "ensembling", "evaluation", "runs", "submission")
        for root in ("abaw_emi", "tests")
    ),
    "tests/cli",
]


def python(session: nox.Session, *arguments: str) -> None:
    """Runs a module in the shared environment."""
    # One thread each: the tests' models are small, and pytest runs one worker per core.
    session.run(sys.executable, "-m", *arguments, external=True, env={"OMP_NUM_THREADS": "1"})


@nox.session
def lint(session: nox.Session) -> None:
    """Ruff's rules and format, and which package may import which (pyproject.toml, `importlinter`)."""
    python(session, "ruff", "check", ".")
    python(session, "ruff", "format", "--check", ".")
    session.run(str(Path(sys.executable).with_name("lint-imports")), "--no-logo", external=True)


@nox.session
def types(session: nox.Session) -> None:
    """Strict mypy on the package."""
    python(session, "mypy")


@nox.session
def tests(session: nox.Session) -> None:
    """The quick suite."""
    quick = "not end_to_end and not exact and not browser and not slurm and not gpu"
    python(session, "pytest", "-m", quick, "-n", "auto", *session.posargs)


@nox.session(default=False)
def parity(session: nox.Session) -> None:
    """The claims of equality: released forward, transformers, scipy."""
    python(session, "pytest", "tests/parity", "tests/evaluation/test_score.py", *session.posargs)


@nox.session(default=False)
def end_to_end(session: nox.Session) -> None:
    """Everything through the command line: the demo, and the four lines on foreign data. Minutes."""
    python(session, "pytest", "-m", "end_to_end", "tests", *session.posargs)


@nox.session(default=False)
def exact(session: nox.Session) -> None:
    """The same bits after twenty kills, and from two processes. Minutes."""
    python(session, "pytest", "-m", "exact", "-n", "2", "tests", *session.posargs)


@nox.session(default=False)
def gpu(session: nox.Session) -> None:
    """What an NVIDIA GPU computes is what a CPU computes; without one the tests fail. Minutes."""
    python(session, "pytest", "-m", "gpu", "tests/gpu", *session.posargs)


@nox.session(default=False)
def slurm(session: nox.Session) -> None:
    """`sweep` on a real Slurm of one machine, as root; of Debian's packages slurm-wlm and munge. Minutes."""
    python(session, "pytest", "-m", "slurm", "tests/experiments", *session.posargs)


@nox.session(default=False)
def fuzz_media(session: nox.Session) -> None:
    """1,500 damaged sound and video files, each read or refused by name; `-- --seed N` repeats them."""
    python(session, "tests.audio.fuzz", *session.posargs)


@nox.session(default=False)
def fuzz_tables(session: nox.Session) -> None:
    """10,000 damaged tables, archives and records, read rightly or refused; `-- --seed N` repeats them."""
    python(session, "tests.submission.fuzz", *session.posargs)


@nox.session(default=False, venv_backend="venv")
def browser(session: nox.Session) -> None:
    """The report's page in headless Chromium, Debian's package `chromium`; without one the tests fail."""
    session.install("-e", ".[report]", "pytest", "hypothesis", "playwright")
    session.run("pytest", "-m", "browser", "tests/report", *session.posargs)


@nox.session(default=False, venv_backend="venv")
def light(session: nox.Session) -> None:
    """What needs no torch, in an environment without it."""
    session.install("-e", ".", "pytest", "hypothesis", "pandas")
    session.run("python", "-c", "import importlib.util as u; assert u.find_spec('torch') is None")
    session.run("pytest", *LIGHT, *session.posargs)


@nox.session(default=False, venv_backend="venv")
def docs(session: nox.Session) -> None:
    """The site of docs/, into site/; a dead link or an unknown name is an error."""
    session.install("-e", ".[docs]")
    # The variable: no announcement of mkdocs-material's successor.
    session.run("mkdocs", "build", "--strict", env={"NO_MKDOCS_2_WARNING": "1"})


@nox.session(default=False, venv_backend="venv")
def build(session: nox.Session) -> None:
    """The wheel, installed elsewhere, starts."""
    session.install("build")
    with tempfile.TemporaryDirectory() as folder:
        session.run("python", "-m", "build", "--outdir", folder)
        (wheel,) = Path(folder).glob("*.whl")
        session.install(str(wheel))
        session.run("abaw-emi", "--help")


@nox.session(default=False)
def real(session: nox.Session) -> None:
    """Real voices, Whisper and MiniLM out of packages of PyPI and Debian, through every command. An hour."""
    python(session, "benchmarks.real", *session.posargs)
