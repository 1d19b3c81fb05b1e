"""From a method's name to the method."""

from __future__ import annotations

from polyprag.config import MethodName
from polyprag.methods.da_rag import DaRag
from polyprag.methods.dragin import Dragin
from polyprag.methods.dyprag import DyPrag
from polyprag.methods.flare import Flare
from polyprag.methods.method import Method, PromptMethod
from polyprag.methods.poly_prag import PolyPrag
from polyprag.methods.prag import Prag
from polyprag.methods.shared_lora import SharedLora
from polyprag.methods.workbench import Workbench

FAMILIES: dict[MethodName, type[Method]] = {
    MethodName.VANILLA: PromptMethod,
    MethodName.STANDARD_RAG: PromptMethod,
    MethodName.DA_RAG: DaRag,
    MethodName.FLARE: Flare,
    MethodName.DRAGIN: Dragin,
    MethodName.STANDARD_RAG_FORMAT: PromptMethod,
    MethodName.DA_RAG_FORMAT: DaRag,
    MethodName.FLARE_FORMAT: Flare,
    MethodName.DRAGIN_FORMAT: Dragin,
    MethodName.PRAG: Prag,
    MethodName.PRAG_COMBINE: Prag,
    MethodName.DYPRAG: DyPrag,
    MethodName.DYPRAG_COMBINE: DyPrag,
    MethodName.GLOBAL_LORA: SharedLora,
    MethodName.FORMAT_LORA: SharedLora,
    **{name: PolyPrag for name in MethodName if name.startswith("poly_prag")},
}


def build_method(name: MethodName, bench: Workbench) -> Method:
    """The method of that name, on a workbench."""
    return FAMILIES[name](name, bench)
