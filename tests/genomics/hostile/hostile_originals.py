"""Small files as the archives of the field hand them out, all about one genome: what mutations start from."""

from __future__ import annotations

import random
from io import StringIO

from Bio import SeqIO
from Bio.Seq import Seq
from Bio.SeqFeature import (
    AfterPosition,
    BeforePosition,
    CompoundLocation,
    ExactPosition,
    SeqFeature,
    SimpleLocation,
)
from Bio.SeqRecord import SeqRecord

_LENGTHS = {"chr1": 600, "chr2": 337, "chrM": 131}


def _letters(name: str) -> str:
    """Bases with a soft-masked repeat, a gap and an ambiguity code."""
    generator = random.Random(name)
    letters = "".join(generator.choices("ACGT", k=_LENGTHS[name]))
    return letters[:40] + letters[40:70].lower() + "NNNNN" + letters[75:90] + "R" + letters[91:]


GENOME = {name: _letters(name) for name in _LENGTHS}
"""Chromosome to its letters."""


def wrapped(letters: str, width: int) -> str:
    """Return lines of a width, the last one shorter."""
    return "".join(letters[i : i + width] + "\n" for i in range(0, len(letters), width))


def _fasta(header: str, width: int) -> bytes:
    text = "".join(f">{header.format(name=name)}\n{wrapped(s, width)}" for name, s in GENOME.items())
    return text.encode()


FASTA = (
    _fasta("{name}", 50),  # UCSC
    _fasta("{name} dna:chromosome chromosome:GRCh38:{name}:1:600:1 REF", 60),  # Ensembl
    _fasta("{name} Escherichia coli str. K-12 substr. MG1655, complete genome", 80),  # NCBI
    _fasta("{name}", 10_000),  # one line a sequence
    b">sp|b|1 tRNA\nacguACGURYSWKMBDHVN\n\n>lcl|2\nACG\nTACGTACG\nTA\n",  # RNA, irregular lines
)

BED = (
    b"chr1\t10\t60\nchr2\t0\t337\nchrM\t130\t131\n",
    b'browser position chr1:1-600\ntrack name="peaks" useScore=1\n#chrom\tstart\tend\n'
    b"chr1\t0\t100\tpeak_1\t900\t+\nchr1\t100\t200\tpeak_2\t.\t-\n2\t5\t25\tpeak_3\t0\t.\n",
    b"chr1\t100\t300\tPeak_1\t850\t.\t12.3\t45.6\t42.1\t97\nchr2\t50\t90\tPeak_2\t20\t.\t3.1\t5\t-1\t-1\n",
    b"chr1\t9\t590\tNM_1\t0\t-\t19\t560\t0\t3\t51,100,90,\t0,200,491,\n",  # genes in twelve columns
    b"chr1 5 25 train\nchr1 30 50 train\nchr2 0 40 test\nchrM 3 9 test\n",  # spaces
)

VCF = (
    "##fileformat=VCFv4.1\n##fileDate=2024-05-02\n##source=ClinVar\n"
    '##INFO=<ID=CLNSIG,Number=.,Type=String,Description="Clinical significance">\n'
    "#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\n"
    f"1\t101\t1684\t{GENOME['chr1'][100]}\tG\t.\t.\tCLNSIG=Benign;RS=1\n"
    f"1\t200\t99\t{GENOME['chr1'][199:203]}\t{GENOME['chr1'][199]}\t.\t.\tCLNSIG=Pathogenic\n"
    f"MT\t130\t7\t{GENOME['chrM'][129]}\tA,C,{GENOME['chrM'][129]}TT\t.\t.\tCLNSIG=Uncertain\n",
    "##fileformat=VCFv4.2\n##contig=<ID=chr2,length=337>\n"
    '##INFO=<ID=AF,Number=A,Type=Float,Description="Frequency">\n'
    '##FORMAT=<ID=GT,Number=1,Type=String,Description="Genotype">\n'
    "#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\tFORMAT\tHG00096\tHG00097\n"
    f"chr2\t1\trs1\t{GENOME['chr2'][0]}\tT\t100\tPASS\tAF=0.5\tGT\t0|1\t1|1\n"
    f"chr2\t337\trs2\t{GENOME['chr2'][336]}\t{GENOME['chr2'][336]}A\t9.5\tq10\tAF=0.1;DB\tGT\t0/0\t./.\n",
    "##fileformat=VCFv4.3\n#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\n"
    f"chr1\t300\tsv1\t{GENOME['chr1'][299]}\t<DEL>\t.\tPASS\tSVTYPE=DEL;END=340\n"
    f"chr1\t320\tbnd\t{GENOME['chr1'][319]}\t{GENOME['chr1'][319]}]chr2:33]\t.\tPASS\tSVTYPE=BND\n"
    f"chr1\t0\ttel\tN\t.[chr2:1[\t.\tPASS\t.\nchr1\t41\tst\t{GENOME['chr1'][40]}\t*,c\t.\tPASS\t.\n",
)
VCF = tuple(text.encode() for text in VCF)

GFF3 = (
    b"##gff-version 3\n##sequence-region chrM 1 131\n"
    b"chrM\tRefSeq\tregion\t1\t131\t.\t+\t.\tID=chrM:1..131;Is_circular=true;gbkey=Src\n"
    b"chrM\tRefSeq\tgene\t4\t33\t.\t+\t.\tID=gene-b0001;Name=thrL;gene_biotype=protein_coding\n"
    b"chrM\tProtein Homology\tCDS\t4\t33\t.\t+\t0\tID=cds-1;Parent=gene-b0001;product=leader%2C peptide\n"
    b"chrM\tRefSeq\tpseudogene\t40\t60\t.\t-\t.\tID=gene-b0002;pseudo=true\n"
    b"chrM\tRefSeq\tCDS\t125\t139\t.\t+\t0\tID=cds-ori;Parent=gene-b0003\n",
    b"##gff-version 3\n#!genome-build GRCh38.p14\n"
    b"chr1\tensembl\tgene\t101\t500\t.\t-\t.\tID=gene:ENSG1;biotype=protein_coding\n"
    b"chr1\tensembl\tmRNA\t101\t500\t.\t-\t.\tID=transcript:ENST1;Parent=gene:ENSG1\n"
    b"chr1\tensembl\texon\t401\t500\t.\t-\t.\tParent=transcript:ENST1\n"
    b"chr1\tensembl\texon\t101\t220\t.\t-\t.\tParent=transcript:ENST1\n"
    b"chr1\tensembl\tCDS\t401\t460\t.\t-\t0\tID=CDS:ENSP1;Parent=transcript:ENST1\n"
    b"chr1\tensembl\tCDS\t161\t220\t.\t-\t0\tID=CDS:ENSP1;Parent=transcript:ENST1\n###\n"
    b"chr2\tensembl\tCDS\t11\t40\t12.5\t+\t0\tID=CDS:ENSP2\n",
    b"##gff-version 3\n##sequence-region chr2 1 337\n"  # Prokka: with the sequence
    b"chr2\tProdigal:2.6\tCDS\t3\t62\t.\t+\t0\tID=X_1;inference=ab initio:Prodigal:2.6\n"
    b"chr2\tProdigal:2.6\tCDS\t101\t160\t.\t-\t0\tID=X_2\n##FASTA\n>chr2\n"
    + wrapped(GENOME["chr2"], 60).encode(),
)


def _genbank(name: str, topology: str, features: list[SeqFeature]) -> bytes:
    letters = GENOME[name].upper()
    annotations = {"molecule_type": "DNA", "topology": topology, "data_file_division": "BCT"}
    source = SeqFeature(SimpleLocation(0, len(letters)), "source", qualifiers={"organism": ["Toy toy"]})
    record = SeqRecord(
        Seq(letters), id=f"{name}.1", name=name, features=[source, *features], annotations=annotations
    )
    text = StringIO()
    SeqIO.write([record], text, "genbank")
    return text.getvalue().encode()


def _feature(kind: str, *places: SimpleLocation, **marks: str) -> SeqFeature:
    location = places[0] if len(places) == 1 else CompoundLocation(list(places))
    return SeqFeature(location, kind, qualifiers={key: [text] for key, text in marks.items()})


_BACTERIAL = [
    _feature("gene", SimpleLocation(3, 33, 1), gene="thrL"),
    _feature("CDS", SimpleLocation(3, 33, 1), gene="thrL", codon_start="1", translation="MKRISTTITT"),
    _feature("CDS", SimpleLocation(40, 61, -1), gene="yaaA", codon_start="2"),
    _feature("CDS", SimpleLocation(124, 131, 1), SimpleLocation(0, 8, 1), gene="ori", codon_start="1"),
    _feature("CDS", SimpleLocation(0, 8, -1), SimpleLocation(125, 131, -1), gene="back"),
]
_SPLICED = [
    _feature("mRNA", SimpleLocation(100, 220, 1), SimpleLocation(300, 420, 1), gene="A"),
    _feature("CDS", SimpleLocation(BeforePosition(100), 220, 1), SimpleLocation(300, AfterPosition(420), 1)),
    _feature("CDS", SimpleLocation(500, 560, -1), SimpleLocation(440, 470, -1), gene="B"),
    _feature("misc_feature", SimpleLocation(ExactPosition(7), 7, 1), note="between two bases"),
    _feature("CDS", SimpleLocation(10, 20, 1), SimpleLocation(60, 30 + 40, -1), note="trans-splicing"),
]
GENBANK = (
    _genbank("chrM", "circular", _BACTERIAL),
    _genbank("chr1", "linear", _SPLICED),
    _genbank("chrM", "circular", _BACTERIAL[:2]) + _genbank("chr2", "linear", []),
)

LABELS = (
    b"name\tlabel\tsplit\nchr1\tpos\ttrain\nchr2\tneg\tvalid\nchrM\tpos\ttest\n",
    b"chr1,0.5\nchr2,-1.25e3\nchrM,7\n",
    b'id,tissue a,"tissue, b"\nchr1,0,1\nchr2,1,0\nchrM,1,1\n',
)
"""Tables of labels for the chromosomes."""

PLACES = (
    b"id,region,start,end,strand\n1,chr1,10,60,+\n2,chr2,0,337,-\n3,MT,130.0,131.0,\n",
    b"seqnames\tstart\tend\nchr1\t5\t25\n2\t30\t50\n",
)
"""Tables of intervals, as Genomic Benchmarks and R have them."""

ALLELES = (
    b"chrom\tpos\tref\talt\teffect\nchr1\t101\tA\tG\t0.5\n1\t200\tC\tCT,*\t-1\nMT\t1\tN\t.\tNA\n",
    b"## source\n#CHROM\tbp\tReference\tALT\nchr2\t337\tACG\tA\n",
)
"""Tables of variants."""

ORIGINALS = {
    "fasta": FASTA,
    "bed": BED,
    "vcf": VCF,
    "gff3": GFF3,
    "genbank": GENBANK,
    "labels": LABELS,
    "places": PLACES,
    "alleles": ALLELES,
}
"""Format to its files."""
