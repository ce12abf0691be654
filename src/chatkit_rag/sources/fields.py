"""Filters over the front matter that a course has: a pydantic model says which fields there are, and of which types."""

from enum import Enum
from typing import Any, cast

from pydantic import BaseModel, TypeAdapter, ValidationError

from chatkit_rag.errors import ConfigurationError
from chatkit_rag.retrieval.filters import OWN, Filter, NoneOf, Range


class FieldTypes:
    """The fields of a model, by their names in the front matter."""

    def __init__(self, model: type[BaseModel]) -> None:
        self._model = model.__name__
        self._types: dict[str, TypeAdapter[Any]] = {
            field.alias or name: TypeAdapter(cast("Any", field.annotation))
            for name, field in model.model_fields.items()
        }

    def checked(self, filter_: Filter) -> Filter:
        """The filter, with values of the fields' types.

        Raises:
            ConfigurationError: it is about what is no field, or no value of one.
        """
        conditions: dict[str, Any] = {}
        combined = Filter()
        for field, condition in filter_.conditions:
            if field in OWN:
                conditions = {field: condition}
            elif field not in self._types:
                there = ", ".join(sorted(self._types))
                raise ConfigurationError(f"{self._model} has no field {field!r} to filter by; it has {there}")
            elif isinstance(condition, Range):
                bounds = {"at_least": condition.at_least, "at_most": condition.at_most}
                typed = {name: self._typed(field, bound) for name, bound in bounds.items() if bound is not None}
                conditions = {field: Range(**typed)}
            elif isinstance(condition, NoneOf):
                conditions = {field: NoneOf(*(self._typed(field, value) for value in condition.values))}
            else:
                conditions = {field: tuple(self._typed(field, value) for value in condition)}
            combined &= Filter(**conditions)
        return combined

    def _typed(self, field: str, value: Any) -> Any:
        if value is None:  # the field is not there, which the model has no say in
            return None
        adapter = self._types[field]
        try:
            return _plain(adapter.dump_python(adapter.validate_python(value)))
        except ValidationError as exc:
            try:  # a field with a list of values is filtered by single ones
                [single] = adapter.dump_python(adapter.validate_python([value]))
            except (ValidationError, TypeError, ValueError):
                raise ConfigurationError(f"{value!r} is no value of {self._model}.{field}: {exc}") from exc
            return _plain(single)


def _plain(value: Any) -> Any:
    """The value as front matter has it, which knows no enumerations."""
    return value.value if isinstance(value, Enum) else value
