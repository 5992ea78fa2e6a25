"""The claims as p1.toml, p2.toml, p3.toml and companion.toml have them, each with its rule in words and its judge.

In a rule {p1.GAIN} is a constant of the module that judges, {share} one of the claim's options, which its judge is
called with, and {case} one of its words; {BETTER} is one of the texts that several rules share. `!p` is in percent.
"""

import string
import tomllib
from functools import partial
from pathlib import Path

from companion.claims import companion, images, p1, p1_structure, p2, p2_competitors, p3, rules

FILES = ("p1", "p2", "p3", "companion")
MODULES = {
    m.__name__.rpartition(".")[2]: m for m in (companion, images, p1, p1_structure, p2, p2_competitors, p3, rules)
}


class _Words(string.Formatter):
    """`!p`: a share in percent; `!l`: margins by name, in points."""

    def convert_field(self, value, conversion):
        if conversion == "l":
            return ", ".join(f"{name.removeprefix('test_')} {100 * margin:g}" for name, margin in value.items())
        return 100 * value if conversion == "p" else super().convert_field(value, conversion)

    def format_field(self, value, spec):
        return super().format_field(value, spec or "g" if isinstance(value, float) else spec)


def _claim(texts, *, judge, says, rule, experiment, options=None, words=None, **told):
    module, name = judge.split(".")
    options = options or {}
    known = MODULES | texts | (words or {}) | options
    if "share" in options:
        known["partly"] = options["share"] - p3.SHORT
    while "{" in rule:
        rule = _Words().vformat(rule, (), known)
    told |= {"says": says.replace("\n", " "), "rule": rule.replace("\n", " ")}
    told["experiments"] = (experiment,) if isinstance(experiment, str) else tuple(experiment)
    return rules.Claim(**told, judge=partial(getattr(MODULES[module], name), **options))


def table(file):
    """What a TOML file of this folder holds."""
    return tomllib.loads(Path(__file__).with_name(f"{file}.toml").read_text(encoding="utf-8"))


def claims():
    """All claims by name, in the order of the files. ValueError: what a claim has that is not known, or lacks."""
    found = {}
    for file in FILES:
        of_file = table(file)
        texts = of_file.pop("texts", {})
        for name, entry in of_file.items():
            try:
                found[name] = _claim(texts, **entry)
            except (KeyError, AttributeError, TypeError, ValueError) as error:
                raise ValueError(f"{file}.toml: {name!r} cannot be made a claim ({error!r}); mend it there") from None
    return found
