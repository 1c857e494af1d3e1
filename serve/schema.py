"""Shapes of the JSON answers and of the paint form, as OpenAPI shows them."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import File, Form, Header, UploadFile
from pydantic import BaseModel, ConfigDict, Field

MAX_SEED = 2**32 - 1
MAX_PICTURES = 8


class ProblemDocument(BaseModel):
    """RFC 9457 problem document."""

    type: str
    title: str
    status: int
    detail: str
    instance: str
    code: str
    request_id: str
    errors: list[dict[str, Any]] | None = None
    error: str | None = Field(default=None, description="`detail` again, below /v2 (Open Inference Protocol).")


class ClassEntry(BaseModel):
    id: int
    name: str
    colour: str = Field(examples=["#80c040"])


class ClassesAnswer(BaseModel):
    """The class table: what each id of a label map means."""

    name: str
    hash: str
    ignore: int = Field(description="Id of unlabelled pixels; never accepted by /v1/paint.")
    classes: list[ClassEntry]


class StyleEntry(BaseModel):
    id: str
    name: str
    picture: str = Field(description="Address of the style picture.")


class StylesAnswer(BaseModel):
    styles: list[StyleEntry]


class TemplateEntry(BaseModel):
    id: str
    name: str
    label_map: str = Field(description="Address of the label map (indexed PNG at the model's size).")


class TemplatesAnswer(BaseModel):
    templates: list[TemplateEntry]


class LiveAnswer(BaseModel):
    live: bool


class ReadyAnswer(BaseModel):
    ready: bool


class TensorSpec(BaseModel):
    name: str
    datatype: str
    shape: list[int]


class ModelParameters(BaseModel):
    classes_hash: str
    checkpoint_hash: str
    image_size: tuple[int, int] = Field(description="(height, width)")
    device: str
    has_style: bool = Field(description="Whether seeds and style pictures change the painting.")


class ModelAnswer(BaseModel):
    """Model metadata of the Open Inference Protocol v2, with our facts under `parameters`."""

    model_config = ConfigDict(protected_namespaces=())

    name: str
    versions: list[str]
    platform: str = "pytorch"
    inputs: list[TensorSpec]
    outputs: list[TensorSpec]
    parameters: ModelParameters


class ModelsAnswer(BaseModel):
    models: list[ModelAnswer]


class ServerAnswer(BaseModel):
    """Server metadata of the Open Inference Protocol v2."""

    name: str
    version: str
    extensions: list[str]


class SwapRequest(BaseModel):
    model_config = ConfigDict(extra="forbid")

    uri: str = Field(
        pattern=r"^[^\x00-\x1f]+$", max_length=1000, description="As of --model.", examples=["models:/gaugan@champion"]
    )


class ServedModel(BaseModel):
    uri: str
    name: str
    version: str


class SwapTask(BaseModel):
    wanted: str
    step: Literal["checking", "switching", "done", "refused", "failed"]
    reason: str
    report: dict[str, Any]


class SwapAnswer(BaseModel):
    """Which model is served, which one a rollback would bring back, and how the last change went."""

    current: ServedModel
    previous: ServedModel | None
    rejected: list[str] = Field(description="Versions that are not swapped in by following an alias.")
    task: SwapTask | None


LabelMapFile = Annotated[
    UploadFile,
    File(description="Label map: PNG, 8-bit palette or grey ids, or RGB in the class colours; raw ids with `shape`."),
]
Shape = Annotated[
    str | None,
    Form(
        description="HEIGHTxWIDTH of a `label_map` of raw ids, one byte per pixel, row by row.",
        pattern=r"^[0-9]{1,5}x[0-9]{1,5}$",
        max_length=11,
        examples=["256x256"],
    ),
]
Format = Annotated[Literal["png", "webp"], Form(description="PNG is exact, WebP (quality 90) is small.")]
StyleFile = Annotated[UploadFile | None, File(description="Picture (PNG, JPEG, WebP) whose style is taken.")]
Style2File = Annotated[UploadFile | None, File(description="Second style picture, mixed in by `blend`.")]
PictureFile = Annotated[UploadFile, File(description="Portrait: PNG, JPEG or WebP.")]
StyleId = Annotated[str | None, Form(description="A style of GET /v1/styles instead of a picture.", max_length=200)]
Blend = Annotated[float, Form(ge=0, le=1, allow_inf_nan=False, description="0 = style alone, 1 = style2 alone.")]
Seed = Annotated[
    int | None, Form(ge=0, le=MAX_SEED, description="Same seed, same picture; random (and told) when absent.")
]
Count = Annotated[int, Form(ge=1, le=MAX_PICTURES, description="Pictures, with seeds seed, seed + 1, ...")]
Resize = Annotated[
    Literal["refuse", "nearest", "crop"],
    Form(description="A label map of another size: refused, scaled (nearest), or cropped to the model's shape first."),
]
LabelmeFile = Annotated[UploadFile, File(description="Annotation as labelme (versions 3 to 6) saves it: JSON.")]
Fit = Annotated[
    Literal["own", "paint"], Form(description="`paint`: crop and scale the picture to the generator's size first.")
]
ClassesHash = Annotated[str | None, Header(description="Hash of the class table the label map was drawn for; checked.")]
