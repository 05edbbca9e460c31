"""The files of each family of models that others publish."""

from mixer.checkpoint.families.bit import BIT
from mixer.checkpoint.families.convnext import CONVNEXT
from mixer.checkpoint.families.gmlp import GMLP
from mixer.checkpoint.families.mixer import MIXER
from mixer.checkpoint.families.nfnet import NFNET
from mixer.checkpoint.families.resmlp import RESMLP
from mixer.checkpoint.families.vit import VIT

FAMILIES = {family.name: family for family in (MIXER, VIT, BIT, RESMLP, GMLP, CONVNEXT, NFNET)}
