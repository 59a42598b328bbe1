"""Flickr30k Entities test: phrases against one box around all of their own."""

benchmark = dict(
    name="flickr30k_entities_merged",
    title="Flickr30k Entities",
    split="test",
    source="Plummer et al., ICCV 2015; apple/ml-ferret",
    dataset=dict(
        type="Flickr30kEntitiesDataset",
        data_root="data/flickr30k_entities",
        ann_file="test.txt",
        image_prefix="flickr30k-images",
        task=dict(
            type="PhraseGrounding",
            ask="all",
            lower=True,
            templates=["What are the locations of <phrases>?"],
        ),
        evaluate=True,
    ),
    generation=dict(max_new_tokens=512),
    scorer=dict(type="PhraseGroundingScorer", rule="merged"),
    headline="recall@1",
    variant="merged boxes",
)
