"""What ``POST /runs`` carries, checked field by field: the wire side of ``weft.model.Run``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, ValidationError, ValidationInfo

from weft.errors import InvalidRequest
from weft.model import JsonObject
from wes_service.values import check_text, decode_object, name_of

_LONGEST_TEXT = 10_000  # characters of a text field other than the objects


def _text(value: Any, info: ValidationInfo) -> Any:
    field = str(info.field_name)
    if not isinstance(value, str):
        raise InvalidRequest(f"{field} must be a string, not {name_of(value)}", field=field)
    check_text(value, field)
    if len(value) > _LONGEST_TEXT:
        raise InvalidRequest(f"{field} is longer than {_LONGEST_TEXT} characters", field=field)
    return value.strip()


def _needed(value: Any, info: ValidationInfo) -> Any:
    text = _text(value, info)
    if not text:
        raise _missing(str(info.field_name))
    return text


def _optional(value: Any, info: ValidationInfo) -> Any:
    return _text(value, info) or None


def _object(value: Any, info: ValidationInfo) -> JsonObject:
    return decode_object(value, str(info.field_name))


def _strings(value: Any, info: ValidationInfo) -> dict[str, str]:
    field = str(info.field_name)
    decoded = decode_object(value, field)
    for key, item in decoded.items():
        if not isinstance(item, str):
            remedy = f'send {{"{key[:100]}": "{_as_text(item)}"}}: the values of {field} are strings'
            shown = f"{field}: the value of '{key[:100]}' must be a string, not {name_of(item)}"
            raise InvalidRequest(shown, field=f"{field}.{key[:100]}", remedy=remedy)
    return decoded


def _flags(value: Any, info: ValidationInfo) -> dict[str, str]:
    """As ``_strings``; null is a flag without a value (toil-wes-cwl-runner sends those) and becomes ""."""
    decoded = decode_object(value, str(info.field_name))
    return _strings({key: "" if item is None else item for key, item in decoded.items()}, info)


def _as_text(value: Any) -> str:
    return (
        str(value).lower() if isinstance(value, bool) else str(value)[:100] if isinstance(value, int | float) else "…"
    )


class RunForm(BaseModel):
    """The fields of a run request, decoded. Fields that WES does not know are left out before."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    workflow_type: Annotated[str, BeforeValidator(_needed)]
    workflow_type_version: Annotated[str, BeforeValidator(_needed)]
    workflow_url: Annotated[str, BeforeValidator(_needed)]
    workflow_params: Annotated[JsonObject, BeforeValidator(_object)] = {}
    tags: Annotated[dict[str, str], BeforeValidator(_strings)] = {}
    workflow_engine: Annotated[str | None, BeforeValidator(_optional)] = None
    workflow_engine_version: Annotated[str | None, BeforeValidator(_optional)] = None
    workflow_engine_parameters: Annotated[dict[str, str], BeforeValidator(_flags)] = {}


def parse(fields: Mapping[str, Any]) -> RunForm:
    """Decode the fields of a request.

    :raises InvalidRequest: names the first field that is missing or wrong, and the remedy.
    """
    try:
        return RunForm(**fields)
    except ValidationError as error:  # only what the validators above do not say themselves: a field is missing
        location = error.errors()[0]["loc"]
        raise _missing(str(location[0]) if location else "the request") from error


def _missing(field: str) -> InvalidRequest:
    return InvalidRequest(
        f"{field} is missing",
        field=field,
        remedy="send workflow_type, workflow_type_version and workflow_url; see /service-info for what is supported",
    )
