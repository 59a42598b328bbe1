"""What the data pipeline must know of the model, in one picklable object."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mmvlm.structures import TokenCount, ViewLayout, VisionEncoderSpec

if TYPE_CHECKING:
    from mmvlm.text.templates.base import ChatTemplate


@dataclass
class VLMContext:
    """Shared facts, named once in the config and bound to every dataset.

    The runner builds it from the config's top-level ``tokenizer`` and
    ``chat_template`` and from the model (``spec``, ``token_count``), then calls
    ``dataset.bind(context)``; datasets hand it to those transforms that have a
    ``bind`` method. Datasets and models so never import each other.

    Args:
        tokenizer (Any): a transformers tokenizer, slow or fast.
        template (ChatTemplate): renders conversations.
        spec (VisionEncoderSpec | None): None for text-only work.
        token_count (TokenCount | None): LLM positions of a picture's layout.
        views (ViewLayout | None): layout of a picture as the connector asks for
            it; view transforms that can follow the connector read it.
        modalities (tuple[str, ...]): what the model takes besides text.

    """

    tokenizer: Any
    template: ChatTemplate
    spec: VisionEncoderSpec | None = None
    token_count: TokenCount | None = None
    views: ViewLayout | None = None
    modalities: tuple[str, ...] = ("image",)

    @classmethod
    def from_config(cls, cfg: Any, model: Any) -> VLMContext:
        """Build the context from a config and the model built from it.

        Args:
            cfg (mmengine.Config): holds ``tokenizer`` and ``chat_template``,
                dicts or built objects (``chat_template`` may be a name).
            model (torch.nn.Module): offers ``vision_spec``, ``token_count`` and
                ``asked_views``, all None without pictures; its language model's
                ``new_tokens`` are added to the tokenizer.

        Raises:
            ValueError: when the tokenizer has not what the template writes, or has
                ids that the language model has no rows for.

        """
        from mmvlm.registry import CHAT_TEMPLATES, TOKENIZERS

        from .vocabulary import add_new_tokens, check_vocabulary

        tokenizer, template = cfg["tokenizer"], cfg["chat_template"]
        if isinstance(tokenizer, dict):
            tokenizer = TOKENIZERS.build(tokenizer)
        language_model = getattr(model, "language_model", None)
        add_new_tokens(tokenizer, getattr(language_model, "new_tokens", None))
        if isinstance(template, str):
            template = dict(type=template)
        if isinstance(template, dict):
            template = CHAT_TEMPLATES.build(template)
        template.check_tokenizer(tokenizer)
        check_vocabulary(tokenizer, language_model)
        return cls(
            tokenizer=tokenizer,
            template=template,
            spec=getattr(model, "vision_spec", None),
            token_count=getattr(model, "token_count", None),
            views=getattr(model, "asked_views", None),
            modalities=tuple(getattr(model, "modalities", ("image",))),
        )
