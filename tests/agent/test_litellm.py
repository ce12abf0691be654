"""A model through LiteLLM, up to a server of Chat Completions."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

from chatkit_rag.agent.models import choose_model
from chatkit_rag.errors import MissingExtra
from chatkit_rag.testing import FakeModelServer
from protocol.frames import COVERED

INSTALLED = importlib.util.find_spec("litellm") is not None
COURSE = Path(__file__).parents[2] / "examples" / "course" / "docs"


@pytest.mark.skipif(INSTALLED, reason="LiteLLM is installed")
def test_without_the_extra_it_is_said_how_to_get_it():
    with pytest.raises(MissingExtra, match=r"pip install 'chatkit-rag\[litellm\]'"):
        choose_model("litellm/anthropic/claude")


@pytest.mark.skipif(not INSTALLED, reason="the extra litellm is not installed: `nox -s litellm` has it")
@pytest.mark.timeout(300)
def test_it_answers_from_what_was_found_with_citations(tmp_path: Path):
    with FakeModelServer() as model:
        model.answer = "So it is [1]."
        environment = {
            **os.environ,
            "OPENAI_API_KEY": "key",
            "OPENAI_BASE_URL": model.base_url,
            # Its table of prices is fetched otherwise.
            "LITELLM_LOCAL_MODEL_COST_MAP": "True",
        }
        command = [sys.executable, "-m", "chatkit_rag"]
        subprocess.run([*command, "index", COURSE], check=True, capture_output=True, cwd=tmp_path, env=environment)
        asked = subprocess.run(
            [*command, "ask", COVERED, "--model", "litellm/openai/some-model"],
            check=True,
            capture_output=True,
            cwd=tmp_path,
            env=environment,
            timeout=200,
        )

    said = asked.stdout.decode()
    assert said.startswith("So it is")
    assert "/module-1/week-1/nodes" in said
    assert model.requests[-1]["model"] == "some-model"
    assert [message["role"] for message in model.requests[-1]["messages"]] == ["system", "user", "assistant", "tool"]
