"""What a model may narrow a search by: the fields of the course's front matter, as arguments of a tool. Does no IO."""

from collections.abc import Mapping
from datetime import date
from types import NoneType, UnionType
from typing import Annotated, Any, ClassVar, Union, get_args, get_origin

from pydantic import BaseModel, ConfigDict, Field, create_model

from chatkit_rag.retrieval.filters import Filter, Range

_FROM, _TO = "_from", "_to"


def _without_titles(schema: dict[str, Any]) -> None:
    """Takes out what repeats the names: the model reads the schema with every question."""
    for part in (schema, *schema.get("properties", {}).values()):
        part.pop("title", None)


class Narrowing(BaseModel):
    """Arguments that narrow a search; what is None or empty does not."""

    model_config = ConfigDict(extra="forbid", protected_namespaces=(), json_schema_extra=_without_titles)

    front_matter_names: ClassVar[Mapping[str, str]] = {}
    """What can be narrowed by -> its name in the front matter."""
    narrowed_by_ends: ClassVar[frozenset[str]] = frozenset()
    """Those among them that are narrowed by their ends."""

    def to_filter(self) -> Filter:
        """The pages that are left."""
        given = {name: value for name, value in self if value not in (None, [])}
        narrowed = Filter()
        for name, field in self.front_matter_names.items():
            if name in self.narrowed_by_ends:
                bounds = given.get(f"{name}{_FROM}"), given.get(f"{name}{_TO}")
                if bounds != (None, None):
                    narrowed &= Filter(**{field: Range(at_least=bounds[0], at_most=bounds[1])})
            elif name in given:
                narrowed &= Filter(**{field: given[name]})
        return narrowed


def narrowing_by(fields: type[BaseModel]) -> type[Narrowing]:
    """The arguments for a course whose front matter is `fields`.

    A number or a date is narrowed by its ends, both of them in it; everything else by values, one of which is enough.
    """
    arguments: dict[str, Any] = {}
    names: dict[str, str] = {}
    ranges: set[str] = set()
    for own, known in fields.model_fields.items():
        name = f"{own}_" if hasattr(Narrowing, own) else own
        names[name] = known.alias or own
        type_ = _single(known.annotation)
        said = known.description
        if isinstance(type_, type) and issubclass(type_, int | float | date) and type_ is not bool:
            ranges.add(name)
            for end, words in ((_FROM, "from"), (_TO, "up to")):
                arguments[f"{name}{end}"] = _argument(type_, said and f"{said}: {words}")
        else:
            several = bool if type_ is bool else list[type_]  # type: ignore[valid-type] - it is made here
            arguments[name] = _argument(several, said and f"{said}: one of these")
    made = create_model(f"{fields.__name__}Narrowing", __base__=Narrowing, **arguments)
    made.front_matter_names = names
    made.narrowed_by_ends = frozenset(ranges)
    return made


def _argument(type_: Any, said: str | None) -> tuple[Any, None]:
    return Annotated[type_ | None, Field(description=said)], None


def _single(annotation: Any) -> Any:
    """The type of a single value: without None, and of a list its elements'."""
    if get_origin(annotation) in (Union, UnionType):
        others = [one for one in get_args(annotation) if one is not NoneType]
        return _single(others[0]) if len(others) == 1 else str
    if get_origin(annotation) in (list, set, tuple, frozenset):
        return _single(get_args(annotation)[0])
    return annotation
