"""Configuration: frozen dataclasses <-> YAML <-> command-line flags, through one parser (tyro).

The sentence under a field of a config dataclass is its --help text. A run is described by one such object; its
resolved YAML is saved beside the result and can be given back with `--config`. Fields of nested dataclasses are flags
without a prefix (`--learning-rate`), so names must differ within one job.
"""

from __future__ import annotations

import contextlib
import dataclasses
import difflib
import math
import sys
import types
import typing
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal, TypeVar, Union, get_args, get_origin

import yaml

from gaugan import storage
from gaugan.errors import UserError

Config = TypeVar("Config")


def check_numbers(config: Any, positive: Sequence[str] = (), not_negative: Sequence[str] = ()) -> None:
    """For a config's __post_init__: raises UserError naming the flag of a number that is too small or not finite.

    None, a number that is not set, passes.
    """
    for names, bound, rule in ((positive, 1e-300, "above 0"), (not_negative, 0, "0 or more")):
        for name in names:
            value = getattr(config, name)
            numbers = [number for number in (value if isinstance(value, tuple) else (value,)) if number is not None]
            if not all(bound <= number < math.inf for number in numbers):
                what = rule if all(map(math.isfinite, numbers)) else f"a finite number, {rule}"
                raise UserError(f"--{name.replace('_', '-')} {value}: must be {what}")


def to_plain(config: Any) -> Any:
    """Dataclass -> dicts, lists, numbers and strings only (what YAML and JSON can hold)."""
    if dataclasses.is_dataclass(config) and not isinstance(config, type):
        return {field.name: to_plain(getattr(config, field.name)) for field in dataclasses.fields(config)}
    if isinstance(config, Mapping):
        return {str(key): to_plain(value) for key, value in config.items()}
    if isinstance(config, (list, tuple)):
        return [to_plain(value) for value in config]
    return config


def from_plain(cls: type[Config], data: Mapping[str, Any], source: str = "config") -> Config:
    """The inverse of `to_plain`.

    Raises UserError naming `source` and the field when a field is unknown (with the closest known names), missing, or
    of another type than the dataclass says.
    """
    values = _field_values(cls, data, source)
    missing = [field.name for field in _fields(cls) if field.name not in values and not _has_default(field)]
    if missing:
        raise UserError(f"{source}: {', '.join(missing)} of {cls.__name__} must be given")
    try:
        return cls(**values)
    except ValueError as error:
        raise UserError(f"{source}: {error}") from error


def to_yaml(config: Any) -> str:
    """The resolved config as YAML text, fields in the order of their declaration."""
    return yaml.safe_dump(to_plain(config), sort_keys=False, allow_unicode=True)


def replace_path(config: Config, path: str, value: Any) -> Config:
    """A copy of `config` with the field at the dotted `path` (such as "spade.lambda_feat") set to `value`."""
    head, _, rest = path.partition(".")
    names = [field.name for field in _fields(type(config))] if dataclasses.is_dataclass(config) else []
    if head not in names:
        raise UserError(f"{path!r}: {type(config).__name__} has no field {head!r}{_meant(head, names)}")
    if rest:
        value = replace_path(getattr(config, head), rest, value)
    else:
        value = _convert(typing.get_type_hints(type(config))[head], value, path)
    return dataclasses.replace(config, **{head: value})  # type: ignore[type-var]


def _meant(name: str, known: Sequence[str]) -> str:
    """The end of a sentence about an unknown name: what may have been meant, or all there is."""
    close = difflib.get_close_matches(name, known, n=3)
    if close:
        return f"; did you mean {' or '.join(close)}?"
    return f"; it has {', '.join(known) or 'no fields at all'}"


def parse(
    cls: type[Config], argv: Sequence[str] | None = None, description: str = "", program: str | None = None
) -> Config:
    """Flags -> config object. `--config FILE` is read first (a path or s3:// URI), flags override it.

    Usage errors, also those that the dataclass itself raises, end the process with exit code 2. `program` is what the
    usage line calls the command; None = as it was called.
    """
    import tyro

    arguments, default = list(sys.argv[1:] if argv is None else argv), None
    try:
        with _unchecked(cls):  # tyro would wrap what a check says into a box, and see defaults before flags
            default, arguments = _default_from_file(cls, arguments)
            options: dict[str, Any] = {} if default is None else {"default": default}
            options["config"] = (tyro.conf.OmitArgPrefixes,)
            made = tyro.cli(cls, args=arguments, description=_with_config_hint(description), prog=program, **options)
        return _checked(made)
    except ValueError as error:
        origin = " (--config and flags taken together)" if default is not None else ""
        print(f"error: {error}{origin}", file=sys.stderr)
        raise SystemExit(2) from error


@contextlib.contextmanager
def _unchecked(cls: type) -> Iterator[None]:
    """Within it, objects of a config class and of those in its fields are made without their own checks."""
    classes = _with_nested(cls)
    own = [vars(kind).get("__post_init__") for kind in classes]
    try:
        for kind in classes:
            kind.__post_init__ = lambda self: None  # type: ignore[attr-defined]
        yield
    finally:
        for kind, check in zip(classes, own, strict=True):
            if check is None:
                del kind.__post_init__  # type: ignore[attr-defined]
            else:
                kind.__post_init__ = check  # type: ignore[attr-defined]


def _with_nested(cls: type) -> list[type]:
    """A config class and the dataclasses that its fields hold, at any depth, each once."""
    found = {cls: None}
    for hint in typing.get_type_hints(cls).values():
        if dataclasses.is_dataclass(hint):
            found |= dict.fromkeys(_with_nested(hint))  # type: ignore[arg-type]
    return list(found)


def _checked(config: Config) -> Config:
    """The same object made anew with its checks, those of nested objects first."""
    values = {field.name: getattr(config, field.name) for field in _fields(type(config))}
    nested = {name: _checked(value) for name, value in values.items() if dataclasses.is_dataclass(value)}
    return type(config)(**values | nested)


def _with_config_hint(description: str) -> str:
    return description.strip() + "\n\n--config FILE: read a saved config.yaml first; other flags override it."


def _default_from_file(cls: type[Config], arguments: list[str]) -> tuple[Config | None, list[str]]:
    """Takes `--config FILE` out of the arguments and loads it."""
    uris, rest = [], []
    words = iter(arguments)
    for word in words:
        if word == "--config":
            uris.append(next(words, ""))
        elif word.startswith("--config="):
            uris.append(word.partition("=")[2])
        else:
            rest.append(word)
    if not uris:
        return None, arguments
    if len(uris) > 1 or not uris[0]:
        raise UserError("--config: expects one file, given once")
    return _load_default(cls, uris[0]), rest


def _load_default(cls: type[Config], uri: str) -> Config:
    """The object that a YAML file describes; a required field may be absent, it then stays a required flag."""
    import tyro

    source = f"--config {uri}"
    try:
        values = _field_values(cls, yaml.safe_load(storage.read_text(uri)) or {}, source)
    except OSError as error:
        raise UserError(f"--config {error}") from error
    except (UnicodeDecodeError, yaml.YAMLError) as error:
        raise UserError(f"{source}: {error}") from error
    default = object.__new__(cls)
    for field in _fields(cls):
        value = values.get(field.name, _default(field) if _has_default(field) else tyro.MISSING)
        object.__setattr__(default, field.name, value)
    return default


def _fields(cls: type) -> tuple[dataclasses.Field[Any], ...]:
    return dataclasses.fields(cls)


def _has_default(field: dataclasses.Field[Any]) -> bool:
    return field.default is not dataclasses.MISSING or field.default_factory is not dataclasses.MISSING


def _default(field: dataclasses.Field[Any]) -> Any:
    return field.default if field.default_factory is dataclasses.MISSING else field.default_factory()


def _field_values(cls: type, data: Any, source: str) -> dict[str, Any]:
    """Plain data -> checked and converted values of the fields that it names."""
    if not isinstance(data, Mapping):
        raise UserError(f"{source}: expected fields of {cls.__name__}, found {type(data).__name__} {data!r}")
    names = [field.name for field in _fields(cls)]
    for name in data:
        if name not in names:
            close = difflib.get_close_matches(str(name), names, n=3) or sorted(names)
            raise UserError(f"{source}: unknown field {name!r}; did you mean {', '.join(close)}?")
    hints = typing.get_type_hints(cls)
    return {name: _convert(hints[name], value, f"{source}: {name}") for name, value in data.items()}


def _convert(hint: Any, value: Any, where: str) -> Any:
    """Checks and converts one plain value to the annotated type."""
    origin = get_origin(hint)
    if hint is Any:
        return value
    if origin in (Union, types.UnionType):
        return _convert_union(hint, value, where)
    if origin is Literal:
        if not any(value == allowed and type(value) is type(allowed) for allowed in get_args(hint)):
            raise UserError(f"{where}: {value!r} is not one of {', '.join(map(repr, get_args(hint)))}")
        return value
    if origin in (tuple, list):
        return _convert_sequence(hint, origin, value, where)
    if origin is dict:
        if not isinstance(value, Mapping):
            raise UserError(f"{where}: expected named values, found {value!r}")
        return dict(value)
    if dataclasses.is_dataclass(hint):
        return value if isinstance(value, hint) else from_plain(hint, value, where)  # type: ignore[arg-type]
    if hint is float and isinstance(value, (int, float)) and not isinstance(value, bool):
        return float(value)
    if hint is float and isinstance(value, str):  # YAML reads 1e-4 as a string
        try:
            return float(value)
        except ValueError:
            pass
    if isinstance(value, bool) != (hint is bool) or not isinstance(value, hint):
        raise UserError(f"{where}: expected {hint.__name__}, found {value!r}")
    return value


def _convert_union(hint: Any, value: Any, where: str) -> Any:
    options = get_args(hint)
    if value is None and type(None) in options:
        return None
    problems = []
    for option in options:
        if option is not type(None):
            try:
                return _convert(option, value, where)
            except UserError as error:
                problems.append(str(error))
    raise UserError("; ".join(problems))


def _convert_sequence(hint: Any, origin: Any, value: Any, where: str) -> Any:
    if not isinstance(value, (list, tuple)):
        raise UserError(f"{where}: expected a list, found {value!r}")
    inner = get_args(hint)
    if origin is tuple and not (len(inner) == 2 and inner[1] is Ellipsis):
        if len(value) != len(inner):
            raise UserError(f"{where}: expected {len(inner)} values, found {len(value)}: {value!r}")
        return tuple(_convert(kind, item, where) for kind, item in zip(inner, value, strict=True))
    return origin(_convert(inner[0] if inner else Any, item, where) for item in value)
