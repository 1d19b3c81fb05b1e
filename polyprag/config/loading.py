"""Reading a configuration from YAML and `key=value`, writing it back, and comparing two of them.

The dataclasses decide what a text means: `007` is a folder name under `run.dir` and a number under `run.seed`,
so nothing depends on what YAML alone would have taken it for.
"""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

import yaml  # type: ignore[import-untyped]
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from polyprag.config import Config
from polyprag.config.keys import SEE, Key, config_values, keys, sections, shown, suggestion
from polyprag.errors import ConfigError

COMMAND_LINE = "command line"
LONGEST_REASON = 120
TRUTH_WORDS = frozenset({"true", "false", "yes", "no", "on", "off", "y", "n", "1", "0"})


@dataclass(frozen=True)
class _Setting:
    """A value that somebody gave to a key, and where."""

    key: Key
    value: str | list[str]
    where: str


def load_config(path: Path | None, overrides: Sequence[str] = ()) -> Config:
    """Read a configuration: the defaults, then a YAML file, then `key=value`, each over the one before.

    Values may refer to others (`${run.seed}`) and to the environment (`${oc.env:HOME}`), as OmegaConf has it.

    Args:
        path: a YAML file that states what differs from the defaults; None for none.
        overrides: `key=value` texts; of several for one key the last one holds.

    Returns:
        The configuration as plain dataclasses, with types checked but not yet ranges; see `validate`.

    Raises:
        ConfigError: a file that cannot be read, an unknown or repeated key, or a value of the wrong type.
    """
    settings = [] if path is None else list(_file_settings(path))
    for override in overrides:
        settings += _override_settings(override)
    tree = OmegaConf.structured(Config)
    for setting in settings:
        _apply(tree, setting)
    return _resolve(tree, {setting.key.name: setting for setting in settings})


def to_yaml(config: Config) -> str:
    """A configuration as YAML with every key, which `load_config` reads back to an equal one."""
    plain = _plain(dataclasses.asdict(config))
    text: str = yaml.dump(plain, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=1000)
    return text


def _file_settings(path: Path) -> Iterator[_Setting]:
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise ConfigError(f"{path}:{line}: not valid UTF-8; save the file in that encoding") from None
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such file; name an existing one after --config") from None
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise ConfigError(f"{path}: cannot be read ({reason}); name a readable YAML file after --config") from None
    source = _Source(str(path), has_lines=True)
    root = source.parse(text)
    if root is None or _is_null(root):
        return
    if not isinstance(root, yaml.MappingNode):
        raise ConfigError(f"{source.place(root)}: expected sections such as `experts:` with keys under them; {SEE}")
    yield from source.settings(root, "")


def _override_settings(override: str) -> Iterator[_Setting]:
    name, equals, text = override.partition("=")
    name = name.strip()
    if not equals or not name:
        raise ConfigError(f"{COMMAND_LINE}: {shown(override)} is not key=value; write for example experts.count=8")
    source = _Source(f"{COMMAND_LINE}: {name}", has_lines=False)
    structured = name in sections() or (name in keys() and keys()[name].is_list)
    node = source.parse(text) if structured else yaml.ScalarNode("tag:yaml.org,2002:str", text)
    yield from source.setting(node, name, COMMAND_LINE)


class _Source:
    """One text that gives settings: a file, or an argument of the command line."""

    def __init__(self, name: str, has_lines: bool) -> None:
        self._name = name
        self._has_lines = has_lines
        self._seen: dict[str, str] = {}

    def place(self, at: Any) -> str:
        """The place of a node or of a parser's complaint, as errors name it."""
        mark = at.start_mark if isinstance(at, yaml.Node) else at.problem_mark
        return f"{self._name}:{mark.line + 1}" if self._has_lines and mark is not None else self._name

    def parse(self, text: str) -> Any:
        """The node tree of a YAML text; nodes keep their texts and lines, which plain loading would lose."""
        try:
            return yaml.compose(text, Loader=yaml.SafeLoader)
        except yaml.MarkedYAMLError as error:
            raise ConfigError(f"{self.place(error)}: not valid YAML: {error.problem}; correct or quote it") from None
        except (yaml.YAMLError, ValueError, OverflowError) as error:
            reason = " ".join(str(error).split())
            raise ConfigError(f"{self._name}: not valid YAML: {reason}; remove that character") from None
        except RecursionError:
            raise ConfigError(f"{self._name}: nested too deeply; sections have at most three levels") from None

    def settings(self, mapping: Any, prefix: str) -> Iterator[_Setting]:
        """All settings below a mapping node whose own dotted name, with a dot at its end, is the prefix."""
        for key_node, value_node in mapping.value:
            where = self.place(key_node)
            if not isinstance(key_node, yaml.ScalarNode):
                raise ConfigError(f"{where}: a key must be a plain word, not a {key_node.id}; {SEE}")
            name = prefix + key_node.value
            if name in self._seen:
                raise ConfigError(f"{where}: {shown(name)} is given twice, first at {self._seen[name]}; keep one")
            self._seen[name] = where
            yield from self.setting(value_node, name, where)

    def setting(self, node: Any, name: str, where: str) -> Iterator[_Setting]:
        """The settings of one key, or of all keys of a section."""
        if name in keys():
            yield _Setting(keys()[name], _value(keys()[name], node, where), where)
        elif name not in sections():
            hint = suggestion(name, [*keys(), *sections()]) or f"; {SEE}"
            raise ConfigError(f"{where}: unknown key {shown(name)}{hint}")
        elif isinstance(node, yaml.MappingNode):
            yield from self.settings(node, f"{name}.")
        elif node is None or not _is_null(node):
            first = next(key for key in keys() if key.startswith(f"{name}."))
            raise ConfigError(f"{where}: {name} is a section; set one of its keys, such as {first}")


def _value(key: Key, node: Any, where: str) -> str | list[str]:
    """The texts of a scalar node or of a list of them; OmegaConf settles numbers when they are applied."""
    if node is None:
        raise _wrong(key, "is empty", where)
    if key.is_list and isinstance(node, yaml.SequenceNode):
        return [_text(key, item, where) for item in node.value]
    if key.is_list and isinstance(node, yaml.ScalarNode):
        raise _wrong(key, f"is {shown(node.value)}", where)
    return _text(key, node, where)


def _text(key: Key, node: Any, where: str) -> str:
    """The text of a scalar node, with the words of closed sets brought to the form in which OmegaConf knows them."""
    verb = "contains" if key.is_list else "is"
    if not isinstance(node, yaml.ScalarNode):
        raise _wrong(key, f"{verb} a {node.id}", where)
    text: str = node.value
    if _is_null(node) and not (key.kind is str and text == ""):
        raise _wrong(key, f"{verb} {text or 'empty'}", where)
    if "${" in text:
        return text
    if issubclass(key.kind, StrEnum):
        members = {member.value: member for member in key.kind}
        if text.lower() not in members:
            raise _wrong(key, f"{verb} {shown(text)}", where, suggestion(text.lower(), list(members)))
        return members[text.lower()]
    if key.kind is bool and text.lower() not in TRUTH_WORDS:
        raise _wrong(key, f"{verb} {shown(text)}", where)
    return text


def _is_null(node: Any) -> bool:
    null: bool = node.tag == "tag:yaml.org,2002:null"
    return null


def _wrong(key: Key, problem: str, where: str, hint: str = "") -> ConfigError:
    return ConfigError(f"{where}: {key.name} {problem}, expected {key.expected}{hint}")


def _apply(tree: DictConfig, setting: _Setting) -> None:
    try:
        OmegaConf.update(tree, setting.key.name, setting.value, merge=False)
    except OmegaConfBaseException:
        raise _wrong(setting.key, f"is {shown(setting.value)}", setting.where) from None


def _resolve(tree: DictConfig, settings: dict[str, _Setting]) -> Config:
    try:
        config = OmegaConf.to_object(tree)
    except OmegaConfBaseException as error:
        setting = settings[str(error.full_key).partition("[")[0]]
        reason = str(error).partition("\n")[0][:LONGEST_REASON]
        raise _wrong(setting.key, f"is {shown(setting.value)} ({reason})", setting.where) from None
    assert isinstance(config, Config)
    values = config_values(config)
    for name, setting in settings.items():
        if isinstance(values[name], float) and not math.isfinite(values[name]):
            raise _wrong(setting.key, f"is {shown(setting.value)}", setting.where)
    return config


def _plain(value: Any) -> Any:
    """A value as YAML writes it: enumerations as their values, `${` escaped from OmegaConf's reading."""
    if isinstance(value, dict):
        return {name: _plain(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if isinstance(value, str):
        return re.sub(r"(\\*)\$\{", r"\1\1\\${", str(value))
    return value


class _Dumper(yaml.SafeDumper):  # type: ignore[misc]
    """Writes lists on one line, sections as blocks, and text so that every character of it can be read back."""


def _represent_list(dumper: _Dumper, items: list[Any]) -> Any:
    return dumper.represent_sequence("tag:yaml.org,2002:seq", items, flow_style=True)


def _represent_text(dumper: _Dumper, text: str) -> Any:
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=None if text.isprintable() else '"')


_Dumper.add_representer(list, _represent_list)
_Dumper.add_representer(str, _represent_text)
