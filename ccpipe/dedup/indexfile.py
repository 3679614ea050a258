"""The path of a saved band index in a config. Its `index.json` names and vouches for the files, so that its digest stands for all."""

from __future__ import annotations

from typing import Any

from pydantic import GetCoreSchemaHandler, ValidationInfo
from pydantic_core import CoreSchema, core_schema

from ccpipe.stage import ModelFile

INDEX = "index.json"


class IndexFile(ModelFile):
    """A folder written by `ccpipe save-index`, or the `index.json` in it."""

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.with_info_after_validator_function(cls._resolve, core_schema.str_schema(min_length=1))

    @classmethod
    def _resolve(cls, value: str, info: ValidationInfo) -> IndexFile:
        return cls(ModelFile._resolve(value if value.endswith(".json") else f"{value}/{INDEX}", info))
