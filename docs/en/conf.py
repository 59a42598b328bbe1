"""Sphinx configuration; API pages and the component table are generated."""

import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tools" / "analysis")]

import mmvlm  # noqa: E402  first: it applies the shims
from mmvlm.config.components import component_kinds, list_components  # noqa: E402

project = "mmvlm"
author = copyright = "mmvlm contributors"
version = release = mmvlm.__version__

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
    "sphinx_copybutton",
]
source_suffix = {".md": "markdown"}
exclude_patterns = ["_build"]
html_theme = "sphinx_rtd_theme"
html_static_path = [name for name in ("_static",) if (HERE / name).is_dir()]
myst_heading_anchors = 3
copybutton_prompt_text = r"\$ "

autodoc_member_order = "bysource"
autodoc_typehints = "none"
autodoc_default_options = {"members": True, "show-inheritance": True}
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_custom_sections = [
    ("Shape", "params_style"),
    ("Trainable parameters", "returns_style"),
]


def below(package: str) -> str:
    """Return the modules of a package: its contract first, then by name."""
    folder = ROOT.joinpath(*package.split("."))
    names = sorted(path.stem for path in folder.glob("[!_]*.py"))
    names.sort(key=lambda name: name != "base")
    return " ".join(f"{package}.{name}" for name in names)


# What has a page of its own, in the order of the data.
API_PAGES = {
    "structures": (
        "mmvlm.structures mmvlm.structures.slices mmvlm.structures.dual_perspective"
    ),
    "text": "mmvlm.text.encoding mmvlm.text.templates.base mmvlm.text.decoding",
    "datasets": (
        "mmvlm.datasets.processor mmvlm.datasets.base mmvlm.datasets.readers.llava "
        "mmvlm.datasets.readers.densefusion " + below("mmvlm.datasets.transforms")
    ),
    "models": (
        "mmvlm.models.vlms.base mmvlm.models.heads.base "
        "mmvlm.models.heads.visual_regression mmvlm.models.language_models.base "
        "mmvlm.models.language_models.hf_causal_lm mmvlm.models.utils.freezing "
        "mmvlm.models.utils.observing"
    ),
    "vision_encoders": below("mmvlm.models.vision_encoders"),
    "modality_tokenizers": below("mmvlm.models.modality_tokenizers"),
    "connectors": below("mmvlm.models.connectors"),
    "fusers": below("mmvlm.models.fusers"),
    "adapters": (
        below("mmvlm.models.language_models.adapters")
        + " mmvlm.models.utils.token_context mmvlm.models.utils.token_layout"
        + " mmvlm.models.utils.wrapping"
    ),
    "ops": below("mmvlm.models.ops"),
    "engine": (
        "mmvlm.engine.optimizers.part_constructor "
        "mmvlm.engine.optimizers.warmup_constant mmvlm.engine.optimizers.warmup_linear "
        "mmvlm.engine.runner.checkpoint"
    ),
    "analysis": ("flops ablation_runs ablation_table feature_maps layer_probe"),
    "export": (
        "mmvlm.export.from_llava mmvlm.export.from_hf mmvlm.export.from_qformer "
        "mmvlm.export.from_onellm mmvlm.export.from_lisa "
        "mmvlm.export.from_grounding mmvlm.export.from_qwen_vl mmvlm.export.from_pink "
        "mmvlm.export.to_llava mmvlm.export.hf "
        "mmvlm.export.merge_lora"
    ),
    "testing": "mmvlm.testing.connector_contract mmvlm.testing.adapter_contract",
    "apis": "mmvlm.apis.inferencer",
    "compat": "mmvlm.compat",
}


def write_generated_pages() -> None:
    """Write the component table and the API pages from what is registered."""
    lines = ["# Components", "", "What can stand behind `type=` in a config.", ""]
    for kind in component_kinds():
        rows = [r for r in list_components(kind) if not r.name.startswith("xtuner/")]
        if not rows:
            continue
        lines += [f"## {kind.replace('_', ' ')}", "", "| name | file | what |"]
        lines += ["|---|---|---|"]
        for row in rows:
            text = row.doc.replace("|", "\\|").replace("``", "`")
            text = text.replace("<", "&lt;") if "`" not in text else text
            lines.append(f"| `{row.name}` | `{row.file}` | {text} |")
        lines.append("")
    (HERE / "api").mkdir(exist_ok=True)
    (HERE / "api" / "components.md").write_text("\n".join(lines))
    for page, modules in API_PAGES.items():
        lines = [f"# {page}", ""]
        for module in modules.split():
            lines += ["```{eval-rst}", f".. automodule:: {module}", "```", ""]
        (HERE / "api" / f"{page}.md").write_text("\n".join(lines))


write_generated_pages()
