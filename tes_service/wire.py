"""The shape of a task on the wire: known members, their types, and messages that name the member that is wrong.

Nulls count as absent, unknown members are ignored, and what only the server may set (``id``, ``state``, ``logs``,
``creation_time``) is not read at all (A10, A35). What a task may say beyond its shape is in ``tes_service.rules``.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints, ValidationError
from pydantic_core import ErrorDetails

from weft.errors import InvalidRequest

_LARGEST_INT32 = 2**31 - 1
#: Larger than any machine, and small enough that the number of bytes is exact arithmetic.
_LARGEST_GB = 10**9


def _whole(value: Any) -> Any:
    """Take 4.0 for 4: several JSON writers know only one kind of number."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


class Document(BaseModel):
    """A JSON object of the wire."""

    model_config = ConfigDict(extra="ignore", strict=True, frozen=True)


FileType = Literal["FILE", "DIRECTORY"]
#: What no path and no URL is; those have rules of their own.
Text = Annotated[str, StringConstraints(pattern=r"\A[^\x00]*\z")]
Gigabytes = Annotated[float, Field(gt=0, le=_LARGEST_GB, allow_inf_nan=False)]


class WireExecutor(Document):
    """``tesExecutor``."""

    image: str
    command: list[Text]
    workdir: str | None = None
    stdin: str | None = None
    stdout: str | None = None
    stderr: str | None = None
    env: dict[str, Text] | None = None
    ignore_error: bool | None = None


class WireInput(Document):
    """``tesInput``."""

    path: str
    url: str | None = None
    content: str | None = None
    type: FileType | None = None
    name: Text | None = None
    description: Text | None = None
    streamable: bool | None = None


class WireOutput(Document):
    """``tesOutput``."""

    path: str
    url: str
    path_prefix: str | None = None
    type: FileType | None = None
    name: Text | None = None
    description: Text | None = None


class WireResources(Document):
    """``tesResources``."""

    cpu_cores: Annotated[int, BeforeValidator(_whole), Field(gt=0, le=_LARGEST_INT32)] | None = None
    ram_gb: Gigabytes | None = None
    disk_gb: Gigabytes | None = None
    preemptible: bool | None = None
    zones: list[str] | None = None
    backend_parameters: dict[str, str] | None = None
    backend_parameters_strict: bool | None = None


class WireTask(Document):
    """``tesTask``, the part of it that a client may set."""

    executors: Annotated[list[WireExecutor], Field(min_length=1)]
    name: Text | None = None
    description: Text | None = None
    inputs: list[WireInput] | None = None
    outputs: list[WireOutput] | None = None
    resources: WireResources | None = None
    volumes: list[str] | None = None
    tags: dict[Text, Text] | None = None


def parse(body: Any) -> WireTask:
    """Read a task.

    :raises InvalidRequest: names the first member that is wrong, such as ``executors[0].command``.
    """
    try:
        return WireTask.model_validate(body)
    except ValidationError as error:
        problems = error.errors(include_url=False, include_context=True, include_input=False)
        raise _explained(problems[0], more=len(problems) - 1) from None


#: What pydantic calls a problem -> what is wrong, and what to do about it.
_WORDS: dict[str, tuple[str, str | None]] = {
    "missing": ("is missing", None),
    "string_type": ("must be a string", "put quotes around it"),
    "string_unicode": ("must be text", None),
    "string_pattern_mismatch": ("holds a NUL character", "remove it"),
    "list_type": ("must be a list", "put it in [ ]"),
    "dict_type": ("must be an object of names and strings", None),
    "model_type": ("must be a JSON object", None),
    "bool_type": ("must be true or false", "without quotes"),
    "int_type": ("must be a whole number", "round it up"),
    "int_parsing_size": ("is too large a number", None),
    "float_type": ("must be a number", "without quotes"),
    "finite_number": ("must be a finite number", None),
    "greater_than": ("must be greater than 0", "leave it out to take this site's default"),
    "less_than_equal": ("is more than any machine has", None),
    "literal_error": ("must be FILE or DIRECTORY", "in capitals; leave it out for FILE"),
    "too_short": ("is empty", "send at least one"),
}


#: How pydantic says that it is the name of a member that is wrong, and not its value.
_OF_A_KEY = "[key]"


def _explained(problem: ErrorDetails, *, more: int) -> InvalidRequest:
    where = problem["loc"]
    field = _dotted(where[:-2] if where and where[-1] == _OF_A_KEY else where)
    what, remedy = _WORDS.get(problem["type"], (problem["msg"], None))
    others = f" (and {more} more)" if more else ""
    return InvalidRequest(f"{field or 'the body'} {what}{others}", field=field or None, remedy=remedy)


def _dotted(parts: tuple[int | str, ...]) -> str:
    """Write a place in a document: ``("executors", 0, "image")`` is ``executors[0].image``."""
    text = ""
    for part in parts:
        text += f"[{part}]" if isinstance(part, int) else f".{part}"
    return text.removeprefix(".")
