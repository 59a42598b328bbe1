"""Image-phrase contrast: the loss in closed form, and that it learns."""

import pytest
import torch

from mmvlm.models.vlms.contrastive import ContrastiveModel, multi_positive_loss

TOWER = dict(
    type="TinyVisionEncoder", width=16, num_layers=1, num_heads=2, image_size=16
)


def build(**fields):
    torch.manual_seed(0)
    text = dict(type="PhraseEncoder", vocab_size=20, width=16, num_heads=2)
    return ContrastiveModel(TOWER, text, **fields)


def batch():
    generator = torch.Generator().manual_seed(1)
    pixels = torch.randint(0, 256, (4, 3, 16, 16), generator=generator)
    ids = torch.tensor([[1, 2, 0], [3, 4, 5], [6, 7, 0], [8, 9, 0], [10, 0, 0]])
    is_true = torch.eye(4, 5, dtype=torch.bool)
    is_true[2, 4] = is_true[3, 4] = True
    return dict(
        pixel_values=pixels.to(torch.uint8),
        phrase_ids=ids,
        phrase_mask=ids > 0,
        is_true=is_true,
        group=torch.tensor([0, 0, 0, 0, 1]),
    )


def test_loss_is_cross_entropy_for_one_positive():
    scores = torch.randn(3, 3)

    loss = multi_positive_loss(scores, torch.eye(3, dtype=torch.bool), dim=1)

    wanted = torch.nn.functional.cross_entropy(scores, torch.arange(3))
    torch.testing.assert_close(loss, wanted)


def test_loss_spreads_over_positives_and_skips_slices_without():
    scores = torch.tensor([[1.0, 2.0, 3.0], [0.0, 0.0, 0.0]])
    is_true = torch.tensor([[True, True, False], [False, False, False]])

    loss = multi_positive_loss(scores, is_true, dim=1)

    log_sum = scores[0].exp().sum().log()
    torch.testing.assert_close(loss, log_sum - 1.5)


def test_scores_are_smooth_maxima_over_patches():
    model, inputs = build(), batch()
    model.eval()

    scores = model(inputs, mode="tensor")

    spec = model.vision_spec
    pixels = inputs["pixel_values"].float() / 255
    pixels = (pixels - torch.tensor(spec.mean).view(3, 1, 1)) / torch.tensor(
        spec.std
    ).view(3, 1, 1)
    patches = model.head(model.vision_encoder(pixels, (-1,)).patches())
    patches = patches / patches.norm(dim=-1, keepdim=True)
    for number in range(5):
        mask = inputs["phrase_mask"][number]
        ids = inputs["phrase_ids"][number][mask][None]
        phrase = model.text_encoder(ids, torch.ones_like(ids, dtype=torch.bool))[0]
        cosines = patches @ (phrase / phrase.norm())
        wanted = (10 * cosines).exp().sum(1).log()
        torch.testing.assert_close(scores[:, number], wanted, atol=1e-5, rtol=1e-5)


def test_a_few_steps_tell_the_images_apart():
    model, inputs = build(), batch()
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    losses = []
    for _ in range(40):
        out = model(inputs, mode="loss")
        optimizer.zero_grad()
        out["loss"].backward()
        optimizer.step()
        losses.append(out["loss"].item())

    assert losses[-1] < 0.5 * losses[0]
    assert float(out["accuracy"]) == 1.0
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name


def test_parts_are_named_as_a_vlm_names_them():
    model = build()

    assert list(model.parts) == ["vision_encoder", "text_encoder", "head"]
    assert all(
        key.startswith(("vision_encoder.", "text_encoder.", "head.", "log_scale"))
        for key in model.state_dict()
    )
    assert model.token_count is None


def test_errors():
    model, inputs = build(), batch()
    with pytest.raises(ValueError, match="mode='predict'"):
        model(inputs, mode="predict")
    long = torch.ones(1, 40, dtype=torch.int64)
    with pytest.raises(ValueError, match=r"40 tokens.*max_length is 32"):
        model.text_encoder(long, long > 0)
