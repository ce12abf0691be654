"""Histories of a store, drawn by hypothesis; imported only where that is installed."""

from collections.abc import Callable

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule, run_state_machine_as_test

from chatkit_rag.testing.store.compared import IDS, PLACES, Compared

_READERS = st.integers(0, 2)
_PLACES = st.sampled_from(PLACES)
_IDS = st.sampled_from(IDS)
_TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=20)


def machine(begin: Callable[[], Compared]) -> Callable[[int, int], None]:  # noqa: C901 - a rule for each method
    """What tries so many histories of so many steps, each on what `begin` makes."""

    class Histories(RuleBasedStateMachine):
        def __init__(self) -> None:
            super().__init__()
            self.compared = begin()

        @rule(reader=_READERS, id_=_PLACES, text=_TEXTS)
        def save_thread(self, reader: int, id_: str, text: str) -> None:
            self.compared.save_thread(reader, id_, text)

        @rule(reader=_READERS, id_=_PLACES)
        def delete_thread(self, reader: int, id_: str) -> None:
            self.compared.delete_thread(reader, id_)

        @rule(reader=_READERS, place=_PLACES, id_=_IDS, text=_TEXTS, add=st.booleans())
        def put_item(self, reader: int, place: str, id_: str, text: str, *, add: bool) -> None:
            self.compared.put_item(reader, place, id_, text, add=add)

        @rule(reader=_READERS, place=_PLACES, id_=_IDS)
        def delete_item(self, reader: int, place: str, id_: str) -> None:
            self.compared.delete_item(reader, place, id_)

        @rule(reader=_READERS, id_=_IDS, text=_TEXTS)
        def save_file(self, reader: int, id_: str, text: str) -> None:
            self.compared.save_file(reader, id_, text)

        @rule(reader=_READERS, id_=_IDS)
        def delete_file(self, reader: int, id_: str) -> None:
            self.compared.delete_file(reader, id_)

        @rule(reader=_READERS, place=_PLACES, size=st.integers(1, 4), order=st.sampled_from(["asc", "desc"]))
        def look(self, reader: int, place: str, size: int, order: str) -> None:
            self.compared.look(reader, place, size, order)

        def teardown(self) -> None:
            for reader in range(3):
                for place in PLACES:
                    self.compared.look(reader, place, 3, "asc")

    def run(examples: int, steps: int) -> None:
        checks = [HealthCheck.too_slow, HealthCheck.data_too_large]
        chosen = settings(
            max_examples=examples,
            stateful_step_count=steps,
            deadline=None,
            report_multiple_bugs=False,
            suppress_health_check=checks,
        )
        run_state_machine_as_test(Histories, settings=chosen)  # type: ignore[no-untyped-call]

    return run
