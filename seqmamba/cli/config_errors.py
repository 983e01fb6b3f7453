"""One sentence, with file and line, for a recipe that does not parse.

jsonargparse answers a misspelt key in a nested class with a tree of every type that was tried. The branch
that matters is the deepest one; this module finds it, and the line of the recipe that it is about.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from importlib import import_module
from inspect import signature
from pathlib import Path

import yaml

from seqmamba.errors import UserError

_KEY = re.compile(r'Parser key "([^"]+)"')
_CLASS = re.compile(r"Problem with given class_path '([^']+)'")
_GIVEN = re.compile(r"Given value: (.*)")
_UNKNOWN = re.compile(
    r"[Oo]ption '([^']+)' is not accepted|does not accept option '([^']+)'|"
    r"unrecognized arguments: --([^\s=]+)"
)
_LEAF = re.compile(
    r"Expected a (?!path but|dot import)|is not accepted|does not accept option|unrecognized arguments|"
    r"No module named|"
    r"has no attribute|Import path does not|is required|Unable to import|not in \{"
)
_STRUCTURE = {"init_args", "dict_kwargs"}


def check_yaml(files: Iterable[Path]) -> None:
    """Check that recipes exist and are YAML, before anything heavy is imported.

    Raises:
        UserError: With file and line of the first mistake.
    """
    for file in files:
        if not file.is_file():
            raise UserError(
                f"--config {file}: there is no such file", hint="`seqmamba recipes ls` lists the recipes"
            )
        try:
            tree = yaml.compose(file.read_text(), Loader=yaml.SafeLoader)
        except yaml.MarkedYAMLError as error:
            line = error.problem_mark.line + 1 if error.problem_mark else 1
            raise UserError(f"{file}:{line}: not valid YAML ({error.problem})") from error
        except (yaml.YAMLError, UnicodeDecodeError) as error:
            raise UserError(f"{file}: not a YAML text file") from error
        if not isinstance(tree, yaml.MappingNode):
            raise UserError(
                f"{file}:1: not a recipe", hint="a recipe has keys such as model:, data: and trainer:"
            )


def explain_config_error(message: str, words: Sequence[str], files: Sequence[Path]) -> UserError:
    """Turn jsonargparse's message into one sentence.

    Args:
        message: The text of its ArgumentError.
        words: The command line: the subcommand and its options.
        files: The recipes that were given; the last one that has the key is named.

    Returns:
        The error to raise.
    """
    verb = words[0]
    stray = re.match(r"[Uu]nrecognized arguments: (\S+)", message)
    if stray:
        return UserError(
            f"seqmamba {verb}: there is no option {stray[1]}", hint=f"`seqmamba {verb} -h` lists them"
        )
    required = re.search(r"arguments are required: (.*)", message)
    if required:
        missing = ", ".join(name.strip().removeprefix(f"{verb}.") for name in required[1].split(","))
        return UserError(
            f"seqmamba {verb}: no value for {missing}", hint="name a recipe with --config recipe.yaml"
        )
    path, class_path, problem = _deepest_branch(message)
    unknown = _UNKNOWN.search(problem)
    if unknown:
        option = unknown[1] or unknown[2] or unknown[3]
        path = [*path, *option.split(".")]
        problem = "there is no such key"
    place = _option(path, words) or _locate(path, files)
    name = ".".join(path)
    nested = bool(unknown and unknown[3])  # a key of an argument of the class
    owner = f" of {class_path}" if class_path and unknown and not nested else ""
    sentence = f"{name}: {problem}{owner}" if name else problem
    hint = _similar(path[-1], class_path, path) if unknown and not nested else None
    return UserError(
        f"{place}: {sentence}" if place else sentence, hint=hint or f"`seqmamba {verb} -h` lists the keys"
    )


def _deepest_branch(message: str) -> tuple[list[str], str | None, str]:
    """Follow the first branch down to a leaf: the keys on the way, the last class, and the leaf's problem."""
    path: list[str] = []
    class_path: str | None = None
    leaf: str | None = None
    for raw in message.splitlines():
        line = raw.strip().removeprefix("- ")
        key, owner, given = _KEY.search(line), _CLASS.search(line), _GIVEN.match(line)
        if leaf is None and key:
            path.extend(part for part in key[1].split(".") if part not in _STRUCTURE)
        if leaf is None and owner:
            class_path = owner[1]
        if leaf is None and _LEAF.search(line):
            leaf = line[key.end() :].lstrip(": ") if key else line
        elif leaf is not None and leaf.startswith("Expected a") and given and "Got value" not in leaf:
            leaf += f", got {given[1]}"
    first_line = next(
        (line.strip() for line in message.splitlines() if line.strip()), "the recipe does not parse"
    )
    return path, class_path, _plain_words(leaf or first_line)


def _plain_words(problem: str) -> str:
    problem = re.sub(r"<class '(?:[\w.]*\.)?(\w+)'>", r"\1", problem)
    problem = re.sub(r"typing\.Literal\[(.*?)\]", r"one of \1", problem)
    problem = re.sub(r"\. Got value: ", ", got ", problem)
    problem = re.sub(r"NestedArg\(key='[^']*', val=(.*)\)", r"\1", problem)
    problem = re.sub(r"^Expected an? (one of)?", lambda match: f"expected {match[1] or 'a '}", problem)
    problem = re.sub(r"^expected a (?=int\b)", "expected an ", problem)
    return problem.rstrip(".")


def _option(path: Sequence[str], words: Sequence[str]) -> str | None:
    """Return the command-line option that sets a key, if there is one; it wins over every file."""
    for word in reversed(words):
        name = word.removeprefix("--").split("=", 1)[0]
        if word.startswith("--") and [part for part in name.split(".") if part not in _STRUCTURE] == list(
            path
        ):
            return f"--{name}"
    return None


def _locate(path: Sequence[str], files: Sequence[Path]) -> str | None:
    """Find ``file:line`` of a key, the last file first because it has the last word."""
    for file in reversed(files):
        line = _line_of(yaml.compose(file.read_text(), Loader=yaml.SafeLoader), list(path))
        if path and line is not None:
            return f"{file}:{line}"
    return None


def _line_of(node: yaml.Node | None, path: list[str]) -> int | None:
    if not isinstance(node, yaml.MappingNode):
        return None
    for key, value in node.value:
        if key.value in _STRUCTURE:
            line = _line_of(value, path)
        elif path and key.value == path[0]:
            line = key.start_mark.line + 1 if len(path) == 1 else _line_of(value, path[1:])
        else:
            line = None
        if line is not None:
            return line
    return None


def _similar(name: str, class_path: str | None, path: Sequence[str]) -> str | None:
    """Suggest the argument that was probably meant."""
    if class_path is None and path[0] == "trainer":
        class_path = "lightning.Trainer"
    if class_path is None:
        return None
    module, _, attribute = class_path.rpartition(".")
    names = list(signature(getattr(import_module(module), attribute)).parameters)
    close = get_close_matches(name, names, n=1)
    return f"did you mean {close[0]}?" if close else f"it has {', '.join(names)}"
