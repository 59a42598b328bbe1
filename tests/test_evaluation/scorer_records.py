"""Answer records of any scorer."""


def record(index, text, reference, meta=None, **entries):
    return (
        dict(
            uid=f"u{index}",
            index=index,
            question_id=f"a_b_c_{index % 3}_{index % 2}_{index}",
            image=f"{index // 3}.jpg",
            question="What is it?",
            text=text,
            finish="stop",
            reference=reference,
            meta=dict(meta or {}),
            cluster=f"{index // 3}.jpg",
            judge_replies=[text],
        )
        | entries
    )
