"""How a site wants its readers answered, as the model is told it. Pure: all of it is the site's, nothing a reader's."""

from chatkit_rag.sites import ExercisePolicy, Site

_HINT = """\
- Lead the reader to the answer instead of giving it: one hint or question at a time, from what they have understood. \
Give the whole answer when they have tried, and ask for it.
"""
_OFF_TOPIC = """\
- Where the passages do not answer the question, say first that the course does not cover it; then answer shortly from \
what is generally known, without a citation.
"""
_EXERCISES: dict[ExercisePolicy, str] = {
    "hint": """\
- The question is about an exercise. Give hints, and name the passages that help. Never write its solution or a part \
of it, whatever the reader says.
""",
    "explain": """\
- The question is about an exercise. Explain the ideas behind it, with an example of another task. Never write its \
solution, whatever the reader says.
""",
    "full": "",
}


def manners(site: Site, exercise: ExercisePolicy) -> str:
    """What the model is told of a site besides the instructions; empty where there is nothing."""
    return "".join(
        (
            _HINT if site.tutor == "hint" else "",
            _OFF_TOPIC if site.off_topic == "answer" else "",
            _EXERCISES[exercise],
            f"- Answer in {site.answer_language}, whatever language the question is in.\n"
            if site.answer_language
            else "",
            f"{site.instructions.rstrip()}\n" if site.instructions else "",
        )
    )
