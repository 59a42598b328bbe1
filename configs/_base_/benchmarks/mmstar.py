"""MMStar from the table of VLMEvalKit, in its wording."""

benchmark = dict(
    name="mmstar",
    title="MMStar",
    split="val",
    source="Chen et al., NeurIPS 2024; VLMEvalKit, commit e8e78f0",
    dataset=dict(
        type="OptionTSVDataset",
        data_root="data/LMUData",
        ann_file="MMStar.tsv",
        task=dict(
            type="MultipleChoice",
            prompts=["Question: {question}\nOptions:"],
            hint_line="Hint: {hint}",
            suffix="Please select the correct answer from the options above. \n",
        ),
        evaluate=True,
    ),
    generation=dict(max_new_tokens=1024),
    scorer=dict(type="ChoiceScorer", rule="exact_matching"),
    headline="acc",
    variant="VLMEvalKit",
    chance=25.0,
    num_items=1500,
    data_version="md5 e1ecd2140806c1b1bbf54b43372efb9e",
)
