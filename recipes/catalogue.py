"""The recipes that exist: what each is about, and the module that prepares its data."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Recipe:
    """One recipe.

    Attributes:
        name: ``<domain>/<dataset>``; also its folder below this package.
        task: What is predicted, in a few words.
        data: Size of the data set.
        split: What is held out.
        licence: Licence of the package that the data come in.
        published: The number to beat and where it was published, or that none was.
        configs: Names of the YAML files; the first is what the recipe's name alone stands for.
    """

    name: str
    task: str
    data: str
    split: str
    licence: str
    published: str
    configs: tuple[str, ...]

    @property
    def folder(self) -> Path:
        """Where README.md, the YAML files and prepare.py are."""
        return Path(__file__).parent / self.name

    @property
    def prepare_module(self) -> str:
        """Module with ``prepare(cache, source=None) -> Path``."""
        return f"{__package__}.{self.name.replace('/', '.')}.prepare"


PRESETS = Path(__file__).parent / "_trainer"
"""Folder of the trainer presets, which every recipe composes with."""

RECIPES = (
    Recipe(
        name="genomics/oct4_mafk",
        task="Oct4 or MafK: which factor binds a human ChIP-seq peak",
        data="7,997 peaks of 200 bp, 2 classes",
        split="chr8 + chr9 for test, chr7 for validation",
        licence="GPL-3",
        published="about 0.85 accuracy (janggu's own example)",
        configs=("mamba.yaml",),
    ),
    Recipe(
        name="genomics/cds_intergenic",
        task="protein-coding or intergenic: E. coli, B. japonicum, and from one to the other",
        data="200-bp windows of two annotated genomes, 2 classes",
        split="blocks of 100 kb, or a whole genome",
        licence="GPL-2+",
        published="none",
        configs=("ecoli.yaml", "bjaponicum.yaml", "ecoli_to_bjaponicum.yaml", "bjaponicum_to_ecoli.yaml"),
    ),
    Recipe(
        name="genomics/species",
        task="which of seven bacteria and archaea a piece of DNA is from",
        data="10,500 windows of 1 kb, 7 classes",
        split="blocks of 100 kb",
        licence="GPL-2+",
        published="none",
        configs=("mamba.yaml",),
    ),
)
