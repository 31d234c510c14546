"""Captions of tissues, which align the text tower with the image tower.

A concept is a kind of labeled picture: the nine folders of NCT-CRC-HE, then LC25000's lung and
the osteosarcoma set. A meaning lists the concepts that its phrases describe, with weight 1 unless
another is given. Phrases of `HELD_OUT` are never trained on: they test words that the model has
not seen.
"""

from __future__ import annotations

import torch
from torch import Tensor

CONCEPTS = (
    "ADI", "BACK", "DEB", "LYM", "MUC", "MUS", "NORM", "STR", "TUM",
    "LUNG_TUM", "LUNG_NORM", "LUNG_SCC", "BONE_TUM", "BONE_NEC", "BONE_OTHER",
)  # fmt: skip

Meanings = tuple[tuple[str, tuple[str, ...]], ...]

CAPTIONS: Meanings = (
    ("ADI", (
        "adipose tissue", "adipose", "fat", "fat cells", "adipocytes", "fatty tissue",
        "mature adipose tissue", "lipid-filled cells", "subserosal fat", "mesenteric fat",
        "pericolic fat", "large clear cells with thin membranes", "lobules of fat",
        "yellow fat tissue", "adipose connective tissue", "univacuolar fat cells")),
    ("BACK", (
        "background", "empty glass slide", "white background without tissue", "glass",
        "no tissue", "blank", "empty", "empty space", "slide background", "nothing",
        "non-tissue area", "white area", "bare glass", "clear area of the slide",
        "scanner background", "outside of the tissue", "off tissue", "pen mark", "artifact",
        "blank slide area", "coverslip")),
    ("DEB BONE_NEC", (
        "necrosis", "necrotic debris", "cell debris", "debris", "tumor necrosis",
        "necrotic tissue", "dead cells", "dirty necrosis", "debris and necrosis", "ghost cells",
        "coagulative necrosis", "apoptotic debris", "karyorrhexis", "necrotic tumour",
        "nuclear dust and debris", "dying tissue", "non-viable tumor", "geographic necrosis",
        "fibrinous exudate", "ulcer debris")),
    ("DEB", (
        "blood", "red blood cells", "haemorrhage", "erythrocytes", "bleeding",
        "luminal debris", "dirty necrosis in gland lumens")),
    ("LYM", (
        "lymphocytes", "lymphocyte", "lymphoid aggregate", "inflammatory cells", "immune cells",
        "lymphoid tissue", "lymphoid follicle", "lymphoid infiltrate", "inflammation",
        "tumor infiltrating lymphocytes", "dense lymphocytic infiltrate", "germinal centre",
        "plasma cells", "lymph node", "immune infiltrate", "white blood cells", "leukocytes",
        "chronic inflammatory infiltrate", "Peyer's patch", "small round blue cells",
        "B cells and T cells", "tertiary lymphoid structure", "mononuclear inflammatory cells",
        "inflamed tissue")),
    ("MUC", (
        "mucus", "mucin", "mucin pool", "extracellular mucin", "mucinous material",
        "mucous", "pool of mucus", "mucin lake", "mucinous area", "acellular mucin",
        "slimy secretion", "pale blue mucin", "secreted mucus", "lakes of mucin",
        "goblet cell secretion")),
    ("MUS", (
        "smooth muscle", "muscularis propria", "muscle tissue", "muscle", "muscle fibres",
        "smooth muscle bundles", "muscular layer", "muscle wall of the bowel", "leiomyocytes",
        "muscularis", "circular muscle layer", "longitudinal muscle layer", "muscularis mucosae",
        "spindle shaped smooth muscle cells", "muscle bundle", "muscular tissue",
        "myocytes", "bowel wall muscle")),
    ("NORM", (
        "normal colon mucosa", "normal mucosa", "benign glands", "normal colonic crypts",
        "healthy epithelium", "normal gland", "benign gland", "benign epithelium",
        "normal epithelium", "colonic crypts", "crypts of Lieberkuhn", "goblet cells",
        "non-neoplastic mucosa", "healthy colon", "regular crypts with goblet cells",
        "benign colonic tissue", "normal intestinal epithelium", "normal glandular tissue",
        "columnar epithelium with goblet cells", "crypt", "mucosal crypts", "mucosa",
        "hyperplastic polyp", "normal large bowel mucosa", "surface epithelium")),
    ("STR", (
        "cancer-associated stroma", "fibrous stroma", "connective tissue", "desmoplastic stroma",
        "stroma", "tumor-associated stroma", "stromal tissue", "fibrous tissue", "collagen",
        "collagen bundles", "fibroblasts", "fibrosis", "desmoplasia", "submucosa",
        "intratumoral stroma", "loose connective tissue", "extracellular matrix",
        "reactive stroma", "fibrotic tissue", "supporting tissue", "interstitial tissue",
        "desmoplastic reaction", "collagen fibres with spindle cells", "scar tissue",
        "mesenchymal tissue")),
    ("STR NORM:0.3 LYM:0.3", ("lamina propria", "tissue between the glands")),
    ("STR MUS:0.4", (
        "blood vessel", "vessel", "artery", "vein", "vessel wall", "vascular tissue",
        "capillaries", "endothelium")),
    ("STR MUS:0.5", ("spindle cells", "soft tissue", "nerve", "fibromuscular tissue")),
    ("TUM", (
        "colorectal adenocarcinoma epithelium", "colorectal adenocarcinoma",
        "colorectal cancer", "colon cancer", "colon adenocarcinoma", "rectal carcinoma",
        "malignant glands", "malignant gland", "malignant colonic glands",
        "neoplastic glands of the colon", "dysplastic glands", "cribriform malignant glands",
        "adenomatous epithelium", "adenoma", "tubular adenoma", "high grade dysplasia",
        "dysplasia")),
    ("TUM LUNG_TUM", (
        "adenocarcinoma", "malignant glandular epithelium", "glandular carcinoma",
        "invasive adenocarcinoma", "gland-forming carcinoma")),
    ("TUM LUNG_TUM LUNG_SCC", (
        "carcinoma", "malignant epithelium", "tumor epithelium", "tumour epithelium",
        "invasive carcinoma", "cancer epithelium", "malignant epithelial cells",
        "epithelial tumor", "carcinoma cells", "neoplastic epithelium", "carcinoma nests")),
    ("TUM LUNG_TUM LUNG_SCC BONE_TUM", (
        "tumor", "tumour", "cancer", "malignant tumor", "malignant tissue", "cancer cells",
        "tumor cells", "malignancy", "neoplasm", "neoplastic tissue", "viable tumor",
        "malignant cells", "cancerous tissue", "tumour tissue", "pleomorphic tumor cells")),
    ("TUM NORM LUNG_TUM:0.5", (
        "gland", "glands", "glandular epithelium", "glandular tissue", "colon glands",
        "glandular structures", "colonic gland", "intestinal gland", "columnar epithelium",
        "gland with lumen")),
    ("TUM NORM LUNG_TUM LUNG_SCC", (
        "epithelium", "epithelial tissue", "epithelial cells", "epithelial")),
    ("STR MUS ADI:0.5 LYM:0.7", ("non-glandular tissue", "tissue other than glands")),
    ("STR MUS ADI LYM NORM LUNG_NORM BONE_OTHER", (
        "non-tumor tissue", "non-neoplastic tissue", "no tumor", "healthy tissue",
        "non-malignant tissue")),
    ("NORM LUNG_NORM", ("normal tissue", "benign tissue", "normal", "benign")),
    ("ADI DEB LYM MUC MUS NORM STR TUM LUNG_TUM LUNG_NORM LUNG_SCC BONE_TUM BONE_NEC BONE_OTHER", (
        "tissue", "stained tissue", "H&E stained tissue", "foreground tissue")),
    ("LUNG_TUM", (
        "lung adenocarcinoma", "pulmonary adenocarcinoma", "adenocarcinoma of the lung",
        "acinar lung adenocarcinoma", "lepidic lung tumour")),
    ("LUNG_SCC", (
        "lung squamous cell carcinoma", "squamous cell carcinoma", "squamous carcinoma",
        "keratinising squamous carcinoma", "keratin pearls", "squamous tumor of the lung")),
    ("LUNG_TUM LUNG_SCC", ("lung cancer", "lung carcinoma", "non-small cell lung cancer")),
    ("LUNG_NORM", (
        "normal lung", "lung parenchyma", "alveoli", "benign lung tissue", "alveolar tissue",
        "air spaces with thin septa", "healthy lung", "pulmonary alveoli")),
    ("BONE_TUM", (
        "osteosarcoma", "viable osteosarcoma", "sarcoma", "malignant bone tumor",
        "malignant osteoid", "sarcoma cells")),
    ("BONE_NEC", ("necrotic osteosarcoma", "non-viable osteosarcoma", "treated osteosarcoma")),
    ("BONE_OTHER", (
        "bone", "bone and marrow", "cartilage", "skeletal muscle", "bone marrow",
        "trabecular bone", "non-tumour tissue of bone")),
)  # fmt: skip

HELD_OUT: Meanings = (
    ("ADI", ("adipose cells", "fatty connective tissue", "white adipose")),
    ("BACK", ("plain white glass", "empty background of the scan", "area without any tissue")),
    ("DEB BONE_NEC", ("necrotic area", "dead tissue", "cellular debris")),
    ("LYM", ("lymphocytic infiltration", "lymphoid cells", "aggregate of immune cells")),
    ("MUC", ("mucinous pool", "mucus secretion", "lake of extracellular mucus")),
    ("MUS", ("smooth muscle tissue", "muscle layer of the colon", "bundles of muscle")),
    ("NORM", ("normal crypts", "healthy colonic glands", "benign mucosa")),
    ("STR", ("stromal cells and collagen", "fibroblastic stroma", "fibrous connective tissue")),
    ("TUM", ("malignant colorectal epithelium", "colonic carcinoma", "cancer of the colon")),
    ("LUNG_TUM", ("adenocarcinoma in the lung",)),
    ("LUNG_SCC", ("squamous cell cancer",)),
    ("LUNG_NORM", ("normal alveolar lung",)),
)  # fmt: skip

TEMPLATES = (
    "{}", "{}.", "an H&E image of {}.", "a photomicrograph of {}.",
    "a histopathology image showing {}.", "{}, H&E stain.", "there is {} in this patch.",
    "{} seen under the microscope.",
)  # fmt: skip


def phrases_and_fits(meanings: Meanings) -> tuple[list[str], Tensor]:
    """Return the phrases, and the fit of each to each concept, (N, 15) in [0, 1]."""
    phrases: list[str] = []
    rows: list[list[float]] = []
    for meaning, texts in meanings:
        fits = dict.fromkeys(CONCEPTS, 0.0)
        for part in meaning.split():
            concept, _, weight = part.partition(":")
            fits[concept] = float(weight or 1)
        phrases += texts
        rows += [list(fits.values())] * len(texts)
    return phrases, torch.tensor(rows)
