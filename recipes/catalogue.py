"""The recipes that exist: what each is about, and the module that prepares its data."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Recipe:
    """One recipe; its numbers are in ``results.json`` of its folder.

    Attributes:
        name: ``<domain>/<dataset>``; also its folder below this package.
        task: What is predicted, in a few words.
        data: Size of the data set.
        split: What is held out.
        licence: Licence of the package that the data come in.
        configs: Names of the YAML files; the first is what the recipe's name alone stands for.
    """

    name: str
    task: str
    data: str
    split: str
    licence: str
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
        task="Oct4 or MafK peak (human ChIP-seq)",
        data="7,997 x 200 bp, 2 classes",
        split="chr8 + chr9",
        licence="GPL-3",
        configs=("mamba.yaml",),
    ),
    Recipe(
        name="genomics/cds_intergenic",
        task="coding or intergenic (E. coli, B. japonicum, across)",
        data="32,585 to 40,952 x 200 bp, 2 classes",
        split="blocks of 100 kb, or a genome",
        licence="GPL-2+",
        configs=("ecoli.yaml", "bjaponicum.yaml", "ecoli_to_bjaponicum.yaml", "bjaponicum_to_ecoli.yaml"),
    ),
    Recipe(
        name="genomics/gene_segmentation",
        task="coding or not, strand and frame of every base (prokaryotes)",
        data="19.5 Mb of 3 genomes, windows of 8 kb, 131 kb or 1 Mb",
        split="the last 1,048,576 bases of a genome, or a genome",
        licence="GPL-2+",
        configs=("8k.yaml", "131k.yaml", "1m.yaml"),
    ),
    Recipe(
        name="genomics/pretrain_yeast_ecoli",
        task="masked and next-base pretraining",
        data="16.7 Mb, 2 genomes",
        split="2 chromosomes, blocks of 100 kb",
        licence="GPL-3",
        configs=("masked.yaml", "next_base.yaml"),
    ),
    Recipe(
        name="genomics/pretrain_prokaryotes",
        task="masked pretraining on a GPU",
        data="20.0 Mb, 6 genomes",
        split="blocks of 100 kb",
        licence="GPL-2+",
        configs=("masked.yaml",),
    ),
    Recipe(
        name="genomics/pretrain_human",
        task="masked pretraining on short windows, on a GPU",
        data="70.0 Mb of the human X chromosome",
        split="blocks of 100 kb",
        licence="GPL-3",
        configs=("masked.yaml",),
    ),
    Recipe(
        name="genomics/species",
        task="which of seven prokaryotes",
        data="10,500 x 1 kb, 7 classes",
        split="blocks of 100 kb",
        licence="GPL-2+",
        configs=("mamba.yaml",),
    ),
    Recipe(
        name="genomics/splice_uci",
        task="donor site, acceptor site or neither (primates)",
        data="3,186 x 60 bp, 3 classes",
        split="alike sequences together",
        licence="GPL-2",
        configs=("hybrid.yaml",),
    ),
    Recipe(
        name="genomics/tss_fly",
        task="in front of a gene or 1.7 kb upstream (fruit fly)",
        data="32,283 x 300 bp, 2 classes",
        split="regions that overlap or are alike together",
        licence="Artistic-2.0",
        configs=("hybrid.yaml",),
    ),
    Recipe(
        name="genomics/amr_class",
        task="drug class of a resistance gene",
        data="3,128 genes, 10 classes",
        split="gene families together",
        licence="Apache-2.0",
        configs=("mamba.yaml",),
    ),
    Recipe(
        name="genomics/species_context",
        task="which of four bacteria, by bases of context",
        data="16 chromosomes of 16 strains, windows of 64 bases to 1 Mb",
        split="strains",
        licence="BSD-3",
        configs=("mamba.yaml",),
    ),
    Recipe(
        name="genomics/variant_effects",
        task="scores of substitutions against what they do to the protein",
        data="6,000 substitutions in E. coli; 17.9 Mb of 3 genomes to pretrain on",
        split="blocks of 100 kb",
        licence="GPL-2+",
        configs=("masked.yaml",),
    ),
    Recipe(
        name="genomics/cpg_islands",
        task="CpG islands as a track of bins (human)",
        data="70 Mb of chromosome X, 451 islands",
        split="blocks of 100 kb",
        licence="GPL-3, MIT",
        configs=("mamba.yaml",),
    ),
    Recipe(
        name="genomics/stop_mutations",
        task="does a substitution make a stop codon (E. coli), from both alleles",
        data="30,000 substitutions",
        split="blocks of 100 kb",
        licence="GPL-2+",
        configs=("mamba.yaml",),
    ),
    Recipe(
        name="genomics/gue",
        task="promoters and transcription factors of GUE",
        data="13 tasks of 2,382 to 59,196 sequences, 70 to 300 bp",
        split="official",
        licence="Apache-2.0",
        configs=("prom_core_notata.yaml", "prom_core_all.yaml", "mouse4.yaml", "pretrain.yaml"),
    ),
    Recipe(
        name="genomics/ienhancer2l",
        task="enhancer or not (human)",
        data="3,368 x 200 bp, 2 classes",
        split="official; 100 test sequences are in training",
        licence="none stated",
        configs=("layer1.yaml",),
    ),
    Recipe(
        name="genomics/cnnprom",
        task="promoter or not (plants, mouse, bacteria)",
        data="5 sets of 1,373 to 17,364 sequences, 81 or 251 bp",
        split="none official; folds",
        licence="none stated",
        configs=("ath_tata.yaml",),
    ),
    Recipe(
        name="genomics/genomic_benchmarks",
        task="the nine Genomic Benchmarks",
        data="1,210 to 289,061 sequences, on genomes of your own",
        split="official",
        licence="Apache-2.0",
        configs=("human_enhancers_cohn.yaml",),
    ),
    Recipe(
        name="audio/esc10",
        task="sounds of the surroundings",
        data="400 x 5 s, 44.1 kHz, 10 classes",
        split="5 official folds",
        licence="CC BY 3.0",
        configs=("filterbank.yaml", "strided.yaml"),
    ),
    Recipe(
        name="audio/spoken_digits",
        task="digits by a held-out speaker, also at other rates",
        data="3,000 x 0.4 s, 8 kHz, 10 classes",
        split="each of 6 speakers",
        licence="CC BY-SA 4.0",
        configs=("filterbank.yaml", "strided.yaml", "16k.yaml"),
    ),
    Recipe(
        name="audio/spoken_digits_generation",
        task="generation of spoken digits, by class",
        data="3,000 x 0.4 s, 8 kHz, 10 classes",
        split="takes, as released",
        licence="CC BY-SA 4.0",
        configs=("mamba_s4.yaml", "s4_mamba.yaml", "s4.yaml", "mamba.yaml", "wavenet.yaml"),
    ),
    Recipe(
        name="audio/spoken_digits_pretraining",
        task="masked and autoregressive pretraining, then digits from few labels",
        data="3,000 x 0.4 s, 8 kHz, 10 classes",
        split="each of 6 speakers",
        licence="CC BY-SA 4.0",
        configs=(
            "masked.yaml",
            "next_sample.yaml",
            "few_labels.yaml",
            "few_labels_codes.yaml",
            "small_masked.yaml",
            "small_few_labels.yaml",
        ),
    ),
    Recipe(
        name="audio/speech_commands",
        task="which of 35 words, at 16 and at 8 kHz",
        data="105,829 x 1 s, 16 kHz, 2,618 speakers",
        split="official, by speaker",
        licence="CC BY 4.0",
        configs=("filterbank.yaml", "8k.yaml", "s4.yaml"),
    ),
    Recipe(
        name="audio/sc09",
        task="generation of spoken digits of many speakers",
        data="38,908 x 1 s, 16 kHz",
        split="official, by speaker",
        licence="CC BY 4.0",
        configs=(
            "mamba.yaml",
            "mamba_large.yaml",
            "s4_mamba.yaml",
            "mamba_s4.yaml",
            "s4.yaml",
            "wavenet.yaml",
            "classifier.yaml",
        ),
    ),
    Recipe(
        name="audio/wesnoth_music",
        task="generation of music, and two hours in one stream",
        data="40 tracks, 2.1 h, 16 kHz",
        split="pieces",
        licence="GPL-2+",
        configs=("s4_mamba.yaml", "s4.yaml", "mamba.yaml", "wavenet.yaml"),
    ),
    Recipe(
        name="audio/russian_phones",
        task="phones of a reader, frame by frame, and by segment",
        data="620 sentences, 99.5 min, 16 kHz, 50,526 phones of 50",
        split="sentences",
        licence="BSD-like",
        configs=("tagger.yaml", "segments.yaml"),
    ),
    Recipe(
        name="audio/russian_speech",
        task="generation of a reader's speech",
        data="620 sentences, 99.5 min, 16 kHz",
        split="sentences",
        licence="BSD-like",
        configs=("s4_mamba.yaml", "wavenet.yaml"),
    ),
    Recipe(
        name="audio/drum_kits",
        task="drums by type, of a held-out kit",
        data="470 strokes of 0.06 to 3 s, 16 kHz, 5 classes",
        split="each of 12 kits",
        licence="GPL-2, CC BY, CC BY-SA or CC0",
        configs=("filterbank.yaml",),
    ),
    Recipe(
        name="audio/youtubemix",
        task="generation of piano music",
        data="241 clips of a minute, 16 kHz",
        split="published, 88/6/6 in order",
        licence="None stated",
        configs=("sashimi.yaml", "s4_mamba.yaml", "wavenet.yaml"),
    ),
    Recipe(
        name="audio/beethoven",
        task="generation of piano sonatas",
        data="4,328 clips of 8 s, 16 kHz",
        split="published, 88/6/6 in order",
        licence="None stated",
        configs=("sashimi.yaml", "wavenet.yaml"),
    ),
    Recipe(
        name="audio/instruments",
        task="single notes by instrument",
        data="391 notes of up to 2 s, 16 kHz, 27 classes",
        split="5 folds of notes",
        licence="MIT",
        configs=("filterbank.yaml",),
    ),
)
