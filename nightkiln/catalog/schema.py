"""What may stand in a catalog.yaml, as pydantic models; nothing but ``reading`` uses them."""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import Annotated, Any, Literal, Self, TypeAlias

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    field_validator,
    model_validator,
)

from nightkiln.core.model import Value
from nightkiln.core.plan import VARIANTS_MAX

INPUTS_MAX = 200
NAME_LENGTH_MAX = 63
TEXT_LENGTH_MAX = 10_000  # a constant in catalog.yaml; prompts of any length live in Parquet
LARGEST_INTEGER = 2**64 - 1  # ComfyUI's seeds are unsigned 64-bit integers
SMALLEST_INTEGER = -(2**63)

Sha256: TypeAlias = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]


class Strict(BaseModel):
    """Unknown keys are mistakes, not extras; nothing is converted silently."""

    model_config = ConfigDict(
        extra="forbid", strict=True, frozen=True, use_attribute_docstrings=True
    )


def _scalar(value: Any) -> Any:
    """A constant: text, number or true/false; null means that there is none."""
    match value:
        case None | bool():
            return value
        case str() if len(value) <= TEXT_LENGTH_MAX and "\0" not in value:
            return value
        case int() if SMALLEST_INTEGER <= value <= LARGEST_INTEGER:
            return value
        case float() if abs(value) < float("inf"):
            return value
    raise ValueError(f"must be a text of at most {TEXT_LENGTH_MAX} letters, a number or true/false")


def _selectors(value: Any) -> Any:
    """One selector or a list of them."""
    found = [value] if isinstance(value, str) else value
    if not isinstance(found, list) or not found or not all(isinstance(one, str) for one in found):
        raise ValueError('must be "<node>.<input>", or a list of such')
    return tuple(found)


def _binding(value: Any) -> Any:
    """``prompt: "Positive Prompt.text"`` is short for ``prompt: {to: "Positive Prompt.text"}``."""
    if isinstance(value, str | list):
        return {"to": value}
    if not isinstance(value, dict):
        raise ValueError('must be "<node>.<input>", or {to: "<node>.<input>", default: ...}')  # noqa: TRY004 - pydantic reads ValueError
    return value


class InputEntry(Strict):
    """Where a column, or a constant, goes in the workflow."""

    to: Annotated[
        tuple[str, ...], BeforeValidator(_selectors, json_schema_input_type=str | list[str])
    ]
    """Selector "<node>.<input>": the node's title, else its class if unique, else its id."""
    default: Annotated[
        Value | None,
        BeforeValidator(_scalar, json_schema_input_type=str | int | float | bool | None),
    ] = None
    """Of a null, or of every row without such a column; derived and derived_per_batch: a seed
    that follows from the row."""
    kind: Literal["value", "file"] = "value"
    """file: the column holds paths relative to the catalog, or URIs."""


def _prompts(value: Any) -> Any:
    if isinstance(value, str) and value:
        return {"path": value}
    if isinstance(value, dict) and isinstance(value.get("sql"), str):
        return value
    raise ValueError('must be a path, glob or URI of Parquet, or {sql: "SELECT ..."}')


class Prompts(Strict):
    """Where the rows come from."""

    path: str | None = None
    sql: str | None = None


class SqlPrompts(Strict):
    """Rows from a query; file names in it are relative to the catalog."""

    sql: str


class Variants(Strict):
    """Jobs per row."""

    seeds: Annotated[int, Field(ge=1, le=VARIANTS_MAX)] = 1


def _disk(value: Any) -> Any:
    if value == "auto":
        return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError("must be a number of GB, or auto")  # noqa: TRY004 - as above
    return float(value)


def _gpus(value: Any) -> Any:
    if value == "any":
        return ()
    if isinstance(value, list) and value and all(isinstance(name, str) for name in value):
        return tuple(value)
    raise ValueError("must be any, or a list of GPU names")


class Needs(Strict):
    """What a machine must have."""

    vram_gb: Annotated[float, Field(ge=0, le=10_000)] = 0
    disk_gb: Annotated[
        Annotated[float, Field(gt=0, le=100_000)] | None,
        BeforeValidator(_disk, json_schema_input_type=float | Literal["auto"]),
    ] = None
    """auto: derived from the models."""
    gpus: Annotated[
        tuple[str, ...],
        BeforeValidator(_gpus, json_schema_input_type=list[str] | Literal["any"]),
    ] = ()
    trust: Literal["any", "verified", "datacenter"] = "any"
    """Of who runs the machine: any; verified by the service that rents it out; a datacenter."""


class CustomNode(Strict):
    """A repository of custom nodes at one commit or tag."""

    repo: Annotated[str, Field(min_length=1)]
    ref: Annotated[str, Field(min_length=1)]


class Model(Strict):
    """A model file, relative to ComfyUI's models folder."""

    path: Annotated[str, Field(min_length=3, examples=["checkpoints/x.safetensors"])]
    url: str | None = None
    """Where a rented machine gets it."""
    file: Annotated[str, Field(min_length=1)] | None = None
    """Instead of url: a file here, relative to the catalog, which is sent to each machine."""
    sha256: Sha256 | None = None
    """What it is checked against; it is part of every job's id."""
    gb: Annotated[float, Field(gt=0, le=10_000)] | None = None
    """Its size in GB, which a rented machine has to download; else a usual one is assumed."""

    @field_validator("path")
    @classmethod
    def _stays_in_the_folder(cls, path: str) -> str:
        parts = PurePosixPath(path)
        if parts.is_absolute() or ".." in parts.parts or "\\" in path or len(parts.parts) < 2:  # noqa: PLR2004 - folder and file
            raise ValueError("must be <folder>/<file> below ComfyUI's models folder")
        return path

    @model_validator(mode="after")
    def _comes_from_one_place(self) -> Self:
        if self.url is not None and self.file is not None:
            raise ValueError("comes from url or from file, not from both")
        return self


class EnvironmentEntry(Strict):
    """What the pixels depend on beside the workflow."""

    comfyui: str | None = None
    """Version, in quotes."""
    custom_nodes: list[CustomNode] = []
    models: list[Model] = []


class Verify(Strict):
    """How finished images are checked."""

    blank: Literal["fault", "allow"] = "fault"
    """fault: an image of one colour is a failure."""
    decode: Literal["all", "sample"] = "all"


class CatalogFile(Strict):
    """catalog.yaml: prompts, a ComfyUI workflow, and what joins them."""

    name: Annotated[str, Field(pattern=f"^[a-z0-9][a-z0-9_-]{{0,{NAME_LENGTH_MAX - 1}}}$")]
    """Small letters, digits, - and _: it names batches."""
    prompts: Annotated[Prompts, BeforeValidator(_prompts, json_schema_input_type=str | SqlPrompts)]
    """Parquet: a path, a glob or a URI; or {sql: "SELECT ... FROM 'x.parquet'"}."""
    workflow: Annotated[str, Field(min_length=1)]
    """ComfyUI's API format."""
    inputs: Annotated[
        dict[
            str,
            Annotated[
                InputEntry,
                BeforeValidator(_binding, json_schema_input_type=str | list[str] | InputEntry),
            ],
        ],
        Field(min_length=1, max_length=INPUTS_MAX),
    ]
    """Column or constant -> where it goes."""
    variants: Variants = Variants()
    needs: Needs = Needs()
    environment: EnvironmentEntry = EnvironmentEntry()
    private: bool = False
    """true: prompts and pictures are for nobody's eyes: only your own machines, datacenters and
    serverless GPUs render them, as with needs.trust: datacenter."""
    reuse: Literal["store", "never"] = "store"
    """store: what another batch of the same store has rendered is not rendered again."""
    verify: Verify = Verify()

    @field_validator("inputs")
    @classmethod
    def _names_are_columns(cls, inputs: dict[str, InputEntry]) -> dict[str, InputEntry]:
        seen: dict[str, str] = {}
        for name in inputs:
            if not name or len(name) > NAME_LENGTH_MAX or not name.isprintable():
                raise ValueError(f"{name!r} cannot name a column")
            if (other := seen.setdefault(name.lower(), name)) != name:
                raise ValueError(f"{other!r} and {name!r} are one column: its case is ignored")
        return inputs


def keys_at(location: tuple[str | int, ...]) -> tuple[str, ...]:
    """The keys that may stand at a place of catalog.yaml, for messages about others."""
    match location:
        case ("inputs", _):
            section = "inputs.*"
        case ("environment", part, _):
            section = f"environment.{part}.*"
        case _:
            section = ".".join(str(part) for part in location)
    model = _SECTIONS.get(section)
    return () if model is None else tuple(model.model_fields)


_SECTIONS: dict[str, type[BaseModel]] = {
    "": CatalogFile,
    "prompts": SqlPrompts,
    "inputs.*": InputEntry,
    "variants": Variants,
    "needs": Needs,
    "environment": EnvironmentEntry,
    "environment.custom_nodes.*": CustomNode,
    "environment.models.*": Model,
    "verify": Verify,
}
