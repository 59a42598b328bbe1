"""Ask an exported folder as its users do: a script that must not know mmvlm.

Run in a process of its own, with ``folder``, ``max_new_tokens``, ``stop_strings`` and
``questions`` (chat messages, images as files) as JSON on standard input. It writes
the replies to each question, by way of asking, as JSON on the last line of standard
output.
"""

import json
import sys


class _Refuse:
    """Makes ``import mmvlm`` fail as it does where mmvlm is not installed."""

    def find_spec(self, name, path=None, target=None):
        """Refuse the package and all below it."""
        if name.partition(".")[0] == "mmvlm":
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)


def main():
    """Read the questions, write the replies."""
    sys.meta_path.insert(0, _Refuse())
    import torch
    import transformers
    from PIL import Image

    request = json.load(sys.stdin)
    folder, stops = request["folder"], request["stop_strings"]
    model = transformers.AutoModelForImageTextToText.from_pretrained(
        folder, torch_dtype=torch.float32
    ).eval()
    processor = transformers.AutoProcessor.from_pretrained(folder)
    pipe = transformers.pipeline(
        "image-text-to-text", model=model, processor=processor, device="cpu"
    )
    options = dict(max_new_tokens=request["max_new_tokens"], do_sample=False)
    if stops:
        options.update(stop_strings=stops, tokenizer=processor.tokenizer)

    def words(ids, length):
        text = processor.decode(ids[0, length:], skip_special_tokens=True)
        return cut(text)

    def cut(text):
        for stop in stops:
            text = text.partition(stop)[0]
        return text.strip()

    def generate(inputs):
        with torch.no_grad():
            ids = model.generate(**inputs, **options)
        return words(ids, inputs["input_ids"].shape[1])

    replies = []
    for messages in request["questions"]:
        images = []
        for message in messages:
            for part in message["content"]:
                if part["type"] == "image":
                    part["image"] = Image.open(part.pop("path")).convert("RGB")
                    images.append(part["image"])
        text = processor.apply_chat_template(messages, add_generation_prompt=True)
        processed = processor(images=images or None, text=text, return_tensors="pt")
        template = processor.apply_chat_template(
            messages,
            add_generation_prompt=True,
            tokenize=True,
            return_dict=True,
            return_tensors="pt",
        )
        answer = pipe(text=messages, return_full_text=False, generate_kwargs=options)
        replies.append(
            {
                "generate(**processor(...))": generate(processed),
                "apply_chat_template(tokenize=True)": generate(template),
                "pipeline": cut(answer[0]["generated_text"]),
            }
        )
    sys.stdout.write(json.dumps(replies) + "\n")


if __name__ == "__main__":
    main()
